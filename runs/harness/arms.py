"""The arms of a comparison: heads, and the controls without which a head proves nothing."""

import functools
from dataclasses import dataclass

from affect import (
    Blend,
    Constant,
    Curiosity,
    Factory,
    Fear,
    Hope,
    Normalised,
    Potential,
    Scrambled,
    Sham,
)
from runs.harness.config import choose

HEADS = ("fear", "hope", "curiosity")


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: of the arm, and of its folders.
        blend: what it feels.
        randomised: trained in the suite's training distribution and not in its one world.
    """

    name: str
    blend: Blend
    randomised: bool = False


def head(name: str, gamma: float) -> tuple[float, Factory]:
    """A head as the comparison uses it: (weight, factory). Weights were set once, never tuned."""
    return {
        "fear": (1.0, Potential(Fear, gamma=gamma)),
        "hope": (1.0, Potential(Hope, gamma=gamma)),
        "curiosity": (0.1, Normalised(Curiosity)),
    }[choose("head", name, HEADS)]


def arms(heads: tuple[str, ...], gamma: float, randomised: bool) -> tuple[Arm, ...]:
    """Every arm of a comparison of `heads`; the controls come without asking.

    The sham and the scrambled are of the first head. Inside a blend they go by the head's own
    name, so that they start from the very same weights.
    """
    level = 1 - gamma
    found = [Arm("none", Blend())]
    if randomised:
        found.append(Arm("random", Blend(), randomised=True))
    found += [Arm(name, Blend(**{name: head(name, gamma)})) for name in heads]
    for name, value in (("constant_plus", level), ("constant_minus", -level)):
        constant = functools.partial(Constant, value=value)
        found.append(Arm(name, Blend(constant=(1.0, constant))))
    for name in heads[:1]:
        weight, factory = head(name, gamma)
        potential = name in ("fear", "hope")
        controls = {"sham": Sham(factory, centred=potential), "scrambled": Scrambled(factory)}
        found += [Arm(f"{name}_{k}", Blend(**{name: (weight, f)})) for k, f in controls.items()]
    return tuple(found)
