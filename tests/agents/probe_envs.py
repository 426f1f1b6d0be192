"""Probe worlds: so small that what an agent must come to know of them is known beforehand."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from affect import Blend, Head, Spec
from envs.world import Env, World
from runs.engine.train import FAST_COMPILE, TrainConfig, init_runner, train

HORIZON = 3  # steps; only a life that never ends gets there
OBS = jnp.array([[cue, time] for cue in (-1.0, 0.0, 1.0) for time in (0.0, 1.0)])


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

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        return total > 0


class Steer(Probes):
    """One step that pays -(action - cue / 2)^2, for a continuous action."""

    spec = Spec(obs_dim=2, action_dim=1)

    def reward(self, state: State, action: jax.Array, next_state, rng, params: Probe) -> jax.Array:
        return -jnp.square(action[0] - state.cue / 2)


class Liking(Head):
    """A feeling for action 1."""

    def __init__(self, spec, *, rngs):
        pass

    def __call__(self, state, batch):
        return batch.action.astype(jnp.float32), state


def learn(agent: Any, probes: dict[str, Probe], env=None, blend=None) -> dict:
    """Trains an agent in each probe, all at once, for as many updates as its `anneal`.

    Returns:
        probe -> {(cue, time): (values [C], what it does there)}.
    """
    env, blend = env or Probes(), blend or Blend()
    config = TrainConfig(agent, blend, num_envs=16, num_steps=8)

    def one(params):
        worlds = partial(_always, World(params))
        run = init_runner(jax.random.key(0), config, env, worlds)
        run, _, _ = train(run, config, env, worlds, agent.anneal)
        state = run.learner.agent
        seen = OBS + params.offset
        return agent.value(state, seen), agent.act(state, None, seen)

    stacked = jax.tree.map(lambda *leaves: jnp.array(leaves), *probes.values())
    with jax.debug_key_reuse(False):  # it takes a scan over keys split under vmap for a reuse
        values, actions = jax.jit(jax.vmap(one), compiler_options=FAST_COMPILE)(stacked)
    places = [tuple(place) for place in OBS.tolist()]
    return {
        name: {place: (values[i, j], actions[i, j]) for j, place in enumerate(places)}
        for i, name in enumerate(probes)
    }


def _always(world, key):
    return world


def value(knowledge: dict, cue: float = 0.0, time: float = 0.0, channel: int = 0) -> float:
    """What an agent came to think a place is worth, in one channel."""
    return float(knowledge[cue, time][0][channel])
