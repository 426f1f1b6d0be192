"""Contrasts between arms, Holm-adjusted together, and those of heads with their controls.

A constant reward can have much of the effect of a head. So the primary contrast of every head is
constant + head less constant. The others are the head less its sham, the signal of another
environment, and less its untrained control, a head of the same form with random frozen weights; and
constant + head less constant + the best constant potential. An effect that a control has too is not
due to what the head has learned.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runs.analysis import stats
from runs.analysis.stats import Estimate
from runs.names import CONSTANT_POTENTIAL


class Contrast(NamedTuple):
    """Difference between the mean scores of two arms.

    Attributes:
        arm: the arm whose score is compared.
        reference: the arm whose score is subtracted.
        estimate: difference of the means with its 95 % interval, Welch or paired; None with fewer
            than `stats.FEWEST` finite seeds (common ones if paired).
        p_value: of Welch's or the paired t test, not adjusted; NaN without an estimate.
        p_holm: Holm-adjusted over all contrasts with an estimate; NaN without one.
    """

    arm: Hashable
    reference: Hashable
    estimate: Estimate | None
    p_value: float
    p_holm: float

    def verdict(self, better: str, worse: str, neither: str = "is not told apart from") -> str:
        """Which of three verbs holds of the arm and its reference, at 5 % after Holm."""
        if not self.p_holm < 0.05:
            return neither
        return better if self.estimate.value > 0 else worse


def contrasts(
    scores: Mapping[Hashable, np.ndarray], pairs: Iterable[tuple[Hashable, Hashable]], paired: bool
) -> list[Contrast]:
    """Contrasts of pairs of arms, which are one family for Holm's adjustment.

    Args:
        scores: per-seed scores [S] by arm; a key may be a tuple, such as (environment, arm). Seeds
            that are not finite are left out, of both arms if paired; an arm may be missing.
        pairs: (arm, reference) of each contrast.
        paired: whether seeds are shared, at the same positions of both arms; otherwise Welch.
    """
    results = []
    for arm, reference in pairs:
        x, y = (np.asarray(scores.get(name, ()), np.float64) for name in (arm, reference))
        if paired and len(x) == len(y):
            x, y = (values[np.isfinite(x) & np.isfinite(y)] for values in (x, y))
        elif not paired:
            x, y = (values[np.isfinite(values)] for values in (x, y))
        if min(len(x), len(y)) < stats.FEWEST:
            results.append(Contrast(arm, reference, None, np.nan, np.nan))
            continue
        difference, test = (
            (stats.paired, stats.p_paired) if paired else (stats.difference, stats.p_value)
        )
        results.append(Contrast(arm, reference, difference(x, y), test(x, y), np.nan))
    p_values = {i: row.p_value for i, row in enumerate(results) if row.estimate is not None}
    adjusted = stats.holm(p_values) if p_values else {}
    return [row._replace(p_holm=adjusted.get(i, np.nan)) for i, row in enumerate(results)]


def rival_contrasts(
    scores: Mapping[str, np.ndarray], tested: str, rivals: Iterable[str]
) -> dict[str, Contrast]:
    """Contrasts of one arm with each of its rivals by the rival's name, paired by seed."""
    family = contrasts(scores, [(tested, rival) for rival in rivals], paired=True)
    return {contrast.reference: contrast for contrast in family}


def contrast_cells(contrast: Contrast | None) -> tuple[str, str]:
    """Cells of a table with the difference of a contrast and its p-value; empty without one."""
    return (f"{contrast.estimate}", f"{contrast.p_holm:.2g}") if contrast else ("", "")


class HeadContrasts(NamedTuple):
    """Contrasts of one head with its controls in one environment.

    Attributes:
        env: name of the environment.
        head: name of the head.
        on_constant: constant + head less constant: the primary contrast.
        p_value: of `on_constant`, Holm-adjusted over all compared heads and environments.
        over_sham: the head less its sham.
        over_untrained: the head less itself with random frozen weights.
        potential: name of the best constant potential with the constant, or that of the constant
            alone, a potential of 0: the one of highest mean in these scores, a choice in favour of
            the control. Empty if no constant potential was run.
        over_potential: constant + head less `potential`; None without one.
    """

    env: str
    head: str
    on_constant: Estimate
    p_value: float
    over_sham: Estimate
    over_untrained: Estimate
    potential: str = ""
    over_potential: Estimate | None = None


def compared_heads(arms: Iterable[str]) -> list[str]:
    """Names of the heads whose controls are all among the arms."""
    arms = list(arms)
    suffixes = ("", "_constant", "_sham", "_untrained")
    heads = [arm.removesuffix("_constant") for arm in arms if arm.endswith("_constant")]
    return [h for h in heads if {"constant_plus", *(h + x for x in suffixes)} <= set(arms)]


def head_contrasts(
    scores: Mapping[str, Mapping[str, np.ndarray]], heads: Sequence[str]
) -> list[HeadContrasts]:
    """Contrasts of each head in each environment; the primary ones are one family for Holm.

    Args:
        scores: environment -> arm -> per-seed scores [S].
        heads: names of the heads.

    Raises:
        ValueError: for fewer than 3 seeds, or a score that is not a number.
    """
    by_key = {(env, arm): x for env, arms in scores.items() for arm, x in arms.items()}
    keys = [(env, head) for env in scores for head in heads]
    primary = [((env, f"{head}_constant"), (env, "constant_plus")) for env, head in keys]
    rows = []
    for contrast, (env, head) in zip(contrasts(by_key, primary, False), keys, strict=True):
        on_constant = stats.difference(by_key[contrast.arm], by_key[contrast.reference])
        over_controls = (
            stats.difference(by_key[env, head], by_key[env, head + suffix])
            for suffix in ("_sham", "_untrained")
        )
        row = HeadContrasts(env, head, on_constant, contrast.p_holm, *over_controls)
        potential = best_constant_potential(scores[env])
        if potential:
            over_potential = stats.difference(by_key[contrast.arm], by_key[env, potential])
            row = row._replace(potential=potential, over_potential=over_potential)
        rows.append(row)
    return rows


def best_constant_potential(scores: Mapping[str, np.ndarray]) -> str:
    """The arm of highest mean among the constant and the constant + constant potentials, or ""."""
    potentials = [
        arm for arm in scores if arm.startswith(CONSTANT_POTENTIAL) and arm.endswith("_constant")
    ]
    if not potentials:
        return ""
    return max(("constant_plus", *potentials), key=lambda arm: float(np.mean(scores[arm])))


def contrast_sentence(contrasts: Sequence[HeadContrasts]) -> str:
    """Sentence per environment: which heads add significantly to a constant, or take from it."""
    sentences = []
    for env in dict.fromkeys(contrast.env for contrast in contrasts):
        effects, others = [], []
        for contrast in (contrast for contrast in contrasts if contrast.env == env):
            verb = "adds" if contrast.on_constant.value > 0 else "costs"
            if contrast.p_value < 0.05:
                effects.append(f"{contrast.head} {verb} {contrast.on_constant:+.3f}")
            else:
                others.append(f"{contrast.head} {contrast.on_constant:+.3f}")
        finding = "no head adds significantly to a constant"
        if effects:
            finding = f"on top of a constant, {', '.join(effects)}"
        remainder = f" (not significant: {', '.join(others)})" if others else ""
        sentences.append(f"{env}: {finding}{remainder}.")
    return " ".join(sentences)


def potential_sentence(contrasts: Sequence[HeadContrasts]) -> str:
    """Sentence per environment: what heads add to the best constant potential; "" without one."""
    sentences = []
    for env in dict.fromkeys(contrast.env for contrast in contrasts if contrast.potential):
        rows = [contrast for contrast in contrasts if contrast.env == env]
        gains = ", ".join(f"{row.head} {row.over_potential:+.3f}" for row in rows)
        sentences.append(
            f"{env}: the best of the constant potentials beside the constant is "
            f"{rows[0].potential}; constant + head less it: {gains}."
        )
    return " ".join(sentences)
