"""EnvPool environments against gymnasium's: dynamics, ends, seeds; refusals where it is missing."""

import sys
from functools import partial

import gymnasium
import numpy as np
import pytest

from envs import load_suite
from envs.host.episode_log import episode_seed
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


def test_task_is_stepped_together_with_the_same_bits_as_one_by_one(monkeypatch):
    """So that each episode begins from its own seed, and no successor is lost at an end."""
    needs_envpool()
    actions = np.random.default_rng(0).integers(0, 2, (120, 5))
    results = []
    for together in (True, False):
        if not together:
            monkeypatch.setattr("envs.host.env_set.envpool_batch", lambda env, count: None)
        with HostPool(partial(make_env, ID), 5, 3, name=ID, workers=0) as pool:
            first = pool.reset()
            assert (pool._shards[0]._shard._set.batch is not None) == together
            results.append((first, [pool.step(a)[:-1] for a in actions], pool.snapshot()))
    (first, steps, snapshot), (other_first, other_steps, other_snapshot) = results
    np.testing.assert_array_equal(first, other_first)
    for arrays, others in zip(
        zip(*steps, strict=True), zip(*other_steps, strict=True), strict=True
    ):
        assert np.stack(arrays).tobytes() == np.stack(others).tobytes()
    ends = np.stack([step[3] for step in steps])
    assert (ends.sum(0) > 2).all() and len({tuple(column) for column in ends.T}) == 5
    assert all((snapshot[key] == other_snapshot[key]).all() for key in snapshot)


def test_actions_of_a_batch_are_rescaled_as_those_of_one():
    needs_envpool()
    id, rng = "envpool:Pendulum-v1", np.random.default_rng(0)
    actions = rng.uniform(-1.5, 1.5, (20, 3, 1)).astype(np.float32)
    with HostPool(partial(make_env, id), 3, 0, name=id, workers=0) as pool:
        obs = pool.reset()
        assert pool._shards[0]._shard._set.batch is not None
        plain = [make_env(id) for _ in range(3)]
        firsts = [e.reset(seed=episode_seed(0, i, 0))[0] for i, e in enumerate(plain)]
        np.testing.assert_array_equal(obs, firsts)
        for action in actions:
            step = pool.step(action)
            singles = [e.step(a) for e, a in zip(plain, action, strict=True)]
            np.testing.assert_array_equal(step.next_obs, [single[0] for single in singles])
            np.testing.assert_array_equal(step.reward, np.float32([s[1] for s in singles]))


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
