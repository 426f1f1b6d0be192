"""CartPole: balance a pole on a cart (Barto, Sutton & Anderson, 1983)."""

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

INK, CART, POLE, SAFE, BAD = "#2b2f36", "#41597a", "#d98324", "#6aa879", "#c8322b"


class Params(NamedTuple):
    """Physics of cart and pole; derived constants are properties, so shifts change them too."""

    gravity: jax.Array | float = 9.8  # m / s^2
    cart_mass: jax.Array | float = 1.0  # kg
    pole_mass: jax.Array | float = 0.1  # kg
    half_length: jax.Array | float = 0.5  # m, half of the pole
    force: jax.Array | float = 10.0  # N
    tau: jax.Array | float = 0.02  # s

    @property
    def total_mass(self) -> jax.Array | float:
        """Mass of cart and pole, kg."""
        return self.cart_mass + self.pole_mass

    @property
    def pole_moment(self) -> jax.Array | float:
        """Mass of the pole times its half length, kg m."""
        return self.pole_mass * self.half_length


class CartPole(Env):
    """Gymnasium's `CartPole-v1`: equal in physics, rewards and terminations at every step.

    State and observation [4]: position (m), velocity (m/s), angle (rad), angular velocity
    (rad/s). Reward 1 a step. The episode ends, with harm, when the pole leans beyond 12 degrees
     or the cart leaves +-2.4 m.

    Args:
        horizon: steps after which an episode is truncated; 500 as in `CartPole-v1`, 200 in
            Packer et al. (2018).
    """

    spec = Spec(obs_dim=4, num_actions=2, info=("harm",))
    obs_scale = (2.4, 2.0, 0.21, 2.0)
    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}
    x_limit, angle_limit = 2.4, 12 * np.pi / 180

    def __init__(self, horizon: int = 500):
        super().__init__()
        self.horizon = horizon

    def get_default_params(self, **kwargs: float) -> Params:
        """Constants of gymnasium, also the default world of Packer et al. (2018)."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> jax.Array:
        """Initial state [4]: almost upright and at rest, each coordinate uniform in +-.05."""
        return jax.random.uniform(rng, (4,), minval=-0.05, maxval=0.05)

    def transition(
        self, state: jax.Array, action: jax.Array, rng: jax.Array, params: Params
    ) -> jax.Array:
        """One Euler step (Florian, 2007, eqs. 23 and 24, without friction)."""
        x, velocity, angle, spin = state
        push = jnp.where(action == 1, params.force, -params.force)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        drive = (push + params.pole_moment * jnp.square(spin) * sin) / params.total_mass
        inertia = params.half_length * (
            4.0 / 3.0 - params.pole_mass * jnp.square(cos) / params.total_mass
        )
        spin_rate = (params.gravity * sin - cos * drive) / inertia
        acceleration = drive - params.pole_moment * spin_rate * cos / params.total_mass
        return state + params.tau * jnp.stack([velocity, acceleration, spin, spin_rate])

    def observation(self, state: jax.Array, rng: jax.Array, params: Params) -> jax.Array:
        """Observation [4]: the state."""
        return state

    def reward(
        self, state: jax.Array, action: jax.Array, next_state: jax.Array, rng, params: Params
    ) -> jax.Array:
        """Reward: 1 for every step, also the last one."""
        return jnp.ones(())

    def terminal(self, state: jax.Array, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode ends: the pole has fallen or the cart has left the track."""
        return (jnp.abs(state[0]) > self.x_limit) | (jnp.abs(state[2]) > self.angle_limit)

    def transition_info(self, state, action, next_state: jax.Array, params: Params) -> dict:
        """Info: `harm`, 1 where the pole falls or the cart leaves the track."""
        return {"harm": self.terminal(next_state, None, params).astype(jnp.float32)}

    def render_image(self, state: jax.Array, render_state: None, params: Params | None = None):
        """Draws cart, pole and limits to scale -> (None, picture uint8 [400, 600, 3])."""
        from envs.draw import Canvas

        params = self.default_params if params is None else params
        x, _, angle, _ = map(float, state)
        length, mass = 2 * float(params.half_length), float(params.pole_mass)
        fallen, out = abs(angle) > self.angle_limit, abs(x) > self.x_limit
        canvas = Canvas((600, 400), min(104.0, 235 / length), (300, 325), "#f7f8fa")
        canvas.box((-99, -99), (99, 0), "#e4e7eb")
        for side in (-self.x_limit, self.x_limit):
            canvas.line((side, -0.1), (side, 0.55), BAD if out else INK, 4)
            canvas.text(canvas.pixel((side, -0.15)), f"{side:+.1f} m", INK, anchor="ma")
        canvas.line((-self.x_limit, 0), (self.x_limit, 0), INK, 4)
        foot, reach = np.array([x, 0.42]), 1.15 * max(length, 0.5)
        limits = np.linspace(-self.angle_limit, self.angle_limit, 25)
        fan = [foot + reach * np.array([np.sin(a), np.cos(a)]) for a in limits]
        canvas.polygon([foot, *fan], "#f3cdc8" if fallen else "#d5ebda")
        for edge in (fan[0], fan[-1]):
            canvas.line(foot, edge, BAD if fallen else SAFE, 1.5)
        canvas.box((x - 0.3, 0.12), (x + 0.3, 0.42), CART, 5)
        for wheel in (x - 0.17, x + 0.17):
            canvas.dot((wheel, 0.09), 0.09 * canvas.scale, INK)
        tip = foot + length * np.array([np.sin(angle), np.cos(angle)])
        canvas.line(foot, tip, POLE, 10 * (mass / 0.1) ** (1 / 3))
        canvas.dot(foot, 3.5, "white")
        canvas.text((14, 12), f"position {x:+.2f} m", BAD if out else INK)
        canvas.text(
            (14, 33), f"angle {np.degrees(angle):+.1f}\N{DEGREE SIGN}", BAD if fallen else INK
        )
        canvas.text((586, 12), f"pole {length:.2g} m, {mass:.2g} kg", INK, anchor="ra")
        canvas.text((586, 33), f"push {float(params.force):.2g} N", INK, anchor="ra")
        return None, canvas.array()

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether episodes are successes: at least 195 steps (Packer et al., 2018)."""
        return length >= 195


# Packer et al. (2018), table 1.
PACKER_R = {"force": (5.0, 15.0), "half_length": (0.25, 0.75), "pole_mass": (0.05, 0.5)}
PACKER_E = {"force": (1.0, 20.0), "half_length": (0.05, 1.0), "pole_mass": (0.01, 1.0)}


def suite() -> Suite:
    """Suite CartPole, 200 steps: Packer's worlds and shifts of physics, sensors, actuators."""
    shifts = (
        scale("force", "dynamics", "params.force", to=0.03),
        scale("length", "dynamics", "params.half_length", to=4.0),
        scale("gravity", "dynamics", "params.gravity", to=5.0),
        ramp("noise", "sensor", "channel.noise", to=0.2),
        ramp("dropout", "sensor", "channel.dropout", to=0.5),
        ramp("gain", "sensor", "channel.gain", to=0.1),
        ramp("flip", "actuator", "channel.flip", to=0.5),
        ramp("delay", "actuator", "channel.delay", to=4.0),
    )
    return packer.packer_suite(CartPole(horizon=200), PACKER_R, PACKER_E, shifts)
