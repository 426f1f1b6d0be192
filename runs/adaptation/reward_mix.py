"""What a learner lives on, and one update of it on these terms, whoever stepped the world."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from affect import Blend, BlendState, Spec, TrainState, Transition
from affect.predict import harm
from runs.engine.train import EpisodeStats, Learner, TrainConfig, finite_checks, update_stats

EPOCHS, PARTS = 4, 4  # passes of a head over a batch, and the stretches of time it is cut into


class RewardMix(NamedTuple):
    """What a learner lives on: numbers, so that arms do not differ in anything compiled.

    Attributes:
        pay: weight of the task's reward, 0 where nobody pays: [], or [1, B] where some
            environments are paid and others are not.
        weights: [K] of the blend's signals, on top of the blend's own.
        sham: [] 1 for the feelings of the environment next door, less their mean over the batch;
            0 for one's own.
    """

    pay: jax.Array
    weights: jax.Array
    sham: jax.Array


class EpisodeSums(NamedTuple):
    """Episodes that ended in an update, and sums over them, each [U] or []: the task's own account.

    Attributes:
        episodes: their number.
        success: of them; NaN where the world does not say.
        harm: steps of the update that did harm.
        total: of their returns.
        finite: 1 if everything was a number.
    """

    episodes: jax.Array
    success: jax.Array
    harm: jax.Array
    total: jax.Array
    finite: jax.Array


def mixed_reward(terms: RewardMix, batch: Transition, signals: jax.Array) -> jax.Array:
    """What a learner is paid for a batch, [T, B], of signals [T, B, K]."""
    felt = (signals * jnp.broadcast_to(terms.weights, signals.shape)).sum(-1)
    next_door = jnp.roll(felt, -1, axis=1) - felt.mean()
    return terms.pay * batch.reward + jnp.where(terms.sham > 0, next_door, felt)


def paying_signals(
    blend: Blend, blend_state: BlendState, batch: Transition, terms: RewardMix
) -> tuple[jax.Array, BlendState]:
    """`Blend.feel` of the heads that pay -> (signals [T, B, K], feelings).

    Terms are the same for all learners, so a head that pays nothing is not computed, and carries on
    what it carried.
    """
    signals, carry = [], {}
    for k, name in enumerate(blend.names):
        feel = partial(blend_state.heads[name].net, blend_state.carry[name], batch)
        idle = partial(_zero_signal, blend_state.carry[name], batch)
        signal, carry[name] = jax.lax.cond(terms.weights[k] != 0, feel, idle)
        signals.append(jax.lax.stop_gradient(signal) * blend_state.weights[k])
    nothing = jnp.zeros((*batch.reward.shape, 0))
    felt = jnp.stack(signals, -1) if signals else nothing
    return felt, blend_state._replace(carry=carry)


def _zero_signal(carry: Any, batch: Transition) -> tuple[jax.Array, Any]:
    return jnp.zeros_like(batch.reward), carry


def train_heads(blend: Blend, blend_state: BlendState, batch: Transition) -> BlendState:
    """The feelings after EPOCHS passes over PARTS parts of a batch [T, B], T divided among them.

    As many gradient steps as the agent takes. With the two on whole batches of `runs.compare`, the
    heads of Drive take a crash for an arrival at the end of 217,000 steps (hope .8 and .9), which
    is harmless in a potential that is 0 beyond the end and ruinous in one that is paid there.
    """
    parts = jax.tree.map(lambda leaf: leaf.reshape(PARTS, -1, *leaf.shape[1:]), batch)

    def part(blend_state: BlendState, part: Transition) -> tuple[BlendState, None]:
        return blend.learn(blend_state, part)[0], None

    def epoch(blend_state: BlendState, _: None) -> tuple[BlendState, None]:
        return jax.lax.scan(part, blend_state, parts)

    return jax.lax.scan(epoch, blend_state, length=EPOCHS)[0]


def init(k_agent: jax.Array, k_heads: jax.Array, config: TrainConfig, spec: Spec) -> Learner:
    """Who knows nothing yet. The agent has no channels for feelings: a wage is one number."""
    agent = config.agent.init(k_agent, spec)
    return Learner(agent, config.blend.init(k_heads, spec, config.num_envs))


def renew(
    learner: Learner, key: jax.Array, kept: jax.Array, config: TrainConfig, spec: Spec
) -> Learner:
    """The same policy with a new critic, unless the old one is `kept`, and a new optimiser."""
    old, net = learner.agent.trained.net, config.agent.init(key, spec).trained.net
    net.actor = old.actor
    net.critic = jax.tree.map(
        lambda old, new: jnp.where(kept > 0, old, new), old.critic, net.critic
    )
    agent = learner.agent._replace(trained=TrainState.create(net, config.agent.tx()))
    return Learner(agent, learner.blend_state)


def mixed_update(
    learner: Learner,
    episode_stats: EpisodeStats,
    key: jax.Array,
    batch: Transition,
    terms: RewardMix,
    *,
    config: TrainConfig,
    success: Callable[[jax.Array, jax.Array], jax.Array],
    heads_learn: bool,
) -> tuple[Learner, EpisodeStats, EpisodeSums]:
    """One update of one learner from a batch [T, B] that it lived through, on these terms."""
    agent, blend_state = learner
    if heads_learn:
        signals, after = config.blend.feel(blend_state, batch)
        after = train_heads(config.blend, blend_state, batch)._replace(carry=after.carry)
    else:
        signals, after = paying_signals(config.blend, blend_state, batch, terms)
    paid = batch._replace(reward=mixed_reward(terms, batch, signals))
    nothing = jnp.zeros((*batch.reward.shape, 0))
    agent, metrics = config.agent.update(agent, key, paid, nothing)
    learner = Learner(agent, after)
    episode_stats, sums = update_stats(episode_stats, batch, success)
    finite = finite_checks(learner, paid, metrics).all()
    told = sums["episodes"], sums["success"], harm(batch).sum(), sums["return"], finite
    return learner, episode_stats, EpisodeSums(*(jnp.float32(x) for x in told))
