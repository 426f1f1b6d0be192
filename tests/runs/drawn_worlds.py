"""Small environments that draw themselves, for tests of playing by hand."""

import gymnasium
import numpy as np
from gymnasium import spaces

from tests.envs.other_spaces import Lane

STEPS = 12  # of an episode


class Walk(gymnasium.Env):
    """Goes left, stays or goes right on a line; going right pays 1."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(-STEPS, STEPS, (1,), np.float32)
    action_space: spaces.Space = spaces.Discrete(3)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = 0, 0
        return np.float32([self.place]), {}

    def step(self, action):
        self.place, self.steps = self.place + int(action) - 1, self.steps + 1
        obs = np.float32([self.place])
        return obs, float(action == 2), self.steps == STEPS, False, {}

    def render(self):
        frame = np.zeros((20, 2 * STEPS + 1, 3), np.uint8)
        frame[:, STEPS + self.place] = 255
        return frame


class Levers(Walk):
    """A walk with a lever: two choices at once, where to and whether to pull, which pays 2."""

    action_space = spaces.MultiDiscrete([3, 2])

    def step(self, action):
        obs, reward, *rest = super().step(action[0])
        return obs, reward + 2.0 * int(action[1]), *rest


class Undrawn(Walk):
    """A walk that draws nothing."""

    def render(self):
        return None


class Tears(Walk):
    """A walk whose drawing fails after three steps."""

    def render(self):
        if self.steps == 3:
            raise RuntimeError("the paper tears")
        return super().render()


class DrawnLane(Lane):
    """A jitted world with masks that draws its position."""

    metadata = {"render_modes": ["rgb_array"]}

    def render_image(self, state, render_state, params=None):
        frame = np.zeros((20, 50, 3), np.uint8)
        frame[:, 10 * int(state) : 10 * int(state) + 10] = 255
        return render_state, frame
