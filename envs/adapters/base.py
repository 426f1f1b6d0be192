"""In-adapter base: the interface of `envs.world.Env` for jitted environments of other packages."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs import closest_names
from envs.shift import Shift, ramps
from envs.world import Env


class StepOutput(NamedTuple):
    """State and results of one step of a package's environment; serves as the state of ours.

    Attributes:
        state: state of the package's environment, any pytree.
        obs: [D] float32, observation of that state.
        reward: [] float32, of the step into that state; 0 after a reset.
        terminated: [] bool, whether that state ends the episode, other than by the time limit.
        harm: [] float32, 1 if the step into that state did harm.
    """

    state: Any
    obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    harm: jax.Array


class AdaptedEnv(Env):
    """Environment whose reset and step are those of another package, defined by a subclass.

    Observations are flattened to float32 [D]. The package gets random keys as raw key data, since
    its states may contain keys.

    Args:
        name: id of the environment in its package.
        low: least value of each observation, in the package's shape.
        high: largest value of each observation, in the package's shape.
        action_space: discrete, or a box of vectors in [-1, 1].
        horizon: steps after which an episode is truncated.
        goal: an episode with a return above it is a success.
        harmful: whether its steps can do harm, reported as `info["harm"]`.
    """

    def __init__(
        self,
        name: str,
        low: np.ndarray,
        high: np.ndarray,
        action_space: spaces.Space,
        horizon: int,
        goal: float,
        harmful: bool,
    ):
        low, high = (np.asarray(bound, np.float64).ravel() for bound in (low, high))
        discrete = isinstance(action_space, spaces.Discrete)
        self.name, self.horizon, self.goal = name, horizon, goal
        self.spec = Spec(
            obs_dim=low.size,
            num_actions=int(action_space.n) if discrete else 0,
            action_dim=0 if discrete else action_space.shape[0],
            info=("harm",) if harmful else (),
        )
        half = (high - low) / 2  # the scale, where the declared range is finite and below 2,000
        self.obs_scale = tuple(np.where((half > 0) & (half < 1e3), half, 1.0).tolist())
        self.observation_space = spaces.Box(-np.inf, np.inf, (low.size,), np.float32)
        self.action_space = action_space
        super().__init__()

    def observation(self, state: StepOutput, rng: jax.Array, params: Any) -> jax.Array:
        """Observation [D] that the package returned."""
        return state.obs

    def reward(
        self, state: StepOutput, action, next_state: StepOutput, rng, params: Any
    ) -> jax.Array:
        """Reward [] that the package returned."""
        return next_state.reward

    def terminal(self, state: StepOutput, rng: jax.Array, params: Any) -> jax.Array:
        """Whether the state [] ends the episode, other than by the time limit."""
        return state.terminated

    def transition_info(
        self, state: StepOutput, action, next_state: StepOutput, params: Any
    ) -> dict:
        """`{"harm": []}` for a harmful environment, else an empty dict."""
        return {"harm": next_state.harm} if self.spec.info else {}

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether the return `total` [...] is above the goal."""
        return total > self.goal

    def reset_output(self, state: Any, obs: jax.Array) -> StepOutput:
        """Output of a reset of the package: no reward, no end, no harm."""
        state = jax.tree.map(jnp.asarray, state)
        zero = jnp.zeros(())
        return StepOutput(state, _flatten(obs), zero, jnp.zeros((), bool), zero)

    def step_output(
        self,
        previous: StepOutput,
        state: Any,
        obs: jax.Array,
        reward: jax.Array,
        terminated: jax.Array,
        harm: jax.Array,
    ) -> StepOutput:
        """Output of a step of the package; its state is cast to the dtypes of the state before."""
        state = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), state, previous.state)
        reward, harm = (jnp.asarray(x, jnp.float32).reshape(()) for x in (reward, harm))
        return StepOutput(
            state, _flatten(obs), reward, jnp.asarray(terminated, bool).reshape(()), harm
        )


def _flatten(obs: jax.Array) -> jax.Array:
    """Observation as a vector [D] float32."""
    return jnp.asarray(obs, jnp.float32).ravel()


def import_package(name: str) -> ModuleType:
    """Imports a module of an optional package.

    Raises:
        ValueError: if the package is missing.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ValueError(f"{package} is missing: pip install -e '.[jaxenvs]' ({error})") from None


def check_id(prefix: str, name: str, names: Iterable[str]) -> str:
    """Returns `name` if it is one of `names`.

    Raises:
        ValueError: if it is not; the message gives the nearest names.
    """
    names = tuple(names)
    if name not in names:
        raise ValueError(f"{prefix} has no environment {name!r}; {closest_names(name, names)}")
    return name


def ramp_params(name: str, family: str, ends: Mapping[str, float]) -> Shift:
    """Shift that moves params linearly from their defaults to the values `ends` at severity 1."""
    return ramps(name, family, {f"params.{field}": end for field, end in ends.items()})
