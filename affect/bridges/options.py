"""Options that all bridges have: what is paid, weights, whether heads learn, the discount."""

from collections.abc import Mapping
from typing import Any

from affect.blend import Blend, BlendState
from affect.bridges.stepwise import layers
from affect.shaping import GRM, Potential
from affect.transition import is_a, is_whole, one_line

PAID = ("add", "replace", "info")


def check_options(blend: Any, paid: str = "add", learn: bool = True, seed: int = 0) -> None:
    """Checks options that all bridges have; ValueError naming the one that is wrong."""
    if not is_a(blend, Blend):
        raise ValueError(f"it needs a Blend, as Blend(fear=(0.5, Fear)), not {one_line(blend)}")
    if paid not in PAID:
        raise ValueError(f"paid is one of {', '.join(PAID)}, not {paid!r}")
    if not is_a(learn, bool):
        raise ValueError(f"learn is True or False, not {learn!r}")
    if not is_whole(seed) or seed < 0:
        raise ValueError(f"seed is a whole number of at least 0, not {seed!r}")


def with_weights(blend: Blend, weights: Mapping[str, float] | None) -> Blend:
    """The blend with other weights by name.

    Raises:
        ValueError: a name that is not among its heads.
    """
    if weights is None:
        return blend
    if unknown := [name for name in weights if name not in blend.heads]:
        heads = ", ".join(blend.names) or "none"
        raise ValueError(f"weights has {unknown[0]!r}, and the heads of the blend are {heads}")
    terms: Any = {n: (weights.get(n, weight), head) for n, (weight, head) in blend.heads.items()}
    return Blend(blend.tx, blend.epochs, **terms)


def check_discounts(blend_state: BlendState, gamma: float) -> None:
    """Checks that every potential has the discount of the agent that learns.

    Raises:
        ValueError: naming the head that has another one.
    """
    for name, head in blend_state.heads.items():
        for layer in layers(head.net):
            if is_a(layer, Potential | GRM) and layer.gamma != gamma:
                raise ValueError(
                    f"{name} shapes with a discount of {layer.gamma}, and the agent that learns "
                    f"has gamma={gamma}: give both the same"
                )
