"""The protocol of a feeling: it sees experience, never the agent, never the world."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.transition import Spec, Transition

State = Any  # a pytree; () for a head that carries nothing across steps


class Head(nnx.Module):
    """A feeling. An NNX module used as a plain pytree: its leaves are float parameters only.

    A head is built by `Head(spec, *, rngs)`; anything with that signature is a `Factory`, so a
    class is one, `functools.partial(Fear, horizon=20)` is one, and `Potential(Hope)` is one.
    """

    def initial_state(self, num_envs: int) -> State:
        """What the head carries across steps and chunks for B = `num_envs` environments."""
        del num_envs
        return ()

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Feels a batch -> (signal [T, B], state). T = 1 while acting, a chunk while learning.

        No gradient leaves the signal. Calling step by step and calling on the chunk agree.
        """
        raise NotImplementedError(f"{type(self).__name__} must say what it feels")

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What the head learns from the batch -> (scalar, metrics); 0 if there is nothing.

        Args:
            state: as it was when the batch began, the same that `__call__` was given.
            batch: [T, B] experience.
        """
        del state, batch
        return jnp.zeros(()), {}


Factory = Callable[..., Head]  # (spec: Spec, *, rngs: nnx.Rngs) -> Head


def build(factory: Factory, spec: Spec, key: jax.Array) -> Head:
    """Builds one head from a key."""
    return factory(spec, rngs=nnx.Rngs(key))
