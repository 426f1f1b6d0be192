"""Pendulum: swing up a pole with a weak motor and keep it upright."""

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

INK, POLE, SAFE, FAN = "#2b2f36", "#d98324", "#6aa879", "#d5ebda"


class Params(NamedTuple):
    """Physics of a pole that rotates about one end; derived constants are properties."""

    gravity: jax.Array | float = 10.0  # m / s^2
    length: jax.Array | float = 1.0  # m
    mass: jax.Array | float = 1.0  # kg
    torque: jax.Array | float = 2.0  # N m at an action of 1
    tau: jax.Array | float = 0.05  # s

    @property
    def moment(self) -> jax.Array | float:
        """Moment of inertia of the pole about its end, kg m^2."""
        return self.mass * self.length**2 / 3


class State(NamedTuple):
    """Angle, angular velocity and time upright of the pole.

    Attributes:
        angle: [] from upright, rad, not wrapped.
        spin: [] rad/s, in +-8.
        upright: [] consecutive steps, up to the last one, within 60 degrees of upright.
    """

    angle: jax.Array
    spin: jax.Array
    upright: jax.Array


class Pendulum(Env):
    """Gymnasium's `Pendulum-v1`: equal in physics and rewards at every step.

    Observation [3]: cosine and sine of the angle, angular velocity (rad/s). Action [1]: torque in
    [-1, 1], in units of the greatest. Reward -(angle^2 + .1 spin^2 + .001 torque^2), before the
    step. Episodes never terminate. `info["success"]` is 1 after 100 consecutive steps upright.

    Args:
        horizon: steps after which an episode is truncated; 200 as in `Pendulum-v1`.
    """

    spec = Spec(obs_dim=3, action_dim=1, info=("success",))
    obs_scale = (1.0, 1.0, 4.0)
    fastest, within, long_enough = 8.0, np.pi / 3, 100
    limits = np.array([1.0, 1.0, fastest], np.float32)
    observation_space = spaces.Box(-limits, limits, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, horizon: int = 200):
        super().__init__()
        self.horizon = horizon

    def get_default_params(self, **kwargs: float) -> Params:
        """Constants of gymnasium, also the default world of Packer et al. (2018)."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Initial state: any angle, angular velocity uniform in +-1 rad/s."""
        k_angle, k_spin = jax.random.split(rng)
        angle = jax.random.uniform(k_angle, minval=-jnp.pi, maxval=jnp.pi)
        return State(angle, jax.random.uniform(k_spin, minval=-1.0, maxval=1.0), jnp.zeros(()))

    def transition(self, state: State, action: jax.Array, rng, params: Params) -> State:
        """One semi-implicit Euler step."""
        weight = params.gravity * params.mass * params.length / 2
        rate = (weight * jnp.sin(state.angle) + _torque(action, params)) / params.moment
        spin = jnp.clip(state.spin + params.tau * rate, -self.fastest, self.fastest)
        angle = state.angle + params.tau * spin
        upright = jnp.abs(wrap_angle(angle)) <= self.within
        return State(angle, spin, jnp.where(upright, state.upright + 1, 0.0))

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Observation [3]: cosine and sine of the angle, angular velocity."""
        return jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.spin])

    def reward(
        self, state: State, action: jax.Array, next_state: State, rng, params: Params
    ) -> jax.Array:
        """Reward: minus the cost of the state before the step and of the torque."""
        angle, torque = wrap_angle(state.angle), _torque(action, params)
        return -(jnp.square(angle) + 0.1 * jnp.square(state.spin) + 0.001 * jnp.square(torque))

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode terminates: never, it is truncated at the horizon."""
        return jnp.zeros((), bool)

    def transition_info(self, state: State, action, next_state: State, params: Params) -> dict:
        """Info: `success`, 1 where the pole has been upright for 100 consecutive steps."""
        return {"success": (next_state.upright >= self.long_enough).astype(jnp.float32)}

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws the pole and its target sector -> (None, picture uint8 [400, 400, 3])."""
        from envs.draw import Canvas

        params = self.default_params if params is None else params
        angle, length, mass = float(state.angle), float(params.length), float(params.mass)
        upright = abs(float(wrap_angle(state.angle))) <= self.within
        canvas = Canvas((400, 400), min(120.0, 160 / length), (200, 205), "#f7f8fa")
        turns = np.linspace(-self.within, self.within, 25)
        fan = [1.1 * length * np.array([np.sin(turn), np.cos(turn)]) for turn in turns]
        canvas.polygon([(0, 0), *fan], FAN if upright else "#e4e7eb")
        tip = length * np.array([np.sin(angle), np.cos(angle)])
        canvas.line((0, 0), tip, POLE, 16 * mass ** (1 / 3))
        canvas.dot((0, 0), 5, INK)
        degrees = np.degrees(float(wrap_angle(state.angle)))
        canvas.text((14, 12), f"angle {degrees:+.0f}\N{DEGREE SIGN}", INK)
        label = f"stands for {int(state.upright)} steps"
        canvas.text((386, 12), label, SAFE if upright else INK, anchor="ra")
        canvas.text((14, 366), f"pole {length:.2g} m, {mass:.2g} kg", INK)
        canvas.text((386, 366), f"motor {float(params.torque):.2g} N m", INK, anchor="ra")
        return None, canvas.array()

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether episodes lasted 200 steps; their last `info["success"]` must be 1 as well."""
        return length >= 200


def wrap_angle(angle: jax.Array) -> jax.Array:
    """Wraps an angle to [-pi, pi)."""
    return (angle + jnp.pi) % (2 * jnp.pi) - jnp.pi


def _torque(action: jax.Array, params: Params) -> jax.Array:
    return params.torque * jnp.clip(action[0], -1.0, 1.0)


# Packer et al. (2018), table 1.
PACKER_R = {"length": (0.75, 1.25), "mass": (0.75, 1.25)}
PACKER_E = {"length": (0.5, 1.5), "mass": (0.5, 1.5)}


def suite() -> Suite:
    """Suite Pendulum: Packer's worlds and shifts of physics, sensors and actuators."""
    shifts = (
        scale("mass", "dynamics", "params.mass", to=2.0),
        scale("torque", "dynamics", "params.torque", to=0.4),
        ramp("noise", "sensor", "channel.noise", to=0.5),
        ramp("dropout", "sensor", "channel.dropout", to=0.8),
        ramp("slip", "actuator", "channel.action_noise", to=2.0),
        ramp("delay", "actuator", "channel.delay", to=4.0),
    )
    return packer.packer_suite(Pendulum(), PACKER_R, PACKER_E, shifts)
