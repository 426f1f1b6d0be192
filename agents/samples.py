"""What an actor-critic learns from: advantages and targets, a critic channel for each feeling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Transition
from agents.gae import gae
from agents.nets import ActorCritic, room


class Samples(NamedTuple):
    """What the loss is taken on, flattened to [N, ...].

    Attributes:
        obs: [N, D] as the networks see it.
        action: [N, ...] taken there.
        log_prob: [N] of it, by the policy that took it.
        advantage: [N] summed over the channels.
        target: [N, C] of the critic.
    """

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    target: jax.Array


def samples(
    net: ActorCritic,
    batch: Transition,
    signals: jax.Array,
    gamma: float,
    signal_gamma: float | None,
    lam: float,
) -> Samples:
    """Flattens a batch [T, B] with signals [T, B, K] into N = T B samples.

    Args:
        net: policy and critic.
        batch: its observations as the networks see them.
        signals: of the feelings.
        gamma: discount of the task reward.
        signal_gamma: discount of each feeling's channel; None for `gamma`.
        lam: trace of the advantage estimate.
    """
    channels = jnp.concatenate([batch.reward[..., None], signals], -1)
    unused = room(channels.shape[-1]) - channels.shape[-1]
    reward = jnp.pad(channels, ((0, 0), (0, 0), (0, unused)))
    signal_gamma = gamma if signal_gamma is None else signal_gamma
    gammas = jnp.array([gamma] + [signal_gamma] * (reward.shape[-1] - 1))
    value, next_value = net.critic(batch.obs), net.critic(batch.next_obs)
    ends = batch.terminated, batch.truncated
    advantage = gae(reward, value, next_value, *ends, gammas, lam)
    log_prob, _ = net.actor.log_prob(batch.obs, batch.action)
    found = Samples(batch.obs, batch.action, log_prob, advantage.sum(-1), advantage + value)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)
