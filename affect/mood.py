"""Mood: a moving average of reward prediction errors."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from affect.ema import ema_rate
from affect.head import Head
from affect.transition import Spec, Transition

BIAS = 1.0  # weight of mood in the perceived reward; at 1, v follows a drifting reward closest


class MoodState(NamedTuple):
    """State of a mood, [B] each.

    Attributes:
        baseline: v, the expected reward.
        trace: h, the average of recent prediction errors.
    """

    baseline: jax.Array
    trace: jax.Array


class Mood(Head):
    """tanh of an exponential moving average of reward prediction errors (Eldar et al., 2016).

    With alpha = 1 / tau, and v = r_t, h = 0 where an episode begins:

        surprise d = r_t + tanh(h) - v,  v <- v + alpha d,  h <- h + alpha (d - h),  mood tanh(h).

    Mood is part of the perceived reward r + tanh(h), and v averages the perceived reward. That
    loop is theirs (Eldar & Niv, 2015, with a bias that multiplies; here it is added, so that a
    constant added to reward changes nothing). Mood is then a momentum of reward:

    * Without mood, v lags reward that drifts by b a step: v must move by b, so alpha d = b and
      v - r_t = -b / alpha. That surprise is what h converges to.
    * With it the surprise is still b / alpha, of which tanh(b / alpha) is mood: v - r_t =
      -(b / alpha - tanh(b / alpha)), ahead of a plain average by exactly the mood itself.
    * Linearised with a bias w for mood and a rate eta for h, the loop has determinant
      (1 - alpha)(1 - eta) + eta w: it is stable if and only if w < 1 + alpha (1 - eta) / eta,
      here 2 - 1 / tau. Beyond that, mood oscillates for ever. At w = 1 a small drift leaves no
      lag, and every tau above 1 is stable: so tau is the only parameter.

    Args:
        spec: shapes of the world, unused.
        tau: time constant of v and h in steps, above 1.
        rngs: unused.

    Raises:
        ValueError: tau is 1 or less.
    """

    depends = ()

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks that tau is above 1."""
        ema_rate(settings.get("tau", 2))
        if settings.get("tau") == 1:
            raise ValueError("a mood with a tau of 1 step oscillates for ever: set tau above 1")
        return settings

    def __init__(self, spec: Spec, tau: float = 20, *, rngs: nnx.Rngs):
        del spec, rngs
        self.rate = ema_rate(tau)

    def initial_state(self, num_envs: int) -> MoodState:
        """Zero expected reward and zero mood, [B] each."""
        return MoodState(jnp.zeros((num_envs,)), jnp.zeros((num_envs,)))

    def __call__(self, state: MoodState, batch: Transition) -> tuple[jax.Array, MoodState]:
        """Mood [T, B], in (-1, 1), after the reward of each step."""
        mood, state = mood_recursion(state, batch.reward, batch.first, self.rate)
        return jax.lax.stop_gradient(mood), state


def mood_recursion(
    state: MoodState, reward: jax.Array, first: jax.Array, rate: float, bias: float = BIAS
) -> tuple[jax.Array, MoodState]:
    """Mood [T, B] for reward [T, B], reset wherever first [T, B] -> (mood, state)."""

    def step(state: MoodState, inputs: tuple) -> tuple[MoodState, jax.Array]:
        reward, first = inputs
        baseline = jnp.where(first, reward, state.baseline)
        trace = jnp.where(first, 0.0, state.trace)
        surprise = reward + bias * jnp.tanh(trace) - baseline
        state = MoodState(baseline + rate * surprise, trace + rate * (surprise - trace))
        return state, jnp.tanh(state.trace)

    state, mood = jax.lax.scan(step, state, (reward, first))
    return mood, state
