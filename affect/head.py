"""The protocol of a feeling: it sees experience, never the agent, never the world."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.transition import Spec, Transition

State = Any  # a pytree; () for a head that carries nothing across steps


class MissingInfo(ValueError):
    """A head reads what the world does not report.

    Attributes:
        head: name of the head.
        key: of `Transition.info` that it reads.
        reported: the keys that the world does report.
    """

    def __init__(self, head: str, key: str, reported: tuple[str, ...]):
        self.head, self.key, self.reported = head, key, reported
        there = ", ".join(reported) or "nothing"
        super().__init__(
            f'{head} reads info["{key}"] and this world reports {there}: '
            f"choose a world whose spec.info has {key!r}, or leave {head} out"
        )


class Head(nnx.Module):
    """A feeling. An NNX module used as a plain pytree: its leaves are float parameters only.

    A head is built by `Head(spec, *, rngs)`; anything with that signature is a `Factory`, so a
    class is one, `functools.partial(Fear, horizon=20)` is one, and `Potential(Hope)` is one.

    Attributes:
        sign: -1 for a signal that is never positive, 1 for one that is never negative, 0 for
            either. A blend refuses a negative weight where the sign is known: it would turn the
            feeling into its opposite.
    """

    sign: int = 0

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

    def require(self, spec: Spec, key: str) -> None:
        """Declares that the head reads `info[key]`; called by its constructor.

        Raises:
            MissingInfo: the world does not report it.
        """
        if key not in spec.info:
            raise MissingInfo(type(self).__name__, key, spec.info)


def per_env(head: Head) -> State:
    """Which leaves of what a head carries have a leading axis of environments, a tree of bools."""
    two, three = (jax.eval_shape(partial(head.initial_state, count)) for count in (2, 3))
    return jax.tree.map(lambda two, three: two.shape != three.shape, two, three)


Factory = Callable[..., Head]  # (spec: Spec, *, rngs: nnx.Rngs) -> Head


def build(factory: Factory, spec: Spec, key: jax.Array) -> Head:
    """Builds one head from a key."""
    return factory(spec, rngs=nnx.Rngs(key))
