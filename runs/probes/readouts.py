"""Readouts: AUROC, rank correlation and calibration of frozen signals at one evaluation point.

Heads, the agent's critic, untrained heads and innate features (`runs.probes.signals`) are evaluated
on the same episodes, at `next_obs` of every step that did not end its episode:

* danger: harm within `horizon` steps. AUROC, average precision, and the lead time of alarms
  (`runs.probes.alarms`) at a threshold fixed in the unshifted world ("home").
* return: rank correlation with the discounted return of the task from there on.
* rarity: rank correlation with minus the agent's visits at home to the cell of the observation. A
  cell is a SimHash (Tang et al., 2017): the signs of BITS random projections of the observation,
  whitened by its moments at home.

The rank correlations use every n-th step where there are many more than they need: to rank all
steps would take longer than the episodes. `runs.probes.probe` computes readouts of all seeds.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Spec, Transition
from affect.moments import Moments, whiten
from affect.observation import read_obs, read_spec
from runs.probes.alarms import ALARM_METRICS, alarm_metrics, alarm_threshold
from runs.probes.labels import OutcomeLabels, outcome_labels
from runs.probes.ranking import centred_ranks, cosine, discrimination
from runs.probes.signals import Prediction

SIGNAL_METRICS = ("auroc", "precision", *ALARM_METRICS)
RANK_METRICS = ("return", "rarity")
RANKS = 2048  # a rank correlation uses this many to twice as many steps, or all if fewer
BINS = 10  # of a reliability curve, equally wide in [0, 1]
BITS = 8  # of the hash of an observation: there are 256 cells


class HomeStatistics(NamedTuple):
    """Statistics of the unshifted world ("home") that the readouts of all points use.

    Attributes:
        moments: of the observations [D].
        visits: [2^BITS], visits of the agent to each cell of observations.
        thresholds: [K], above which each signal raises an alarm.
    """

    moments: Moments
    visits: jax.Array
    thresholds: jax.Array


def home_statistics(values: jax.Array, obs: jax.Array, labels: OutcomeLabels) -> HomeStatistics:
    """Statistics of one seed's obs [T, B, D] at home, for signals with values [K, T, B]."""
    thresholds = jax.vmap(alarm_threshold, (0, None))(values, labels.known & ~labels.harmed)
    return HomeStatistics(*visit_counts(obs, labels.counted), thresholds)


def blank_statistics(signals: dict[str, Prediction], spec: Spec) -> HomeStatistics:
    """Home statistics of worlds of shapes `spec`, all 0, for the first call of `point_readouts`."""
    zeros = jnp.zeros(read_spec(spec).obs_dim)
    moments = Moments(jnp.zeros(()), zeros, zeros)
    return HomeStatistics(moments, jnp.zeros(2**BITS), jnp.zeros(len(signals)))


def point_readouts(
    signals: dict[str, Prediction],
    spec: Spec,
    batch: Transition,
    alive: jax.Array,
    home: HomeStatistics,
    is_home: jax.Array | bool = False,
    probabilities: tuple[str, ...] = (),
    horizon: int = 10,
    gamma: float = 0.99,
    ranked: bool = True,
) -> tuple[HomeStatistics, dict[str, jax.Array]]:
    """Compute what each signal of one seed predicts at one point.

    Args:
        signals: name -> prediction, of a frozen agent and its baselines.
        spec: of the world; cells are those of what heads read of an observation.
        batch: [T, B] whole episodes, 0 after their end.
        alive: [T, B] bool.
        home: of the same signals.
        is_home: [] bool, whether to take the statistics of this batch in the place of `home`, so
            that one program serves home and all other points.
        probabilities: signals that are probabilities of harm within `horizon`, whose calibration is
            measured as well.
        horizon: h in steps.
        gamma: discount of the return.
        ranked: also compute `return` and `rarity`, each of which costs as much as danger does.

    Returns:
        The statistics of home, and readouts, each [], NaN where undefined. For all signals
        together: `steps` that count, `harmed` (their share with harm within h), `nearness` (its
        mean). For each signal: NAME/`auroc`, `precision`, `lead`, `caught`, `alarms`
        (`runs.probes.alarms.alarm_metrics`), and if `ranked` `return` and `rarity`. For each
        probability: NAME/`expected` (its mean, to compare with `harmed`), `brier` and
        `reliability` [BINS, 3].
    """
    labels = outcome_labels(batch, alive, horizon, gamma)
    due, calm = labels.known & labels.harmed, labels.known & ~labels.harmed
    values = {name: predict(batch) for name, predict in signals.items()}
    stacked = jnp.stack(list(values.values()))
    obs = read_obs(spec, batch.next_obs)
    home = jax.lax.cond(is_home, lambda: home_statistics(stacked, obs, labels), lambda: home)

    def measure(signal, threshold):
        danger = discrimination(signal, labels.harmed, labels.known)
        return *danger, *alarm_metrics(signal, threshold, labels.steps_to_harm, due, calm)

    measured = dict(zip(SIGNAL_METRICS, jax.vmap(measure)(stacked, home.thresholds), strict=True))
    if ranked:
        rarity = -home.visits[visit_cell(home.moments, obs)]
        measured |= dict(zip(RANK_METRICS, _ranks(stacked, labels, rarity), strict=True))
    metrics = {
        "steps": labels.counted.sum().astype(jnp.float32),
        "harmed": masked_mean(labels.harmed, labels.known),
        "nearness": masked_mean(labels.nearness, labels.known),
    }
    for metric, by_signal in measured.items():
        metrics |= {f"{name}/{metric}": by_signal[k] for k, name in enumerate(values)}
    for name in probabilities:
        calibrated = calibration(values[name], labels.harmed, labels.known)
        metrics |= {f"{name}/{part}": value for part, value in calibrated.items()}
    return home, metrics


def visit_counts(obs: jax.Array, counted: jax.Array) -> tuple[Moments, jax.Array]:
    """Moments of the observations [..., D] where counted [...], and visits to cells [2^BITS]."""
    number = jnp.maximum(counted.sum(), 1).astype(jnp.float32)
    weight = counted.reshape(-1, 1).astype(jnp.float32)
    flat = obs.reshape(-1, obs.shape[-1])
    mean = (weight * flat).sum(0) / number
    m2 = (weight * jnp.square(flat - mean[None])).sum(0)
    moments = Moments(number, mean, m2)
    return moments, jnp.zeros(2**BITS).at[visit_cell(moments, flat)].add(weight[:, 0])


def visit_cell(moments: Moments, obs: jax.Array) -> jax.Array:
    """Index [...] int32 of the cell that contains obs [..., D]."""
    planes = jax.random.normal(jax.random.key(0), (obs.shape[-1], BITS))
    sides = (whiten(moments, obs, 5.0) @ planes > 0).astype(jnp.int32)
    return sides @ (2 ** jnp.arange(BITS))


def _ranks(
    stacked: jax.Array, labels: OutcomeLabels, rarity: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rank correlations [K] of signals [K, T, B] with the return and with rarity [T, B]."""
    every = max(labels.return_to_go.size // RANKS, 1)
    leaves = stacked, labels.counted, labels.return_to_go, rarity
    stacked, counted, *rest = every_nth_step(leaves, every)
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
        means = masked_mean(prediction, inside), masked_mean(event, inside)
        return jnp.stack([masked_mean(inside, counted), *means])

    return {
        "expected": masked_mean(prediction, counted),
        "brier": masked_mean(jnp.square(prediction - event), counted),
        "reliability": jax.vmap(summarise)(inside),
    }


def masked_mean(x: jax.Array, counted: jax.Array) -> jax.Array:
    """Mean of x [...] where counted, []; NaN if nothing is counted."""
    total = jnp.where(counted, x, 0).astype(jnp.float32).sum()
    return total / counted.sum().astype(jnp.float32)
