"""Rivals: each is what it says, and nothing of it reaches the agent."""

from dataclasses import replace

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
    """Always the same, and always a new one to the check of keys."""
    return jax.random.key(0)


def episode(rewards, obs_dim=4, ends=True):
    """One episode through one-hot observations, [T, 1]."""
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
def test_a_fear_of_any_size_is_a_fear(name, hidden):
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
def test_a_short_critic_is_the_discounted_reward(ends):
    """One-hot observations: the last value is the last reward, or looks beyond a cut."""
    batch, tx = episode([0.0, 0.5, -1.0], ends=ends), optax.adam(0.02)
    head = build(lambda spec, rngs: ValueHead(spec, horizon=2, width=8, rngs=rngs), SPEC, key())

    @jax.jit
    def fit(trained):
        def step(trained, _):
            return gradient_step(trained, tx, lambda net: net.loss((), batch))[0], None

        return jax.lax.scan(step, trained, length=1500)[0].net

    found = fit(TrainState.create(head, tx))
    beyond = 0.0 if ends else 0.5 * float(found.value(batch.next_obs)[-1, 0])
    last = -1 + beyond
    known = [0.25 + 0.25 * last, 0.5 + 0.5 * last, last]
    np.testing.assert_allclose(found.value(batch.obs)[:, 0], known, atol=0.02)


def test_nothing_reaches_the_agent_and_all_learn():
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
    one = jax.jit(alone.update)(alone.init(key(), SPEC, 1), batch)[1].heads["fear_16"]
    jax.tree.map(np.testing.assert_array_equal, one, after.heads["fear_16"])


def test_what_is_bad_is_an_alarm():
    def says(batch):
        return batch.reward

    batch = episode([1.0, -2.0])
    for head, sign in ((Fear, 1), (Mood, -1)):
        found = as_alarm(build(head, SPEC, key()), says)(batch)
        np.testing.assert_array_equal(found, sign * batch.reward)


def test_what_is_innate_where():
    drive, lava = load_suite("Drive"), load_suite("Lava")
    batch = episode([0.0, 0.0])
    sensed = jax.random.uniform(key(), (2, 1, 37))
    seen = innate_alarm(drive)(batch._replace(next_obs=sensed))
    np.testing.assert_allclose(seen, looming(sensed))
    pole = innate_alarm(load_suite("CartPole"))(batch)
    np.testing.assert_allclose(pole[:, 0], [0.0, 1.0])  # one-hot: velocity, then angle
    assert innate_alarm(lava) is None

    def hard_wired(spec, rngs):
        return Innate(spec, lambda batch: -batch.reward, rngs=rngs)

    own = innate_alarm(replace(lava, innate=hard_wired))
    np.testing.assert_array_equal(own(batch._replace(reward=jnp.ones((2, 1)))), np.ones((2, 1)))


def test_disagreement_is_how_far_they_are_apart():
    said = {name: lambda batch, k=k: k * batch.reward for k, name in enumerate(ENSEMBLE)}
    batch = episode([0.0, 1.0])
    np.testing.assert_allclose(disagreement(said)(batch)[:, 0], [0, np.std(range(5))], rtol=1e-6)


def test_progress_is_regressed_out_as_by_least_squares():
    rng = np.random.default_rng(0)
    progress = rng.random((40, 3, 2)).astype(np.float32)
    signal = (2 * progress[..., 0] - progress[..., 1] + rng.normal(size=(40, 3))).astype(np.float32)
    counted = rng.random((40, 3)) < 0.7
    slopes = jax.jit(fit_line)(signal, progress, counted)
    design = np.column_stack([progress[counted], np.ones(counted.sum())])
    known = np.linalg.lstsq(design, signal[counted], rcond=None)[0]
    np.testing.assert_allclose(slopes, known, atol=1e-3)
    left = residual(lambda batch: jnp.asarray(signal), lambda batch: jnp.asarray(progress), slopes)
    rest = np.asarray(left(None))[counted]
    assert np.abs(design.T @ rest).max() < 0.05 * counted.sum()


def test_progress_is_what_is_observed_or_the_steps_taken():
    batch = episode([0.0] * 3)
    steps = progress(load_suite("Lava"))(
        batch._replace(first=jnp.array([[False], [True], [False]]))
    )
    np.testing.assert_allclose(steps[:, 0, 0] * 64, [1, 1, 2])
    seen = jax.random.uniform(key(), (2, 1, 37))
    told = progress(load_suite("Drive"))(batch._replace(next_obs=seen))
    np.testing.assert_array_equal(told, seen[..., 3:5])


# --- what is learned afterwards -------------------------------------------------------------------


def test_a_large_head_learns_by_heart_what_a_linear_one_cannot():
    obs = jax.random.normal(key(), (64, 4))

    @jax.jit
    def fits(labels):
        heads = [
            build(lambda spec, rngs, h=hidden: SizedFear(spec, h, rngs=rngs), SPEC, key())
            for hidden in ((), (64, 64))
        ]
        return jnp.stack([memorisation(head, jax.random.clone(labels), obs, 400) for head in heads])

    small, large = fits(jax.random.key(1))
    assert large[0] > 0.95 > 0.75 > small[0] > 0.5
    assert large[1] > 0.99 > small[1]


def test_those_who_learn_afterwards_take_as_many_steps_as_they_are_told():
    batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), episode([0.0, 0.0, -1.0]))
    blend = sub_blend(baseline_blend("fear", Fear, 10), ("fear", "fear_linear"))
    found = jax.jit(lambda: train_offline(blend, key(), SPEC, batches, 5))()
    counts = {
        int(n) for n in jax.tree.leaves(found.heads["fear"].opt_state) if n.dtype == jnp.int32
    }
    assert counts == {5 * blend.epochs}  # one environment cannot be parted
    one = jax.tree.map(lambda leaf: leaf[0], batches)
    again = blend.init(key(), SPEC, 1)
    for _ in range(5):
        again = jax.jit(blend.update)(again, one)[1]
    for a, b in zip(jax.tree.leaves(found.heads), jax.tree.leaves(again.heads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_some_observations_are_spread_over_all():
    batches = episode([0.0] * 3)
    batches = batches._replace(obs=jnp.arange(24.0).reshape(3, 2, 4))
    np.testing.assert_array_equal(spread_observations(batches, 3)[:, 0], [0, 8, 20])
    assert spread_observations(batches, 100).shape == (6, 4)
