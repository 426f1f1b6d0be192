"""Trained heads against closed forms of what they predict (target T13)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Constant, Curiosity, Fear, Hope, Spec, build
from tests.affect.cases import SPEC, B, apply_head, experience, same_bits
from tests.affect.corridor import EYE, STATES, every_step_once, solve, walk
from tests.affect.corridor import SPEC as CORRIDOR

KEY = jax.random.key(0)
HORIZON = 10
GAMMA = 1 - 1 / HORIZON
HARM, GOOD = 0, STATES - 1  # where the walks of these tests end
ENDS = {HARM: -0.5, GOOD: 1.0}


def predictions(factory, batch, steps=2000) -> np.ndarray:
    """Predictions [STATES] of a head for each state after training on one batch."""
    blend = Blend(it=(1.0, factory), epochs=steps)
    blend_state = blend.init(KEY, CORRIDOR, batch.reward.shape[1])
    blend_state, _ = jax.jit(blend.learn)(blend_state, batch)
    return np.asarray(blend_state.heads["it"].net.predictor(EYE))


def fear_head(spec, *, rngs):
    return Fear(spec, horizon=HORIZON, rngs=rngs)


def hope_head(spec, *, rngs):
    return Hope(spec, horizon=HORIZON, rngs=rngs)


@pytest.fixture(scope="module")
def fear():
    """Fear trained on a random walk between a harmful and a good end."""
    return predictions(fear_head, every_step_once(ENDS))


@pytest.fixture(scope="module")
def hope():
    return predictions(hope_head, every_step_once(ENDS))


def walks_left(reward):
    """Batch of walks straight to the left end, several times over."""
    steps = 4 * (STATES // 2)
    return walk(np.array([1, 2, 3]), np.zeros((steps, 3), bool), reward)


def test_fear_is_gamma_to_the_power_of_steps_to_harm():
    probability = predictions(fear_head, walks_left(ENDS))
    steps = np.arange(STATES // 2 + 1)  # state k is k steps from harm
    np.testing.assert_allclose(probability[steps][1:], GAMMA ** steps[1:], atol=0.02)
    assert probability[HARM] > 0.95


def test_fear_is_the_hitting_probability_of_a_random_walk(fear):
    analytic = solve(GAMMA, np.zeros(STATES), (1.0, 0.0))
    np.testing.assert_allclose(fear[1:-1], analytic[1:-1], atol=0.02)


def test_fear_trained_on_sampled_walks_matches_the_linear_equations():
    """TD(lambda) on long sampled walks of many episodes, against the same linear equations."""
    right = np.random.default_rng(0).random((64, 128)) < 0.5
    sampled = predictions(fear_head, walk(np.full(128, STATES // 2), right, ENDS), steps=600)
    analytic = solve(GAMMA, np.zeros(STATES), (1.0, 0.0))
    np.testing.assert_allclose(sampled[1:-1], analytic[1:-1], atol=0.02)


def test_hope_is_1_at_a_good_end_and_decays_by_gamma_per_step():
    value = predictions(hope_head, walks_left({HARM: 1.0}))
    steps = np.arange(1, STATES // 2 + 1)
    np.testing.assert_allclose(value[steps], GAMMA ** (steps - 1), atol=0.02)
    assert value[HARM] > 0.95


def test_hope_is_the_average_reward_of_a_random_walk(hope):
    reward = np.zeros(STATES)
    reward[[HARM, GOOD]] = ENDS[HARM], ENDS[GOOD]
    analytic = solve(GAMMA, (1 - GAMMA) * reward, (0.0, 1.0))
    np.testing.assert_allclose(hope[1:-1], analytic[1:-1], atol=0.02)


def test_hope_equals_a_reward_paid_at_every_step():
    reward = dict.fromkeys(range(STATES), 0.3)
    np.testing.assert_allclose(predictions(hope_head, every_step_once(reward)), 0.3, atol=0.02)


def test_hope_clips_the_reward():
    """A reward of 100 counts as 1."""
    value = predictions(hope_head, every_step_once({HARM: -0.5, GOOD: 100.0}))
    assert value[GOOD] > 0.95
    assert value.max() <= 1.0


def test_fear_and_hope_are_fitted_at_terminal_observations(fear, hope):
    assert fear[HARM] > 0.8
    assert hope[GOOD] > 0.8
    assert hope[HARM] < 0.2
    assert fear[GOOD] < 0.2


def test_harm_may_come_before_the_end_of_an_episode():
    """Harm in state 1, reported in `info`, ends the predicted return but not the episode."""
    batch = walks_left(ENDS)
    harm = batch.next_obs[..., 1]
    probability = predictions(fear_head, batch._replace(info={"harm": harm}))
    np.testing.assert_allclose(probability[2:4], [GAMMA, GAMMA**2], atol=0.02)


def test_fear_is_minus_its_prediction_and_hope_is_its_prediction():
    batch = experience()
    for head_class, sign in ((Fear, -1), (Hope, 1)):
        head = build(head_class, SPEC, KEY)
        signal, _ = apply_head(head, (), batch)
        np.testing.assert_allclose(signal, sign * head.predictor(batch.next_obs), rtol=1e-5)


@pytest.fixture(scope="module")
def curiosity():
    """Curiosity before and after training on the left half of the corridor, and its means."""
    blend = Blend(curiosity=(1.0, Curiosity))
    before = blend.init(KEY, CORRIDOR, 3)
    batch = walks_left(ENDS)

    def update(blend_state, _):
        signals, blend_state, _ = blend.update(blend_state, batch)
        return blend_state, signals.mean()

    after, means = jax.jit(lambda blend_state: jax.lax.scan(update, blend_state, length=200))(
        before
    )
    return before, after, means


def test_the_random_network_of_curiosity_is_never_trained(curiosity):
    untrained, trained = (blend_state.heads["curiosity"].net for blend_state in curiosity[:2])
    assert same_bits(untrained.random, trained.random)
    assert not same_bits(untrained.predictor, trained.predictor)


def test_curiosity_falls_for_visited_states_and_stays_high_for_others(curiosity):
    _, blend_state, means = curiosity
    assert means[-1] < 0.1 * means[1]
    train_state, carry = blend_state.heads["curiosity"], blend_state.carry["curiosity"]
    steps = every_step_once(ENDS)
    signal, _ = apply_head(train_state.net, carry, steps)
    next_state = np.asarray(steps.next_obs).argmax(-1)
    visited, unvisited = signal[next_state <= STATES // 2], signal[next_state > STATES // 2]
    assert unvisited.min() > 5 * visited.max()


def test_curiosity_is_never_negative():
    batch = experience(steps=20)
    head = build(Curiosity, SPEC, KEY)
    assert (apply_head(head, head.initial_state(B), batch)[0] >= 0).all()


def test_constant_returns_its_value_and_is_never_trained():
    batch = experience()

    def constant_head(spec, *, rngs):
        return Constant(spec, -0.01, rngs=rngs)

    blend = Blend(constant=(1.0, constant_head))
    blend_state = blend.init(KEY, SPEC, B)
    signals, after, metrics = blend.update(blend_state, batch)
    np.testing.assert_allclose(signals, jnp.full((*batch.reward.shape, 1), -0.01))
    assert same_bits(after.heads["constant"].net, blend_state.heads["constant"].net)
    assert set(metrics) == {"constant/signal"}


def test_a_spec_has_either_discrete_or_continuous_actions():
    for kinds in ({}, {"num_actions": 2, "action_dim": 1}, {"num_actions": -1}):
        with pytest.raises(ValueError, match="discrete or continuous .* set exactly one of them"):
            Spec(obs_dim=3, **kinds)
    assert Spec(obs_dim=3, action_dim=2).num_actions == 0
