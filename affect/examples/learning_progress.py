"""Learning progress: how fast a prediction error falls, in each region of observations."""

import jax
import jax.numpy as jnp
from flax import nnx

from affect import HeadFactory, Spec, Transition
from affect.ema import ema_rate
from affect.head import State
from affect.wrappers import StatefulWrapper


class LearningProgress(StatefulWrapper):
    """Slow minus fast average of an error over the visits to a region (Oudeyer et al., 2007).

    `LearningProgress(Curiosity)` is high where the error of curiosity is falling. Noise keeps its
    error and gives no progress, and neither does a change of scene, as each region has averages of
    its own. Theirs splits regions where errors differ; here they are the sides of `planes` frozen
    random planes. An error that falls by c a visit makes the signal 0.9 c tau.

    Args:
        head: a factory of a head whose signal is an error.
        tau: visits of the slow average, at least 10; the fast one's is a tenth of it.
        planes: that divide the observations into 2^planes regions.

    Raises:
        ValueError: tau is below 10.
    """

    def __init__(
        self, spec: Spec, head: HeadFactory, tau: float = 1000, planes: int = 4, *, rngs: nnx.Rngs
    ):
        super().__init__(spec, head, rngs=rngs)
        if not tau >= 10:
            raise ValueError(f"the slow average needs a tau of at least 10 visits, not {tau}")
        self.paces, self.sign = (ema_rate(tau), ema_rate(tau / 10)), 0
        self.planes = nnx.Param(jax.random.normal(rngs.params(), (spec.obs_dim, planes)))

    def own_state(self, num_envs: int) -> State:
        """Averages [B, regions, 2] (slow, fast) of the error and of the constant 1, all 0."""
        shape = num_envs, 2 ** self.planes.shape[1], 2
        return jnp.zeros(shape), jnp.zeros(shape)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Progress [T, B], in units of the error."""
        own, inner = state
        error, inner = self.inner(inner, batch)
        sides = batch.next_obs @ self.planes[...] > 0
        regions = sides @ (2 ** jnp.arange(sides.shape[-1]))

        def step(own: State, inputs: tuple) -> tuple[State, jax.Array]:
            error, region = inputs
            visited = jax.nn.one_hot(region, own[0].shape[1])[..., None]
            rates = visited * jnp.array(self.paces)[None, None]
            total, weight = own
            own = total + rates * (error[:, None, None] - total), weight + rates * (1 - weight)
            means = (visited * own[0]).sum(1) / (visited * own[1]).sum(1)  # from a start at 0
            return own, means[:, 0] - means[:, 1]

        own, progress = jax.lax.scan(step, own, (error, regions))
        return jax.lax.stop_gradient(progress), (own, inner)
