"""PVL-Delta against calculations by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.pvl import PVL, PVLState
from tests.agents.bandit import SPEC, bandit_batch, choice_shares

KEY = jax.random.key(0)
PERSON = PVL(rate=0.5, shape=0.5, consistency=1.0, aversion=2.0)


def train(agent, *choices, signals=None):
    batch = bandit_batch(*choices)
    signals = jnp.zeros((len(choices), 1, 0)) if signals is None else signals
    return agent.update(agent.init(KEY, SPEC), KEY, batch, signals)[0].value


def test_a_win_and_a_loss_by_hand():
    np.testing.assert_allclose(train(PERSON, (2, 4.0)), [0, 0, 1.0, 0])  # .5 * sqrt 4
    np.testing.assert_allclose(train(PERSON, (1, -4.0)), [0, -2.0, 0, 0])  # -.5 * 2 * sqrt 4
    np.testing.assert_allclose(train(PERSON, (2, 4.0), (2, -1.0)), [0, 0, -0.5, 0])
    np.testing.assert_allclose(train(PERSON, (0, 0.0)), np.zeros(4))


def test_with_aversion_0_a_loss_is_a_payoff_of_0():
    lesioned = replace(PERSON, aversion=0.0)
    np.testing.assert_allclose(train(lesioned, (0, 1.0), (0, -9.0)), [0.25, 0, 0, 0])
    np.testing.assert_array_equal(train(lesioned, (0, 4.0)), train(PERSON, (0, 4.0)))


def test_reversal_scales_how_fast_a_positive_value_falls():
    no_reversal = replace(PERSON, reversal=0.0)
    np.testing.assert_allclose(train(no_reversal, (0, 4.0), (0, -9.0)), [1.0, 0, 0, 0])
    np.testing.assert_allclose(train(no_reversal, (0, -4.0), (0, 4.0)), [0.0, 0, 0, 0])
    half_reversal = replace(PERSON, reversal=0.5)
    np.testing.assert_allclose(train(half_reversal, (0, 4.0), (0, 0.0)), [0.75, 0, 0, 0])


def test_signals_are_added_to_the_utility():
    signals = jnp.array([[[1.0, -3.0]]])
    np.testing.assert_allclose(train(PERSON, (0, 4.0), signals=signals), [0.0, 0, 0, 0])


@pytest.mark.parametrize(("consistency", "sensitivity"), [(0.0, 0.0), (1.0, 2.0)])
def test_choice_is_softmax_with_sensitivity_3_to_the_c_less_1(consistency, sensitivity):
    value = np.array([0.0, 0.5, -0.5, 1.0])
    person = replace(PERSON, consistency=consistency)
    actions = person.act(PVLState(jnp.array(value)), jax.random.key(1), jnp.zeros((40_000, 1)))
    expected = np.exp(sensitivity * value)
    np.testing.assert_allclose(choice_shares(actions), expected / expected.sum(), atol=0.01)


def test_without_a_key_the_action_is_the_best():
    actions = PERSON.act(PVLState(jnp.array([0.0, 2.0, 1.0, 0.0])), None, jnp.zeros((3, 1)))
    np.testing.assert_array_equal(actions, [1, 1, 1])


def test_models_of_several_people_can_be_vmapped():
    aversion = jnp.array([0.0, 1.0, 2.0])
    people = PVL(*(jnp.full(3, x) for x in (0.5, 0.5, 1.0)), aversion, jnp.ones(3))
    values = jax.vmap(lambda person: train(person, (0, 4.0), (1, -4.0)))(people)
    np.testing.assert_allclose(values[:, 0], [1.0, 1.0, 1.0])
    np.testing.assert_allclose(values[:, 1], [0.0, -1.0, -2.0])
