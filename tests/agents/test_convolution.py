"""Convolutions of images in observations: against the usual one, by size, in PPO, as features."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from affect import Blend, Curiosity, Image, Spec, Transition
from affect.image import FEATURES, output_sizes, patches, small_layers
from affect.observation import Parts, join, read, read_spec, reading, split
from agents import A2C, PPO
from agents.convolution import Encoder
from tests.tiers import slow

ATARI, GRID = Image(84, 84, 4), Image(7, 7, 3, unit=1.0)
PIXELS = Spec(obs_dim=0, num_actions=3, image=ATARI)
SYMBOLS = Spec(obs_dim=2, action_sizes=(2, 3), image=GRID, masked=True)


@pytest.mark.parametrize(("kernel", "stride"), [(8, 4), (4, 2), (3, 1), (3, 2)])
def test_a_product_with_patches_is_the_usual_convolution(kernel, stride):
    """Of kernels in the order of patches: blocks of pixels, then the pixels of a block."""
    image = jax.random.normal(jax.random.key(0), (2, 21, 18, 3))
    usual = jax.random.normal(jax.random.key(1), (kernel, kernel, 3, 5))
    numbered = jnp.arange(kernel * kernel * 3, dtype=jnp.float32).reshape(1, kernel, kernel, 3)
    order = np.asarray(patches(numbered, kernel, stride)).ravel().astype(int)
    expected = jax.lax.conv_general_dilated(
        image, usual, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    given = patches(image, kernel, stride) @ usual.reshape(-1, 5)[order]
    np.testing.assert_allclose(given, expected, atol=2e-5)


@pytest.mark.parametrize("spec", [PIXELS, SYMBOLS])
def test_parts_of_an_observation_are_joined_to_a_row_and_split_again(spec):
    rng, image = np.random.default_rng(0), spec.image
    pixels = rng.integers(0, 256, (2, 5, image.height, image.width, image.channels), np.uint8)
    numbers = rng.normal(size=(2, 5, 2)).astype(np.float32) if spec.obs_dim else None
    mask = rng.integers(0, 2, (2, 5, 5)) > 0 if spec.masked else None
    parts = Parts(image.flat(jnp.array(pixels)), numbers, mask)
    row = join(spec, parts)
    assert row.shape == (2, 5, spec.row) and row.dtype == jnp.uint8
    for given, expected in zip(split(spec, row), parts, strict=True):
        np.testing.assert_array_equal(given, expected)
    np.testing.assert_array_equal(image.shaped(split(spec, row).image), pixels)


def test_channels_may_come_first():
    first, last = Image(5, 6, 2, channel_first=True), Image(5, 6, 2)
    pixels = jnp.arange(60, dtype=jnp.uint8).reshape(2, 5, 6)
    np.testing.assert_array_equal(first.shaped(pixels.ravel()), jnp.moveaxis(pixels, 0, -1))
    np.testing.assert_array_equal(first.flat(first.shaped(pixels.ravel())), pixels.ravel())
    np.testing.assert_array_equal(last.flat(last.shaped(pixels.ravel())), pixels.ravel())


@pytest.mark.parametrize("side", [3, 5, 7, 11, 12, 20, 35, 36, 84, 210])
def test_small_layers_fit_every_image(side):
    image = Image(side, side + 3, 3)
    assert all(min(size) >= 1 for size in output_sizes(image, small_layers(image)))


def test_brightness_is_divided_by_255_once_and_symbols_are_not():
    """The features of a constant image are those of its value divided by the unit."""
    for unit in (1.0, 255.0):
        spec = Spec(obs_dim=0, num_actions=2, image=Image(12, 12, 1, unit=unit))
        encoder = Encoder(spec, ((4, 12, 1), 3), rngs=nnx.Rngs(0))
        encoder.layer_0.kernel[...] = jnp.ones((144, 4)) / 144
        encoder.out.kernel[...] = jnp.ones((4, 3)) / 4
        np.testing.assert_allclose(
            encoder(jnp.full((1, 144), 51, jnp.uint8)), jnp.full((1, 3), 51 / unit), rtol=1e-5
        )


def test_many_images_are_computed_in_groups_and_give_the_same(monkeypatch):
    """Features and gradients of 19 images in groups of 4, the last one padded, or all at once."""
    spec = Spec(obs_dim=2, num_actions=2, image=Image(16, 12, 3))
    encoder = Encoder(spec, ((4, 8, 4), 5), rngs=nnx.Rngs(0))
    rows = jax.random.randint(jax.random.key(0), (19, spec.row), 0, 256).astype(jnp.uint8)
    rows = rows.at[:, -8:].set(0)  # the bytes of two numbers

    def gradients():
        return nnx.value_and_grad(lambda encoder: (encoder(rows) ** 2).sum())(encoder)

    whole = encoder(rows), gradients()
    monkeypatch.setattr("affect.image.CPU_BYTES", 4 * spec.image.size)
    grouped = encoder(rows), gradients()
    compare = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(compare, grouped, whole)
    loops = str(jax.make_jaxpr(encoder)(rows)).count("scan")
    assert loops == 2


def brightness_batch(spec: Spec, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Observations [4, 8, D] of dark or bright images, and whether they are bright [4, 8]."""
    k_bright, k_noise = jax.random.split(key)
    bright = jax.random.bernoulli(k_bright, shape=(4, 8))
    noise = jax.random.randint(k_noise, (4, 8, spec.image.size), 0, 2)
    level = (150 if spec.image.unit == 255 else 3) * bright[..., None].astype(jnp.int32)
    image = (noise + jnp.broadcast_to(level, noise.shape)).astype(jnp.uint8)
    numbers = jnp.zeros((4, 8, spec.obs_dim)) if spec.obs_dim else None
    mask = jnp.ones((4, 8, spec.mask_dim), bool) if spec.masked else None
    return join(spec, Parts(image, numbers, mask)), bright.astype(jnp.int32)


@pytest.mark.slow  # 5 s of compiling each
@pytest.mark.parametrize(
    ("agent", "spec"),
    [
        (PPO(minibatches=1, lr=3e-3, normalise=True), SYMBOLS),
        (A2C(lr=3e-3), Spec(obs_dim=0, num_actions=2, image=Image(16, 12, 3))),
    ],
)
def test_agents_learn_what_only_an_image_tells(agent, spec):
    """The first choice pays if it says whether the image is bright."""
    state, update = agent.init(jax.random.key(0), spec), jax.jit(agent.update)
    act = jax.jit(agent.act)
    for i in range(60):
        obs, bright = brightness_batch(spec, jax.random.key(2 * i))
        action = act(state, jax.random.key(2 * i + 1), obs)
        first = action[..., 0] if spec.action_sizes else action
        ends = jnp.ones((4, 8), bool)
        reward = (first == bright).astype(jnp.float32)
        batch = Transition(obs, action, obs, reward, ends, ~ends, ends)
        assert batch.obs.dtype == jnp.uint8
        state, _ = update(state, jax.random.key(2 * i + 1), batch, jnp.zeros((4, 8, 0)))
    obs, bright = brightness_batch(spec, jax.random.key(10_000))
    action = agent.act(state, None, obs)
    assert ((action[..., 0] if spec.action_sizes else action) == bright).mean() > 0.9
    assert agent.value(state, obs).shape == (4, 8, 8)


def test_the_usual_convolution_is_an_option_and_others_can_be_given():
    encoder = jax.eval_shape(lambda: Encoder(PIXELS, "nature", rngs=nnx.Rngs(0)))
    sizes = [x.size for x in jax.tree.leaves(encoder)]
    assert sum(sizes) == 8 * 8 * 4 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 9 * 64 * 64 + 64 + (
        7 * 7 * 64 * 512 + 512
    )
    init = partial(PPO(convolution=((8, 7, 7), 16)).init, spec=PIXELS)
    net = jax.eval_shape(init, jax.random.key(0)).train_state.net
    assert net.encoder.out.kernel.shape == (12 * 12 * 8, 16)


@pytest.mark.parametrize(
    ("convolution", "message"),
    [
        ("resnet", "PPO: convolution='resnet', expected None, 'nature', or layers such as"),
        (((16, 8), 128), "expected None, 'nature'"),
        ((128,), "expected None, 'nature'"),
        (((16, 8, 0), 128), "expected None, 'nature'"),
        (((16, 3, 1), (16, 6, 1), 8), "kernel 6 of layer 1 does not fit an image of 7 x 7"),
        ("nature", "kernel 8 of layer 0 does not fit an image of 7 x 7: give smaller ones"),
    ],
)
def test_a_convolution_that_does_not_fit_is_refused(convolution, message):
    with pytest.raises(ValueError, match=message):
        PPO(convolution=convolution).init(jax.random.key(0), SYMBOLS)


def mean_colour(image: jax.Array) -> jax.Array:
    """Mean of each channel [..., C] of an image [..., H, W, C]."""
    return image.astype(jnp.float32).mean((-3, -2))


READER = Spec(obs_dim=1, num_actions=2, image=GRID, reader=mean_colour)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "size", "text"),
    [
        (PIXELS, FEATURES, "through a frozen random convolution, of 64 features"),
        slow(SYMBOLS, 7 * 7 * 3 + 2, "the 147 symbols of an image of 7 x 7 x 3 as they are"),
        slow(READER, 4, "an image of 7 x 7 x 3 through mean_colour"),
    ],
)
def test_heads_read_features_of_an_image_and_no_mask(spec, size, text):
    inner = read_spec(spec)
    assert (inner.obs_dim, inner.plain) == (size, True)
    assert text in reading(spec)
    keys = jax.random.split(jax.random.key(0), 2)
    obs = jax.random.randint(keys[0], (3, 2, spec.row), 0, 2).astype(jnp.uint8)
    ends = jnp.zeros((3, 2), bool)
    action = jnp.zeros((3, 2, *spec.action_shape), jnp.int32)
    batch = Transition(obs, action, obs, jnp.zeros((3, 2)), ends, ends, ends)
    blend = Blend(curiosity=(1.0, Curiosity))
    signals, _, metrics = blend.update(blend.init(keys[1], spec, 2), batch)
    assert signals.shape == (3, 2, 1) and jnp.isfinite(signals).all()
    features = read(spec, batch).obs
    assert features.shape == (3, 2, size) and features.dtype == jnp.float32
    assert (features == read(spec, batch).obs).all()  # frozen
    assert reading(Spec(obs_dim=1, num_actions=2)) == ""


def test_a_random_convolution_tells_images_apart():
    """Brightness and place of a square are linear in the features, up to a small error."""
    rng = np.random.default_rng(0)
    images, targets = np.zeros((300, 24, 24, 3), np.uint8), np.zeros((300, 2))
    for image, target in zip(images, targets, strict=True):
        row, level = rng.integers(0, 16), rng.integers(50, 256)
        image[row : row + 8, 8:16] = level
        target[:] = row / 16, level / 255
    spec = Spec(obs_dim=0, num_actions=2, image=Image(24, 24, 3))
    row = jnp.array(images.reshape(300, 1, -1))
    ends = jnp.zeros((300, 1), bool)
    batch = Transition(row, ends, row, ends, ends, ends, ends)
    features = np.concatenate([np.asarray(read(spec, batch).obs)[:, 0], np.ones((300, 1))], 1)
    weights = np.linalg.lstsq(features[:200], targets[:200], rcond=None)[0]
    error = features[200:] @ weights - targets[200:]
    assert (error.var(0) < 0.2 * targets.var(0)).all()
