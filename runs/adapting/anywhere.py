"""Any environment of the command line: its suite, and the learners that go on there."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runs.harness.errors import UserError

if TYPE_CHECKING:
    from envs.suite import Suite
    from runs.adapting.adapt import Learners, Sizes

HEADS = ("fear", "hope", "curiosity", "innate")  # of `runs.unpaid`, unless others are asked for
SHORT = 32  # steps of a host's episode that are scored in a smoke run


def refuse_unknown(env: str) -> None:
    """Lets environments pass that there are; imports no jax.

    Raises:
        UserError: naming the nearest ones, or the package that is missing.
    """
    from envs import jitted
    from envs.host_known import known

    if not jitted(env):
        try:
            known(env)
        except ValueError as error:
            raise UserError(str(error)) from None


def suite_of(env: str) -> "Suite":
    """The suite of a world of ours, of one behind gymnax:, navix: or craftax:, or of an id.

    Raises:
        UserError: if there is none, or its spaces do not fit.
    """
    from envs import jitted, load_suite
    from envs.host import suite as host_suite

    try:
        return load_suite(env) if jitted(env) else host_suite(env)
    except ValueError as error:
        raise UserError(str(error)) from None


def shortened(suite: "Suite") -> "Suite":
    """The suite for a smoke run: a host's episodes are scored for SHORT steps, which take longest.

    Its environments go on as they are.
    """
    from envs.host import Host

    if not isinstance(suite.env, Host):
        return suite
    return replace(suite, env=replace(suite.env, horizon=min(suite.env.horizon, SHORT)))


def learners(env: Any, agent: Any, blend: Any, sizes: "Sizes") -> "Learners":
    """Learners in the family of worlds or the host-stepped environment of a suite."""
    from envs.host import Host
    from runs.adapting.adapt import Learners
    from runs.adapting.hosted import HostLearners

    return (HostLearners if isinstance(env, Host) else Learners)(env, agent, blend, sizes)
