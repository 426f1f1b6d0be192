"""Your own world and shifts: does hope help to walk to the end of a corridor with a headwind?"""

import numpy as np
from gymnasium import Env, spaces

from affect import Blend, Hope, Potential
from envs import load_suite
from envs.shift import ramp
from runs import Experiment


class Corridor(Env):
    observation_space, action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)

    def __init__(self, wind: float = 0.0):
        self.wind = wind  # a float parameter, which shifts may change

    def reset(self, *, seed=None, options=None):
        self.state = np.zeros(2, np.float32)  # position, time
        return self.state.copy(), {}

    def step(self, action):
        self.state += np.float32([0.1 * (action - self.wind), 0.02])
        end, late = map(bool, self.state >= 1)
        return self.state.copy(), float(end), end, late, {}


suite = load_suite(Corridor, shifts=[ramp("headwind", "dynamics", "params.wind", to=0.8)])
arms = {"none": Blend(), "hope": Blend(hope=(1.0, Potential(Hope)))}
print(Experiment(suite, arms, seeds=3, steps=4_000).run().contrast("hope", "none"))
