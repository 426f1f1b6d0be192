"""Host pool: equal to plain environments, also after faults and after restoring a snapshot."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import gymnasium
import numpy as np
import pytest

from envs.host.episode_log import episode_seed
from envs.host.fault import HostFailure
from envs.host.make import make_env
from envs.host.pool import HostPool
from tests.envs.faulty_envs import Faulty, distshift
from tests.tiers import slow

CARTPOLE = partial(gymnasium.make, "CartPole-v1", max_episode_steps=25)
MAKERS = {
    "CartPole-v1": CARTPOLE,
    "LunarLander-v3": partial(gymnasium.make, "LunarLander-v3"),
    "Pendulum-v1": partial(gymnasium.make, "Pendulum-v1", max_episode_steps=30),
    "MiniGrid-DistShift1-v0": distshift,
    "Hopper-v5": partial(make_env, "Hopper-v5", mass=2.0),
    "MiniGrid-LavaCrossingS9N1-v0": partial(make_env, "MiniGrid-LavaCrossingS9N1-v0", layout=1.0),
    "highway-fast-v0": partial(make_env, "highway-fast-v0", aggressive=1.0),
}
SLOWEST = ("Hopper-v5", "MiniGrid-LavaCrossingS9N1-v0", "highway-fast-v0")


def random_actions(space, steps, num_envs, seed=0):
    """Random actions, [steps, num_envs, ...]."""
    space.seed(seed)
    return np.array([[space.sample() for _ in range(num_envs)] for _ in range(steps)])


def stream(pool, actions, reset=True):
    """Results of the pool for the actions: {name: [steps, B, ...]}."""
    first = [pool.reset()] if reset else []
    steps = [pool.step(action) for action in actions]
    arrays = {name: np.array([getattr(s, name) for s in steps]) for name in steps[0]._fields[:-1]}
    infos = {key: np.array([s.info[key] for s in steps]) for key in steps[0].info}
    return {"first": np.array(first)} | arrays | infos


def assert_same(a, b):
    """Asserts that two dicts of arrays are equal bit for bit, dtypes included."""
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].dtype == b[key].dtype, key
        assert a[key].tobytes() == b[key].tobytes(), key


def faulty(workers=2, num_envs=4, timeout=60.0, info_keys=(), **fault):
    """A pool of faulty environments."""
    options = {"workers": workers, "timeout": timeout, "info_keys": info_keys}
    return HostPool(partial(Faulty, **fault), num_envs, 7, name="Faulty-v0", **options)


ACTIONS = random_actions(Faulty.action_space, 40, 4)


@pytest.fixture(scope="module")
def healthy():
    with faulty(workers=0) as pool:
        return stream(pool, ACTIONS)


# --- the stream -------------------------------------------------------------------------------


def test_equals_plain_environments():
    num_envs, seed = 3, 11
    plain_envs = [CARTPOLE() for _ in range(num_envs)]
    actions = random_actions(plain_envs[0].action_space, 120, num_envs)
    with HostPool(CARTPOLE, num_envs, seed, name="CartPole-v1", workers=2) as pool:
        results = stream(pool, actions)
    assert results["terminated"].any() and results["truncated"].any()
    assert len({tuple(ends) for ends in results["terminated"].T}) == num_envs, "ends are staggered"
    for i, env in enumerate(plain_envs):
        episode = 0
        obs, _ = env.reset(seed=episode_seed(seed, i, 0))
        np.testing.assert_array_equal(results["first"][0, i], obs)
        for t in range(len(actions)):
            obs, reward, terminated, truncated, _ = env.step(actions[t, i])
            np.testing.assert_array_equal(results["next_obs"][t, i], obs)
            if terminated or truncated:
                episode += 1
                obs, _ = env.reset(seed=episode_seed(seed, i, episode))
            np.testing.assert_array_equal(results["obs"][t, i], obs)
            assert results["reward"][t, i] == reward and results["reward"].dtype == np.float32
            ends = results["terminated"][t, i], results["truncated"][t, i]
            assert ends == (terminated, truncated)


@pytest.mark.parametrize("workers", [1, 3])
def test_number_of_workers_changes_nothing(workers, healthy):
    with faulty(workers=workers) as pool:
        assert_same(stream(pool, ACTIONS), healthy)
    assert healthy["terminated"].any()


def test_seeds_differ_between_environments_episodes_and_pools():
    seeds = {episode_seed(s, i, n) for s in range(3) for i in range(9) for n in range(9)}
    assert len(seeds) == 243 and max(seeds) < 2**32


def test_environments_on_the_same_stream_have_the_same_episodes(healthy):
    make = partial(Faulty)
    with HostPool(make, 4, 7, name="Faulty-v0", workers=2, streams=np.array([2, 0, 2, 1])) as pool:
        results = stream(pool, ACTIONS[:, [2, 0, 2, 1]])
    for name in ("obs", "next_obs", "reward", "terminated"):
        np.testing.assert_array_equal(results[name], healthy[name][:, [2, 0, 2, 1]])
    with pytest.raises(ValueError, match="3 streams for 4 environments"):
        HostPool(make, 4, 7, name="Faulty-v0", streams=range(3))


def test_info_is_returned_and_workers_do_not_import_jax():
    with faulty(info_keys=("action", "jax")) as pool:
        results = stream(pool, ACTIONS[:5])
    np.testing.assert_array_equal(results["action"], ACTIONS[:5, :, 0])
    assert results["action"].dtype == np.float32 and not results["jax"].any()


def test_missing_info_is_named():
    with faulty(workers=0, info_keys=("cost",)) as pool, pytest.raises(HostFailure, match="'cost'"):
        stream(pool, ACTIONS)


# --- snapshots --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [slow(name) if name in SLOWEST else name for name in MAKERS])
def test_restored_pool_continues_exactly(name):
    steps, more = 110, 40
    if name.startswith("highway"):
        pytest.importorskip("highway_env")
        steps, more = 4, 1  # it is slow
    with HostPool(MAKERS[name], 3, 5, name=name, workers=2) as pool:
        actions = random_actions(pool.single_action_space, steps + more, 3)
        stream(pool, actions[:steps])
        snapshot = pool.snapshot()
        rest = stream(pool, actions[steps:], reset=False)
        later = pool.snapshot()
    unused = np.arange(snapshot["actions"].shape[1]) >= snapshot["length"][:, None]
    assert snapshot["length"].any() and not snapshot["actions"][unused].any()
    shapes, later_shapes = (
        {k: (v.shape, v.dtype) for k, v in state.items()} for state in (snapshot, later)
    )
    assert shapes == later_shapes
    with HostPool(MAKERS[name], 3, 5, name=name, workers=0) as pool:
        obs = pool.restore(snapshot)
        np.testing.assert_array_equal(obs, snapshot["obs"])
        assert_same(pool.snapshot(), snapshot)
        assert_same(stream(pool, actions[steps:], reset=False), rest)
        assert_same(pool.snapshot(), later)
        pool.restore(snapshot)  # once more, after further steps
        assert_same(stream(pool, actions[steps:], reset=False), rest)


def test_episode_longer_than_the_action_buffer():
    actions = random_actions(Faulty.action_space, 1040, 2)
    with faulty(workers=0, num_envs=2, ends=0.0) as pool:
        stream(pool, actions[:1030])
        snapshot = pool.snapshot()
        rest = stream(pool, actions[1030:], reset=False)
    assert snapshot["actions"].shape == (2, 2048, 1)
    with faulty(workers=0, num_envs=2, ends=0.0) as pool:
        pool.restore(snapshot)
        assert_same(stream(pool, actions[1030:], reset=False), rest)


def test_environment_that_changes_its_actions_in_place(healthy):
    with faulty(workers=0, fault="scribble") as pool:
        stream(pool, ACTIONS[:20])
        for _ in range(2):
            np.testing.assert_array_equal(pool.restore(pool.snapshot()), healthy["obs"][19])


def test_wrong_snapshot_raises():
    with faulty(workers=0, fault="remember") as pool:
        stream(pool, ACTIONS)
        message = "replayed its seed and actions to other observations"
        with pytest.raises(HostFailure, match=message):
            pool.restore(pool.snapshot())
    with faulty(workers=0) as pool:
        pool.reset()
        snapshot = pool.snapshot()
        for seed, message in ((snapshot["seed"] + 1, "seed"), (np.ones(9), "size")):
            with pytest.raises(ValueError, match=message):
                pool.restore(snapshot | {"seed": seed})


# --- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "workers"), [("raise", 0), ("raise", 2), ("exit", 2), ("kill", 2), ("hang", 2)]
)
def test_one_fault_changes_nothing(fault, workers, healthy, tmp_path, caplog):
    timeout, marker = 1.0 if fault == "hang" else 60.0, tmp_path / "once"
    with faulty(workers, fault=fault, marker=str(marker), timeout=timeout) as pool:
        assert_same(stream(pool, ACTIONS), healthy)
        assert pool.recoveries == 1
        children = [int(pid) for pid in marker.read_text().split()]
        assert len(children) == (fault == "hang") and all_ended(children, 1)
    assert caplog.text.count("restarting its worker") == 1


def test_killed_workers_change_nothing(healthy):
    with faulty() as pool:
        obs, steps = pool.reset(), []
        for t, actions in enumerate(ACTIONS):
            if t % 8 == 3:
                os.kill(pool._shards[t % 2].pid, signal.SIGKILL)
            steps.append(pool.step(actions))
    np.testing.assert_array_equal(obs, healthy["first"][0])
    assert_same({"obs": np.array([s.obs for s in steps])}, {"obs": healthy["obs"]})
    assert pool.recoveries == 5


@pytest.mark.parametrize(
    ("fault", "cause", "workers"),
    [
        slow("raise", "raised ZeroDivisionError: a wheel came off (faulty_envs.py:", 0),
        ("raise", "raised ZeroDivisionError: a wheel came off (faulty_envs.py:", 2),
        ("exit", "died with exit code 3", 2),
        slow("kill", "died with exit code -9 (Killed)", 2),
        ("hang", "gave no answer within 0.3 s", 2),
    ],
)
def test_three_faults_in_a_row_raise(fault, cause, workers, healthy):
    timeout = 0.3 if fault == "hang" else 60.0
    with faulty(workers=workers, fault=fault, timeout=timeout) as pool:
        start = time.monotonic()
        with pytest.raises(HostFailure) as caught:
            stream(pool, ACTIONS)
        assert time.monotonic() - start < 15
        failure, message = caught.value, str(caught.value)
        assert pool.recoveries == 2
        snapshot = pool.snapshot()  # the state before the step that failed
        with pytest.raises(RuntimeError, match="closed"):
            pool.step(ACTIONS[0])
    (index,) = failure.indices
    ended = (healthy["terminated"][:, index]).nonzero()[0]
    lengths = np.diff(np.concatenate([[-1], ended]))  # of the episodes that ended
    episode = int(np.argmax(np.append(lengths, 99) > 5))  # the first one with a step 5
    seed = episode_seed(7, index, episode)
    assert failure.seeds == [seed] and cause in failure.cause
    where = f"environment {index} (episode seed {seed}, step 5)"
    assert message.startswith(f"Faulty-v0: {where} {cause}")
    assert ", 3 times in a row: " in message and "\n" not in message
    steps_done = int(snapshot["length"][index] + lengths[:episode].sum())
    with faulty(workers=0) as pool:
        pool.restore(snapshot)
        rest = stream(pool, ACTIONS[steps_done:], reset=False)
    assert_same({"obs": rest["obs"]}, {"obs": healthy["obs"][steps_done:]})


@pytest.mark.slow
def test_faults_in_make_and_reset_raise():
    with pytest.raises(HostFailure, match="environment 0, when made, raised OSError: no such map"):
        faulty(fault="make")
    with faulty(fault="reset") as pool, pytest.raises(HostFailure) as caught:
        stream(pool, ACTIONS)
    (index,) = caught.value.indices
    assert caught.value.seeds == [episode_seed(7, index, 1)], "the seed whose reset failed"
    assert "step 0) raised ValueError: no level for this seed" in str(caught.value)


def test_timeout_is_per_environment(healthy):
    with faulty(workers=1, timeout=0.6, fault="slow") as pool:  # four times .2 s
        np.testing.assert_array_equal(stream(pool, ACTIONS[:1])["obs"], healthy["obs"][:1])
        assert pool.recoveries == 0


def test_interrupted_step_keeps_the_state_before_it(healthy, monkeypatch):
    with faulty() as pool:
        stream(pool, ACTIONS[:10])
        with monkeypatch.context() as patch:
            patch.setattr(type(pool._shards[1]), "receive", Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                pool.step(ACTIONS[10])
        assert all(shard._process.returncode is not None for shard in pool._shards)
        snapshot = pool.snapshot()
    with faulty() as pool:
        pool.restore(snapshot)
        results = stream(pool, ACTIONS[10:], reset=False)
    np.testing.assert_array_equal(results["obs"], healthy["obs"][10:])


def test_wrong_arguments_raise():
    with pytest.raises(ValueError, match="cannot be pickled.*functools.partial"):
        HostPool(lambda: Faulty(), 2, 0, name="Faulty-v0")
    with pytest.raises(ValueError, match="num_envs must be >= 1"):
        HostPool(Faulty, 0, 0, name="Faulty-v0")
    with faulty(workers=0) as pool:
        with pytest.raises(RuntimeError, match="call reset or restore first"):
            pool.step(ACTIONS[0])
        pool.reset()
        with pytest.raises(ValueError, match=r"shape \(4,\), not \(4, 1\)"):
            pool.step(ACTIONS[0, :, 0])
        pool.step(ACTIONS[0])  # the calls that raised changed nothing


# --- ends -------------------------------------------------------------------------------------


def alive(pid):
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def all_ended(pids, seconds):
    """Whether all processes end within `seconds`."""
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def start_owner(body, **faults):
    """Starts a process that opens a pool, prints the ids of its workers, and runs `body`."""
    program = f"""
        import functools, signal, sys, time
        from envs.host.pool import HostPool
        from tests.envs.faulty_envs import Faulty
        make = functools.partial(Faulty, **{faults!r})
        pool = HostPool(make, 4, 7, name="Faulty-v0", workers=2)
        pool.reset()
        print(*(shard.pid for shard in pool._shards), flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program) + body],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return process, [int(pid) for pid in process.stdout.readline().split()]


@pytest.mark.parametrize("fault", ["", "hang"])
def test_workers_and_their_children_end_when_the_caller_is_killed(fault, tmp_path):
    marker = tmp_path / "child"
    body = "pool.step([[0.0]] * 4)" if fault else "signal.pause()"
    process, pids = start_owner(body, fault=fault, at=0, marker=str(marker))
    assert len(pids) == 2
    while fault and not (marker.exists() and marker.read_text()):
        time.sleep(0.02)
    pids += [int(marker.read_text())] if fault else []
    assert all(map(alive, pids))
    process.kill()
    process.communicate()
    assert all_ended(pids, 8 if fault else 2)


def test_workers_ignore_interrupts(healthy):
    body = """
interrupts = []
signal.signal(signal.SIGINT, lambda *_: interrupts.append(1))
print("ready", flush=True)
while not interrupts:
    time.sleep(0.05)
pool.step([[0.0]] * 4)
print("recoveries", pool.recoveries, flush=True)
pool.close()
"""
    process, pids = start_owner(body)
    assert process.stdout.readline() == "ready\n"
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "recoveries 0\n"
    assert all_ended(pids, 1) and process.returncode == 0


def test_close_closes_environments_and_ends_workers(tmp_path):
    marker = tmp_path / "closed"
    with faulty(fault="close", marker=str(marker)) as pool:
        pool.reset()
        pids = [shard.pid for shard in pool._shards]
        assert not marker.exists()
    assert all_ended(pids, 1) and marker.exists()
    pool.close()  # closing again does nothing


@pytest.mark.parametrize("workers", [0, 2])
def test_remade_pool_equals_a_new_pool(workers):
    """The worker processes stay the same ones."""
    make_cartpole, make_acrobot = (
        partial(gymnasium.make, name) for name in ("CartPole-v1", "Acrobot-v1")
    )
    open_pool = partial(HostPool, num_envs=3, seed=5, name="pool", workers=workers)
    with open_pool(make_acrobot) as pool, open_pool(make_cartpole) as fresh:
        pool.reset()
        pool.step(np.zeros(3, int))
        processes = [getattr(shard, "_process", shard) for shard in pool._shards]
        pool.remake(make_cartpole)
        np.testing.assert_array_equal(pool.reset(), fresh.reset())
        actions = np.ones((60, 3), int)
        assert_same(stream(pool, actions, reset=False), stream(fresh, actions, reset=False))
        assert [getattr(shard, "_process", shard) for shard in pool._shards] == processes
        pool.remake(make_cartpole, seed=7)
        obs = pool.reset()
        assert not np.array_equal(obs, fresh.reset())
        fresh.remake(make_cartpole, seed=7)
        np.testing.assert_array_equal(fresh.reset(), obs)
        with pytest.raises(ValueError, match="another seed"):
            pool.remake(make_cartpole, seed=8)
            pool.restore(fresh.snapshot())
