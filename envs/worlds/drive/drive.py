"""Drive: the road of a learner, who meets light traffic first and everything else later."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.world import Env
from envs.worlds.drive.sensors import ANGLES, Boxes, ray_observation, time_to_collision
from envs.worlds.drive.traffic import (
    HALF_LONG,
    HALF_WIDE,
    LONG,
    STEP,
    WIDE,
    Traffic,
    sample_traffic,
    step_traffic,
)

FASTEST, SIDEWAYS, SLEW, EDGE = 18.0, 3.0, 15.0, 5.1  # m/s, m/s, m/s^2, m


class Params(NamedTuple):
    """The car, the others and the weather."""

    gas: jax.Array | float = 4.0  # m/s^2
    brake: jax.Array | float = 5.0  # m/s^2
    start: jax.Array | float = 12.0  # m/s, the driver's speed at the start
    grip: jax.Array | float = 1.0  # of the tyres, a factor on whatever the driver does
    sight: jax.Array | float = 60.0  # m, beyond which nothing is seen
    slow: jax.Array | float = 7.0  # m/s, the least that cars in the middle lane want to go
    fast: jax.Array | float = 9.0  # m/s, the most
    left_faster: jax.Array | float = 3.5  # m/s, what each lane is faster than the one to its right
    mirror: jax.Array | float = 0.0  # probability that the traffic is its own mirror image
    headway: jax.Array | float = 1.5  # s, what cars keep to the vehicle ahead
    gap: jax.Array | float = 12.0  # m, what they want free on both sides to change lanes
    restless: jax.Array | float = 0.005  # probability a step that a car wants to change lanes
    cut_in: jax.Array | float = 0.0  # and that one beside the driver wants the driver's lane
    crossing: jax.Array | float = 0.0  # probability that each of three crossing cars is there
    closed: jax.Array | float = 0.0  # share of the road's width that each of three sites closes


class State(NamedTuple):
    """The driver's place (m), speeds along and across the road (m/s); the others; steps taken."""

    x: jax.Array
    y: jax.Array
    speed: jax.Array
    drift: jax.Array
    traffic: Traffic
    time: jax.Array


class Drive(Env):
    """Arrive, 150 m down a road of three lanes, and touch nothing: +1, or a crash: -1, else 0.

    Actions are 3 x pedal (brake, coast, gas) + wheel (left, straight, right). The wheel asks for
    +-3 m/s sideways, less below 5 m/s. What is beyond 5.1 m from the middle is off the road, a
    crash. The time allowed is observed, so that running out of it is an end like any other.

    Observation [37]: speed, place and speed across the road, progress, time; the proximity that
    each of 16 rays reports, and how fast what it meets draws near (`envs.worlds.drive.sensors.ray_observation`). All
    are divided by constants, never by what a shift may change.
    `info["harm"]` is 1 at a crash; `info["collision"]` is how many seconds the driver is from
    touching something if all go on as they do, at most 10, in truth and not as sensed:
    `envs.worlds.drive.sensors.looming` reads the same from observations.

    Args:
        horizon: steps of .2 s until time is up.
    """

    reset_pool_size = (
        128  # to begin is half as dear as a step, and a rollout of a training ends some sixty
    )
    spec = Spec(obs_dim=5 + 2 * len(ANGLES), num_actions=9, info=("harm", "collision"))
    obs_scale = (0.1,) * 5 + (1.0,) * (2 * len(ANGLES))
    observation_space = spaces.Box(-np.inf, np.inf, (5 + 2 * len(ANGLES),), np.float32)
    action_space = spaces.Discrete(9)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    goal = 150.0  # m

    def __init__(self, horizon: int = 150):
        super().__init__()
        self.horizon = horizon

    def get_default_params(self, **kwargs: float) -> Params:
        """Light traffic on a dry road in clear air: no cones, nobody who crosses or cuts in."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """In any lane, at the speed of the params, among traffic."""
        y, traffic = sample_traffic(rng, params)
        zero, time = jnp.zeros(()), jnp.zeros((), jnp.int32)
        return State(zero, y, params.start + zero, zero, traffic, time)

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """A step of .2 s at constant acceleration; all decide at once, by what was there before."""
        pedal, wheel = action // 3, 1 - action % 3
        push = params.grip * jnp.where(
            pedal == 0, -params.brake, jnp.where(pedal == 2, params.gas, 0.0)
        )
        speed = jnp.clip(state.speed + push * STEP, 0.0, FASTEST)
        asked = SIDEWAYS * wheel * jnp.minimum(speed / 5, 1.0)
        slew = SLEW * params.grip * STEP
        drift = state.drift + jnp.clip(asked - state.drift, -slew, slew)
        x = state.x + STEP * (state.speed + speed) / 2
        y = state.y + STEP * drift
        traffic = step_traffic(state.traffic, state.x, state.y, rng, params)
        return State(x, y, speed, drift, traffic, state.time + 1)

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """What is sensed, [37]."""
        own = jnp.stack(
            [
                state.speed / FASTEST,
                state.y / EDGE,
                state.drift / SIDEWAYS,
                state.x / self.goal,
                state.time / self.horizon,
            ]
        )
        return jnp.concatenate([own, ray_observation(traffic_boxes(state), params.sight)])

    def reward(self, state: State, action, next_state: State, rng, params: Params) -> jax.Array:
        """+1 on arrival, -1 for a crash."""
        crash = has_collided(next_state)
        return jnp.where(crash, -1.0, jnp.where(next_state.x >= self.goal, 1.0, 0.0))

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Crashed, arrived, or out of time."""
        return has_collided(state) | (state.x >= self.goal) | (state.time >= self.horizon)

    def transition_info(self, state: State, action, next_state: State, params: Params) -> dict:
        """`harm`, 1 at a crash, and `time_to_collision`, seconds until one."""
        soon = time_to_collision(traffic_boxes(next_state), LONG, WIDE)
        return {"harm": has_collided(next_state).astype(jnp.float32), "collision": soon}

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws the road around the driver -> (None, picture uint8 [360, 640, 3])."""
        from envs.worlds.drive.render import render_state

        params = self.default_params if params is None else params
        late = "out of time" if state.time >= self.horizon else ""
        ending = "crash" if has_collided(state) else "arrived" if state.x >= self.goal else late
        return None, render_state(
            state, traffic_boxes(state), params, self.goal, self.horizon, ending
        )

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """It arrived."""
        return total > 0


class Timid(Drive):
    """Further, with less gas and better brakes: learners brake, and never arrive."""

    goal = 220.0

    def get_default_params(self, **kwargs: float) -> Params:
        """The road of `Drive` for a slower car."""
        return Params(**{"gas": 3.0, "brake": 6.0, "start": 10.0, **kwargs})


def traffic_boxes(state: State) -> Boxes:
    """All others as boxes relative to the driver, [22] each."""
    others = state.traffic
    return Boxes(
        x=others.x - state.x,
        y=others.y - state.y,
        long=jnp.asarray(HALF_LONG),
        wide=jnp.asarray(HALF_WIDE),
        vx=others.vx - state.speed,
        vy=others.vy - state.drift,
    )


def has_collided(state: State) -> jax.Array:
    """The driver's box overlaps another, or has left the road."""
    boxes = traffic_boxes(state)
    apart_x = jnp.abs(boxes.x) >= boxes.long + LONG
    apart_y = jnp.abs(boxes.y) >= boxes.wide + WIDE
    return ~(apart_x | apart_y).all() | (jnp.abs(state.y) > EDGE)
