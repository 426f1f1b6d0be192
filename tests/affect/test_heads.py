"""Trained heads against closed forms of what they predict (target T13)."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Constant, Curiosity, Fear, Hope, Spec, Transition
from tests.affect.cases import KEY, SPEC, B, apply_head, experience, same_bits

HORIZON = 10
GAMMA = 1 - 1 / HORIZON
STATES = 7  # of a corridor with an end on the left, 0, and on the right, 6
MIDDLE = STATES // 2
EYE = np.eye(STATES, dtype=np.float32)
CORRIDOR = Spec(obs_dim=STATES, num_actions=2)
FEAR, HOPE = partial(Fear, horizon=HORIZON), partial(Hope, horizon=HORIZON)
HARM, GOOD = 0, STATES - 1  # where the walks of these tests end
ENDS = {HARM: -0.5, GOOD: 1.0}
EVERYWHERE = dict.fromkeys(range(STATES), 0.3)


# --- the corridor -------------------------------------------------------------------------------


def walk(start: np.ndarray, right: np.ndarray, reward: dict[int, float]) -> Transition:
    """Batch of walks in B corridors for T steps, restarted in the middle after either end.

    Args:
        start: [B] first states.
        right: [T, B] bool, whether a step goes right.
        reward: state -> reward for arriving there; 0 for all others.
    """
    state, states, successors = start, [], []
    for step in right:
        states.append(state)
        successors.append(state + np.where(step, 1, -1))
        ended = np.isin(successors[-1], (HARM, GOOD))
        state = np.where(ended, MIDDLE, successors[-1])
    return transitions(np.stack(states), np.stack(successors), reward)


def transitions(state: np.ndarray, successor: np.ndarray, reward: dict[int, float]) -> Transition:
    """Batch [T, B] of steps from states to successors."""
    rewards = np.zeros(STATES, np.float32)
    rewards[list(reward)] = list(reward.values())
    ended = np.isin(successor, (HARM, GOOD))
    first = np.concatenate([np.ones_like(ended[:1]), ended[:-1]])
    fields = EYE[state], state * 0, EYE[successor], rewards[successor], ended, ended & False, first
    return Transition(*map(jnp.asarray, fields))


def every_step_once(reward: dict[int, float]) -> Transition:
    """Batch [1, B] with a step left and right from each inner state, an exact random walk."""
    inner = np.arange(1, STATES - 1)
    state = np.concatenate([inner, inner])[None]
    successor = np.concatenate([inner - 1, inner + 1])[None]
    return transitions(state, successor, reward)


def random_walks(reward: dict[int, float]) -> Transition:
    """Batch of sampled walks [64, 128] of many episodes, from the middle."""
    right = np.random.default_rng(0).random((64, 128)) < 0.5
    return walk(np.full(128, MIDDLE), right, reward)


def walks_left(reward: dict[int, float]) -> Transition:
    """Batch of walks straight to the left end, several times over."""
    return walk(np.array([1, 2, 3]), np.zeros((4 * MIDDLE, 3), bool), reward)


def solve(cumulant: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Values [STATES] of a random walk: v = E[cumulant(successor) + GAMMA v(successor)].

    Args:
        cumulant: [STATES] received on arrival.
        ends: values of the left and the right end.
    """
    step = np.zeros((STATES, STATES))
    for state in range(1, STATES - 1):
        step[state, [state - 1, state + 1]] = 0.5
    fixed = np.zeros(STATES)
    fixed[[0, -1]] = ends
    return np.linalg.solve(np.eye(STATES) - GAMMA * step, step @ cumulant + fixed)


# --- the heads -----------------------------------------------------------------------------------


def predictions(factory, batch, steps=2000) -> np.ndarray:
    """Predictions [STATES] of a head for each state after training on one batch.

    The signal of fear is minus its prediction, a probability; that of hope is its prediction.
    """
    blend = Blend(it=(1.0, factory), epochs=steps)
    spec = replace(CORRIDOR, info=tuple(batch.info))
    blend_state = blend.init(KEY, spec, batch.reward.shape[1])
    head = jax.jit(blend.learn)(blend_state, batch)[0].heads["it"].net
    signal, _ = apply_head(head, (), batch._replace(next_obs=EYE))
    return (head.sign or 1) * np.asarray(signal)


@pytest.mark.parametrize(
    ("factory", "reward", "at_end"), [(FEAR, -0.5, 0), (HOPE, 1.0, 1)], ids=["fear", "hope"]
)
def test_a_prediction_is_1_at_the_end_and_decays_by_gamma_per_step(factory, reward, at_end):
    """Fear k steps before harm is gamma^k; hope, whose reward comes on arrival, gamma^(k - 1)."""
    prediction = predictions(factory, walks_left({HARM: reward}))
    steps = np.arange(1, MIDDLE + 1)  # state k is k steps from the end
    np.testing.assert_allclose(prediction[steps], GAMMA ** (steps - at_end), atol=0.02)
    assert prediction[HARM] > 0.95


@pytest.mark.parametrize(("walks", "steps"), [(every_step_once, 2000), (random_walks, 600)])
def test_fear_is_the_probability_of_harm_in_a_random_walk(walks, steps):
    """From one step each way in every state, and by TD(lambda) from long sampled walks."""
    analytic = solve(np.zeros(STATES), (1.0, 0.0))
    np.testing.assert_allclose(predictions(FEAR, walks(ENDS), steps), analytic, atol=0.02)


@pytest.mark.parametrize(
    ("reward", "clipped"),
    [(ENDS, ENDS), (EVERYWHERE, EVERYWHERE), ({HARM: -0.5, GOOD: 100.0}, ENDS)],
    ids=["at the ends", "everywhere", "beyond 1"],
)
def test_hope_is_the_average_clipped_reward_of_a_random_walk(reward, clipped):
    cumulant = np.array([clipped.get(state, 0.0) for state in range(STATES)])
    ends = max(cumulant[HARM], 0.0), cumulant[GOOD]  # hope is 0 at a harmful end
    analytic = solve((1 - GAMMA) * cumulant, ends)
    np.testing.assert_allclose(predictions(HOPE, every_step_once(reward)), analytic, atol=0.02)


def test_harm_may_come_before_the_end_of_an_episode():
    """Harm in state 1, reported in `info`, ends the predicted return but not the episode."""
    batch = walks_left(ENDS)
    harm = batch.next_obs[..., 1]
    probability = predictions(FEAR, batch._replace(info={"harm": harm}))
    np.testing.assert_allclose(probability[2:4], [GAMMA, GAMMA**2], atol=0.02)


def test_curiosity_falls_for_visited_states_and_stays_high_for_others():
    """Trained on the left half of the corridor; its random network does not move."""
    blend, batch = Blend(curiosity=(1.0, Curiosity)), walks_left(ENDS)

    def update(blend_state, _):
        signals, blend_state, _ = blend.update(blend_state, batch)
        return blend_state, signals.mean()

    before = blend.init(KEY, CORRIDOR, 3)
    after, means = jax.jit(lambda start: jax.lax.scan(update, start, length=200))(before)
    assert means[-1] < 0.1 * means[1]
    steps = every_step_once(ENDS)
    signal, _ = apply_head(after.heads["curiosity"].net, after.carry["curiosity"], steps)
    next_state = np.asarray(steps.next_obs).argmax(-1)
    assert signal[next_state > MIDDLE].min() > 5 * signal[next_state <= MIDDLE].max()
    untrained, trained = before.heads["curiosity"].net, after.heads["curiosity"].net
    assert same_bits(untrained.random, trained.random)
    assert not same_bits(untrained.predictor, trained.predictor)


def test_constant_returns_its_value_and_is_never_trained():
    blend = Blend(constant=(1.0, partial(Constant, value=-0.01)))
    blend_state = blend.init(KEY, SPEC, B)
    signals, after, metrics = blend.update(blend_state, experience())
    np.testing.assert_array_equal(signals, np.float32(-0.01))
    assert same_bits(after.heads["constant"].net, blend_state.heads["constant"].net)
    assert set(metrics) == {"constant/signal", "heads/skipped"}


@pytest.mark.parametrize("kinds", [{}, {"num_actions": 2, "action_dim": 1}])
def test_a_spec_has_either_discrete_or_continuous_actions(kinds):
    with pytest.raises(ValueError, match="discrete or continuous .* set exactly one of them"):
        Spec(obs_dim=3, **kinds)


@pytest.mark.slow
def test_curiosity_of_the_same_steps_has_the_same_scale_in_1_and_in_8_environments():
    side_by_side = experience(steps=64, envs=8)
    in_turn = jax.tree.map(lambda leaf: leaf.reshape(512, 1, *leaf.shape[2:]), side_by_side)
    blend, means = Blend(curiosity=(1.0, Curiosity)), []
    for batch in (side_by_side, in_turn):
        state = blend.init(KEY, SPEC, batch.reward.shape[1])
        for _ in range(2):  # the first pass is that in which the moments are found
            signal, state = blend.feel(state, batch)
        means.append(float(signal.mean()))
    assert means[0] == pytest.approx(means[1], rel=0.02)
