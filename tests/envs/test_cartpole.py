"""CartPole equals gymnasium's CartPole-v1 step by step; initial states, success and picture."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.world import World
from envs.worlds.classic.cartpole import CartPole, Params

OTHER = Params(gravity=7.0, cart_mass=1.5, pole_mass=0.4, half_length=0.8, force=13.0, tau=0.015)


def make_gymnasium_env(params: Params) -> gymnasium.Env:
    """CartPole-v1 with these parameters, and the constants derived from them."""
    env = gymnasium.make("CartPole-v1")
    inner = env.unwrapped
    inner.gravity, inner.masscart, inner.masspole = params[:3]
    inner.length, inner.force_mag, inner.tau = params[3:]
    inner.total_mass = inner.masscart + inner.masspole
    inner.polemass_length = inner.masspole * inner.length
    return env


def choose(rng: np.random.Generator, state: np.ndarray, care: float) -> int:
    """Balancing action with probability `care`, else a random one."""
    x, velocity, angle, spin = state
    good = int(angle + 0.4 * spin + 0.1 * velocity + 0.04 * x > 0)
    return good if rng.random() < care else int(rng.integers(2))


def parity(params: Params, forced: bool, atol: float) -> np.ndarray:
    """Compare 1,300 steps of both -> end of each episode, [..., 2] (terminated, truncated).

    The state is copied from gymnasium at resets, and if `forced` before every step. An upright
    pole is unstable: differences grow e-fold every 12 steps, so that rounding alone would give
    1e-9 after 200. Only short episodes can run free.
    """
    env, gym, rng = CartPole(), make_gymnasium_env(params), np.random.default_rng(0)
    world, step = World(params), jax.jit(env.step)
    env_state, endings = None, []
    for _ in range(1300):
        if env_state is None:
            gym.reset(seed=len(endings))
            env_state = env.reset(jax.random.key(0), world)
            env_state = env_state._replace(state=jnp.asarray(gym.unwrapped.state))
        before = gym.unwrapped.state
        if forced:
            env_state = env_state._replace(state=jnp.asarray(before, jnp.float32))
        action = choose(rng, before, care=float(len(endings) % 4 == 0) if forced else 0.2)
        obs, reward, terminated, truncated, _ = gym.step(action)
        env_state, transition = step(jax.random.key(0), env_state, jnp.int32(action))
        np.testing.assert_allclose(env_state.state, gym.unwrapped.state, rtol=0, atol=atol)
        np.testing.assert_allclose(transition.next_obs, obs, rtol=1e-6, atol=1e-5)
        ours = (float(transition.reward), bool(transition.terminated), bool(transition.truncated))
        assert ours == (reward, terminated, truncated)
        assert transition.info["harm"] == terminated
        if terminated or truncated:
            endings.append((terminated, truncated))
            env_state = None
    return np.array(endings)


@pytest.mark.parametrize("params", [Params(), OTHER], ids=["default", "changed"])
def test_free_running_parity_with_gymnasium_in_double_precision(params):
    with jax.enable_x64(True):
        endings = parity(params, forced=False, atol=1e-9)
    assert len(endings) > 10


@pytest.mark.parametrize("params", [Params(), OTHER], ids=["default", "changed"])
def test_one_step_parity_with_gymnasium_in_single_precision(params):
    endings = parity(params, forced=True, atol=1e-5)
    assert (endings.sum(0) >= 1).all()  # some fell, and some stood for 500 steps


def test_derived_constants_follow_the_params():
    params = Params()._replace(pole_mass=0.5, half_length=2.0)
    assert params.total_mass == 1.5
    assert params.pole_moment == 1.0


def test_it_starts_where_gymnasium_starts():
    states = jax.vmap(CartPole().initial, (0, None))(
        jax.random.split(jax.random.key(0), 4096), Params()
    )
    assert states.shape == (4096, 4)
    assert (jnp.abs(states) <= 0.05).all()
    np.testing.assert_allclose(states.std(0), 0.1 / 12**0.5, rtol=0.05)
    np.testing.assert_allclose(states.mean(0), 0.0, atol=0.002)


def test_success_is_that_of_packer():
    length = jnp.array([194.0, 195.0, 200.0])
    np.testing.assert_array_equal(CartPole(200).success(length, length), [False, True, True])


def image_of(params: Params, x: float = 0.0, angle: float = 0.0) -> np.ndarray:
    env = CartPole()
    state = jnp.array([x, 0.0, angle, 0.0])
    return env.render_image(state, env.render_init(params), params)[1]


def coloured(image: np.ndarray, colour: str) -> np.ndarray:
    """Pixels of an image that have a colour, [N, 2] of row and column."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere((np.abs(image.astype(int) - rgb) < 12).all(-1))


def test_the_picture_shows_state_and_parameters():
    from envs.worlds.classic.cartpole import BAD, CART, POLE

    image = image_of(Params())
    assert image.shape == (400, 600, 3) and image.dtype == np.uint8
    pole = coloured(image, POLE)
    height, width = np.ptp(pole[:, 0]), np.ptp(pole[:, 1])
    # a pole that leans to the right reaches further right; the cart is drawn at its x
    assert coloured(image_of(Params(), angle=0.2), POLE)[:, 1].max() > pole[:, 1].max() + 10
    right = coloured(image_of(Params(), x=1.0), CART)[:, 1].mean()
    assert right - coloured(image, CART)[:, 1].mean() == pytest.approx(104, abs=2)
    # a longer pole is longer, a heavier one thicker, in proportion
    short = coloured(image_of(Params(half_length=0.25)), POLE)
    assert np.ptp(short[:, 0]) == pytest.approx(height / 2, abs=8)
    heavy = coloured(image_of(Params(pole_mass=0.8)), POLE)
    assert np.ptp(heavy[:, 1]) == pytest.approx(2 * width, abs=3)
    # the longest one of the suite is inside the picture
    long = coloured(image_of(Params(half_length=2.0)), POLE)
    assert long[:, 0].min() > 20
    # a failed episode is drawn in red
    assert len(coloured(image, BAD)) == 0
    assert len(coloured(image_of(Params(), angle=0.25), BAD)) > 50
    assert len(coloured(image_of(Params(), x=2.5), BAD)) > 50


def test_a_state_far_outside_can_be_drawn():
    assert image_of(Params(), x=1e9, angle=50.0).shape == (400, 600, 3)
