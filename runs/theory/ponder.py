"""How long somebody thinks, who has learned by Q-learning when it is enough.

The learner knows how much better one option looks by now (the mean of its belief, for it knows the
world's gap and noise) and how long it has looked. It is paid what the world pays: the worth of what
it takes, and minus the cost of each moment. Whoever does not feel the cost learns from the same
rewards with that cost cancelled by a signal.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, Innate, Transition
from agents.qlearning import QLearning
from envs.world import World
from envs.worlds.theory.ponder import WAIT, Params, Ponder
from runs.engine.train import TrainConfig, init_runner, seed_keys, train, vmap_seeds

ENV, PARAMS = Ponder(), Params()
EDGES = (0.03, 0.08, 0.15, 0.25, 0.4, 0.6, 0.9, 1.3)  # of the difference in belief, either sign
BINS = 2 * len(EDGES) + 1
NUM_ENVS, NUM_STEPS = 32, 32


def belief(obs: jax.Array) -> jax.Array:
    """By how much the left option is believed better, in units of worth [...]."""
    looks = obs[..., 2] * ENV.horizon
    trust = looks / (looks + (PARAMS.noise / PARAMS.gap) ** 2)
    return trust * (obs[..., 0] - obs[..., 1])


def cell(obs: jax.Array) -> jax.Array:
    """The row of (moments waited, belief in bins) [...]."""
    looks = jnp.round(obs[..., 2] * ENV.horizon).astype(jnp.int32)
    edges = jnp.array([*(-np.array(EDGES[::-1])), *EDGES])
    return looks * BINS + jnp.searchsorted(edges, belief(obs)).astype(jnp.int32)


def cost_cancelling(batch: Transition) -> jax.Array:
    """What cancels the cost of waiting [T, B]."""
    return jnp.where(batch.action == WAIT, -batch.info["foregone"][..., WAIT], 0.0)


AGENT = QLearning(
    states=(ENV.horizon + 1) * BINS, cell=cell, alpha=0.03, gamma=1.0, epsilon=0.1, initial=0.3
)
BLENDS = {
    "intact": Blend(),
    "lesioned": Blend(numbness=(1.0, partial(Innate, fn=cost_cancelling, reads=("foregone",)))),
}
"""Who feels what of the cost: all of it, or nothing."""


class Choices(NamedTuple):
    """Decisions [S, N] of S learners about the same N pairs of options.

    Attributes:
        waited: moments of thought.
        regret: worth of the better option, less what was earned: worth taken, less time.
        apart: how far the options are apart in worth.
    """

    waited: np.ndarray
    regret: np.ndarray
    apart: np.ndarray


def decide(who: str, seeds: int, updates: int, choices: int) -> Choices:
    """Trains S learners, then lets each decide without exploring.

    Args:
        who: a key of BLENDS.
        seeds: S.
        updates: of 1,024 steps each.
        choices: N.
    """
    keys = seed_keys(0, np.arange(seeds))
    return Choices(*map(np.asarray, _program(who, seeds, updates, choices)(keys)))


@cache
def _program(who: str, seeds: int, updates: int, choices: int):
    config, world = TrainConfig(AGENT, BLENDS[who], NUM_ENVS, NUM_STEPS), World(PARAMS)

    def one(key):
        k_train, k_choose = jax.random.split(key)
        run = init_runner(k_train, config, ENV, lambda key: world)
        run, _, _ = train(run, config, ENV, lambda key: world, updates)
        keys = jax.random.split(k_choose, choices)
        return jax.vmap(partial(_simulate, run.learner.agent))(keys)

    return vmap_seeds(one, seeds)


def _simulate(learner: Any, key: jax.Array) -> Choices:
    k_reset, k_live = jax.random.split(key)
    env_state = ENV.reset(k_reset, World(PARAMS))
    worth = env_state.state.worth

    def moment(now, key):
        env_state, earned, over = now
        env_state, seen = ENV.step(key, env_state, AGENT.act(learner, None, env_state.obs))
        earned = earned + jnp.where(over, 0.0, seen.reward)
        waits = ~over & (seen.action == WAIT)
        return (env_state, earned, over | seen.terminated), waits

    begun = (env_state, jnp.zeros(()), jnp.zeros((), bool))
    keys = jax.random.split(k_live, ENV.horizon + 1)
    (_, earned, _), waits = jax.lax.scan(moment, begun, keys)
    return Choices(waits.sum(), worth.max() - earned, jnp.abs(worth[0] - worth[1]))
