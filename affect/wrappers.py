"""Couplings: each takes a head and is a head, so they compose like optax transformations.

`Potential(Hope)` is a `Factory` as `Hope` is one: nothing is built before the shapes are known.
Every coupling learns what its inner head learns; only the signal differs.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.head import Factory, Head, State
from affect.moments import empty_moments, running_moments
from affect.transition import Spec, Transition


class Wrapper(Head):
    """A head around a head: carries and learns what the inner one does, until told otherwise."""

    def __init__(self, spec: Spec, head: Factory, *, rngs: nnx.Rngs):
        self.inner = head(spec, rngs=rngs)
        self.sign = self.inner.sign

    def initial_state(self, num_envs: int) -> State:
        """What the inner head carries."""
        return self.inner.initial_state(num_envs)

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What the inner head learns."""
        return self.inner.loss(state, batch)


class StatefulWrapper(Wrapper):
    """A coupling that carries something of its own beside the inner head's state."""

    def initial_state(self, num_envs: int) -> tuple[State, State]:
        """(its own, the inner head's)."""
        return self.own_state(num_envs), self.inner.initial_state(num_envs)

    def own_state(self, num_envs: int) -> State:
        """The moments of the inner signal."""
        del num_envs
        return empty_moments()

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What the inner head learns."""
        return self.inner.loss(state[1], batch)


def wrapper(module: type[Wrapper]) -> Callable[..., Factory]:
    """Lets a coupling take a factory and give a factory: `Potential(Hope, gamma=.999)`."""

    @functools.wraps(module, updated=())
    def couple(head: Factory, **knobs: Any) -> Factory:
        return functools.partial(module, head=head, **knobs)

    return couple


@wrapper
class Normalised(StatefulWrapper):
    """The feeling divided by its running standard deviation, never centred, clipped at +-5.

    The deviation is over all environments and steps so far (as for the intrinsic reward of Burda
    et al., 2018, but of the signal itself).
    """

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The signal over its deviation, [T, B]."""
        own, inner = state
        signal, inner = self.inner(inner, batch)
        each, own = running_moments(own, signal)
        scale = jnp.sqrt(each.variance + 1e-8)[:, None]
        return jnp.clip(signal / scale, -5.0, 5.0), (own, inner)


@wrapper
class Lesion(Wrapper):
    """The control that computes and learns everything and feels nothing."""

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """0, [T, B]."""
        signal, state = self.inner(state, batch)
        return jnp.zeros_like(signal), state


@wrapper
class ConstantOf(StatefulWrapper):
    """The control that keeps the feeling's level and drops its information: its running mean."""

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The mean over environments and steps so far, [T, B]."""
        own, inner = state
        signal, inner = self.inner(inner, batch)
        each, own = running_moments(own, signal)
        return jnp.broadcast_to(each.mean[:, None], signal.shape), (own, inner)


@wrapper
class Sham(StatefulWrapper):
    """The control that keeps a feeling's distribution: the neighbouring environment's signal.

    Args:
        head: the feeling, a factory.
        centred: subtract the running mean. The neighbour's *potential* does not telescope along
            one's own episode and would drift, so the sham of a potential is centred.
    """

    def __init__(self, spec: Spec, head: Factory, centred: bool = False, *, rngs: nnx.Rngs):
        super().__init__(spec, head, rngs=rngs)
        self.centred = centred
        self.sign = 0 if centred else self.inner.sign

    def own_state(self, num_envs: int) -> State:
        """The moments of the inner signal."""
        if num_envs < 2:
            raise ValueError("a Sham feels its neighbour: it needs at least 2 environments")
        return empty_moments()

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The signal of environment b + 1 in environment b, [T, B]."""
        own, inner = state
        signal, inner = self.inner(inner, batch)
        each, own = running_moments(own, signal)
        drift = each.mean[:, None] if self.centred else 0.0
        return jnp.roll(signal, -1, axis=1) - drift, (own, inner)


@wrapper
class Untrained(Wrapper):
    """The control that has the architecture and no training: random weights, frozen."""

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The signal of the untrained head, [T, B]."""
        return self.inner(state, batch)

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Nothing is learned."""
        del state, batch
        return jnp.zeros(()), {}
