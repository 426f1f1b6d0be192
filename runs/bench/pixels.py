"""Image environment that takes next to no time to step, so that training alone is timed."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

FRAMES = 64  # that were drawn beforehand
WORLD = "pixels"  # name of it in a workload


class Pixels(gymnasium.Env):
    """One of FRAMES random images of 84 x 84 x 4 bytes a step; the first of six actions pays."""

    observation_space = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    action_space = spaces.Discrete(6)

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.frames = rng.integers(0, 256, (FRAMES, *self.observation_space.shape), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        """Starts an episode of 500 steps."""
        super().reset(seed=seed)
        self.steps = 0
        return self._frame(), {}

    def step(self, action: Any) -> tuple:
        """Draws the next image."""
        self.steps += 1
        return self._frame(), float(action == 0), False, self.steps == 500, {}

    def _frame(self) -> np.ndarray:
        return self.frames[self.np_random.integers(FRAMES)]


def image_env(world: str) -> Any:
    """What makes the environment of a workload: `Pixels`, or a gymnasium id."""
    return Pixels if world == WORLD else partial(gymnasium.make, world)
