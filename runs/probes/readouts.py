"""Readouts: AUROC, rank correlation and calibration of frozen signals at each point of a suite.

Heads, the agent's critic, untrained heads and innate features (`runs.probes.signals`) are evaluated
on the same episodes, at `next_obs` of every step that did not end its episode:

* danger: harm within `horizon` steps. AUROC, average precision, and the lead time of alarms
  (`runs.probes.alarms`) at a threshold fixed in the unshifted world ("home").
* return: rank correlation with the discounted return of the task from there on.
* rarity: rank correlation with minus the agent's visits at home to the cell of the observation
  (`runs.probes.visit_counts`).

The rank correlations use every n-th step where there are many more than they need: to rank all
steps would take longer than the episodes.

Episodes are those of `runs.engine.evaluate.evaluate` under the same key. For other episodes, such
as those of a host-stepped environment, call `point_readouts` for one point after another.
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

SIGNAL_METRICS = ("auroc", "precision", *ALARM_METRICS, "total")
RANK_METRICS = ("return", "rarity")
RANKS = 2048  # a rank correlation uses this many to twice as many steps, or all if fewer
BINS = 10  # of a reliability curve, equally wide in [0, 1]


class HomeStatistics(NamedTuple):
    """Statistics of the unshifted world ("home") that all other points use.

    Attributes:
        counts: visits of the agent at home.
        thresholds: [K], above which each signal raises an alarm.
    """

    counts: VisitCounts
    thresholds: jax.Array


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
    """Compute what each signal of one seed predicts at each evaluation point.

    Args:
        signals: name -> prediction, of a frozen agent and its baselines.
        act: the policy, deterministic where the agent was scored so.
        env: the family of worlds.
        worlds: leading axes [P, draws], home first, as `Suite.worlds` returns them.
        key: of the evaluation.
        episodes: in each world.
        probabilities: signals that are probabilities of harm within `horizon`, whose calibration is
            measured as well.
        horizon: h in steps.
        gamma: discount of the return.
        ranked: also compute `return` and `rarity`, each of which costs as much as danger does.

    Returns:
        Each [P], NaN where undefined. For all signals together: `steps` that count, `harmed` (their
        share with harm within h), `nearness` (its mean), `return` and `length` of an episode. For
        each signal: NAME/`auroc`, `precision`, `lead`, `caught`, `alarms`
        (`runs.probes.alarms.alarm_metrics`), `total` (summed over an episode), and if `ranked`
        `return` and `rarity`. For each probability: NAME/`expected` (its mean, to compare with
        `harmed`), `brier` and `reliability` [P, BINS, 3].

    Raises:
        ValueError: one of the probabilities is no signal.
    """
    for name in probabilities:
        if name not in signals:
            raise ValueError(f"{name} is no signal: probabilities are among {', '.join(signals)}")

    points, draws = worlds.channel.noise.shape
    keys = jax.random.split(key, draws * episodes)

    def at_point(
        statistics: HomeStatistics, place: tuple[jax.Array, World]
    ) -> tuple[HomeStatistics, dict]:
        index, worlds = place
        _, batch, alive = record_episodes(act, env, worlds, keys)
        options = probabilities, horizon, gamma, ranked
        return point_readouts(signals, batch, alive, statistics, index == 0, *options)

    places = jnp.arange(points), without_reward_noise(worlds)
    return jax.lax.scan(at_point, empty_statistics(len(signals), env.spec.obs_dim), places)[1]


def empty_statistics(signals: int, obs_dim: int) -> HomeStatistics:
    """Statistics without any observation, to be replaced at the first point (home)."""
    no_visits = visit_counts(jnp.zeros((1, obs_dim)), jnp.zeros((1,), bool))
    return HomeStatistics(no_visits, jnp.full((signals,), jnp.nan))


def point_readouts(
    signals: dict[str, Prediction],
    batch: Transition,
    alive: jax.Array,
    statistics: HomeStatistics,
    at_home: jax.Array,
    probabilities: tuple[str, ...] = (),
    horizon: int = 10,
    gamma: float = 0.99,
    ranked: bool = True,
) -> tuple[HomeStatistics, dict[str, jax.Array]]:
    """Compute what each signal predicts at one point -> (home statistics, readouts, each []).

    Args:
        signals: as for `readouts`, and so are the last four.
        batch: [T, B] whole episodes, 0 after their end.
        alive: [T, B] bool.
        statistics: of home; ignored if this point is home.
        at_home: [] bool, this point is home, and its statistics are taken from `batch`.
        probabilities: see `readouts`.
        horizon: see `readouts`.
        gamma: see `readouts`.
        ranked: see `readouts`.
    """
    labels = outcome_labels(batch, alive, horizon, gamma)
    calm = labels.known & ~labels.harmed
    values = {name: predict(batch) for name, predict in signals.items()}
    stacked = jnp.stack(list(values.values())) if values else jnp.zeros((0, *alive.shape))
    statistics = jax.lax.cond(
        at_home,
        lambda: HomeStatistics(
            visit_counts(batch.next_obs, labels.counted),
            jax.vmap(alarm_threshold, (0, None))(stacked, calm),
        ),
        lambda: statistics,
    )
    metrics = {
        "steps": labels.counted.sum().astype(jnp.float32),
        "harmed": masked_mean(labels.harmed, labels.known),
        "nearness": masked_mean(labels.nearness, labels.known),
        "return": batch.reward.sum(0).mean(),
        "length": alive.sum(0).astype(jnp.float32).mean(),
    }
    if not values:
        return statistics, metrics

    def measure(signal, threshold):
        danger = discrimination(signal, labels.harmed, labels.known)
        due = labels.known & labels.harmed
        alarms = alarm_metrics(signal, threshold, labels.steps_to_harm, due, calm)
        return *danger, *alarms, jnp.where(alive, signal, 0.0).sum(0).mean()

    measured = dict(
        zip(SIGNAL_METRICS, jax.vmap(measure)(stacked, statistics.thresholds), strict=True)
    )
    if ranked:
        rarity = -statistics.counts.visits[visit_cell(statistics.counts.moments, batch.next_obs)]
        measured |= dict(zip(RANK_METRICS, _ranks(stacked, labels, rarity), strict=True))
    for metric, by_signal in measured.items():
        metrics |= {f"{name}/{metric}": by_signal[k] for k, name in enumerate(values)}
    for name in probabilities:
        calibrated = calibration(values[name], labels.harmed, labels.known)
        metrics |= {f"{name}/{part}": value for part, value in calibrated.items()}
    return statistics, metrics


def _ranks(
    stacked: jax.Array, labels: OutcomeLabels, rarity: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rank correlations [K] of signals [K, T, B] with the return and with rarity [T, B]."""
    every = max(labels.return_to_go.size // RANKS, 1)
    stacked, counted, *rest = every_nth_step(
        (stacked, labels.counted, labels.return_to_go, rarity), every
    )
    return_to_go, rarity = (centred_ranks(leaf, counted) for leaf in rest)

    def correlate(signal):
        ranks = centred_ranks(signal, counted)
        return cosine(ranks, return_to_go), cosine(ranks, rarity)

    return jax.vmap(correlate)(stacked)


def every_nth_step(leaves: tuple[jax.Array, ...], every: int) -> list[jax.Array]:
    """Every n-th step of leaves [..., T, B], padded with 0; the offset differs between episodes."""

    def thin(leaf):
        *front, steps, count = leaf.shape
        padding = [(0, 0)] * len(front) + [(0, -steps % every), (0, 0)]
        leaf = jnp.pad(leaf, padding).reshape(*front, -1, every, count)
        offsets = (jnp.arange(count) % every).reshape((1,) * (leaf.ndim - 1) + (count,))
        return jnp.take_along_axis(leaf, offsets, -2)[..., 0, :]

    return [thin(leaf) for leaf in leaves]


def calibration(
    prediction: jax.Array, event: jax.Array, counted: jax.Array
) -> dict[str, jax.Array]:
    """Calibration of a probability [...] of an event over counted steps.

    Returns:
        `expected`, the mean prediction; `brier`, the mean squared error (Brier, 1950); and
        `reliability` [BINS, 3]: share of all steps, mean prediction, frequency of the event.
        Predictions outside [0, 1] fall into the outermost bins.
    """
    bin_of = jnp.clip(jnp.floor(prediction * BINS), 0, BINS - 1)
    bins = jnp.arange(BINS).reshape(-1, *(1,) * prediction.ndim)
    inside = (bin_of[None] == bins) & counted[None]

    def summarise(inside):
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
        "reliability": jax.vmap(summarise)(inside),
    }


def masked_mean(x: jax.Array, counted: jax.Array) -> jax.Array:
    """Mean of x [...] where counted, []; NaN if nothing is counted."""
    total = jnp.where(counted, x, 0).astype(jnp.float32).sum()
    return total / counted.sum().astype(jnp.float32)
