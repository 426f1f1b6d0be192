"""Acrobot equals gymnasium's Acrobot-v1 step by step; energy, success and picture."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.worlds.classic.acrobot import GOAL, LOWER, REACHED, UPPER, Acrobot, Params, derivatives
from tests.envs.parity import coloured, parity

ENV = Acrobot()
OTHER = Params(length=1.3, mass=0.7, inertia=1.2)


def make_gymnasium_env(params: Params) -> gymnasium.Env:
    gym = gymnasium.make("Acrobot-v1")
    inner = gym.unwrapped
    inner.LINK_LENGTH_1 = inner.LINK_LENGTH_2 = params.length
    inner.LINK_MASS_1 = inner.LINK_MASS_2 = params.mass
    inner.LINK_MOI = params.inertia
    return gym


def pump(rng: np.random.Generator, state: np.ndarray) -> int:
    """Torque along the joint's motion, which adds energy; a random action with probability 0.3."""
    return int(rng.integers(3)) if rng.random() < 0.3 else 1 + int(np.sign(state[3]) or 1)


@pytest.mark.parametrize(
    ("params", "double", "atol"),
    [(Params(), True, 1e-9), (OTHER, True, 1e-9), (Params(), False, 3e-4)],
    ids=["default", "changed", "single"],
)
def test_one_step_parity_with_gymnasium(params, double, atol):
    """Two links are chaotic, so that the state is copied before each step."""
    with jax.enable_x64(double):
        endings = parity(ENV, make_gymnasium_env(params), params, pump, forced=True, atol=atol)
    assert endings[:, 0].sum() >= 3


def test_it_is_truncated_after_500_steps():
    endings = parity(
        ENV,
        make_gymnasium_env(Params()),
        Params(),
        lambda rng, state: 1,
        forced=True,
        atol=3e-4,
        steps=501,
    )
    assert endings.tolist() == [[False, True]]


def test_energy_is_conserved_without_torque():
    """Kinetic plus potential energy has no derivative along the equations of motion."""

    def energy(state):
        upper, lower, spin, turn = state
        moment, lever = params.about_joint, params.lever
        combined = 2 * moment + params.mass * params.length**2 + 2 * lever * jnp.cos(lower)
        shared = moment + lever * jnp.cos(lower)
        kinetic = 0.5 * combined * spin**2 + shared * spin * turn + 0.5 * moment * turn**2
        weight = params.gravity * params.mass
        heights = (params.centre + params.length) * jnp.cos(upper)
        return kinetic - weight * (heights + params.centre * jnp.cos(upper + lower))

    params = OTHER
    state = jnp.array([1.0, -0.5, 0.7, -0.4])
    _, change = jax.jvp(energy, (state,), (derivatives(state, jnp.zeros(()), params),))
    assert change == pytest.approx(0.0, abs=1e-5)


def test_it_starts_near_hanging_down():
    keys = jax.random.split(jax.random.key(0), 1024)
    states = jax.vmap(ENV.initial, (0, None))(keys, Params())
    assert states.shape == (1024, 4) and (jnp.abs(states) <= 0.1).all()
    np.testing.assert_allclose(states.std(0), 0.2 / 12**0.5, rtol=0.08)


def test_derived_constants_follow_the_params():
    params = Params()._replace(mass=2.0, length=3.0, inertia=0.5)
    assert params.about_joint == 2.0 * 0.25 + 0.5
    assert params.lever == 2.0 * 3.0 * 0.5


def test_success_is_that_of_packer():
    length = jnp.array([79.0, 80.0, 81.0, 500.0])
    assert ENV.success(-length, length).tolist() == [True, True, False, False]


def test_the_picture_shows_state_and_parameters():
    def image_of(upper, lower, params=Params()):  # noqa: B008
        return ENV.render_image(jnp.array([upper, lower, 0.0, 0.0]), None, params)[1]

    hanging = image_of(0.0, 0.0)
    assert hanging.shape == (400, 400, 3) and hanging.dtype == np.uint8
    assert coloured(hanging, LOWER)[:, 0].min() > coloured(hanging, UPPER)[:, 0].mean()
    assert (
        coloured(image_of(1.0, 0.0), UPPER)[:, 1].max() > coloured(hanging, UPPER)[:, 1].max() + 30
    )
    assert len(coloured(hanging, REACHED)) < 100 and len(coloured(hanging, GOAL)) > 300
    assert len(coloured(image_of(np.pi, 0.0), REACHED)) > 1000
    short = image_of(0.0, 0.0, Params(length=0.5))
    assert np.ptp(coloured(short, UPPER)[:, 0]) == pytest.approx(
        np.ptp(coloured(hanging, UPPER)[:, 0]) / 2, abs=12
    )
