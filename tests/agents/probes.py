"""Probe worlds: so small that what an agent must come to know of them is known beforehand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Spec
from envs.world import Env

HORIZON = 3  # steps; only a life that never ends gets there


class Probe(NamedTuple):
    """What a probe pays and shows. A cue of +-1 is drawn when an episode begins.

    Attributes:
        length: steps to the end.
        each: paid at every step.
        last: paid at the last step.
        cued: paid at the last step, times the cue.
        chosen: paid at the last step for action 1.
        matched: paid at the last step, positive where action and cue agree, negative elsewhere.
        shown: the cue as it is seen.
        offset: added to everything that is seen.
    """

    length: jax.Array | float = 1.0
    each: jax.Array | float = 0.0
    last: jax.Array | float = 0.0
    cued: jax.Array | float = 0.0
    chosen: jax.Array | float = 0.0
    matched: jax.Array | float = 0.0
    shown: jax.Array | float = 0.0
    offset: jax.Array | float = 0.0


class State(NamedTuple):
    """The cue, and the number of steps taken."""

    cue: jax.Array
    time: jax.Array


class Probes(Env):
    """Seen: the cue, where it is shown, and the number of steps taken. Two actions."""

    spec = Spec(obs_dim=2, num_actions=2)
    obs_scale = (1.0, 1.0)
    horizon = HORIZON

    def initial(self, rng: jax.Array, params: Probe) -> State:
        return State(jax.random.rademacher(rng, (), jnp.float32), jnp.zeros(()))

    def transition(self, state: State, action: jax.Array, rng, params: Probe) -> State:
        return state._replace(time=state.time + 1)

    def observation(self, state: State, rng, params: Probe) -> jax.Array:
        endless = jnp.isinf(params.length)
        time = jnp.where(endless, 0.0, state.time)
        return params.offset + jnp.stack([params.shown * state.cue, time])

    def reward(self, state: State, action: jax.Array, next_state, rng, params: Probe) -> jax.Array:
        match = jnp.where((action == 1) == (state.cue > 0), 1.0, -1.0)
        paid = params.last + params.cued * state.cue + params.chosen * action
        paid += params.matched * match
        return params.each + jnp.where(next_state.time >= params.length, paid, 0.0)

    def terminal(self, state: State, rng, params: Probe) -> jax.Array:
        return state.time >= params.length

    def transition_info(self, state: State, action: jax.Array, next_state, params: Probe) -> dict:
        return {}


class Steer(Probes):
    """One step that pays -(action - cue / 2)^2, for a continuous action."""

    spec = Spec(obs_dim=2, action_dim=1)

    def reward(self, state: State, action: jax.Array, next_state, rng, params: Probe) -> jax.Array:
        return -jnp.square(action[0] - state.cue / 2)
