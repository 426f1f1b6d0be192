"""Contrasts of heads with their controls, which a comparison declares before training.

A constant reward can have much of the effect of a head. So the primary contrast of every head is
constant + head less constant. The others are the head less its sham, the signal of another
environment, and less its untrained control, a head of the same form with random frozen weights: an
effect that a control has too is not due to what the head has learned.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runs.analysis import stats
from runs.analysis.stats import Estimate


class HeadContrasts(NamedTuple):
    """Contrasts of one head with its controls in one environment.

    Attributes:
        env: name of the environment.
        head: name of the head.
        on_constant: constant + head less constant: the primary contrast.
        p_value: of `on_constant`, Holm-adjusted over all compared heads and environments.
        over_sham: the head less its sham.
        over_untrained: the head less itself with random frozen weights.
    """

    env: str
    head: str
    on_constant: Estimate
    p_value: float
    over_sham: Estimate
    over_untrained: Estimate


def compared_heads(arms: Iterable[str]) -> list[str]:
    """Names of the heads whose controls are all among the arms."""
    arms = list(arms)
    suffixes = ("", "_constant", "_sham", "_untrained")
    names = [arm.removesuffix("_constant") for arm in arms if arm.endswith("_constant")]
    has_constant = "constant_plus" in arms
    return [
        name for name in names if has_constant and all(name + suffix in arms for suffix in suffixes)
    ]


def head_contrasts(
    score: Mapping[str, Callable[[str], np.ndarray]], heads: Sequence[str]
) -> list[HeadContrasts]:
    """Contrasts of each head in each environment; the primary ones are one family for Holm.

    Args:
        score: for each environment, a function from an arm to its per-seed scores [S].
        heads: names of the heads.

    Raises:
        ValueError: for fewer than 3 seeds, or a score that is not a number.
    """
    if not heads:
        return []
    contrasts, p_values = [], {}
    for env, scores_of in score.items():
        constant = scores_of("constant_plus")
        for head in heads:
            on_constant = scores_of(f"{head}_constant")
            p_values[env, head] = stats.p_value(on_constant, constant)
            gain = stats.difference(on_constant, constant)
            over_controls = (
                stats.difference(scores_of(head), scores_of(head + suffix))
                for suffix in ("_sham", "_untrained")
            )
            contrasts.append(HeadContrasts(env, head, gain, 1.0, *over_controls))
    adjusted = stats.holm({f"{env} {head}": p for (env, head), p in p_values.items()})
    return [
        contrast._replace(p_value=adjusted[f"{contrast.env} {contrast.head}"])
        for contrast in contrasts
    ]


def contrast_sentence(contrasts: Sequence[HeadContrasts]) -> str:
    """Sentence per environment: which heads add significantly to a constant, or take from it."""
    sentences = []
    for env in dict.fromkeys(contrast.env for contrast in contrasts):
        in_env = [contrast for contrast in contrasts if contrast.env == env]
        significant = [contrast for contrast in in_env if contrast.p_value < 0.05]
        effects = ", ".join(
            f"{contrast.head} {'adds' if contrast.on_constant.value > 0 else 'costs'} "
            f"{contrast.on_constant:+.3f}"
            for contrast in significant
        )
        others = ", ".join(
            f"{contrast.head} {contrast.on_constant:+.3f}"
            for contrast in in_env
            if contrast not in significant
        )
        finding = (
            f"on top of a constant, {effects}"
            if significant
            else "no head adds significantly to a constant"
        )
        remainder = f" (not significant: {others})" if others else ""
        sentences.append(f"{env}: {finding}{remainder}.")
    return " ".join(sentences)
