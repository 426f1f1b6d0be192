"""The partners of `envs.worlds.share.share`: scripts, and trained policies, that play from the second seat."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SIDE, BUSHES = 4, ((0, 0), (3, 3))
WAIT, EAT, GIVE = 4, 5, 6
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0), (0, 0), (0, 0))  # up, down, left, right, ...
MOST = 3  # gifts that are remembered
PECKISH = 0.5  # energy below which nothing of a meal is wasted
SCRIPTED = ("generous", "tit-for-tat", "random", "selfish", "passive")
TRAINED = {
    "peer": ("generous", "tit-for-tat"),
    "spoilt": ("generous",),
    "keeper": ("passive",),
}
"""Policies of PPO, in the learner's place, and the scripts among whom they learned to live."""
PARTNERS = (*SCRIPTED, *TRAINED)
WEIGHTS = Path(__file__).parents[2] / "data" / "share_partners.npz"
"""By `python -m runs.share_partners`: of each layer [K, 1 + inputs, outputs], its bias first."""
LAYERS = ("first", "second", "out")


def partner_population(*names: str) -> tuple[float, ...]:
    """The population of these partners, each as often."""
    return tuple(float(partner in names) for partner in PARTNERS)


MEET = partner_population("generous", "tit-for-tat", "peer")
"""Who is met where one learns; the others are held out."""


class State(NamedTuple):
    """Two bodies and two bushes; the learner first.

    Attributes:
        cell: [2, 2] int32, row and column of each body.
        hand: [2] int32, 1 where it holds berries.
        energy: [2] in [0, 1].
        ripe: [2] bool, of each bush.
        given: [] int32, gifts of the learner less gifts of the partner, at most 3 either way.
        partner: [] int32, index into PARTNERS.
    """

    cell: jax.Array
    hand: jax.Array
    energy: jax.Array
    ripe: jax.Array
    given: jax.Array
    partner: jax.Array


def partner_action(state: State, key: jax.Array) -> jax.Array:
    """The partner's action, [] int32.

    `generous` brings what it holds to a learner with less energy than itself, and eats otherwise;
    `tit-for-tat` is generous until it is a gift ahead, and then eats until one is returned;
    `selfish` picks and eats; `passive` stays where it is and eats what it is given; `random` does
    anything. The trained do what they would do in the learner's seat, by their mode.
    """
    holds = state.hand[1] == 1
    eat = jnp.where(state.energy[1] <= PECKISH, EAT, WAIT)
    selfish = jnp.where(holds, eat, _forage(state))
    poorer = state.energy[0] < state.energy[1]
    generous = jnp.where(holds & poorer, _bring(state), selfish)
    scripted = [
        generous,
        jnp.where(state.given >= 0, generous, selfish),
        jax.random.randint(key, (), 0, len(MOVES)),
        selfish,
        jnp.where(holds, eat, WAIT),
    ]
    return jnp.append(jnp.stack(scripted), trained_actions(seat_observation(state, 1)))[
        state.partner
    ]


def seat_observation(state: State, who: int) -> jax.Array:
    """What is seen from a seat, [11]: own, then the other's."""
    own, other = state.cell[who], state.cell[1 - who]
    parts = (
        jnp.roll(state.energy, -who),
        jnp.roll(state.hand, -who),
        own / (SIDE - 1),
        (other - own) / (SIDE - 1),
        state.ripe,
        (1 - 2 * who) * state.given[None] / MOST,
    )
    return jnp.concatenate([jnp.asarray(part, jnp.float32) for part in parts])


def trained_actions(obs: jax.Array) -> jax.Array:
    """What each of TRAINED does at obs [11] -> actions [K], the modes of small networks."""

    def one(first, second, out):
        hidden = jnp.tanh(first[0] + obs @ first[1:])
        hidden = jnp.tanh(second[0] + hidden @ second[1:])
        return jnp.argmax(out[0] + hidden @ out[1:]).astype(jnp.int32)

    return jax.vmap(one)(*map(jnp.asarray, weights()))


@cache
def weights() -> tuple[np.ndarray, ...]:
    """Of each of LAYERS."""
    with np.load(WEIGHTS) as file:
        return tuple(file[name] for name in LAYERS)


def within_one_step(cell: jax.Array) -> jax.Array:
    """Whether bodies at cells [2, 2] are at most one step apart."""
    return jnp.abs(cell[0] - cell[1]).sum() <= 1


def _forage(state: State) -> jax.Array:
    """On the way to the nearest bush, a ripe one if there is one."""
    bushes = jnp.array(BUSHES)
    away = jnp.abs(bushes - state.cell[1][None]).sum(1)
    nearest = jnp.argmin(away + jnp.where(state.ripe, 0, 4 * SIDE))
    return _towards(state.cell[1], bushes[nearest])


def _bring(state: State) -> jax.Array:
    """On the way to the learner; there, a gift, once it has a free hand."""
    hand_over = jnp.where(state.hand[0] == 0, GIVE, WAIT)
    return jnp.where(within_one_step(state.cell), hand_over, _towards(state.cell[1], state.cell[0]))


def _towards(cell: jax.Array, goal: jax.Array) -> jax.Array:
    """The move that leads from a cell [2] to a goal [2], rows first; to wait where it is."""
    down, right = goal - cell
    sideways = jnp.where(right < 0, 2, jnp.where(right > 0, 3, WAIT))
    return jnp.where(down < 0, 0, jnp.where(down > 0, 1, sideways))
