"""Couplings that leave the optimal policy as it is: what they pay, they take back.

Both are exact only with the discount of the critic that learns from the signal.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from affect.head import Factory, State
from affect.transition import Spec, Transition
from affect.wrappers import StatefulWrapper, wrapper


@wrapper
class Potential(StatefulWrapper):
    """The feeling as a potential phi: gamma (1 - terminated) phi(next_obs) - phi(obs).

    Potential-based shaping leaves the optimal policy as it is (Ng, Harada & Russell, 1999) if
    `gamma` is the critic's, phi is 0 beyond a terminal step (so the last step pays back
    -phi(obs)) and phi is *not* zeroed where an episode is merely cut. phi(obs) is what was
    emitted one step earlier, before the head learned further (Devlin & Kudenko, 2012). Where an
    episode begins, the head is read at `obs` as if nothing had happened yet (`before_first_step`), so that
    the first potential does not depend on the first action.

    Args:
        head: the feeling, a factory.
        gamma: the discount of the critic that learns from the signal.
    """

    def __init__(self, spec: Spec, head: Factory, gamma: float = 0.99, *, rngs: nnx.Rngs):
        super().__init__(spec, head, rngs=rngs)
        self.gamma = gamma
        self.sign = 0

    def own_state(self, num_envs: int) -> jax.Array:
        """The potential [B] emitted last."""
        return jnp.zeros((num_envs,))

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The difference, gamma phi' - phi, [T, B]."""
        if not jax.tree.leaves(state[1]):
            return self._shape(state, batch)

        # What the inner head carries must not notice that it was read at `obs`: step by step.
        def step(state: State, now: Transition) -> tuple[State, jax.Array]:
            signal, state = self._shape(state, jax.tree.map(lambda leaf: leaf[None], now))
            return state, signal[0]

        state, signal = jax.lax.scan(step, state, batch)
        return signal, state

    def _shape(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        emitted, inner = state
        at_obs, _ = self.inner(inner, before_first_step(batch))
        ahead, inner = self.inner(inner, batch)
        here = jnp.where(batch.first, at_obs, jnp.concatenate([emitted[None], ahead[:-1]]))
        beyond = jnp.where(batch.terminated, 0.0, self.gamma * ahead)
        return beyond - here, (ahead[-1], inner)


def before_first_step(batch: Transition) -> Transition:
    """The batch as if each step had stayed at `obs`, paid 0, ended nothing, reported zeros."""
    none = jax.tree.map(jnp.zeros_like, batch)
    return none._replace(obs=batch.obs, action=batch.action, next_obs=batch.obs, first=batch.first)


@wrapper
class GRM(StatefulWrapper):
    """The feeling F, lent for `delay` = D steps: F_t - gamma^-D F_{t-D} (Forbes et al., 2024).

    Generalised reward matching: what is felt at t is taken back, with interest, at t + D, and
    what is still owed when an episode ends, either way, is paid by its last step. So the
    discounted sum of an episode's signal is 0 for any feeling, whatever it depends on, and the
    optimal policy stays as it is. The interest gamma^-D grows with the delay: a delay as long as
    the episode is their PBIM, whose last correction explodes.

    Args:
        head: the feeling, a factory.
        delay: D in steps, at least 1; it may be longer than a chunk or an episode.
        gamma: the discount of the critic that learns from the signal, in (0, 1].

    Raises:
        ValueError: delay or gamma out of range, or an interest that float32 cannot hold.
    """

    def __init__(
        self, spec: Spec, head: Factory, delay: int = 1, gamma: float = 0.99, *, rngs: nnx.Rngs
    ):
        super().__init__(spec, head, rngs=rngs)
        if delay != int(delay) or delay < 1:
            raise ValueError(f"a delay is a whole number of steps, at least 1, not {delay}")
        if not 0 < gamma <= 1:
            raise ValueError(f"a debt needs a discount in (0, 1], not gamma={gamma}")
        if -delay * math.log(gamma) > 80:
            raise ValueError(f"gamma^-delay = {gamma}^-{delay} overflows: shorten the delay")
        self.delay, self.gamma, self.sign = int(delay), gamma, 0

    def own_state(self, num_envs: int) -> jax.Array:
        """What is owed: the last D signals [D, B] of the episode, oldest first, else 0."""
        return jnp.zeros((self.delay, num_envs))

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The feeling minus what falls due, [T, B]."""
        lent, inner = state
        signal, inner = self.inner(inner, batch)
        interest = jnp.array([self.gamma**-age for age in range(self.delay, -1, -1)])

        def step(lent: jax.Array, now: tuple) -> tuple[jax.Array, jax.Array]:
            signal, first, ended = now
            lent = jnp.where(first, 0.0, lent)
            due = interest[0] * lent[0]
            lent = jnp.concatenate([lent[1:], signal[None]])
            owed = (interest[1:, None] * lent).sum(0)
            return lent, signal - due - jnp.where(ended, owed, 0.0)

        ended = batch.terminated | batch.truncated
        lent, paid = jax.lax.scan(step, lent, (signal, batch.first, ended))
        return paid, (lent, inner)
