"""Corridor: cells in a row, harm at the left end; exact values for tests of predictions."""

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
    """Slip probability and reward of the right end."""

    slip: jax.Array | float = 0.0  # probability that the direction of a step is random
    pay: jax.Array | float = 1.0  # reward for reaching the right end


class Corridor(Env):
    """Row of n cells; cell 0 ends the episode with harm, the right end ends it with reward `pay`.

    Actions: 0 left, 1 right. The observation [n] is one-hot; episodes start uniformly in cells that
    are not ends. Reward `pay` for arriving at the right end, else 0. `info["harm"]` is 1 at cell 0.

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
        """Defaults: no slips, reward 1."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> jax.Array:
        """Initial cell [] int32, uniform over cells that are not ends."""
        return jax.random.randint(rng, (), 1, self.n - (self.ends == "both"))

    def transition(
        self, state: jax.Array, action: jax.Array, rng: jax.Array, params: Params
    ) -> jax.Array:
        """Moves one cell to the left or right; a slip draws the direction."""
        k_slip, k_side = jax.random.split(rng)
        slipped = jax.random.uniform(k_slip) < params.slip
        right = jnp.where(slipped, jax.random.bernoulli(k_side), action == 1)
        return jnp.clip(state + jnp.where(right, 1, -1), 0, self.n - 1)

    def observation(self, state: jax.Array, rng: jax.Array, params: Params) -> jax.Array:
        """Observation [n]: the cell, one-hot."""
        return jax.nn.one_hot(state, self.n)

    def reward(
        self, state: jax.Array, action: jax.Array, next_state: jax.Array, rng, params: Params
    ) -> jax.Array:
        """Reward: `pay` for arriving at the right end, else 0."""
        return jnp.where(self._arrived(next_state), jnp.float32(params.pay), 0.0)

    def terminal(self, state: jax.Array, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode ends: the agent is at an end."""
        return (state == 0) | self._arrived(state)

    def transition_info(self, state, action, next_state: jax.Array, params: Params) -> dict:
        """Info: `harm`, 1 at the left end."""
        return {"harm": (next_state == 0).astype(jnp.float32)}

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether episodes reached the right end; with ends="left", the horizon."""
        return total > 0 if self.ends == "both" else length >= self.horizon

    def _arrived(self, state: jax.Array) -> jax.Array:
        return (state == self.n - 1) & (self.ends == "both")

    def render_image(self, state: jax.Array, render_state: None, params: Params | None = None):
        """Draws cells, ends and agent -> (None, picture uint8 [160, 600, 3])."""
        from envs.draw import Canvas

        side = 560 / self.n
        canvas = Canvas((600, 160), side, (20, 90 + side / 2), "#f7f8fa")
        gap = 2 / side
        for cell in range(self.n):
            last = GOOD if self.ends == "both" else CELL
            colour = {0: BAD, self.n - 1: last}.get(cell, CELL)
            canvas.box((cell + gap, gap), (cell + 1 - gap, min(1.0, 90 / side)), colour, 4)
        if self.ends == "left":
            canvas.line((self.n, 0), (self.n, min(1.0, 90 / side)), INK, 6)
        canvas.dot((int(state) + 0.5, min(0.5, 45 / side)), min(0.32 * side, 28), AGENT)
        canvas.text((20, 12), f"cell {int(state)} of {self.n}", INK)
        return None, canvas.array()


def always_left_value(n: int, gamma: float) -> np.ndarray:
    """E[gamma^k] [n], k the steps to cell 0, of the policy "always left": gamma^cell."""
    return gamma ** np.arange(n)


def hitting_value(n: int, gamma: float, right: float = 0.5, ends: str = "both") -> np.ndarray:
    """E[gamma^k 1{cell 0 is reached}] [n], k the steps to cell 0, from every cell.

    Solves p = gamma P p with p = 1 at cell 0 and 0 at a right end, for a policy that goes right
    with probability `right`: .5 is the random walk, 0 is `always_left_value`.
    """
    step, fixed = np.zeros((n, n)), np.zeros(n)
    for cell in range(1, n - (ends == "both")):
        step[cell, cell - 1] += 1 - right
        step[cell, min(cell + 1, n - 1)] += right
    fixed[0] = 1.0
    return np.linalg.solve(np.eye(n) - gamma * step, fixed)
