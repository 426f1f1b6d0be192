"""Wrappers: each takes a head and is a head, so they compose like optax transformations.

`Potential(Hope)` is a `Factory` as `Hope` is one: nothing is built before the shapes are known.
A wrapper trains its inner head on that head's own loss (`Untrained` does not); the signal differs.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.factory import Factory, shown
from affect.head import Head, HeadFactory, State, check_factory
from affect.moments import empty_moments, running_moments
from affect.transition import Spec, Transition


class Wrapper(Head):
    """A head around a head, by default with the inner head's state, loss and sign."""

    held: tuple[str, ...] = ("head",)

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks that `head` is a factory."""
        check_factory(settings["head"], cls.__name__)
        return settings

    def __init__(self, spec: Spec, head: HeadFactory, *, rngs: nnx.Rngs):
        self.inner = head(spec, rngs=rngs)
        self.sign = self.inner.sign

    @property
    def head(self) -> Factory:
        """The factory of the inner head."""
        return self.inner.factory()

    def alone(self) -> Head:
        """The innermost head."""
        return self.inner.alone()

    def save(self, path: str | Path, **card: Any) -> None:
        """Saves the innermost head alone; its card names the wrappers (see `Head.save`)."""
        settings = {k: v for k, v in self.factory().settings.items() if k != "head"}
        name = f"{type(self).__name__}({', '.join(f'{k}={shown(v)}' for k, v in settings.items())})"
        card["wrappers"] = (*card.get("wrappers", ()), name)
        self.inner.save(path, **card)

    def initial_state(self, num_envs: int) -> State:
        """Inner head's initial state."""
        return self.inner.initial_state(num_envs)

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Inner head's loss -> (scalar, metrics)."""
        return self.inner.loss(state, batch)


class StatefulWrapper(Wrapper):
    """A wrapper that carries a state of its own beside the inner head's."""

    def initial_state(self, num_envs: int) -> tuple[State, State]:
        """Initial states: (the wrapper's own, the inner head's)."""
        return self.own_state(num_envs), self.inner.initial_state(num_envs)

    def own_state(self, num_envs: int) -> State:
        """Moments of the inner signal, before its first value."""
        del num_envs
        return empty_moments()

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Inner head's loss -> (scalar, metrics)."""
        return self.inner.loss(state[1], batch)


class Normalised(StatefulWrapper):
    """The inner signal over its running standard deviation, not centred, clipped at +-5.

    The deviation is over all environments and steps so far (Burda et al., 2018, but of the signal
    itself, not of its discounted sum).
    """

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Normalised signal, [T, B]."""
        own, inner = state
        signal, inner = self.inner(inner, batch)
        history, own = running_moments(own, signal)
        scale = jnp.sqrt(history.variance + 1e-8)[:, None]
        return jnp.clip(signal / scale, -5.0, 5.0), (own, inner)


class Lesion(Wrapper):
    """Control: the inner head is computed and trained, but the signal is 0."""

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Signal of 0, [T, B]."""
        signal, state = self.inner(state, batch)
        return jnp.zeros_like(signal), state


class ConstantOf(StatefulWrapper):
    """Control: the running mean of the inner signal, its level without its information."""

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Mean of the inner signal over environments and steps so far, [T, B]."""
        own, inner = state
        signal, inner = self.inner(inner, batch)
        history, own = running_moments(own, signal)
        return jnp.broadcast_to(history.mean[:, None], signal.shape), (own, inner)


class Sham(StatefulWrapper):
    """Control: the neighbouring environment's signal, the same distribution without correlation.

    Args:
        head: the inner head, a factory.
        centred: subtract the running mean. The neighbour's *potential* does not telescope along
            an environment's own episode and would drift, so the sham of a potential is centred.
    """

    def __init__(self, spec: Spec, head: HeadFactory, centred: bool = False, *, rngs: nnx.Rngs):
        super().__init__(spec, head, rngs=rngs)
        self.centred = centred
        self.sign = 0 if centred else self.inner.sign

    def own_state(self, num_envs: int) -> State:
        """Moments of the inner signal, before its first value; at least 2 environments."""
        if num_envs < 2:
            raise ValueError("Sham uses a neighbour's signal: it needs at least 2 environments")
        return empty_moments()

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Signal of environment b + 1 in environment b, [T, B]."""
        own, inner = state
        signal, inner = self.inner(inner, batch)
        history, own = running_moments(own, signal)
        offset = history.mean[:, None] if self.centred else 0.0
        return jnp.roll(signal, -1, axis=1) - offset, (own, inner)


class Untrained(Wrapper):
    """Control: the inner head with its random initial weights, never trained."""

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Signal of the untrained head, [T, B]."""
        return self.inner(state, batch)

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Zero loss, so that nothing is trained -> (0, no metrics)."""
        del state, batch
        return jnp.zeros(()), {}
