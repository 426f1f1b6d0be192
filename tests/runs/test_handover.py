"""The hand-over study: areas, conformal thresholds, the agent that hands over."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from affect import Transition
from runs import handover, handover_run
from runs.errors import UserError
from runs.handover_run import HandOver, HandOverState, hashed, outcomes


@pytest.mark.parametrize(
    ("share", "score", "area"),
    [
        ((0, 1), (0.2, 0.8), 0.5),
        ((1, 0, 0.5), (0.8, 0.2, 0.8), 0.65),  # in any order
        ((0.25, 0.75), (0.4, 0.8), 0.6),  # continued to both ends
        ((0, 0.5, 0.5, 1), (0.2, 0.4, 0.6, 0.8), 0.5),  # ties are averaged
        ((0.3,), (0.7,), 0.7),
    ],
)
def test_area_over_share(share, score, area):
    assert handover.area_over_share(np.array(share), np.array(score)) == pytest.approx(area)


class Constantly:
    """An agent whose action is its state, whatever it observes."""

    def act(self, state, key, obs):
        return jnp.broadcast_to(state, obs.shape[:-1])


def first_numbers(learner, units, obs):
    """Two signals: the first two numbers of an observation."""
    return jnp.moveaxis(obs[..., :2], -1, 0)


class Own:
    agent = jnp.int32(0)


def state(signal, threshold):
    units = handover_run.Units(jnp.zeros(2), jnp.ones(2))
    return HandOverState(Own, jnp.int32(1), units, jnp.int32(signal), jnp.float32(threshold))


def test_the_specialist_acts_where_the_chosen_signal_is_above_the_threshold():
    agent, obs = HandOver(Constantly(), first_numbers), jnp.array([[0.0, 0.9], [0.6, 0.1]])
    for signal, expected in ((0, [0, 1]), (1, [1, 0])):
        assert agent.act(state(signal, 0.5), None, obs).tolist() == expected
    assert agent.act(state(0, handover_run.LARGE), None, obs).tolist() == [0, 0]
    assert agent.act(state(0, -handover_run.LARGE), None, obs).tolist() == [1, 1]


def test_outcomes_count_the_steps_before_the_end_of_an_episode():
    obs = jnp.array([[0.9, 0.0], [0.9, 0.0], [0.9, 0.0]])[..., None].repeat(2, -1)  # [T, B, 2]
    alive = jnp.array([[True, True], [True, True], [False, True]])
    ended = jnp.array([[False, False], [True, False], [False, True]])
    reward = jnp.where(ended, jnp.array([[1.0, -1.0]]), 0.0)
    zero = jnp.zeros_like(ended)
    batch = Transition(obs, zero.astype(int), obs, reward, ended, zero, zero)
    agent = HandOver(Constantly(), first_numbers)
    measured = outcomes(
        state(0, 0.5), batch, alive, agent=agent, success=lambda total, length: total > 0
    )
    assert {k: float(v) for k, v in measured.items()} == {
        "share": pytest.approx(2 / 5),
        "success": 0.5,
        "harm": 0.5,
        "alarmed": 1.0,
    }


def test_the_random_signal_is_uniform_and_fixed_by_the_observation():
    obs = jax.random.normal(jax.random.key(0), (4000, 5))
    values = np.asarray(hashed(obs))
    np.testing.assert_array_equal(values, hashed(obs))
    shares, _ = np.histogram(values, 4, (0, 1))
    np.testing.assert_allclose(shares / 4000, 0.25, atol=0.03)
    assert abs(np.corrcoef(values, np.asarray(obs[:, 0]))[0, 1]) < 0.05


def made_up_rows(seeds: int = 5) -> pd.DataFrame:
    """Rows of two shifts: fear buys success early, random along the line."""
    rows, base = [], {"harm": 0.1, "alarmed": 0.1, "alive": True}
    for seed in range(seeds):
        for shift in ("cones", "ice"):
            row = base | {"seed": seed, "shift": shift}
            start = 0.2 + 0.01 * seed
            rows.append(row | dict(signal="none", kind="agent", level=0, share=0, success=start))
            rows.append(row | dict(signal="none", kind="specialist", level=1, share=1, success=0.8))
            for signal, gain in (("fear", 0.3), ("random", 0.0), ("entropy", 0.1)):
                success = (start + 0.8) / 2 + gain + 0.001 * seed
                part = {"signal": signal, "level": 0.5, "share": 0.5, "success": success}
                rows += [row | part | {"kind": kind} for kind in ("share", "conformal")]
        for signal in ("fear", "random", "entropy"):
            part = {"signal": signal, "kind": "conformal", "level": 0.5, "success": 1.0}
            rows.append(base | part | {"seed": seed, "shift": "none", "share": 0.01})
    return pd.DataFrame(rows)


def test_tables_and_figure_of_made_up_rows(tmp_path):
    rows, names = made_up_rows(), ("fear", "random", "entropy")
    curves = {
        shift: handover.curve_arrays(rows[rows["shift"] == shift], names)
        for shift in ("cones", "ice")
    }
    areas = {name: np.stack([curves[s][name][2] for s in curves], 1) for name in names}
    contrast = handover.fear_contrasts(areas)["random"]
    assert contrast.estimate.value == pytest.approx(0.15) and contrast.p_holm < 0.01
    sentence = handover.finding(areas, "Drive")
    assert "by fear buys more than" in sentence and "the best signal is fear" in sentence
    table = handover.area_table(areas, curves, ["cones", "ice"]).splitlines()
    assert table[2].startswith("| fear") and "0.22, 0.80" in table[-1] and "0.510" in table[-2]
    conformal = rows[rows["kind"] == "conformal"]
    assert "0.50: 0.81, 0.10" in handover.conformal_table(conformal, ["cones", "ice"])
    handover.draw_curves("Drive", curves, tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 5000


def test_continuous_actions_are_refused():
    with pytest.raises(UserError, match="needs discrete actions"):
        handover_run.make_design(handover.Settings(env="Pendulum"))
