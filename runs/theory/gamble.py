"""T8 to T10: the Iowa Gambling Task: its cards, human data, and the models fitted to them.

T10 tests two lesions. Losses without effect (lambda = 0) was registered first, and it fails: where
losses have no effect, early losses teach nothing, and the deficit grows because the intact learner
profits. The second was added after that, to express in PVL's parameters how Fellows & Farah (2005)
explain the deficit: a preference for a deck is not unlearned. That it passes shows that their
explanation suffices, and no more.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from agents.pvl import PVL
from agents.qlearning import QLearning
from envs.worlds.theory.gamble import DECKS, UNIT, decks
from runs.analysis import stats
from runs.theory import Target
from runs.theory.gamblers import INTACT, NO_LOSSES, NO_REVERSAL, USUAL, simulate, simulate_orders
from runs.theory.gambling_scores import group_curve, human_scores, slope, total_deficits

PEOPLE = 5_000  # simulated
GREEDY = QLearning(states=1, cell=lambda obs: jnp.zeros(obs.shape[:-1], jnp.int32), gamma=0.0)
MODELS = {
    "PVL-Delta at the healthy median": (INTACT, (-1.20, 1.84, 3.95, 4.14, 3.91)),
    "the same with lambda = 0": (NO_LOSSES, (-2.34, -3.79, -4.54, -5.08, -5.44)),
    "epsilon-greedy Q (.1, .1)": (GREEDY, (6.5, 16.0, 15.9, 16.8, 17.0)),
}
"""Name -> (the learner, its reference blocks on the schedule of 1994).

The references of PVL are not published numbers: they are of our own fits to the published choices
of healthy people (Steingroever et al., 2015), a population whose spread about the median is not
kept here.
"""


def targets(smoke: bool) -> Iterator[Target]:
    """Targets on the cards, the human data, the models, and shuffling under two lesions."""
    yield from _cards()
    yield _human_data()
    people = PEOPLE // 5 if smoke else PEOPLE
    played = {name: simulate(agent, USUAL, people) for name, (agent, _) in MODELS.items()}
    yield from (_model_blocks(name, played[name]) for name in MODELS)
    yield _lesion(played)
    yield _shuffled("losses are not felt (lambda = 0)", NO_LOSSES, people)
    yield _shuffled("liked decks are not unlearned (reversal .25)", NO_REVERSAL, people)


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
    totals = human_scores()["total"]
    error = max(abs(group_curve(name).sum() - total) for name, total in totals.items())
    return Target(
        "T8",
        f"people's blocks add up to their totals, {len(totals)} groups",
        "0, to rounding",
        f"largest difference {error:.2f} cards",
        error < 0.05,
    )


def _model_blocks(name: str, played: np.ndarray) -> Target:
    """T9: every block within .5 of its reference; PVL rows lack the population's spread."""
    reference, ours = np.array(MODELS[name][1]), played.mean(0)
    error = np.abs(ours - reference).max()
    spread = "" if isinstance(MODELS[name][0], QLearning) else ", without people's spread"
    return Target(
        "T9",
        f"Gamble, blocks of {name}{spread}",
        f"{_text(reference)}, +-.5 each",
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
    deficits = total_deficits(simulate_orders(INTACT, people), simulate_orders(lesioned, people))
    reduction = stats.mean(deficits.usual - deficits.shuffled)
    return Target(
        "T10",
        f"Gamble, early losses on top remove the deficit; lesion: {name}",
        "deficit falls (people)",
        f"{deficits.usual.mean():.1f} -> {deficits.shuffled.mean():.1f} cards, "
        f"falls by {reduction:.1f}",
        reduction.low > 0,
    )


def _text(blocks: np.ndarray) -> str:
    return ", ".join(f"{value:.2f}" for value in blocks)
