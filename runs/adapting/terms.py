"""What a learner lives on, and one update of it on these terms, whoever stepped the world."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from affect import Blend, Feelings, Spec, Transition, trainable
from affect.predict import harm
from runs.harness.train import Learner, Setup, Tally, count, soundness

EPOCHS, PARTS = 4, 4  # passes of a head over a batch, and the stretches of time it is cut into


class Terms(NamedTuple):
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


class Sums(NamedTuple):
    """Episodes that ended in an update, and sums over them, each [U] or []: the task's own account.

    Attributes:
        episodes: their number.
        success: of them; NaN where the world does not say.
        harm: steps of the update that did harm.
        total: of their returns.
        sound: 1 if everything was a number.
    """

    episodes: jax.Array
    success: jax.Array
    harm: jax.Array
    total: jax.Array
    sound: jax.Array


def wage(terms: Terms, batch: Transition, signals: jax.Array) -> jax.Array:
    """What a learner is paid for a batch, [T, B], of signals [T, B, K]."""
    felt = (signals * jnp.broadcast_to(terms.weights, signals.shape)).sum(-1)
    next_door = jnp.roll(felt, -1, axis=1) - felt.mean()
    return terms.pay * batch.reward + jnp.where(terms.sham > 0, next_door, felt)


def heard(
    blend: Blend, feelings: Feelings, batch: Transition, terms: Terms
) -> tuple[jax.Array, Feelings]:
    """`Blend.feel` of the heads that pay -> (signals [T, B, K], feelings).

    Terms are the same for all learners, so a head that pays nothing is not computed, and carries on
    what it carried.
    """
    signals, carry = [], {}
    for k, name in enumerate(blend.names):
        feel = partial(feelings.heads[name].net, feelings.carry[name], batch)
        idle = partial(_nothing, feelings.carry[name], batch)
        signal, carry[name] = jax.lax.cond(terms.weights[k] != 0, feel, idle)
        signals.append(jax.lax.stop_gradient(signal) * feelings.weights[k])
    nothing = jnp.zeros((*batch.reward.shape, 0))
    felt = jnp.stack(signals, -1) if signals else nothing
    return felt, feelings._replace(carry=carry)


def _nothing(carry: Any, batch: Transition) -> tuple[jax.Array, Any]:
    return jnp.zeros_like(batch.reward), carry


def studied(blend: Blend, feelings: Feelings, batch: Transition) -> Feelings:
    """The feelings after EPOCHS passes over PARTS parts of a batch [T, B], T divided among them.

    As many gradient steps as the agent takes. With the two on whole batches of `runs.compare`, the
    heads of Drive take a crash for an arrival at the end of 217,000 steps (hope .8 and .9), which
    is harmless in a potential that is 0 beyond the end and ruinous in one that is paid there.
    """
    parts = jax.tree.map(lambda leaf: leaf.reshape(PARTS, -1, *leaf.shape[1:]), batch)

    def part(feelings: Feelings, part: Transition) -> tuple[Feelings, None]:
        return blend.learn(feelings, part)[0], None

    def epoch(feelings: Feelings, _: None) -> tuple[Feelings, None]:
        return jax.lax.scan(part, feelings, parts)

    return jax.lax.scan(epoch, feelings, length=EPOCHS)[0]


def born(k_agent: jax.Array, k_heads: jax.Array, setup: Setup, spec: Spec) -> Learner:
    """Who knows nothing yet. The agent has no channels for feelings: a wage is one number."""
    agent = setup.agent.init(k_agent, spec)
    return Learner(agent, setup.blend.init(k_heads, spec, setup.num_envs))


def renewed(learner: Learner, key: jax.Array, kept: jax.Array, setup: Setup, spec: Spec) -> Learner:
    """The same policy with a new critic, unless the old one is `kept`, and a new optimiser."""
    old, net = learner.agent.trained.net, setup.agent.init(key, spec).trained.net
    net.actor = old.actor
    net.critic = jax.tree.map(
        lambda old, new: jnp.where(kept > 0, old, new), old.critic, net.critic
    )
    agent = learner.agent._replace(trained=trainable(net, setup.agent.tx()))
    return Learner(agent, learner.feelings)


def adapted(
    learner: Learner,
    tally: Tally,
    key: jax.Array,
    batch: Transition,
    terms: Terms,
    *,
    setup: Setup,
    success: Callable[[jax.Array, jax.Array], jax.Array],
    heads_learn: bool,
) -> tuple[Learner, Tally, Sums]:
    """One update of one learner from a batch [T, B] that it lived through, on these terms."""
    agent, feelings = learner
    if heads_learn:
        signals, after = setup.blend.feel(feelings, batch)
        after = studied(setup.blend, feelings, batch)._replace(carry=after.carry)
    else:
        signals, after = heard(setup.blend, feelings, batch, terms)
    paid = batch._replace(reward=wage(terms, batch, signals))
    nothing = jnp.zeros((*batch.reward.shape, 0))
    agent, metrics = setup.agent.update(agent, key, paid, nothing)
    learner = Learner(agent, after)
    tally, sums = count(tally, batch, success)
    sound = soundness(learner, paid, metrics).all()
    told = sums["episodes"], sums["success"], harm(batch).sum(), sums["return"], sound
    return learner, tally, Sums(*(jnp.float32(x) for x in told))
