"""Readouts: does a feeling stay true under shift? One pass over all points of a suite, jitted.

Heads, the agent's critic, untrained heads and innate features (`runs.probes.signals`) meet the
same episodes and the same questions, asked at `next_obs` of every step that did not end its
episode:

* danger: does harm come within `horizon` steps? AUROC and average precision; and how long
  before it does an alarm come (`runs.probes.alarms`), at a level that is fixed at home?
* return: rank correlation with the discounted return of the task from there on.
* rarity: rank correlation with minus the visits that the agent pays, in distribution, to the cell
  of the observation (`runs.probes.visit_counts`).

The last two are asked at every n-th step where there are many more than they need: to rank them all
would take longer than to live them.

Episodes are those of `runs.engine.evaluate.evaluate` under the same key. Episodes of any other
kind, such as those of a host, are asked the same by `point_readouts`, one point after another.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Transition
from envs.world import Env, World
from runs.engine.evaluate import without_reward_noise
from runs.probes.alarms import ALARM_METRICS, alarm_metrics, alarm_threshold
from runs.probes.episodes import Act, record_episodes
from runs.probes.labels import OutcomeLabels, outcome_labels
from runs.probes.ranking import centred_ranks, cosine, discrimination
from runs.probes.signals import Prediction
from runs.probes.visit_counts import VisitCounts, visit_cell, visit_counts

QUESTIONS = ("auroc", "precision", *ALARM_METRICS, "total")
RANKED = ("return", "rarity")
RANKS = 2048  # steps that a rank correlation is taken over, or twice as many, where there are more
BINS = 10  # of a reliability curve, equally wide in [0, 1]


class HomeStatistics(NamedTuple):
    """What is taken from home to all other points.

    Attributes:
        home: what is familiar.
        levels: [K] above which each signal raises the alarm.
    """

    home: VisitCounts
    levels: jax.Array


def readouts(
    signals: dict[str, Prediction],
    act: Act,
    env: Env,
    worlds: World,
    key: jax.Array,
    episodes: int,
    probabilities: tuple[str, ...] = (),
    horizon: int = 10,
    gamma: float = 0.99,
    ranked: bool = True,
) -> dict[str, jax.Array]:
    """What each signal of one seed knows at each point.

    Args:
        signals: name -> prediction, of a frozen learner and of its rivals.
        act: how the learner acts, by its mode where it was scored so.
        env: the family of worlds.
        worlds: leading axes [P, draws], in distribution first, as `Suite.worlds` gives them.
        key: of the evaluation.
        episodes: in each world.
        probabilities: those signals that are probabilities of harm within `horizon`, whose level
            is read too.
        horizon: h in steps.
        gamma: discount of the return.
        ranked: ask for return and rarity too, each of which costs as much as danger does.

    Returns:
        Each [P], NaN where there is nothing to tell. Of all: `steps` that count, `harmed` (their
        share with harm within h), `nearness` (its mean), `return` and `length` of an episode. Of
        each signal: NAME/`auroc`, `precision`, `lead`, `caught`, `alarms`
        (`runs.probes.alarms.alarm_metrics`), `total` (summed over an episode), and if they were
        asked for `return` and `rarity`. Of each probability: NAME/`expected` (its mean, to be held
        against `harmed`), `brier` and `reliability` [P, BINS, 3].

    Raises:
        ValueError: one of the probabilities is no signal.
    """
    for name in probabilities:
        if name not in signals:
            raise ValueError(f"{name} is no signal: probabilities are among {', '.join(signals)}")

    points, draws = worlds.channel.noise.shape
    keys = jax.random.split(key, draws * episodes)

    def point(
        ground: HomeStatistics, place: tuple[jax.Array, World]
    ) -> tuple[HomeStatistics, dict]:
        index, worlds = place
        _, batch, alive = record_episodes(act, env, worlds, keys)
        how = probabilities, horizon, gamma, ranked
        return point_readouts(signals, batch, alive, ground, index == 0, *how)

    places = jnp.arange(points), without_reward_noise(worlds)
    return jax.lax.scan(point, empty_statistics(len(signals), env.spec.obs_dim), places)[1]


def empty_statistics(signals: int, obs_dim: int) -> HomeStatistics:
    """Before home was seen."""
    nowhere = visit_counts(jnp.zeros((1, obs_dim)), jnp.zeros((1,), bool))
    return HomeStatistics(nowhere, jnp.full((signals,), jnp.nan))


def point_readouts(
    signals: dict[str, Prediction],
    batch: Transition,
    alive: jax.Array,
    ground: HomeStatistics,
    at_home: jax.Array,
    probabilities: tuple[str, ...] = (),
    horizon: int = 10,
    gamma: float = 0.99,
    ranked: bool = True,
) -> tuple[HomeStatistics, dict[str, jax.Array]]:
    """What each signal knows at one point -> (ground, the `readouts` there, each []).

    Args:
        signals: as for `readouts`, and so are the last four.
        batch: [T, B] whole episodes, 0 after their end.
        alive: [T, B] bool.
        ground: of home; of nowhere if this is home.
        at_home: [] bool, this is home, and the ground is taken from here.
        probabilities: see there.
        horizon: see there.
        gamma: see there.
        ranked: see there.
    """
    truth = outcome_labels(batch, alive, horizon, gamma)
    calm = truth.known & ~truth.harmed
    said = {name: predict(batch) for name, predict in signals.items()}
    stacked = jnp.stack(list(said.values())) if said else jnp.zeros((0, *alive.shape))
    ground = jax.lax.cond(
        at_home,
        lambda: HomeStatistics(
            visit_counts(batch.next_obs, truth.counted),
            jax.vmap(alarm_threshold, (0, None))(stacked, calm),
        ),
        lambda: ground,
    )
    told = {
        "steps": truth.counted.sum().astype(jnp.float32),
        "harmed": masked_mean(truth.harmed, truth.known),
        "nearness": masked_mean(truth.nearness, truth.known),
        "return": batch.reward.sum(0).mean(),
        "length": alive.sum(0).astype(jnp.float32).mean(),
    }
    if not said:
        return ground, told

    def answer(signal, level):
        danger = discrimination(signal, truth.harmed, truth.known)
        due = truth.known & truth.harmed
        seen = alarm_metrics(signal, level, truth.ahead, due, calm)
        return *danger, *seen, jnp.where(alive, signal, 0.0).sum(0).mean()

    answers = dict(zip(QUESTIONS, jax.vmap(answer)(stacked, ground.levels), strict=True))
    if ranked:
        rarity = -ground.home.visits[visit_cell(ground.home.moments, batch.next_obs)]
        answers |= dict(zip(RANKED, _ranks(stacked, truth, rarity), strict=True))
    for question, each in answers.items():
        told |= {f"{name}/{question}": each[k] for k, name in enumerate(said)}
    for name in probabilities:
        level = calibration(said[name], truth.harmed, truth.known)
        told |= {f"{name}/{part}": value for part, value in level.items()}
    return ground, told


def _ranks(
    stacked: jax.Array, truth: OutcomeLabels, rarity: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rank correlations [K] of signals [K, T, B] with the return and with rarity [T, B]."""
    every = max(truth.worth.size // RANKS, 1)
    stacked, counted, *rest = every_nth_step((stacked, truth.counted, truth.worth, rarity), every)
    worth, rarity = (centred_ranks(one, counted) for one in rest)

    def answer(signal):
        place = centred_ranks(signal, counted)
        return cosine(place, worth), cosine(place, rarity)

    return jax.vmap(answer)(stacked)


def every_nth_step(leaves: tuple[jax.Array, ...], every: int) -> list[jax.Array]:
    """Every n-th step of leaves [..., T, B], 0 behind the last: of each episode other ones."""

    def thin(leaf):
        *front, steps, count = leaf.shape
        room = [(0, 0)] * len(front) + [(0, -steps % every), (0, 0)]
        leaf = jnp.pad(leaf, room).reshape(*front, -1, every, count)
        chosen = (jnp.arange(count) % every).reshape((1,) * (leaf.ndim - 1) + (count,))
        return jnp.take_along_axis(leaf, chosen, -2)[..., 0, :]

    return [thin(leaf) for leaf in leaves]


def calibration(
    prediction: jax.Array, event: jax.Array, counted: jax.Array
) -> dict[str, jax.Array]:
    """Is a probability [...] as high as its event is frequent?

    Returns:
        `expected`, the mean prediction; `brier`, the mean squared error (Brier, 1950); and
        `reliability` [BINS, 3]: share of all steps, mean prediction, frequency of the event.
        Predictions beyond [0, 1] fall into the outermost bins.
    """
    which = jnp.clip(jnp.floor(prediction * BINS), 0, BINS - 1)
    bins = jnp.arange(BINS).reshape(-1, *(1,) * prediction.ndim)
    inside = (which[None] == bins) & counted[None]

    def each(inside):
        return jnp.stack(
            [
                masked_mean(inside, counted),
                masked_mean(prediction, inside),
                masked_mean(event, inside),
            ]
        )

    return {
        "expected": masked_mean(prediction, counted),
        "brier": masked_mean(jnp.square(prediction - event), counted),
        "reliability": jax.vmap(each)(inside),
    }


def masked_mean(x: jax.Array, counted: jax.Array) -> jax.Array:
    """The mean of x [...] where it counts, []; NaN if nothing does."""
    total = jnp.where(counted, x, 0).astype(jnp.float32).sum()
    return total / counted.sum().astype(jnp.float32)
