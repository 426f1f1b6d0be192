"""Reward shaping that keeps the optimal policy: potentials (Ng et al., 1999), GRM (Forbes et al.).

Both are exact only with the discount of the critic that learns from the signal: `gamma`, or where
it is None that of the spec, `Spec.discount`, which a training loop fills in from its agent.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.checks import check_finite, check_gamma, only_finite
from affect.constant import Constant
from affect.factory import Factory
from affect.head import HeadFactory, State
from affect.inherited import Inherited
from affect.transition import Spec, Transition, is_a, is_number, one_line
from affect.wrappers import StatefulWrapper, Wrapper


class Potential(StatefulWrapper):
    """Potential-based shaping: gamma (1 - terminated) phi(s') - phi(s), phi = scale f + shift.

    f is the head's signal. Shaping leaves the optimal policy unchanged (Ng, Harada & Russell, 1999)
    if `gamma` is the critic's, phi is 0 beyond a terminal step (so the last step gives -phi(obs))
    and phi is *not* zeroed where an episode is truncated. phi(obs) is the value computed one step
    earlier, before the head was trained further (Devlin & Kudenko, 2012). Where an episode begins,
    the head is evaluated at `obs` with reward and info of 0 (`before_first_step`), so that the
    first potential does not depend on the first action. What is not finite is carried on as 0.

    Args:
        head: the inner head, a factory.
        scale: of f, beside a blend weight of 1; a parameter that is never trained.
        shift: added to scale f, in units of the reward; as `scale`.
        gamma: the discount of the critic that learns from the signal; None for `spec.discount`.

    Raises:
        ValueError: neither gives a discount, it is not in (0, 1], or scale or shift is no finite
            number.
    """

    held: tuple[str, ...] = ("head", "scale", "shift")

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks scale, shift, and gamma unless it is left to the spec."""
        check_gamma(cls.__name__, settings["gamma"])
        for name in ("scale", "shift"):
            check_finite(f"{cls.__name__} has a {name}", settings[name])
        return super().checked(settings)

    def __init__(
        self,
        spec: Spec,
        head: HeadFactory,
        scale: float = 1.0,
        shift: float = 0.0,
        gamma: float | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(spec, head, rngs=rngs)
        self.gamma = critic_discount(self, spec, gamma)
        plain = (scale, shift) == (1, 0)  # then no operation is added
        self.scale = 1.0 if plain else nnx.Param(jnp.asarray(scale, jnp.float32))
        self.shift = 0.0 if plain else nnx.Param(jnp.asarray(shift, jnp.float32))
        self.sign = 0

    @classmethod
    def from_card(cls, source: Any, gamma: float | None = None, **options: Any) -> Factory:
        """A potential of a stored head with the scale and the shift that its card recommends.

        Args:
            source: a file, or what else `Inherited` takes, or its factory.
            gamma: as for `Potential`.
            **options: of `Inherited`.

        Raises:
            ValueError: the card recommends none, or the cards of several heads differ in them.
        """
        if not is_a(source, Factory):
            source = Factory(Inherited, {"source": source, **options})
        if source.cls is not Inherited:
            raise ValueError(f"{one_line(source)} has no card: give a file, or Inherited(path)")
        members = source.settings["source"]
        cards = [one.card for one in (members if is_a(members, tuple) else (members,))]
        numbers = {(card.scale, card.shift) for card in cards}
        if len(numbers) > 1 or None in (pair := numbers.pop()):
            raise ValueError(
                f"the card of {cards[0].head} recommends no scale and shift, or several cards "
                "differ: give them, as in Potential(Inherited(path), scale=1.0, shift=0.0)"
            )
        settings = {"head": source, "scale": pair[0], "shift": pair[1]}
        return Factory(cls, settings if gamma is None else settings | {"gamma": gamma})

    def phi(self, signal: jax.Array) -> jax.Array:
        """The potential scale f + shift of a signal f, both [T, B]."""
        if isinstance(self.scale, float) or isinstance(self.shift, float):
            return signal
        scale, shift = jax.lax.stop_gradient((self.scale[...], self.shift[...]))
        return scale * signal + shift

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
        at_obs, _ = self.inner(inner, before_first_step(batch))
        ahead, inner = self.inner(inner, batch)
        phi_at_obs, next_phi = self.phi(at_obs), self.phi(ahead)
        carried = only_finite(next_phi)
        phi = jnp.where(batch.first, phi_at_obs, jnp.concatenate([last_phi[None], carried[:-1]]))
        discounted = jnp.where(batch.terminated, 0.0, self.gamma * next_phi)
        return discounted - phi, (carried[-1].astype(last_phi.dtype), inner)


class ConstantPotential(Potential):
    """Control without knowledge: shaping by a constant potential, gamma (1 - terminated) k - k.

    A step that terminates the episode gives -k, any other -(1 - gamma) k, so that the discounted
    sum to a terminal step is -k whatever the actions, and no policy is preferred. Yet learning
    changes: a table that learns with a potential is one whose initial values are higher by it
    (Wiewiora, 2003), here by k everywhere; with networks such a shift decides how fast a task is
    learned (Mueller & Kudenko, 2025). So a potential is worth what it adds to the best constant
    one.

    Args:
        k: the potential, in units of the reward; a parameter that is never trained.
        gamma: the discount of the critic that learns from the signal; None for `spec.discount`.

    Raises:
        ValueError: k is no finite number, there is no discount, or it is not in (0, 1].
    """

    held = ("k",)

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks k, and gamma unless it is left to the spec."""
        check_gamma(cls.__name__, settings["gamma"])
        check_finite(f"{cls.__name__} has a k", settings["k"])
        return settings

    def __init__(self, spec: Spec, k: float, gamma: float | None = None, *, rngs: nnx.Rngs):
        super().__init__(spec, Factory(Constant, {"value": k}), gamma=gamma, rngs=rngs)

    @property
    def k(self) -> Any:
        """The potential, a parameter []."""
        return vars(self.inner)["value"]


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
    check_gamma(type(shaping).__name__, discount)
    return discount


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

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks the delay, and gamma unless it is left to the spec."""
        delay = settings["delay"]
        if not is_number(delay) or delay < 1 or delay % 1:
            raise ValueError(f"a delay is a whole number of steps, at least 1, not {delay}")
        check_gamma(cls.__name__, settings["gamma"])
        return super().checked(settings)

    def __init__(
        self,
        spec: Spec,
        head: HeadFactory,
        delay: int = 1,
        gamma: float | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(spec, head, rngs=rngs)
        gamma = critic_discount(self, spec, gamma)
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
            pending = jnp.concatenate([pending[1:], only_finite(signal)[None]])
            remaining = (interest[1:, None] * pending).sum(0)
            return pending, signal - due - jnp.where(ended, remaining, 0.0)

        ended = batch.terminated | batch.truncated
        pending, net_signal = jax.lax.scan(step, pending, (signal, batch.first, ended))
        return net_signal, (pending, inner)
