"""Train heads offline on recorded batches, and measure how many random labels a head can memorise.

The batches come from a policy that no longer learns, in the unshifted world or in randomised ones.
They are reused in turn, for as many gradient steps as heads take beside the agent.
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

SAMPLES = 32_768  # steps in a recorded data set
LABELS, FITTING = 512, 500  # random labels, and gradient steps to memorise them


def record_batches(
    key: jax.Array,
    env: Env,
    worlds: Callable[[jax.Array], World],
    act: Callable[[jax.Array, jax.Array], jax.Array],
    num_envs: int,
    num_steps: int,
    number: int,
) -> Transition:
    """Record consecutive batches [N, T, B] of transitions of a frozen policy.

    Args:
        key: random key.
        env: the family of worlds.
        worlds: key -> world of an episode.
        act: (key, obs [B, D]) -> actions.
        num_envs: B.
        num_steps: T.
        number: N.
    """
    k_reset, key = jax.random.split(key)

    def record_batch(env_states, key):
        return rollout(key, env, worlds, act, env_states, num_steps)

    env_states = reset_batch(k_reset, env, worlds, num_envs)
    return jax.lax.scan(record_batch, env_states, jax.random.split(key, number))[1]


def train_offline(
    blend: Blend, key: jax.Array, spec: Spec, batches: Transition, updates: int
) -> BlendState:
    """Train newly initialised heads on batches [N, T, B], one an update, cyclically."""
    number, _, num_envs = batches.reward.shape
    blend_state = blend.init(key, spec, num_envs)

    def step(blend_state, index):
        batch = jax.tree.map(lambda leaf: leaf[index % number], batches)
        return blend.update(blend_state, batch)[1], None

    return jax.lax.scan(step, blend_state, jnp.arange(updates))[0]


def memorisation(net: Any, key: jax.Array, obs: jax.Array, steps: int) -> jax.Array:
    """Train a head on random labels -> [2], training accuracy and training AUROC.

    Args:
        net: an untrained head with a `predictor`.
        key: of the labels, half of which are 1.
        obs: [N, D], all of them in every gradient step.
        steps: gradient steps.
    """
    labels = jax.random.permutation(key, jnp.arange(obs.shape[0]) % 2).astype(jnp.float32)

    def loss(net):
        return net.predictor.error(obs, labels).mean(), {}

    def step(trained, _):
        return gradient_step(trained, HEAD_OPTIMISER, loss)[0], None

    trained = jax.lax.scan(step, TrainState.create(net, HEAD_OPTIMISER), length=steps)[0]
    scores = trained.net.predictor(obs)
    accuracy = ((scores > 0.5) == (labels > 0.5)).astype(jnp.float32).mean()
    return jnp.stack(
        [accuracy, discrimination(scores, labels > 0.5, jnp.ones_like(labels, bool))[0]]
    )


def spread_observations(batches: Transition, number: int = LABELS) -> jax.Array:
    """Pick observations [N, D] evenly spaced over batches; all of them if fewer than N."""
    obs = batches.obs.reshape(-1, batches.obs.shape[-1])
    return obs[np.linspace(0, obs.shape[0] - 1, min(number, obs.shape[0])).astype(int)]
