"""Gamble: the Iowa Gambling Task (Bechara et al., 1994)."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.shift import ramp, swap
from envs.suite import Suite
from envs.world import Env, World

DECKS, TRIALS = 4, 100
SCHEDULES = ("1994", "1999")
UNIT = 100.0  # play dollars in one unit of gain, loss and reward
SHUFFLED = 8  # cards moved to the bottom of each deck in Fellows & Farah (2005)
INK, TABLE, GOOD, BAD = "#2b2f36", "#e4e7eb", "#6aa879", "#c8322b"
COLOURS = ("#41597a", "#6c87ad", "#d98324", "#e3ab66")


@cache
def decks() -> tuple[np.ndarray, np.ndarray]:
    """The cards in units of 100 play dollars.

    Returns:
        (gain and loss [2, schedules, decks, cards], short decks filled up by 0s; the number of
        cards [schedules, decks]).
    """
    tables = json.loads((Path(__file__).parents[2] / "data" / "igt_schedules.json").read_text())
    found = [tables[name].values() for name in SCHEDULES]
    sizes = np.array([[len(deck["gain"]) for deck in each] for each in found], np.int32)
    cards = np.zeros((2, *sizes.shape, sizes.max()), np.float32)
    for s, each in enumerate(found):
        for d, deck in enumerate(each):
            for part, name in enumerate(("gain", "loss")):
                cards[part, s, d, : sizes[s, d]] = np.asarray(deck[name]) / UNIT
    return cards, sizes


class Params(NamedTuple):
    """Which cards lie where."""

    schedule: jax.Array | int = 0  # index into SCHEDULES
    moved: jax.Array | float = 0.0  # cards moved from the top of each deck to its bottom
    turned: jax.Array | int = 0  # places by which the decks are shifted: 2 exchanges bad and good


class State(NamedTuple):
    """What lies open: cards taken from each deck [4] int32, the last gain and loss []."""

    taken: jax.Array
    gain: jax.Array
    loss: jax.Array


class Gamble(Env):
    """A hundred cards from four decks, two of which cost more in the end than they pay.

    Decks A and B pay 100 play dollars a card and lose 250 net in ten cards; C and D pay 50 and win
    250. A and C lose on half of their cards, B and D on one in ten. The schedule of 1994 repeats
    after its 40 cards, as in the paper. That of 1999 grows harsher block by block; its decks have
    40 to 60 cards here, and where one is exhausted it begins again, too.

    `moved=8` is the shuffled variant of Fellows & Farah (2005): the first eight cards of each deck
    lie at its bottom, so that a bad deck shows its losses at once.

    Gain, loss, reward (their difference) are in units of 100 play dollars. Observation [3]: the
    last gain and loss, and the share of the trials that are over. `info`: `gain` and `loss` of the
    card, `foregone` [4], what each deck's next card would have paid net, and `harm`, 1 where the
    card costs more than it pays.

    Args:
        horizon: trials; 100 in the paper.
    """

    spec = Spec(obs_dim=3, num_actions=DECKS, info=("gain", "loss", "foregone", "harm"))
    obs_scale = (1.0, 1.0, 1.0)
    observation_space = spaces.Box(0.0, np.array([2, 13, 1], np.float32), (3,), np.float32)
    action_space = spaces.Discrete(DECKS)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}

    def __init__(self, horizon: int = TRIALS):
        super().__init__()
        self.horizon = horizon

    def get_default_params(self, **kwargs: float) -> Params:
        """The schedule of 1994, in its order."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """All decks are whole."""
        return State(jnp.zeros(DECKS, jnp.int32), jnp.zeros(()), jnp.zeros(()))

    def on_top(self, state: State, params: Params) -> tuple[jax.Array, jax.Array]:
        """Gain and loss [4] of the cards that lie on top."""
        cards, sizes = map(jnp.asarray, decks())
        places = jnp.arange(DECKS)
        deck = (places + params.turned) % DECKS
        moved = jnp.round(jnp.asarray(params.moved, jnp.float32)).astype(jnp.int32)
        card = (state.taken + moved) % sizes[params.schedule, deck]
        gain, loss = cards[:, params.schedule, deck, card]
        return gain, loss

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """Takes the top card of a deck."""
        gain, loss = self.on_top(state, params)
        return State(state.taken.at[action].add(1), gain[action], loss[action])

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Last gain, last loss, share of trials over."""
        over = state.taken.sum() / jnp.float32(self.horizon)
        return jnp.stack([state.gain, state.loss, over])

    def reward(
        self, state: State, action: jax.Array, next_state: State, rng, params: Params
    ) -> jax.Array:
        """Gain less loss."""
        return next_state.gain - next_state.loss

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Never: the horizon ends it."""
        return jnp.zeros((), bool)

    def transition_info(self, state, action, next_state: State, params: Params) -> dict:
        """`gain`, `loss`, `foregone` and `harm` of the card."""
        gains, losses = self.on_top(state, params)
        return {
            "gain": next_state.gain,
            "loss": next_state.loss,
            "foregone": gains - losses,
            "harm": (next_state.loss > next_state.gain).astype(jnp.float32),
        }

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Richer than at the start."""
        return total > 0

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws four decks and the last card -> (None, picture uint8 [320, 560, 3])."""
        from envs.draw import Canvas

        params = self.default_params if params is None else params
        sheet = Canvas((560, 320), 1.0, (0, 320), "#f7f8fa")
        sheet.box((20, 20), (540, 250), TABLE, 12)
        most = max(int(state.taken.max()), 20)
        for place, taken in enumerate(np.asarray(state.taken)):
            deck = (place + int(params.turned)) % DECKS
            left = 45 + 125 * place
            for k in range(4):
                low = 110 + 3 * k
                sheet.box((left + 3 * k, low), (left + 80 + 3 * k, low + 110), COLOURS[deck], 8)
            sheet.text((left + 50, 120), "ABCD"[deck], "white", 34, anchor="ma")
            sheet.box((left, 60), (left + 92, 72), "white", 4)
            sheet.box((left, 60), (left + max(92 * taken / most, 1), 72), INK, 4)
            sheet.text((left + 46, 266), f"{taken} taken", INK, 13, anchor="ma")
        gain, loss = UNIT * float(state.gain), UNIT * float(state.loss)
        sheet.text((24, 16), f"trial {int(state.taken.sum())} of {self.horizon}", INK, 18)
        sheet.text((300, 16), f"won {gain:.0f}", GOOD, 18)
        sheet.text((536, 16), f"lost {loss:.0f}", BAD if loss else INK, 18, anchor="ra")
        return None, sheet.array()


def suite() -> Suite:
    """The task of 1994 under other orders and schedules of its cards."""
    env = Gamble()
    return Suite(
        name="Gamble",
        env=env,
        world=World(env.get_default_params()),
        randomised=swap("R", "dynamics", "params.schedule", (0, 1)),
        shifts=(
            ramp("shuffled", "dynamics", "params.moved", to=float(SHUFFLED)),
            swap("schedule", "dynamics", "params.schedule", (1,)),
            swap("reversed", "layout", "params.turned", (2,)),
        ),
    )
