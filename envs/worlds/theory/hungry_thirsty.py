"""Hungry-Thirsty: an animal must drink before it can eat (Singh, Lewis & Barto, 2009)."""

from itertools import permutations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.shift import scale, swap
from envs.suite import Suite
from envs.world import Env, World

SIDE = 6
CORNERS = (0, SIDE - 1, SIDE * (SIDE - 1), SIDE * SIDE - 1)
LAYOUTS = tuple(permutations(CORNERS, 2))  # (cell of the food, cell of the water)
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right
EAT, DRINK = 4, 5
ACROSS, DOWN = (0, 4), (5,)  # rows, columns in which the two walls are open
INK, WALL, FOOD, WATER, ANIMAL = "#2b2f36", "#41597a", "#6aa879", "#5b9bd5", "#d98324"


def _next_cell(cell: int, action: int) -> int:
    """Next cell of an action; walls with gaps lie between rows 2 and 3, and columns 2 and 3."""
    row, column = divmod(cell, SIDE)
    if action >= len(MOVES):
        return cell
    down, right = MOVES[action]
    if not (0 <= row + down < SIDE and 0 <= column + right < SIDE):
        return cell
    if {row, row + down} == {2, 3} and column not in DOWN:
        return cell
    if {column, column + right} == {2, 3} and row not in ACROSS:
        return cell
    return cell + SIDE * down + right


NEXT = np.array([[_next_cell(cell, a) for a in range(6)] for cell in range(SIDE * SIDE)], np.int32)


class Params(NamedTuple):
    """Positions of food and water, and probability that thirst returns."""

    layout: jax.Array | int = 0  # index into LAYOUTS
    thirst: jax.Array | float = 0.1  # probability a step

    @property
    def food(self) -> jax.Array:
        """Cell of the food, [] int32."""
        return jnp.asarray(LAYOUTS)[self.layout, 0]

    @property
    def water(self) -> jax.Array:
        """Cell of the water, [] int32."""
        return jnp.asarray(LAYOUTS)[self.layout, 1]


class State(NamedTuple):
    """Cell of the animal, and whether it is hungry and thirsty (0 or 1), each [] int32."""

    cell: jax.Array
    hungry: jax.Array
    thirsty: jax.Array


class HungryThirsty(Env):
    """Foraging on a 6 x 6 grid, food and water in different corners; eating requires no thirst.

    Six actions: up, down, left, right, eat, drink. Drinking at the water ends thirst; on every
    other step thirst sets in with probability .1. Eating at the food when not thirsty means not
    hungry for that one step; on every other step the animal is hungry. The reward is 1 when it is
    not hungry, so the return (fitness) is the number of such steps. Episodes start on any
    cell, hungry and thirsty, and end only at the horizon.

    Observation [4]: row, column, hungry, thirsty. `info["body"]` [2]: hunger and thirst, each 0 or
    1. The walls follow a public port of the paper's figure.

    Args:
        horizon: steps of an episode; 75,000 in the paper.
    """

    spec = Spec(obs_dim=4, num_actions=6, info=("body",))
    obs_scale = (SIDE, SIDE, 1.0, 1.0)
    observation_space = spaces.Box(0.0, np.array([5, 5, 1, 1], np.float32), (4,), np.float32)
    action_space = spaces.Discrete(6)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}

    def __init__(self, horizon: int = 75_000):
        super().__init__()
        self.horizon = horizon

    def get_default_params(self, **kwargs: float) -> Params:
        """Defaults: food in the upper left corner, water in the upper right."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Initial state: on any cell, hungry and thirsty."""
        cell = jax.random.randint(rng, (), 0, SIDE * SIDE)
        return State(cell, jnp.ones((), jnp.int32), jnp.ones((), jnp.int32))

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """Moves, eats or drinks; draws whether thirst returns."""
        return self.after(state, action, jax.random.uniform(rng), params)

    def after(self, state: State, action: jax.Array, chance: jax.Array, params: Params) -> State:
        """Next state, given the uniform number in [0, 1) that decides whether thirst returns."""
        eats = (action == EAT) & (state.cell == params.food) & (state.thirsty == 0)
        drinks = (action == DRINK) & (state.cell == params.water)
        thirsty = jnp.where(chance < params.thirst, 1, state.thirsty)
        return State(
            cell=jnp.asarray(NEXT)[state.cell, action],
            hungry=1 - eats.astype(jnp.int32),
            thirsty=jnp.where(drinks, 0, thirsty).astype(jnp.int32),
        )

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Observation [4]: row, column, hungry, thirsty."""
        row, column = state.cell // SIDE, state.cell % SIDE
        return jnp.stack([row, column, state.hungry, state.thirsty]).astype(jnp.float32)

    def reward(
        self, state: State, action: jax.Array, next_state: State, rng, params: Params
    ) -> jax.Array:
        """Reward: 1 when not hungry, else 0."""
        return 1.0 - next_state.hungry

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode terminates: never, it is truncated at the horizon."""
        return jnp.zeros((), bool)

    def transition_info(self, state, action, next_state: State, params: Params) -> dict:
        """Info: `body` [2], hunger and thirst after the step."""
        needs = jnp.stack([next_state.hungry, next_state.thirsty])
        return {"body": needs.astype(jnp.float32)}

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether at least 5 % of steps had no hunger, half the maximum in the hardest layout."""
        return total >= 0.05 * length

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws grid, walls, food, water and animal -> (None, picture uint8 [400, 560, 3])."""
        from envs.draw import Canvas

        params = self.default_params if params is None else params
        canvas = Canvas((560, 400), 60.0, (20, 380), "#f7f8fa")

        def centre(cell):
            row, column = divmod(int(cell), SIDE)
            return column + 0.5, SIDE - row - 0.5

        canvas.box((0, 0), (SIDE, SIDE), "#e4e7eb")
        for cell in range(SIDE * SIDE):
            x, y = centre(cell)
            canvas.box((x - 0.47, y - 0.47), (x + 0.47, y + 0.47), "white", 4)
        for name, cell, colour in (("food", params.food, FOOD), ("water", params.water, WATER)):
            x, y = centre(cell)
            canvas.box((x - 0.47, y - 0.47), (x + 0.47, y + 0.47), colour, 4)
            canvas.text(canvas.pixel((x, y + 0.44)), name, "white", 14, anchor="ma")
        for k in range(SIDE):
            if k not in DOWN:
                canvas.line((k, SIDE / 2), (k + 1, SIDE / 2), WALL, 6)
            if k not in ACROSS:
                canvas.line((SIDE / 2, SIDE - k - 1), (SIDE / 2, SIDE - k), WALL, 6)
        x, y = centre(state.cell)
        canvas.dot((x, y - 0.1), 15, ANIMAL)
        for side in (-0.09, 0.09):
            canvas.dot((x + side, y - 0.04), 2.5, "white")
        for k, (name, need, colour) in enumerate(
            (("hungry", state.hungry, FOOD), ("thirsty", state.thirsty, WATER))
        ):
            top = 60 + 70 * k
            label = name if int(need) else f"not {name}"
            canvas.text((400, top), label, INK if int(need) else colour, 22)
        canvas.text((400, 220), f"thirst returns {float(params.thirst):.0%} a step", INK, 13)
        return None, canvas.array()


def suite() -> Suite:
    """Suite HungryThirsty: the paper's world, 1,000 steps; shifts of thirst and of layout."""
    env = HungryThirsty(horizon=1000)
    return Suite(
        name="HungryThirsty",
        env=env,
        world=World(env.get_default_params()),
        randomised=swap("R", "layout", "params.layout", tuple(range(len(LAYOUTS)))),
        shifts=(
            scale("scarcity", "dynamics", "params.thirst", to=3.0),
            swap("layout", "layout", "params.layout", tuple(range(1, len(LAYOUTS)))),
        ),
    )
