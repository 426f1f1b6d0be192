"""Environments with masks, images and several actions at once, for tests."""

from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Image, Spec
from envs.world import Env

ALLOWED = 2  # actions of `Doors` that are allowed in a state


class Doors(gymnasium.Env):
    """Two of n doors are open at each step, as the mask says; the first open one pays.

    Args:
        doors: n.
        fault: what is wrong with the mask at step 3, or with that of reset if it is late.
        several: two choices of doors at once.
    """

    observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)

    def __init__(self, doors: int = 5, fault: str = "", several: bool = False):
        self.doors, self.fault, self.choices = doors, fault, 1 + several
        self.action_space = spaces.Discrete(doors)
        if several:
            self.action_space = spaces.MultiDiscrete([doors, doors], start=[1, 0])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._open()

    def step(self, action):
        chosen = np.atleast_1d(action - getattr(self.action_space, "start", 0))
        assert self.fault == "late" or self.open[np.arange(self.choices), chosen].all()
        reward = float((chosen == self.open.argmax(1)).mean())
        self.steps += 1
        obs, info = self._open()
        return obs, reward, self.steps == 9, False, info

    def _open(self):
        """Observation and mask of the next step."""
        order = self.np_random.permuted(np.tile(np.arange(self.doors), (self.choices, 1)), axis=1)
        self.open = order < ALLOWED
        mask: Any = tuple(self.open) if self.choices > 1 else self.open[0].astype(np.int8)
        if self.steps == 3:
            faults = {"short": mask[:-1], "none": np.zeros_like(mask), "text": "all"}
            faults |= {"twos": 2 * mask, "log": np.log(np.where(mask, 1, 1e-9)), "empty": ()}
            mask = faults.get(self.fault, mask)
        if self.steps == 9:
            mask = np.zeros(self.doors * self.choices)  # nothing is left to do
        left_out = self.steps == {"missing": 3, "late": 0}.get(self.fault)
        info = {} if left_out else {"action_mask": mask}
        return np.float32([self.steps / 9, 1.0]), info


class Unseeded(Doors):
    """Doors that no seed determines."""

    def _open(self):
        self.np_random = np.random.default_rng()
        return super()._open()


class Told(gymnasium.Env):
    """An environment of some spaces that reports one observation and one mask, and keeps actions.

    Args:
        action_space: of actions.
        mask: that every step reports; None for none.
        observation_space: of observations, the first of which is all that is seen.
    """

    def __init__(self, action_space: spaces.Space, mask: Any = None, observation_space: Any = None):
        self.action_space, self.mask = action_space, mask
        self.observation_space = observation_space or spaces.Box(0.0, 1.0, (1,), np.float32)
        self.observation_space.seed(0)
        self.seen, self.steps = self.observation_space.sample(), 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.seen, {} if self.mask is None else {"action_mask": self.mask}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.action = action
        return self.reset()[0], 0.0, False, False, self.reset()[1]


class Switches(gymnasium.Env):
    """Pays the share of lamps whose switches are set as the observation shows."""

    observation_space = spaces.MultiBinary(3)
    action_space = spaces.MultiBinary((3, 1))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.lamps = 0, self.np_random.integers(0, 2, 3, np.int8)
        return self.lamps, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        reward, self.steps = float((action[:, 0] == self.lamps).mean()), self.steps + 1
        self.lamps = self.np_random.integers(0, 2, 3, np.int8)
        return self.lamps, reward, self.steps == 8, False, {}


class Bright(gymnasium.Env):
    """Pays for action 1 where the image is bright, and for action 0 where it is dark.

    Args:
        shape: of the image.
        extra: a dict of image, speed and gear instead of the image alone.
        high: upper bound of a byte.
        render_mode: None, or "rgb_array".
    """

    action_space = spaces.Discrete(2)

    def __init__(
        self,
        shape: tuple[int, ...] = (12, 12, 3),
        extra: bool = False,
        high: int = 255,
        render_mode: str | None = None,
    ):
        self.high, self.extra, self.render_mode = high, extra, render_mode
        self.box = spaces.Box(0, high, shape, np.uint8)
        self.observation_space = self.box
        if extra:
            speed = spaces.Box(-1.0, 1.0, (2,), np.float32)
            parts = {"gear": spaces.Discrete(3), "image": self.box, "speed": speed}
            self.observation_space = spaces.Dict(parts)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._look(), {}

    def step(self, action):
        reward, self.steps = float(action == self.bright), self.steps + 1
        return self._look(), reward, self.steps == 8, False, {}

    def render(self):
        return np.full((16, 16, 3), 255 * self.bright, np.uint8)

    def _look(self):
        self.bright = int(self.np_random.integers(2))
        image = np.full(self.box.shape, self.high * (1 + self.bright) // 3, np.uint8)
        if not self.extra:
            return image
        return {"gear": 1, "image": image, "speed": np.float32([0.25, -0.5])}


class Lane(Env):
    """A jitted world with masks: of three steps to the side, only those within the lane.

    The state is the position 0..4. Going right pays. `params.gap` closes the lane at a position.
    """

    class Params(NamedTuple):
        gap: jax.Array | float = -1.0

    spec, obs_scale, horizon = Spec(obs_dim=1, num_actions=3, masked=True), (1.0,), 12
    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(3)

    def get_default_params(self, **kwargs):
        return self.Params(**kwargs)

    def initial(self, rng, params):
        return jax.random.randint(rng, (), 0, 5)

    def transition(self, state, action, rng, params):
        return state + action - 1

    def observation(self, state, rng, params):
        return state[None] / 4.0

    def reward(self, state, action, next_state, rng, params):
        return (action == 2).astype(jnp.float32)

    def terminal(self, state, rng, params):
        return jnp.zeros((), bool)

    def transition_info(self, state, action, next_state, params):
        return {}

    def success(self, total, length):
        return total > 3

    def action_mask(self, state, params):
        mask = jnp.stack([state > 0, jnp.ones((), bool), state < 4])
        return mask & (state != params.gap)


class Closed(Lane):
    """A lane that is closed at position 3."""

    def get_default_params(self, **kwargs):
        return self.Params(**{"gap": 3.0} | kwargs)


class Ditch(Lane):
    """A lane with harm at its left end."""

    spec = Spec(obs_dim=1, num_actions=3, masked=True, info=("harm",))

    def transition_info(self, state, action, next_state, params):
        return {"harm": (next_state == 0).astype(jnp.float32)}


class WrongMask(Lane):
    """A lane whose mask has four entries."""

    def action_mask(self, state, params):
        return jnp.ones(4, bool)


class Maskless(Lane):
    """A lane whose spec declares masks that it does not define."""

    action_mask = Env.action_mask


class Lamp(Lane):
    """A jitted world that observes an image, bright or dark, and the time; bright pays action 1."""

    spec = Spec(obs_dim=1, num_actions=2, image=Image(6, 5, 3, channel_first=True))

    def initial(self, rng, params):
        return jax.random.bernoulli(rng).astype(jnp.int32)

    def transition(self, state, action, rng, params):
        return jax.random.bernoulli(rng).astype(jnp.int32)

    def observation(self, state, rng, params):
        colour = jnp.broadcast_to(jnp.array([100, 50, 0]), (6, 5, 3))
        return (state * colour).astype(jnp.uint8), jnp.full((1,), 0.5)

    def reward(self, state, action, next_state, rng, params):
        return (action == state).astype(jnp.float32)
