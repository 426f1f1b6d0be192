"""Probe environments, so small that the values and actions of a trained agent are known."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from affect import Blend, Head, Spec
from envs.world import Env, World
from runs.engine.seeds import FAST_COMPILE
from runs.engine.train import TrainConfig, init_runner, train

HORIZON = 3  # steps; reached by endless episodes only
OBS = jnp.array([[cue, time] for cue in (-1.0, 0.0, 1.0) for time in (0.0, 1.0)])


class Probe(NamedTuple):
    """Rewards and observations of a probe; a cue of +-1 is drawn when an episode begins.

    Attributes:
        length: steps to the end.
        each: reward of every step.
        last: reward of the last step.
        cued: reward of the last step, times the cue.
        chosen: reward of the last step for action 1.
        matched: reward of the last step, positive where action and cue agree, else negative.
        shown: factor of the cue in the observation.
        offset: added to the observation.
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
    """Cue and number of steps taken."""

    cue: jax.Array
    time: jax.Array


class Probes(Env):
    """Environment of two actions; the observation is the cue, if shown, and the time step."""

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
        final = params.last + params.cued * state.cue + params.chosen * action
        final += params.matched * match
        return params.each + jnp.where(next_state.time >= params.length, final, 0.0)

    def terminal(self, state: State, rng, params: Probe) -> jax.Array:
        return state.time >= params.length

    def transition_info(self, state: State, action: jax.Array, next_state, params: Probe) -> dict:
        return {}

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        return total > 0


class Steer(Probes):
    """One step with reward -(action - cue / 2)^2 for a continuous action."""

    spec = Spec(obs_dim=2, action_dim=1)

    def reward(self, state: State, action: jax.Array, next_state, rng, params: Probe) -> jax.Array:
        return -jnp.square(action[0] - state.cue / 2)


class Liking(Head):
    """Head whose signal is the action, 0 or 1."""

    def __init__(self, spec, *, rngs):
        pass

    def __call__(self, state, batch):
        return batch.action.astype(jnp.float32), state


def train_on_probes(agent: Any, probes: dict[str, Probe], env=None, blend=None) -> dict:
    """Trains an agent in each probe, all at once, for `agent.anneal` updates.

    Returns:
        probe -> {(cue, time): (values [C], action)}.
    """
    env = env or Probes()
    config = TrainConfig(agent, blend or Blend(), num_envs=16, num_steps=8)

    def train_one(params):
        world = World(params)
        run = init_runner(jax.random.key(0), config, env, lambda key: world)
        run, *_ = train(run, config, env, lambda key: world, agent.anneal)
        state, obs = run.learner.agent, OBS + params.offset
        return agent.value(state, obs), agent.act(state, None, obs)

    stacked = jax.tree.map(lambda *leaves: jnp.array(leaves), *probes.values())
    with jax.debug_key_reuse(False):  # false alarm: a scan over keys split under vmap
        outputs = jax.jit(jax.vmap(train_one), compiler_options=FAST_COMPILE)(stacked)
    points = [tuple(point) for point in OBS.tolist()]
    return {
        name: {point: tuple(x[i, j] for x in outputs) for j, point in enumerate(points)}
        for i, name in enumerate(probes)
    }


def value(results: dict, cue: float = 0.0, time: float = 0.0, channel: int = 0) -> float:
    """Value of one channel of the trained critic at an observation."""
    return float(results[cue, time][0][channel])
