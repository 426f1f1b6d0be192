"""DeepSea: hard exploration for a single rewarding path (Osband et al., 2020, bsuite)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.shift import ramp, swap
from envs.suite import Suite
from envs.world import Env, World

INK, SEA, DEEP, DIVER, GOLD = "#2b2f36", "#cfe3ee", "#a9c8da", "#d98324", "#d9b324"


class Params(NamedTuple):
    """Actions, rewards and slips of the sea."""

    right: jax.Array  # [N, N] int32, the action that goes right in each cell; the other goes left
    move_cost: jax.Array | float = 0.01  # total of N steps to the right
    treasure: jax.Array | float = 1.0
    slip: jax.Array | float = 0.0  # probability that a step to the right only goes down


class State(NamedTuple):
    """Row and column, [] int32 each, and whether the treasure is reached, [] bool."""

    row: jax.Array
    column: jax.Array
    reached: jax.Array


class DeepSea(Env):
    """N steps down through N x N cells from the upper left; the treasure is in the far corner.

    Every step moves one row down and one column to the left or right; which of the two actions
    goes right is drawn once for every cell. A step to the right costs `move_cost` / N and gives the
    reward `treasure` in the last cell of the diagonal. Only N steps to the right reach that cell: a
    random walk does so with probability 2^-N. The observation [N^2] is one-hot, zeros after the
    last step. Equal to bsuite's `deep_sea`, whose stochastic version slips with probability 1/N.

    Args:
        size: N, at least 2.

    Raises:
        ValueError: for a size below 2.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    action_space = spaces.Discrete(2)

    def __init__(self, size: int = 10):
        if size < 2:
            raise ValueError(f"a sea is at least 2 cells deep, not {size}")
        self.size = self.horizon = size
        super().__init__()
        self.spec = Spec(obs_dim=size**2, num_actions=2)
        self.obs_scale = (1.0,) * size**2
        self.observation_space = spaces.Box(0.0, 1.0, (size**2,), np.float32)

    def get_default_params(self, seed: int = 0, **kwargs: float) -> Params:
        """Default sea, its actions drawn from `seed`."""
        right = jax.random.bernoulli(jax.random.key(seed), shape=(self.size, self.size))
        return Params(right.astype(jnp.int32), **kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Initial state: the upper left cell."""
        return State(jnp.int32(0), jnp.int32(0), jnp.zeros((), bool))

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """Moves one row down and one column to the left or right."""
        right = self._goes_right(state, action, params)
        moved = right & (jax.random.uniform(rng) >= params.slip)
        column = state.column + jnp.where(right, moved, -1)
        reached = right & (state.column == self.size - 1)
        return State(state.row + 1, jnp.clip(column, 0, self.size - 1), reached)

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Observation [N^2]: the cell, one-hot; zeros below the last row."""
        cell = state.row * self.size + state.column
        return jax.nn.one_hot(jnp.where(state.row < self.size, cell, -1), self.size**2)

    def reward(self, state: State, action: jax.Array, next_state: State, rng, params: Params):
        """Reward: the treasure, minus the cost of a step to the right."""
        cost = jnp.where(self._goes_right(state, action, params), params.move_cost / self.size, 0.0)
        return jnp.where(next_state.reached, params.treasure, 0.0) - cost

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode ends: after N steps."""
        return state.row >= self.size

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether episodes reached the treasure (return > 0)."""
        return total > 0

    def _goes_right(self, state: State, action: jax.Array, params: Params) -> jax.Array:
        return action == params.right[jnp.minimum(state.row, self.size - 1), state.column]

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws the sea, the diver and the treasure -> (None, picture uint8 [440, 400, 3])."""
        from envs.draw import Canvas

        row, column, n = int(state.row), int(state.column), self.size
        side = 380 / n
        canvas = Canvas((400, 440), side, (10, 45), "#f7f8fa")
        for y in range(n):
            for x in range(y + 1):
                colour = DEEP if x == y else SEA
                canvas.box((x + 0.04, -y - 0.96), (x + 0.96, -y - 0.04), colour)
        reached = bool(state.reached)
        canvas.dot((n - 0.5, 0.5 - n), 0.3 * side, GOLD)
        if row < n:
            canvas.dot((column + 0.5, -row - 0.5), 0.22 * side, DIVER)
        else:
            canvas.dot((column + 0.5, -n - 6 / side), 6, DIVER)
        canvas.text((10, 14), "treasure!" if reached else f"depth {row} of {n}", INK)
        return None, canvas.array()


def suite() -> Suite:
    """Suite DeepSea, 10 x 10: higher move cost, slips, other action maps, channel shifts."""
    env = DeepSea()
    params = env.get_default_params()
    seas = np.stack([env.get_default_params(seed=seed).right for seed in range(1, 9)])
    return Suite(
        name="DeepSea",
        env=env,
        world=World(params),
        shifts=(
            ramp("toll", "reward", "params.move_cost", to=0.5),
            ramp("slip", "dynamics", "params.slip", to=0.3),
            swap("currents", "layout", "params.right", seas),
            ramp("noise", "sensor", "channel.noise", to=0.5),
            ramp("dropout", "sensor", "channel.dropout", to=0.3),
            ramp("flip", "actuator", "channel.flip", to=0.3),
        ),
    )
