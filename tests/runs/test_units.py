"""Units of rewards and observations do not matter to the preset's agent (slow: 5 seeds each)."""

import gymnasium
import numpy as np
import pytest

from affect import Blend
from envs import load_suite
from envs.shift import ramp
from runs import Experiment
from tests.runs import small_study

no_key_check = pytest.fixture(scope="module", autouse=True)(
    small_study.without_key_check_in_threads
)
JUMP = ramp("jump", "sensor", "params.jump", to=1e-3)


class InUnits(gymnasium.Wrapper):
    """CartPole with other units, and with a last observation that is constant but for a shift."""

    def __init__(self, reward: float = 1.0, position: float = 1.0, jump: float = 0.0, **kwargs):
        super().__init__(gymnasium.make("CartPole-v1", **kwargs))
        self.factors, self.pay, self.last = np.float32([position, 1, 1, 1]), reward, 1 + jump
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (5,), np.float32)

    def observe(self, obs):
        return np.append(obs * self.factors, np.float32(self.last))

    def reset(self, *, seed=None, options=None):
        obs, info = self.env.reset(seed=seed, options=options)
        return self.observe(obs), info

    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        return self.observe(obs), self.pay * reward, *rest


def lengths(**units: float) -> dict[str, float]:
    """Mean length of an episode after training, by shift."""
    suite = load_suite(InUnits, [JUMP], kwargs=units)
    result = Experiment(suite, {"none": Blend()}, seeds=5, steps=60_000).run()
    print(units, result.scores.groupby(["shift", "seed"])["length"].mean().to_dict())
    return result.scores.groupby("shift")["length"].mean().to_dict()


@pytest.fixture(scope="module")
def usual():
    return lengths()


@pytest.mark.slow
def test_a_small_change_of_what_was_constant_costs_nothing(usual):
    assert usual["none"] > 250
    assert usual["jump"] > 0.9 * usual["none"]


@pytest.mark.slow
@pytest.mark.parametrize("units", [{"reward": 1e6}, {"position": 1e4}])
def test_training_is_as_good_in_other_units(units, usual):
    assert min(lengths(**units).values()) > 0.9 * usual["none"]
