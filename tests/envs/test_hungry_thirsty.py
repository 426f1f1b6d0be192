"""Hungry-Thirsty: walls, eating, drinking and thirst one by one, and the picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.world import World
from envs.worlds.theory.hungry_thirsty import (
    DRINK,
    EAT,
    LAYOUTS,
    NEXT,
    HungryThirsty,
    Params,
    State,
)

ENV = HungryThirsty()
UP, DOWN, LEFT, RIGHT = range(4)


def after(state, action, chance=0.5, **params):
    return tuple(
        map(int, ENV.after(State(*map(jnp.int32, state)), action, chance, Params(**params)))
    )


def at(row, column):
    return 6 * row + column


def test_there_are_twelve_layouts_of_two_different_corners():
    assert len(set(LAYOUTS)) == 12
    assert {cell for layout in LAYOUTS for cell in layout} == {0, 5, 30, 35}
    assert all(food != water for food, water in LAYOUTS)
    assert [(int(Params(k).food), int(Params(k).water)) for k in range(12)] == list(LAYOUTS)


def test_walls_stop_and_gaps_let_through():
    for column in range(6):
        is_gap = column == 5
        assert NEXT[at(2, column), DOWN] == at(3 if is_gap else 2, column)
        assert NEXT[at(3, column), UP] == at(2 if is_gap else 3, column)
    for row in range(6):
        is_gap = row in (0, 4)
        assert NEXT[at(row, 2), RIGHT] == at(row, 3 if is_gap else 2)
        assert NEXT[at(row, 3), LEFT] == at(row, 2 if is_gap else 3)


def test_other_moves_are_free_and_the_edge_stops():
    assert NEXT[at(1, 1)].tolist() == [at(0, 1), at(2, 1), at(1, 0), at(1, 2), at(1, 1), at(1, 1)]
    assert NEXT[at(0, 0), UP] == NEXT[at(0, 0), LEFT] == at(0, 0)
    assert NEXT[at(5, 5), DOWN] == NEXT[at(5, 5), RIGHT] == at(5, 5)
    changed = (np.arange(36)[:, None] != NEXT).sum()
    assert changed == 2 * (60 - 5 - 4)  # 60 borders within the grid, 9 of them walled


def test_eating_needs_food_and_no_thirst_and_sates_for_one_step():
    assert after((0, 1, 0), EAT) == (0, 0, 0)
    assert after((0, 0, 0), EAT) == (0, 0, 0)
    assert after((0, 1, 1), EAT) == (0, 1, 1)  # thirsty
    assert after((1, 1, 0), EAT) == (1, 1, 0)  # no food in this cell
    assert after((0, 0, 0), DRINK) == (0, 1, 0)  # the meal is over
    assert after((0, 1, 0), EAT, chance=0.05) == (0, 0, 1)  # thirst sets in after eating


def test_drinking_needs_water_and_always_ends_thirst():
    assert after((5, 1, 1), DRINK) == (5, 1, 0)
    assert after((5, 1, 1), DRINK, chance=0.0) == (5, 1, 0)
    assert after((0, 1, 1), DRINK) == (0, 1, 1)


@pytest.mark.parametrize(("thirst", "rate"), [(0.1, 0.1), (0.4, 0.4)])
def test_thirst_sets_in_at_its_rate_and_stays(thirst, rate):
    state = State(*map(jnp.int32, (7, 1, 0)))
    keys = jax.random.split(jax.random.key(0), 20_000)
    step = jax.vmap(lambda key: ENV.transition(state, UP, key, Params(thirst=thirst)).thirsty)
    assert np.mean(step(keys)) == pytest.approx(rate, abs=0.008)
    assert after((7, 1, 1), UP, chance=0.9)[2] == 1


def test_reward_body_and_observation_of_a_transition():
    sated, hungry = (State(*map(jnp.int32, state)) for state in ((31, 0, 1), (8, 1, 0)))
    assert ENV.reward(hungry, EAT, sated, None, Params()) == 1
    assert ENV.reward(sated, EAT, hungry, None, Params()) == 0
    np.testing.assert_array_equal(ENV.transition_info(hungry, EAT, sated, Params())["body"], [0, 1])
    np.testing.assert_array_equal(ENV.observation(sated, None, Params()), [5, 1, 0, 1])
    np.testing.assert_array_equal(ENV.observation(hungry, None, Params()), [1, 2, 1, 0])


def test_an_episode_starts_anywhere_in_need_and_ends_by_its_horizon_alone():
    env = HungryThirsty(horizon=3)
    world = World(Params())
    env_states = jax.vmap(lambda key: env.reset(key, world))(
        jax.random.split(jax.random.key(0), 2000)
    )
    assert set(np.asarray(env_states.state.cell)) == set(range(36))
    assert (env_states.obs[:, 2:] == 1).all()
    env_state, ends = env.reset(jax.random.key(1), world), []
    for t in range(3):
        env_state, transition = env.step(jax.random.key(t), env_state, jnp.int32(0))
        ends.append((bool(transition.terminated), bool(transition.truncated)))
    assert ends == [(False, False), (False, False), (False, True)]
    assert HungryThirsty().horizon == 75_000


def test_the_picture_shows_position_and_needs():
    pictures = [
        ENV.render_image(State(*map(jnp.int32, state)), None, Params(layout))[1]
        for state, layout in (((7, 1, 1), 0), ((8, 1, 1), 0), ((7, 0, 1), 0), ((7, 1, 1), 5))
    ]
    assert all(picture.shape == (400, 560, 3) for picture in pictures)
    assert all((pictures[0] != other).any() for other in pictures[1:])
