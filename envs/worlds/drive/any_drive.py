"""AnyDrive: Drive with its road, car and weather as parameters, so that all share one program."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from envs.suite import Suite
from envs.world import World
from envs.worlds.drive.drive import EDGE, Drive, Timid, traffic_boxes
from envs.worlds.drive.shifts import drive_shifts
from envs.worlds.drive.state import STEP, Params, State

GUSTY = 0.1  # probability a step that a gust hits the car


class AnyParams(NamedTuple):
    """Parameters of `Drive`, and four more that change nothing by default."""

    base: Params = Params()
    goal: jax.Array | float = Drive.goal  # m, length of the road
    wind: jax.Array | float = 0.0  # m/s sideways that a gust adds to the car's speed
    mass: jax.Array | float = 1.0  # divides what gas and brake do
    narrow: jax.Array | float = 0.0  # share of the road's half width that is lost at the goal

    @property
    def sight(self) -> jax.Array | float:
        """Range of the driver's rays, m."""
        return self.base.sight


class AnyDrive(Drive):
    """`Drive` with a road of any length, gusts, a car of any mass, and a road that narrows.

    A gust hits with probability .1 a step, from either side, and adds `wind` to the speed sideways;
    the steering then corrects it. Half the road's width shrinks linearly along the road, and to
    leave it is a crash.
    """

    def get_default_params(self, **kwargs: float) -> AnyParams:
        """Parameters at which the world equals `Drive` bit for bit."""
        return AnyParams(**kwargs)

    def initial(self, rng: jax.Array, params: AnyParams) -> State:
        """Initial state, as in `Drive`."""
        return super().initial(rng, params.base)

    def transition(
        self, state: State, action: jax.Array, rng: jax.Array, params: AnyParams
    ) -> State:
        """Advances .2 s, as in `Drive` with the gas and brake of the heavier car, then a gust."""
        gas, brake = params.base.gas / params.mass, params.base.brake / params.mass
        after = super().transition(state, action, rng, params.base._replace(gas=gas, brake=brake))
        u = jax.random.uniform(jax.random.fold_in(rng, 1))
        push = params.wind * jnp.where(u < GUSTY, jnp.where(u < GUSTY / 2, -1.0, 1.0), 0.0)
        y = jnp.where(push == 0, after.y, after.y + STEP * push)  # + 0 may round
        return after._replace(y=y, drift=after.drift + push)

    def distance(self, params: AnyParams) -> jax.Array | float:
        """Metres to drive."""
        return params.goal

    def collided(self, state: State, params: AnyParams) -> jax.Array:
        """Whether the driver's box overlaps another one or has left the narrowing road."""
        left = 1 - params.narrow * jnp.clip(state.x / params.goal, 0.0, 1.0)
        return super().collided(state, params.base) | (jnp.abs(state.y) > EDGE * left)

    def render_image(self, state: State, render_state: None, params: AnyParams | None = None):
        """Draws the narrowing road around the driver -> (None, picture uint8 [360, 640, 3])."""
        from envs.worlds.drive.render import render_state

        params = self.default_params if params is None else params
        ending, narrow = self.ending(state, params), float(params.narrow)
        scene = state, traffic_boxes(state), params.base
        return None, render_state(*scene, float(params.goal), self.horizon, ending, narrow)


def any_suite(name: str) -> Suite:
    """The suite Drive or Timid in `AnyDrive`: the same home world and shifts, one environment."""
    home = {"Drive": Drive, "Timid": Timid}[name]()
    params = AnyParams(home.default_params, goal=home.goal)
    return Suite(name, AnyDrive(), World(params), drive_shifts("params.base"))
