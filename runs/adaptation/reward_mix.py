"""The reward mix that an agent is trained on (task reward and head signals), and one update."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from affect import Blend, BlendState, Spec, TrainState, Transition
from affect.predict import harm
from runs.engine.train import EpisodeStats, Learner, TrainConfig, finite_checks, update_stats

EPOCHS, PARTS = 4, 4  # passes of a head over a batch, and time slices the batch is cut into


class RewardMix(NamedTuple):
    """Weights of the task reward and of the K signals; data, so that all arms share one program.

    Attributes:
        task_weight: weight of the task reward, 0 where it is off: [], or [1, B] where it is on in
            some environments only.
        signal_weights: [K] of the blend's signals, on top of the blend's own weights.
        sham: [] 1 to use the signals of the neighbouring environment, less their mean over the
            batch; 0 to use the environment's own.
    """

    task_weight: jax.Array
    signal_weights: jax.Array
    sham: jax.Array


class EpisodeSums(NamedTuple):
    """Sums over the episodes that ended in an update, each [U] or [], by the task's own reward.

    Attributes:
        episodes: number of episodes.
        success: number of successes; NaN where the environment reports none.
        harm: number of steps with harm in the update.
        returns: sum of the returns.
        finite: 1 if all parameters, rewards and metrics were finite.
    """

    episodes: jax.Array
    success: jax.Array
    harm: jax.Array
    returns: jax.Array
    finite: jax.Array


def mixed_reward(mix: RewardMix, batch: Transition, signals: jax.Array) -> jax.Array:
    """Weighted sum of task reward and signals [T, B, K]: the training reward [T, B]."""
    signal = (signals * jnp.broadcast_to(mix.signal_weights, signals.shape)).sum(-1)
    neighbour = jnp.roll(signal, -1, axis=1) - signal.mean()
    return mix.task_weight * batch.reward + jnp.where(mix.sham > 0, neighbour, signal)


def active_signals(
    blend: Blend, blend_state: BlendState, batch: Transition, mix: RewardMix
) -> tuple[jax.Array, BlendState]:
    """Signals [T, B, K] of the heads with non-zero weight, 0 for the others -> (signals, state).

    The reward mix is the same for all learners, so a head with weight 0 is not computed, and its
    carried state stays as it is.
    """
    signals, carry = [], {}
    for k, name in enumerate(blend.names):
        evaluate = partial(blend_state.heads[name].net, blend_state.carry[name], batch)
        skip = partial(_zero_signal, blend_state.carry[name], batch)
        signal, carry[name] = jax.lax.cond(mix.signal_weights[k] != 0, evaluate, skip)
        signals.append(jax.lax.stop_gradient(signal) * blend_state.weights[k])
    no_signals = jnp.zeros((*batch.reward.shape, 0))
    stacked = jnp.stack(signals, -1) if signals else no_signals
    return stacked, blend_state._replace(carry=carry)


def _zero_signal(carry: Any, batch: Transition) -> tuple[jax.Array, Any]:
    """Zero signal [T, B] and an unchanged carried state."""
    return jnp.zeros_like(batch.reward), carry


def train_heads(blend: Blend, blend_state: BlendState, batch: Transition) -> BlendState:
    """Train the heads for EPOCHS passes over a batch [T, B], cut along T into PARTS minibatches.

    That is as many gradient steps as the agent takes. With the two steps on whole batches of
    `runs.compare`, the heads of Drive still take a crash for an arrival after 217,000 steps (hope
    .8 and .9), which is harmless in a potential that is 0 beyond the end of an episode and ruinous
    in one that is paid there.
    """
    parts = jax.tree.map(lambda leaf: leaf.reshape(PARTS, -1, *leaf.shape[1:]), batch)

    def learn_part(blend_state: BlendState, chunk: Transition) -> tuple[BlendState, None]:
        return blend.learn(blend_state, chunk)[0], None

    def epoch(blend_state: BlendState, _: None) -> tuple[BlendState, None]:
        return jax.lax.scan(learn_part, blend_state, parts)

    return jax.lax.scan(epoch, blend_state, length=EPOCHS)[0]


def init_learner(
    k_agent: jax.Array, k_heads: jax.Array, config: TrainConfig, spec: Spec
) -> Learner:
    """Initialise one learner; the agent has no signal channels, as the mixed reward is a scalar."""
    agent = config.agent.init(k_agent, spec)
    return Learner(agent, config.blend.init(k_heads, spec, config.num_envs))


def with_new_critic(
    learner: Learner, key: jax.Array, kept: jax.Array, config: TrainConfig, spec: Spec
) -> Learner:
    """Keep the policy; re-initialise the optimiser and, unless `kept` is above 0, the critic."""
    old, net = learner.agent.train_state.net, config.agent.init(key, spec).train_state.net
    net.actor = old.actor
    net.critic = jax.tree.map(
        lambda old, new: jnp.where(kept > 0, old, new), old.critic, net.critic
    )
    agent = learner.agent._replace(train_state=TrainState.create(net, config.agent.tx()))
    return Learner(agent, learner.blend_state)


def mixed_update(
    learner: Learner,
    episode_stats: EpisodeStats,
    key: jax.Array,
    batch: Transition,
    mix: RewardMix,
    *,
    config: TrainConfig,
    success: Callable[[jax.Array, jax.Array], jax.Array],
    heads_learn: bool,
) -> tuple[Learner, EpisodeStats, EpisodeSums]:
    """Update one learner on a batch [T, B] with the reward of the given mix."""
    agent, blend_state = learner
    if heads_learn:
        signals, new_state = config.blend.feel(blend_state, batch)
        new_state = train_heads(config.blend, blend_state, batch)._replace(carry=new_state.carry)
    else:
        signals, new_state = active_signals(config.blend, blend_state, batch, mix)
    mixed_batch = batch._replace(reward=mixed_reward(mix, batch, signals))
    no_signals = jnp.zeros((*batch.reward.shape, 0))
    agent, metrics = config.agent.update(agent, key, mixed_batch, no_signals)
    learner = Learner(agent, new_state)
    episode_stats, sums = update_stats(episode_stats, batch, success)
    finite = finite_checks(learner, mixed_batch, metrics).all()
    totals = sums["episodes"], sums["success"], harm(batch).sum(), sums["return"], finite
    return learner, episode_stats, EpisodeSums(*(jnp.float32(x) for x in totals))
