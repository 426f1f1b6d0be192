"""General value functions: TD(lambda) targets, terminal steps and truncations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from affect import Fear, Hope, Transition, build
from affect.predict import END_WEIGHT, GVFTargets, harm, lambda_returns
from tests.affect.cases import SPEC, chunk, experience


def loop_targets(cumulant, ahead, cut, gamma, trace):
    """G_t = c_t + gamma ((1 - lambda) v_t + lambda G_t+1), or c_t + gamma v_t at a cut."""
    target = np.zeros_like(cumulant)
    for b in range(cumulant.shape[1]):
        next_target = ahead[-1, b]
        for t in reversed(range(len(cumulant))):
            value = ahead[t, b] if cut[t, b] else (1 - trace) * ahead[t, b] + trace * next_target
            next_target = target[t, b] = cumulant[t, b] + gamma * value
    return target


@pytest.mark.parametrize("trace", [0.0, 0.9, 1.0])
def test_targets_equal_a_double_loop(trace):
    rng = np.random.default_rng(0)
    cumulant, ahead = rng.normal(size=(2, 20, 3)).astype(np.float32)
    cut = rng.random((20, 3)) < 0.2
    zeros = jnp.zeros((20, 3))
    gvf = GVFTargets(jnp.asarray(cumulant), zeros > 0, zeros, jnp.asarray(cut))
    targets = lambda_returns(gvf, jnp.asarray(ahead), 0.9, trace)
    np.testing.assert_allclose(targets, loop_targets(cumulant, ahead, cut, 0.9, trace), rtol=1e-5)


def one_step(**fields) -> Transition:
    batch = experience(steps=1, envs=4)
    return batch._replace(info={}, **fields)


def test_harm_is_reported_or_else_an_end_without_positive_reward():
    batch = one_step(
        terminated=jnp.array([[True, True, False, False]]),
        reward=jnp.array([[0.0, 1.0, -1.0, 1.0]]),
    )
    assert harm(batch).tolist() == [[True, False, False, False]]
    reported = batch._replace(info={"harm": jnp.array([[0, 0, 1, 2]])})
    assert harm(reported).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("head_class", [Fear, Hope])
def test_targets_bootstrap_at_truncation_and_not_at_termination(head_class):
    """The same transition: truncation does not change the loss, termination does."""
    batch = one_step(reward=jnp.ones((1, 4)))
    false, true = jnp.zeros((1, 4), bool), jnp.ones((1, 4), bool)
    head = build(head_class, SPEC, jax.random.key(0))
    continuing = head.loss((), batch._replace(terminated=false, truncated=false))[0]
    truncated = head.loss((), batch._replace(terminated=false, truncated=true))[0]
    terminated = head.loss((), batch._replace(terminated=true, truncated=false))[0]
    assert abs(continuing - truncated) < 1e-6
    assert abs(terminated - continuing) > 1e-3


def test_rare_ends_with_harm_weigh_as_much_as_frequent_ends_without():
    """The loss at the ends is the mean over harmful ends plus the mean over the others."""
    head, true = build(Fear, SPEC, jax.random.key(0)), jnp.ones((1, 4), bool)
    batch = one_step(terminated=true, reward=jnp.array([[-1.0, 1.0, 1.0, 1.0]]))
    loss, metrics = head.loss((), batch)
    at_end = head.predictor.error(batch.next_obs, harm(batch).astype(jnp.float32))[0]
    expected = metrics["error"] + END_WEIGHT * (at_end[0] + at_end[1:].mean())
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("head_class", [Fear, Hope])
@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_no_target_uses_steps_after_a_cut(head_class, end):
    """The error of two steps with a cut between them is the mean of their separate errors."""
    head, false = build(head_class, SPEC, jax.random.key(0)), jnp.zeros((2, 4), bool)
    batch = experience(steps=2)._replace(terminated=false, truncated=false, info={})

    def error(batch):
        return head.loss((), batch)[1]["error"]

    cut = batch._replace(**{end: false.at[0].set(True)})
    separate = (error(chunk(cut, 0, 1)) + error(chunk(cut, 1, 2))) / 2
    np.testing.assert_allclose(error(cut), separate, rtol=1e-6)
    separate = (error(chunk(batch, 0, 1)) + error(chunk(batch, 1, 2))) / 2
    assert abs(error(batch) - separate) > 1e-4


@pytest.mark.parametrize("head_class", [Fear, Hope])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0.5}, "a horizon is at least 1 step, not 0.5"),
        ({"horizon": -3}, "a horizon is at least 1 step, not -3"),
        ({"width": 0}, "a head has at least 1 hidden unit, not 0"),
    ],
)
def test_invalid_settings_are_refused(head_class, options, message):
    with pytest.raises(ValueError, match=message):
        head_class(SPEC, rngs=nnx.Rngs(0), **options)
