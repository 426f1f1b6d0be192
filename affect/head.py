"""Protocol of heads: modules that map a batch of transitions to one signal per step."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.transition import Spec, Transition

State = Any  # a pytree; () for a head that carries nothing across steps


class MissingInfo(ValueError):
    """Raised if a head reads a key of `info` that the world does not report.

    Attributes:
        head: name of the head.
        key: of `Transition.info` that it reads.
        reported: the keys that the world reports.
    """

    def __init__(self, head: str, key: str, reported: tuple[str, ...]):
        self.head, self.key, self.reported = head, key, reported
        keys = ", ".join(reported) or "nothing"
        super().__init__(
            f'{head} reads info["{key}"] and this world reports {keys}: '
            f"choose a world whose spec.info has {key!r}, or leave {head} out"
        )


class Head(nnx.Module):
    """A module from experience to a signal; an NNX module used as a pytree of float parameters.

    A head is built by `Head(spec, *, rngs)`; anything with that signature is a `Factory`, so a
    class is one, `functools.partial(Fear, horizon=20)` is one, and `Potential(Hope)` is one.

    Attributes:
        sign: -1 for a signal that is never positive, 1 for one that is never negative, 0 for
            either. A blend refuses a negative weight where the sign is known: it would reverse
            the meaning of the signal.
    """

    sign: int = 0

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        """A head without parameters."""
        del spec, rngs

    def initial_state(self, num_envs: int) -> State:
        """Initial state carried across steps and chunks, for B = `num_envs` environments."""
        del num_envs
        return ()

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Computes the signal of a batch -> (signal [T, B], state).

        T is 1 while acting, a chunk while training. No gradient flows through the signal.
        Calling step by step and calling on the chunk agree.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement __call__, its signal")

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Training loss on the batch -> (scalar, metrics); 0 for a head that is not trained.

        Args:
            state: as it was when the batch began, the one passed to `__call__`.
            batch: [T, B] experience.
        """
        del state, batch
        return jnp.zeros(()), {}

    def require(self, spec: Spec, key: str) -> None:
        """Checks that the world reports `info[key]`; called by constructors of heads that read it.

        Raises:
            MissingInfo: the world does not report it.
        """
        if key not in spec.info:
            raise MissingInfo(type(self).__name__, key, spec.info)


def per_env(head: Head) -> State:
    """Tree of bools: which leaves of a head's state have a leading axis of environments."""
    two, three = (jax.eval_shape(partial(head.initial_state, count)) for count in (2, 3))
    return jax.tree.map(lambda two, three: two.shape != three.shape, two, three)


Factory = Callable[..., Head]  # (spec: Spec, *, rngs: nnx.Rngs) -> Head


def check_factory(factory: Any, where: str) -> None:
    """Checks that a factory of heads is no built head and no other thing.

    Raises:
        ValueError: naming where it was given.
    """
    if isinstance(factory, Head):
        name = type(factory).__name__
        raise ValueError(f"{where} got a head that is already built: pass the class {name} itself")
    if not callable(factory):
        raise ValueError(f"{where} needs a head such as Fear or Potential(Hope), not {factory!r}")


def build(factory: Factory, spec: Spec, key: jax.Array) -> Head:
    """Builds a head for the shapes `spec`, initialised with `key`."""
    return factory(spec, rngs=nnx.Rngs(key))
