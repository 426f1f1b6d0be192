"""Gamble: the Iowa Gambling Task, four decks of cards (Bechara et al., 1994)."""

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
UNIT = 100.0  # play dollars per unit of gain, loss and reward
SHUFFLED = 8  # cards moved to the bottom of each deck in Fellows & Farah (2005)
INK, TABLE, GOOD, BAD = "#2b2f36", "#e4e7eb", "#6aa879", "#c8322b"
COLOURS = ("#41597a", "#6c87ad", "#d98324", "#e3ab66")


@cache
def decks() -> tuple[np.ndarray, np.ndarray]:
    """Loads the cards of both schedules, in units of 100 play dollars.

    Returns:
        (gain and loss [2, schedules, decks, cards], short decks filled up by 0s; the number of
        cards [schedules, decks]).
    """
    tables = json.loads((Path(__file__).parents[2] / "data" / "igt_schedules.json").read_text())
    schedules = [tables[name].values() for name in SCHEDULES]
    sizes = np.array([[len(deck["gain"]) for deck in item] for item in schedules], np.int32)
    cards = np.zeros((2, *sizes.shape, sizes.max()), np.float32)
    for s, schedule in enumerate(schedules):
        for d, deck in enumerate(schedule):
            for part, name in enumerate(("gain", "loss")):
                cards[part, s, d, : sizes[s, d]] = np.asarray(deck[name]) / UNIT
    return cards, sizes


class Params(NamedTuple):
    """Schedule of the cards, and order of cards and decks."""

    schedule: jax.Array | int = 0  # index into SCHEDULES
    moved: jax.Array | float = 0.0  # cards moved from the top of each deck to its bottom
    turned: jax.Array | int = 0  # positions by which decks are rotated; 2 exchanges bad and good


class State(NamedTuple):
    """Cards taken from each deck [4] int32, and the last gain and loss []."""

    taken: jax.Array
    gain: jax.Array
    loss: jax.Array


class Gamble(Env):
    """Choice of 100 cards from four decks, two with a net loss and two with a net gain.

    Decks A and B pay 100 play dollars a card and lose 250 net in ten cards; C and D pay 50 and win
    250. A and C have losses on half of their cards, B and D on one in ten. The schedule of 1994
    repeats after its 40 cards, as in the paper. In that of 1999 losses grow from block to block;
    its decks have 40 to 60 cards here, and repeat as well.

    `moved=8` is the shuffled variant of Fellows & Farah (2005): the first eight cards of each deck
    lie at its bottom, so that a bad deck has losses from the start.

    Gain, loss and reward (gain - loss) are in units of 100 play dollars. Observation [3]: the last
    gain and loss, and the share of trials completed. `info`: `gain` and `loss` of the card,
    `foregone` [4], the net gain of the top card of each deck, and `harm`, 1 where the card's loss
    exceeds its gain.

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
        """Defaults: the schedule of 1994 in its original order."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Initial state: no card taken."""
        return State(jnp.zeros(DECKS, jnp.int32), jnp.zeros(()), jnp.zeros(()))

    def on_top(self, state: State, params: Params) -> tuple[jax.Array, jax.Array]:
        """Gains and losses [4] of the top cards of the decks."""
        cards, sizes = map(jnp.asarray, decks())
        places = jnp.arange(DECKS)
        deck = (places + params.turned) % DECKS
        moved = jnp.round(jnp.asarray(params.moved, jnp.float32)).astype(jnp.int32)
        card = (state.taken + moved) % sizes[params.schedule, deck]
        gain, loss = cards[:, params.schedule, deck, card]
        return gain, loss

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """Takes the top card of the chosen deck."""
        gain, loss = self.on_top(state, params)
        return State(state.taken.at[action].add(1), gain[action], loss[action])

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Observation [3]: last gain, last loss, share of trials completed."""
        progress = state.taken.sum() / jnp.float32(self.horizon)
        return jnp.stack([state.gain, state.loss, progress])

    def reward(
        self, state: State, action: jax.Array, next_state: State, rng, params: Params
    ) -> jax.Array:
        """Reward: gain minus loss."""
        return next_state.gain - next_state.loss

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode terminates: never, it is truncated at the horizon."""
        return jnp.zeros((), bool)

    def transition_info(self, state, action, next_state: State, params: Params) -> dict:
        """Info: `gain`, `loss` and `harm` of the card, `foregone` of all top cards."""
        gains, losses = self.on_top(state, params)
        return {
            "gain": next_state.gain,
            "loss": next_state.loss,
            "foregone": gains - losses,
            "harm": (next_state.loss > next_state.gain).astype(jnp.float32),
        }

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether the return of episodes is positive."""
        return total > 0

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws four decks and the last card -> (None, picture uint8 [320, 560, 3])."""
        from envs.draw import Canvas

        params = self.default_params if params is None else params
        canvas = Canvas((560, 320), 1.0, (0, 320), "#f7f8fa")
        canvas.box((20, 20), (540, 250), TABLE, 12)
        most = max(int(state.taken.max()), 20)
        for place, taken in enumerate(np.asarray(state.taken)):
            deck = (place + int(params.turned)) % DECKS
            left = 45 + 125 * place
            for k in range(4):
                low = 110 + 3 * k
                canvas.box((left + 3 * k, low), (left + 80 + 3 * k, low + 110), COLOURS[deck], 8)
            canvas.text((left + 50, 120), "ABCD"[deck], "white", 34, anchor="ma")
            canvas.box((left, 60), (left + 92, 72), "white", 4)
            canvas.box((left, 60), (left + max(92 * taken / most, 1), 72), INK, 4)
            canvas.text((left + 46, 266), f"{taken} taken", INK, 13, anchor="ma")
        gain, loss = UNIT * float(state.gain), UNIT * float(state.loss)
        canvas.text((24, 16), f"trial {int(state.taken.sum())} of {self.horizon}", INK, 18)
        canvas.text((300, 16), f"won {gain:.0f}", GOOD, 18)
        canvas.text((536, 16), f"lost {loss:.0f}", BAD if loss else INK, 18, anchor="ra")
        return None, canvas.array()


def suite() -> Suite:
    """Suite Gamble: the schedule of 1994; shifts of card order, schedule and deck order."""
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
