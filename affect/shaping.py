"""Shaping wrappers: potentials and GRM, whose sums over an episode keep the optimal policy.

Both are exact only with the discount of the critic that learns from the signal: `gamma`, or where
it is None that of the spec, `Spec.discount`, which a training loop fills in from its agent.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from affect.head import Factory, State
from affect.transition import Spec, Transition
from affect.wrappers import StatefulWrapper, Wrapper, wrapper


@wrapper
class Potential(StatefulWrapper):
    """Potential-based shaping with the head as phi: gamma (1 - terminated) phi(s') - phi(s).

    It leaves the optimal policy unchanged (Ng, Harada & Russell, 1999) if `gamma` is the critic's,
    phi is 0 beyond a terminal step (so the last step gives -phi(obs)) and phi is *not* zeroed
    where an episode is truncated. phi(obs) is the value computed one step earlier, before the
    head was trained further (Devlin & Kudenko, 2012). Where an episode begins, the head is
    evaluated at `obs` with reward and info of 0 (`before_first_step`), so that the first
    potential does not depend on the first action.

    Args:
        head: the inner head, a factory.
        gamma: the discount of the critic that learns from the signal; None for `spec.discount`.

    Raises:
        ValueError: neither gives a discount, or it is not in (0, 1].
    """

    def __init__(self, spec: Spec, head: Factory, gamma: float | None = None, *, rngs: nnx.Rngs):
        super().__init__(spec, head, rngs=rngs)
        self.gamma = critic_discount(self, spec, gamma)
        self.sign = 0

    def own_state(self, num_envs: int) -> jax.Array:
        """Potential [B] of the previous step, 0 at first."""
        return jnp.zeros((num_envs,))

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Shaping signal gamma phi(s') - phi(s), [T, B]."""
        if not jax.tree.leaves(state[1]):
            return self._shaping_term(state, batch)

        # Step by step, so that evaluating the head at `obs` leaves the state it carries unchanged.
        def step(state: State, inputs: Transition) -> tuple[State, jax.Array]:
            signal, state = self._shaping_term(state, jax.tree.map(lambda leaf: leaf[None], inputs))
            return state, signal[0]

        state, signal = jax.lax.scan(step, state, batch)
        return signal, state

    def _shaping_term(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        last_phi, inner = state
        phi_at_obs, _ = self.inner(inner, before_first_step(batch))
        next_phi, inner = self.inner(inner, batch)
        phi = jnp.where(batch.first, phi_at_obs, jnp.concatenate([last_phi[None], next_phi[:-1]]))
        discounted = jnp.where(batch.terminated, 0.0, self.gamma * next_phi)
        return discounted - phi, (next_phi[-1], inner)


def before_first_step(batch: Transition) -> Transition:
    """The batch with next_obs = obs, reward 0, no ends and info 0: before anything happened."""
    zeros = jax.tree.map(jnp.zeros_like, batch)
    return zeros._replace(obs=batch.obs, action=batch.action, next_obs=batch.obs, first=batch.first)


def critic_discount(shaping: Wrapper, spec: Spec, gamma: float | None) -> float:
    """`gamma`, or where it is None the spec's discount.

    Raises:
        ValueError: both are None, or it is not in (0, 1].
    """
    discount = spec.discount if gamma is None else gamma
    if discount is None:
        name, inner = type(shaping).__name__, type(shaping.inner).__name__
        raise ValueError(
            f"{name} of {inner} needs the discount of the critic that learns from it: give it one, "
            f"as in {name}(Hope, gamma=0.99), or a Spec with a discount"
        )
    if not 0 < discount <= 1:
        raise ValueError(
            f"{type(shaping).__name__} needs a discount in (0, 1], not gamma={discount}"
        )
    return discount


@wrapper
class GRM(StatefulWrapper):
    """Signal F minus itself `delay` = D steps ago: F_t - gamma^-D F_{t-D} (Forbes et al., 2024).

    Generalised reward matching: the signal of step t is taken back, with interest, at t + D, and
    the rest at the last step of an episode, terminated or truncated. So the discounted sum of an
    episode's signal is 0 for any inner signal, whatever it depends on, and the optimal policy is
    unchanged. The interest gamma^-D grows with the delay: a delay as long as the episode is their
    PBIM, whose last correction is exponentially large.

    Args:
        head: the inner head, a factory.
        delay: D in steps, at least 1; it may be longer than a chunk or an episode.
        gamma: the discount of the critic that learns from the signal, in (0, 1]; None for
            `spec.discount`.

    Raises:
        ValueError: no discount, delay or gamma out of range, or an interest that float32 cannot
            hold.
    """

    def __init__(
        self,
        spec: Spec,
        head: Factory,
        delay: int = 1,
        gamma: float | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(spec, head, rngs=rngs)
        gamma = critic_discount(self, spec, gamma)
        if delay != int(delay) or delay < 1:
            raise ValueError(f"a delay is a whole number of steps, at least 1, not {delay}")
        if -delay * math.log(gamma) > 80:
            raise ValueError(f"gamma^-delay = {gamma}^-{delay} overflows: shorten the delay")
        self.delay, self.gamma, self.sign = int(delay), gamma, 0

    def own_state(self, num_envs: int) -> jax.Array:
        """Last D signals [D, B] of the episode, oldest first, 0 where there are none."""
        return jnp.zeros((self.delay, num_envs))

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Inner signal minus the earlier signals taken back at each step, [T, B]."""
        pending, inner = state
        signal, inner = self.inner(inner, batch)
        interest = jnp.array([self.gamma**-age for age in range(self.delay, -1, -1)])

        def step(pending: jax.Array, inputs: tuple) -> tuple[jax.Array, jax.Array]:
            signal, first, ended = inputs
            pending = jnp.where(first, 0.0, pending)
            due = interest[0] * pending[0]
            pending = jnp.concatenate([pending[1:], signal[None]])
            remaining = (interest[1:, None] * pending).sum(0)
            return pending, signal - due - jnp.where(ended, remaining, 0.0)

        ended = batch.terminated | batch.truncated
        pending, net_signal = jax.lax.scan(step, pending, (signal, batch.first, ended))
        return net_signal, (pending, inner)
