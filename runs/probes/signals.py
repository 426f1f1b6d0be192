"""Whatever gives a number a step, frozen: heads read without their couplings, and their rivals.

A `Prediction` is a function from a batch [T, B] of whole episodes, from their first step on, to a
number at `next_obs` of each step, [T, B]. A rival is one more of them in the same dictionary.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from affect import Blend, BlendState, Care, Factory, Head, Lesion, Spec, Transition, build
from affect.head import per_env
from affect.wrappers import StatefulWrapper, Wrapper

Prediction = Callable[[Transition], jax.Array]


def predictions(blend: Blend, blend_state: BlendState) -> dict[str, Prediction]:
    """What each head of a blend says by itself: its couplings, their shams and lesions taken off.

    A head that is never positive is read with its sign turned: `Fear` as the probability of harm.
    `Care` stays on, as it asks about another.

    Args:
        blend: of one learner.
        blend_state: of it, of one seed; they do not change.
    """
    return {
        name: _prediction(blend_state.heads[name].net, blend_state.carry[name])
        for name in blend.names
    }


def untrained_predictions(
    blend: Blend, blend_state: BlendState, spec: Spec, key: jax.Array
) -> dict[str, Prediction]:
    """The same heads as they were made, NAME_untrained; what they carry is as after training."""
    begun = blend.init(key, spec, 2).heads
    return {
        f"{name}_untrained": _prediction(begun[name].net, blend_state.carry[name])
        for name in blend.names
    }


def critic_signals(agent: Any, state: Any) -> dict[str, Prediction]:
    """The agent's value of the task at `next_obs`, and its negative, as one fears: minus_critic."""

    def value(batch):
        return agent.value(state, batch.next_obs)[..., 0]

    return {"critic": value, "minus_critic": lambda batch: -value(batch)}


def fixed_head(factory: Factory, spec: Spec) -> Prediction:
    """A head that has nothing to learn, such as what is innate in a suite."""
    head = build(factory, spec, jax.random.key(0))
    return partial(read_signal, head, head.initial_state(2))


def paid_signal(blend: Blend, blend_state: BlendState) -> Prediction:
    """What the agent was paid beside the task: the weighted sum of all signals, couplings on."""

    def paid(batch):
        signals = [
            blend_state.weights[k]
            * read_signal(blend_state.heads[name].net, blend_state.carry[name], batch)
            for k, name in enumerate(blend.names)
        ]
        return sum(signals, jnp.zeros_like(batch.reward))

    return paid


def wrapped_signals(
    blend: Blend, blend_state: BlendState, spec: Spec, key: jax.Array
) -> dict[str, Prediction]:
    """What each head of a blend would pay an agent, couplings on and only lesions taken off.

    Beside them NAME_untrained, the same heads as they were made, under another key.
    """
    begun = blend.init(key, spec, 2).heads
    found = {}
    for name in blend.names:
        heads = {name: blend_state.heads[name].net, f"{name}_untrained": begun[name].net}
        for label, head in heads.items():
            whole = head.inner if isinstance(head, Lesion.__wrapped__) else head
            found[label] = partial(read_signal, whole, blend_state.carry[name])
    return found


def unwrapped(head: Head, carry: Any) -> tuple[Head, Any]:
    """The head inside all couplings but `Care`, and its part of what they carry."""
    while isinstance(head, Wrapper) and not isinstance(head, Care.__wrapped__):
        carry = carry[1] if isinstance(head, StatefulWrapper) else carry
        head = head.inner
    return head, carry


def read_signal(head: Head, carry: Any, batch: Transition) -> jax.Array:
    """The signal [T, B] of a head that neither learns nor gets used to what it sees.

    What it carries for all environments together, such as the moments by which curiosity whitens,
    stays as it was after training; what it carries for each begins anew, as the episodes do.

    Args:
        head: a head or a coupling.
        carry: what it carried after training, for any number of environments.
        batch: [T, B], whole episodes.
    """
    new = head.initial_state(batch.reward.shape[1])
    if not jax.tree.leaves(new):
        return head(new, batch)[0]
    own = per_env(head)

    def keep(state):
        return jax.tree.map(lambda own, now, old: now if own else old, own, state, carry)

    def step(state, now):
        signal, state = head(state, jax.tree.map(lambda leaf: leaf[None], now))
        return keep(state), signal[0]

    return jax.lax.scan(step, keep(new), batch)[1]


def _prediction(head: Head, carry: Any) -> Prediction:
    head, carry = unwrapped(head, carry)
    if head.sign < 0:
        return lambda batch: -read_signal(head, carry, batch)
    return partial(read_signal, head, carry)
