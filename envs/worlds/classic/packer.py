"""Suites of Packer et al. (2018): train in a world D or a box R, evaluate in E around them."""

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
    """Suite with training world D, training distribution R, and R, E and more as shifts.

    "Assessing Generalization in Deep Reinforcement Learning", table 1.

    Args:
        env: the family of worlds; its class name is the name of the suite.
        inner: R, an interval for each field of the params.
        outer: the hull of E.
        shifts: additional ones, which the paper does not have.
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
