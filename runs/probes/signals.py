"""Per-step signals of a frozen agent: heads without their wrappers, its critic, untrained heads.

A `Prediction` is a function from a batch [T, B] of whole episodes, starting at their first step, to
a number at `next_obs` of each step, [T, B]. Baselines are further entries of the same dictionary.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from affect import Blend, BlendState, Care, Head, Inherited, Lesion, Spec, Transition
from affect.head import per_env
from affect.observation import read
from affect.wrappers import StatefulWrapper, Wrapper

Prediction = Callable[[Transition], jax.Array]


def predictions(blend: Blend, blend_state: BlendState) -> dict[str, Prediction]:
    """Signal of each head of a blend, without its wrappers (couplings, shams, lesions).

    The sign of a head that is never positive is turned: `Fear` becomes the probability of harm.
    `Care` is kept: it evaluates its head on the observations of another agent.

    Args:
        blend: of one agent.
        blend_state: its state, of one seed; it stays frozen.
    """
    return {
        name: _prediction(blend_state, blend_state.heads[name].net, name) for name in blend.names
    }


def untrained_predictions(
    blend: Blend, blend_state: BlendState, spec: Spec, key: jax.Array
) -> dict[str, Prediction]:
    """Signal of each head with newly initialised weights, NAME_untrained, and the trained carry."""
    initial = blend.init(key, spec, 2).heads
    return {
        f"{name}_untrained": _prediction(blend_state, initial[name].net, name)
        for name in blend.names
    }


def critic_signals(agent: Any, state: Any) -> dict[str, Prediction]:
    """The agent's value of `next_obs` (`critic`) and its negative (`minus_critic`)."""

    def value(batch):
        return agent.value(state, batch.next_obs)[..., 0]

    return {"critic": value, "minus_critic": lambda batch: -value(batch)}


def signal_sum(blend: Blend, blend_state: BlendState) -> Prediction:
    """Weighted sum of all signals of a blend, wrappers on: the agent's reward beside the task's."""

    def total(batch):
        batch = read(blend_state.shapes.spec, batch)
        signals = [
            blend_state.weights[k]
            * read_signal(blend_state.heads[name].net, blend_state.carry[name], batch)
            for k, name in enumerate(blend.names)
        ]
        return sum(signals, jnp.zeros_like(batch.reward))

    return total


def wrapped_signals(
    blend: Blend, blend_state: BlendState, spec: Spec, key: jax.Array
) -> dict[str, Prediction]:
    """Signal of each head of a blend, wrappers on except lesions: its reward were it not lesioned.

    Beside each stands NAME_untrained, the same head initialised from another key.
    """
    initial = blend.init(key, spec, 2).heads
    signals = {}
    for name in blend.names:
        heads = {name: blend_state.heads[name].net, f"{name}_untrained": initial[name].net}
        for label, head in heads.items():
            wrapped = head.inner if isinstance(head, Lesion) else head
            signals[label] = _reading(blend_state, wrapped, blend_state.carry[name])
    return signals


def unwrapped(head: Head, carry: Any) -> tuple[Head, Any]:
    """Strip the wrappers of a head, up to a `Care` or `Inherited` -> (inner head, its carry)."""
    while isinstance(head, Wrapper) and not isinstance(head, Care | Inherited):
        carry = carry[1] if isinstance(head, StatefulWrapper) else carry
        head = head.inner
    return head, carry


def read_signal(head: Head, carry: Any, batch: Transition) -> jax.Array:
    """Signal [T, B] of a frozen head: neither its weights nor its running statistics change.

    The carry that all environments share, such as the moments by which curiosity whitens, stays as
    it was after training; the carry of each environment starts anew, as the episodes do.

    Args:
        head: a head or a wrapper.
        carry: after training, for any number of environments.
        batch: [T, B], whole episodes.
    """
    new = head.initial_state(batch.reward.shape[1])
    if not jax.tree.leaves(new):
        return head(new, batch)[0]
    is_per_env = per_env(head)

    def restore_shared(state):
        return jax.tree.map(lambda own, new, old: new if own else old, is_per_env, state, carry)

    def step(state, transition):
        signal, state = head(state, jax.tree.map(lambda leaf: leaf[None], transition))
        return restore_shared(state), signal[0]

    return jax.lax.scan(step, restore_shared(new), batch)[1]


def _prediction(blend_state: BlendState, head: Head, name: str) -> Prediction:
    """Signal of a head in the place of the one of this name, its sign turned if it is negative."""
    head, carry = unwrapped(head, blend_state.carry[name])
    signal = _reading(blend_state, head, carry)
    return (lambda batch: -signal(batch)) if head.sign < 0 else signal


def _reading(blend_state: BlendState, head: Head, carry: Any) -> Prediction:
    """Signal of a head, on what heads read of observations."""
    return lambda batch: read_signal(head, carry, read(blend_state.shapes.spec, batch))
