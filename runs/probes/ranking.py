"""Rank statistics over counted steps, jitted: AUROC, average precision, midranks, rank correlation.

Floats are sorted as unsigned integers of the same order: on a CPU that is four times as fast as to
sort floats or pairs.
"""

import jax
import jax.numpy as jnp
import numpy as np

LAST = np.uint32(0xFFFFFFFF)  # sorts after all counted words


def discrimination(
    score: jax.Array, event: jax.Array, counted: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """AUROC and average precision of a score for an event, each [].

    AUROC is the probability that a step with the event scores above one without, ties counted half:
    the statistic of Mann & Whitney (1947) over the number of pairs. Average precision is the mean
    over events of the share of events among all steps that score at least as high; an uninformative
    score has the share of events. Scores that differ only in their last two bits (a relative 2e-7)
    are tied.

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
    positive, negative = kind == 1, kind == 0
    below, up_to_here = weight_below(ordered, negative)
    events_below, _ = weight_below(ordered, positive)
    events, non_events = positive.sum(), negative.sum()
    pairs = jnp.maximum(events, 1) * jnp.maximum(non_events, 1).astype(jnp.float32)
    wins = jnp.where(positive, 0.5 * (below + up_to_here).astype(jnp.float32), 0.0).sum()
    above = events - events_below
    share = above / jnp.maximum(above + non_events - below, 1)
    precision = jnp.where(positive, share, 0.0).sum() / jnp.maximum(events, 1)
    defined = (events > 0) & (non_events > 0) & ~_missing(score, counted)
    return jnp.where(defined, wins / pairs, jnp.nan), jnp.where(defined, precision, jnp.nan)


def midranks(x: jax.Array, counted: jax.Array) -> jax.Array:
    """Ranks of x [...] among counted entries, ties at their mean rank, [...].

    From 1 to the number of counted entries; 0 where an entry is not counted.
    """
    words = jnp.where(counted.ravel(), _sortable_bits(x), LAST)
    ordered = jnp.sort(words)
    below, up_to_here = (jnp.searchsorted(ordered, words, side=side) for side in ("left", "right"))
    ranks = 0.5 * (below + up_to_here + 1).astype(jnp.float32)
    return jnp.where(counted, ranks.reshape(x.shape), 0.0)


def rank_correlation(x: jax.Array, y: jax.Array, counted: jax.Array) -> jax.Array:
    """Spearman's rank correlation of x and y [...] over counted entries, [].

    NaN where x or y is constant, or is NaN at a counted entry.
    """
    return cosine(centred_ranks(x, counted), centred_ranks(y, counted))


def centred_ranks(x: jax.Array, counted: jax.Array) -> jax.Array:
    """Midranks of x [...] minus their mean, divided by the number counted; 0 where not counted.

    The cosine of two such arrays is their rank correlation. All NaN if a counted entry is NaN.
    """
    count = counted.sum()
    centred = (midranks(x, counted) - 0.5 * (count + 1)) / jnp.maximum(count, 1)
    return jnp.where(_missing(x, counted), jnp.nan, jnp.where(counted, centred, 0.0))


def cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    """Cosine of the angle between x and y [...], []; NaN where one of them is 0 everywhere."""
    norm = jnp.sqrt(jnp.square(x).sum() * jnp.square(y).sum())
    return jnp.where(norm > 0, (x * y).sum() / jnp.where(norm > 0, norm, 1.0), jnp.nan)


def weight_below(ordered: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Number of weighted entries below each entry of `ordered` [N], and below or tied with it.

    Args:
        ordered: [N] ascending.
        weight: [N] bool.

    Returns:
        Two [N] int32, the same for all tied entries.
    """
    up_to_here = jnp.cumsum(weight.astype(jnp.int32))
    differs, edge = ordered[1:] != ordered[:-1], jnp.ones((1,), bool)
    first, last = jnp.concatenate([edge, differs]), jnp.concatenate([differs, edge])
    below = jax.lax.cummax(jnp.where(first, up_to_here - weight, 0))
    return below, jax.lax.cummin(jnp.where(last, up_to_here, up_to_here[-1]), reverse=True)


def _sortable_bits(x: jax.Array) -> jax.Array:
    """Map floats [...] to unsigned integers [N] of the same order, all below LAST."""
    x = x.ravel().astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x), jnp.uint32)
    return jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))


def _missing(x: jax.Array, counted: jax.Array) -> jax.Array:
    return (jnp.isnan(x.ravel()) & counted.ravel()).any()
