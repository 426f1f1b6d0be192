"""EnvPool environments against gymnasium's: dynamics, ends, seeds; refusals where it is missing."""

import sys
from functools import partial

import gymnasium
import numpy as np
import pytest

from envs import load_suite
from envs.host.make import make_env
from envs.host.pool import HostPool

ID = "envpool:CartPole-v1"


def needs_envpool() -> None:
    pytest.importorskip("envpool", reason="extra envpool is not installed")


def test_missing_package_is_refused_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ValueError, match=r"envpool is missing: pip install -e '.\[envpool\]'"):
        load_suite(ID)


@pytest.mark.parametrize(
    ("id", "kwargs", "message"),
    [
        (
            "envpool:CartPol-v1",
            {},
            "unknown environment 'envpool:CartPol-v1'; did you mean envpool:C",
        ),
        (ID, {"size": 3}, r"'size'.*; correct kwargs"),
    ],
)
def test_unknown_tasks_and_options_are_refused(id, kwargs, message):
    needs_envpool()
    with pytest.raises(ValueError, match=message):
        load_suite(id, kwargs=kwargs)


def test_suite_has_limit_goal_and_harm_of_its_task():
    needs_envpool()
    host = load_suite(ID, kwargs={"max_episode_steps": 30}).env
    assert (host.horizon, host.goal, host.harmful) == (30, 475.0, True)
    lander = load_suite("envpool:LunarLander-v3").env
    assert lander.spec.obs_dim == 8 and set(lander.obs_scale) == {1.0}


def test_steps_and_terminal_observation_are_those_of_gymnasium():
    needs_envpool()
    env, oracle = make_env(ID), gymnasium.make("CartPole-v1").unwrapped
    obs, _ = env.reset(seed=5)
    assert not np.array_equal(obs, env.reset(seed=6)[0])
    assert np.array_equal(obs, env.reset(seed=5)[0])
    oracle.reset()
    oracle.state, terminated, steps = obs.astype(np.float64), False, 0
    while not terminated:
        expected, _, ends, *_ = oracle.step(1)
        obs, reward, terminated, truncated, _ = env.step(1)
        np.testing.assert_allclose(obs, expected, atol=1e-5)
        assert (reward, truncated, terminated) == (1.0, False, ends)
        steps += 1
    assert steps > 5 and abs(obs[2]) > 0.2095


@pytest.mark.parametrize("workers", [0, 1])
def test_pool_is_resumed_bit_for_bit(workers):
    needs_envpool()
    options = {"name": ID, "workers": workers}
    rng = np.random.default_rng(0)
    with HostPool(partial(make_env, ID), 3, 0, **options) as pool:
        pool.reset()
        for _ in range(40):
            pool.step(rng.integers(0, 2, 3))
        snapshot, actions = pool.snapshot(), rng.integers(0, 2, (20, 3))
        expected = np.stack([pool.step(a).obs for a in actions])
    with HostPool(partial(make_env, ID), 3, 0, **options) as pool:
        pool.restore(snapshot)
        assert np.array_equal(np.stack([pool.step(a).obs for a in actions]), expected)
