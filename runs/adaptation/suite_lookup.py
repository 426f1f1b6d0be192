"""Any environment of the command line: its suite, and the learners that go on there."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runs.errors import UserError

if TYPE_CHECKING:
    from envs.suite import Suite
    from runs.adaptation.jax_learners import JaxLearners, LearnerSizes

HEADS = (
    "fear",
    "hope",
    "curiosity",
    "innate",
)  # of `runs.reward_free`, unless others are asked for
SHORT = 32  # steps of a host's episode that are scored in a smoke run


def check_env(env: str) -> None:
    """Lets environments pass that there are; imports no jax.

    Raises:
        UserError: naming the nearest ones, or the package that is missing.
    """
    from envs import is_jitted
    from envs.host.known import env_facts

    if not is_jitted(env):
        try:
            env_facts(env)
        except ValueError as error:
            raise UserError(str(error)) from None


def find_suite(env: str) -> "Suite":
    """The suite of a world of ours, of one behind gymnax:, navix: or craftax:, or of an id.

    Raises:
        UserError: if there is none, or its spaces do not fit.
    """
    from envs import is_jitted, load_suite
    from envs.host.suite import host_suite

    try:
        return load_suite(env) if is_jitted(env) else host_suite(env)
    except ValueError as error:
        raise UserError(str(error)) from None


def shortened(suite: "Suite") -> "Suite":
    """The suite for a smoke run: a host's episodes are scored for SHORT steps, which take longest.

    Its environments go on as they are.
    """
    from envs.host.suite import HostEnv

    if not isinstance(suite.env, HostEnv):
        return suite
    return replace(suite, env=replace(suite.env, horizon=min(suite.env.horizon, SHORT)))


def make_learners(env: Any, agent: Any, blend: Any, sizes: "LearnerSizes") -> "JaxLearners":
    """Learners in the family of worlds or the host-stepped environment of a suite."""
    from envs.host.suite import HostEnv
    from runs.adaptation.host_learners import HostLearners
    from runs.adaptation.jax_learners import JaxLearners

    return (HostLearners if isinstance(env, HostEnv) else JaxLearners)(env, agent, blend, sizes)
