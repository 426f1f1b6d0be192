"""Corridor: cells in a row, harm at one end; what is to be predicted here is known exactly."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.world import Env

INK, CELL, AGENT, GOOD, BAD = "#2b2f36", "#e4e7eb", "#41597a", "#6aa879", "#c8322b"
ENDS = ("both", "left")


class Params(NamedTuple):
    """What moves the agent and what it is paid."""

    slip: jax.Array | float = 0.0  # probability that a step goes either way, left or right
    pay: jax.Array | float = 1.0  # for reaching the right end


class Corridor(Env):
    """Cells 0 to n - 1. Cell 0 is harm and ends the episode; the right end pays and ends it too.

    Actions: 0 left, 1 right. The observation [n] is one-hot; episodes begin in any cell that is
    no end, each as likely. Reward `pay` for arriving at the right end, else 0. Harm is reported.

    Args:
        n: cells, at least 3.
        ends: "both", or "left" for a wall on the right, where a step to the right stays.
        horizon: steps after which an episode is truncated; 100 n if None.

    Raises:
        ValueError: for fewer than 3 cells or unknown ends.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    action_space = spaces.Discrete(2)

    def __init__(self, n: int = 7, ends: str = "both", horizon: int | None = None):
        super().__init__()
        if n < 3:
            raise ValueError(f"a corridor has at least 3 cells, not {n}")
        if ends not in ENDS:
            raise ValueError(f"a corridor cannot end {ends!r}; it ends {' or '.join(ENDS)}")
        self.n, self.ends = n, ends
        self.spec = Spec(obs_dim=n, num_actions=2, info=("harm",))
        self.obs_scale = (1.0,) * n
        self.observation_space = spaces.Box(0.0, 1.0, (n,), np.float32)
        self.horizon = 100 * n if horizon is None else horizon

    def get_default_params(self, **kwargs: float) -> Params:
        """Steps go where they are meant to."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> jax.Array:
        """A cell that is no end, [] int32."""
        return jax.random.randint(rng, (), 1, self.n - (self.ends == "both"))

    def transition(
        self, state: jax.Array, action: jax.Array, rng: jax.Array, params: Params
    ) -> jax.Array:
        """One cell to the left or to the right."""
        k_slip, k_side = jax.random.split(rng)
        slipped = jax.random.uniform(k_slip) < params.slip
        right = jnp.where(slipped, jax.random.bernoulli(k_side), action == 1)
        return jnp.clip(state + jnp.where(right, 1, -1), 0, self.n - 1)

    def observation(self, state: jax.Array, rng: jax.Array, params: Params) -> jax.Array:
        """One-hot [n]."""
        return jax.nn.one_hot(state, self.n)

    def reward(
        self, state: jax.Array, action: jax.Array, next_state: jax.Array, rng, params: Params
    ) -> jax.Array:
        """`pay` at the right end."""
        return jnp.where(self._arrived(next_state), jnp.float32(params.pay), 0.0)

    def terminal(self, state: jax.Array, rng: jax.Array, params: Params) -> jax.Array:
        """At an end."""
        return (state == 0) | self._arrived(state)

    def transition_info(self, state, action, next_state: jax.Array, params: Params) -> dict:
        """`harm`: 1 at the left end."""
        return {"harm": (next_state == 0).astype(jnp.float32)}

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """The right end was reached; without one, the horizon was."""
        return total > 0 if self.ends == "both" else length >= self.horizon

    def _arrived(self, state: jax.Array) -> jax.Array:
        return (state == self.n - 1) & (self.ends == "both")

    def render_image(self, state: jax.Array, render_state: None, params: Params | None = None):
        """Draws cells, ends and agent -> (None, picture uint8 [160, 600, 3])."""
        from envs.draw import Canvas

        side = 560 / self.n
        sheet = Canvas((600, 160), side, (20, 90 + side / 2), "#f7f8fa")
        gap = 2 / side
        for cell in range(self.n):
            last = GOOD if self.ends == "both" else CELL
            colour = {0: BAD, self.n - 1: last}.get(cell, CELL)
            sheet.box((cell + gap, gap), (cell + 1 - gap, min(1.0, 90 / side)), colour, 4)
        if self.ends == "left":
            sheet.line((self.n, 0), (self.n, min(1.0, 90 / side)), INK, 6)
        sheet.dot((int(state) + 0.5, min(0.5, 45 / side)), min(0.32 * side, 28), AGENT)
        sheet.text((20, 12), f"cell {int(state)} of {self.n}", INK)
        return None, sheet.array()


def always_left_value(n: int, gamma: float) -> np.ndarray:
    """E[gamma^k], k the steps to cell 0, of an agent that always goes left: gamma^cell, [n]."""
    return gamma ** np.arange(n)


def hitting_value(n: int, gamma: float, right: float = 0.5, ends: str = "both") -> np.ndarray:
    """E[gamma^k 1{cell 0 is reached}], k the steps to it, from every cell, [n].

    The solution of p = gamma P p with p = 1 at cell 0 and 0 at a right end, where a step goes
    right with probability `right`: .5 is the random walk, 0 is `always_left_value`.
    """
    step, fixed = np.zeros((n, n)), np.zeros(n)
    for cell in range(1, n - (ends == "both")):
        step[cell, cell - 1] += 1 - right
        step[cell, min(cell + 1, n - 1)] += right
    fixed[0] = 1.0
    return np.linalg.solve(np.eye(n) - gamma * step, fixed)
