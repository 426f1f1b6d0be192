"""The primitive *predict*: its TD(lambda) targets, ends and cuts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from affect import Fear, Hope, Transition, build
from affect.predict import GVFTargets, harm, lambda_returns
from tests.affect.cases import SPEC, chunk, experience


def by_hand(cumulant, ahead, cut, gamma, trace):
    """G_t = c_t + gamma ((1 - lambda) v_t + lambda G_t+1), or c_t + gamma v_t where it is cut."""
    target = np.zeros_like(cumulant)
    for b in range(cumulant.shape[1]):
        after = ahead[-1, b]
        for t in reversed(range(len(cumulant))):
            look = ahead[t, b] if cut[t, b] else (1 - trace) * ahead[t, b] + trace * after
            after = target[t, b] = cumulant[t, b] + gamma * look
    return target


@pytest.mark.parametrize("trace", [0.0, 0.9, 1.0])
def test_targets_equal_a_double_loop(trace):
    rng = np.random.default_rng(0)
    cumulant, ahead = rng.normal(size=(2, 20, 3)).astype(np.float32)
    cut = rng.random((20, 3)) < 0.2
    none = jnp.zeros((20, 3))
    question = GVFTargets(jnp.asarray(cumulant), none > 0, none, jnp.asarray(cut))
    targets = lambda_returns(question, jnp.asarray(ahead), 0.9, trace)
    np.testing.assert_allclose(targets, by_hand(cumulant, ahead, cut, 0.9, trace), rtol=1e-5)


def one_step(**fields) -> Transition:
    batch = experience(steps=1, envs=4)
    return batch._replace(info={}, **fields)


def test_harm_is_what_the_world_reports_else_an_end_that_pays_nothing():
    batch = one_step(
        terminated=jnp.array([[True, True, False, False]]),
        reward=jnp.array([[0.0, 1.0, -1.0, 1.0]]),
    )
    assert harm(batch).tolist() == [[True, False, False, False]]
    told = batch._replace(info={"harm": jnp.array([[0, 0, 1, 2]])})
    assert harm(told).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("feeling", [Fear, Hope])
def test_what_is_cut_short_is_predicted_beyond_and_what_ends_is_not(feeling):
    """Same transition, three endings: a cut by the clock changes nothing, an end does."""
    batch = one_step(reward=jnp.ones((1, 4)))
    never, always = jnp.zeros((1, 4), bool), jnp.ones((1, 4), bool)
    head = build(feeling, SPEC, jax.random.key(0))
    goes_on = head.loss((), batch._replace(terminated=never, truncated=never))[0]
    cut_short = head.loss((), batch._replace(terminated=never, truncated=always))[0]
    ended = head.loss((), batch._replace(terminated=always, truncated=never))[0]
    assert goes_on == cut_short
    assert ended != goes_on


@pytest.mark.parametrize("feeling", [Fear, Hope])
@pytest.mark.parametrize("how", ["terminated", "truncated"])
def test_no_target_reaches_beyond_a_cut(feeling, how):
    """Two steps with a cut between them teach what each teaches alone."""
    head, never = build(feeling, SPEC, jax.random.key(0)), jnp.zeros((2, 4), bool)
    batch = experience(steps=2)._replace(terminated=never, truncated=never, info={})

    def error(batch):
        return head.loss((), batch)[1]["error"]

    cut = batch._replace(**{how: never.at[0].set(True)})
    alone = (error(chunk(cut, 0, 1)) + error(chunk(cut, 1, 2))) / 2
    np.testing.assert_allclose(error(cut), alone, rtol=1e-6)
    alone = (error(chunk(batch, 0, 1)) + error(chunk(batch, 1, 2))) / 2
    assert abs(error(batch) - alone) > 1e-4


@pytest.mark.parametrize("feeling", [Fear, Hope])
@pytest.mark.parametrize(
    ("knob", "complaint"),
    [
        ({"horizon": 0.5}, "a horizon is at least 1 step, not 0.5"),
        ({"horizon": -3}, "a horizon is at least 1 step, not -3"),
        ({"width": 0}, "a head has at least 1 hidden unit, not 0"),
    ],
)
def test_senseless_knobs_are_refused(feeling, knob, complaint):
    with pytest.raises(ValueError, match=complaint):
        feeling(SPEC, rngs=nnx.Rngs(0), **knob)
