"""Drive: reach the end of a three-lane road through traffic without a collision."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.world import Env
from envs.worlds.drive.sensors import ANGLES, Boxes, ray_observation, time_to_collision
from envs.worlds.drive.state import HALF_LONG, HALF_WIDE, LONG, STEP, WIDE, Params, State
from envs.worlds.drive.traffic import sample_traffic, step_traffic

FASTEST, SIDEWAYS, SLEW, EDGE = 18.0, 3.0, 15.0, 5.1  # m/s, m/s, m/s^2, m


class Drive(Env):
    """Car on a road of three lanes: reward +1 for arriving after 150 m, -1 for a crash, else 0.

    Actions are `levels` x pedal (from full brake over coasting to full gas) + wheel (from left over
    straight to right), each in equal steps. The wheel commands up to 3 m/s sideways, less below
    5 m/s. More than 5.1 m from the middle of the road counts as a crash. The elapsed time is
    observed, so the time limit terminates the episode.

    Observation [37]: speed, position and speed across the road, progress, time; then the proximity
    and the closing speed that 16 rays measure (`envs.worlds.drive.sensors.ray_observation`). The
    scales are constants that no shift changes.
    `info["harm"]` is 1 at a crash; `info["collision"]` is the time to collision in seconds at
    constant velocities, at most 10, computed from the true state;
    `envs.worlds.drive.sensors.looming` estimates it from observations.

    Args:
        horizon: time limit in steps of .2 s.
        levels: positions of the pedal and of the wheel, odd: 9 actions with 3, 25 with 5.

    Raises:
        ValueError: for another number of levels.
    """

    reset_pool_size = 128  # a reset costs half a step; about 60 episodes end in a training rollout
    spec = Spec(obs_dim=5 + 2 * len(ANGLES), num_actions=9, info=("harm", "collision"))
    obs_scale = (0.1,) * 5 + (1.0,) * (2 * len(ANGLES))
    observation_space = spaces.Box(-np.inf, np.inf, (5 + 2 * len(ANGLES),), np.float32)
    action_space = spaces.Discrete(9)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    goal = 150.0  # m

    def __init__(self, horizon: int = 150, levels: int = 3):
        super().__init__()
        if not isinstance(levels, int) or levels < 3 or levels % 2 == 0:
            name = type(self).__name__
            raise ValueError(f"{name}: levels={levels!r}, expected an odd number such as 3 or 5")
        self.horizon, self.levels = horizon, levels
        if levels != 3:
            self.spec = replace(self.spec, num_actions=levels**2)
            self.action_space = spaces.Discrete(levels**2)

    def get_default_params(self, **kwargs: float) -> Params:
        """Light traffic on a dry road in clear air, without cones, crossing cars or cutting in."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Draws the driver's lane and the traffic; the driver starts at speed `params.start`."""
        y, traffic = sample_traffic(rng, params)
        zero, time = jnp.zeros(()), jnp.zeros((), jnp.int32)
        return State(zero, y, params.start + zero, zero, traffic, time)

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """Advances .2 s at constant acceleration; all vehicles decide on the old state."""
        half = self.levels // 2
        pedal, wheel = (action // self.levels - half) / half, (half - action % self.levels) / half
        push = params.grip * pedal * jnp.where(pedal < 0, params.brake, params.gas)
        speed = jnp.clip(state.speed + push * STEP, 0.0, FASTEST)
        target = SIDEWAYS * wheel * jnp.minimum(speed / 5, 1.0)
        slew = SLEW * params.grip * STEP
        drift = state.drift + jnp.clip(target - state.drift, -slew, slew)
        x = state.x + STEP * (state.speed + speed) / 2
        y = state.y + STEP * drift
        traffic = step_traffic(state.traffic, state.x, state.y, rng, params)
        return State(x, y, speed, drift, traffic, state.time + 1)

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Observation [37]: own motion, progress, time; proximity and closing speed of the rays."""
        own_state = jnp.stack(
            [
                state.speed / FASTEST,
                state.y / EDGE,
                state.drift / SIDEWAYS,
                state.x / self.distance(params),
                state.time / self.horizon,
            ]
        )
        return jnp.concatenate([own_state, ray_observation(traffic_boxes(state), params.sight)])

    def reward(self, state: State, action, next_state: State, rng, params: Params) -> jax.Array:
        """Reward: +1 on arrival, -1 for a crash, else 0."""
        crash = self.collided(next_state, params)
        arrived = next_state.x >= self.distance(params)
        return jnp.where(crash, -1.0, jnp.where(arrived, 1.0, 0.0))

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode ends: crashed, arrived, or out of time."""
        late, arrived = state.time >= self.horizon, state.x >= self.distance(params)
        return self.collided(state, params) | arrived | late

    def distance(self, params: Params) -> jax.Array | float:
        """Metres to drive."""
        return self.goal

    def collided(self, state: State, params: Params) -> jax.Array:
        """Whether the driver's box overlaps another one or has left the road."""
        boxes = traffic_boxes(state)
        apart_x = jnp.abs(boxes.x) >= boxes.long + LONG
        apart_y = jnp.abs(boxes.y) >= boxes.wide + WIDE
        return ~(apart_x | apart_y).all() | (jnp.abs(state.y) > EDGE)

    def transition_info(self, state: State, action, next_state: State, params: Params) -> dict:
        """Info: `harm`, 1 at a crash; `collision`, seconds until the next collision."""
        ttc = time_to_collision(traffic_boxes(next_state), LONG, WIDE)
        crash = self.collided(next_state, params)
        return {"harm": crash.astype(jnp.float32), "collision": ttc}

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws the road around the driver -> (None, picture uint8 [360, 640, 3])."""
        from envs.worlds.drive.render import render_state

        params = self.default_params if params is None else params
        ending = self.ending(state, params)
        return None, render_state(
            state, traffic_boxes(state), params, self.goal, self.horizon, ending
        )

    def ending(self, state: State, params: Params) -> str:
        """How the episode has ended, in words; empty while it continues."""
        timeout = "out of time" if state.time >= self.horizon else ""
        arrived = "arrived" if state.x >= self.distance(params) else timeout
        return "crash" if self.collided(state, params) else arrived

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether an episode succeeded: the driver arrived (return > 0)."""
        return total > 0


class Timid(Drive):
    """`Drive` over 220 m with less gas and better brakes: PPO learns to brake and not to arrive."""

    goal = 220.0

    def get_default_params(self, **kwargs: float) -> Params:
        """Defaults of `Drive` for a slower car with stronger brakes."""
        return Params(**{"gas": 3.0, "brake": 6.0, "start": 10.0, **kwargs})


def traffic_boxes(state: State) -> Boxes:
    """Other vehicles and cones as boxes relative to the driver, [22] each."""
    traffic = state.traffic
    return Boxes(
        x=traffic.x - state.x,
        y=traffic.y - state.y,
        long=jnp.asarray(HALF_LONG),
        wide=jnp.asarray(HALF_WIDE),
        vx=traffic.vx - state.speed,
        vy=traffic.vy - state.drift,
    )
