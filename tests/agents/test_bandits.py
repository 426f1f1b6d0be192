"""Models of human choice against calculations by hand: PVL-Delta and ORL.

ORL's are from eqs. 7 to 12 of Haines, Vassileva & Ahn (2018).
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Spec, Transition
from agents.orl import ORL, ORLState
from agents.pvl import PVL, PVLState

KEY = jax.random.key(0)
SPEC = Spec(obs_dim=1, num_actions=4, info=("gain", "loss"))
PVL_PERSON = PVL(rate=0.5, shape=0.5, consistency=1.0, aversion=2.0)
ORL_PERSON = ORL(
    reward_rate=0.5,
    punishment_rate=0.2,
    decay=1.0,
    frequency_weight=2.0,
    perseverance_weight=-1.0,
)


def train(agent, *choices: tuple[int, float], signals=()):
    """State after choices, each (deck, net payoff), with `signals` [K] at every one."""
    decks, payoffs = zip(*choices, strict=True)
    obs, false = jnp.zeros((len(choices), 1, 1)), jnp.zeros((len(choices), 1), bool)
    action, reward = jnp.array(decks)[:, None], jnp.array(payoffs, jnp.float32)[:, None]
    batch = Transition(obs, action, obs, reward, false, false, false)
    signals = jnp.broadcast_to(jnp.array(signals, jnp.float32), (*reward.shape, len(signals)))
    return agent.update(agent.init(KEY, SPEC), KEY, batch, signals)[0]


def assert_state(state, *expected):
    for actual, part in zip(state, expected, strict=True):
        np.testing.assert_allclose(actual, part, rtol=1e-5, atol=1e-6)


# --- PVL-Delta --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "choices", "value"),
    [
        ({}, [(2, 4.0)], [0, 0, 1.0, 0]),  # .5 * sqrt 4
        ({}, [(1, -4.0)], [0, -2.0, 0, 0]),  # -.5 * 2 * sqrt 4
        ({}, [(2, 4.0), (2, -1.0)], [0, 0, -0.5, 0]),
        ({}, [(0, 0.0)], [0, 0, 0, 0]),
        ({"aversion": 0.0}, [(0, 1.0), (0, -9.0)], [0.25, 0, 0, 0]),  # a loss is a payoff of 0
        ({"aversion": 0.0}, [(0, 4.0)], [1.0, 0, 0, 0]),
        ({"reversal": 0.0}, [(0, 4.0), (0, -9.0)], [1.0, 0, 0, 0]),  # of a positive value only
        ({"reversal": 0.0}, [(0, -4.0), (0, 4.0)], [0, 0, 0, 0]),
        ({"reversal": 0.5}, [(0, 4.0), (0, 0.0)], [0.75, 0, 0, 0]),
    ],
)
def test_pvl_values_by_hand(changes, choices, value):
    assert_state(train(replace(PVL_PERSON, **changes), *choices), value)


def test_signals_are_added_to_the_utility_of_pvl():
    assert_state(train(PVL_PERSON, (0, 4.0), signals=[1.0, -3.0]), np.zeros(4))


# --- ORL --------------------------------------------------------------------------------------

WON, LOST = 0.2 * -1 / 3, 0.5 * 1 / 3  # frequencies of the decks not chosen, after one choice
WON_LOST = WON + 0.5 * (1 / 3 - WON)


@pytest.mark.parametrize(
    ("choices", "value", "frequency", "perseverance"),
    [
        ([(1, 4.0)], [0, 2.0, 0, 0], [WON, 0.5, WON, WON], [0, 1 / 3, 0, 0]),
        ([(0, -5.0)], [-1.0, 0, 0, 0], [-0.2, LOST, LOST, LOST], [1 / 3, 0, 0, 0]),
        (
            [(1, 4.0), (1, -8.0)],
            [0, 2.0 + 0.2 * -10.0, 0, 0],
            [WON_LOST, 0.5 + 0.2 * -1.5, WON_LOST, WON_LOST],
            [0, 1 / 3, 0, 0],
        ),
        (  # a payoff of 0 is a win of sign 0
            [(1, 4.0), (1, 0.0)],
            [0, 1.0, 0, 0],
            [0.8 * WON, 0.25, 0.8 * WON, 0.8 * WON],
            [0, 1 / 3, 0, 0],
        ),
        (
            [(1, 4.0), (2, 0.0)],
            [0, 2.0, 0, 0],
            [0.8 * WON, 0.8 * 0.5, 0.5 * WON, 0.8 * WON],
            [0, 1 / 9, 1 / 3, 0],
        ),
    ],
)
def test_orl_state_by_hand(choices, value, frequency, perseverance):
    assert_state(train(ORL_PERSON, *choices), value, frequency, perseverance)


def test_signals_are_added_to_the_payoff_of_orl():
    with_signals = train(ORL_PERSON, (1, 4.0), signals=[-5.0, -4.0])
    assert_state(with_signals, *train(ORL_PERSON, (1, -5.0)))


# --- choice and people ------------------------------------------------------------------------

VALUE = jnp.array([0.0, 0.5, -0.5, 1.0])
ORL_STATE = ORLState(
    jnp.array([0.0, 0.5, 0.0, -1.0]), jnp.array([0.5, 0, 0, 0]), jnp.array([0, 0, 1.0, 0])
)


@pytest.mark.parametrize(
    ("person", "state", "logits"),
    [
        (replace(PVL_PERSON, consistency=0.0), PVLState(VALUE), 0 * VALUE),
        (PVL_PERSON, PVLState(VALUE), 2 * VALUE),  # 3^consistency - 1
        (ORL_PERSON, ORL_STATE, jnp.array([1.0, 0.5, -1.0, -1.0])),
    ],
)
def test_choice_is_softmax_with_a_key_and_the_best_without(person, state, logits):
    actions = np.asarray(person.act(state, jax.random.key(1), jnp.zeros((40_000, 1))))
    shares = np.bincount(actions, minlength=4) / len(actions)
    np.testing.assert_allclose(shares, jax.nn.softmax(logits), atol=0.01)
    assert person.act(state, None, jnp.zeros((3, 1))).tolist() == [logits.argmax()] * 3


def test_models_of_several_people_can_be_vmapped():
    patients = PVL(*(jnp.full(3, x) for x in (0.5, 0.5, 1.0)), jnp.arange(3.0), jnp.ones(3))
    states = jax.vmap(lambda person: train(person, (0, 4.0), (1, -4.0)))(patients)
    np.testing.assert_allclose(states.value[:, :2], [[1.0, 0.0], [1.0, -1.0], [1.0, -2.0]])
    people = ORL(jnp.array([0.0, 0.5]), *(jnp.full(2, x) for x in (0.2, 1.0, 2.0, -1.0)))
    states = jax.vmap(lambda person: train(person, (1, 4.0)))(people)
    np.testing.assert_allclose(states.value[:, 1], [0.0, 2.0])
