"""Environments that do not fit or do not last, with ids, so that a command can name them.

`--env tests.envs.unusual_envs:Strange/Text-v0`. The variables FAULT, MARKER and RICH reach the worker
processes too: they say what `Strange/Faulty-v0` does wrong, which file it then makes and does not
do it again, and the seed of the episode that pays without end.
"""

import os

import gymnasium
import numpy as np
from gymnasium import spaces

from tests.envs.faulty_envs import Faulty

SEEN = spaces.Box(-1.0, 1.0, (3,), np.float32)
TWO = spaces.Discrete(2)
SPACES = {
    "Text": (spaces.Dict(seen=SEEN, said=spaces.Text(10)), TWO),
    "Image": (spaces.Box(0, 255, (84, 84, 3), np.uint8), TWO),
    "Multi": (SEEN, spaces.MultiDiscrete([2, 3])),
    "Unbounded": (SEEN, spaces.Box(-np.inf, np.inf, (1,), np.float32)),
    "FromOne": (SEEN, spaces.Discrete(2, start=1)),
    "Dict": (spaces.Dict(seen=SEEN, held=spaces.Discrete(4)), TWO),
    "Wide": (SEEN, spaces.Box(np.array([0.0, -2.0]), np.array([10.0, 2.0]), dtype=np.float64)),
}


class Odd(gymnasium.Env):
    """Samples its spaces and pays what was done; 5 steps an episode."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.done = action
        return self.observation_space.sample(), float(np.sum(action)), False, False, {}


class Told(Faulty):
    """Does wrong what the variables say."""

    def __init__(self):
        super().__init__(os.environ.get("FAULT", ""), marker=os.environ.get("MARKER", ""))

    def reset(self, *, seed=None, options=None):
        self.pays = str(seed) == os.environ.get("RICH")
        return super().reset(seed=seed, options=options)

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, np.inf if self.pays and self.steps == 3 else reward, *rest


for _name, (_seen, _done) in SPACES.items():
    gymnasium.register(
        f"Strange/{_name}-v0",
        entry_point="tests.envs.unusual_envs:Odd",
        max_episode_steps=5,
        kwargs={"observation_space": _seen, "action_space": _done},
    )
gymnasium.register(
    "Strange/Faulty-v0", entry_point="tests.envs.unusual_envs:Told", max_episode_steps=20
)
gymnasium.register("Strange/Endless-v0", entry_point="tests.envs.faulty_envs:Faulty")
