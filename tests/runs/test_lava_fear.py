"""What a fear sees in Lava: parts of the observation, distance to lava, sentence."""

import jax
import jax.numpy as jnp
import numpy as np

from affect import build
from envs import load_suite
from envs.worlds.grid.layouts import LAVA, SIDE, WALL
from runs import lava_fear as study
from runs.lava_fear_run import SEEN, SeenFear, bit_indices, nearness
from tests.affect.cases import KEY, SPEC, B, apply_head, experience


def test_a_fear_of_a_part_ignores_the_rest():
    batch = experience()
    head = build(SeenFear(seen=(2, 0)), SPEC, KEY)
    signal, _ = apply_head(head, head.initial_state(B), batch)
    changed = batch._replace(next_obs=batch.next_obs.at[..., 1].add(9.0))
    np.testing.assert_array_equal(apply_head(head, (), changed)[0], signal)
    changed = batch._replace(next_obs=batch.next_obs.at[..., 2].add(9.0))
    assert (np.asarray(apply_head(head, (), changed)[0]) != np.asarray(signal)).any()
    assert jnp.isfinite(head.loss((), batch)[0])


def test_indices_are_those_of_bits_around_the_agent():
    suite = load_suite("Lava")
    state = suite.env.initial(jax.random.key(0), suite.world.params)
    obs = suite.env.observation(state, None, suite.world.params)
    row, column = map(int, state.cell)
    for bit in (WALL, LAVA):
        around = np.array(
            [
                [int(state.tiles[(row + i) % SIDE, (column + j) % SIDE]) & bit for j in (-1, 0, 1)]
                for i in (-1, 0, 1)
            ]
        )
        seen = np.asarray(obs)[np.array(bit_indices((bit,), 1))].reshape(3, 3)
        np.testing.assert_array_equal(seen > 0, around > 0)
    assert len(SEEN["place"]) == SIDE * SIDE and len(SEEN["near"]) == 2 * 25


def test_nearness_is_minus_the_distance_to_lava():
    obs = np.zeros((3, 1, 385), np.float32)
    grid = np.array(bit_indices((LAVA,), SIDE)).reshape(SIDE, SIDE)
    for step, cells in enumerate([[(4, 4)], [(4, 6), (0, 0)], [(3, 3)]]):
        for cell in cells:
            obs[step, 0, grid[cell]] = 1
    batch = experience(steps=3, envs=1)._replace(next_obs=jnp.asarray(obs))
    assert nearness(batch)[:, 0].tolist() == [0, -2, -2]


def test_the_sentence_names_the_declared_contrasts():
    measures = {"fear": np.array([0.4, 0.42, 0.45]), "lava": np.array([0.7, 0.74, 0.75])}
    measures |= {"place": np.array([0.3, 0.31, 0.36]), "nearness": np.array([0.6, 0.61, 0.66])}
    sentence = study.finding(measures)
    assert all(x in sentence for x in ("by +0.307", "by -0.177", "by +0.123", "3 seeds"))
    assert "Too few" in study.finding(measures | {"lava": np.full(3, np.nan)})
