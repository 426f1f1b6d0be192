"""The verdict of a study in one sentence, and the declared contrasts that it rests on."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runs.analysis import stats
from runs.analysis.stats import Estimate
from runs.prereg.plan_file import Plan
from runs.report.tables import finite_rows

ENOUGH = 10  # seeds an arm, below which a verdict is warned about


class Contrast(NamedTuple):
    """A declared difference.

    Attributes:
        arm: that it is of.
        less: the arm it is measured against.
        estimate: difference of per-seed means over shifts, with Welch's interval; None where one
            of the two has fewer than 3 seeds that count.
        p_value: Holm-adjusted over all declared contrasts that could be computed.
    """

    arm: str
    less: str
    estimate: Estimate | None
    p_value: float


def shifted_means(rows: Sequence[dict], arms: Sequence[str]) -> dict[str, np.ndarray]:
    """Per-seed means over shifts [S] of the seeds whose every score is a number, by arm."""
    sums: dict[str, dict[int, list[float]]] = {arm: {} for arm in arms}
    for row in finite_rows(rows):
        if row["arm"] in sums and row["shift"] != "none":
            sums[row["arm"]].setdefault(row["seed"], []).append(row["score"])
    return {
        arm: np.array([np.mean(scores) for scores in seeds.values()]) for arm, seeds in sums.items()
    }


def declared_contrasts(scores: Mapping[str, np.ndarray], plan: Plan) -> list[Contrast]:
    """The declared contrasts, the primary one first, from per-seed means over shifts."""
    found, p_values = [], {}
    for arm, less in (plan.primary, *plan.secondary):
        both = [scores.get(name, np.zeros(0)) for name in (arm, less)]
        if min(map(len, both)) < stats.FEWEST:
            found.append(Contrast(arm, less, None, np.nan))
            continue
        p_values[len(found)] = stats.p_value(*both)
        found.append(Contrast(arm, less, stats.difference(*both), np.nan))
    adjusted = stats.holm(p_values) if p_values else {}
    return [one._replace(p_value=adjusted.get(i, np.nan)) for i, one in enumerate(found)]


def verdict_sentence(rows: Sequence[dict], plan: Plan | None, looked: str) -> str:
    """What the study says, in one sentence: contrast, effect, interval, seeds, looks.

    Args:
        rows: score rows.
        plan: before training; None where nothing was.
        looked: how often was looked, `runs.prereg.audit.looks_sentence`.
    """
    end = f"; {looked}." if looked else "."
    if plan is None:
        return f"No verdict: nothing was declared, so every difference is exploratory{end}"
    arm, less = plan.primary
    scores = shifted_means(rows, (arm, less))
    seeds = {name: len(scores[name]) for name in (arm, less)}
    lacking = [name for name in seeds if seeds[name] < stats.FEWEST]
    if lacking:
        said = " and ".join(f"{name} has {seeds[name]}" for name in lacking)
        return (
            f"No verdict: the declared contrast, {arm} less {less}, cannot be computed, as {said} "
            f"seeds that count and {stats.FEWEST} are needed{end}"
        )
    found = stats.difference(scores[arm], scores[less])
    count = f"{seeds[arm]} and {seeds[less]} seeds"
    if seeds[arm] == seeds[less]:
        count = f"{seeds[arm]} seeds each"
    if min(seeds.values()) < plan.seeds:
        count += f" of {plan.seeds} declared"
    if min(seeds.values()) < ENOUGH:
        count += ", which is few"
    if found.low > 0 or found.high < 0:
        told, zero = f"does {'better' if found.value > 0 else 'worse'} than", "excludes"
    else:
        told, zero = "is not told apart from", "includes"
    return (
        f"In {plan.env}, {arm} {told} {less}: in the mean over shifts they differ by "
        f"{found:+z.3f}, an interval at 95 % that {zero} zero, with {count}{end}"
    )
