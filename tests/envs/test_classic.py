"""Classic control equals gymnasium step by step; initial states, success and pictures."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Transition
from affect.predict import harm
from envs.world import Env, World
from envs.worlds.classic import acrobot, cartpole, mountain_car, pendulum
from envs.worlds.classic.acrobot import Acrobot
from envs.worlds.classic.cartpole import CartPole
from envs.worlds.classic.mountain_car import MountainCar
from envs.worlds.classic.pendulum import Pendulum, State, wrap_angle
from runs.engine.evaluate import evaluate
from tests.envs.play import coloured, picture
from tests.tiers import representative

# --- parity with gymnasium --------------------------------------------------------------------


def gymnasium_acrobot(params: acrobot.Params) -> gymnasium.Env:
    gym = gymnasium.make("Acrobot-v1")
    inner = gym.unwrapped
    inner.LINK_LENGTH_1 = inner.LINK_LENGTH_2 = params.length
    inner.LINK_MASS_1 = inner.LINK_MASS_2 = params.mass
    inner.LINK_MOI = params.inertia
    return gym


def gymnasium_cartpole(params: cartpole.Params) -> gymnasium.Env:
    """CartPole-v1 with these parameters, and the constants derived from them."""
    gym = gymnasium.make("CartPole-v1")
    inner = gym.unwrapped
    inner.gravity, inner.masscart, inner.masspole = params[:3]
    inner.length, inner.force_mag, inner.tau = params[3:]
    inner.total_mass = inner.masscart + inner.masspole
    inner.polemass_length = inner.masspole * inner.length
    return gym


def gymnasium_mountain_car(params: mountain_car.Params) -> gymnasium.Env:
    gym = gymnasium.make("MountainCar-v0")
    gym.unwrapped.force, gym.unwrapped.gravity = params
    return gym


def gymnasium_pendulum(params: pendulum.Params) -> gymnasium.Env:
    gym = gymnasium.make("Pendulum-v1", g=params.gravity)
    gym.unwrapped.l, gym.unwrapped.m = params.length, params.mass
    return gym


class Pair(NamedTuple):
    """A world and gymnasium's, with parameters other than the default."""

    env: Env
    make_gymnasium: Callable[[Any], gymnasium.Env]
    changed: Any
    copy_state: Callable = lambda gym_state, state: jnp.asarray(gym_state, state.dtype)
    gymnasium_action: Callable = lambda action: action


def copy_angle(gym_state: np.ndarray, state: State) -> State:
    angle, spin = jnp.asarray(gym_state, state.angle.dtype)
    return state._replace(angle=angle, spin=spin)


ACROBOT = Pair(Acrobot(), gymnasium_acrobot, acrobot.Params(length=1.3, mass=0.7, inertia=1.2))
CARTPOLE = Pair(
    CartPole(),
    gymnasium_cartpole,
    cartpole.Params(
        gravity=7.0, cart_mass=1.5, pole_mass=0.4, half_length=0.8, force=13.0, tau=0.015
    ),
)
CAR = Pair(MountainCar(), gymnasium_mountain_car, mountain_car.Params(force=0.0016, gravity=0.0031))
PENDULUM = Pair(
    *(Pendulum(), gymnasium_pendulum, pendulum.Params(gravity=8.0, length=1.4, mass=0.6)),
    *(copy_angle, lambda action: 2 * action),
)


def pump(rng, state, episode):
    """Torque along the joint's motion, which adds energy; a random action with probability 0.3."""
    return int(rng.integers(3)) if rng.random() < 0.3 else 1 + int(np.sign(state[3]) or 1)


def no_torque(rng, state, episode):
    return 1


def balance(rng, state, episode, care=None):
    """Balancing action with probability `care`, by default in every fourth episode, else random."""
    x, velocity, angle, spin = state
    good = int(angle + 0.4 * spin + 0.1 * velocity + 0.04 * x > 0)
    care = float(episode % 4 == 0) if care is None else care
    return good if rng.random() < care else int(rng.integers(2))


def fall(rng, state, episode):
    return balance(rng, state, episode, care=0.2)


def swing(rng, state, episode):
    """Push along the motion, which gets the car up; a random action with probability 0.15."""
    return int(rng.integers(3)) if rng.random() < 0.15 else 1 + int(np.sign(state[1]) or 1)


def idle(rng, state, episode):
    return int(rng.integers(3))


def push(rng, state, episode):
    """Noisy torque along the motion, sometimes beyond the limits."""
    return np.array([np.sign(state[1]) * 0.8 + 0.5 * rng.normal()])


PARITY = [
    # worlds, changed parameters, policy, state copied before each step, double precision,
    # tolerance of states and observations, fewest (terminations, truncations), steps
    (ACROBOT, False, pump, True, True, 1e-9, (3, 0), 1000),  # two links are chaotic
    (ACROBOT, True, pump, True, True, 1e-9, (3, 0), 1000),
    (ACROBOT, False, pump, True, False, 3e-4, (3, 0), 1000),
    (ACROBOT, False, no_torque, True, False, 3e-4, (0, 1), 501),
    (CARTPOLE, False, fall, False, True, 1e-9, (11, 0), 1300),
    (CARTPOLE, True, fall, False, True, 1e-9, (11, 0), 1300),
    (CARTPOLE, False, balance, True, False, 1e-5, (1, 1), 1300),
    (CARTPOLE, True, balance, True, False, 1e-5, (1, 1), 1300),
    (CAR, False, swing, False, True, 1e-10, (4, 0), 1000),
    (CAR, True, swing, False, True, 1e-10, (4, 0), 1000),
    (CAR, False, swing, False, False, 1e-4, (0, 0), 1000),
    (CAR, False, idle, True, False, 1e-6, (0, 5), 1000),
    (PENDULUM, False, push, True, True, 1e-9, (0, 5), 1000),  # upright is unstable
    (PENDULUM, True, push, True, True, 1e-9, (0, 5), 1000),
    (PENDULUM, False, push, True, False, 3e-5, (0, 5), 1000),
    (PENDULUM, False, push, False, True, 1e-6, (0, 5), 1000),
]


def names(case) -> str:
    pair, changed, policy, forced, double, *_ = case
    words = [type(pair.env).__name__, policy.__name__, "changed" * changed]
    return "-".join(
        [*filter(None, words), "forced" if forced else "free", str(64 if double else 32)]
    )


CHANGED_FIRST = sorted(PARITY, key=lambda case: not case[1])


@pytest.mark.parametrize("case", representative(CHANGED_FIRST, lambda case: case[:1], names))
def test_parity_with_gymnasium(case):
    """The state is copied from gymnasium at resets, and where rounding grows before every step.

    An upright pole is unstable: differences grow e-fold every 12 steps, so that rounding alone
    would give 1e-9 after 200. Only short episodes can run free.
    """
    pair, changed, policy, forced, double, atol, fewest, steps = case
    params = pair.changed if changed else pair.env.get_default_params()
    with jax.enable_x64(double):
        endings = parity(pair, params, policy, forced, atol, steps)
    assert (endings.sum(0) >= fewest).all()


def parity(pair, params, policy, forced, atol, steps) -> np.ndarray:
    """Step both and assert that they agree -> end of each episode, [..., 2]."""
    gym, rng, endings, rows = pair.make_gymnasium(params), np.random.default_rng(0), [], []
    restart = True
    for _ in range(steps):
        if restart:
            gym.reset(seed=len(endings))
        before = np.asarray(gym.unwrapped.state)
        action = policy(rng, before, len(endings))
        obs, reward, *ends, _ = gym.step(pair.gymnasium_action(action))
        rows.append((restart, before, action, gym.unwrapped.state, obs, reward, *ends))
        if restart := any(ends):
            endings.append(ends)
    *inputs, obs, reward, terminated, truncated = map(np.array, zip(*rows, strict=True))
    fresh = pair.env.reset(jax.random.key(0), World(params))

    def step(env_state, row):
        restart, before, action, after = row
        env_state = jax.tree.map(partial(jnp.where, restart), fresh, env_state)
        copied = pair.copy_state(before, env_state.state)
        copied = jax.tree.map(partial(jnp.where, restart | forced), copied, env_state.state)
        env_state = env_state._replace(state=copied)
        env_state, transition = pair.env.step(jax.random.key(0), env_state, action)
        return env_state, (env_state.state, pair.copy_state(after, env_state.state), transition)

    _, (ours, theirs, transition) = jax.jit(partial(jax.lax.scan, step))(fresh, tuple(inputs))
    for our_leaf, gym_leaf in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_allclose(our_leaf, gym_leaf, rtol=0, atol=atol)
    np.testing.assert_allclose(transition.next_obs, obs, rtol=1e-6, atol=max(atol, 1e-5))
    rtol = 1e-5 if pair.env.spec.action_dim else 0.0  # the others pay whole numbers
    np.testing.assert_allclose(transition.reward, reward, rtol=rtol, atol=rtol and atol)
    np.testing.assert_array_equal(transition.terminated, terminated)
    np.testing.assert_array_equal(transition.truncated, truncated)
    assert (transition.info.get("harm", 0) == terminated * (pair is CARTPOLE)).all()
    return np.array(endings)


# --- starts, constants and success ------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "uniform", "at_rest", "centre", "half"),
    [
        (Acrobot(), lambda states: states, lambda states: 0, 0.0, 0.1),
        (CartPole(), lambda states: states, lambda states: 0, 0.0, 0.05),
        (MountainCar(), lambda states: states[:, :1], lambda states: states[:, 1:], -0.5, 0.1),
        (Pendulum(), lambda states: states.angle[:, None], lambda states: 0, 0.0, np.pi),
        (Pendulum(), lambda states: states.spin[:, None], lambda states: states.upright, 0.0, 1.0),
    ],
)
def test_it_starts_where_gymnasium_starts(env, uniform, at_rest, centre, half):
    keys = jax.random.split(jax.random.key(0), 4096)
    states = jax.vmap(env.initial, (0, None))(keys, env.get_default_params())
    values = np.asarray(uniform(states))
    assert (np.abs(values - centre) <= half + 1e-6).all() and np.all(at_rest(states) == 0)
    np.testing.assert_allclose(values.std(0), 2 * half / 12**0.5, rtol=0.05)
    np.testing.assert_allclose(values.mean(0), centre, atol=0.04 * half)


@pytest.mark.parametrize(
    ("env", "totals", "lengths", "expected"),
    [
        (Acrobot(), [-79, -80, -81, -500], [79, 80, 81, 500], [True, True, False, False]),
        (CartPole(200), [194, 195, 200], [194, 195, 200], [False, True, True]),
        (MountainCar(), [-109, -110, -111, -200], [109, 110, 111, 200], [True, True, False, False]),
        (Pendulum(), [0, 0], [199, 200], [False, True]),  # and its info, see below
    ],
)
def test_success_is_that_of_packer(env, totals, lengths, expected):
    totals, lengths = (jnp.array(values, jnp.float32) for values in (totals, lengths))
    assert env.success(totals, lengths).tolist() == expected


def test_derived_constants_follow_the_params():
    params = acrobot.Params()._replace(mass=2.0, length=3.0, inertia=0.5)
    assert (params.about_joint, params.lever) == (2.0 * 0.25 + 0.5, 2.0 * 3.0 * 0.5)
    params = cartpole.Params()._replace(pole_mass=0.5, half_length=2.0)
    assert (params.total_mass, params.pole_moment) == (1.5, 1.0)
    assert pendulum.Params()._replace(mass=3.0, length=2.0).moment == 4.0


# --- Acrobot ----------------------------------------------------------------------------------


def test_energy_of_the_acrobot_is_conserved_without_torque():
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

    params, state = ACROBOT.changed, jnp.array([1.0, -0.5, 0.7, -0.4])
    motion = acrobot.derivatives(state, jnp.zeros(()), params)
    assert jax.jvp(energy, (state,), (motion,))[1] == pytest.approx(0.0, abs=1e-5)


def test_the_picture_of_the_acrobot_shows_state_and_parameters():
    def image_of(upper, lower, params=acrobot.Params()):  # noqa: B008
        return picture(Acrobot(), jnp.array([upper, lower, 0.0, 0.0]), params)

    hanging = image_of(0.0, 0.0)
    upper, lower = (coloured(hanging, colour) for colour in (acrobot.UPPER, acrobot.LOWER))
    assert hanging.shape == (400, 400, 3) and lower[:, 0].min() > upper[:, 0].mean()
    assert coloured(image_of(1.0, 0.0), acrobot.UPPER)[:, 1].max() > upper[:, 1].max() + 30
    assert len(coloured(hanging, acrobot.REACHED)) < 100
    assert len(coloured(hanging, acrobot.GOAL)) > 300
    assert len(coloured(image_of(np.pi, 0.0), acrobot.REACHED)) > 1000
    short = coloured(image_of(0.0, 0.0, acrobot.Params(length=0.5)), acrobot.UPPER)
    assert np.ptp(short[:, 0]) == pytest.approx(np.ptp(upper[:, 0]) / 2, abs=12)


# --- CartPole ---------------------------------------------------------------------------------


def test_the_picture_of_the_cartpole_shows_state_and_parameters():
    from envs.worlds.classic.cartpole import BAD, CART, POLE

    def image_of(x=0.0, angle=0.0, **params):
        return picture(CartPole(), jnp.array([x, 0.0, angle, 0.0]), cartpole.Params(**params))

    image = image_of()
    pole = coloured(image, POLE)
    height, width = np.ptp(pole[:, 0]), np.ptp(pole[:, 1])
    assert image.shape == (400, 600, 3)
    # a pole that leans to the right reaches further right; the cart is drawn at its x
    assert coloured(image_of(angle=0.2), POLE)[:, 1].max() > pole[:, 1].max() + 10
    right = coloured(image_of(x=1.0), CART)[:, 1].mean()
    assert right - coloured(image, CART)[:, 1].mean() == pytest.approx(104, abs=2)
    # a longer pole is longer, a heavier one thicker, in proportion
    short = coloured(image_of(half_length=0.25), POLE)
    assert np.ptp(short[:, 0]) == pytest.approx(height / 2, abs=8)
    heavy = coloured(image_of(pole_mass=0.8), POLE)
    assert np.ptp(heavy[:, 1]) == pytest.approx(2 * width, abs=3)
    # the longest one of the suite is inside the picture, and states far outside can be drawn
    assert coloured(image_of(half_length=2.0), POLE)[:, 0].min() > 20
    assert image_of(x=1e9, angle=50.0).shape == image.shape
    # a failed episode is drawn in red
    assert len(coloured(image, BAD)) == 0
    assert len(coloured(image_of(angle=0.25), BAD)) > 50
    assert len(coloured(image_of(x=2.5), BAD)) > 50


# --- MountainCar ------------------------------------------------------------------------------


def test_the_wall_stops_the_car():
    after = CAR.env.transition(jnp.array([-1.19, -0.07]), jnp.int32(0), None, mountain_car.Params())
    np.testing.assert_allclose(after, [-1.2, 0.0])


def test_the_flag_is_no_harm():
    """The terminal step at the flag is no harm, though its reward is not positive."""
    env, params = CAR.env, mountain_car.Params()
    state, push_right = jnp.array([0.49, 0.07]), jnp.int32(2)
    after = env.transition(state, push_right, None, params)
    assert env.terminal(after, None, params)
    info = env.transition_info(state, push_right, after, params)
    assert set(info) == set(env.spec.info)
    ended = Transition(state, push_right, after, -jnp.ones(()), jnp.array(True), None, None, info)
    assert not harm(ended)


def test_the_parameter_ranges_of_the_car_are_those_of_packer():
    suite = mountain_car.suite()
    params = jax.vmap(lambda key: suite.randomised(suite.world, 1.0, key).params)(
        jax.random.split(jax.random.key(0), 512)
    )
    for field, low, high in (("force", 0.0005, 0.005), ("gravity", 0.001, 0.005)):
        values = np.asarray(getattr(params, field))
        assert low <= values.min() < 1.1 * low and 0.97 * high < values.max() <= high


def test_the_picture_of_the_car_shows_the_state():
    def image_of(position, velocity=0.0):
        return picture(CAR.env, jnp.array([position, velocity]), mountain_car.Params())

    image = image_of(-0.5)
    left, right = (coloured(image_of(x), mountain_car.CAR).mean(0) for x in (-0.5, 0.2))
    assert image.shape == (400, 600, 3)
    assert right[1] - left[1] == pytest.approx(210, abs=20)  # 300 pixels a unit
    assert right[0] < left[0] - 50  # and higher
    flags = [len(coloured(image_of(-0.5, speed), mountain_car.FLAG)) for speed in (0.0, 0.05)]
    assert flags[1] > flags[0] + 100


# --- Pendulum ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("angle", "expected"), [(0.5, 0.5), (4.0, 4.0 - 2 * np.pi), (-7.0, -0.7168)]
)
def test_angles_are_wrapped(angle, expected):
    assert wrap_angle(jnp.float32(angle)) == pytest.approx(expected, abs=1e-4)


def test_consecutive_upright_steps_are_counted():
    def step_from_rest(upright, angle):
        """One step, after `upright` upright steps -> (upright steps, success)."""
        env, params = PENDULUM.env, pendulum.Params()
        state = State(jnp.float32(angle), jnp.float32(0.0), jnp.float32(upright))
        after = env.transition(state, jnp.zeros(1), None, params)
        info = env.transition_info(state, jnp.zeros(1), after, params)
        return float(after.upright), float(info["success"])

    within = np.pi / 3 - 0.05
    for angle in (0.0, within, -within, 2 * np.pi + within):
        assert step_from_rest(5, angle) == (6, 0)
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
    home = pendulum.suite().randomised(World(pendulum.Params()), 0.0, jax.random.key(0))
    worlds = jax.tree.map(lambda leaf: jnp.full((1, 2), leaf, jnp.float32), home)
    score = jax.jit(evaluate, static_argnums=(1, 2, 5))
    scores = score(holds, BalancingPolicy(), Upright(), worlds, jax.random.key(0), 2)
    assert scores["success"] == success and scores["length"] == 200


def test_the_picture_of_the_pendulum_shows_state_and_parameters():
    def image_of(angle, params=pendulum.Params()):  # noqa: B008
        state = State(jnp.float32(angle), jnp.zeros(()), jnp.zeros(()))
        return picture(PENDULUM.env, state, params)

    up, down = image_of(0.0), image_of(np.pi)
    pole = coloured(up, pendulum.POLE)
    assert up.shape == (400, 400, 3)
    assert pole[:, 0].max() < coloured(down, pendulum.POLE)[:, 0].mean()
    assert coloured(image_of(0.5), pendulum.POLE)[:, 1].mean() > pole[:, 1].mean() + 20
    assert len(coloured(up, pendulum.FAN)) > 1000 and len(coloured(down, pendulum.FAN)) < 100
    short = coloured(image_of(0.0, pendulum.Params(length=0.5)), pendulum.POLE)
    assert np.ptp(short[:, 0]) == pytest.approx(np.ptp(pole[:, 0]) / 2, abs=12)
