"""Pendulum equals gymnasium's Pendulum-v1 step by step; success and picture."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.world import World
from envs.worlds.classic.pendulum import FAN, POLE, Params, Pendulum, State, suite, wrap_angle
from runs.engine.evaluate import evaluate
from tests.envs.parity import coloured, parity

ENV = Pendulum()
OTHER = Params(gravity=8.0, length=1.4, mass=0.6)


def make_gymnasium_env(params: Params) -> gymnasium.Env:
    gym = gymnasium.make("Pendulum-v1", g=params.gravity)
    gym.unwrapped.l, gym.unwrapped.m = params.length, params.mass
    return gym


def push(rng: np.random.Generator, state: np.ndarray) -> np.ndarray:
    """Noisy torque along the motion, sometimes beyond the limits."""
    return np.array([np.sign(state[1]) * 0.8 + 0.5 * rng.normal()])


def copy_state(gym_state: np.ndarray, state: State) -> State:
    angle, spin = jnp.asarray(gym_state, state.angle.dtype)
    return state._replace(angle=angle, spin=spin)


@pytest.mark.parametrize(
    ("params", "double", "atol"),
    [(Params(), True, 1e-9), (OTHER, True, 1e-9), (Params(), False, 3e-5)],
    ids=["default", "changed", "single"],
)
def test_one_step_parity_with_gymnasium(params, double, atol):
    """Upright is unstable, so that the state is copied before each step."""
    with jax.enable_x64(double):
        endings = parity(
            ENV,
            make_gymnasium_env(params),
            params,
            push,
            forced=True,
            atol=atol,
            copy_state=copy_state,
            convert_action=lambda action: 2 * action,
        )
    assert endings.tolist() == [[False, True]] * 5


def test_free_running_parity_in_double_precision():
    with jax.enable_x64(True):
        gym = make_gymnasium_env(Params())
        parity(
            ENV,
            gym,
            Params(),
            push,
            False,
            1e-6,
            copy_state=copy_state,
            convert_action=lambda a: 2 * a,
        )


def test_it_starts_where_gymnasium_starts():
    keys = jax.random.split(jax.random.key(0), 4096)
    states = jax.vmap(ENV.initial, (0, None))(keys, Params())
    assert states.angle.std() == pytest.approx(2 * np.pi / 12**0.5, rel=0.05)
    assert states.spin.std() == pytest.approx(2 / 12**0.5, rel=0.05)
    assert (states.upright == 0).all()


def test_derived_constants_follow_the_params():
    assert Params()._replace(mass=3.0, length=2.0).moment == 4.0


@pytest.mark.parametrize(
    ("angle", "expected"), [(0.5, 0.5), (4.0, 4.0 - 2 * np.pi), (-7.0, -0.7168)]
)
def test_angles_are_wrapped(angle, expected):
    assert wrap_angle(jnp.float32(angle)) == pytest.approx(expected, abs=1e-4)


# --- success ----------------------------------------------------------------------------------


def step_from_rest(upright, angle):
    """One step from rest at an angle, after `upright` upright steps -> (upright steps, success)."""
    state = State(jnp.float32(angle), jnp.float32(0.0), jnp.float32(upright))
    after = ENV.transition(state, jnp.zeros(1), None, Params())
    info = ENV.transition_info(state, jnp.zeros(1), after, Params())
    return float(after.upright), float(info["success"])


def test_consecutive_upright_steps_are_counted():
    within = np.pi / 3 - 0.05
    assert step_from_rest(5, 0.0) == (6, 0) and step_from_rest(5, within) == (6, 0)
    assert step_from_rest(5, -within) == (6, 0) and step_from_rest(5, 2 * np.pi + within) == (6, 0)
    assert step_from_rest(99, 0.0) == (100, 1) and step_from_rest(98, 0.0) == (99, 0)
    assert step_from_rest(150, np.pi / 3 + 0.01) == (0, 0) and step_from_rest(150, np.pi) == (0, 0)


class BalancingPolicy:
    """Agent that balances the pole from near upright if `holds`, else applies no torque."""

    def act(self, holds, key, obs):
        cos, sin, spin = obs[..., 0], obs[..., 1], obs[..., 2]
        torque = -8.0 * jnp.arctan2(sin, cos) - 2.0 * spin
        return jnp.where(holds, torque, 0.0)[..., None]


class Upright(Pendulum):
    """Pendulum that starts nearly upright, at rest."""

    def initial(self, rng, params):
        return State(jnp.float32(0.05), jnp.zeros(()), jnp.zeros(()))


@pytest.mark.parametrize(("holds", "success"), [(True, 1.0), (False, 0.0)])
def test_success_is_being_upright_in_the_last_100_steps(holds, success):
    worlds = jax.tree.map(
        lambda leaf: jnp.full((1, 2), leaf, jnp.float32),
        suite().randomised(World(Params()), 0.0, jax.random.key(0)),
    )
    env, key = Upright(), jax.random.key(0)
    scores = jax.jit(evaluate, static_argnums=(1, 2, 5))(
        holds, BalancingPolicy(), env, worlds, key, 2
    )
    assert scores["success"] == success and scores["length"] == 200


def test_an_episode_that_is_too_short_is_no_success():
    assert ENV.success(jnp.zeros(2), jnp.array([199.0, 200.0])).tolist() == [False, True]


def test_the_picture_shows_state_and_parameters():
    def image_of(angle, params=Params()):  # noqa: B008
        state = State(jnp.float32(angle), jnp.zeros(()), jnp.zeros(()))
        return ENV.render_image(state, ENV.render_init(), params)[1]

    up, down = image_of(0.0), image_of(np.pi)
    assert up.shape == (400, 400, 3) and up.dtype == np.uint8
    assert coloured(up, POLE)[:, 0].max() < coloured(down, POLE)[:, 0].mean()
    assert coloured(image_of(0.5), POLE)[:, 1].mean() > coloured(up, POLE)[:, 1].mean() + 20
    assert len(coloured(up, FAN)) > 1000 and len(coloured(down, FAN)) < 100
    short = coloured(image_of(0.0, Params(length=0.5)), POLE)
    assert np.ptp(short[:, 0]) == pytest.approx(np.ptp(coloured(up, POLE)[:, 0]) / 2, abs=12)
