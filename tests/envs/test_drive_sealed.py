"""AnyDrive and the sealed shifts of Drive: off by default, physics, picture, finer controls."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import load_suite
from envs.shift import with_channel
from envs.world import World
from envs.worlds.drive.any_drive import GUSTY, AnyDrive, AnyParams, any_suite
from envs.worlds.drive.drive import EDGE, Drive, Timid
from envs.worlds.drive.sealed import sealed_suite
from envs.worlds.drive.state import STEP, Params, State
from envs.worlds.drive.traffic import AWAY
from tests.envs.play import picture
from tests.tiers import slow

new = jax.random.key
ENV, SUITE = AnyDrive(), sealed_suite()
COAST, GAS, BRAKE = 4, 7, 1  # straight on
STEPS = jax.jit(jax.vmap(ENV.transition, (None, None, 0, None)))


def empty_road(x=0.0, y=0.0, speed=10.0) -> State:
    """State of the driver without any traffic."""
    state = ENV.initial(new(0), AnyParams())
    traffic = state.traffic._replace(x=jnp.full_like(state.traffic.x, AWAY))
    own = {"x": jnp.float32(x), "y": jnp.float32(y), "speed": jnp.float32(speed)}
    return state._replace(**own, traffic=traffic)


def steps(action: int, params: AnyParams, keys: int = 1) -> State:
    """States [keys] after an action, at 10 m/s on an empty road."""
    return STEPS(empty_road(), jnp.int32(action), jax.random.split(new(1), keys), params)


@partial(jax.jit, static_argnums=0)
def random_rollouts(env, worlds, keys):
    """States and transitions [B, 64] of random actions in worlds [B], on past an episode's end."""

    def step(env_state, key):
        k_act, k_step = jax.random.split(key)
        action = jax.random.randint(k_act, (), 0, env.spec.num_actions)
        after, transition = env.step(k_step, env_state, action)
        return after, (after.state, transition)

    def episode(world, key):
        k_reset, k_steps = jax.random.split(key)
        return jax.lax.scan(step, env.reset(k_reset, world), jax.random.split(k_steps, 64))[1]

    return jax.vmap(episode)(worlds, keys)


@pytest.mark.parametrize("name", ["Drive", slow("Timid")])
def test_without_its_shifts_it_is_drive_or_timid_to_within_rounding(name):
    suite, keys = any_suite(name), jax.random.split(new(2), 8)
    plain_env = {"Drive": Drive, "Timid": Timid}[name]()
    grips = jnp.linspace(0.2, 1.0, 8)
    base = jax.vmap(
        lambda grip: Params(*map(jnp.float32, plain_env.default_params))._replace(grip=grip)
    )(grips)
    numbers = (jnp.full((8,), value) for value in (plain_env.goal, 0.0, 1.0, 0.0))
    with jax.debug_key_reuse(False):  # `vmap` over split keys counts as a reuse
        plain = random_rollouts(plain_env, World(base), keys)
        general = random_rollouts(suite.env, World(AnyParams(base, *numbers)), keys)
    pairs = zip(jax.tree.leaves(plain), jax.tree.leaves(general), strict=True)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in pairs)
    assert plain[1].terminated.any() and np.ptp(plain[0].y) > 2
    assert suite.points() == load_suite(name).points()
    assert suite.world.params == AnyParams(plain_env.default_params, goal=plain_env.goal)


@pytest.mark.slow
def test_gusts_push_the_car_to_either_side_at_random():
    still, windy = steps(COAST, AnyParams(), 4000), steps(COAST, AnyParams(wind=4.0), 4000)
    push = np.asarray(windy.drift - still.drift)
    assert set(np.unique(push)) == {-4.0, 0.0, 4.0}
    assert (push != 0).mean() == pytest.approx(GUSTY, abs=0.02)
    assert (push > 0).mean() == pytest.approx(GUSTY / 2, abs=0.02)
    np.testing.assert_allclose(windy.y - still.y, STEP * push, atol=1e-6)
    np.testing.assert_array_equal(windy.speed, still.speed)


@pytest.mark.parametrize(("action", "change"), [(GAS, 0.8), (BRAKE, -1.0), (COAST, 0.0)])
def test_mass_divides_gas_and_brake_and_leaves_the_steering(action, change):
    for mass in (1.0, 4.0):
        after = steps(action, AnyParams(mass=mass))
        assert after.speed[0] == pytest.approx(10 + change / mass, abs=1e-5)
    left, heavy = (steps(action - 1, AnyParams(mass=mass)) for mass in (1.0, 4.0))
    assert left.drift[0] == heavy.drift[0] == 3


@pytest.mark.parametrize(("x", "edge"), [(0, EDGE), (75, 0.75 * EDGE), (149, 0.503333 * EDGE)])
@pytest.mark.parametrize("side", [-1, 1])
def test_the_road_narrows_linearly_and_leaving_it_is_a_crash(x, edge, side):
    params = AnyParams(narrow=0.5)
    for off, crash in ((0.01, True), (-0.01, False)):
        state = empty_road(x, side * (edge + off))
        assert bool(ENV.terminal(state, None, params)) == crash
        assert ENV.reward(state, 0, state, None, params) == -float(crash)
        assert ENV.transition_info(state, 0, state, params)["harm"] == float(crash)
    assert ENV.terminal(state, None, AnyParams()) == (abs(state.y) > EDGE)


def test_each_shift_changes_its_own_fields_only():
    home = with_channel(SUITE.world)
    changed = {}
    for shift in SUITE.shifts:
        world = shift(SUITE.world, 1.0, new(0))
        assert world.channel == home.channel
        before, after = (
            {**params.base._asdict(), **params._asdict(), "base": None}
            for params in (home.params, world.params)
        )
        changed[shift.name] = {name for name in before if before[name] != after[name]}
    assert changed == {"gusts": {"wind"}, "heavy": {"mass", "start"}, "narrowing": {"narrow"}}
    assert len(SUITE.points()) == 1 + 3 * 2


def test_finer_controls():
    fine = AnyDrive(levels=5)
    assert (fine.spec.num_actions, fine.action_space.n, ENV.spec.num_actions) == (25, 25, 9)
    after = fine.transition(empty_road(), jnp.int32(17), new(0), AnyParams(mass=2.0))
    assert after.speed == pytest.approx(10 + 0.5 * 4.0 / 2 * STEP)  # half the gas, straight on


def test_the_picture_shows_the_narrow_road_and_the_crash():
    state = empty_road(x=140.0, y=4.0)
    wide, narrow = (picture(ENV, state, AnyParams(narrow=n)) for n in (0.0, 0.5))
    assert (picture(ENV, state) == wide).all()
    assert (picture(Drive(), state) == wide).all()
    lost = (wide[:256] != narrow[:256]).any(-1)
    assert lost.mean() > 0.02
    assert (wide[300:] != narrow[300:]).any()  # the word crash
