"""Value: the expected discounted return of the task, as the critic of an agent estimates it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.checks import check_gamma
from affect.head import Head, State
from affect.mlp import MLP, check_layers
from affect.moments import NEARLY_CONSTANT, Moments, whiten
from affect.predict import GVFTargets, lambda_returns
from affect.transition import Spec, Transition

CLIP = 10.0  # deviations at which a whitened observation is clipped


class Value(Head):
    """Expected discounted reward from `next_obs` on: V(s') = E[sum_k gamma^k r_k], 0 at an end.

    Learned by TD(lambda) on squared error (Sutton, 1988), as the critic of an agent is, in units of
    the task's own reward. It does not clip the reward, and has the discount of the critic, where
    `Hope` has a horizon. As a potential a policy's value is shaping towards that policy's return
    (Brys et al., 2015).

    Args:
        spec: shapes of the world.
        layers: units of each hidden layer.
        gamma: the discount; None for `spec.discount`.
        whitened: whether observations are whitened by parameters `mean` and `variance` [D] and
            clipped at 10 deviations, as by an agent that normalises; they are not trained.
        rngs: for the initial weights.

    Raises:
        ValueError: no discount, one not in (0, 1], or a layer without units.
    """

    held = ("gamma",)
    depends = ("obs",)

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks gamma, unless it is left to the spec, and the layers, which may be one number."""
        check_gamma(cls.__name__, settings["gamma"])
        return settings | {"layers": check_layers(settings["layers"])}

    def __init__(
        self,
        spec: Spec,
        layers: tuple[int, ...] = (16,),
        gamma: float | None = None,
        whitened: bool = False,
        *,
        rngs: nnx.Rngs,
    ):
        discount = spec.discount if gamma is None else gamma
        if discount is None:
            raise ValueError("Value needs a discount: give it one, or a Spec with a discount")
        self.gamma = discount
        self.net = MLP(spec.obs_dim, layers, rngs=rngs)
        self.whitened = whitened
        if whitened:
            self.mean = nnx.Param(jnp.zeros((spec.obs_dim,)))
            self.variance = nnx.Param(jnp.ones((spec.obs_dim,)))

    def value(self, obs: jax.Array) -> jax.Array:
        """Value [...] at obs [..., D]."""
        if self.whitened:
            mean, variance = jax.lax.stop_gradient((self.mean[...], self.variance[...]))
            obs = whiten(Moments(jnp.ones(()), mean, variance), obs, CLIP, NEARLY_CONSTANT)
        return self.net(obs)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Value [T, B] at `next_obs`, 0 where the episode terminated, in units of the reward."""
        value = jax.lax.stop_gradient(self.value(batch.next_obs))
        return jnp.where(batch.terminated, 0.0, value), state

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Half the mean squared error of the TD(lambda) targets, 0 beyond a terminal step."""
        ahead, _ = self(state, batch)
        zeros = jnp.zeros_like(batch.reward)
        cut = batch.terminated | batch.truncated
        targets = GVFTargets(batch.reward, batch.terminated, zeros, cut)
        target = jax.lax.stop_gradient(lambda_returns(targets, ahead, self.gamma))
        error = 0.5 * jnp.square(self.value(batch.obs) - target).mean()
        return error, {"error": error}
