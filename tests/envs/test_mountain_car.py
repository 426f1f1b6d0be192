"""MountainCar equals gymnasium's MountainCar-v0 step by step; success, ranges and picture."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Spec, Transition
from affect.predict import harm
from envs.worlds.classic.mountain_car import CAR, FLAG, MountainCar, Params, suite
from tests.envs.parity import coloured, parity

ENV = MountainCar()
OTHER = Params(force=0.0016, gravity=0.0031)


def make_gymnasium_env(params: Params) -> gymnasium.Env:
    gym = gymnasium.make("MountainCar-v0")
    gym.unwrapped.force, gym.unwrapped.gravity = params
    return gym


def swing(rng: np.random.Generator, state: np.ndarray) -> int:
    """Push along the motion, which gets the car up; a random action with probability 0.15."""
    return int(rng.integers(3)) if rng.random() < 0.15 else 1 + int(np.sign(state[1]) or 1)


@pytest.mark.parametrize("params", [Params(), OTHER], ids=["default", "changed"])
def test_free_running_parity_with_gymnasium_in_double_precision(params):
    with jax.enable_x64(True):
        endings = parity(ENV, make_gymnasium_env(params), params, swing, forced=False, atol=1e-10)
    assert endings[:, 0].sum() >= 4


def test_free_running_parity_with_gymnasium_in_single_precision():
    parity(ENV, make_gymnasium_env(Params()), Params(), swing, forced=False, atol=1e-4)


def test_one_step_parity_with_gymnasium_up_to_truncation():
    def idle(rng, state):
        return int(rng.integers(3))

    endings = parity(ENV, make_gymnasium_env(Params()), Params(), idle, forced=True, atol=1e-6)
    assert endings[:, 1].sum() == 5


def test_the_wall_stops_the_car():
    after = ENV.transition(jnp.array([-1.19, -0.07]), jnp.int32(0), None, Params())
    np.testing.assert_allclose(after, [-1.2, 0.0])


def test_it_starts_where_gymnasium_starts():
    keys = jax.random.split(jax.random.key(0), 4096)
    position, velocity = jax.vmap(ENV.initial, (0, None))(keys, Params()).T
    assert (jnp.abs(position + 0.5) <= 0.1).all() and (velocity == 0).all()
    assert position.std() == pytest.approx(0.2 / 12**0.5, rel=0.05)


def test_success_is_that_of_packer():
    length = jnp.array([109.0, 110.0, 111.0, 200.0])
    assert ENV.success(-length, length).tolist() == [True, True, False, False]


def test_the_flag_is_no_harm():
    """The terminal step at the flag is no harm, though its reward is not positive."""
    state, push_right = jnp.array([0.49, 0.07]), jnp.int32(2)
    after = ENV.transition(state, push_right, None, Params())
    assert ENV.terminal(after, None, Params())
    info = ENV.transition_info(state, push_right, after, Params())
    assert isinstance(ENV.spec, Spec) and set(info) == set(ENV.spec.info)
    ended = Transition(state, push_right, after, -jnp.ones(()), jnp.array(True), None, None, info)
    assert not harm(ended)


def test_the_parameter_ranges_are_those_of_packer():
    params = jax.vmap(lambda key: suite().randomised(suite().world, 1.0, key).params)(
        jax.random.split(jax.random.key(0), 512)
    )
    for field, low, high in (("force", 0.0005, 0.005), ("gravity", 0.001, 0.005)):
        values = np.asarray(getattr(params, field))
        assert low <= values.min() < 1.1 * low and 0.97 * high < values.max() <= high


def test_the_picture_shows_the_state():
    def image_of(position, velocity=0.0):
        return ENV.render_image(jnp.array([position, velocity]), ENV.render_init(), Params())[1]

    image = image_of(-0.5)
    assert image.shape == (400, 600, 3) and image.dtype == np.uint8
    left, right = (coloured(image_of(position), CAR).mean(0) for position in (-0.5, 0.2))
    assert right[1] - left[1] == pytest.approx(210, abs=20)  # 300 pixels a unit
    assert right[0] < left[0] - 50  # and higher
    assert len(coloured(image_of(-0.5, 0.05), FLAG)) > len(coloured(image, FLAG)) + 100
