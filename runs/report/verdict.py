"""Result of a comparison in one sentence; `Study`, the facts of it that the report prints."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from runs.analysis import stats
from runs.analysis.contrasts import Contrast, contrasts
from runs.analysis.scores import seed_means

FEW_SEEDS = 10  # seeds per arm, below which the sentence warns of few seeds


class Study(NamedTuple):
    """What a report states about a study, beside its scores.

    Attributes:
        env: name of the suite.
        arms: their names, in the order in which they are shown.
        seeds: training runs per arm.
        steps: environment steps per seed.
        episodes: scored at each point.
        command: command line that made the study.
        contrasts: declared before training as pairs (arm, reference), the primary one first; empty
            if no plan was declared.
        declared_seeds: seeds per arm in the plan.
        plan_hash: hash of the plan.
        without: arms left out on request.
        changes: differences between the declared plan and the run, a line each.
        watermark: "unverified: " and the failed checks; None if all hold.
        looks: sentence with the number of looks at the scores.
        ledger: its entries, with the fields of `runs.prereg.ledger.Entry`.
        sealed_rows: score rows of sealed worlds.
        knobs: settings of the agent and the heads of each arm, by name.
        reading: how heads read the image of an observation, in one line; empty without one.
    """

    env: str
    arms: Sequence[str]
    seeds: int
    steps: int
    episodes: int
    command: str = ""
    contrasts: Sequence[tuple[str, str]] = ()
    declared_seeds: int = 0
    plan_hash: str = ""
    without: Sequence[str] = ()
    changes: Sequence[str] = ()
    watermark: str | None = None
    looks: str = ""
    ledger: Sequence[Any] = ()
    sealed_rows: Sequence[dict] = ()
    knobs: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    reading: str = ""


def declared_contrasts(rows: Sequence[dict], study: Study) -> list[Contrast]:
    """Declared contrasts of per-seed means over shifts, the primary one first."""
    return contrasts(seed_means(rows, study.arms), study.contrasts, paired=False)


def verdict_sentence(rows: Sequence[dict], study: Study) -> str:
    """One-sentence result of a study: contrast, effect, interval, seeds and looks."""
    end = f"; {study.looks}." if study.looks else "."
    if not study.contrasts:
        return f"No verdict: no plan was declared, so every difference is exploratory{end}"
    arm, reference = study.contrasts[0]
    scores = seed_means(rows, (arm, reference))
    seeds = {name: len(scores[name]) for name in (arm, reference)}
    lacking = [name for name in seeds if seeds[name] < stats.FEWEST]
    if lacking:
        counts = " and ".join(f"{name} has {seeds[name]}" for name in lacking)
        return (
            f"No verdict: the declared contrast, {arm} less {reference}, cannot be computed, "
            f"as {counts} seeds with finite scores and {stats.FEWEST} are needed{end}"
        )
    difference = stats.difference(scores[arm], scores[reference])
    count = f"{seeds[arm]} and {seeds[reference]} seeds"
    if seeds[arm] == seeds[reference]:
        count = f"{seeds[arm]} seeds each"
    if min(seeds.values()) < study.declared_seeds:
        count += f" of {study.declared_seeds} declared"
    if min(seeds.values()) < FEW_SEEDS:
        count += ", which is few"
    verb, relation = "does not differ significantly from", "includes"
    if difference.low > 0 or difference.high < 0:
        verb, relation = f"does {'better' if difference.value > 0 else 'worse'} than", "excludes"
    return (
        f"In {study.env}, {arm} {verb} {reference}: in the mean over shifts they differ by "
        f"{difference:+z.3f}, a 95 % interval that {relation} zero, with {count}{end}"
    )
