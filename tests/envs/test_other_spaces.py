"""Images, masks and several actions: what a space is taken for, rows of observations, shifts."""

from functools import cache, partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from affect import Spec
from affect.observation import split
from envs import load_suite
from envs.adapters.gymnasium_env import WorldEnv
from envs.adapters.gymnasium_vector import WorldVectorEnv
from envs.channel import Channel, apply_action, channel_of, observe, reset_obs
from envs.contract import violations
from envs.host.fault import HostFailure
from envs.host.images import ImageFacts, image_facts
from envs.host.make import make_env
from envs.host.pool import HostPool
from envs.host.rows import choices
from envs.shift import ramp, with_channel
from envs.world import World, reset_batch, rollout
from tests.envs.other_spaces import (
    Bright,
    Closed,
    Doors,
    Lamp,
    Lane,
    Maskless,
    Switches,
    Told,
    Unseeded,
    WrongMask,
)
from tests.refusal import refused
from tests.tiers import slow

CHANNEL = ["dropout", "flip", "delay"]


def box(*shape: int, high: float = 255, dtype: type = np.uint8) -> spaces.Box:
    """A box of bytes, unless said otherwise."""
    return spaces.Box(0, high, shape, dtype)


# --- what is an image -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "kind", "expected"),
    [
        (box(84, 84, 4), None, ImageFacts(84, 84, 4, 255.0, False)),
        (box(4, 84, 84), None, ImageFacts(84, 84, 4, 255.0, True)),
        (box(96, 60, 3), None, ImageFacts(96, 60, 3, 255.0, False)),
        (box(7, 7, 3), None, ImageFacts(7, 7, 3, 1.0, False)),
        (box(3, 7, 7), None, ImageFacts(7, 7, 3, 1.0, True)),
        (box(20, 20, 3, high=10), None, ImageFacts(20, 20, 3, 1.0, False)),
        (box(84, 84), None, ImageFacts(84, 84, 1, 255.0, False)),
        (box(7, 7, 3), "pixels", ImageFacts(7, 7, 3, 255.0, False)),
        (box(84, 84, 4), "symbols", ImageFacts(84, 84, 4, 1.0, False)),
        (box(4, 4), "symbols", ImageFacts(4, 4, 1, 1.0, False)),
        (spaces.Dict(a=box(16, 16, 3), b=box(2)), None, ImageFacts(16, 16, 3, 255.0, False, "a")),
        (box(7, 7, 3), "numbers", None),
        (box(1, 1, 3), "numbers", None),
        (box(128), None, None),
        (box(4, 4), None, None),
        (box(7, 7, 3, dtype=np.int64), None, None),
        (box(20, 20, 3, high=1, dtype=np.float32), None, None),
        (box(4, 84, 84, 3), "numbers", None),
        (box(84, 84, dtype=np.float32), "numbers", None),
        (box(3, 3, 5, 3), None, None),
        (spaces.Tuple([box(4, 4), spaces.Discrete(3)]), None, None),
        (box(1, 84, 84), None, ImageFacts(84, 84, 1, 255.0, True)),
        (box(84, 84, 1), None, ImageFacts(84, 84, 1, 255.0, False)),
        (box(4, 4, 3, dtype=np.float32), None, None),
    ],
)
def test_what_makes_an_observation_an_image(space, kind, expected):
    assert image_facts(space, "Id", kind) == expected


@pytest.mark.parametrize(
    ("space", "kind", "message"),
    [
        (box(84, 84, 3, dtype=np.float32), None, "an image of float32 in .0, 255., of .*expected"),
        (box(84, 84, dtype=np.float64), None, "an image of float64 in .0, 255., .*image='numbers'"),
        (box(3, 20, 20, dtype=np.int32), None, "an image of int32 in .0, 255., .*expected uint8"),
        (box(4, 84, 84, 3), None, "an image of four axes, .*move frames to the channels by"),
        (spaces.Tuple([box(9, 9, 3), box(2)]), None, "an image inside of a Tuple: observe a Dict"),
        (spaces.Dict(a=spaces.Dict(b=box(9, 9, 3))), None, "an image inside of a Dict: observe a"),
        (box(1, 1, 3), None, "an image of one pixel, of shape .1, 1, 3.: observe its 3 numbers"),
        (box(8), "pixels", "image='pixels', but no part of"),
        (box(84, 84, 3), "picture", "image='picture', expected None or one of pixels, symbols"),
        (spaces.Dict(a=box(9, 9, 3), b=box(9, 9, 3)), None, "has 2 images, 'a', 'b', expected one"),
    ],
)
def test_an_image_that_cannot_be_taken_is_refused_in_one_line(space, kind, message):
    with refused(ValueError, match=message) as caught:
        image_facts(space, "Id", kind)
    assert str(caught.value).startswith("Id: ")


# --- rows of gymnasium environments -----------------------------------------------------------


@pytest.mark.parametrize("shape", [(84, 84, 4), (7, 7, 3), (3, 20, 16)])
@pytest.mark.parametrize("extra", [False, True])
def test_images_stay_bytes_and_numbers_keep_their_bits(shape, extra):
    suite = load_suite(partial(Bright, shape, extra), [], workers=0)
    spec, env = suite.env.spec, suite.env.maker(suite.world)()
    row, _ = env.reset(seed=3)
    assert row.dtype == np.uint8 and row.shape == (spec.row,)
    image, numbers, _ = split(spec, jnp.array(row))
    expected = Bright(shape, extra).reset(seed=3)[0]
    pixels = np.asarray(expected["image"] if extra else expected)
    np.testing.assert_array_equal(image, pixels.ravel())
    shown = np.moveaxis(pixels, 0, -1) if spec.image.channel_first else pixels
    np.testing.assert_array_equal(spec.image.shaped(image), shown)
    if extra:
        np.testing.assert_array_equal(numbers, [0, 1, 0, 0.25, -0.5])
    assert spec.obs_dim == 5 * extra
    flat = load_suite(partial(Bright, (7, 7, 3), extra), [], workers=0, image="numbers")
    assert flat.env.spec.plain and flat.env.spec.obs_dim == 147 + 5 * extra


def test_a_user_says_what_an_image_is_and_how_heads_read_it():
    def total(image):
        return image.sum((-3, -2), dtype=jnp.float32)

    make = partial(Bright, (7, 7, 3))
    suite = load_suite(make, [], workers=0, image="pixels", reader=total)
    assert suite.env.spec.image.unit == 255 and suite.env.spec.reader is total
    with pytest.raises(ValueError, match="a reader of images, and Box.* has none"):
        load_suite(Doors, [], workers=0, reader=total)
    for wrong, what in ((jnp.mean, r"gives float32\[\] of images"), (np.asarray, "Tracer")):
        with pytest.raises(ValueError, match=f"^Bright: its reader fails .*{what}.*, B, H, W, C]"):
            load_suite(make, [], workers=0, reader=wrong)
    for arguments in ({"image": "pixels"}, {"reader": total}):
        with pytest.raises(ValueError, match="image and reader"):
            load_suite("CartPole", **arguments)


@pytest.mark.parametrize("several", [False, True])
def test_a_mask_is_the_end_of_a_row_and_forbids_actions(several):
    suite = load_suite(partial(Doors, several=several), workers=0)
    spec, count = suite.env.spec, 10 if several else 5
    assert spec.masked and (spec.obs_dim, spec.row, spec.mask_dim) == (2, 2 + count, count)
    assert spec.action_sizes == ((5, 5) if several else ())
    names = [shift.name for shift in suite.shifts]
    assert names == ["noise", *CHANNEL, "tighten"] and len(suite.env.obs_scale) == 2
    env = suite.env.maker(suite.world)()
    row, _ = env.reset(seed=0)
    mask = row[2:].reshape(-1, 5)
    assert (mask == env.unwrapped.open).all() and (mask.sum(1) == 2).all()
    allowed, forbidden = mask.argmax(1), mask.argmin(1)
    row, reward, *_ = env.step(allowed if several else allowed[0])
    assert reward == 1 and (row[2:].reshape(-1, 5) == env.unwrapped.open).all()
    if (forbidden := row[2:].reshape(-1, 5).argmin(1)).size:
        with pytest.raises(Exception, match="was given the action .*, which its mask forbids"):
            env.step(forbidden if several else forbidden[0])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("none", "action_mask that allows no action: allow one, or end the episode before"),
        ("short", "an action_mask of 4 entries, expected 5"),
        ("text", "an action_mask of no array, expected 5"),
        ("missing", "has no 'action_mask' in its info"),
        ("late", "has 'action_mask' in this info, and not in that of reset: report it in the info"),
        ("twos", "an action_mask with 2, expected 0 and 1: 1 for what is allowed"),
        ("log", "an action_mask with -20.7233, expected 0 and 1"),
        ("empty", "an action_mask of 0 entries, expected 5"),
    ],
)
def test_a_wrong_mask_is_refused_with_its_step(fault, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_suite(partial(Doors, fault=fault), [], workers=0)
    step = 0 if fault == "late" else 2
    assert f"step {step})" in str(caught.value) and "seed" in str(caught.value)


PAIR = spaces.MultiDiscrete([2, 3])
SQUARE = spaces.MultiDiscrete([[2, 3], [3, 2]], start=[[0, 1], [2, 3]])
ROWS = ((1, 0), (1, 0, 1)), ((0, 1, 1), (1, 1))


@pytest.mark.parametrize(
    ("space", "mask", "expected", "action", "given"),
    [
        (spaces.Discrete(3, start=5), [1, 0, 1], [1, 0, 1], 2, 7),
        (spaces.Discrete(3, start=-1), np.array([0.0, 1, 1]), [0, 1, 1], 2, 1),
        (spaces.Discrete(2, dtype=np.uint8), np.array([False, True]), [0, 1], 1, 1),
        (spaces.Discrete(2, start=3, dtype=np.int32), (0, 1), [0, 1], 1, 4),
        (PAIR, (np.int8([1, 0]), np.int8([1, 0, 1])), [1, 0, 1, 0, 1], [0, 2], [0, 2]),
        (PAIR, [True, True, False, False, True], [1, 1, 0, 0, 1], [1, 2], [1, 2]),
        (spaces.MultiDiscrete([2], dtype=np.uint8), ([0, 1],), [0, 1], [1], [1]),
        (SQUARE, ROWS, [1, 0, 1, 0, 1, 0, 1, 1, 1, 1], [0, 2, 1, 1], [[0, 3], [3, 4]]),
        (spaces.MultiBinary(1), [0, 1], [0, 1], [1], [1]),
        (spaces.MultiBinary((1, 2)), np.eye(2)[None], [1, 0, 0, 1], [0, 1], [[0, 1]]),
    ],
)
def test_masks_of_all_forms_and_spaces(space, mask, expected, action, given):
    """A mask is that of all choices one after another, counted from the least action of each."""
    envs = []

    def make():
        envs.append(make_env("Told", partial(Told, space, mask), masked=True))
        return envs[-1]

    with HostPool(make, 1, 0, name="Told", workers=0) as pool:
        assert pool.reset()[0, 1:].tolist() == expected
        pool.step(np.array([action], np.int32))
        np.testing.assert_array_equal(envs[0].unwrapped.action, given)
        ends = np.cumsum(choices(pool.single_action_space))[:-1]
        wrong = [np.argmin(part) for part in np.split(np.array(expected), ends)]
        wrong = wrong if np.ndim(action) else wrong[0]
        with pytest.raises(HostFailure, match="step 1. was given .*, which its mask forbids"):
            pool.step(np.array([wrong], np.int32))


NOTED = spaces.Dict(action_mask=spaces.MultiBinary(2), seen=spaces.Box(0, 1, (1,)))


@pytest.mark.parametrize(
    ("spaces_and_mask", "message"),
    [
        ((spaces.Discrete(2), None, NOTED), "'action_mask' in its observation, .*FilterObserv"),
        ((spaces.Box(-1, 1, (2,)), [1, 1]), "'action_mask' in its info, and continuous actions"),
    ],
)
def test_a_mask_that_nobody_would_respect_is_refused(spaces_and_mask, message):
    with pytest.raises(ValueError, match=f"Told: .*{message}"):
        load_suite(partial(Told, *spaces_and_mask), [], workers=0)


def test_a_mask_in_info_may_be_observed_too():
    suite = load_suite(partial(Told, spaces.Discrete(2), [1, 1], NOTED), [], workers=0)
    assert suite.env.spec.masked and suite.env.spec.obs_dim == 3


def test_masks_that_no_seed_determines_are_probed_one_by_one():
    assert load_suite(Unseeded, [], reproducible=False, workers=0).env.spec.masked


def test_several_binary_choices_are_shaped_as_the_space_says():
    suite = load_suite(Switches, [], workers=0)
    assert suite.env.spec.action_sizes == (2, 2, 2) and not suite.env.spec.masked
    env = suite.env.maker(suite.world)()
    row, _ = env.reset(seed=0)
    lamps = row.reshape(3, -1)[:, -1] if row.size == 6 else row
    assert env.step(np.asarray(lamps, np.int64))[1] == 1


@pytest.mark.parametrize("workers", [0, slow(2)])
def test_a_pool_returns_and_restores_rows_of_masks_and_images(workers):
    make = partial(make_env, "Bright", partial(Bright, (12, 12, 3), True))
    with HostPool(make, 3, 0, name="Bright", workers=workers) as pool:
        first = pool.reset()
        assert first.dtype == np.uint8 and first.shape == (3, 432 + 20)
        pool.step(np.array([0, 1, 1]))
        state = pool.snapshot()
        after = pool.step(np.array([1, 0, 1]))
        np.testing.assert_array_equal(pool.restore(state), state["obs"])
        again = pool.step(np.array([1, 0, 1]))
        for one, other in zip(after[:-1], again[:-1], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow  # 3 s: processes of two environments
def test_taxi_has_its_own_mask():
    suite = load_suite("Taxi-v4")
    assert suite.env.spec.masked and suite.env.spec.obs_dim == 500
    env, plain = suite.env.maker(suite.world)(), gymnasium.make("Taxi-v4")
    row, _ = env.reset(seed=0)
    _, info = plain.reset(seed=0)
    np.testing.assert_array_equal(row[500:], info["action_mask"])


# --- jitted worlds ----------------------------------------------------------------------------


@pytest.mark.slow
def test_jitted_worlds_observe_their_mask_and_image():
    suite = load_suite(Lane)
    env, spec = suite.env, suite.env.spec

    def act(key, obs):
        return jnp.where(split(spec, obs).mask[:, 2], 2, 1)

    keys = jax.random.split(jax.random.key(0), 2)
    start = reset_batch(keys[0], env, lambda key: suite.world, 4)
    _, batch = rollout(keys[1], env, lambda key: suite.world, act, start, 20)
    position, mask = 4 * batch.obs[..., 0], np.asarray(batch.obs[..., 1:])
    np.testing.assert_array_equal(mask[..., 0], position > 0)
    np.testing.assert_array_equal(mask[..., 2], position < 4)
    assert jnp.isfinite(batch.reward).all()
    lamp = load_suite(Lamp)
    state = lamp.env.reset(jax.random.key(0), lamp.world)
    image, numbers, _ = split(lamp.env.spec, state.obs)
    assert state.obs.dtype == jnp.uint8 and numbers.tolist() == [0.5]
    shown = lamp.env.spec.image.shaped(image)
    assert (shown == state.state * jnp.array([100, 50, 0])[None, None]).all()


@pytest.mark.slow  # 3 s of compiling
def test_a_jitted_world_reports_its_mask_and_image_to_gymnasium():
    env = WorldEnv(Lane())
    obs, info = env.reset(seed=0)
    assert info["action_mask"].tolist() == [obs[0] > 0, True, obs[0] < 1]
    for _ in range(4):
        obs, _, _, _, info = env.step(info["action_mask"].nonzero()[0][-1])
    assert obs.shape == (1,) and info["action_mask"].tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match="action 2 is forbidden by the mask"):
        env.step(2)
    (image, numbers), info = WorldEnv(Lamp()).reset(seed=0)
    assert image.shape == (6, 5, 3) and numbers.tolist() == [0.5] and info == {}
    with pytest.raises(ValueError, match="Lane has masks or images: make it one by one"):
        WorldVectorEnv(Lane())


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Closed, "Closed: its action_mask allows no action at step . of an episode: allow one"),
        (WrongMask, r"WrongMask: its action_mask is bool\[4\], expected bool\[3\] of its spec"),
        (Maskless, r"Maskless: its observation or mask fails \(.* must implement action_mask"),
    ],
)
def test_a_wrong_mask_of_a_jitted_world_is_refused(env, message):
    with pytest.raises(ValueError, match=message):
        load_suite(env)


@pytest.mark.parametrize("to", [3.0, slow(5.0)])  # at severity 1, and at .5 alone
def test_a_shift_under_which_a_mask_allows_nothing_is_refused(to):
    closes = ramp("closes", "dynamics", "params.gap", to=to)
    message = "Lane: under shift closes its action_mask allows no action at step . of an episode"
    with pytest.raises(ValueError, match=message):
        load_suite(Lane, [closes])


def test_a_mask_that_allows_nothing_in_training_makes_the_reward_nan():
    env, world = Lane(), World(Lane.Params(gap=3.0))
    state = env.reset(jax.random.key(0), world)._replace(state=jnp.array(2))
    for action, faulty in ((1, False), (2, True)):
        _, transition = env.step(jax.random.key(1), state, jnp.array(action))
        assert jnp.isnan(transition.reward) == faulty


# --- shifts -----------------------------------------------------------------------------------


@pytest.mark.slow  # 3 s each
@pytest.mark.parametrize("env", [Lane, Lamp])
def test_shifts_keep_their_contract(env):
    suite = load_suite(env)
    names = {shift.name for shift in suite.shifts}
    assert names >= ({"tighten"} if env is Lane else {"occlusion", "brightness", "colour", "noise"})
    for shift in suite.shifts:
        assert violations(shift, suite.env, suite.world) == []


@pytest.mark.parametrize("path", ["channel.tighten", "channel.image.occlusion"])
def test_a_shift_of_what_a_world_does_not_have_is_refused(path):
    with pytest.raises(ValueError, match="has no field '(tighten|image)'; it has noise, gain,"):
        load_suite(Switches, [ramp("absent", "sensor", path, to=0.5)], workers=0)


MASKED = Lane.spec
GRAY = np.full(432, 100, np.uint8)


@cache
def pixels() -> Spec:
    """What an environment of images of 12 x 12 observes."""
    return load_suite(partial(Bright, (12, 12, 3)), [], workers=0).env.spec


def sensed(channel: Channel, obs: np.ndarray, key: int = 0) -> np.ndarray:
    """Image [12, 12, 3] as sensed through a channel."""
    none = jnp.zeros(0)
    row, _ = reset_obs(jax.random.key(key), channel, pixels(), none, jnp.array(obs))
    after = observe(jax.random.key(key), channel, pixels(), row, none, jnp.array(obs))
    assert row.dtype == after.dtype == jnp.uint8
    return np.asarray(after, int).reshape(12, 12, 3)


def test_disturbances_of_an_image():
    base = channel_of(pixels())
    colours = np.tile(np.array([10, 100, 200], np.uint8), 144)
    np.testing.assert_array_equal(sensed(base, colours).ravel(), colours)
    dark = sensed(base._replace(gain=0.4), GRAY)
    assert (dark == 40).all() and (sensed(base._replace(gain=9.0), GRAY) == 255).all()
    noisy = sensed(base._replace(noise=0.2), GRAY)
    assert noisy.std() == pytest.approx(0.2 * 127.5, rel=0.1) and noisy.min() >= 0
    hidden = sensed(base._replace(image=base.image._replace(occlusion=0.5)), GRAY)
    assert (hidden[3:9, 3:9] == 0).all() and (hidden == 0).sum() == 36 * 3
    turned = sensed(base._replace(image=base.image._replace(colour=1.0)), colours)
    assert turned[0, 0].tolist() == [100, 200, 10]
    half = sensed(base._replace(image=base.image._replace(colour=0.5)), colours)
    assert half[0, 0].tolist() == [55, 150, 105]


def test_symbols_are_occluded_and_not_dimmed():
    suite = load_suite(partial(Bright, (7, 7, 3)), workers=0)
    assert [shift.name for shift in suite.shifts] == ["occlusion", *CHANNEL]
    spec, none = suite.env.spec, jnp.zeros(0)
    channel = channel_of(spec)._replace(gain=0.1, noise=1.0)
    obs = jnp.arange(147, dtype=jnp.uint8)
    assert (reset_obs(jax.random.key(0), channel, spec, none, obs)[0] == obs).all()


def test_a_mask_tightens_but_always_leaves_an_action():
    obs, scale = jnp.array([0.5, 1.0, 0.0, 1.0]), jnp.ones(1)

    def masks(tighten):
        channel = with_channel(World((), channel_of(MASKED))).channel._replace(tighten=tighten)
        keys = jax.random.split(jax.random.key(0), 4000)
        rows = jax.vmap(lambda key: reset_obs(key, channel, MASKED, scale, obs)[0])(keys)
        return np.asarray(rows[:, 1:])

    assert (masks(0.0) == [1, 0, 1]).all()
    assert (masks(1.0).sum(1) == 1).all() and masks(1.0)[:, 0].mean() == pytest.approx(
        0.5, abs=0.03
    )
    some = masks(0.3)
    assert (some[:, 1] == 0).all() and some.any(1).all()
    both_kept = 0.7**2
    assert (some.sum(1) == 2).mean() == pytest.approx(both_kept, abs=0.03)


def test_no_disturbance_executes_a_forbidden_action():
    """Slips are drawn among those allowed, and a delayed action that is not gives way."""
    keys = jax.random.split(jax.random.key(0), 1000)
    obs = jnp.array([0.5, 1.0, 0.0, 1.0])

    def executed(channel, key):
        queue = jnp.ones((8,), jnp.int32)  # the delayed action, which is forbidden
        first, action = jnp.array(False), jnp.array(2, jnp.int32)
        return apply_action(key, channel, queue, MASKED, first, action, obs)[0]

    slips = jax.vmap(partial(executed, Channel(flip=1.0, tighten=0.0)))(keys)
    assert np.bincount(slips, minlength=3)[[0, 2]].min() > 450 and (slips != 1).all()
    assert executed(Channel(delay=2.0, tighten=0.0), jax.random.key(1)) == 2
