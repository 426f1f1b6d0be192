"""Steps of environments of gymnax 0.0.9 and 1 with their true successors, and their spaces."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect.bridges.spaces import info_keys
from affect.transition import Spec, is_a, one_line

LIMIT = "max_steps_in_episode"  # the time limit among the params
FINAL = "final_observation"  # of `info` in gymnax 1


class Step(NamedTuple):
    """What heads read of one step.

    Attributes:
        successor: the observation after the step, before any reset.
        reward: of the task.
        terminated: bool, the episode ended in a terminal state.
        truncated: bool, it was cut off by the time limit.
    """

    successor: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class GymnaxSteps:
    """Steps of an environment, with the observation that its reset within `step` hides.

    gymnax 1 reports that observation. In 0.0.9 it comes from `step_env` with the key that `step`
    gives it, and a step that ends an episode is a terminal one if `is_terminal` holds without the
    time limit.

    Args:
        env: the environment.
        params: its parameters.

    Raises:
        ValueError: it is no environment of gymnax's kind, or hides its last observations.
    """

    def __init__(self, env: Any, params: Any):
        for name in ("reset", "step", "observation_space", "action_space"):
            if not callable(getattr(env, name, None)):
                raise ValueError(
                    f"{type(env).__name__} has no {name}: give an environment of gymnax"
                )
        self.env = env
        key = jax.random.key_data(jax.random.key(0))
        obs, state = jax.eval_shape(lambda key: env.reset(key, params), key)
        action = jax.eval_shape(env.action_space(params).sample, key)
        results = jax.eval_shape(lambda *inputs: env.step(*inputs, params), key, state, action)
        if len(results) not in (5, 6) or not is_a(results[-1], Mapping):
            raise ValueError(f"{type(env).__name__}.step returns {len(results)} values, not 5 or 6")
        if not hasattr(obs, "shape"):
            raise ValueError(f"observations are {one_line(obs)}, not one array: map them to one")
        self.two_flags, self.obs_shape = len(results) == 6, obs.shape
        self.info_keys = tuple(results[-1])
        self.reported = FINAL in self.info_keys
        own = all(hasattr(type(env), name) for name in ("step_env", "reset_env"))
        if not self.reported and (self.two_flags or not own):
            raise ValueError(
                f"{type(env).__name__} hides the last observation of an episode: put AffectEnv "
                "directly around the environment, and this wrapper outside"
            )

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> tuple:
        """Takes one step -> (obs, state, Step, info), after any reset."""
        results = self.env.step(key, state, action, params)
        obs, after, reward, *flags, info = results
        if self.two_flags:
            terminated, truncated = (jnp.asarray(flag, bool) for flag in flags)
            truncated &= ~terminated
            successor = info[FINAL]
        else:
            successor, terminated, truncated = self._without_reset(key, state, action, params)
            successor = info[FINAL] if self.reported else successor
        return obs, after, Step(successor, jnp.asarray(reward), terminated, truncated), info

    def _without_reset(self, key: jax.Array, state: Any, action: Any, params: Any) -> tuple:
        """(successor, terminated, truncated) of a step of gymnax 0.0.9."""
        again = jax.random.clone(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
        k_step, _ = jax.random.split(again)
        successor, last, _, done, _ = self.env.step_env(k_step, state, action, params)
        terminated = done = jnp.asarray(done, bool).reshape(())
        if hasattr(params, LIMIT) and hasattr(self.env, "is_terminal"):
            endless = params.replace(**{LIMIT: np.iinfo(np.int32).max})
            terminal = self.env.is_terminal(last, endless)
            terminated = done & jnp.asarray(terminal, bool).reshape(())
        return successor, terminated, done & ~terminated


def gymnax_spec(
    env: Any,
    params: Any,
    obs_shape: tuple[int, ...],
    info: Mapping[str, tuple[int, ...]] | None,
    discount: float | None,
) -> Spec:
    """The `Spec` of an environment of gymnax.

    Raises:
        ValueError: observations without numbers, actions that are no Box and not discrete, or
            shapes of `info` that are none.
    """
    space = env.action_space(params)
    if not hasattr(space, "n") and not hasattr(space, "low"):
        raise ValueError(f"the action space {space} is no Box and not discrete: map it to one")
    sizes = (int(space.n), 0) if hasattr(space, "n") else (0, math.prod(space.shape) or 1)
    return Spec(math.prod(obs_shape), *sizes, info=info_keys(info), discount=discount)


def numbers_of_action(spec: Spec, space: Any, action: jax.Array) -> jax.Array:
    """Actions [B, ...] of a space as heads read them: [B] integers, or [B, A] in [-1, 1]."""
    count = action.shape[0]
    if spec.num_actions:
        return jnp.asarray(action, jnp.int32).reshape(count)
    low, high = (jnp.broadcast_to(jnp.asarray(x), space.shape) for x in (space.low, space.high))
    low, high, action = (x.reshape(-1, spec.action_dim) for x in (low, high, action))
    action = jnp.asarray(action, jnp.float32)
    return jnp.clip(2 * (action - low) / (high - low) - 1, -1.0, 1.0)
