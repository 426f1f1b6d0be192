"""Acrobot: swing up two links with torque at the joint between them (Sutton, 1996)."""

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

INK, UPPER, LOWER, GOAL, REACHED = "#2b2f36", "#41597a", "#d98324", "#6aa879", "#d5ebda"


class Params(NamedTuple):
    """Physics of two equal links; derived constants are properties.

    The position of the centre of mass does not change with the length, as in Packer et al. (2018).
    """

    length: jax.Array | float = 1.0  # m, of each link
    mass: jax.Array | float = 1.0  # kg, of each link
    inertia: jax.Array | float = 1.0  # kg m^2, of each link about its centre of mass
    centre: jax.Array | float = 0.5  # m, from a link's upper end to its centre of mass
    gravity: jax.Array | float = 9.8  # m / s^2
    torque: jax.Array | float = 1.0  # N m
    tau: jax.Array | float = 0.2  # s

    @property
    def about_joint(self) -> jax.Array | float:
        """Moment of inertia of a link about its upper end, kg m^2."""
        return self.mass * self.centre**2 + self.inertia

    @property
    def lever(self) -> jax.Array | float:
        """Coupling of the links: mass times length times distance of the centre of mass, kg m^2."""
        return self.mass * self.length * self.centre


class Acrobot(Env):
    """Gymnasium's `Acrobot-v1`: equal in physics, rewards and terminations at every step.

    State [4]: angle of the upper link from hanging, angle of the lower link from the upper one
    (rad, in +-pi), their velocities (rad/s). Observation [6]: cosine and sine of both angles, both
    velocities. Actions: torque -1, 0, +1. Reward -1 a step and 0 for the last, when the tip is more
    than a link's length above the upper joint. `info["harm"]` is always 0.

    Args:
        horizon: steps after which an episode is truncated; 500 as in `Acrobot-v1`.
        within: steps within which reaching the goal is a success; 80 in Packer et al. (2018), 90 in
            their published code.
    """

    spec = Spec(obs_dim=6, num_actions=3, info=("harm",))
    obs_scale = (1.0, 1.0, 1.0, 1.0, 3.0, 5.0)
    fastest = (4 * np.pi, 9 * np.pi)
    limits = np.array([1.0, 1.0, 1.0, 1.0, *fastest], np.float32)
    observation_space = spaces.Box(-limits, limits, (6,), np.float32)
    action_space = spaces.Discrete(3)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(self, horizon: int = 500, within: int = 80):
        super().__init__()
        self.horizon, self.within = horizon, within

    def get_default_params(self, **kwargs: float) -> Params:
        """Constants of gymnasium, also the default world of Packer et al. (2018)."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> jax.Array:
        """Initial state [4]: hanging and almost at rest, each coordinate uniform in +-.1."""
        return jax.random.uniform(rng, (4,), minval=-0.1, maxval=0.1)

    def transition(
        self, state: jax.Array, action: jax.Array, rng: jax.Array, params: Params
    ) -> jax.Array:
        """One fourth-order Runge-Kutta step (Sutton & Barto, 2018, section 11.3)."""
        torque, tau = (action - 1) * params.torque, params.tau
        first = derivatives(state, torque, params)
        second = derivatives(state + tau / 2 * first, torque, params)
        third = derivatives(state + tau / 2 * second, torque, params)
        fourth = derivatives(state + tau * third, torque, params)
        state = state + tau / 6 * (first + 2 * second + 2 * third + fourth)
        angles = (state[:2] + jnp.pi) % (2 * jnp.pi) - jnp.pi
        fastest = jnp.array(self.fastest)
        return jnp.concatenate([angles, jnp.clip(state[2:], -fastest, fastest)])

    def observation(self, state: jax.Array, rng: jax.Array, params: Params) -> jax.Array:
        """Observation [6]: cosine and sine of both angles, and both velocities."""
        upper, lower, *spins = state
        circle = [jnp.cos(upper), jnp.sin(upper), jnp.cos(lower), jnp.sin(lower)]
        return jnp.stack([*circle, *spins])

    def reward(
        self, state: jax.Array, action: jax.Array, next_state: jax.Array, rng, params: Params
    ) -> jax.Array:
        """Reward: -1 for every step except the last, which gives 0."""
        return jnp.where(self.terminal(next_state, rng, params), 0.0, -1.0)

    def terminal(self, state: jax.Array, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode ends: the tip is more than a link's length above the upper joint."""
        return -jnp.cos(state[0]) - jnp.cos(state[0] + state[1]) > 1.0

    def transition_info(self, state, action, next_state: jax.Array, params: Params) -> dict:
        """Info: `harm`, always 0."""
        return {"harm": jnp.zeros(())}

    def render_image(self, state: jax.Array, render_state: None, params: Params | None = None):
        """Draws links and goal height to scale -> (None, picture uint8 [400, 400, 3])."""
        from envs.draw import Canvas

        params = self.default_params if params is None else params
        upper, lower, _, _ = map(float, state)
        length, mass = float(params.length), float(params.mass)
        reached = bool(self.terminal(state, None, params))
        canvas = Canvas((400, 400), min(80.0, 170 / (2 * length)), (200, 215), "#f7f8fa")
        if reached:
            canvas.box((-9, length), (9, 9), REACHED)
        canvas.line((-9, length), (9, length), GOAL, 3)
        joint = length * np.array([np.sin(upper), -np.cos(upper)])
        tip = joint + length * np.array([np.sin(upper + lower), -np.cos(upper + lower)])
        thick = 12 * mass ** (1 / 3)
        canvas.line((0, 0), joint, UPPER, thick)
        canvas.line(joint, tip, LOWER, thick)
        for spot, radius in (((0, 0), 5), (joint, 5)):
            canvas.dot(spot, radius, "white")
        canvas.dot(tip, 7, GOAL if reached else INK)
        canvas.text((14, 12), f"tip {tip[1]:+.2f} m, goal {length:+.2f} m", INK)
        canvas.text((14, 366), f"links {length:.2g} m, {mass:.2g} kg", INK)
        canvas.text((386, 366), f"inertia {float(params.inertia):.2g}", INK, anchor="ra")
        return None, canvas.array()

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether episodes are successes: the goal was reached within `within` steps."""
        return length <= self.within


def derivatives(state: jax.Array, torque: jax.Array, params: Params) -> jax.Array:
    """Time derivative [4] of a state [4] (Sutton & Barto, 2018, section 11.3)."""
    upper, lower, spin, turn = state
    moment, lever, mass = params.about_joint, params.lever, params.mass
    cos, sin = jnp.cos(lower), jnp.sin(lower)
    both = 2 * moment + mass * params.length**2 + 2 * lever * cos
    shared = moment + lever * cos
    weight = params.gravity * mass * params.centre
    pull_lower = weight * jnp.sin(upper + lower)
    pull_upper = weight * jnp.sin(upper) + params.gravity * mass * params.length * jnp.sin(upper)
    pull = pull_upper + pull_lower - lever * sin * (turn**2 + 2 * turn * spin)
    push = torque + shared / both * pull - lever * jnp.square(spin) * sin - pull_lower
    turn_rate = push / (moment - jnp.square(shared) / both)
    return jnp.stack([spin, turn, -(shared * turn_rate + pull) / both, turn_rate])


# Packer et al. (2018), table 1.
PACKER_R = {"length": (0.75, 1.25), "mass": (0.75, 1.25), "inertia": (0.75, 1.25)}
PACKER_E = {"length": (0.5, 1.5), "mass": (0.5, 1.5), "inertia": (0.5, 1.5)}


def suite() -> Suite:
    """Suite Acrobot: Packer's worlds and shifts of physics, sensors and actuators."""
    shifts = (
        scale("mass", "dynamics", "params.mass", to=2.0),
        scale("torque", "dynamics", "params.torque", to=0.5),
        ramp("noise", "sensor", "channel.noise", to=1.0),
        ramp("dropout", "sensor", "channel.dropout", to=0.9),
        ramp("flip", "actuator", "channel.flip", to=0.8),
        ramp("delay", "actuator", "channel.delay", to=4.0),
    )
    return packer.packer_suite(Acrobot(), PACKER_R, PACKER_E, shifts)
