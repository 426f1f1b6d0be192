"""Channel: disturbances of observations, actions and rewards (noise, dropout, delay, slips).

Jitted and host-stepped worlds share this code, so no world needs wrappers of its own for them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Spec
from affect.observation import Parts, join, split

MAX_DELAY = 8  # steps
HALF_RANGE = 127.5  # of a byte, the unit of noise on brightness


class ImageChannel(NamedTuple):
    """Strengths of the disturbances of an image, beside noise and gain, its brightness.

    Attributes:
        occlusion: side of a square in the middle that is 0, as a share of the shorter side.
        colour: share of each of three colours that is taken from the next one.
    """

    occlusion: jax.Array | float = 0.0
    colour: jax.Array | float = 0.0


class Channel(NamedTuple):
    """Strengths of the disturbances; the defaults leave every value unchanged, bit for bit.

    Attributes:
        noise: standard deviation of additive Gaussian noise, in units of the world's `obs_scale`;
            on the brightness of an image, in units of half its range.
        gain: factor on every observation.
        dropout: probability that an observation is replaced by the previous one.
        action_noise: standard deviation of noise on continuous actions, which lie in [-1, 1].
        flip: probability that an action is replaced by a uniformly random one.
        delay: steps from choosing an action to executing it, rounded, at most MAX_DELAY.
        reward_noise: standard deviation of noise on the reward that the agent receives.
        tighten: probability that an allowed action is forbidden at a step; one always stays
            allowed. None in worlds without masks.
        image: disturbances of an image; None in worlds without one.
    """

    noise: jax.Array | float = 0.0
    gain: jax.Array | float = 1.0
    dropout: jax.Array | float = 0.0
    action_noise: jax.Array | float = 0.0
    flip: jax.Array | float = 0.0
    delay: jax.Array | float = 0.0
    reward_noise: jax.Array | float = 0.0
    tighten: jax.Array | float | None = None
    image: ImageChannel | None = None


def channel_of(spec: Spec) -> Channel | None:
    """The channel that a world of shapes `spec` begins with: None for plain observations.

    With an image or masks it is one with fields for their disturbances, which changes nothing yet.
    """
    if spec.plain:
        return None
    return Channel(
        tighten=0.0 if spec.masked else None, image=None if spec.image is None else ImageChannel()
    )


def undisturbed(channel: Channel) -> Channel:
    """A channel of the same fields that leaves every value as it is."""
    image = None if channel.image is None else ImageChannel()
    return Channel(tighten=None if channel.tighten is None else 0.0, image=image)


def reset_obs(key: jax.Array, channel: Channel, spec: Spec, scale: jax.Array, obs: jax.Array):
    """Disturbs the first observation of an episode, obs [D] -> (sensed [D], action queue).

    The queue [MAX_DELAY, ...] holds the last chosen actions, newest first; it is the only state
    that a channel keeps within an episode.
    """
    action = jnp.zeros(spec.action_shape, jnp.int32 if spec.choices else jnp.float32)
    queue = jnp.broadcast_to(action, (MAX_DELAY, *action.shape))
    return _disturb(key, channel, spec, scale, obs), queue


def observe(
    key: jax.Array,
    channel: Channel,
    spec: Spec,
    last: jax.Array,
    scale: jax.Array,
    obs: jax.Array,
) -> jax.Array:
    """Disturbs an observation [D] -> sensed [D]; a dropped one is replaced by `last` [D].

    A mask is not dropped: it is always that of the next action.
    """
    k_drop, k_noise = jax.random.split(key)
    dropped = jax.random.uniform(k_drop) < channel.dropout
    sensed = _disturb(k_noise, channel, spec, scale, obs)
    if spec.masked:
        dropped = dropped & (jnp.arange(spec.row) < spec.row - spec.mask_dim)
    return jnp.where(dropped, last, sensed)


def apply_action(
    key: jax.Array,
    channel: Channel,
    queue: jax.Array,
    spec: Spec,
    first: jax.Array,
    action: jax.Array,
    obs: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Delays and disturbs an action that was chosen at obs [D] -> (executed action, queue).

    In the first `delay` steps of an episode its first action is executed. Where there is a mask,
    a random action is one of those allowed, and the chosen one is executed in the place of a
    delayed one that is not.
    """
    k_flip, k_other, k_noise = jax.random.split(key, 3)
    past = jnp.where(first, jnp.broadcast_to(action, queue.shape), queue)
    queue = jnp.concatenate([action[None], past])
    delayed = queue[jnp.clip(jnp.round(channel.delay), 0, MAX_DELAY).astype(jnp.int32)]
    if spec.masked:
        mask = split(spec, obs).mask
        delayed = jnp.where(is_allowed(spec, mask, delayed), delayed, action)
        other = random_allowed(k_other, spec, mask).astype(action.dtype)
    elif spec.choices:
        most = spec.num_actions or jnp.array(spec.action_sizes)
        other = jax.random.randint(k_other, action.shape, 0, most, action.dtype)
    else:
        other = jax.random.uniform(k_other, action.shape, minval=-1.0, maxval=1.0)
        delayed = delayed + channel.action_noise * jax.random.normal(k_noise, action.shape)
    flipped = jax.random.uniform(k_flip) < channel.flip
    return jnp.where(flipped, other, delayed), queue[:-1]


def noisy_reward(key: jax.Array, channel: Channel, reward: jax.Array) -> jax.Array:
    """Adds Gaussian noise to the reward [] that the agent receives."""
    return reward + channel.reward_noise * jax.random.normal(key, reward.shape)


def _disturb(
    key: jax.Array, channel: Channel, spec: Spec, scale: jax.Array, obs: jax.Array
) -> jax.Array:
    """Noise and gain on numbers and brightness, an image's own disturbances, a tighter mask."""
    if spec.plain:
        return _disturb_numbers(key, channel, scale, obs)
    k_numbers, k_image, k_mask = jax.random.split(key, 3)
    image, numbers, mask = split(spec, obs)
    if numbers is not None:
        numbers = _disturb_numbers(k_numbers, channel, scale, numbers)
    if image is not None:
        image = _disturb_image(k_image, channel, spec, image)
    if mask is not None:
        mask = _tighter(k_mask, channel, spec, mask)
    return join(spec, Parts(image, numbers, mask))


def _disturb_numbers(
    key: jax.Array, channel: Channel, scale: jax.Array, obs: jax.Array
) -> jax.Array:
    return channel.gain * obs + channel.noise * scale * jax.random.normal(key, obs.shape)


def _disturb_image(key: jax.Array, channel: Channel, spec: Spec, flat: jax.Array) -> jax.Array:
    """Disturbs the bytes [size] of an image; symbols are only occluded."""
    form, pixels = spec.image, spec.image.shaped(flat)
    if not form.symbols:
        x = _disturb_numbers(key, channel, HALF_RANGE, pixels.astype(jnp.float32))
        if form.channels == 3:
            x = x + channel.image.colour * (jnp.roll(x, -1, -1) - x)
        pixels = jnp.clip(jnp.round(x), 0, 255).astype(jnp.uint8)
    half = channel.image.occlusion * min(form.height, form.width) / 2
    rows, columns = (
        jnp.abs(jnp.arange(side) - (side - 1) / 2) < half for side in (form.height, form.width)
    )
    hidden = (rows[:, None] & columns[None])[..., None]
    return form.flat(jnp.where(jnp.broadcast_to(hidden, pixels.shape), 0, pixels))


def _tighter(key: jax.Array, channel: Channel, spec: Spec, mask: jax.Array) -> jax.Array:
    """Mask [n] that forbids more, but of each choice keeps a random one of those allowed."""
    number = jnp.where(mask, jax.random.uniform(key, mask.shape), -1.0)
    kept = [part == part.max() for part in _by_choice(spec, number)]
    return mask & ((number >= channel.tighten) | jnp.concatenate(kept))


def random_allowed(key: jax.Array, spec: Spec, mask: jax.Array) -> jax.Array:
    """A uniformly random action of those that a mask [n] allows."""
    number = jnp.where(mask, jax.random.uniform(key, mask.shape), -1.0)
    drawn = jnp.stack([part.argmax() for part in _by_choice(spec, number)])
    return drawn[0] if spec.num_actions else drawn


def random_actions(spec: Spec, key: jax.Array, obs: jax.Array) -> jax.Array:
    """Uniformly random actions [B, ...] at obs [B, D], of those allowed where there is a mask."""
    if spec.masked:
        keys, mask = jax.random.split(key, len(obs)), split(spec, obs).mask
        return jax.vmap(lambda key, mask: random_allowed(key, spec, mask))(keys, mask)
    shape = (len(obs), *spec.action_shape)
    if spec.choices:
        return jax.random.randint(key, shape, 0, spec.num_actions or jnp.array([spec.action_sizes]))
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def is_allowed(spec: Spec, mask: jax.Array, action: jax.Array) -> jax.Array:
    """Whether a mask [n] allows all choices of an action, bool []."""
    starts = jnp.array(np.cumsum([0, *spec.choices[:-1]]))
    return mask[starts + jnp.atleast_1d(action)].all()


def _by_choice(spec: Spec, x: jax.Array) -> list[jax.Array]:
    """The parts of x [n] that belong to each choice."""
    return jnp.split(x, np.cumsum(spec.choices)[:-1].tolist())
