"""Readouts: ranks as scipy has them, levels in closed form, heads read as they are."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from affect import (
    Blend,
    BlendState,
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
from envs.shift import scale
from envs.suite import Suite
from envs.world import World
from envs.worlds.classic.cartpole import CartPole
from envs.worlds.theory.corridor import Corridor
from runs.engine.evaluate import evaluate
from runs.engine.train import FAST_COMPILE, Learner, TrainConfig, init_learner
from runs.probes.probe import probe_learner
from runs.probes.ranking import discrimination, midranks, rank_correlation
from runs.probes.readouts import (
    calibration,
    every_nth_step,
    outcome_labels,
    readouts,
    record_episodes,
)
from runs.probes.signals import (
    critic_signals,
    paid_signal,
    predictions,
    read_signal,
    untrained_predictions,
)
from runs.probes.visit_counts import visit_cell, visit_counts
from tests.runs import small_study

CASES, N = 30, 60
discriminates, ranks, correlates = map(jax.jit, (discrimination, midranks, rank_correlation))


def case(seed):
    """Scores in ties, an event, and which of it counts."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 3 + seed, (2, N)) / 7
    x = np.where(rng.random(N) < 0.05, np.inf, x) - 1
    counted = rng.random(N) < 0.8
    event = rng.random(N) < 0.3
    return np.float32(x), np.float32(y), event, counted


# --- ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(CASES))
def test_auroc_is_the_statistic_of_mann_and_whitney(seed):
    score, _, event, counted = case(seed)
    pos, neg = score[counted & event], score[counted & ~event]
    auroc, precision = discriminates(score, event, counted)
    known = stats.mannwhitneyu(pos, neg).statistic / (len(pos) * len(neg))
    assert float(auroc) == pytest.approx(known, abs=1e-6)
    as_high = [(pos >= x).sum() / ((pos >= x).sum() + (neg >= x).sum()) for x in pos]
    assert float(precision) == pytest.approx(np.mean(as_high), abs=1e-6)


@pytest.mark.parametrize("seed", range(CASES))
def test_rank_correlation_is_spearmans(seed):
    x, y, _, counted = case(seed)
    known = stats.spearmanr(x[counted], y[counted]).statistic
    assert float(correlates(x, y, counted)) == pytest.approx(known, abs=1e-6)
    np.testing.assert_array_equal(ranks(x, counted)[counted], stats.rankdata(x[counted]))
    assert not np.asarray(ranks(x, counted))[~counted].any()


def test_what_cannot_be_ranked_is_nan():
    x, y, event, counted = case(0)
    for one_sided in (event & False, event | True, event & ~counted):
        assert np.isnan(discriminates(x, one_sided, counted)).all()
    for at in (np.flatnonzero(counted)[3], np.flatnonzero(~counted)[0]):
        holed = x.copy()
        holed[at] = np.nan
        bad = bool(counted[at])
        assert np.isnan(discriminates(holed, event, counted)).all() == bad
        assert np.isnan(correlates(holed, y, counted)) == bad
        assert np.isnan(correlates(y, holed, counted)) == bad
    flat = np.float32(np.full(N, 0.1))
    assert np.isnan(correlates(flat, y, counted))
    assert np.isnan(correlates(x, y, counted & False))
    auroc, precision = discriminates(flat, event, counted)
    assert float(auroc) == 0.5
    assert float(precision) == pytest.approx(event[counted].mean())


def test_many_steps_are_ranked_as_exactly_as_few():
    size = 200_000
    score = np.tile(np.float32([0.0, 1.0]), size // 2)
    event = np.arange(size) % 8 == 0  # all among the zeros
    auroc, _ = discriminates(score, event, np.ones(size, bool))
    others = np.float64(size - event.sum())
    assert float(auroc) == pytest.approx(0.5 * (size / 2 - event.sum()) / others, abs=1e-6)


# --- what came after ------------------------------------------------------------------------------


def test_what_came_after_a_step_is_counted_until_the_end():
    """Five steps: harm that ends, a good end, a cut, and harm that does not end, then a cut."""
    ends = np.array([3, 4, 4, 4])
    time = np.arange(5)[:, None]
    alive, last = time <= ends, time == ends
    reward = np.where(last, np.float32([-1, 1, 0, 0]), np.float32(0))
    harms = np.zeros((5, 4), np.float32)
    harms[3, 0] = harms[1, 3] = 1
    terminated, truncated = last & (np.arange(4) < 2), last & (np.arange(4) >= 2)
    nothing = np.zeros((5, 4, 1), np.float32)
    batch = Transition(
        nothing, nothing, nothing, reward, terminated, truncated, last, {"harm": harms}
    )
    truth = outcome_labels(jax.tree.map(jnp.asarray, batch), jnp.asarray(alive), 2, 0.5)
    no, yes = False, True
    assert truth.counted.T.tolist() == [[1, 1, 1, 0, 0]] + 3 * [[1, 1, 1, 1, 0]]
    assert truth.known.T.tolist() == [
        [yes, yes, yes, no, no],
        [yes, yes, yes, yes, no],
        [yes, yes, yes, no, no],  # two more steps were not seen after the fourth
        [yes, yes, yes, no, no],
    ]
    harmed = np.where(truth.counted, truth.harmed, False)
    assert harmed.T.tolist() == [[no, yes, yes, no, no], [no] * 5, [no] * 5, [yes] + [no] * 4]
    near = np.where(truth.counted, truth.nearness, 0.0)
    assert near[:, 0].tolist() == [0.125, 0.25, 0.5, 0, 0]
    assert near[0, 3] == 0.5
    assert truth.worth[:, 0].tolist() == [-0.25, -0.5, -1, 0, 0]
    assert truth.worth[:, 1].tolist() == [0.125, 0.25, 0.5, 1, 0]


def test_calibration_of_predictions_by_hand():
    prediction = jnp.array([0.0, 0.05, 0.31, 0.39, 1.0, 0.5])
    event = jnp.array([False, True, False, True, True, True])
    counted = jnp.array([True, True, True, True, True, False])
    told = calibration(prediction, event, counted)
    assert float(told["expected"]) == pytest.approx(1.75 / 5)
    errors = [0, 0.95**2, 0.31**2, 0.61**2, 0]
    assert float(told["brier"]) == pytest.approx(np.mean(errors), rel=1e-6)
    known = np.full((10, 3), np.nan)
    known[:, 0] = 0
    known[0], known[3], known[9] = (0.4, 0.025, 0.5), (0.4, 0.35, 0.5), (0.2, 1, 1)
    np.testing.assert_allclose(told["reliability"], known, atol=1e-6)


# --- in a world that is known ---------------------------------------------------------------------

CELLS, H = 9, 3
ENV = Corridor(CELLS, horizon=20)
SUITE = Suite(
    name="corridor",
    env=ENV,
    world=World(ENV.get_default_params()),
    shifts=(scale("pay", "reward", "params.pay", to=2.0),),
    severities=(1.0,),
)


def place(batch):
    return jnp.argmax(batch.next_obs, -1).astype(jnp.float32)


SIGNALS = {
    "nearness": lambda batch: (1 - 1 / H) ** place(batch),
    "place": place,
    "flat": lambda batch: jnp.full(batch.reward.shape, 0.5),
}


@partial(jax.jit, compiler_options=FAST_COMPILE)
def of_marching(action, key):
    """Readouts of an agent that always goes one way."""
    worlds = SUITE.worlds(jax.random.key(1), 2)

    def act(key, obs):
        return jnp.full(obs.shape[:-1], action, jnp.int32)

    return readouts(SIGNALS, act, ENV, worlds, key, 100, ("nearness", "flat"), H, 0.9)


def test_a_march_to_harm_is_foreseen_as_it_comes():
    told = of_marching(0, jax.random.key(0))
    assert {leaf.shape[0] for leaf in told.values()} == {2}
    np.testing.assert_allclose(told["nearness/auroc"], 1.0)
    np.testing.assert_allclose(told["nearness/precision"], 1.0)
    np.testing.assert_allclose(told["place/auroc"], 0.0)
    np.testing.assert_allclose(told["flat/auroc"], 0.5)
    np.testing.assert_allclose(told["flat/precision"], told["harmed"], rtol=1e-6)
    # what is foreseen is exactly what comes, and the window is not that
    np.testing.assert_allclose(told["nearness/expected"], told["nearness"], rtol=1e-6)
    harmed = np.asarray(told["harmed"])
    np.testing.assert_allclose(told["flat/brier"], 0.25)
    np.testing.assert_allclose(told["flat/reliability"][:, 5].T, [[1, 1], [0.5, 0.5], harmed])
    # a march from cell c takes c steps and counts all but the last; c is uniform in 1 to 7
    np.testing.assert_allclose(told["length"], 4.0, atol=0.5)
    np.testing.assert_allclose(told["steps"], 200 * (told["length"] - 1), rtol=1e-6)
    # the nearer to harm, the more often visited
    np.testing.assert_allclose(told["place/rarity"], 1.0, atol=0.1)
    assert np.isnan(told["place/return"]).all()  # nothing is ever paid
    assert np.isnan(told["flat/rarity"]).all()


def test_a_march_to_a_good_end_holds_no_danger():
    told = of_marching(1, jax.random.key(0))
    np.testing.assert_allclose(told["place/return"], 1.0, atol=1e-6)
    np.testing.assert_allclose(told["return"], [1, 2])
    np.testing.assert_allclose(told["place/rarity"], -1.0, atol=0.1)  # two may share a hash
    np.testing.assert_array_equal(told["harmed"], [0, 0])
    assert np.isnan(told["nearness/auroc"]).all()
    assert np.isnan(told["nearness/precision"]).all()


def test_visits_are_counted_by_cell():
    obs = jax.random.normal(jax.random.key(0), (50, 4, 3)) * 3 + 1
    counted = jax.random.bernoulli(jax.random.key(1), 0.7, (50, 4))
    home = visit_counts(obs, counted)
    seen = np.asarray(obs)[np.asarray(counted)]
    np.testing.assert_allclose(home.moments.mean, seen.mean(0), rtol=1e-4)
    np.testing.assert_allclose(home.moments.variance, seen.var(0), rtol=1e-4)
    where = np.asarray(visit_cell(home.moments, obs))[np.asarray(counted)]
    np.testing.assert_array_equal(home.visits, np.bincount(where, minlength=256))
    assert (np.asarray(home.visits) > 0).sum() > 30


def test_a_probability_that_is_no_signal_is_refused():
    with pytest.raises(ValueError, match="fear is no signal: probabilities are among place"):
        readouts({"place": place}, None, ENV, None, None, 1, ("fear",))


# --- heads as they are ----------------------------------------------------------------------------

AGENT = PPO(width=8)
COUPLED = {
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
SETUP = TrainConfig(AGENT, Blend(**{name: (0.5, head) for name, head in COUPLED.items()}), 2, 4)
SMALL = replace(small_study.suite(), env=CartPole(horizon=60))


@partial(jax.jit, compiler_options=FAST_COMPILE)
def of_learner(key):
    """An untrained learner that has lived a little -> what it says of whole episodes, and them."""
    k_learner, k_lives, k_made = jax.random.split(key, 3)
    again, more = (jax.random.clone(k_lives) for _ in range(2))
    learner = init_learner(k_learner, SETUP, SMALL.env.spec)
    worlds = SMALL.worlds(jax.random.key(1), 2)
    first = jax.tree.map(lambda leaf: leaf[0], worlds)

    def act(key, obs):
        return AGENT.act(learner.agent, None, obs)

    _, batch, alive = record_episodes(act, SMALL.env, first, jax.random.split(k_lives, 6))
    some = jax.tree.map(lambda leaf: leaf[:4, :2], batch)
    _, blend_state = SETUP.blend.feel(learner.blend_state, some)
    signals = predictions(SETUP.blend, blend_state)
    signals |= untrained_predictions(SETUP.blend, blend_state, SMALL.env.spec, k_made)
    signals |= critic_signals(AGENT, learner.agent) | {
        "felt": paid_signal(SETUP.blend, blend_state)
    }
    said = {name: predict(batch) for name, predict in signals.items()}
    two = Blend(**{name: SETUP.blend.heads[name] for name in ("potential", "curiosity")})
    part = BlendState(
        *({name: d[name] for name in two.names} for d in blend_state[:2]), jnp.ones(2)
    )
    config, seen = replace(SETUP, blend=two), Learner(learner.agent, part)
    told = probe_learner(
        seen, jax.random.key(5), worlds, again, config=config, env=SMALL.env, episodes=3
    )
    scores = evaluate(learner.agent, AGENT, SMALL.env, worlds, more, 3)
    return said, told, scores, batch, alive, blend_state


@pytest.fixture(scope="module")
def learner():
    return of_learner(jax.random.key(0))


def test_a_head_is_read_without_its_couplings(learner):
    said, _, _, batch, _, blend_state = learner
    for name in ("fear", "potential", "sham", "lesion", "scrambled"):
        head = blend_state.heads[name].net
        while hasattr(head, "inner"):
            head = head.inner
        np.testing.assert_allclose(said[name], head.predictor(batch.next_obs), rtol=1e-5)
        assert (np.asarray(said[name]) > 0).all()
        assert not np.allclose(said[name], said[f"{name}_untrained"])
    assert np.ptp(said["hope"]) > 0
    np.testing.assert_array_equal(said["constant"], np.full(batch.reward.shape, 0.25))
    np.testing.assert_array_equal(said["critic"], -said["minus_critic"])


def test_a_frozen_head_does_not_get_used_to_what_it_sees(learner):
    said, _, _, batch, _, blend_state = learner
    scheduled = jax.tree.map(lambda leaf: leaf[2:3], batch)
    head, carry = blend_state.heads["curiosity"].net, blend_state.carry["curiosity"]
    alone = jax.jit(read_signal)(head.inner, carry[1], scheduled)
    np.testing.assert_allclose(alone[0], said["curiosity"][2], rtol=1e-5)
    mood = blend_state.heads["mood"].net
    whole, _ = mood(mood.initial_state(batch.reward.shape[1]), batch)
    np.testing.assert_allclose(said["mood"], whole, rtol=1e-5)


def test_what_is_felt_is_the_weighted_sum_with_couplings(learner):
    said, _, _, batch, alive, blend_state = learner
    ahead = said["potential"]
    blend = Blend(one=(0.5, Potential(Fear)))
    alone = blend_state._replace(
        heads={"one": blend_state.heads["potential"]},
        carry={"one": blend_state.carry["potential"]},
        weights=blend_state.weights[1:2],
    )
    paid = np.asarray(jax.jit(lambda batch: paid_signal(blend, alone)(batch))(batch))
    inside = np.asarray(alive)[1:] & ~np.asarray(batch.terminated)[1:]
    steps = 0.5 * (-0.99 * np.asarray(ahead)[1:] + np.asarray(ahead)[:-1])
    np.testing.assert_allclose(paid[1:][inside], steps[inside], rtol=1e-4, atol=1e-6)


def test_readouts_live_the_episodes_that_were_scored(learner):
    _, told, scores, batch, alive, _ = learner
    np.testing.assert_allclose(told["return"], scores["return"], rtol=1e-6)
    np.testing.assert_allclose(told["length"], scores["length"], rtol=1e-6)
    for name in ("potential", "curiosity_untrained", "minus_critic", "felt"):
        assert np.isfinite(told[f"{name}/auroc"]).all()
    assert [name for name in told if name.endswith("brier")] == ["potential/brier"]
    assert told["potential/reliability"].shape == (5, 10, 3)
    np.testing.assert_allclose(told["potential/reliability"][..., 0].sum(-1), 1.0, rtol=1e-6)
    after = ~np.asarray(alive)
    assert after.any()
    assert not any(np.asarray(leaf)[after].any() for leaf in jax.tree.leaves(batch))


def test_thinned_steps_are_others_in_each_episode_and_every_nth():
    steps, count, every = 7, 5, 3
    time = jnp.broadcast_to(jnp.arange(1.0, steps + 1)[:, None], (steps, count))
    stacked = jnp.stack([time, -time])
    one, two = jax.jit(partial(every_nth_step, every=every))((time, stacked))
    known = [[t + b % every + 1 for b in range(count)] for t in range(0, 9, every)]
    np.testing.assert_array_equal(one, np.where(np.array(known) <= steps, known, 0))
    np.testing.assert_array_equal(two, np.stack([one, -one]))
    np.testing.assert_array_equal(every_nth_step((time,), 1)[0], time)


def test_warnings_are_counted_from_a_level_that_is_fixed_at_home():
    told = of_marching(0, jax.random.key(0))
    for name, lead in (("nearness", 0), ("flat", 0)):  # no calm step may lie above the level
        assert (np.asarray(told[f"{name}/alarms"]) <= 1 / 200).all()
        assert (np.asarray(told[f"{name}/lead"]) >= lead).all()
    np.testing.assert_array_equal(told["flat/caught"], 0.0)
    assert (np.asarray(told["nearness/caught"]) == 1.0).all()  # danger is nearer than any calm
    # from cell c a march first reports after a step, c - 1 steps from harm, 3 at most
    leads = [min(cell - 1, H) for cell in range(2, CELLS - 1)]
    np.testing.assert_allclose(told["nearness/lead"], np.mean(leads), atol=0.2)
