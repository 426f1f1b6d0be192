"""Ponder: waiting costs reward and gives noisy looks; a choice pays its worth and ends it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.world import World
from envs.worlds.theory.ponder import LEFT, RIGHT, WAIT, Params, Ponder

ENV = Ponder(horizon=6)
WORLD = World(Params())


def run_actions(*actions, seed=0, world=WORLD):
    """One episode of these actions -> (worth of the options [2], transitions)."""
    env_state = ENV.reset(jax.random.key(seed), world)
    worth, step, transitions = env_state.state.worth, jax.jit(ENV.step), []
    for t, action in enumerate(actions):
        env_state, transition = step(jax.random.key(100 + t), env_state, jnp.int32(action))
        transitions.append(transition)
    return np.asarray(worth), transitions


@pytest.mark.parametrize("choice", [LEFT, RIGHT])
def test_a_choice_pays_its_worth_and_ends_the_episode(choice):
    worth, (waited, chosen) = run_actions(WAIT, choice)
    assert waited.reward == pytest.approx(-0.02) and not waited.terminated
    assert chosen.reward == pytest.approx(worth[choice]) and chosen.terminated
    np.testing.assert_allclose(chosen.info["foregone"], [*worth, -0.02], rtol=1e-6)


def test_the_mean_of_the_looks_converges_to_the_worth():
    env_state = ENV.reset(jax.random.key(0), WORLD)

    def look(state, key):
        state = ENV.transition(state, jnp.int32(WAIT), key, Params())
        return state, None

    state, _ = jax.lax.scan(look, env_state.state, jax.random.split(jax.random.key(1), 20_000))
    mean = ENV.observation(state, None, Params())[:2]
    np.testing.assert_allclose(mean, env_state.state.worth, atol=0.03)
    np.testing.assert_array_equal(env_state.obs, [0.0, 0.0, 0.0])


def test_a_choice_gives_no_further_look():
    _, (looked, chosen) = run_actions(WAIT, LEFT)
    np.testing.assert_array_equal(chosen.next_obs, looked.next_obs)


def test_waiting_until_the_end_pays_only_the_cost():
    _, transitions = run_actions(*[WAIT] * 6)
    assert [bool(transition.terminated) for transition in transitions] == [False] * 5 + [True]
    assert sum(float(transition.reward) for transition in transitions) == pytest.approx(-0.12)
    assert transitions[-1].next_obs[2] == 1.0


def test_the_gap_is_the_deviation_of_the_worth():
    spreads = []
    for gap in (0.0, 0.5, 2.0):
        starts = jax.vmap(lambda key, gap=gap: ENV.initial(key, Params(gap=gap)).worth)
        spreads.append(float(starts(jax.random.split(jax.random.key(0), 4000)).std()))
    np.testing.assert_allclose(spreads, [0.0, 0.5, 2.0], rtol=0.03)


def test_the_picture_shows_looks_and_choice():
    env_state = ENV.reset(jax.random.key(0), WORLD)
    states = [env_state.state]
    for action in (WAIT, LEFT):
        states.append(ENV.transition(states[-1], jnp.int32(action), jax.random.key(5), Params()))
    pictures = [ENV.render_image(state, None, Params())[1] for state in states]
    assert pictures[0].shape == (320, 480, 3)
    assert (pictures[0] != pictures[1]).any() and (pictures[1] != pictures[2]).any()
