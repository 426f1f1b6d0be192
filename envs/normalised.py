"""Environment with rewards in other units, and the normalised return as its success."""

from typing import Any

import jax
import jax.numpy as jnp

from envs.world import Env


class Normalised(Env):
    """An environment with rewards in a unit, and returns of `low` to `high` as success of 0 to 1.

    For environments whose values are hundreds, and in which success is no matter of yes and no.

    Args:
        env: the environment.
        unit: by which rewards are divided.
        low: return, in the environment's own units, that counts as no success at all.
        high: return that counts as full success.

    Raises:
        ValueError: for a unit that is not above 0, or low that is not below high.
    """

    def __init__(self, env: Env, unit: float, low: float, high: float):
        if not (unit > 0 and low < high):
            raise ValueError(
                f"Normalised({type(env).__name__}): unit {unit}, low {low}, high {high}; "
                "expected a unit above 0 and low < high"
            )
        self.env, self.unit, self.low, self.high = env, unit, low, high
        self.spec, self.horizon, self.obs_scale = env.spec, env.horizon, env.obs_scale
        self.reset_pool_size = env.reset_pool_size
        self.observation_space, self.action_space = env.observation_space, env.action_space
        super().__init__()

    def get_default_params(self, **kwargs: float) -> Any:
        """Parameters of the environment."""
        return self.env.get_default_params(**kwargs)

    def initial(self, rng: jax.Array, params: Any) -> Any:
        """Initial state of the environment."""
        return self.env.initial(rng, params)

    def transition(self, state: Any, action: jax.Array, rng: jax.Array, params: Any) -> Any:
        """Next state of the environment."""
        return self.env.transition(state, action, rng, params)

    def observation(self, state: Any, rng: jax.Array, params: Any) -> jax.Array:
        """Observation [D] of the environment."""
        return self.env.observation(state, rng, params)

    def action_mask(self, state: Any, params: Any) -> jax.Array:
        """Which actions the environment allows, bool [n]."""
        return self.env.action_mask(state, params)

    def reward(
        self, state: Any, action: jax.Array, next_state: Any, rng: jax.Array, params: Any
    ) -> jax.Array:
        """Reward [] in units."""
        return self.env.reward(state, action, next_state, rng, params) / self.unit

    def terminal(self, state: Any, rng: jax.Array, params: Any) -> jax.Array:
        """Whether the episode ends."""
        return self.env.terminal(state, rng, params)

    def transition_info(self, state: Any, action: jax.Array, next_state: Any, params: Any) -> dict:
        """What the environment reports."""
        return self.env.transition_info(state, action, next_state, params)

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Normalised return of episodes of a return in units, in [0, 1]."""
        del length
        return jnp.clip((total * self.unit - self.low) / (self.high - self.low), 0.0, 1.0)

    def render_image(self, state: Any, render_state: Any, params: Any = None) -> Any:
        """Picture of the environment."""
        return self.env.render_image(state, render_state, params)
