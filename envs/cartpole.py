"""CartPole: balance a pole on a cart (Barto, Sutton & Anderson, 1983)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.world import Env


class Params(NamedTuple):
    """The physics of cart and pole. Derived constants are properties, so a shift reaches them."""

    gravity: jax.Array | float = 9.8  # m / s^2
    cart_mass: jax.Array | float = 1.0  # kg
    pole_mass: jax.Array | float = 0.1  # kg
    half_length: jax.Array | float = 0.5  # m, half of the pole
    force: jax.Array | float = 10.0  # N
    tau: jax.Array | float = 0.02  # s

    @property
    def total_mass(self) -> jax.Array | float:
        """Kilograms, cart and pole."""
        return self.cart_mass + self.pole_mass

    @property
    def pole_moment(self) -> jax.Array | float:
        """Kilogram metres, the pole's mass times its half length."""
        return self.pole_mass * self.half_length


class CartPole(Env):
    """The physics, rewards and ends of gymnasium's `CartPole-v1`, equal to it step by step.

    State and observation [4]: position (m), velocity (m/s), angle (rad), angular velocity
    (rad/s). Reward 1 a step. The world ends, and reports harm, when the pole leans beyond 12
    degrees or the cart leaves +-2.4 m.

    Args:
        horizon: steps to survive; 500 as in `CartPole-v1`, 200 in Packer et al. (2018).
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
        """Gymnasium's constants, which are also the default world of Packer et al. (2018)."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> jax.Array:
        """Near upright and at rest, each coordinate uniform in +-.05."""
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
        """The state."""
        return state

    def reward(
        self, state: jax.Array, action: jax.Array, next_state: jax.Array, rng, params: Params
    ) -> jax.Array:
        """1 for every step, the last one too."""
        return jnp.ones(())

    def terminal(self, state: jax.Array, rng: jax.Array, params: Params) -> jax.Array:
        """The pole has fallen or the cart has left the track."""
        return (jnp.abs(state[0]) > self.x_limit) | (jnp.abs(state[2]) > self.angle_limit)

    def transition_info(self, state, action, next_state: jax.Array, params: Params) -> dict:
        """`harm`: 1 where the pole falls."""
        return {"harm": self.terminal(next_state, None, params).astype(jnp.float32)}

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """At least 195 of the first 200 steps (Packer et al., 2018)."""
        return length >= 195
