"""Result of a study in one sentence, and the declared contrasts that it is based on."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runs.analysis import stats
from runs.analysis.stats import Estimate
from runs.prereg.plan_file import Plan
from runs.report.tables import finite_rows

FEW_SEEDS = 10  # seeds per arm, below which the sentence warns of few seeds


class Contrast(NamedTuple):
    """Declared difference between two arms.

    Attributes:
        arm: the arm whose score is compared.
        reference: the reference arm, which is subtracted.
        estimate: difference of per-seed means over shifts, with Welch's interval; None where one
            of the two has fewer than 3 seeds with finite scores.
        p_value: Holm-adjusted over all declared contrasts that could be computed.
    """

    arm: str
    reference: str
    estimate: Estimate | None
    p_value: float


def shifted_means(rows: Sequence[dict], arms: Sequence[str]) -> dict[str, np.ndarray]:
    """Per-seed mean scores over shifts [S] by arm, of the seeds with only finite scores."""
    sums: dict[str, dict[int, list[float]]] = {arm: {} for arm in arms}
    for row in finite_rows(rows):
        if row["arm"] in sums and row["shift"] != "none":
            sums[row["arm"]].setdefault(row["seed"], []).append(row["score"])
    return {
        arm: np.array([np.mean(scores) for scores in seeds.values()]) for arm, seeds in sums.items()
    }


def declared_contrasts(scores: Mapping[str, np.ndarray], plan: Plan) -> list[Contrast]:
    """Declared contrasts of per-seed means over shifts [S], the primary one first."""
    contrasts, p_values = [], {}
    for arm, reference in (plan.primary, *plan.secondary):
        samples = [scores.get(name, np.zeros(0)) for name in (arm, reference)]
        if min(map(len, samples)) < stats.FEWEST:
            contrasts.append(Contrast(arm, reference, None, np.nan))
            continue
        p_values[len(contrasts)] = stats.p_value(*samples)
        contrasts.append(Contrast(arm, reference, stats.difference(*samples), np.nan))
    adjusted = stats.holm(p_values) if p_values else {}
    return [
        contrast._replace(p_value=adjusted.get(i, np.nan)) for i, contrast in enumerate(contrasts)
    ]


def verdict_sentence(rows: Sequence[dict], plan: Plan | None, looks: str) -> str:
    """One-sentence result of a study: contrast, effect, interval, seeds and looks.

    Args:
        rows: score rows.
        plan: declared before training; None if there was none.
        looks: number of looks at the scores, `runs.prereg.audit.looks_sentence`.
    """
    end = f"; {looks}." if looks else "."
    if plan is None:
        return f"No verdict: no plan was declared, so every difference is exploratory{end}"
    arm, reference = plan.primary
    scores = shifted_means(rows, (arm, reference))
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
    if min(seeds.values()) < plan.seeds:
        count += f" of {plan.seeds} declared"
    if min(seeds.values()) < FEW_SEEDS:
        count += ", which is few"
    if difference.low > 0 or difference.high < 0:
        verb, relation = f"does {'better' if difference.value > 0 else 'worse'} than", "excludes"
    else:
        verb, relation = "does not differ significantly from", "includes"
    return (
        f"In {plan.env}, {arm} {verb} {reference}: in the mean over shifts they differ by "
        f"{difference:+z.3f}, a 95 % interval that {relation} zero, with {count}{end}"
    )
