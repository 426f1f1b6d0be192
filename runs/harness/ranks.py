"""How well one number ranks another, exactly, on the steps that count: jitted, ties at midranks."""

import jax
import jax.numpy as jnp


def discrimination(
    score: jax.Array, event: jax.Array, counted: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How well a score tells steps with an event from steps without -> (AUROC [], precision []).

    AUROC is the chance that a step with the event scores above one without, ties half: the
    statistic of Mann & Whitney (1947) over the number of pairs. Precision is the average precision,
    the mean over events of the share of events among all steps that score at least as high; of a
    score that knows nothing it is the share of events.

    Args:
        score: [...] higher where the event is expected.
        event: [...] bool.
        counted: [...] bool, steps that count.

    Returns:
        Both NaN where the event never or always happens, or a score that counts is NaN.
    """
    counted = counted.ravel()
    kind = jnp.where(counted, 1 + event.ravel().astype(jnp.int32), 0)
    ordered, kind = jax.lax.sort((_at_the_end(score, counted), kind), num_keys=1)
    with_it, without = kind == 2, kind == 1
    below, to_here = among(ordered, without)
    events_below, _ = among(ordered, with_it)
    events, others = with_it.sum(), without.sum()
    pairs = jnp.maximum(events, 1) * jnp.maximum(others, 1).astype(jnp.float32)
    wins = jnp.where(with_it, 0.5 * (below + to_here).astype(jnp.float32), 0.0).sum()
    above = events - events_below
    share = above / jnp.maximum(above + others - below, 1)
    precision = jnp.where(with_it, share, 0.0).sum() / jnp.maximum(events, 1)
    sound = (events > 0) & (others > 0) & ~_missing(score, counted)
    return jnp.where(sound, wins / pairs, jnp.nan), jnp.where(sound, precision, jnp.nan)


def midranks(x: jax.Array, counted: jax.Array) -> jax.Array:
    """The rank of each x [...] among those that count, ties at their mean rank, [...].

    From 1 to the number that count; 0 where a step does not.
    """
    flat = counted.ravel()
    index = jnp.arange(flat.size)
    ordered, index = jax.lax.sort((_at_the_end(x, flat), index), num_keys=1)
    below, to_here = among(ordered, flat[index])
    ranks = 0.5 * (below + to_here + 1).astype(jnp.float32)
    ranks = jnp.zeros(flat.size).at[index].set(ranks, unique_indices=True)
    return jnp.where(counted, ranks.reshape(x.shape), 0.0)


def rank_correlation(x: jax.Array, y: jax.Array, counted: jax.Array) -> jax.Array:
    """Spearman's rank correlation of x and y [...] over the steps that count, [].

    NaN where one of them never varies, or is NaN where it counts.
    """
    return cosine(placed(x, counted), placed(y, counted))


def placed(x: jax.Array, counted: jax.Array) -> jax.Array:
    """Midranks of x [...] less their mean, over the number that count; 0 beyond them.

    The cosine of two of them is a rank correlation. All NaN if one that counts is.
    """
    number = counted.sum()
    centred = (midranks(x, counted) - 0.5 * (number + 1)) / jnp.maximum(number, 1)
    return jnp.where(_missing(x, counted), jnp.nan, jnp.where(counted, centred, 0.0))


def cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    """Cosine of the angle between x and y [...], []; NaN where one of them is 0 everywhere."""
    long = jnp.sqrt(jnp.square(x).sum() * jnp.square(y).sum())
    return jnp.where(long > 0, (x * y).sum() / jnp.where(long > 0, long, 1.0), jnp.nan)


def among(ordered: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How many of those with weight lie below each of ordered [N], and how many below or level.

    Args:
        ordered: [N] ascending.
        weight: [N] bool.

    Returns:
        Two [N] int32, alike for all that are level.
    """
    to_here = jnp.cumsum(weight.astype(jnp.int32))
    differs, edge = ordered[1:] != ordered[:-1], jnp.ones((1,), bool)
    first, last = jnp.concatenate([edge, differs]), jnp.concatenate([differs, edge])
    below = jax.lax.cummax(jnp.where(first, to_here - weight, 0))
    return below, jax.lax.cummin(jnp.where(last, to_here, to_here[-1]), reverse=True)


def _at_the_end(x: jax.Array, counted: jax.Array) -> jax.Array:
    """As [N] to be sorted, all that does not count behind the rest."""
    return jnp.where(counted, x.ravel().astype(jnp.float32), jnp.inf)


def _missing(x: jax.Array, counted: jax.Array) -> jax.Array:
    return (jnp.isnan(x.ravel()) & counted.ravel()).any()
