"""Acrobot is gymnasium's Acrobot-v1, step by step; and it can be looked at."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.worlds.classic.acrobot import GOAL, LOWER, REACHED, UPPER, Acrobot, Params, derivatives
from tests.envs.parity import coloured, parity

ENV = Acrobot()
OTHER = Params(length=1.3, mass=0.7, inertia=1.2)


def theirs(params: Params) -> gymnasium.Env:
    gym = gymnasium.make("Acrobot-v1")
    inner = gym.unwrapped
    inner.LINK_LENGTH_1 = inner.LINK_LENGTH_2 = params.length
    inner.LINK_MASS_1 = inner.LINK_MASS_2 = params.mass
    inner.LINK_MOI = params.inertia
    return gym


def pump(rng: np.random.Generator, state: np.ndarray) -> int:
    """With the joint's own motion, which adds energy until the tip gets up; sometimes anything."""
    return int(rng.integers(3)) if rng.random() < 0.3 else 1 + int(np.sign(state[3]) or 1)


@pytest.mark.parametrize(
    ("params", "double", "atol"),
    [(Params(), True, 1e-9), (OTHER, True, 1e-9), (Params(), False, 3e-4)],
    ids=["default", "changed", "single"],
)
def test_one_step_parity_with_gymnasium(params, double, atol):
    """Two links are chaotic: only from the same state before each step do they stay together."""
    with jax.enable_x64(double):
        endings = parity(ENV, theirs(params), params, pump, forced=True, atol=atol)
    assert endings[:, 0].sum() >= 3


def test_it_is_cut_off_after_500_steps():
    endings = parity(
        ENV, theirs(Params()), Params(), lambda rng, state: 1, forced=True, atol=3e-4, steps=501
    )
    assert endings.tolist() == [[False, True]]


def test_energy_is_kept_where_there_is_no_torque():
    """The equations are those of two links: along them, kinetic and potential energy add up."""

    def energy(state):
        upper, lower, spin, turn = state
        moment, lever = params.about_joint, params.lever
        both = 2 * moment + params.mass * params.length**2 + 2 * lever * jnp.cos(lower)
        shared = moment + lever * jnp.cos(lower)
        kinetic = 0.5 * both * spin**2 + shared * spin * turn + 0.5 * moment * turn**2
        pull = params.gravity * params.mass
        heights = (params.centre + params.length) * jnp.cos(upper)
        return kinetic - pull * (heights + params.centre * jnp.cos(upper + lower))

    params = OTHER
    state = jnp.array([1.0, -0.5, 0.7, -0.4])
    _, lost = jax.jvp(energy, (state,), (derivatives(state, jnp.zeros(()), params),))
    assert lost == pytest.approx(0.0, abs=1e-5)


def test_it_starts_hanging():
    keys = jax.random.split(jax.random.key(0), 1024)
    states = jax.vmap(ENV.initial, (0, None))(keys, Params())
    assert states.shape == (1024, 4) and (jnp.abs(states) <= 0.1).all()
    np.testing.assert_allclose(states.std(0), 0.2 / 12**0.5, rtol=0.08)


def test_derived_constants_follow_the_params():
    params = Params()._replace(mass=2.0, length=3.0, inertia=0.5)
    assert params.about_joint == 2.0 * 0.25 + 0.5
    assert params.lever == 2.0 * 3.0 * 0.5


def test_success_is_packers():
    length = jnp.array([79.0, 80.0, 81.0, 500.0])
    assert ENV.success(-length, length).tolist() == [True, True, False, False]


def test_the_picture_shows_state_and_physics():
    def drawn(upper, lower, params=Params()):  # noqa: B008
        return ENV.render_image(jnp.array([upper, lower, 0.0, 0.0]), None, params)[1]

    hanging = drawn(0.0, 0.0)
    assert hanging.shape == (400, 400, 3) and hanging.dtype == np.uint8
    assert coloured(hanging, LOWER)[:, 0].min() > coloured(hanging, UPPER)[:, 0].mean()
    assert coloured(drawn(1.0, 0.0), UPPER)[:, 1].max() > coloured(hanging, UPPER)[:, 1].max() + 30
    assert len(coloured(hanging, REACHED)) < 100 and len(coloured(hanging, GOAL)) > 300
    assert len(coloured(drawn(np.pi, 0.0), REACHED)) > 1000
    short = drawn(0.0, 0.0, Params(length=0.5))
    assert np.ptp(coloured(short, UPPER)[:, 0]) == pytest.approx(
        np.ptp(coloured(hanging, UPPER)[:, 0]) / 2, abs=12
    )
