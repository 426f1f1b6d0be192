"""Alarm metrics: how many steps before an event a signal exceeds a threshold.

An alarm is a step at which the signal is above its threshold. The threshold is fixed in the
unshifted world ("home"), where at most one in 200 steps without an event ahead may exceed it, and
is reused under shift: a signal whose level drifts misses events or raises more false alarms.
"""

import jax
import jax.numpy as jnp

FALSE_ALARMS = 1 / 200  # share of calm steps in the unshifted world
ALARM_METRICS = ("lead", "caught", "alarms")


def alarm_threshold(signal: jax.Array, calm: jax.Array, rate: float = FALSE_ALARMS) -> jax.Array:
    """Lowest threshold [] of a signal [...] that at most `rate` of the calm steps exceed.

    Args:
        signal: high where the event is expected.
        calm: [...] bool, steps that no event follows within the horizon.
        rate: highest false-alarm rate, a share of the calm steps.

    Returns:
        The threshold; NaN if no step is calm or the signal is NaN at a calm step.
    """
    kept = min(int(rate * calm.size) + 1, calm.size)
    highest = jax.lax.top_k(jnp.where(calm, signal, -jnp.inf).ravel(), kept)[0]
    count = calm.sum()
    allowed = jnp.floor(rate * count).astype(jnp.int32)
    level = highest[jnp.minimum(allowed, jnp.maximum(count - 1, 0))]
    missing = (count == 0) | (jnp.isnan(signal) & calm).any()
    return jnp.where(missing, jnp.nan, level)


def alarm_metrics(
    signal: jax.Array, level: jax.Array, ahead: jax.Array, due: jax.Array, calm: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean lead time, share of events caught, and false-alarm rate of a signal, each [].

    Args:
        signal: [T, B] high where the event is expected.
        level: [] threshold above which a step is an alarm.
        ahead: [T, B] int, steps to the next event.
        due: [T, B] bool, the step counts and an event follows within the horizon.
        calm: [T, B] bool, the step counts and no event follows within the horizon.

    Returns:
        lead: steps from the first alarm within the horizon to an episode's first event, 0 without
            an alarm, mean over events.
        caught: share of events with an alarm within the horizon.
        alarms: share of calm steps that are alarms.
        All NaN where the level is; the first two NaN where no event had a step within its horizon.
    """
    time = jnp.arange(ahead.shape[0])[:, None]
    first = due & (time + ahead == ahead[:1])
    alarm = signal > level
    lead = jnp.where(first & alarm, ahead, 0).max(0).astype(jnp.float32)
    event = first.any(0)
    events = event.sum().astype(jnp.float32)
    means = jnp.where(event, lead, 0.0).sum() / events, (event & (lead > 0)).sum() / events
    false = (alarm & calm).sum() / calm.sum().astype(jnp.float32)
    return tuple(jnp.where(jnp.isnan(level), jnp.nan, value) for value in (*means, false))
