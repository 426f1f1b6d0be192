"""Partners of the world Share: scripted and trained policies of the second body."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SIDE, BUSHES = 4, ((0, 0), (3, 3))
WAIT, EAT, GIVE = 4, 5, 6
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0), (0, 0), (0, 0))  # up, down, left, right, ...
MAX_BALANCE = 3  # limit of the gift balance, either way
FULL_MEAL = 0.5  # energy up to which a whole meal is of use
SCRIPTED = ("generous", "tit-for-tat", "random", "selfish", "passive")
TRAINED = {
    "peer": ("generous", "tit-for-tat"),
    "spoilt": ("generous",),
    "keeper": ("passive",),
}
"""Policies trained with PPO as agents of Share -> the scripted partners of their training."""
PARTNERS = (*SCRIPTED, *TRAINED)
WEIGHTS = Path(__file__).parents[2] / "data" / "share_partners.npz"
"""Written by `python -m runs.share_partners`: layers [K, 1 + inputs, outputs], bias in row 0."""
LAYERS = ("first", "second", "out")


def partner_population(*names: str) -> tuple[float, ...]:
    """Population of these partners, each with weight 1, all others with weight 0."""
    return tuple(float(partner in names) for partner in PARTNERS)


TRAIN_POPULATION = partner_population("generous", "tit-for-tat", "peer")
"""Partners in the training world; all others are held out."""


class State(NamedTuple):
    """State of the two bodies, the agent's first, and of the two bushes.

    Attributes:
        cell: [2, 2] int32, row and column of each body.
        hand: [2] int32, 1 where a body holds berries.
        energy: [2] in [0, 1].
        ripe: [2] bool, whether each bush is ripe.
        balance: [] int32, gifts of the agent minus gifts of the partner, clipped to +-3.
        partner: [] int32, index into PARTNERS.
    """

    cell: jax.Array
    hand: jax.Array
    energy: jax.Array
    ripe: jax.Array
    balance: jax.Array
    partner: jax.Array


def partner_action(state: State, key: jax.Array) -> jax.Array:
    """Action of the partner, [] int32.

    `generous` brings its berries to an agent with less energy than itself, and eats otherwise;
    `tit-for-tat` is generous until it is a gift ahead, then eats until a gift is returned;
    `selfish` picks and eats; `passive` stays in place and eats what it receives; `random` acts
    uniformly at random. Trained partners take the mode of their policy.
    """
    holds = state.hand[1] == 1
    eat = jnp.where(state.energy[1] <= FULL_MEAL, EAT, WAIT)
    selfish = jnp.where(holds, eat, _forage(state))
    poorer = state.energy[0] < state.energy[1]
    generous = jnp.where(holds & poorer, _bring(state), selfish)
    scripted = [
        generous,
        jnp.where(state.balance >= 0, generous, selfish),
        jax.random.randint(key, (), 0, len(MOVES)),
        selfish,
        jnp.where(holds, eat, WAIT),
    ]
    return jnp.append(jnp.stack(scripted), trained_actions(seat_observation(state, 1)))[
        state.partner
    ]


def seat_observation(state: State, index: int) -> jax.Array:
    """Observation [11] of body `index`: own variables, then the other's."""
    own, other = state.cell[index], state.cell[1 - index]
    parts = (
        jnp.roll(state.energy, -index),
        jnp.roll(state.hand, -index),
        own / (SIDE - 1),
        (other - own) / (SIDE - 1),
        state.ripe,
        (1 - 2 * index) * state.balance[None] / MAX_BALANCE,
    )
    return jnp.concatenate([jnp.asarray(part, jnp.float32) for part in parts])


def trained_actions(obs: jax.Array) -> jax.Array:
    """Actions [K] int32 of the policies of TRAINED at obs [11], the modes of small networks."""

    def mode(first, second, out):
        hidden = jnp.tanh(first[0] + obs @ first[1:])
        hidden = jnp.tanh(second[0] + hidden @ second[1:])
        return jnp.argmax(out[0] + hidden @ out[1:]).astype(jnp.int32)

    return jax.vmap(mode)(*map(jnp.asarray, weights()))


@cache
def weights() -> tuple[np.ndarray, ...]:
    """Loads the weights of each of LAYERS, [K, 1 + inputs, outputs]."""
    with np.load(WEIGHTS) as file:
        return tuple(file[name] for name in LAYERS)


def within_one_step(cell: jax.Array) -> jax.Array:
    """Whether bodies at cells [2, 2] are at most one step apart."""
    return jnp.abs(cell[0] - cell[1]).sum() <= 1


def _forage(state: State) -> jax.Array:
    """Move of the partner towards the nearest bush, a ripe one if there is one."""
    bushes = jnp.array(BUSHES)
    distance = jnp.abs(bushes - state.cell[1][None]).sum(1)
    nearest = jnp.argmin(distance + jnp.where(state.ripe, 0, 4 * SIDE))
    return _towards(state.cell[1], bushes[nearest])


def _bring(state: State) -> jax.Array:
    """Move of the partner towards the agent; next to it, gives once its hand is empty."""
    hand_over = jnp.where(state.hand[0] == 0, GIVE, WAIT)
    return jnp.where(within_one_step(state.cell), hand_over, _towards(state.cell[1], state.cell[0]))


def _towards(cell: jax.Array, goal: jax.Array) -> jax.Array:
    """Move from a cell [2] towards a goal [2], rows first; waits at the goal."""
    down, right = goal - cell
    sideways = jnp.where(right < 0, 2, jnp.where(right > 0, 3, WAIT))
    return jnp.where(down < 0, 0, jnp.where(down > 0, 1, sideways))
