"""Heads that learn afterwards, from experience that no longer changes, and what they can memorise.

The experience is that of a policy that has stopped learning: at home, or in randomised worlds. It
is gone through over and over, with as many gradient steps as were taken beside the agent.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, BlendState, Spec, TrainState, Transition, gradient_step
from affect.blend import HEAD_OPTIMISER
from envs.world import Env, World, reset_batch, rollout
from runs.probes.ranking import discrimination

SAMPLES = 32_768  # steps in such a data set
LABELS, FITTING = 512, 500  # random labels, and gradient steps to learn them by heart


def record_batches(
    key: jax.Array,
    env: Env,
    worlds: Callable[[jax.Array], World],
    act: Callable[[jax.Array, jax.Array], jax.Array],
    num_envs: int,
    num_steps: int,
    number: int,
) -> Transition:
    """What a policy lives through, as batches [N, T, B] that follow one another.

    Args:
        key: random key.
        env: the family of worlds.
        worlds: key -> world of an episode.
        act: (key, obs [B, D]) -> actions.
        num_envs: B.
        num_steps: T.
        number: N.
    """
    k_begin, key = jax.random.split(key)

    def go(env_states, key):
        return rollout(key, env, worlds, act, env_states, num_steps)

    env_states = reset_batch(k_begin, env, worlds, num_envs)
    return jax.lax.scan(go, env_states, jax.random.split(key, number))[1]


def train_offline(
    blend: Blend, key: jax.Array, spec: Spec, batches: Transition, updates: int
) -> BlendState:
    """Heads made anew that learn from batches [N, T, B], one an update, round and round."""
    number, _, num_envs = batches.reward.shape
    blend_state = blend.init(key, spec, num_envs)

    def go(blend_state, index):
        batch = jax.tree.map(lambda leaf: leaf[index % number], batches)
        return blend.update(blend_state, batch)[1], None

    return jax.lax.scan(go, blend_state, jnp.arange(updates))[0]


def memorisation(net: Any, key: jax.Array, obs: jax.Array, steps: int) -> jax.Array:
    """How well a head learns random labels of some observations by heart -> [2].

    Args:
        net: an untrained head with a `predictor`.
        key: of the labels, half of which are 1.
        obs: [N, D], all of them in every gradient step.
        steps: gradient steps.

    Returns:
        The share of labels that it then gives, and their AUROC.
    """
    labels = jax.random.permutation(key, jnp.arange(obs.shape[0]) % 2).astype(jnp.float32)

    def loss(net):
        return net.predictor.error(obs, labels).mean(), {}

    def step(trained, _):
        return gradient_step(trained, HEAD_OPTIMISER, loss)[0], None

    trained = jax.lax.scan(step, TrainState.create(net, HEAD_OPTIMISER), length=steps)[0]
    said = trained.net.predictor(obs)
    right = ((said > 0.5) == (labels > 0.5)).astype(jnp.float32).mean()
    return jnp.stack([right, discrimination(said, labels > 0.5, jnp.ones_like(labels, bool))[0]])


def spread_observations(batches: Transition, number: int = LABELS) -> jax.Array:
    """Observations [N, D], spread evenly over batches; fewer if there are not as many."""
    obs = batches.obs.reshape(-1, batches.obs.shape[-1])
    return obs[np.linspace(0, obs.shape[0] - 1, min(number, obs.shape[0])).astype(int)]
