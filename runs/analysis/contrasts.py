"""What a head is worth: the contrasts that a comparison declares before it looks.

A constant can do much of what a feeling does, and needs none. So the primary contrast of every head
is constant + head less constant. Beside it stand the head less its sham, the same signal from the
environment next door, and less its scrambled twin, which has the same form and knows nothing: what
the twin does as well was not the feeling's doing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runs.analysis import stats
from runs.analysis.stats import Estimate


class HeadContrasts(NamedTuple):
    """A head's worth in one environment.

    Attributes:
        env: its name.
        head: its name.
        on_constant: constant + head less constant: the primary contrast.
        p_value: of it, Holm-adjusted over all heads and environments that are compared.
        over_sham: the head less its sham.
        over_scrambled: the head less itself with random frozen weights.
    """

    env: str
    head: str
    on_constant: Estimate
    p_value: float
    over_sham: Estimate
    over_scrambled: Estimate


def compared_heads(arms: Iterable[str]) -> list[str]:
    """The heads whose every control is among the arms."""
    arms = list(arms)
    needed = ("", "_constant", "_sham", "_scrambled")
    names = [arm.removesuffix("_constant") for arm in arms if arm.endswith("_constant")]
    both = "constant_plus" in arms
    return [name for name in names if both and all(name + kind in arms for kind in needed)]


def head_contrasts(
    score: Mapping[str, Callable[[str], np.ndarray]], heads: Sequence[str]
) -> list[HeadContrasts]:
    """Each head's worth in each environment; the primary contrasts are one family.

    Args:
        score: for each environment, what gives the per-seed scores [S] of an arm.
        heads: to look at.

    Raises:
        ValueError: for fewer than 3 seeds, or a score that is not a number.
    """
    if not heads:
        return []
    found, p_values = [], {}
    for env, of in score.items():
        base = of("constant_plus")
        for head in heads:
            both = of(f"{head}_constant")
            p_values[env, head] = stats.p_value(both, base)
            gain = stats.difference(both, base)
            over = (stats.difference(of(head), of(head + kind)) for kind in ("_sham", "_scrambled"))
            found.append(HeadContrasts(env, head, gain, 1.0, *over))
    adjusted = stats.holm({f"{env} {head}": p for (env, head), p in p_values.items()})
    return [one._replace(p_value=adjusted[f"{one.env} {one.head}"]) for one in found]


def contrast_sentence(found: Sequence[HeadContrasts]) -> str:
    """A sentence an environment: which heads are told apart from the constant they stand on."""
    sentences = []
    for env in dict.fromkeys(one.env for one in found):
        here = [one for one in found if one.env == env]
        apart = [one for one in here if one.p_value < 0.05]
        said = ", ".join(
            f"{one.head} {'adds' if one.on_constant.value > 0 else 'costs'} {one.on_constant:+.3f}"
            for one in apart
        )
        rest = ", ".join(f"{one.head} {one.on_constant:+.3f}" for one in here if one not in apart)
        told = f"on top of a constant, {said}" if apart else "no feeling adds to a constant"
        unseen = f" (not told apart: {rest})" if rest else ""
        sentences.append(f"{env}: {told}{unseen}.")
    return " ".join(sentences)
