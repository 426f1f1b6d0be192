"""What the in-adapters share: somebody else's jitted environment in the place of one of ours."""

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
    """What somebody else's environment says at once, kept until each part of it is asked for.

    Attributes:
        state: theirs, of any structure.
        obs: [D] float32, of that state.
        reward: [] float32, for the step that led here; 0 at the start.
        terminated: [] bool, the episode ended here, and not because time was up.
        harm: [] float32, 1 where the step that led here did harm.
    """

    state: Any
    obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    harm: jax.Array


class AdaptedEnv(Env):
    """An environment whose reset and step are somebody else's; a package defines those two.

    Observations are flattened to float32 [D]. Random keys reach the other side as raw key data,
    which is what a state may carry along.

    Args:
        name: as its package calls it.
        low: the least of each observation, in the shape in which the package gives them.
        high: the most.
        action_space: discrete, or a box of vectors in [-1, 1].
        horizon: steps after which an episode is truncated.
        goal: an episode whose return is above it is a success.
        harmful: whether it can do harm.
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
        half = (high - low) / 2  # the unit, where the declared range is finite and sensible
        self.obs_scale = tuple(np.where((half > 0) & (half < 1e3), half, 1.0).tolist())
        self.observation_space = spaces.Box(-np.inf, np.inf, (low.size,), np.float32)
        self.action_space = action_space
        super().__init__()

    def observation(self, state: StepOutput, rng: jax.Array, params: Any) -> jax.Array:
        """What they observe, [D]."""
        return state.obs

    def reward(
        self, state: StepOutput, action, next_state: StepOutput, rng, params: Any
    ) -> jax.Array:
        """What they pay."""
        return next_state.reward

    def terminal(self, state: StepOutput, rng: jax.Array, params: Any) -> jax.Array:
        """It ended, and not because time was up."""
        return state.terminated

    def transition_info(
        self, state: StepOutput, action, next_state: StepOutput, params: Any
    ) -> dict:
        """`harm`, where an end can be a failure."""
        return {"harm": next_state.harm} if self.spec.info else {}

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """A return above the goal."""
        return total > self.goal

    def start(self, state: Any, obs: jax.Array) -> StepOutput:
        """The moment after a reset."""
        state = jax.tree.map(jnp.asarray, state)
        zero = jnp.zeros(())
        return StepOutput(state, _flatten(obs), zero, jnp.zeros((), bool), zero)

    def then(
        self,
        before: StepOutput,
        state: Any,
        obs: jax.Array,
        reward: jax.Array,
        terminated: jax.Array,
        harm: jax.Array,
    ) -> StepOutput:
        """The moment after a step; their state keeps the dtypes that it began with."""
        state = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), state, before.state)
        reward, harm = (jnp.asarray(x, jnp.float32).reshape(()) for x in (reward, harm))
        return StepOutput(
            state, _flatten(obs), reward, jnp.asarray(terminated, bool).reshape(()), harm
        )


def _flatten(obs: jax.Array) -> jax.Array:
    return jnp.asarray(obs, jnp.float32).ravel()


def import_package(name: str) -> ModuleType:
    """Imports a module of somebody else's.

    Raises:
        ValueError: if it is missing.
    """
    try:
        return import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        raise ValueError(f"{top} is missing: pip install -e '.[jaxenvs]' ({error})") from None


def check_id(prefix: str, name: str, names: Iterable[str]) -> str:
    """The name, if it is one of those.

    Raises:
        ValueError: if it is not; the nearest are named.
    """
    names = tuple(names)
    if name not in names:
        raise ValueError(f"{prefix} has no environment {name!r}; {closest_names(name, names)}")
    return name


def ramp_params(name: str, family: str, ends: Mapping[str, float]) -> Shift:
    """A shift that moves several params at once to where they are at severity 1."""
    return ramps(name, family, {f"params.{field}": to for field, to in ends.items()})
