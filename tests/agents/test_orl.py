"""ORL against calculations by hand from Haines, Vassileva & Ahn (2018), eqs. 7 to 12."""

import jax
import jax.numpy as jnp
import numpy as np

from agents.orl import ORL, ORLState
from tests.agents.bandit import SPEC, bandit_batch, choice_shares

KEY = jax.random.key(0)
PERSON = ORL(
    reward_rate=0.5,
    punishment_rate=0.2,
    decay=1.0,
    frequency_weight=2.0,
    perseverance_weight=-1.0,
)


def train(agent, *choices, signals=None):
    batch = bandit_batch(*choices)
    signals = jnp.zeros((len(choices), 1, 0)) if signals is None else signals
    return agent.update(agent.init(KEY, SPEC), KEY, batch, signals)[0]


def assert_state(state, value, frequency, perseverance):
    for actual, expected in zip(state, (value, frequency, perseverance), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_a_win_by_hand():
    fictive = 0.2 * -1 / 3
    assert_state(
        train(PERSON, (1, 4.0)),
        [0, 2.0, 0, 0],
        [fictive, 0.5, fictive, fictive],
        [0, 1 / 3, 0, 0],
    )


def test_a_loss_by_hand():
    fictive = 0.5 * 1 / 3
    assert_state(
        train(PERSON, (0, -5.0)),
        [-1.0, 0, 0, 0],
        [-0.2, fictive, fictive, fictive],
        [1 / 3, 0, 0, 0],
    )


def test_a_win_and_then_a_loss_by_hand():
    fictive = 0.2 * -1 / 3
    second = fictive + 0.5 * (1 / 3 - fictive)
    assert_state(
        train(PERSON, (1, 4.0), (1, -8.0)),
        [0, 2.0 + 0.2 * -10.0, 0, 0],
        [second, 0.5 + 0.2 * -1.5, second, second],
        [0, 1 / 3, 0, 0],
    )
    again = train(PERSON, (1, 4.0), (2, 0.0))
    np.testing.assert_allclose(again.perseverance, [0, 1 / 9, 1 / 3, 0], rtol=1e-5)


def test_a_payoff_of_0_is_a_win_of_sign_0():
    state = train(PERSON, (1, 4.0), (1, 0.0))
    np.testing.assert_allclose(state.value[1], 1.0)
    np.testing.assert_allclose(state.frequency[1], 0.25)


def test_signals_are_added_to_the_payoff():
    state = train(PERSON, (1, 4.0), signals=jnp.array([[[-5.0, -4.0]]]))
    assert_state(state, *train(PERSON, (1, -5.0)))


def test_choice_is_softmax_of_the_weighted_sum():
    state = ORLState(
        jnp.array([0.0, 0.5, 0.0, -1.0]), jnp.array([0.5, 0.0, 0.0, 0.0]), jnp.array([0, 0, 1.0, 0])
    )
    expected = np.exp([1.0, 0.5, -1.0, -1.0])
    actions = PERSON.act(state, jax.random.key(1), jnp.zeros((40_000, 1)))
    np.testing.assert_allclose(choice_shares(actions), expected / expected.sum(), atol=0.01)
    np.testing.assert_array_equal(PERSON.act(state, None, jnp.zeros((2, 1))), [0, 0])


def test_models_of_several_people_can_be_vmapped():
    rates = jnp.array([0.0, 0.5])
    people = ORL(rates, *(jnp.full(2, x) for x in (0.2, 1.0, 2.0, -1.0)))
    states = jax.vmap(lambda person: train(person, (1, 4.0)))(people)
    np.testing.assert_allclose(states.value[:, 1], [0.0, 2.0])
