"""Learning progress: how fast a prediction error falls."""

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Factory, Spec, Transition
from affect.ema import ema, ema_rate
from affect.head import State
from affect.wrappers import StatefulWrapper, wrapper


@wrapper
class LearningProgress(StatefulWrapper):
    """Slow minus fast moving average of an error (Oudeyer, Kaplan & Hafner, 2007).

    `LearningProgress(Curiosity)` is high where the error of curiosity is falling. Noise that
    cannot be predicted keeps its error and gives no progress. The averages are not reset at
    episodes; the fast one's time constant is a tenth of tau. An error that falls by c a step
    makes the signal 0.9 c tau.

    Args:
        head: a factory of a head whose signal is an error.
        tau: steps of the slow average, at least 10.

    Raises:
        ValueError: tau is below 10.
    """

    def __init__(self, spec: Spec, head: Factory, tau: float = 1000, *, rngs: nnx.Rngs):
        super().__init__(spec, head, rngs=rngs)
        if not tau >= 10:
            raise ValueError(f"the slow average needs a tau of at least 10 steps, not {tau}")
        self.paces = ema_rate(tau), ema_rate(tau / 10)
        self.sign = 0

    def own_state(self, num_envs: int) -> State:
        """Slow and fast averages of the error and of the constant 1, all 0, [B] each."""
        zeros = jnp.zeros((num_envs,))
        return (zeros, zeros), (zeros, zeros)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Progress [T, B], in units of the error."""
        own, inner = state
        error, inner = self.inner(inner, batch)
        no_reset, means, averages = jnp.zeros_like(batch.first), [], []
        for rate, (average, weight) in zip(self.paces, own, strict=True):
            mean, average = ema(average, error, no_reset, rate)
            total, weight = ema(weight, jnp.ones_like(error), no_reset, rate)
            means.append(mean / total)  # corrects the bias of a start at 0
            averages.append((average, weight))
        slow, fast = means
        return slow - fast, (tuple(averages), inner)
