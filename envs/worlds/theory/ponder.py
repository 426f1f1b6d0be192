"""Ponder: two options that are nearly alike, and thinking takes time."""

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
    """How far apart the options are, how clearly one sees them, what a moment costs."""

    gap: jax.Array | float = 0.5  # standard deviation of each option's worth
    noise: jax.Array | float = 1.0  # standard deviation of one look at one option
    cost: jax.Array | float = 0.02  # of a moment of thought, in units of worth


class State(NamedTuple):
    """Worth of the options [2], sums of the looks at them [2], moments waited [], the choice []."""

    worth: jax.Array
    seen: jax.Array
    waited: jax.Array
    chosen: jax.Array


class Ponder(Env):
    """An evidence-accumulation choice in which the worths of the options are drawn anew.

    Three actions: take the left option, take the right one, or wait: look at both once more, each
    look the worth plus noise, for a price. The more alike the options are, the longer it takes to
    tell them apart, and the less it matters (Fudenberg, Strack & Strzalecki, 2018). Whoever waits
    until the horizon has chosen nothing.

    Reward: the worth of what is taken; minus `cost` for each moment waited. Observation [3]: the
    mean of the looks at the left and right option, and the moments waited over the horizon.
    `info`: `foregone` [3], what each action would have paid.

    Args:
        horizon: moments after which the chance is gone.
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
        """Options half a unit apart, seen through noise of one, a moment for a fiftieth."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Two options; nothing was seen of them."""
        worth = params.gap * jax.random.normal(rng, (2,))
        return State(worth, jnp.zeros(2), jnp.zeros((), jnp.int32), jnp.full((), WAIT))

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """Takes an option, or looks once more."""
        waits = (action == WAIT).astype(jnp.int32)
        look = state.worth + params.noise * jax.random.normal(rng, (2,))
        chosen = jnp.asarray(action, state.chosen.dtype)
        return State(state.worth, state.seen + waits * look, state.waited + waits, chosen)

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Mean of the looks at each option, and the share of the time that is gone."""
        mean = state.seen / jnp.maximum(state.waited, 1)
        return jnp.append(mean, state.waited / jnp.float32(self.horizon))

    def reward(
        self, state: State, action: jax.Array, next_state: State, rng, params: Params
    ) -> jax.Array:
        """What the action pays."""
        return self._pays(state, params)[action]

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """An option was taken, or it is too late."""
        return (state.chosen != WAIT) | (state.waited >= self.horizon)

    def transition_info(self, state, action, next_state: State, params: Params) -> dict:
        """`foregone`: what each action would have paid."""
        return {"foregone": self._pays(state, params)}

    def _pays(self, state: State, params: Params) -> jax.Array:
        return jnp.append(state.worth, -jnp.asarray(params.cost, jnp.float32))

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Better than taking either option unseen, which pays 0 on average."""
        return total > 0

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws what was seen of both options -> (None, picture uint8 [320, 480, 3])."""
        from envs.draw import Canvas

        sheet = Canvas((480, 320), 60.0, (0, 190), PAPER)
        waited = int(state.waited)
        sheet.line((0.5, 0), (7.5, 0), INK, 1.5)
        for k, (name, x, colour) in enumerate((("left", 2.5, ONE), ("right", 5.5, TWO))):
            mean = float(np.clip(state.seen[k] / max(waited, 1), -1.5, 1.5))
            sheet.box((x - 0.6, min(mean, 0)), (x + 0.6, max(mean, 0.02)), colour, 4)
            worth = float(np.clip(state.worth[k], -1.5, 1.5))
            sheet.line((x - 0.8, worth), (x + 0.8, worth), INK, 2.5)
            words = f"{name}: taken" if int(state.chosen) == k else name
            sheet.text(sheet.pixel((x, -1.7)), words, colour, 16, anchor="ma")
        gone = min(waited / self.horizon, 1.0)
        sheet.box((0.5, 2.55), (7.5, 2.7), "#e4e7eb", 4)
        sheet.box((0.5, 2.55), (0.5 + max(7 * gone, 0.05), 2.7), TIME, 4)
        sheet.text((30, 8), f"{waited} looks; bars: seen, lines: worth", INK, 14)
        return None, sheet.array()
