"""Worlds as gymnasium environments: its checks, reproducibility, and the vector environment."""

import warnings
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import envs
from envs.adapters.gymnasium_env import WorldEnv, draw_seed_word, make_sampler, reset_episode
from envs.adapters.gymnasium_vector import WorldVectorEnv
from envs.channel import Channel
from envs.shift import box, scale
from envs.world import World
from envs.worlds.classic.cartpole import CartPole, Params
from tests.tiers import slow

CARTPOLE = "envs:affect/CartPole-v0"
NOISY = World(Params(), Channel(noise=0.1, dropout=0.2, flip=0.1, delay=1.0, reward_noise=0.3))
RANDOM = box("R", "dynamics", "params", {"force": (5.0, 15.0)})
NOISY_SHIFTED = {"world": NOISY, "shift": RANDOM, "severity": 0.7, "horizon": 30}


def vectors(num_envs, mode, name=CARTPOLE, **options):
    """WorldVectorEnv, and gymnasium's SyncVectorEnv of single environments."""
    ours = gymnasium.make_vec(name, num_envs, "vector_entry_point", autoreset_mode=mode, **options)
    vector_kwargs = {"autoreset_mode": mode}
    return ours, gymnasium.make_vec(name, num_envs, "sync", vector_kwargs, **options)


def equal(first, second):
    """Whether values, dtypes and structure are the same, bit for bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    if first is None or second is None:
        return first is second
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if first.dtype == object:
        return all(map(equal, first, second))
    return first.tobytes() == second.tobytes()


# --- one environment --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in envs.WORLDS), (CARTPOLE[5:], NOISY_SHIFTED)]
)
@pytest.mark.parametrize("render_mode", [slow(None), "rgb_array"])
def test_registered_worlds_pass_gymnasiums_checks_and_are_drawn(name, options, render_mode):
    env = gymnasium.make(f"envs:{name}", render_mode=render_mode, **options).unwrapped
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # of other tests
        check_env(env)
    # Allowed: with channel noise, observations are unbounded.
    messages = [str(w.message) for w in caught if "Box observation space" not in str(w.message)]
    assert messages == []
    if render_mode:
        env.reset(seed=0)
        first = env.render()
        assert first.ndim == 3 and first.shape[-1] == 3 and first.dtype == np.uint8
        assert any(different_pictures(env, first) for _ in range(8))


def different_pictures(env, first) -> bool:
    """Whether the picture after a random step (and a reset at an end) differs from the first."""
    ended = any(env.step(env.action_space.sample())[2:4])
    differs = bool((env.render() != first).any())
    if ended:
        env.reset()
    return differs


def test_steps_equal_those_of_the_world():
    env, world_env = gymnasium.make(CARTPOLE, **NOISY_SHIFTED), CartPole(horizon=30)
    sampler = make_sampler(world_env, NOISY, RANDOM, 0.7)
    seed_word = draw_seed_word(np.random.default_rng(5))  # as gymnasium makes its generator
    step, rng, fallen = jax.jit(world_env.step), np.random.default_rng(0), 0
    for episode in range(6):
        obs, info = env.reset(seed=5 if episode == 0 else None)
        env_state = jax.jit(reset_episode)(sampler, seed_word, episode).env_state
        np.testing.assert_array_equal(obs, env_state.obs)
        assert info == {}
        _, _, k_steps = jax.random.split(jax.random.fold_in(jax.random.key(seed_word), episode), 3)
        ended = False
        while not ended:
            action = rng.integers(2)
            key = jax.random.fold_in(jax.random.clone(k_steps), env_state.time)
            env_state, transition = step(key, env_state, jnp.int32(action))
            obs, reward, terminated, truncated, info = env.step(action)
            np.testing.assert_array_equal(obs, transition.next_obs)
            ends = transition.terminated, transition.truncated
            assert (reward, terminated, truncated) == (transition.reward, *ends)
            assert info == {"harm": transition.info["harm"]}
            ended = terminated or truncated
        fallen += terminated
        assert env_state.time <= 30
    assert fallen


def test_only_the_horizon_truncates():
    env = gymnasium.make(CARTPOLE, horizon=7)
    wrapper = env
    while wrapper is not env.unwrapped:
        assert not isinstance(wrapper, gymnasium.wrappers.TimeLimit)
        wrapper = wrapper.env
    env.reset(seed=0)
    ends = [env.step(t % 2)[2:4] for t in range(7)]
    assert ends == [(False, False)] * 6 + [(False, True)]


def test_seed_determines_a_stream_of_distinct_episodes():
    env = gymnasium.make(CARTPOLE)
    first = [env.reset(seed=seed)[0] for seed in (3, None, None)]
    second = [env.reset(seed=seed)[0] for seed in (3, None, None)]
    np.testing.assert_array_equal(first, second)
    other_seeds = [env.reset(seed=seed)[0] for seed in (4, None, 2**40)]
    unseeded = [gymnasium.make(CARTPOLE).reset()[0] for _ in range(2)]
    all_obs = np.array([*first, *other_seeds, *unseeded])
    assert len(np.unique(all_obs, axis=0)) == len(all_obs)


def test_world_shift_and_severity_change_the_physics():
    force = scale("force", "dynamics", "params.force", to=0.1)
    worlds = {
        "home": {},
        "world": {"world": World(Params(force=1.0))},
        "shift": {"shift": force},
        "half": {"shift": force, "severity": 0.5},
        "none": {"shift": force, "severity": 0.0},
    }
    speeds = {}
    for name, options in worlds.items():
        env = gymnasium.make(CARTPOLE, **options)
        start = env.reset(seed=0)[0][1]
        speeds[name] = env.step(1)[0][1] - start
    assert speeds["world"] == pytest.approx(speeds["shift"])
    assert speeds["none"] == speeds["home"]
    assert speeds["half"] == pytest.approx((speeds["home"] + speeds["shift"]) / 2, rel=1e-3)
    assert speeds["home"] == pytest.approx(10 * speeds["shift"], rel=0.05)


def test_shift_is_drawn_anew_every_episode():
    env = gymnasium.make(CARTPOLE, shift=RANDOM)
    speeds = set()
    for episode in range(5):
        start = env.reset(seed=0 if episode == 0 else None)[0][1]
        speeds.add(round(float(env.step(1)[0][1] - start), 4))
    assert len(speeds) == 5


def test_environments_with_equal_arguments_share_an_env():
    first, second = (gymnasium.make(CARTPOLE, horizon=60).unwrapped for _ in range(2))
    assert first.func_env is second.func_env
    assert first.func_env is not gymnasium.make(CARTPOLE, horizon=61).unwrapped.func_env


def test_wrong_arguments_raise():
    make = partial(gymnasium.make, CARTPOLE)
    with pytest.raises(ValueError, match="severity 1.5 is outside"):
        make(shift=RANDOM, severity=1.5)
    with pytest.raises(ValueError, match="no field 'friction'; it has gravity"):
        make(shift=scale("s", "dynamics", "params.friction", to=2.0))
    with pytest.raises(ValueError, match="CartPole has no render mode 'ansi'"):
        WorldEnv(CartPole(), render_mode="ansi")
    env = make().unwrapped
    with pytest.raises(ResetNeeded, match="call reset first"):
        env.step(0)
    with pytest.raises(ResetNeeded, match="call reset first"):
        env.render()
    env.reset()
    assert env.render() is None
    for action in (2, -1, 0.5, [0, 1]):
        with pytest.raises(ValueError, match="is not in Discrete"):
            env.step(action)
    env = make(horizon=1).unwrapped
    env.reset()
    env.step(np.int64(1))
    with pytest.raises(ResetNeeded):
        env.step(1)


# --- a vector ---------------------------------------------------------------------------------


@pytest.mark.slow  # bits of programs that are compiled as for users
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        (AutoresetMode.NEXT_STEP, NOISY_SHIFTED),
        (AutoresetMode.SAME_STEP, NOISY_SHIFTED),
        (AutoresetMode.DISABLED, NOISY_SHIFTED),
        (AutoresetMode.SAME_STEP, {"horizon": 40}),
    ],
    ids=["next-step", "same-step", "disabled", "plain"],
)
def test_vector_equals_gymnasiums_sync_vector(mode, options):
    ours, theirs = vectors(4, mode, **options)
    assert (ours.metadata["autoreset_mode"], ours.num_envs) == (mode, 4)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng, ended = np.random.default_rng(0), np.zeros((1000, 4), bool)
    assert equal(ours.reset(seed=3), theirs.reset(seed=3))
    for t in range(1000):
        actions = rng.integers(0, 2, 4)
        our_step, their_step = ours.step(actions), theirs.step(actions)
        assert equal(our_step, their_step), t
        ended[t] = our_step[2] | our_step[3]
        if mode is AutoresetMode.DISABLED and ended[t].any():
            masks = [{"reset_mask": ended[t].copy()} for _ in range(2)]
            assert equal(ours.reset(options=masks[0]), theirs.reset(options=masks[1]))
    assert (ended.sum(0) > 15).all()
    assert (ended.any(1) & ~ended.all(1)).sum() > 50  # staggered


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_nested_info_equals_gymnasiums_sync_vector(mode):
    ours, theirs = vectors(3, mode, "envs:affect/FoodShare-v0", horizon=7)
    rng, ended = np.random.default_rng(0), False
    assert equal(ours.reset(seed=3), theirs.reset(seed=3))
    for t in range(60):
        actions = rng.integers(0, 2, 3)
        our_step, their_step = ours.step(actions), theirs.step(actions)
        assert equal(our_step, their_step), t
        final = our_step[4].get("final_info", {})
        ended |= "other" in final and final["other"]["next_obs"].shape == (3, 4)
    assert ended == (mode is AutoresetMode.SAME_STEP)
    assert our_step[4]["other"]["_body"].all()


def test_nested_info_is_that_of_the_world():
    env = gymnasium.make("envs:affect/FoodShare-v0")
    obs, _ = env.reset(seed=1)
    next_obs, *_, info = env.step(1)
    other = info["other"]
    np.testing.assert_array_equal(other["obs"], obs[[1, 0, 3, 2]])
    np.testing.assert_array_equal(other["next_obs"], next_obs[[1, 0, 3, 2]])
    assert isinstance(other["obs"], np.ndarray) and isinstance(other["reward"], np.float32)
    assert (other["body"], info["body"]) == (1.0, next_obs[0])  # the other body got the meal


@pytest.mark.slow  # bits of programs that are compiled as for users
def test_partial_resets_and_partial_seeds():
    ours, theirs = vectors(4, "Disabled", **NOISY_SHIFTED)
    assert equal(ours.reset(seed=[7, 7, 8, 9]), theirs.reset(seed=[7, 7, 8, 9]))
    mask = np.array([True, False, True, False])
    for seed in (None, 20, [None, 30, 31, None]):
        results = [
            env.reset(seed=seed, options={"reset_mask": mask.copy()}) for env in (ours, theirs)
        ]
        assert equal(*results)
        for env in (ours, theirs):
            env.step(np.array([0, 1, 0, 1]))
    assert equal(ours.reset(), theirs.reset())
    unseeded = vectors(4, "SameStep")[0].reset()[0]
    assert len(np.unique(unseeded, axis=0)) == 4


def test_vector_renders_arrays():
    ours, _ = vectors(2, "SameStep", render_mode="rgb_array")
    ours.reset(seed=0)
    images = ours.render()
    assert [image.shape for image in images] == [(400, 600, 3)] * 2
    assert (images[0] != images[1]).any()
    ours.close()


def test_wrong_arguments_of_vector_raise():
    env = WorldVectorEnv(CartPole(horizon=2), 3, autoreset_mode="Disabled")
    with pytest.raises(ResetNeeded, match=r"environments \[0 1 2\]"):
        env.step([0, 1, 0])
    with pytest.raises(ResetNeeded):
        env.render()
    with pytest.raises(ValueError, match="2 seeds for 3 environments"):
        env.reset(seed=[1, 2])
    for mask in (np.zeros(3, bool), np.ones(2, bool), np.ones(3)):
        with pytest.raises(ValueError, match="reset_mask must be bool"):
            env.reset(options={"reset_mask": mask})
    env.reset(seed=0)
    assert env.render() == (None, None, None)
    for actions in ([0, 1], [0, 1, 2], [0.0, 1.0, 0.5]):
        with pytest.raises(ValueError, match="is not in MultiDiscrete"):
            env.step(actions)
    env.step([0, 0, 0])
    env.step([1, 1, 1])
    env.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(ResetNeeded, match=r"environments \[1 2\]"):
        env.step([0, 0, 0])
    with pytest.raises(ValueError, match="Later"):
        WorldVectorEnv(CartPole(), 3, autoreset_mode="Later")
