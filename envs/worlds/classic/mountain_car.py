"""MountainCar: a car too weak for the slope must gain momentum to climb it (Moore, 1990)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.shift import ramp, scale
from envs.suite import Suite
from envs.world import Env
from envs.worlds.classic import packer

INK, HILL, CAR, WHEEL, FLAG = "#2b2f36", "#d9d4c7", "#41597a", "#2b2f36", "#6aa879"


class Params(NamedTuple):
    """Strength of engine and gravity."""

    force: jax.Array | float = 0.001  # of the engine, change of velocity per step
    gravity: jax.Array | float = 0.0025  # change of velocity per step on the steepest slope


class MountainCar(Env):
    """Gymnasium's `MountainCar-v0`: equal in physics, rewards and terminations at every step.

    State and observation [2]: position along the valley in [-1.2, .6], velocity in +-.07, both in
    the units of gymnasium. Actions: back, coast, forward. Reward -1 a step; the episode ends at the
    flag, position .5. `info["harm"]` is always 0: without it a termination with reward -1 would be
    taken for harm.

    Args:
        horizon: steps after which an episode is truncated; 200 as in `MountainCar-v0`.
    """

    spec = Spec(obs_dim=2, num_actions=3, info=("harm",))
    obs_scale = (0.9, 0.07)
    low, high = np.array([[-1.2, -0.07], [0.6, 0.07]], np.float32)
    observation_space = spaces.Box(low, high, (2,), np.float32)
    action_space = spaces.Discrete(3)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
    left, right, fastest, goal = -1.2, 0.6, 0.07, 0.5

    def __init__(self, horizon: int = 200):
        super().__init__()
        self.horizon = horizon

    def get_default_params(self, **kwargs: float) -> Params:
        """Constants of gymnasium, also the default world of Packer et al. (2018)."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> jax.Array:
        """Initial state [2]: at rest near the bottom, position uniform in [-.6, -.4]."""
        return jnp.stack([jax.random.uniform(rng, minval=-0.6, maxval=-0.4), jnp.zeros(())])

    def transition(
        self, state: jax.Array, action: jax.Array, rng: jax.Array, params: Params
    ) -> jax.Array:
        """One step along a valley of height sin(3 x); the wall on the left stops the car."""
        position, velocity = state
        velocity = velocity + (action - 1) * params.force - params.gravity * jnp.cos(3 * position)
        velocity = jnp.clip(velocity, -self.fastest, self.fastest)
        position = jnp.clip(position + velocity, self.left, self.right)
        halted = (position <= self.left) & (velocity < 0)
        return jnp.stack([position, jnp.where(halted, 0.0, velocity)])

    def observation(self, state: jax.Array, rng: jax.Array, params: Params) -> jax.Array:
        """Observation [2]: the state."""
        return state

    def reward(
        self, state: jax.Array, action: jax.Array, next_state: jax.Array, rng, params: Params
    ) -> jax.Array:
        """Reward: -1 for every step, also the last one."""
        return -jnp.ones(())

    def terminal(self, state: jax.Array, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode ends: the car is at the flag and not rolling back."""
        return (state[0] >= self.goal) & (state[1] >= 0)

    def transition_info(self, state, action, next_state: jax.Array, params: Params) -> dict:
        """Info: `harm`, always 0."""
        return {"harm": jnp.zeros(())}

    def render_image(self, state: jax.Array, render_state: None, params: Params | None = None):
        """Draws valley, flag and car -> (None, picture uint8 [400, 600, 3])."""
        from envs.draw import Canvas

        params = self.default_params if params is None else params
        x, velocity = map(float, state)
        canvas = Canvas((600, 400), 300.0, (390, 372), "#f7f8fa")
        ground = [(float(at), _height(at)) for at in np.linspace(self.left, self.right, 91)]
        canvas.polygon([(self.left, -1.0), *ground, (self.right, -1.0)], HILL)
        for start, end in zip(ground, ground[1:], strict=False):
            canvas.line(start, end, INK, 2)
        canvas.line(ground[0], (self.left, ground[0][1] + 0.2), INK, 4)
        foot = np.array([self.goal, _height(self.goal)])
        canvas.line(foot, foot + [0, 0.2], INK, 3)
        canvas.polygon([foot + [0, 0.2], foot + [0.09, 0.165], foot + [0, 0.13]], FLAG)
        slope = np.array([1.0, 1.35 * np.cos(3 * x)])
        ahead = slope / np.linalg.norm(slope)
        up = np.array([-ahead[1], ahead[0]])
        centre = np.array([x, _height(x)])
        corners = ((-0.08, 0.03), (0.08, 0.03), (0.08, 0.07), (0.04, 0.1), (-0.08, 0.1))
        canvas.polygon([centre + a * ahead + b * up for a, b in corners], CAR)
        for side in (-0.05, 0.05):
            canvas.dot(centre + side * ahead + 0.03 * up, 8, WHEEL)
        if velocity:
            roof = centre + 0.15 * up
            canvas.line(roof, roof + 4 * velocity * ahead, FLAG, 4)
        canvas.text((60, 12), f"position {x:+.2f}", INK)
        canvas.text((60, 33), f"velocity {velocity:+.3f}", INK)
        canvas.text((230, 12), f"engine {float(params.force):.2g}", INK)
        canvas.text((230, 33), f"gravity {float(params.gravity):.2g}", INK)
        return None, canvas.array()

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether episodes are successes: the flag within 110 steps (Packer et al., 2018)."""
        return length <= 110


def _height(position: float) -> float:
    return float(0.45 * np.sin(3 * position) + 0.55)


# Packer et al. (2018), table 1.
PACKER_R = {"force": (0.0005, 0.005), "gravity": (0.001, 0.005)}
PACKER_E = {"force": (0.0001, 0.01), "gravity": (0.0005, 0.01)}


def suite() -> Suite:
    """Suite MountainCar: Packer's worlds and shifts of physics, sensors and actuators."""
    shifts = (
        scale("force", "dynamics", "params.force", to=0.4),
        scale("gravity", "dynamics", "params.gravity", to=2.0),
        ramp("noise", "sensor", "channel.noise", to=1.0),
        ramp("dropout", "sensor", "channel.dropout", to=0.9),
        ramp("flip", "actuator", "channel.flip", to=0.8),
        ramp("delay", "actuator", "channel.delay", to=8.0),
    )
    return packer.packer_suite(MountainCar(), PACKER_R, PACKER_E, shifts)
