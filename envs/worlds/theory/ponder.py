"""Ponder: choose between two options after any number of costly noisy samples of them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.world import Env

LEFT, RIGHT, WAIT = range(3)
INK, PAPER, ONE, TWO, TIME = "#2b2f36", "#f7f8fa", "#41597a", "#d98324", "#c8322b"


class Params(NamedTuple):
    """Spread of the options' values, sampling noise, and cost of waiting."""

    gap: jax.Array | float = 0.5  # standard deviation of each option's value
    noise: jax.Array | float = 1.0  # standard deviation of one sample of one option
    cost: jax.Array | float = 0.02  # of a step of waiting


class State(NamedTuple):
    """Values of the options [2], sums of their samples [2], steps waited [], last action []."""

    worth: jax.Array
    evidence: jax.Array
    waited: jax.Array
    chosen: jax.Array


class Ponder(Env):
    """Evidence accumulation: sample two options at a cost, then choose; values drawn per episode.

    Three actions: take the left option, take the right one, or wait, which samples both once more,
    each sample the value plus noise. The smaller the difference of the values, the more samples it
    takes to detect and the less it matters (Fudenberg, Strack & Strzalecki, 2018). An agent that
    waits until the horizon has not chosen.

    Reward: the value of the option taken; minus `cost` for each step waited. Observation [3]: mean
    of the samples of the left and right option, and steps waited over the horizon.
    `info`: `foregone` [3], the reward of each action.

    Args:
        horizon: steps of waiting after which the episode ends.
    """

    spec = Spec(obs_dim=3, num_actions=3, info=("foregone",))
    obs_scale = (1.0, 1.0, 1.0)
    observation_space = spaces.Box(
        np.array([-np.inf, -np.inf, 0], np.float32), np.array([np.inf, np.inf, 1], np.float32)
    )
    action_space = spaces.Discrete(3)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(self, horizon: int = 50):
        super().__init__()
        self.horizon = horizon

    def get_default_params(self, **kwargs: float) -> Params:
        """Defaults: spread .5, noise 1, cost .02."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Initial state: values drawn, no samples."""
        worth = params.gap * jax.random.normal(rng, (2,))
        return State(worth, jnp.zeros(2), jnp.zeros((), jnp.int32), jnp.full((), WAIT))

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """Takes an option, or waits and samples both."""
        waits = (action == WAIT).astype(jnp.int32)
        sample = state.worth + params.noise * jax.random.normal(rng, (2,))
        chosen = jnp.asarray(action, state.chosen.dtype)
        return State(state.worth, state.evidence + waits * sample, state.waited + waits, chosen)

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Observation [3]: mean sample of each option, and the share of the horizon used."""
        mean = state.evidence / jnp.maximum(state.waited, 1)
        return jnp.append(mean, state.waited / jnp.float32(self.horizon))

    def reward(
        self, state: State, action: jax.Array, next_state: State, rng, params: Params
    ) -> jax.Array:
        """Reward of the action: value of the option, or minus the cost of waiting."""
        return self._rewards(state, params)[action]

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode ends: an option was taken, or the horizon is reached."""
        return (state.chosen != WAIT) | (state.waited >= self.horizon)

    def transition_info(self, state, action, next_state: State, params: Params) -> dict:
        """Info: `foregone` [3], the reward of each action."""
        return {"foregone": self._rewards(state, params)}

    def _rewards(self, state: State, params: Params) -> jax.Array:
        return jnp.append(state.worth, -jnp.asarray(params.cost, jnp.float32))

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether episodes earned more than a choice without samples (0 on average)."""
        return total > 0

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws mean samples and values of both options -> (None, picture uint8 [320, 480, 3])."""
        from envs.draw import Canvas

        canvas = Canvas((480, 320), 60.0, (0, 190), PAPER)
        waited = int(state.waited)
        canvas.line((0.5, 0), (7.5, 0), INK, 1.5)
        for k, (name, x, colour) in enumerate((("left", 2.5, ONE), ("right", 5.5, TWO))):
            mean = float(np.clip(state.evidence[k] / max(waited, 1), -1.5, 1.5))
            canvas.box((x - 0.6, min(mean, 0)), (x + 0.6, max(mean, 0.02)), colour, 4)
            worth = float(np.clip(state.worth[k], -1.5, 1.5))
            canvas.line((x - 0.8, worth), (x + 0.8, worth), INK, 2.5)
            label = f"{name}: taken" if int(state.chosen) == k else name
            canvas.text(canvas.pixel((x, -1.7)), label, colour, 16, anchor="ma")
        elapsed = min(waited / self.horizon, 1.0)
        canvas.box((0.5, 2.55), (7.5, 2.7), "#e4e7eb", 4)
        canvas.box((0.5, 2.55), (0.5 + max(7 * elapsed, 0.05), 2.7), TIME, 4)
        canvas.text((30, 8), f"{waited} looks; bars: seen, lines: worth", INK, 14)
        return None, canvas.array()
