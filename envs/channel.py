"""The channel between an agent and its world: what is lost on the way in and on the way out.

Every world has one, jitted or host-stepped, so that noise, dropped frames, slips and delay are
written once and need no towers of wrappers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Spec

MAX_DELAY = 8  # steps


class Channel(NamedTuple):
    """What disturbs sensing and acting. The default disturbs nothing, bit for bit.

    Attributes:
        noise: standard deviation of additive Gaussian noise, in units of the world's `obs_scale`.
        gain: factor on every observation.
        dropout: probability that a frame is lost and the last one seen again.
        action_noise: standard deviation added to continuous actions, which live in [-1, 1].
        flip: probability that an action is replaced by a uniformly random one.
        delay: steps between choosing an action and its taking effect, rounded, at most MAX_DELAY.
        reward_noise: standard deviation added to the reward that the learner sees.
    """

    noise: jax.Array | float = 0.0
    gain: jax.Array | float = 1.0
    dropout: jax.Array | float = 0.0
    action_noise: jax.Array | float = 0.0
    flip: jax.Array | float = 0.0
    delay: jax.Array | float = 0.0
    reward_noise: jax.Array | float = 0.0


def reset_obs(key: jax.Array, channel: Channel, spec: Spec, scale: jax.Array, obs: jax.Array):
    """The first observation of an episode, obs [D] -> (sensed [D], queue).

    The queue [MAX_DELAY, ...] is all that a channel carries through an episode: the actions that
    were chosen, newest first.
    """
    action = jnp.zeros((spec.action_dim,)) if spec.action_dim else jnp.zeros((), jnp.int32)
    queue = jnp.broadcast_to(action, (MAX_DELAY, *action.shape))
    return _disturb(key, channel, scale, obs), queue


def observe(
    key: jax.Array, channel: Channel, last: jax.Array, scale: jax.Array, obs: jax.Array
) -> jax.Array:
    """A later observation as it is sensed [D], after what was sensed `last` [D]."""
    k_drop, k_noise = jax.random.split(key)
    lost = jax.random.uniform(k_drop) < channel.dropout
    return jnp.where(lost, last, _disturb(k_noise, channel, scale, obs))


def apply_action(
    key: jax.Array,
    channel: Channel,
    queue: jax.Array,
    spec: Spec,
    first: jax.Array,
    action: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """A chosen action -> (the action that takes effect, queue).

    Until the first action of an episode has come through, it is the one that acts.
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
    """The reward [] that the learner sees."""
    return reward + channel.reward_noise * jax.random.normal(key, reward.shape)


def _disturb(key: jax.Array, channel: Channel, scale: jax.Array, obs: jax.Array) -> jax.Array:
    return channel.gain * obs + channel.noise * scale * jax.random.normal(key, obs.shape)
