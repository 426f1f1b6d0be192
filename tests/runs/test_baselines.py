"""Baseline heads compute what they are named after and pay nothing to the agent."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from affect import Fear, Innate, Mood, Spec, TrainState, Transition, build, gradient_step
from envs import load_suite
from envs.worlds.drive.sensors import looming
from runs.probes.baselines import (
    ENSEMBLE,
    SIZES,
    SizedFear,
    ValueHead,
    as_alarm,
    baseline_blend,
    disagreement,
    fit_line,
    innate_alarm,
    progress,
    residual,
    sub_blend,
)
from runs.probes.offline import memorisation, spread_observations, train_offline

SPEC = Spec(obs_dim=4, num_actions=2)


def key():
    """The same key in a new array each time, so that the key-reuse check accepts it."""
    return jax.random.key(0)


def episode(rewards, obs_dim=4, ends=True):
    """Make one episode of T steps with one-hot observations, arrays [T, 1, ...]."""
    steps = len(rewards)
    obs = jnp.eye(obs_dim)[:, None]
    time = jnp.arange(steps)[:, None]
    last = time == steps - 1
    return Transition(
        obs=obs[:steps],
        action=jnp.zeros((steps, 1), jnp.int32),
        next_obs=obs[1 : steps + 1],
        reward=jnp.array(rewards)[:, None],
        terminated=last & ends,
        truncated=last & (not ends),
        first=time == 0,
    )


@pytest.mark.parametrize(("name", "hidden"), SIZES.items())
def test_sized_fear_has_the_given_layers_and_the_signal_of_fear(name, hidden):
    head = build(lambda spec, rngs: SizedFear(spec, hidden, horizon=5, rngs=rngs), SPEC, key())
    assert isinstance(head, Fear) and head.sign == -1
    assert head.predictor.gamma == pytest.approx(0.8)
    weights = sum(leaf.size for leaf in jax.tree.leaves(head))
    layers = (4, *hidden, 1)
    assert weights == sum((a + 1) * b for a, b in zip(layers[:-1], layers[1:], strict=True))
    obs = jax.random.normal(key(), (3, 4))
    logits = head.predictor.logit(obs)
    bent = head.predictor.logit(2 * obs) - 2 * logits + head.predictor.logit(0 * obs)
    assert bool(jnp.allclose(bent, 0, atol=1e-5)) == (name == "fear_linear")
    signal, _ = head((), episode([0.0, -1.0, -1.0]))
    np.testing.assert_allclose(signal, -head.predictor(episode([0.0] * 3).next_obs))


@pytest.mark.parametrize("ends", [True, False])
def test_short_critic_learns_the_discounted_reward(ends):
    """Tabular values; the last one is the last reward, plus a bootstrap if truncated."""
    batch, tx = episode([0.0, 0.5, -1.0], ends=ends), optax.adam(0.02)
    head = build(lambda spec, rngs: ValueHead(spec, horizon=2, width=8, rngs=rngs), SPEC, key())

    @jax.jit
    def fit(trained):
        def step(trained, _):
            return gradient_step(trained, tx, lambda net: net.loss((), batch))[0], None

        return jax.lax.scan(step, trained, length=1500)[0].net

    head_fit = fit(TrainState.create(head, tx))
    bootstrap = 0.0 if ends else 0.5 * float(head_fit.value(batch.next_obs)[-1, 0])
    last = -1 + bootstrap
    expected = [0.25 + 0.25 * last, 0.5 + 0.5 * last, last]
    np.testing.assert_allclose(head_fit.value(batch.obs)[:, 0], expected, atol=0.02)


@pytest.mark.slow
def test_baselines_pay_nothing_and_all_learn():
    blend = baseline_blend("fear", Fear, 10)
    assert {"fear", *SIZES, *ENSEMBLE, "short_critic", "short_critic_16", "hope"} == set(
        blend.names
    )
    batch = episode([0.0, 0.0, -1.0])
    before = blend.init(key(), SPEC, 1)
    signals, after, _ = jax.jit(blend.update)(before, batch)
    assert not np.asarray(signals).any()
    for name in blend.names:
        pairs = zip(*(jax.tree.leaves(f.heads[name].net) for f in (before, after)), strict=True)
        assert any(not np.array_equal(*pair) for pair in pairs), name
    alone = sub_blend(blend, ("fear_16",))
    alone_state = jax.jit(alone.update)(alone.init(key(), SPEC, 1), batch)[1].heads["fear_16"]
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, alone_state, after.heads["fear_16"])


def test_alarm_is_high_where_the_head_predicts_bad_outcomes():
    def signal(batch):
        return batch.reward

    batch = episode([1.0, -2.0])
    for head, sign in ((Fear, 1), (Mood, -1)):
        alarm = as_alarm(build(head, SPEC, key()), signal)(batch)
        np.testing.assert_array_equal(alarm, sign * batch.reward)


def test_innate_alarm_of_each_suite():
    drive, lava = load_suite("Drive"), load_suite("Lava")
    batch = episode([0.0, 0.0])
    sensors = jax.random.uniform(key(), (2, 1, 37))
    alarm = innate_alarm(drive)(batch._replace(next_obs=sensors))
    np.testing.assert_allclose(alarm, looming(sensors))
    pole = innate_alarm(load_suite("CartPole"))(batch)
    np.testing.assert_allclose(pole[:, 0], [0.0, 1.0])  # one-hot: velocity, then angle
    assert innate_alarm(lava) is None

    def hard_wired(spec, rngs):
        return Innate(spec, lambda batch: -batch.reward, rngs=rngs)

    own_alarm = innate_alarm(replace(lava, innate=hard_wired))
    np.testing.assert_array_equal(
        own_alarm(batch._replace(reward=jnp.ones((2, 1)))), np.ones((2, 1))
    )


def test_disagreement_is_the_standard_deviation_of_the_ensemble():
    signals = {name: lambda batch, k=k: k * batch.reward for k, name in enumerate(ENSEMBLE)}
    batch = episode([0.0, 1.0])
    np.testing.assert_allclose(disagreement(signals)(batch)[:, 0], [0, np.std(range(5))], rtol=1e-6)


def test_fit_line_and_residual_match_least_squares():
    rng = np.random.default_rng(0)
    progress = rng.random((40, 3, 2)).astype(np.float32)
    signal = (2 * progress[..., 0] - progress[..., 1] + rng.normal(size=(40, 3))).astype(np.float32)
    counted = rng.random((40, 3)) < 0.7
    slopes = jax.jit(fit_line)(signal, progress, counted)
    design = np.column_stack([progress[counted], np.ones(counted.sum())])
    expected = np.linalg.lstsq(design, signal[counted], rcond=None)[0]
    np.testing.assert_allclose(slopes, expected, atol=1e-3)
    residual_signal = residual(
        lambda batch: jnp.asarray(signal), lambda batch: jnp.asarray(progress), slopes
    )
    residuals = np.asarray(residual_signal(None))[counted]
    assert np.abs(design.T @ residuals).max() < 0.05 * counted.sum()


def test_progress_is_observed_or_counts_steps():
    batch = episode([0.0] * 3)
    steps = progress(load_suite("Lava"))(
        batch._replace(first=jnp.array([[False], [True], [False]]))
    )
    np.testing.assert_allclose(steps[:, 0, 0] * 64, [1, 1, 2])
    next_obs = jax.random.uniform(key(), (2, 1, 37))
    observed = progress(load_suite("Drive"))(batch._replace(next_obs=next_obs))
    np.testing.assert_array_equal(observed, next_obs[..., 3:5])


# --- offline training ----------------------------------------------------------------------------


@pytest.mark.slow
def test_large_head_memorises_labels_that_a_linear_one_cannot():
    obs = jax.random.normal(key(), (64, 4))

    @jax.jit
    def memorise(labels):
        heads = [
            build(lambda spec, rngs, h=hidden: SizedFear(spec, h, rngs=rngs), SPEC, key())
            for hidden in ((), (64, 64))
        ]
        return jnp.stack([memorisation(head, jax.random.clone(labels), obs, 400) for head in heads])

    small, large = memorise(jax.random.key(1))
    assert large[0] > 0.95 > 0.75 > small[0] > 0.5
    assert large[1] > 0.99 > small[1]


@pytest.mark.slow
def test_offline_training_takes_the_given_number_of_updates():
    batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), episode([0.0, 0.0, -1.0]))
    blend = sub_blend(baseline_blend("fear", Fear, 10).with_epochs(3), ("fear", "fear_linear"))
    state = jax.jit(lambda: train_offline(blend, key(), SPEC, batches, 5))()
    counts = {
        int(n)
        for n in jax.tree.leaves(state.heads["fear"].trained.opt_state)
        if n.dtype == jnp.int32
    }
    assert counts == {5 * 3}
    batch = jax.tree.map(lambda leaf: leaf[0], batches)
    expected = blend.init(key(), SPEC, 1)
    for _ in range(5):
        expected = jax.jit(blend.update)(expected, batch)[1]
    for a, b in zip(jax.tree.leaves(state.heads), jax.tree.leaves(expected.heads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_spread_observations_are_evenly_spaced():
    batches = episode([0.0] * 3)
    batches = batches._replace(obs=jnp.arange(24.0).reshape(3, 2, 4))
    np.testing.assert_array_equal(spread_observations(batches, 3)[:, 0], [0, 8, 20])
    assert spread_observations(batches, 100).shape == (6, 4)
