"""Grid: rules in hand-built rooms, wrong goals, disjoint layout splits, refused layouts."""

import jax
import numpy as np
import pytest

import envs
from envs.worlds.grid import layouts
from envs.worlds.grid.grid import OBSERVED, Grid
from envs.worlds.grid.layouts import CHEST, COIN, FLAG, KEY, MOVES, SIDE, START, WALL, parse
from tests.refusal import refused

UP, DOWN, LEFT, RIGHT = range(4)
EMPTY = ["......."] * 6
ENV = Grid()
KINDS = ("lava", "keys", "coin")


@jax.jit
def start_in(bank):
    state = ENV.initial(jax.random.key(0), ENV.get_default_params()._replace(tiles=bank))
    return state, ENV.observation(state, None, None)


@jax.jit
def step_with_outcome(state, action):
    after = ENV.transition(state, action, None, None)
    paid = ENV.reward(state, action, after, None, None)
    info = ENV.transition_info(state, action, after, None)
    ends = ENV.terminal(after, None, None)
    return after, (paid, ends, info["harm"], info["other_goal"]), ENV.observation(after, None, None)


def walk(room, moves):
    """Take moves until the episode ends -> (last state, outcomes [T, 4] of `step_with_outcome`)."""
    layout = room if isinstance(room, np.ndarray) else parse(room)
    state, rows = start_in(layout[None])[0], []
    for move in moves:
        state, row, _ = step_with_outcome(state, np.int32(move))
        rows.append([float(x) for x in row])
        if rows[-1][1]:
            break
    return state, np.array(rows)


# --- the rules --------------------------------------------------------------------------------


def test_a_coin_pays_and_lava_harms_and_both_end_the_episode():
    room = ["S.~.G..", *EMPTY]
    around = [DOWN, RIGHT, RIGHT, RIGHT, RIGHT, UP]
    np.testing.assert_array_equal(walk(room, around)[1], [[0, 0, 0, 0]] * 5 + [[1, 1, 0, 0]])
    np.testing.assert_array_equal(walk(room, [RIGHT] * 4)[1], [[0, 0, 0, 0], [0, 1, 1, 0]])


def test_walls_and_the_outer_wall_stop_the_agent():
    room = ["S#....C", *EMPTY]
    for move in (UP, LEFT, RIGHT):
        assert walk(room, [move])[0].cell.tolist() == [1, 1]
    corner = ["C......", *EMPTY[:5], "......S"]
    for move in (DOWN, RIGHT):
        assert walk(corner, [move])[0].cell.tolist() == [7, 7]
    assert walk(corner, [UP, LEFT])[0].cell.tolist() == [6, 6]


def test_the_observation_is_the_whole_room_centred_on_the_agent():
    layout = parse(["S.k..#C", "~......", "..c....", *EMPTY[:4]])
    state, obs = start_in(layout[None])
    bits = np.asarray(obs[:-1]).reshape(SIDE, SIDE, len(OBSERVED))
    middle = SIDE // 2
    for offset, thing in (((0, 2), KEY), ((0, 5), WALL), ((1, 0), layouts.LAVA), ((2, 2), CHEST)):
        cell_bits = bits[(middle + offset[0]) % SIDE, (middle + offset[1]) % SIDE]
        np.testing.assert_array_equal(cell_bits, [bit == thing for bit in OBSERVED])
    assert bits.sum() == 15 + 5 and obs[-1] == 0  # 15 cells of outer wall
    _, _, moved_obs = step_with_outcome(step_with_outcome(state, RIGHT)[0], RIGHT)
    assert moved_obs[-1] == 0.25  # the key is held, and gone from the room
    moved_bits = np.asarray(moved_obs[:-1]).reshape(SIDE, SIDE, len(OBSERVED))
    np.testing.assert_array_equal(np.roll(moved_bits, 2, 1)[..., WALL - 1], bits[..., WALL - 1])
    assert moved_bits[..., OBSERVED.index(KEY)].sum() == 0


def test_a_key_opens_one_chest_and_all_chests_pay_1_in_total():
    room = ["Sckckc.", *EMPTY]
    state, rows = walk(room, [RIGHT] * 6)
    np.testing.assert_array_equal(rows[:, 0], [0, 0, 0.5, 0, 0.5])  # the first had no key yet
    np.testing.assert_array_equal(rows[:, 1], [0, 0, 0, 0, 1])  # no key for the last chest
    assert rows[:, 3].sum() == 0 and state.keys == 0
    assert bool(ENV.success(rows[:, 0].sum(), 5.0))


def test_a_surplus_key_is_a_wrong_goal():
    room = ["Skkkc..", *EMPTY]
    _, rows = walk(room, [RIGHT] * 4)
    np.testing.assert_array_equal(rows[:, 3], [0, 1, 1, 0])
    np.testing.assert_array_equal(rows[:, 0], [0, 0, 0, 1])


def test_a_flag_without_its_coin_is_a_wrong_goal_and_ends_the_episode():
    room = ["S.F...C", *EMPTY]
    _, rows = walk(room, [RIGHT] * 6)
    np.testing.assert_array_equal(rows, [[0, 0, 0, 0], [0, 1, 0, 1]])
    assert not ENV.success(rows[:, 0].sum(), 2.0)
    _, rows = walk(["S.G...C", *EMPTY], [RIGHT] * 6)
    np.testing.assert_array_equal(rows, [[0, 0, 0, 0], [1, 1, 0, 0]])


@pytest.mark.parametrize("kind", ["lava", "coin"])
def test_the_shortest_path_has_the_length_given_by_distances(kind):
    for layout in layouts.sample_layouts(kind)[:4]:
        steps = layouts.distances(layout)
        cell, moves = tuple(np.argwhere(layout & COIN)[0]), []
        while steps[cell]:
            row, column = cell
            previous = [((row - down) % SIDE, (column - right) % SIDE) for down, right in MOVES]
            nearer = [
                steps[c] == steps[cell] - 1 and not layout[c] & layouts.LAVA for c in previous
            ]
            moves, cell = [nearer.index(True), *moves], previous[nearer.index(True)]
        _, rows = walk(layout, moves)
        assert len(rows) == steps[tuple(np.argwhere(layout & COIN)[0])]
        np.testing.assert_array_equal(rows[-1], [1, 1, 0, 0])


# --- layouts ----------------------------------------------------------------------------------


def test_distances_go_around_obstacles():
    steps = layouts.distances(parse(["S#C....", ".#.....", ".~.....", "...F...", *EMPTY[:3]]))
    assert steps[1, 1] == 0 and steps[1, 2] == -1  # a wall
    assert steps[3, 2] == 3 and steps[4, 4] == 6  # lava and flag are reached, not passed
    assert steps[1, 3] == 8


def test_distances_of_a_batch_equal_those_of_each_layout():
    drawn = np.concatenate([layouts.sample_layouts(kind)[:8] for kind in KINDS])
    expected = np.stack([layouts.distances(layout) for layout in drawn])
    np.testing.assert_array_equal(layouts.distances(drawn), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_splits_share_no_layout(kind):
    train, test = layouts.sample_layouts(kind), layouts.sample_layouts(kind, test=True)
    other = layouts.sample_layouts(kind, seed=1)
    digests, test_digests, other_digests = (
        set(map(layouts.digest, split)) for split in (train, test, other)
    )
    assert len(digests) == len(test_digests) == layouts.NUM
    assert not (digests | other_digests) & test_digests
    assert not any(map(layouts.is_test_layout, train)) and all(map(layouts.is_test_layout, test))
    np.testing.assert_array_equal(layouts.sample_layouts.__wrapped__(kind), train)


def test_shifted_layouts_are_as_named():
    lava, keys, coin = map(layouts.sample_layouts, KINDS)
    moved = layouts.lava_moves(lava)
    np.testing.assert_array_equal(moved[:, 3, 5], lava[:, 5, 3])
    assert {layouts.digest(x) for x in moved}.isdisjoint(map(layouts.digest, lava))
    more_keys = layouts.more_keys_than_chests(keys)
    for bank, counts in ((keys, (2, 4)), (more_keys, (4, 2))):
        for thing, count in zip((KEY, CHEST), counts, strict=True):
            assert (((bank & thing) > 0).sum((1, 2)) == count).all()
    np.testing.assert_array_equal((more_keys & KEY) > 0, (keys & CHEST) > 0)
    elsewhere = layouts.coin_elsewhere(coin)
    assert (coin[:, -1, -1] == FLAG | COIN).all() and (elsewhere[:, -1, -1] == FLAG).all()
    assert (((elsewhere & COIN) > 0).sum((1, 2)) == 1).all()
    for bit in (WALL, START):
        np.testing.assert_array_equal(elsewhere & bit, coin & bit)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("S.#C#..", "no way leads to the coin in row 1, column 4"),
        ("S.~C~..", "no way leads to the coin"),
        ("S.FCF..", "no way leads to the coin"),
        ("Sk#c#..", "no way leads to the chest"),
        ("Sc#k#..", "no way leads to the key"),
        ("S.k....", "nothing in it pays"),
        ("S......", "nothing in it pays"),
    ],
)
def test_a_layout_that_cannot_be_solved_is_refused(row, complaint):
    rows = [row, "#######", *EMPTY[:5]]
    good = parse(["S.....C", *EMPTY])
    with refused(ValueError, match=f"layout 1 cannot be solved: {complaint}"):
        Grid().get_default_params([good, parse(rows)])


def test_malformed_rooms_are_refused():
    for rows in (EMPTY, ["S......", *EMPTY, "......."], ["S.....?", *EMPTY]):
        with pytest.raises(ValueError, match="a room has 7 rows of 7"):
            parse(rows)
    with pytest.raises(ValueError, match="one start S, not 2"):
        parse(["S.....S", *EMPTY])
    with pytest.raises(ValueError, match="must have one start"):
        layouts.layout_bank([parse(["S.....C", *EMPTY]) & ~np.uint8(START)])
    for tiles in ([], [parse(["S.....C", *EMPTY])[1:, 1:]]):
        with pytest.raises(ValueError, match="layouts are 8 x 8, as parse makes them, not"):
            Grid().get_default_params(tiles)
    with pytest.raises(ValueError, match="no layouts 'sea'; there are lava, keys, coin"):
        layouts.sample_layouts("sea")


@pytest.mark.parametrize("name", ["Lava", "Keys", "Coin"])
def test_a_suite_trains_on_one_split_and_is_scored_on_the_other(name):
    suite = envs.load_suite(name)
    unseen = {shift.name: shift for shift in suite.shifts}["unseen"]
    shifted = unseen(suite.world, 1.0, jax.random.key(0))
    np.testing.assert_array_equal(suite.world.params.tiles, layouts.sample_layouts(suite.env.kind))
    np.testing.assert_array_equal(
        shifted.params.tiles, layouts.sample_layouts(suite.env.kind, test=True)
    )


@pytest.mark.parametrize("name", ["Lava", "Keys", "Coin"])
def test_the_training_distribution_has_more_layouts_and_none_of_a_shift(name):
    suite = envs.load_suite(name)
    keys = jax.random.split(jax.random.key(0), 40)
    banks = [np.asarray(suite.randomised(suite.world, 1.0, key).params.tiles) for key in keys]
    drawn = {layouts.digest(layout) for bank in banks for layout in bank}
    assert len(drawn) > 8 * layouts.NUM
    for shift in suite.shifts[:2]:  # unseen layouts, and what this world is for
        shifted = shift(suite.world, 1.0, jax.random.key(1)).params.tiles
        assert drawn.isdisjoint(map(layouts.digest, np.asarray(shifted)))
