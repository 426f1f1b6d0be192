"""What each feeling must come to know, in closed form (T13 of the science)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Constant, Curiosity, Fear, Hope, Spec, build
from tests.affect.cases import SPEC, B, experience, feel, same_bits
from tests.affect.corridor import EYE, STATES, every_step_once, solve, walk
from tests.affect.corridor import SPEC as CORRIDOR

KEY = jax.random.key(0)
HORIZON = 10
GAMMA = 1 - 1 / HORIZON
HARM, GOOD = 0, STATES - 1  # where the walks of these tests end
ENDS = {HARM: -0.5, GOOD: 1.0}


def knows(factory, batch, steps=2000) -> np.ndarray:
    """What a head predicts of each state [STATES] after learning from one batch."""
    blend = Blend(it=(1.0, factory), epochs=steps)
    blend_state = blend.init(KEY, CORRIDOR, batch.reward.shape[1])
    blend_state, _ = jax.jit(blend.learn)(blend_state, batch)
    return np.asarray(blend_state.heads["it"].net.predictor(EYE))


def fearful(spec, *, rngs):
    return Fear(spec, horizon=HORIZON, rngs=rngs)


def hopeful(spec, *, rngs):
    return Hope(spec, horizon=HORIZON, rngs=rngs)


@pytest.fixture(scope="module")
def fear():
    """Of a random walk between a harmful and a good end."""
    return knows(fearful, every_step_once(ENDS))


@pytest.fixture(scope="module")
def hope():
    return knows(hopeful, every_step_once(ENDS))


def marched(reward):
    """Straight to the left end from the middle, several times over."""
    steps = 4 * (STATES // 2)
    return walk(np.array([1, 2, 3]), np.zeros((steps, 3), bool), reward)


def test_fear_is_gamma_to_the_number_of_steps_to_harm():
    probability = knows(fearful, marched(ENDS))
    steps = np.arange(STATES // 2 + 1)  # state k is k steps from harm
    np.testing.assert_allclose(probability[steps][1:], GAMMA ** steps[1:], atol=0.02)
    assert probability[HARM] > 0.95


def test_fear_is_the_hitting_probability_of_a_random_walk(fear):
    analytic = solve(GAMMA, np.zeros(STATES), (1.0, 0.0))
    np.testing.assert_allclose(fear[1:-1], analytic[1:-1], atol=0.02)


def test_fear_learns_the_same_from_walks_as_they_happen():
    """TD(lambda) over long sampled walks, episodes and all, against the same linear equations."""
    right = np.random.default_rng(0).random((64, 128)) < 0.5
    sampled = knows(fearful, walk(np.full(128, STATES // 2), right, ENDS), steps=600)
    analytic = solve(GAMMA, np.zeros(STATES), (1.0, 0.0))
    np.testing.assert_allclose(sampled[1:-1], analytic[1:-1], atol=0.02)


def test_hope_is_one_at_a_good_end_and_fades_by_gamma_a_step():
    value = knows(hopeful, marched({HARM: 1.0}))
    steps = np.arange(1, STATES // 2 + 1)
    np.testing.assert_allclose(value[steps], GAMMA ** (steps - 1), atol=0.02)
    assert value[HARM] > 0.95


def test_hope_is_the_average_reward_of_a_random_walk(hope):
    reward = np.zeros(STATES)
    reward[[HARM, GOOD]] = ENDS[HARM], ENDS[GOOD]
    analytic = solve(GAMMA, (1 - GAMMA) * reward, (0.0, 1.0))
    np.testing.assert_allclose(hope[1:-1], analytic[1:-1], atol=0.02)


def test_hope_counts_what_every_step_pays():
    everywhere = dict.fromkeys(range(STATES), 0.3)
    np.testing.assert_allclose(knows(hopeful, every_step_once(everywhere)), 0.3, atol=0.02)


def test_hope_clips_the_reward():
    """A windfall of 100 promises no more than 1."""
    rich = knows(hopeful, every_step_once({HARM: -0.5, GOOD: 100.0}))
    assert rich[GOOD] > 0.95
    assert rich.max() <= 1.0


def test_feelings_are_anchored_at_the_end(fear, hope):
    assert fear[HARM] > 0.8
    assert hope[GOOD] > 0.8
    assert hope[HARM] < 0.2
    assert fear[GOOD] < 0.2


def test_harm_may_come_while_life_goes_on():
    """Harm in state 1, reported by the world, settles what was feared and ends nothing else."""
    batch = marched(ENDS)
    hurt = batch.next_obs[..., 1]
    probability = knows(fearful, batch._replace(info={"harm": hurt}))
    np.testing.assert_allclose(probability[2:4], [GAMMA, GAMMA**2], atol=0.02)


def test_the_signal_of_fear_is_minus_the_probability_and_of_hope_its_value():
    batch = experience()
    for feeling, sign in ((Fear, -1), (Hope, 1)):
        head = build(feeling, SPEC, KEY)
        signal, _ = feel(head, (), batch)
        np.testing.assert_allclose(signal, sign * head.predictor(batch.next_obs), rtol=1e-5)


@pytest.fixture(scope="module")
def curious():
    """Curiosity before and after it has seen the left half of the corridor, again and again."""
    blend = Blend(curiosity=(1.0, Curiosity))
    before = blend.init(KEY, CORRIDOR, 3)
    batch = marched(ENDS)

    def live(blend_state, _):
        signals, blend_state, _ = blend.update(blend_state, batch)
        return blend_state, signals.mean()

    after, course = jax.jit(lambda blend_state: jax.lax.scan(live, blend_state, length=200))(before)
    return before, after, course


def test_the_random_network_of_curiosity_never_moves(curious):
    untrained, trained = (blend_state.heads["curiosity"].net for blend_state in curious[:2])
    assert same_bits(untrained.random, trained.random)
    assert not same_bits(untrained.predictor, trained.predictor)


def test_curiosity_fades_with_what_is_seen_and_stays_for_what_is_not(curious):
    _, blend_state, course = curious
    assert course[-1] < 0.1 * course[1]
    trained, carry = blend_state.heads["curiosity"], blend_state.carry["curiosity"]
    here = every_step_once(ENDS)
    surprise, _ = feel(trained.net, carry, here)
    arrived = np.asarray(here.next_obs).argmax(-1)
    seen, unseen = surprise[arrived <= STATES // 2], surprise[arrived > STATES // 2]
    assert unseen.min() > 5 * seen.max()


def test_curiosity_is_never_negative():
    batch = experience(steps=20)
    head = build(Curiosity, SPEC, KEY)
    assert (feel(head, head.initial_state(B), batch)[0] >= 0).all()


def test_a_constant_is_its_value_and_is_never_trained():
    batch = experience()

    def steady(spec, *, rngs):
        return Constant(spec, -0.01, rngs=rngs)

    blend = Blend(constant=(1.0, steady))
    blend_state = blend.init(KEY, SPEC, B)
    signals, learned, metrics = blend.update(blend_state, batch)
    np.testing.assert_allclose(signals, jnp.full((*batch.reward.shape, 1), -0.01))
    assert same_bits(learned.heads["constant"].net, blend_state.heads["constant"].net)
    assert set(metrics) == {"constant/signal"}


def test_a_spec_has_one_kind_of_action():
    for kinds in ({}, {"num_actions": 2, "action_dim": 1}, {"num_actions": -1}):
        with pytest.raises(ValueError, match="discrete or continuous .* set exactly one of them"):
            Spec(obs_dim=3, **kinds)
    assert Spec(obs_dim=3, action_dim=2).num_actions == 0
