"""Worlds with a closed form: rules step by step, and what rollouts must give."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.world import World
from envs.worlds.theory import gamble, hungry_thirsty, ponder
from envs.worlds.theory.corridor import Corridor, Params, always_left_value, hitting_value
from envs.worlds.theory.deep_sea import DeepSea
from envs.worlds.theory.drift import Drift
from envs.worlds.theory.drift import Params as DriftParams
from envs.worlds.theory.gamble import SHUFFLED, Gamble, decks
from envs.worlds.theory.hungry_thirsty import DRINK, EAT, LAYOUTS, NEXT, HungryThirsty
from envs.worlds.theory.ponder import LEFT, RIGHT, WAIT, Ponder
from tests.envs.play import picture, play, random_actions
from tests.tiers import slow


def take_actions(env, actions, params, seed=0):
    """Transitions of these actions in one episode, and its first state."""
    env_state = first = env.reset(jax.random.key(seed), World(params))
    step, transitions = jax.jit(env.step), []
    for t, action in enumerate(actions):
        env_state, transition = step(jax.random.key(100 + t), env_state, jnp.int32(action))
        transitions.append(transition)
    return transitions, first.state


def ends(transitions) -> list[tuple[bool, bool]]:
    return [(bool(step.terminated), bool(step.truncated)) for step in transitions]


@pytest.mark.parametrize(
    ("env", "totals", "lengths", "expected"),
    [
        (Corridor(5), [0, 1], [4, 4], [False, True]),  # the right end
        (Corridor(5, "left", horizon=9), [0, 0], [8, 9], [False, True]),  # survival
        (DeepSea(), [-0.01, 0, 0.99], [10, 10, 10], [False, False, True]),  # the treasure
        (Drift(), [-1, 0, 1], [1, 1, 1], [False, False, True]),
    ],
)
def test_success(env, totals, lengths, expected):
    totals, lengths = (jnp.array(values, jnp.float32) for values in (totals, lengths))
    assert env.success(totals, lengths).tolist() == expected


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (partial(Corridor, 2), "at least 3 cells, not 2"),
        (partial(Corridor, 5, "right"), "cannot end 'right'; it ends both or left"),
        (partial(DeepSea, 1), "at least 2 cells deep, not 1"),
        (partial(Drift, arms=1), "at least 2 arms, not 1"),
    ],
)
def test_bad_input_is_named(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


# --- Corridor ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "cell", "action", "expected"),
    [
        ("both", 3, 0, (2, 0.0, False, 0.0)),
        ("both", 3, 1, (4, 0.0, False, 0.0)),
        ("both", 1, 0, (0, 0.0, True, 1.0)),
        ("both", 5, 1, (6, 2.5, True, 0.0)),
        ("left", 1, 0, (0, 0.0, True, 1.0)),
        ("left", 5, 1, (6, 0.0, False, 0.0)),
        ("left", 6, 1, (6, 0.0, False, 0.0)),
        ("left", 6, 0, (5, 0.0, False, 0.0)),
    ],
)
def test_a_step_gives_cell_reward_end_and_harm(ends, cell, action, expected):
    env, params, cell, action = (
        Corridor(7, ends),
        Params(pay=2.5),
        jnp.int32(cell),
        jnp.int32(action),
    )
    after = env.transition(cell, action, jax.random.key(0), params)
    reward = env.reward(cell, action, after, None, params)
    harm = env.transition_info(cell, action, after, params)["harm"]
    end = env.terminal(after, None, params)
    assert (int(after), float(reward), bool(end), float(harm)) == expected


def test_a_slip_goes_left_or_right_with_equal_probability():
    keys = jax.random.split(jax.random.key(0), 4000)
    move = jax.vmap(partial(Corridor(7).transition, jnp.int32(3), jnp.int32(0)), (0, None))
    assert (move(keys, Params(slip=0.4)) == 4).mean() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(("ends", "last"), [("both", 5), ("left", 6)])
def test_episodes_start_uniformly_in_the_cells_that_are_no_end(ends, last):
    keys = jax.random.split(jax.random.key(0), 3000)
    cells = np.asarray(jax.vmap(partial(Corridor(7, ends).initial, params=Params()))(keys))
    assert sorted(set(cells)) == list(range(1, last + 1))
    np.testing.assert_allclose(np.bincount(cells)[1:] / 3000, 1 / last, atol=0.03)


def test_always_left_value_solves_the_linear_system_of_going_left():
    expected = always_left_value(9, 0.8)
    np.testing.assert_allclose(hitting_value(9, 0.8, right=0.0, ends="left"), expected, rtol=1e-12)
    inner = hitting_value(9, 0.8, right=0.0)  # equal but for the right end, which is no harm
    np.testing.assert_allclose(inner[:-1], expected[:-1], rtol=1e-12)
    assert inner[-1] == 0


def test_hitting_value_of_a_random_walk_equals_gamblers_ruin():
    # gambler's ruin (Feller, 1968, XIV.4), and its generating function with a discount
    cells = np.arange(7)
    np.testing.assert_allclose(hitting_value(7, 1.0), 1 - cells / 6, atol=1e-12)
    gamma = 0.9
    root = (1 + np.sqrt(1 - gamma**2)) / gamma
    expected = (root ** (6 - cells) - root ** (cells - 6.0)) / (root**6 - root**-6.0)
    np.testing.assert_allclose(hitting_value(7, gamma), expected, rtol=1e-12)


@pytest.mark.parametrize("ends", ["both", slow("left")])
def test_hitting_value_equals_the_mean_discounted_harm_in_rollouts(ends):
    env, gamma, n = Corridor(6, ends), 0.9, 4000

    def left(key, obs):
        return jnp.zeros(n, jnp.int32)

    _, batch = play(env, World(env.get_default_params(slip=1.0)), left, n, 100)
    ended = batch.terminated.argmax(0)  # the first end of each environment
    discounted = batch.info["harm"][ended, np.arange(n)] * gamma ** (ended + 1)
    start = batch.obs[0].argmax(-1)
    for cell, expected in enumerate(hitting_value(6, gamma, ends=ends)):
        if (start == cell).any():
            assert discounted[start == cell].mean() == pytest.approx(expected, abs=0.05)


# --- DeepSea ----------------------------------------------------------------------------------


def dive(env, rights, **params):
    """Episode that goes right where `rights` is true -> (obs, rewards, states, ends)."""
    params, key = env.get_default_params(**params), jax.random.key(0)
    state, steps = env.initial(key, params), []
    for right in rights:
        right_action = params.right[state.row, state.column]
        action = right_action if right else 1 - right_action
        after = env.transition(state, action, jax.random.clone(key), params)
        reward = env.reward(state, action, after, None, params)
        obs = env.observation(after, None, params)
        steps.append((obs, float(reward), after, bool(env.terminal(after, None, params))))
        state = after
    return [list(column) for column in zip(*steps, strict=True)]


@pytest.mark.parametrize("size", [2, 7])
def test_only_all_steps_to_the_right_reach_the_treasure(size):
    env = DeepSea(size)
    _, rewards, states, ended = dive(env, [True] * size)
    assert sum(rewards) == pytest.approx(0.99)
    assert rewards[:-1] == pytest.approx([-0.01 / size] * (size - 1))
    assert ended == [False] * (size - 1) + [True]
    assert bool(states[-1].reached)
    for miss in range(size):
        _, rewards, states, _ = dive(env, [step != miss for step in range(size)])
        assert sum(rewards) == pytest.approx(-0.01 * (size - 1) / size)
        assert not bool(states[-1].reached)


def test_a_move_to_the_left_is_free_and_stops_at_the_wall():
    obs, rewards, states, _ = dive(DeepSea(4), [True, False, False, False])
    assert rewards == pytest.approx([-0.0025, 0, 0, 0])
    assert [int(state.column) for state in states] == [1, 0, 0, 0]
    cells = [np.flatnonzero(row).tolist() for row in obs]
    assert cells == [[5], [8], [12], []]  # zeros beyond the last row


def test_the_action_for_right_is_random_per_cell_and_fixed_by_the_seed():
    env = DeepSea(20)
    right = np.asarray(env.get_default_params().right)
    assert right.shape == (20, 20) and set(right.ravel()) == {0, 1}
    assert right.mean() == pytest.approx(0.5, abs=0.08)
    np.testing.assert_array_equal(right, env.get_default_params().right)
    assert (right != env.get_default_params(seed=1).right).any()


def test_a_slip_stays_in_its_column_and_costs_as_a_move():
    _, rewards, states, _ = dive(DeepSea(3), [True] * 3, slip=1.0)
    assert [int(state.column) for state in states] == [0, 0, 0]
    assert rewards == pytest.approx([-0.01 / 3] * 3)


def test_a_random_walk_reaches_the_treasure_with_probability_2_to_minus_n():
    env, num_envs, dives = DeepSea(5), 512, 20
    world = World(env.get_default_params())
    _, batch = play(env, world, random_actions(2), num_envs, 5 * dives)
    assert batch.terminated[4::5].all() and not batch.truncated.any()
    rate = float((batch.reward > 0.5).sum()) / (num_envs * dives)
    assert rate == pytest.approx(2**-5, abs=0.006)


# --- Drift ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pulls():
    """[50, 2000] steps of pulling arms at random."""
    params = DriftParams(level=1.0, drift=-0.02, gap=0.5, noise=0.3)
    return play(Drift(arms=3, horizon=50), World(params), random_actions(3), 2000, 50)[1]


def test_the_level_changes_by_drift_per_step(pulls):
    level = 1.0 - 0.02 * np.arange(50)
    for arm in range(3):
        mean = pulls.info["foregone"][..., arm].mean(1)
        np.testing.assert_allclose(mean, level + 0.5 * arm, atol=0.03)


def test_noise_is_independent_across_arms_and_steps(pulls):
    noise = pulls.info["foregone"]
    noise = noise - noise.mean(1, keepdims=True)
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[:-1, :, 0].ravel(), noise[1:, :, 0].ravel())[0, 1]) < 0.02


def test_the_reward_of_the_pulled_arm_is_in_the_next_observation(pulls):
    expected = np.take_along_axis(pulls.info["foregone"], pulls.action[..., None], -1)[..., 0]
    np.testing.assert_array_equal(pulls.reward, expected)
    np.testing.assert_allclose(pulls.next_obs[..., 0], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(pulls.next_obs[..., 1:].argmax(-1), pulls.action)
    assert (pulls.obs[0] == 0).all()


def test_only_the_horizon_ends_an_episode_of_drift(pulls):
    assert not pulls.terminated.any()
    assert pulls.truncated[-1].all() and not pulls.truncated[:-1].any()


def test_the_lag_of_an_average_is_that_of_the_docstring():
    alpha, drift, value = 0.2, 0.01, 0.0
    for t in range(400):
        value += alpha * (drift * t - value)
    assert drift * 399 - value == pytest.approx(drift * (1 - alpha) / alpha, rel=1e-6)
    assert drift * 400 - value == pytest.approx(drift / alpha, rel=1e-6)


# --- Gamble -----------------------------------------------------------------------------------


def take_cards(*chosen, **params):
    """Transitions of taking one card after another from these decks."""
    return take_actions(Gamble(), chosen, gamble.Params(**params))[0]


def payoffs(*chosen, **params):
    return [float(transition.reward) for transition in take_cards(*chosen, **params)]


def test_blocks_of_ten_cards_have_the_published_net_and_losses():
    (gain, loss), sizes = decks()
    net, has_loss = gain - loss, loss > 0
    assert (sizes[0] == 40).all() and sizes[1].tolist() == [40, 60, 56, 60]
    for deck, expected_net, losses in ((0, -2.5, 5), (1, -2.5, 1), (2, 2.5, 5), (3, 2.5, 1)):
        np.testing.assert_allclose(net[0, deck, :40].reshape(4, 10).sum(1), expected_net)
        np.testing.assert_array_equal(has_loss[0, deck, :40].reshape(4, 10).sum(1), losses)
    deck_b = net[1, 1].reshape(6, 10).sum(1)
    np.testing.assert_allclose(deck_b, [-2.5, -4.0, -5.5, -7.0, -8.5, -10.0], rtol=1e-5)


def test_each_deck_is_drawn_in_order():
    assert payoffs(0, 0, 0, 3, 0, 0) == [1.0, 1.0, -0.5, 0.5, 1.0, -2.0]
    assert payoffs(*[1] * 9)[-1] == pytest.approx(-11.5)


def test_a_deck_starts_again_after_its_last_card():
    one_deck = payoffs(*[0] * 43)
    assert one_deck[40:] == one_deck[:3]
    longer = payoffs(*[2] * 58, schedule=1)
    assert longer[56:] == longer[:2] and longer[40:42] != longer[:2]


def test_shuffled_decks_show_their_losses_first():
    usual, moved = payoffs(*[1] * 40), payoffs(*[1] * 40, moved=float(SHUFFLED))
    assert usual[:8] == [1.0] * 8 and moved[0] == pytest.approx(-11.5)
    assert moved == usual[8:] + usual[:8]
    assert payoffs(0, 0, moved=float(SHUFFLED)) == [-1.5, -2.5]


def test_turned_decks_are_exchanged():
    assert payoffs(2, 2, 2, 0, turned=2) == payoffs(0, 0, 0, 2)


def test_info_of_a_card_has_gain_loss_harm_and_foregone():
    third = take_cards(0, 0, 0)[-1]
    assert (third.info["gain"], third.info["loss"], third.info["harm"]) == (1.0, 1.5, 1.0)
    np.testing.assert_allclose(third.info["foregone"], [-0.5, 1.0, 0.5, 0.5])
    assert third.info["foregone"][0] == third.reward
    np.testing.assert_allclose(third.next_obs, [1.0, 1.5, 0.03])
    assert take_cards(0)[0].info["harm"] == 0
    even = take_cards(2, 2, 2)[-1]  # 50 won, 50 lost
    assert (even.reward, even.info["harm"]) == (0.0, 0.0)


def test_the_gamble_is_truncated_after_100_trials():
    assert ends(take_cards(*[0, 1, 2, 3] * 25)) == [(False, False)] * 99 + [(False, True)]


# --- HungryThirsty ----------------------------------------------------------------------------

UP, DOWN, MOVE_LEFT, MOVE_RIGHT = range(4)
GRID = HungryThirsty()


def needs(cell, hungry, thirsty) -> hungry_thirsty.State:
    return hungry_thirsty.State(*map(jnp.int32, (cell, hungry, thirsty)))


def after(state, action, chance=0.5):
    next_state = GRID.after(needs(*state), action, chance, hungry_thirsty.Params())
    return tuple(map(int, next_state))


def at(row, column):
    return 6 * row + column


def test_there_are_twelve_layouts_of_two_different_corners():
    assert len(set(LAYOUTS)) == 12
    assert {cell for layout in LAYOUTS for cell in layout} == {0, 5, 30, 35}
    assert all(food != water for food, water in LAYOUTS)
    params = [hungry_thirsty.Params(k) for k in range(12)]
    assert [(int(p.food), int(p.water)) for p in params] == list(LAYOUTS)


def test_walls_stop_and_gaps_let_through():
    for column in range(6):
        is_gap = column == 5
        assert NEXT[at(2, column), DOWN] == at(3 if is_gap else 2, column)
        assert NEXT[at(3, column), UP] == at(2 if is_gap else 3, column)
    for row in range(6):
        is_gap = row in (0, 4)
        assert NEXT[at(row, 2), MOVE_RIGHT] == at(row, 3 if is_gap else 2)
        assert NEXT[at(row, 3), MOVE_LEFT] == at(row, 2 if is_gap else 3)


def test_other_moves_are_free_and_the_edge_stops():
    assert NEXT[at(1, 1)].tolist() == [at(0, 1), at(2, 1), at(1, 0), at(1, 2), at(1, 1), at(1, 1)]
    assert NEXT[at(0, 0), UP] == NEXT[at(0, 0), MOVE_LEFT] == at(0, 0)
    assert NEXT[at(5, 5), DOWN] == NEXT[at(5, 5), MOVE_RIGHT] == at(5, 5)
    changed = (np.arange(36)[:, None] != NEXT).sum()
    assert changed == 2 * (60 - 5 - 4)  # 60 borders within the grid, 9 of them walled


@pytest.mark.parametrize(
    ("state", "action", "chance", "expected"),
    [
        ((0, 1, 0), EAT, 0.5, (0, 0, 0)),  # food is in cell 0, water in cell 5
        ((0, 0, 0), EAT, 0.5, (0, 0, 0)),
        ((0, 1, 1), EAT, 0.5, (0, 1, 1)),  # thirsty
        ((1, 1, 0), EAT, 0.5, (1, 1, 0)),  # no food in this cell
        ((0, 0, 0), DRINK, 0.5, (0, 1, 0)),  # the meal is over
        ((0, 1, 0), EAT, 0.05, (0, 0, 1)),  # thirst sets in after eating
        ((5, 1, 1), DRINK, 0.5, (5, 1, 0)),
        ((5, 1, 1), DRINK, 0.0, (5, 1, 0)),
        ((0, 1, 1), DRINK, 0.5, (0, 1, 1)),  # no water
        ((7, 1, 1), UP, 0.9, (1, 1, 1)),  # thirst stays
    ],
)
def test_meals_need_food_and_no_thirst_and_water_ends_thirst(state, action, chance, expected):
    assert after(state, action, chance) == expected


@pytest.mark.parametrize("thirst", [0.1, 0.4])
def test_thirst_sets_in_at_its_rate(thirst):
    keys, params = jax.random.split(jax.random.key(0), 20_000), hungry_thirsty.Params(thirst=thirst)
    thirsty = jax.vmap(lambda key: GRID.transition(needs(7, 1, 0), UP, key, params).thirsty)(keys)
    assert np.mean(thirsty) == pytest.approx(thirst, abs=0.008)


def test_reward_body_and_observation_of_a_transition():
    sated, hungry, params = needs(31, 0, 1), needs(8, 1, 0), hungry_thirsty.Params()
    assert GRID.reward(hungry, EAT, sated, None, params) == 1
    assert GRID.reward(sated, EAT, hungry, None, params) == 0
    np.testing.assert_array_equal(GRID.transition_info(hungry, EAT, sated, params)["body"], [0, 1])
    np.testing.assert_array_equal(GRID.observation(sated, None, params), [5, 1, 0, 1])
    np.testing.assert_array_equal(GRID.observation(hungry, None, params), [1, 2, 1, 0])


def test_an_episode_starts_anywhere_in_need_and_ends_by_its_horizon_alone():
    env, world = HungryThirsty(horizon=3), World(hungry_thirsty.Params())
    keys = jax.random.split(jax.random.key(0), 2000)
    env_states = jax.vmap(lambda key: env.reset(key, world))(keys)
    assert set(np.asarray(env_states.state.cell)) == set(range(36))
    assert (env_states.obs[:, 2:] == 1).all()
    transitions, _ = take_actions(env, [UP] * 3, world.params)
    assert ends(transitions) == [(False, False), (False, False), (False, True)]
    assert HungryThirsty().horizon == 75_000


def test_the_picture_shows_position_needs_and_layout():
    drawn = (((7, 1, 1), 0), ((8, 1, 1), 0), ((7, 0, 1), 0), ((7, 1, 1), 5))
    first, *others = (
        picture(GRID, needs(*state), hungry_thirsty.Params(layout)) for state, layout in drawn
    )
    assert all((first != other).any() for other in others)


# --- Ponder -----------------------------------------------------------------------------------


def think(*actions):
    """One episode of these actions -> (worth of the options [2], transitions)."""
    transitions, first = take_actions(Ponder(horizon=6), actions, ponder.Params())
    return np.asarray(first.worth), transitions


@pytest.mark.parametrize("choice", [LEFT, RIGHT])
def test_a_choice_pays_its_worth_and_ends_the_episode_without_a_look(choice):
    worth, (waited, chosen) = think(WAIT, choice)
    assert waited.reward == pytest.approx(-0.02) and not waited.terminated
    assert chosen.reward == pytest.approx(worth[choice]) and chosen.terminated
    np.testing.assert_allclose(chosen.info["foregone"], [*worth, -0.02], rtol=1e-6)
    np.testing.assert_array_equal(chosen.next_obs, waited.next_obs)


def test_the_mean_of_the_looks_converges_to_the_worth():
    env, params = Ponder(horizon=6), ponder.Params()
    env_state = env.reset(jax.random.key(0), World(params))

    def look(state, key):
        return env.transition(state, jnp.int32(WAIT), key, params), None

    state, _ = jax.lax.scan(look, env_state.state, jax.random.split(jax.random.key(1), 20_000))
    mean = env.observation(state, None, params)[:2]
    np.testing.assert_allclose(mean, env_state.state.worth, atol=0.03)
    np.testing.assert_array_equal(env_state.obs, [0.0, 0.0, 0.0])


def test_waiting_until_the_end_pays_only_the_cost():
    _, transitions = think(*[WAIT] * 6)
    assert [end[0] for end in ends(transitions)] == [False] * 5 + [True]
    assert sum(float(transition.reward) for transition in transitions) == pytest.approx(-0.12)
    assert transitions[-1].next_obs[2] == 1.0


def test_the_gap_is_the_deviation_of_the_worth():
    spreads = []
    for gap in (0.0, 0.5, 2.0):
        starts = jax.vmap(lambda key, gap=gap: Ponder().initial(key, ponder.Params(gap=gap)).worth)
        spreads.append(float(starts(jax.random.split(jax.random.key(0), 4000)).std()))
    np.testing.assert_allclose(spreads, [0.0, 0.5, 2.0], rtol=0.03)
