"""Channel: disturbances of observations, actions and rewards (noise, dropout, delay, slips).

Jitted and host-stepped worlds share this code, so no world needs wrappers of its own for them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Spec

MAX_DELAY = 8  # steps


class Channel(NamedTuple):
    """Strengths of the disturbances; the defaults leave every value unchanged, bit for bit.

    Attributes:
        noise: standard deviation of additive Gaussian noise, in units of the world's `obs_scale`.
        gain: factor on every observation.
        dropout: probability that an observation is replaced by the previous one.
        action_noise: standard deviation of noise on continuous actions, which lie in [-1, 1].
        flip: probability that an action is replaced by a uniformly random one.
        delay: steps from choosing an action to executing it, rounded, at most MAX_DELAY.
        reward_noise: standard deviation of noise on the reward that the agent receives.
    """

    noise: jax.Array | float = 0.0
    gain: jax.Array | float = 1.0
    dropout: jax.Array | float = 0.0
    action_noise: jax.Array | float = 0.0
    flip: jax.Array | float = 0.0
    delay: jax.Array | float = 0.0
    reward_noise: jax.Array | float = 0.0


def reset_obs(key: jax.Array, channel: Channel, spec: Spec, scale: jax.Array, obs: jax.Array):
    """Disturbs the first observation of an episode, obs [D] -> (sensed [D], action queue).

    The queue [MAX_DELAY, ...] holds the last chosen actions, newest first; it is the only state
    that a channel keeps within an episode.
    """
    action = jnp.zeros((spec.action_dim,)) if spec.action_dim else jnp.zeros((), jnp.int32)
    queue = jnp.broadcast_to(action, (MAX_DELAY, *action.shape))
    return _disturb(key, channel, scale, obs), queue


def observe(
    key: jax.Array, channel: Channel, last: jax.Array, scale: jax.Array, obs: jax.Array
) -> jax.Array:
    """Disturbs an observation [D] -> sensed [D]; a dropped one is replaced by `last` [D]."""
    k_drop, k_noise = jax.random.split(key)
    dropped = jax.random.uniform(k_drop) < channel.dropout
    return jnp.where(dropped, last, _disturb(k_noise, channel, scale, obs))


def apply_action(
    key: jax.Array,
    channel: Channel,
    queue: jax.Array,
    spec: Spec,
    first: jax.Array,
    action: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Delays and disturbs a chosen action -> (executed action, queue).

    In the first `delay` steps of an episode its first action is executed.
    """
    k_flip, k_other, k_noise = jax.random.split(key, 3)
    past = jnp.where(first, jnp.broadcast_to(action, queue.shape), queue)
    queue = jnp.concatenate([action[None], past])
    delayed = queue[jnp.clip(jnp.round(channel.delay), 0, MAX_DELAY).astype(jnp.int32)]
    if spec.num_actions:
        other = jax.random.randint(k_other, action.shape, 0, spec.num_actions, action.dtype)
    else:
        other = jax.random.uniform(k_other, action.shape, minval=-1.0, maxval=1.0)
        delayed = delayed + channel.action_noise * jax.random.normal(k_noise, action.shape)
    flipped = jax.random.uniform(k_flip) < channel.flip
    return jnp.where(flipped, other, delayed), queue[:-1]


def noisy_reward(key: jax.Array, channel: Channel, reward: jax.Array) -> jax.Array:
    """Adds Gaussian noise to the reward [] that the agent receives."""
    return reward + channel.reward_noise * jax.random.normal(key, reward.shape)


def _disturb(key: jax.Array, channel: Channel, scale: jax.Array, obs: jax.Array) -> jax.Array:
    return channel.gain * obs + channel.noise * scale * jax.random.normal(key, obs.shape)
