"""Suite of any environment id of the command line, and the learners class that fits it."""

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
)  # the default of `--heads`
SMOKE_HORIZON = 32  # steps of a host episode that a smoke run evaluates


def check_env(env: str) -> None:
    """Check that an environment id exists, without importing jax.

    Raises:
        UserError: naming the nearest ids, or the package that is missing.
    """
    from envs import is_jitted
    from envs.host.known import env_facts

    if not is_jitted(env):
        try:
            env_facts(env)
        except ValueError as error:
            raise UserError(str(error)) from None


def find_suite(env: str) -> "Suite":
    """The suite of an id: ours, one behind gymnax:, navix: or craftax:, or a gymnasium id.

    Raises:
        UserError: if the id is unknown, or its spaces are not supported.
    """
    from envs import is_jitted, load_suite
    from envs.host.suite import host_suite

    try:
        return load_suite(env) if is_jitted(env) else host_suite(env)
    except ValueError as error:
        raise UserError(str(error)) from None


def shortened(suite: "Suite") -> "Suite":
    """The suite for a smoke run: host episodes are evaluated for at most SMOKE_HORIZON steps.

    Training episodes keep their length.
    """
    from envs.host.suite import HostEnv

    if not isinstance(suite.env, HostEnv):
        return suite
    return replace(suite, env=replace(suite.env, horizon=min(suite.env.horizon, SMOKE_HORIZON)))


def make_learners(env: Any, agent: Any, blend: Any, sizes: "LearnerSizes") -> "JaxLearners":
    """Create HostLearners for a host-stepped environment, JaxLearners for a jitted one."""
    from envs.host.suite import HostEnv
    from runs.adaptation.host_learners import HostLearners
    from runs.adaptation.jax_learners import JaxLearners

    return (HostLearners if isinstance(env, HostEnv) else JaxLearners)(env, agent, blend, sizes)
