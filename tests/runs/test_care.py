"""The care study: what is measured of an episode, two carers, page."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from affect import Transition
from envs import load_suite
from envs.worlds.share.partners import EAT, GIVE, WAIT
from runs import care as study
from runs import care_run
from tests.runs.study_job import table_rows


def share_episode(steps) -> tuple[Transition, jax.Array]:
    """One episode [T, 1] in Share from (action, hand before, hand after, offset, other's energy).

    The other starves after the last step.
    """
    action, hand, after, apart, energy = (np.array(x, np.float32) for x in zip(*steps, strict=True))
    obs, next_obs = np.zeros((2, len(steps), 1, 11), np.float32)
    obs[:, 0, 1], obs[:, 0, 2], obs[:, 0, 6] = energy, hand, apart / 3
    next_obs[:, 0, 2] = after
    zero = jnp.zeros((len(steps), 1))
    no, alive = zero > 0, zero == 0
    died = zero.at[-1].set(1.0)
    info = {"harm": zero, "other": {"harm": died}}
    actions = jnp.asarray(action[:, None], jnp.int32)
    return Transition(
        jnp.asarray(obs), actions, jnp.asarray(next_obs), zero, no, no, no, info
    ), alive


def test_gifts_are_counted_by_the_need_of_the_other():
    batch, alive = share_episode(
        [
            (GIVE, 1, 0, 1, 0.4),  # a gift to the needy
            (WAIT, 1, 1, 1, 0.3),  # a chance that is not taken
            (GIVE, 1, 0, 0, 0.9),  # a gift to the full
            (GIVE, 1, 1, 1, 0.2),  # refused: the other picked at the same time
            (GIVE, 1, 1, 2, 0.2),  # too far
            (EAT, 1, 0, 1, 0.2),
        ]
    )
    measured = {name: float(x) for name, x in care_run.behaviour(batch, alive).items()}
    expected = {"own": 1, "other": 0, "both": 0, "gifts": 2, "needy": 1 / 4, "full": 1}
    assert measured == pytest.approx(expected)
    after_end = care_run.behaviour(batch, alive.at[2:].set(False))
    assert float(after_end["gifts"]) == 1 and float(after_end["other"]) == 1
    assert np.isnan(float(after_end["full"]))


class Fixed:
    """An agent that always takes one action."""

    def act(self, state, key, obs):
        return jnp.full(obs.shape[:-1], state)


def test_two_agents_that_wait_both_starve():
    suite = load_suite("Share")
    measured = partial(care_run.two_agents, agent=Fixed(), env=suite.env, episodes=8)
    key = jax.random.key(0)
    scores = jax.jit(measured)(jnp.int32(WAIT), jnp.int32(WAIT), key, suite.world)
    assert float(scores["both"]) == 0 and float(scores["gifts"]) == 0
    assert 0 < float(scores["own"] + scores["other"]) <= 1  # one starves first, or both at once


def test_the_scrambled_seat_reverses_the_other_observation():
    obs = jnp.arange(11.0)[None, None]
    zero = jnp.zeros((1, 1))
    info = {"other": {"obs": obs, "next_obs": obs + 1}}
    batch = Transition(-obs, zero.astype(int), -obs, zero, zero > 0, zero > 0, zero > 0, info)
    swapped = care_run.scrambled(batch)
    assert swapped.obs[0, 0].tolist() == list(range(10, -1, -1)) and swapped.next_obs[0, 0, 0] == 11


def test_every_arm_has_the_heads_of_its_weights_and_every_rival_is_an_arm():
    arms = care_run.make_design(study.Settings(smoke=True)).arms
    for name, weights in care_run.care_arms(0.99).items():
        assert arms[name].names == tuple(weights)
    assert {study.TESTED, *study.RIVALS} <= set(arms)


def made_up_rows(seeds: int = 5) -> pd.DataFrame:
    """Rows of all arms that are compared: care_1 keeps the other alive, the others do not."""
    rows = []
    for arm in (study.TESTED, *study.RIVALS):
        for place in ("home", study.UNFAIR, "stranger"):
            for seed in range(seeds):
                other = 0.2 + 0.01 * seed + 0.5 * (arm == study.TESTED) * (place != "home")
                row = {"arm": arm, "place": place, "seed": seed, "other": other, "own": 0.9}
                row |= {"both": other, "gifts": 3.0, "needy": 0.5, "full": 0.1, "alive": True}
                rows.append(row | ({"full": np.nan} if seed == 0 else {}))
    return pd.DataFrame(rows)


def test_sentence_tables_and_figure_of_made_up_rows(tmp_path):
    rows = made_up_rows()
    measures = study.arm_measures(rows, [study.UNFAIR, "stranger"])
    assert measures[study.TESTED]["both"][0] == pytest.approx(0.7)
    sentence = study.finding(measures)
    assert "keeps more strangers alive than no care: survival of both +0.500" in sentence
    assert sentence.endswith("full: +0.400 [+0.400, +0.400].")
    table = study.arm_table(measures).splitlines()
    assert "3.00, 0.90" in table[2] and len(table) == 2 + len(measures)
    places = table_rows(study.place_table(rows, ("home", study.UNFAIR, "stranger")))
    assert places[1][:4] == [study.TESTED, "0.22", "0.72", "0.72"]
    study.draw_arms(measures, tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 5000
