"""Foresight: how long before the event does a signal raise the alarm?

An alarm is a step at which the signal lies above a threshold. The threshold is fixed at home, where
at most one step in 200 without the event to come may lie above it, and is kept elsewhere: a level
that drifts under shift costs warnings or raises false alarms, and both are read.
"""

import jax
import jax.numpy as jnp

FALSE_ALARMS = 1 / 200  # a step without the event to come, at home
ALARM_METRICS = ("lead", "caught", "alarms")


def alarm_threshold(signal: jax.Array, calm: jax.Array, rate: float = FALSE_ALARMS) -> jax.Array:
    """The lowest level [] of a signal [...] above which lie at most `rate` of the calm steps.

    Args:
        signal: high where the event is expected.
        calm: [...] bool, steps that the event does not follow.
        rate: of false alarms, a share of the calm steps.

    Returns:
        NaN if no step is calm, or the signal is NaN at one that is.
    """
    most = min(int(rate * calm.size) + 1, calm.size)
    quiet = jax.lax.top_k(jnp.where(calm, signal, -jnp.inf).ravel(), most)[0]
    number = calm.sum()
    allowed = jnp.floor(rate * number).astype(jnp.int32)
    level = quiet[jnp.minimum(allowed, jnp.maximum(number - 1, 0))]
    missing = (number == 0) | (jnp.isnan(signal) & calm).any()
    return jnp.where(missing, jnp.nan, level)


def alarm_metrics(
    signal: jax.Array, level: jax.Array, ahead: jax.Array, due: jax.Array, calm: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What alarms above a level [] tell of episodes [T, B] -> (lead, caught, alarms), each [].

    Args:
        signal: [T, B] high where the event is expected.
        level: above which a step is an alarm.
        ahead: [T, B] int, steps to the next event.
        due: [T, B] bool, the step counts and an event follows within the horizon.
        calm: [T, B] bool, the step counts and none does.

    Returns:
        lead: steps from the first alarm within the horizon to an episode's first event, the mean
            over the events, 0 where there was none.
        caught: share of the events with an alarm within the horizon.
        alarms: share of calm steps that are alarms.
        All NaN where the level is; the first two where no event could have been foreseen.
    """
    time = jnp.arange(ahead.shape[0])[:, None]
    first = due & (time + ahead == ahead[:1])
    alarm = signal > level
    lead = jnp.where(first & alarm, ahead, 0).max(0).astype(jnp.float32)
    event = first.any(0)
    events = event.sum().astype(jnp.float32)
    told = jnp.where(event, lead, 0.0).sum() / events, (event & (lead > 0)).sum() / events
    false = (alarm & calm).sum() / calm.sum().astype(jnp.float32)
    return tuple(jnp.where(jnp.isnan(level), jnp.nan, each) for each in (*told, false))
