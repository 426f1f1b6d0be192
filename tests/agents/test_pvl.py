"""PVL-Delta against numbers worked by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.pvl import PVL, PVLState
from tests.agents.bandit import SPEC, cards, shares

KEY = jax.random.key(0)
PERSON = PVL(rate=0.5, shape=0.5, consistency=1.0, aversion=2.0)


def learned(agent, *taken, signals=None):
    batch = cards(*taken)
    signals = jnp.zeros((len(taken), 1, 0)) if signals is None else signals
    return agent.update(agent.init(KEY, SPEC), KEY, batch, signals)[0].value


def test_a_win_and_a_loss_by_hand():
    np.testing.assert_allclose(learned(PERSON, (2, 4.0)), [0, 0, 1.0, 0])  # .5 * sqrt 4
    np.testing.assert_allclose(learned(PERSON, (1, -4.0)), [0, -2.0, 0, 0])  # -.5 * 2 * sqrt 4
    np.testing.assert_allclose(learned(PERSON, (2, 4.0), (2, -1.0)), [0, 0, -0.5, 0])
    np.testing.assert_allclose(learned(PERSON, (0, 0.0)), np.zeros(4))


def test_a_loss_that_is_not_felt_is_a_payoff_of_0():
    lesioned = replace(PERSON, aversion=0.0)
    np.testing.assert_allclose(learned(lesioned, (0, 1.0), (0, -9.0)), [0.25, 0, 0, 0])
    np.testing.assert_array_equal(learned(lesioned, (0, 4.0)), learned(PERSON, (0, 4.0)))


def test_who_cannot_reverse_unlearns_no_liking_but_learns_a_dislike():
    clinging = replace(PERSON, reversal=0.0)
    np.testing.assert_allclose(learned(clinging, (0, 4.0), (0, -9.0)), [1.0, 0, 0, 0])
    np.testing.assert_allclose(learned(clinging, (0, -4.0), (0, 4.0)), [0.0, 0, 0, 0])
    half = replace(PERSON, reversal=0.5)
    np.testing.assert_allclose(learned(half, (0, 4.0), (0, 0.0)), [0.75, 0, 0, 0])


def test_a_signal_is_felt_beside_the_payoff():
    signals = jnp.array([[[1.0, -3.0]]])
    np.testing.assert_allclose(learned(PERSON, (0, 4.0), signals=signals), [0.0, 0, 0, 0])


@pytest.mark.parametrize(("consistency", "sensitivity"), [(0.0, 0.0), (1.0, 2.0)])
def test_choice_is_softmax_with_sensitivity_3_to_the_c_less_1(consistency, sensitivity):
    value = np.array([0.0, 0.5, -0.5, 1.0])
    person = replace(PERSON, consistency=consistency)
    actions = person.act(PVLState(jnp.array(value)), jax.random.key(1), jnp.zeros((40_000, 1)))
    wanted = np.exp(sensitivity * value)
    np.testing.assert_allclose(shares(actions), wanted / wanted.sum(), atol=0.01)


def test_without_a_key_it_takes_the_best():
    actions = PERSON.act(PVLState(jnp.array([0.0, 2.0, 1.0, 0.0])), None, jnp.zeros((3, 1)))
    np.testing.assert_array_equal(actions, [1, 1, 1])


def test_people_are_stacked():
    aversion = jnp.array([0.0, 1.0, 2.0])
    people = PVL(*(jnp.full(3, x) for x in (0.5, 0.5, 1.0)), aversion, jnp.ones(3))
    values = jax.vmap(lambda person: learned(person, (0, 4.0), (1, -4.0)))(people)
    np.testing.assert_allclose(values[:, 0], [1.0, 1.0, 1.0])
    np.testing.assert_allclose(values[:, 1], [0.0, -1.0, -2.0])
