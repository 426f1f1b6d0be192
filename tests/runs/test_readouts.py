"""Readouts: ranks against scipy, levels in closed form, and reading of trained heads."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from affect import (
    Blend,
    Constant,
    Curiosity,
    Fear,
    Hope,
    Lesion,
    Mood,
    Normalised,
    Potential,
    Sham,
    Transition,
    Untrained,
)
from agents.ppo import PPO
from envs import load_suite
from envs.shift import scale
from envs.suite import Suite
from envs.world import World
from envs.worlds.classic.cartpole import CartPole
from envs.worlds.theory.corridor import Corridor
from runs.engine.episodes import record_episodes
from runs.engine.seeds import FAST_COMPILE
from runs.engine.train import TrainConfig, init_learner
from runs.probes.labels import outcome_labels
from runs.probes.probe import arm_signals, probe_recordings
from runs.probes.ranking import discrimination, midranks, rank_correlation
from runs.probes.readouts import calibration, every_nth_step, visit_cell, visit_counts
from runs.probes.signals import read_signal, signal_sum

CASES, N = 30, 60
jit_discrimination, jit_midranks, jit_rank_correlation = map(
    jax.jit, (discrimination, midranks, rank_correlation)
)


def random_case(seed):
    """Two scores with ties, an event and the mask of counted steps, [N] each."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 3 + seed, (2, N)) / 7
    x = np.where(rng.random(N) < 0.05, np.inf, x) - 1
    counted = rng.random(N) < 0.8
    event = rng.random(N) < 0.3
    return np.float32(x), np.float32(y), event, counted


# --- ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(CASES))
def test_auroc_is_the_mann_whitney_statistic(seed):
    score, _, event, counted = random_case(seed)
    pos, neg = score[counted & event], score[counted & ~event]
    auroc, precision = jit_discrimination(score, event, counted)
    expected = stats.mannwhitneyu(pos, neg).statistic / (len(pos) * len(neg))
    assert float(auroc) == pytest.approx(expected, abs=1e-6)
    precisions = [(pos >= x).sum() / ((pos >= x).sum() + (neg >= x).sum()) for x in pos]
    assert float(precision) == pytest.approx(np.mean(precisions), abs=1e-6)


@pytest.mark.parametrize("seed", range(CASES))
def test_rank_correlation_is_spearmans_rho(seed):
    x, y, _, counted = random_case(seed)
    expected = stats.spearmanr(x[counted], y[counted]).statistic
    assert float(jit_rank_correlation(x, y, counted)) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(jit_midranks(x, counted)[counted], stats.rankdata(x[counted]))
    assert not np.asarray(jit_midranks(x, counted))[~counted].any()


def test_what_cannot_be_ranked_is_nan():
    x, y, event, counted = random_case(0)
    for one_sided in (event & False, event | True, event & ~counted):
        assert np.isnan(jit_discrimination(x, one_sided, counted)).all()
    for at in (np.flatnonzero(counted)[3], np.flatnonzero(~counted)[0]):
        with_nan = x.copy()
        with_nan[at] = np.nan
        is_counted = bool(counted[at])
        assert np.isnan(jit_discrimination(with_nan, event, counted)).all() == is_counted
        assert np.isnan(jit_rank_correlation(with_nan, y, counted)) == is_counted
        assert np.isnan(jit_rank_correlation(y, with_nan, counted)) == is_counted
    flat = np.float32(np.full(N, 0.1))
    assert np.isnan(jit_rank_correlation(flat, y, counted))
    assert np.isnan(jit_rank_correlation(x, y, counted & False))
    auroc, precision = jit_discrimination(flat, event, counted)
    assert float(auroc) == 0.5
    assert float(precision) == pytest.approx(event[counted].mean())


def test_many_steps_are_ranked_as_exactly_as_few():
    size = 200_000
    score = np.tile(np.float32([0.0, 1.0]), size // 2)
    event = np.arange(size) % 8 == 0  # all among the zeros
    auroc, _ = jit_discrimination(score, event, np.ones(size, bool))
    others = np.float64(size - event.sum())
    assert float(auroc) == pytest.approx(0.5 * (size / 2 - event.sum()) / others, abs=1e-6)


# --- outcome labels -------------------------------------------------------------------------------


def test_outcomes_of_a_step_are_counted_until_the_end_of_its_episode():
    """Five steps: harm that ends, a good end, a cut, and harm that does not end, then a cut."""
    ends = np.array([3, 4, 4, 4])
    time = np.arange(5)[:, None]
    alive, last = time <= ends, time == ends
    reward = np.where(last, np.float32([-1, 1, 0, 0]), np.float32(0))
    harms = np.zeros((5, 4), np.float32)
    harms[3, 0] = harms[1, 3] = 1
    terminated, truncated = last & (np.arange(4) < 2), last & (np.arange(4) >= 2)
    zeros = np.zeros((5, 4, 1), np.float32)
    batch = Transition(zeros, zeros, zeros, reward, terminated, truncated, last, {"harm": harms})
    labels = outcome_labels(jax.tree.map(jnp.asarray, batch), jnp.asarray(alive), 2, 0.5)
    no, yes = False, True
    assert labels.counted.T.tolist() == [[1, 1, 1, 0, 0]] + 3 * [[1, 1, 1, 1, 0]]
    assert labels.known.T.tolist() == [
        [yes, yes, yes, no, no],
        [yes, yes, yes, yes, no],
        [yes, yes, yes, no, no],  # fewer than two steps follow the fourth before the cut
        [yes, yes, yes, no, no],
    ]
    harmed = np.where(labels.counted, labels.harmed, False)
    assert harmed.T.tolist() == [[no, yes, yes, no, no], [no] * 5, [no] * 5, [yes] + [no] * 4]
    near = np.where(labels.counted, labels.nearness, 0.0)
    assert near[:, 0].tolist() == [0.125, 0.25, 0.5, 0, 0]
    assert near[0, 3] == 0.5
    assert labels.return_to_go[:, 0].tolist() == [-0.25, -0.5, -1, 0, 0]
    assert labels.return_to_go[:, 1].tolist() == [0.125, 0.25, 0.5, 1, 0]


def test_calibration_of_predictions_by_hand():
    prediction = jnp.array([0.0, 0.05, 0.31, 0.39, 1.0, 0.5])
    event = jnp.array([False, True, False, True, True, True])
    counted = jnp.array([True, True, True, True, True, False])
    metrics = calibration(prediction, event, counted)
    assert float(metrics["expected"]) == pytest.approx(1.75 / 5)
    errors = [0, 0.95**2, 0.31**2, 0.61**2, 0]
    assert float(metrics["brier"]) == pytest.approx(np.mean(errors), rel=1e-6)
    expected = np.full((10, 3), np.nan)
    expected[:, 0] = 0
    expected[0], expected[3], expected[9] = (0.4, 0.025, 0.5), (0.4, 0.35, 0.5), (0.2, 1, 1)
    np.testing.assert_allclose(metrics["reliability"], expected, atol=1e-6)


# --- in a corridor with known outcomes ------------------------------------------------------------

CELLS, H = 9, 3
ENV = Corridor(CELLS, horizon=20)
SUITE = Suite(
    name="corridor",
    env=ENV,
    world=World(ENV.get_default_params()),
    shifts=(scale("pay", "reward", "params.pay", to=2.0),),
    severities=(1.0,),
)


def cell_index(batch):
    return jnp.argmax(batch.next_obs, -1).astype(jnp.float32)


SIGNALS = {
    "nearness": lambda batch: (1 - 1 / H) ** cell_index(batch),
    "place": cell_index,
    "flat": lambda batch: jnp.full(batch.reward.shape, 0.5),
}


@pytest.fixture(scope="module")
def walks():
    """Readouts [P] and alive steps [P, T, B] of agents that go always left, and always right."""

    @partial(jax.jit, compiler_options=FAST_COMPILE)
    def record(worlds):
        def walk(action):
            keys = jax.random.split(jax.random.key(0), 200)
            act = lambda _, obs: jnp.full(obs.shape[:-1], action, jnp.int32)  # noqa: E731
            return record_episodes(act, ENV, worlds, keys)[1:]

        return jax.vmap(walk)(jnp.arange(2))

    worlds = SUITE.worlds(jax.random.key(1), 2)
    recordings = [record(jax.tree.map(lambda leaf, i=i: leaf[i], worlds)) for i in range(2)]
    signals = lambda _: (SIGNALS, ("nearness", "flat"))  # noqa: E731
    metrics = probe_recordings(
        signals, (jnp.arange(2),), recordings, ENV.spec, H, 0.9, optimise=False
    )
    alive = np.stack([alive for _, alive in recordings], 1)
    return [({name: leaf[i] for name, leaf in metrics.items()}, alive[i]) for i in range(2)]


@pytest.mark.slow
def test_readouts_of_a_walk_to_the_harmful_end(walks):
    metrics, alive = walks[0]
    assert {leaf.shape[0] for leaf in metrics.values()} == {2}
    np.testing.assert_allclose(metrics["nearness/auroc"], 1.0)
    np.testing.assert_allclose(metrics["nearness/precision"], 1.0)
    np.testing.assert_allclose(metrics["place/auroc"], 0.0)
    np.testing.assert_allclose(metrics["flat/auroc"], 0.5)
    np.testing.assert_allclose(metrics["flat/precision"], metrics["harmed"], rtol=1e-6)
    # the mean prediction equals the mean nearness, which is not the rate of harm
    np.testing.assert_allclose(metrics["nearness/expected"], metrics["nearness"], rtol=1e-6)
    np.testing.assert_allclose(metrics["flat/brier"], 0.25)
    reliability = metrics["flat/reliability"][:, 5].T
    np.testing.assert_allclose(reliability, [[1, 1], [0.5, 0.5], metrics["harmed"]])
    # a march from cell c takes c steps and counts all but the last; c is uniform in 1 to 7
    np.testing.assert_allclose(alive.sum(1).mean(1), 4.0, atol=0.5)
    np.testing.assert_allclose(metrics["steps"], alive.sum((1, 2)) - 200)
    # the nearer to harm, the more often visited
    np.testing.assert_allclose(metrics["place/rarity"], 1.0, atol=0.1)
    assert np.isnan(metrics["place/return"]).all()  # nothing is ever paid
    assert np.isnan(metrics["flat/rarity"]).all()


def test_readouts_of_a_walk_to_the_good_end(walks):
    metrics, _ = walks[1]
    np.testing.assert_allclose(metrics["place/return"], 1.0, atol=1e-6)
    np.testing.assert_allclose(metrics["place/rarity"], -1.0, atol=0.1)  # two may share a hash
    np.testing.assert_array_equal(metrics["harmed"], [0, 0])
    assert np.isnan(metrics["nearness/auroc"]).all()
    assert np.isnan(metrics["nearness/precision"]).all()


def test_alarms_use_a_level_that_is_fixed_at_home(walks):
    metrics, _ = walks[0]
    for name in ("nearness", "flat"):  # no calm step may lie above the level
        assert (metrics[f"{name}/alarms"] <= 1 / 200).all()
    np.testing.assert_array_equal(metrics["flat/caught"], 0.0)
    np.testing.assert_array_equal(metrics["nearness/caught"], 1.0)  # highest within H of harm
    # from cell c a march first reports after a step, c - 1 steps from harm, 3 at most
    leads = [min(cell - 1, H) for cell in range(2, CELLS - 1)]
    np.testing.assert_allclose(metrics["nearness/lead"], np.mean(leads), atol=0.2)


def test_visits_are_counted_by_cell():
    obs = jax.random.normal(jax.random.key(0), (50, 4, 3)) * 3 + 1
    counted = jax.random.bernoulli(jax.random.key(1), 0.7, (50, 4))
    moments, visits = visit_counts(obs, counted)
    counted_obs = np.asarray(obs)[np.asarray(counted)]
    np.testing.assert_allclose(moments.mean, counted_obs.mean(0), rtol=1e-4)
    np.testing.assert_allclose(moments.variance, counted_obs.var(0), rtol=1e-4)
    cells = np.asarray(visit_cell(moments, obs))[np.asarray(counted)]
    np.testing.assert_array_equal(visits, np.bincount(cells, minlength=256))
    assert (np.asarray(visits) > 0).sum() > 30


# --- heads as they are ----------------------------------------------------------------------------

AGENT = PPO(width=8, gamma=0.99)
HEADS = {
    "fear": Fear,
    "potential": Potential(Fear),
    "sham": Sham(Potential(Fear)),
    "lesion": Lesion(Fear),
    "scrambled": Untrained(Normalised(Fear)),
    "hope": Potential(Hope),
    "curiosity": Normalised(Curiosity),
    "mood": Mood,
    "constant": partial(Constant, value=0.25),
}
BLEND = Blend(**{name: (0.5, head) for name, head in HEADS.items()})
SMALL = CartPole(horizon=60)


@partial(jax.jit, compiler_options=FAST_COMPILE)
def signals_of_untrained_learner(key):
    """Signals of an untrained learner, the names of probabilities, its episodes and blend state."""
    k_learner, k_episodes, k_untrained = jax.random.split(key, 3)
    learner = init_learner(k_learner, TrainConfig(AGENT, BLEND, 2, 4), SMALL.spec)
    worlds = load_suite("CartPole").worlds(jax.random.key(1), 2)
    worlds = jax.tree.map(lambda leaf: leaf[0], worlds)
    act = lambda _, obs: AGENT.act(learner.agent, None, obs)  # noqa: E731
    _, batch, alive = record_episodes(act, SMALL, worlds, jax.random.split(k_episodes, 6))
    first_steps = jax.tree.map(lambda leaf: leaf[:4, :2], batch)
    _, blend_state = BLEND.feel(learner.blend_state, first_steps)
    learner = learner._replace(blend_state=blend_state)
    spec = replace(SMALL.spec, discount=AGENT.gamma)
    predictors, _ = arm_signals(learner, k_untrained, AGENT, BLEND, spec)
    signals = {name: predictor(batch) for name, predictor in predictors.items()}
    return signals, batch, alive, blend_state


@pytest.fixture(scope="module")
def learner():
    return signals_of_untrained_learner(jax.random.key(0))


@pytest.mark.slow
def test_a_head_is_read_without_its_wrappers(learner):
    signals, batch, _, blend_state = learner
    for name in ("fear", "potential", "sham", "lesion", "scrambled"):
        head = blend_state.heads[name].net
        while hasattr(head, "inner"):
            head = head.inner
        np.testing.assert_allclose(signals[name], head.predictor(batch.next_obs), rtol=1e-5)
        assert (np.asarray(signals[name]) > 0).all()
        assert not np.allclose(signals[name], signals[f"{name}_untrained"])
    assert np.ptp(signals["hope"]) > 0
    np.testing.assert_array_equal(signals["constant"], np.full(batch.reward.shape, 0.25))
    np.testing.assert_array_equal(signals["critic"], -signals["minus_critic"])


@pytest.mark.slow
def test_normalisation_of_a_frozen_head_is_not_updated(learner):
    signals, batch, _, blend_state = learner
    scheduled = jax.tree.map(lambda leaf: leaf[2:3], batch)
    head, carry = blend_state.heads["curiosity"].net, blend_state.carry["curiosity"]
    expected = jax.jit(read_signal)(head.inner, carry[1], scheduled)
    np.testing.assert_allclose(expected[0], signals["curiosity"][2], rtol=1e-5)
    mood = blend_state.heads["mood"].net
    mood_signal, _ = mood(mood.initial_state(batch.reward.shape[1]), batch)
    np.testing.assert_allclose(signals["mood"], mood_signal, rtol=1e-5)


@pytest.mark.slow
def test_signal_sum_is_weighted_and_keeps_wrappers(learner):
    signals, batch, alive, blend_state = learner
    potential = signals["potential"]
    blend = Blend(one=(0.5, Potential(Fear)))
    blend_state_of_one = blend_state._replace(
        heads={"one": blend_state.heads["potential"]},
        carry={"one": blend_state.carry["potential"]},
        weights=blend_state.weights[1:2],
    )
    paid = np.asarray(jax.jit(lambda batch: signal_sum(blend, blend_state_of_one)(batch))(batch))
    inner_steps = np.asarray(alive)[1:] & ~np.asarray(batch.terminated)[1:]
    expected = 0.5 * (-0.99 * np.asarray(potential)[1:] + np.asarray(potential)[:-1])
    np.testing.assert_allclose(paid[1:][inner_steps], expected[inner_steps], rtol=1e-4, atol=1e-6)


def test_only_fears_of_ten_steps_are_probabilities():
    blend = Blend(
        fear=(1.0, Potential(Fear)), long=(1.0, partial(Fear, horizon=20)), mood=(1, Mood)
    )
    spec = replace(SMALL.spec, discount=AGENT.gamma)
    learner = init_learner(jax.random.key(0), TrainConfig(AGENT, blend, 2, 4), spec)
    signals, probabilities = arm_signals(learner, jax.random.key(1), AGENT, blend, spec)
    assert probabilities == ("fear",)
    assert {"long_untrained", "minus_critic", "signal_sum"} < set(signals)


def test_every_nth_step_is_kept_with_an_offset_per_episode():
    steps, count, every = 7, 5, 3
    time = jnp.broadcast_to(jnp.arange(1.0, steps + 1)[:, None], (steps, count))
    stacked = jnp.stack([time, -time])
    thinned, thinned_stack = jax.jit(partial(every_nth_step, every=every))((time, stacked))
    expected = [[t + b % every + 1 for b in range(count)] for t in range(0, 9, every)]
    np.testing.assert_array_equal(thinned, np.where(np.array(expected) <= steps, expected, 0))
    np.testing.assert_array_equal(thinned_stack, np.stack([thinned, -thinned]))
    np.testing.assert_array_equal(every_nth_step((time,), 1)[0], time)
