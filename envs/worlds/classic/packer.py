"""The suites of Packer et al. (2018): a default world D, a box R around it, and E outside of R."""

from collections.abc import Mapping

from envs.shift import Interval, Shift, box
from envs.suite import Suite
from envs.world import Env, World


def packer_suite(
    env: Env,
    inner: Mapping[str, Interval],
    outer: Mapping[str, Interval],
    shifts: tuple[Shift, ...],
) -> Suite:
    """D to train in, R as training distribution, R and E as shifts beside those of one's own.

    "Assessing Generalization in Deep Reinforcement Learning", table 1.

    Args:
        env: the family; its class names the suite.
        inner: R, an interval for each field of the params.
        outer: the hull of E.
        shifts: what the paper does not have.
    """
    return Suite(
        name=type(env).__name__,
        env=env,
        world=World(env.get_default_params()),
        randomised=box("R", "dynamics", "params", outer=inner),
        shifts=(
            box("interpolation", "dynamics", "params", outer=inner),
            box("extrapolation", "dynamics", "params", outer=outer, inner=inner),
            *shifts,
        ),
    )
