"""Drift: a bandit whose reward level changes linearly (for mood; Eldar et al., 2016)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.world import Env

INK, LEVEL, ARM, PULLED = "#2b2f36", "#6aa879", "#c3cad3", "#d98324"


class Params(NamedTuple):
    """Reward of an arm at step t = 0, 1, ...: level + drift t + gap arm + noise."""

    level: jax.Array | float = 0.0  # at the first step, of arm 0
    drift: jax.Array | float = 0.01  # b, per step
    gap: jax.Array | float = 0.0  # from one arm to the next
    noise: jax.Array | float = 0.1  # standard deviation, of each arm


class State(NamedTuple):
    """Steps taken [] float32, last arm [] int32 (-1 at first), and last reward of each arm [K]."""

    time: jax.Array
    arm: jax.Array
    paid: jax.Array


class Drift(Env):
    """Bandit of K arms with a common level that drifts linearly; arms differ by `gap`.

    The observation [1 + K] is the last reward and the last arm, one-hot; zeros at first. An
    exponential average of reward with rate alpha lags by (1 - alpha) / alpha steps: it is
    b (1 - alpha) / alpha behind the current level and b / alpha behind the next one.
    `info["foregone"]` [K] is the reward of each arm.

    Args:
        arms: K, at least 2.
        horizon: steps after which an episode is truncated; it never terminates.

    Raises:
        ValueError: for fewer than 2 arms.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, arms: int = 2, horizon: int = 200):
        super().__init__()
        if arms < 2:
            raise ValueError(f"a bandit has at least 2 arms, not {arms}")
        self.arms, self.horizon = arms, horizon
        self.spec = Spec(obs_dim=1 + arms, num_actions=arms, info=("foregone",))
        self.obs_scale = (1.0,) * (1 + arms)
        self.observation_space = spaces.Box(-np.inf, np.inf, (1 + arms,), np.float32)
        self.action_space = spaces.Discrete(arms)

    def get_default_params(self, **kwargs: float) -> Params:
        """Defaults: the level rises by .01 per step."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Initial state: step 0, no arm pulled."""
        return State(jnp.zeros(()), jnp.int32(-1), jnp.zeros((self.arms,)))

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """Draws the reward of every arm; the agent receives that of its action."""
        mean = self.level(state.time, params) + params.gap * jnp.arange(self.arms)
        paid = mean + params.noise * jax.random.normal(rng, (self.arms,))
        return State(state.time + 1, action.astype(jnp.int32), paid)

    def level(self, time: jax.Array, params: Params) -> jax.Array:
        """Expected reward of arm 0 at step `time`, [...]."""
        return params.level + params.drift * time

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Observation [1 + K]: the last reward, and the last arm, one-hot."""
        arm = jax.nn.one_hot(state.arm, self.arms)
        return jnp.concatenate([jnp.sum(arm * state.paid)[None], arm])

    def reward(self, state: State, action: jax.Array, next_state: State, rng, params: Params):
        """Reward of the pulled arm."""
        return next_state.paid[action]

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode terminates: never, it is truncated at the horizon."""
        return jnp.zeros((), bool)

    def transition_info(self, state, action, next_state: State, params: Params) -> dict:
        """Info: `foregone` [K], the reward of each arm."""
        return {"foregone": next_state.paid}

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether the return of episodes is positive."""
        return total > 0

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws the reward of each arm and the level -> (None, picture uint8 [300, 400, 3])."""
        from envs.draw import Canvas

        params = self.default_params if params is None else params
        time, arm, paid = int(state.time), int(state.arm), np.asarray(state.paid)
        level = float(self.level(max(time - 1, 0), params))
        unit = 1.2 * max(1.0, abs(level), float(np.abs(paid).max()))
        canvas = Canvas((400, 300), 110, (0, 160), "#f7f8fa")
        canvas.line((0.2, 0), (3.45, 0), INK, 2)
        width = 3.0 / self.arms
        for k in range(self.arms):
            left, height = 0.35 + k * width, float(paid[k]) / unit
            low, high = min(height, 0.0), max(height, 0.0)
            canvas.box((left, low), (left + 0.7 * width, high), PULLED if k == arm else ARM)
        canvas.line((0.2, level / unit), (3.45, level / unit), LEVEL, 4)
        canvas.text((14, 10), f"step {time}", INK)
        canvas.text(
            (386, 10), f"level {level:+.2f}, drift {float(params.drift):+.3f}", INK, 16, "ra"
        )
        return None, canvas.array()
