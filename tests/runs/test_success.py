"""AUROC of success and rank correlation with the return, against counting pairs and scipy."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from affect import Innate, Spec, Transition, build
from runs.probes.success import episode_success, success_measures

T, B, GAMMA = 12, 9, 0.9
SPEC = Spec(obs_dim=2, num_actions=2)


def episodes(seed: int, all_fail: bool = False) -> tuple[Transition, np.ndarray]:
    """Episodes of random lengths that pay 1 at their end, or nothing; obs 0 knows which."""
    rng = np.random.default_rng(seed)
    length = rng.integers(2, T + 1, B)
    time = np.arange(T)[:, None]
    alive, last = time < length, time == length - 1
    success = (np.arange(B) % 2 == 0) & (not all_fail)
    obs = rng.normal(size=(T, B, 2)).astype(np.float32)
    obs[..., 0] += success
    reward = np.where(last & success, 1.0, 0.0).astype(np.float32)
    no = np.zeros((T, B), bool)
    action = np.zeros((T, B), int)
    return Transition(obs, action, obs, reward, last & success, last & ~success, no), alive


def reads(index: int):
    return build(Innate(lambda batch: batch.next_obs[..., index]), SPEC, None)


def measures(head, recordings):
    return success_measures(head, recordings, lambda total, length: total > 0, GAMMA)


def by_counting(batch, alive, index: int) -> tuple[float, float]:
    """AUROC over pairs of steps, and the rank correlation, of one observation."""
    signal, counted = batch.next_obs[..., index], alive & ~batch.terminated & ~batch.truncated
    success = np.broadcast_to(batch.reward.sum(0) > 0, alive.shape)
    good, bad = signal[counted & success], signal[counted & ~success]
    pairs = np.sign(good[:, None] - bad[None])
    to_go = np.zeros((T + 1, B))
    for t in reversed(range(T)):
        to_go[t] = batch.reward[t] + GAMMA * to_go[t + 1]
    return 0.5 + 0.5 * pairs.mean(), spearmanr(signal[counted], to_go[1:][counted]).statistic


@pytest.mark.parametrize("index", [0, 1])
def test_measures_are_those_of_counting(index):
    points = [episodes(seed) for seed in range(3)]
    result = measures(reads(index), points)
    expected = np.array([by_counting(*point, index) for point in points])
    assert result["auroc_home"] == pytest.approx(expected[0, 0], abs=1e-3)
    assert result["rank_home"] == pytest.approx(expected[0, 1], abs=1e-3)
    assert result["auroc_shift"] == pytest.approx(expected[1:, 0].mean(), abs=1e-3)
    assert result["rank_shift"] == pytest.approx(expected[1:, 1].mean(), abs=1e-3)
    assert (result["auroc_home"] > 0.65) == (index == 0)  # the control knows nothing


def test_what_is_undefined_is_left_out():
    points = [episodes(0, all_fail=True), episodes(1)]
    assert measures(reads(0), points).keys() == {"auroc_shift", "rank_shift"}
    assert measures(reads(0), points[:1]) == {}


def test_the_last_step_must_report_success_where_the_world_does():
    batch, alive = episodes(2)
    paid = batch.reward.sum(0) > 0
    last = batch.terminated | batch.truncated
    reported = np.where(last & (np.arange(B) > 3), 1.0, 0.0)
    for info, expected in (({}, paid), ({"success": reported}, paid & (np.arange(B) > 3))):
        result = episode_success(batch._replace(info=info), alive, lambda total, _: total > 0)
        np.testing.assert_array_equal(result, expected)
    unknown = episode_success(batch, alive, lambda total, _: np.full(B, np.nan))
    assert not unknown.any()
