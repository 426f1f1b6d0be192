"""T8 to T10: the Iowa Gambling Task: its cards, human data, and the models fitted to them.

T10 tests two lesions. Losses without effect (lambda = 0) was registered first, and it fails: where
losses have no effect, early losses teach nothing, and the deficit grows because the intact learner
profits. The second was added after that, to express in PVL's parameters how Fellows & Farah (2005)
explain the deficit: a preference for a deck is not unlearned. That it passes shows that their
explanation suffices, and no more.
"""

import csv
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend
from agents.pvl import PVL
from agents.qlearning import QLearning
from envs.world import World
from envs.worlds.theory.gamble import DECKS, SHUFFLED, TRIALS, UNIT, Gamble, Params, decks
from runs.analysis import stats
from runs.engine.train import seed_keys, vmap_seeds
from runs.theory.target import Target

PEOPLE = Path(__file__).parents[1] / "data" / "igt_human_blocks.csv"
ENV, BLOCK, NO_HEADS = Gamble(), 20, Blend()
SIMULATED = 5_000
INTACT, LESIONED = PVL(), PVL(aversion=0.0)
CLINGING = PVL(reversal=0.25)  # the second lesion of T10
GREEDY = QLearning(states=1, cell=lambda obs: jnp.zeros(obs.shape[:-1], jnp.int32), gamma=0.0)

MODELS = {
    "PVL-Delta at the healthy median": (INTACT, (-1.20, 1.84, 3.95, 4.14, 3.91)),
    "the same with lambda = 0": (LESIONED, (-2.34, -3.79, -4.54, -5.08, -5.44)),
    "epsilon-greedy Q (.1, .1)": (GREEDY, (6.5, 16.0, 15.9, 16.8, 17.0)),
}
"""Name -> (the learner, its published blocks on the schedule of 1994).

The published PVL rows are of a population spread about the median, whose spread is not public here.
"""


def play_session(key: jax.Array, agent: Any, params: Params, blend: Blend = NO_HEADS) -> jax.Array:
    """Simulate one person's 100 trials -> decks chosen [100].

    Args:
        key: random key.
        agent: init, act, update.
        params: of the task.
        blend: heads whose signals the agent gets beside the payoff.
    """
    k_init, k_heads, k_reset, k_play = jax.random.split(key, 4)
    learner = agent.init(k_init, ENV.spec, len(blend.names))
    blend_state = blend.init(k_heads, ENV.spec, 1)
    env_state = ENV.reset(k_reset, World(params))

    def trial(carry, key):
        learner, blend_state, env_state = carry
        k_act, k_step, k_update = jax.random.split(key, 3)
        action = agent.act(learner, k_act, env_state.obs)
        env_state, transition = ENV.step(k_step, env_state, action)
        batch = jax.tree.map(lambda leaf: leaf[None, None], transition)
        signals, blend_state, _ = blend.update(blend_state, batch)
        learner, _ = agent.update(learner, k_update, batch, signals)
        return (learner, blend_state, env_state), action

    return jax.lax.scan(trial, (learner, blend_state, env_state), jax.random.split(k_play, TRIALS))[
        1
    ]


def blocks(choices: np.ndarray) -> np.ndarray:
    """Net score (C + D) - (A + B) of each block of 20 cards [..., 5], from decks [..., 100]."""
    good = np.where(np.asarray(choices) >= DECKS // 2, 1, -1)
    return good.reshape(*good.shape[:-1], -1, BLOCK).sum(-1)


def simulate(
    agent: Any, params: Params, people: int, base: int = 0, blend: Blend = NO_HEADS
) -> np.ndarray:
    """Simulate blocks [people, 5]; people differ in random numbers alone, paired by number."""
    keys = seed_keys(base, np.arange(people))
    return blocks(_program(blend, people)(keys, agent, params))


@cache
def _program(blend: Blend, people: int) -> Callable:
    return vmap_seeds(partial(play_session, blend=blend), people, shared=2)


def slope(blocks: np.ndarray) -> np.ndarray:
    """Least-squares slope of net score over the blocks [..., 5], in cards a block."""
    return blocks @ np.arange(-2.0, 3.0) / 10.0


def human_blocks() -> dict[str, dict[str, float]]:
    """Human scores by group and column, from the CSV file."""
    with PEOPLE.open() as file:
        rows = list(csv.DictReader(file))
    return {
        row["group"]: {key: float(value) for key, value in row.items() if key != "group" and value}
        for row in rows
    }


def group_curve(group: str) -> np.ndarray:
    """The five block scores of a group of people, [5]."""
    return np.array([human_blocks()[group][f"block{k}"] for k in range(1, 6)])


# --- the targets ------------------------------------------------------------------------------


def targets(smoke: bool) -> Iterator[Target]:
    """Targets on the cards, the human data, the models, and shuffling under two lesions."""
    yield from _cards()
    yield _human_data()
    people = SIMULATED // 5 if smoke else SIMULATED
    played = {name: simulate(agent, Params(), people) for name, (agent, _) in MODELS.items()}
    yield from (_model_blocks(name, played[name]) for name in MODELS)
    yield _lesion(played)
    yield _shuffled("losses are not felt (lambda = 0)", LESIONED, people)
    yield _shuffled("liked decks are not unlearned (reversal .25)", CLINGING, people)


def _cards() -> Iterator[Target]:
    """T8 on the decks: net of every ten cards, and share of cards with a loss."""
    cards, _ = decks()
    gain, loss = (UNIT * cards[:, 0]).reshape(2, DECKS, -1)[:, :, :40].reshape(2, DECKS, 4, 10)
    net, often = (gain - loss).sum(-1), (loss > 0).mean(-1)
    yield Target(
        "T8",
        "Gamble, schedule of 1994: net of every ten cards from A, B, C, D",
        "-250, -250, +250, +250",
        ", ".join(f"{value:+.0f}" for value in net.mean(1)),
        bool((net == np.array([[-250.0], [-250.0], [250.0], [250.0]])).all()),
    )
    yield Target(
        "T8",
        "Gamble, schedule of 1994: share of cards with a loss in A, B, C, D",
        ".5, .1, .5, .1",
        ", ".join(f"{value:.1f}" for value in often.mean(1)),
        bool(np.allclose(often, np.array([[0.5], [0.1], [0.5], [0.1]]))),
    )


def _human_data() -> Target:
    """T8 on the human data: block scores add up to the totals."""
    groups = human_blocks()
    error = max(abs(group_curve(name).sum() - group["total"]) for name, group in groups.items())
    return Target(
        "T8",
        "people's blocks add up to their totals, 4 groups",
        "0, to rounding",
        f"largest difference {error:.2f} cards",
        error < 0.05,
    )


def _model_blocks(name: str, played: np.ndarray) -> Target:
    """T9: every block within .5 of the published one; PVL rows lack the population's spread."""
    published, ours = np.array(MODELS[name][1]), played.mean(0)
    error = np.abs(ours - published).max()
    spread = "" if isinstance(MODELS[name][0], QLearning) else ", without people's spread"
    return Target(
        "T9",
        f"Gamble, blocks of {name}{spread}",
        f"{_text(published)}, +-.5 each",
        f"{_text(ours)} ({len(played)} people); at most {error:.2f} apart",
        bool(error <= 0.5),
    )


def _lesion(played: dict[str, np.ndarray]) -> Target:
    """T9: the score rises over blocks in the intact model, and not without losses."""
    intact, lesioned = (slope(played[name]) for name in list(MODELS)[:2])
    intact_mean, lesioned_mean = stats.mean(intact), stats.mean(lesioned)
    return Target(
        "T9",
        "Gamble, slope over blocks: intact, and with losses not felt",
        "above 0, and not",
        f"{intact_mean:+.2f}, {lesioned_mean:+.2f} cards a block",
        intact_mean.low > 0 and lesioned_mean.high <= 0,
    )


def _shuffled(name: str, lesioned: PVL, people: int) -> Target:
    """T10: how much shuffling (early losses on top) reduces the total deficit of a lesion."""
    orders = (Params(), Params(moved=float(SHUFFLED)))
    usual, shuffled = (
        (simulate(INTACT, order, people) - simulate(lesioned, order, people)).sum(1)
        for order in orders
    )
    reduction = stats.mean(usual - shuffled)
    return Target(
        "T10",
        f"Gamble, early losses on top remove the deficit; lesion: {name}",
        "deficit falls (people)",
        f"{usual.mean():.1f} -> {shuffled.mean():.1f} cards, falls by {reduction:.1f}",
        reduction.low > 0,
    )


def _text(blocks: np.ndarray) -> str:
    return ", ".join(f"{value:.2f}" for value in blocks)
