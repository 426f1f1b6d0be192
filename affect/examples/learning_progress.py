"""Learning progress: how fast what surprises is being understood."""

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Factory, Spec, Transition
from affect.ema import ema, ema_rate
from affect.head import State
from affect.wrappers import StatefulWrapper, wrapper


@wrapper
class LearningProgress(StatefulWrapper):
    """The drop of an error: its slow average minus its fast one (Oudeyer, Kaplan & Hafner, 2007).

    `LearningProgress(Curiosity)` is drawn to what it is getting better at. Noise that nobody can
    predict stays surprising, and so gives no progress. The averages go on across episodes, since
    learning does; the fast one's time constant is a tenth of tau. An error that falls by c a
    step makes the signal 0.9 c tau.

    Args:
        head: whose signal is an error, a factory.
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
        """Slow and fast average of the error, and of 1 in its place, [B] each."""
        none = jnp.zeros((num_envs,))
        return (none, none), (none, none)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The progress [T, B], in units of the error."""
        own, inner = state
        error, inner = self.inner(inner, batch)
        never, means, kept = jnp.zeros_like(batch.first), [], []
        for pace, (so_far, share) in zip(self.paces, own, strict=True):
            mean, so_far = ema(so_far, error, never, pace)
            seen, share = ema(share, jnp.ones_like(error), never, pace)
            means.append(mean / seen)  # as if it had not begun at 0
            kept.append((so_far, share))
        slow, fast = means
        return slow - fast, (tuple(kept), inner)
