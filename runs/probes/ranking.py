"""How well one number ranks another, on the steps that count: jitted, ties at midranks.

What is sorted is single words, as a CPU sorts them four times as fast as floats, or as pairs.
"""

import jax
import jax.numpy as jnp
import numpy as np

LAST = np.uint32(0xFFFFFFFF)  # behind all words that count


def discrimination(
    score: jax.Array, event: jax.Array, counted: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How well a score tells steps with an event from steps without -> (AUROC [], precision []).

    AUROC is the chance that a step with the event scores above one without, ties half: the
    statistic of Mann & Whitney (1947) over the number of pairs. Precision is the average precision,
    the mean over events of the share of events among all steps that score at least as high; of a
    score that knows nothing it is the share of events. Scores that differ in their last two bits
    alone (a relative 2e-7) are level.

    Args:
        score: [...] higher where the event is expected.
        event: [...] bool.
        counted: [...] bool, steps that count.

    Returns:
        Both NaN where the event never or always happens, or a score that counts is NaN.
    """
    counted = counted.ravel()
    kind = event.ravel().astype(jnp.uint32)
    words = jnp.where(counted, (_sortable_bits(score) & ~jnp.uint32(3)) | kind, LAST)
    words = jnp.sort(words)
    ordered, kind = words >> 2, words & 3
    with_it, without = kind == 1, kind == 0
    below, to_here = weight_below(ordered, without)
    events_below, _ = weight_below(ordered, with_it)
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
    words = jnp.where(counted.ravel(), _sortable_bits(x), LAST)
    ordered = jnp.sort(words)
    below, to_here = (jnp.searchsorted(ordered, words, side=side) for side in ("left", "right"))
    ranks = 0.5 * (below + to_here + 1).astype(jnp.float32)
    return jnp.where(counted, ranks.reshape(x.shape), 0.0)


def rank_correlation(x: jax.Array, y: jax.Array, counted: jax.Array) -> jax.Array:
    """Spearman's rank correlation of x and y [...] over the steps that count, [].

    NaN where one of them never varies, or is NaN where it counts.
    """
    return cosine(centred_ranks(x, counted), centred_ranks(y, counted))


def centred_ranks(x: jax.Array, counted: jax.Array) -> jax.Array:
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


def weight_below(ordered: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
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


def _sortable_bits(x: jax.Array) -> jax.Array:
    """Numbers [...] as words [N] of the same order, all below LAST."""
    x = x.ravel().astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x), jnp.uint32)
    return jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))


def _missing(x: jax.Array, counted: jax.Array) -> jax.Array:
    return (jnp.isnan(x.ravel()) & counted.ravel()).any()
