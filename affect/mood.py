"""Mood: things have been going better, or worse, than expected."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from affect.ema import ema_rate
from affect.head import Head
from affect.transition import Spec, Transition

BIAS = 1.0  # how much of a mood colours what is perceived; at 1 expectation follows a drift closest


class MoodState(NamedTuple):
    """What a mood carries, [B] each.

    Attributes:
        baseline: v, the reward that is expected.
        trace: h, the average of recent surprise.
    """

    baseline: jax.Array
    trace: jax.Array


class Mood(Head):
    """tanh of an exponential moving average of reward prediction errors (Eldar et al., 2016).

    With alpha = 1 / tau, and v = r_t, h = 0 where an episode begins:

        surprise d = r_t + tanh(h) - v,  v <- v + alpha d,  h <- h + alpha (d - h),  mood tanh(h).

    A mood colours how reward is perceived, and expectation learns from what is perceived: that
    loop is theirs (Eldar & Niv, 2015, with a bias that multiplies; added here, so that a constant
    added to reward changes nothing). It makes mood the momentum of reward:

    * Without mood, v lags reward that drifts by b a step: v must move by b, so alpha d = b and
      v - r_t = -b / alpha. That surprise is what h converges to.
    * With it the surprise is still b / alpha, of which tanh(b / alpha) is mood: v - r_t =
      -(b / alpha - tanh(b / alpha)), ahead of a plain average by exactly the mood itself.
    * Linearised with a bias w for mood and a rate eta for h, the loop has determinant
      (1 - alpha)(1 - eta) + eta w: it is stable if and only if w < 1 + alpha (1 - eta) / eta,
      here 2 - 1 / tau. Beyond that, mood swings for ever. At w = 1 a small drift leaves no lag,
      and every tau above 1 is stable: so tau is the only knob.

    Args:
        spec: of the world, unused.
        tau: steps over which expectation and mood average, above 1.
        rngs: unused.

    Raises:
        ValueError: tau is 1 or less.
    """

    def __init__(self, spec: Spec, tau: float = 20, *, rngs: nnx.Rngs):
        del spec, rngs
        self.rate = ema_rate(tau)
        if tau == 1:
            raise ValueError("a mood with a tau of 1 step swings for ever: give it a longer one")

    def initial_state(self, num_envs: int) -> MoodState:
        """Nothing expected, nothing felt."""
        return MoodState(jnp.zeros((num_envs,)), jnp.zeros((num_envs,)))

    def __call__(self, state: MoodState, batch: Transition) -> tuple[jax.Array, MoodState]:
        """Mood [T, B], in (-1, 1), after the reward of each step."""
        mood, state = mood_recursion(state, batch.reward, batch.first, self.rate)
        return jax.lax.stop_gradient(mood), state


def mood_recursion(
    state: MoodState, reward: jax.Array, first: jax.Array, rate: float, bias: float = BIAS
) -> tuple[jax.Array, MoodState]:
    """Mood [T, B] through reward [T, B], begun anew wherever first [T, B] -> (mood, state)."""

    def step(state: MoodState, now: tuple) -> tuple[MoodState, jax.Array]:
        reward, first = now
        baseline = jnp.where(first, reward, state.baseline)
        trace = jnp.where(first, 0.0, state.trace)
        surprise = reward + bias * jnp.tanh(trace) - baseline
        state = MoodState(baseline + rate * surprise, trace + rate * (surprise - trace))
        return state, jnp.tanh(state.trace)

    state, mood = jax.lax.scan(step, state, (reward, first))
    return mood, state
