"""Registers environments with unusual spaces or faults, for commands and tests.

Use: `--env tests.envs.unusual_envs:Strange/Text-v0`. Environment variables configure
`Strange/Faulty-v0`, also in worker processes: FAULT is its fault, MARKER a file that the first
fault creates and that prevents further ones, RICH the seed of an
episode and what its third step pays.
"""

import os

import gymnasium
import numpy as np
from gymnasium import spaces

from tests.envs.faulty_envs import Faulty

OBS = spaces.Box(-1.0, 1.0, (3,), np.float32)
TWO_ACTIONS = spaces.Discrete(2)
SPACES = {
    "Text": (spaces.Dict(seen=OBS, said=spaces.Text(10)), TWO_ACTIONS),
    "Image": (spaces.Box(0, 255, (84, 84, 3), np.uint8), TWO_ACTIONS),
    "Floats": (spaces.Box(0, 1, (84, 84, 3), np.float32), TWO_ACTIONS),
    "FloatImage": (spaces.Box(0, 255, (84, 84, 3), np.float32), TWO_ACTIONS),
    "Pixel": (spaces.Box(0, 255, (1, 1, 3), np.uint8), TWO_ACTIONS),
    "Tuple": (OBS, spaces.Tuple([TWO_ACTIONS, TWO_ACTIONS])),
    "Multi": (OBS, spaces.MultiDiscrete([2, 3])),
    "Unbounded": (OBS, spaces.Box(-np.inf, np.inf, (1,), np.float32)),
    "Dict": (spaces.Dict(seen=OBS, held=spaces.Discrete(4)), TWO_ACTIONS),
    "Wide": (OBS, spaces.Box(np.array([0.0, -2.0]), np.array([10.0, 2.0]), dtype=np.float64)),
}


class RandomEnv(gymnasium.Env):
    """Random observations; the reward is the sum of the action."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.action = action
        return self.observation_space.sample(), float(np.sum(action)), False, False, {}


class FaultyFromEnviron(Faulty):
    """`Faulty` configured by the environment variables FAULT, MARKER and RICH."""

    def __init__(self):
        super().__init__(os.environ.get("FAULT", ""), marker=os.environ.get("MARKER", ""))

    def reset(self, *, seed=None, options=None):
        rich, _, self.pays = os.environ.get("RICH", "").partition(" ")
        self.rich = rich == str(seed)
        return super().reset(seed=seed, options=options)

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, float(self.pays) if self.rich and self.steps == 3 else reward, *rest


for _name, (_obs_space, _action_space) in SPACES.items():
    gymnasium.register(
        f"Strange/{_name}-v0",
        entry_point="tests.envs.unusual_envs:RandomEnv",
        max_episode_steps=5,
        kwargs={"observation_space": _obs_space, "action_space": _action_space},
    )
gymnasium.register(
    "Strange/Faulty-v0",
    entry_point="tests.envs.unusual_envs:FaultyFromEnviron",
    max_episode_steps=20,
)
gymnasium.register("Strange/Endless-v0", entry_point="tests.envs.faulty_envs:Faulty")
