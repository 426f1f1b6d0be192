"""Rollouts of a host pool: equal to its single steps, wherever stepped, also after faults."""

import errno
import os
import signal
from functools import partial

import gymnasium
import numpy as np
import pytest

from envs.host import stepping
from envs.host.fault import HostFailure
from envs.host.make import make_env
from envs.host.policy import LARGEST_PRODUCT, TanhPolicy, executed, is_small
from envs.host.pool import HostPool
from envs.host.results import running
from tests.envs.faulty_envs import Faulty

SEEDS, NUM_ENVS, STEPS = 2, 3, 60
CARTPOLE = partial(make_env, "CartPole-v1", force=20.0)
PENDULUM = partial(make_env, "Pendulum-v1")


def random_policy(inputs, outputs, discrete, seed=0):
    """Untrained policies of SEEDS seeds, whitened, with their noise [T, S, B, A]."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.standard_normal(shape, np.float32)

    sizes = (inputs, 16, 16, outputs)
    layers = [
        (draw(SEEDS, m, n) / np.float32(np.sqrt(m)), draw(SEEDS, 1, n))
        for m, n in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    mean, scale = draw(SEEDS, 1, inputs), 1 + np.abs(draw(SEEDS, 1, inputs))
    policy = TanhPolicy(tuple(layers), discrete, mean, scale)
    return policy, draw(STEPS, SEEDS, NUM_ENVS, outputs)


def open_pool(make, workers, **options):
    return HostPool(make, SEEDS * NUM_ENVS, 7, name="pool", workers=workers, **options)


def faulty(workers, timeout=60.0, **fault):
    return open_pool(partial(Faulty, **fault), workers, timeout=timeout)


def never_stop():
    return False


def one_by_one(pool, policy, noise, obs):
    """Arrays [T, S x B, ...] of `HostRollout`, from single steps of the pool."""
    rows = []
    for t in range(len(noise)):
        action = policy.act(obs.reshape(SEEDS, NUM_ENVS, -1), noise[t])
        action = action.reshape(-1, *action.shape[2:])
        step = pool.step(executed(action))
        rows.append((obs, action, step.next_obs, step.reward, step.terminated, step.truncated))
        obs = step.obs
    return [*map(np.stack, zip(*rows, strict=True)), obs]


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


# --- equality ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "policy", "workers"),
    [
        (CARTPOLE, random_policy(4, 2, True), 0),
        (CARTPOLE, random_policy(4, 2, True), 4),  # borders within a seed
        (PENDULUM, random_policy(3, 1, False), 2),
    ],
)
def test_rollout_equals_single_steps_and_is_resumed_in_any_way(make, policy, workers):
    policy, noise = policy
    with open_pool(make, 0) as pool, open_pool(make, workers) as other:
        expected = one_by_one(pool, policy, noise, pool.reset())
        other.reset()
        rollout = other.rollout(policy, noise, STEPS, never_stop)
        assert_same(rollout, expected)
        ended = rollout.terminated | rollout.truncated
        changed = (rollout.next_obs[:-1] != rollout.obs[1:]).any(-1)
        np.testing.assert_array_equal(changed, ended[:-1], "only resets separate successors")
        assert make is PENDULUM or (ended.sum(0) > 1).all()
        snapshot = pool.snapshot()
        assert_same(other.snapshot().values(), snapshot.values())
        assert snapshot["length"].any()
        again = pool.rollout(policy, noise, STEPS, never_stop)
        other.restore(snapshot)
        assert_same(other.rollout(policy, noise, STEPS, never_stop), again)
        assert_same(one_by_one(other, policy, noise, other.restore(snapshot)), again)


@pytest.mark.parametrize("workers", [0, 4])
def test_only_live_environments_are_stepped_to_the_end_of_their_episode(workers):
    policy, _ = random_policy(4, 2, True)
    live = np.array([True, True, False, True, True, True])
    with open_pool(CARTPOLE, workers) as pool:
        first = pool.reset()
        rollout = pool.rollout(policy, None, STEPS, never_stop, live)
        ended = rollout.terminated | rollout.truncated
        np.testing.assert_array_equal(ended.sum(0), live)
        alive = running(live, ended)
        assert not rollout.reward[~alive].any() and rollout.reward[alive].all()
        length = alive.sum(0)
        np.testing.assert_array_equal(pool.snapshot()["length"], length)
        for t, i in zip(length, range(len(live)), strict=True):
            assert (rollout.next_obs[max(t - 1, 0) :, i] == rollout.last_obs[i]).all()
        np.testing.assert_array_equal(rollout.last_obs[2], first[2])
        pool.restore(pool.snapshot())  # what has ended is replayed to its end
        pool.reset()
        left = live.copy()
        for t in range(length.max()):
            step = pool.step(rollout.action[t], left)
            assert_same((step.next_obs, step.reward), (rollout.next_obs[t], rollout.reward[t]))
            left &= ~(step.terminated | step.truncated)
        assert not left.any()


def test_products_of_the_same_rows_give_the_same_bits():
    """Bits do not depend on how many seeds are multiplied in one call, nor on other rows."""
    policy, noise = random_policy(4, 2, False)
    obs = np.random.default_rng(1).standard_normal((SEEDS, NUM_ENVS, 4), np.float32)
    both = policy.act(obs, noise[0])
    for k in range(SEEDS):
        alone = policy.of_seeds(slice(k, k + 1)).act(obs[k : k + 1], noise[0][k : k + 1])
        assert alone.tobytes() == both[k : k + 1].tobytes()
    other = obs.copy()
    other[:, 1:] = 0
    assert policy.act(other, noise[0])[:, :1].tobytes() == both[:, :1].tobytes()
    assert is_small(4, 64, 2, 256) and not is_small(4, 64, 2, LARGEST_PRODUCT // 64**2 + 1)


# --- faults -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy():
    policy, noise = random_policy(3, 1, False)
    with faulty(0) as pool:
        pool.reset()
        return policy, noise, pool.rollout(policy, noise, STEPS, never_stop), pool.snapshot()


@pytest.mark.parametrize(
    ("fault", "workers"), [("raise", 0), ("raise", 2), ("exit", 2), ("kill", 2), ("hang", 2)]
)
def test_one_fault_changes_nothing(fault, workers, healthy, tmp_path):
    policy, noise, expected, snapshot = healthy
    timeout = 1.0 if fault == "hang" else 60.0
    with faulty(workers, timeout, fault=fault, marker=str(tmp_path / "once")) as pool:
        pool.reset()
        assert_same(pool.rollout(policy, noise, STEPS, never_stop), expected)
        assert pool.recoveries == 1
        assert_same(pool.snapshot().values(), snapshot.values())


def test_killed_worker_changes_nothing(healthy):
    policy, noise, expected, _ = healthy
    with faulty(2) as pool:
        pool.reset()
        parts = []
        for begin in range(0, STEPS, 20):
            os.kill(pool._shards[1].pid, signal.SIGKILL)
            parts.append(pool.rollout(policy, noise[begin : begin + 20], 20, never_stop))
        assert pool.recoveries == 3
    assert_same([np.concatenate(x) for x in list(zip(*parts, strict=True))[:-1]], expected[:-1])


@pytest.mark.parametrize(("fault", "workers"), [("raise", 0), ("raise", 2), ("exit", 2)])
def test_three_faults_in_a_row_name_the_step(fault, workers, healthy):
    policy, noise, *_ = healthy
    with faulty(workers, fault=fault, at=5) as pool:
        pool.reset()
        before = pool.snapshot()
        with pytest.raises(HostFailure, match=r"episode seed \d+, step 5\).*3 times in a row"):
            pool.rollout(policy, noise, STEPS, never_stop)
        assert_same(pool.snapshot().values(), before.values())


class Infinite(gymnasium.Env):
    """Its reward or observation is infinite in the fourth step."""

    observation_space = Faulty.observation_space
    action_space = Faulty.action_space

    def __init__(self, reward=0.0, number=0.0):
        self.values = reward, number

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(3), {}

    def step(self, action):
        self.steps += 1
        reward, number = self.values if self.steps == 4 else (0.0, 0.0)
        return np.array([0.0, number, 0.0]), reward, False, False, {}


@pytest.mark.parametrize(
    ("kind", "what"), [({"reward": 1e39}, "reward"), ({"number": np.nan}, "observation")]
)
def test_number_that_is_not_finite_is_named_where_it_enters(kind, what, healthy):
    policy, noise, *_ = healthy
    with open_pool(partial(Infinite, **kind), 0) as pool:
        pool.reset()
        place = (
            rf"environment 0 \(episode seed \d+, step 3\) returned {what} (1e\+39|nan), expected"
        )
        with pytest.raises(HostFailure, match=place):
            pool.rollout(policy, noise, STEPS, never_stop)


@pytest.mark.parametrize("workers", [0, 2])
def test_stop_ends_a_rollout_and_keeps_the_state_before_it(workers, healthy):
    policy, noise, *_ = healthy
    polls = []

    def stopped():
        polls.append(1)
        return len(polls) == 3

    fault = {"fault": "slow"} if workers else {}
    with faulty(workers, **fault) as pool:
        pool.reset()
        before = pool.snapshot()
        assert pool.rollout(policy, noise, STEPS, stopped) is None
        assert pool.closed and len(polls) == 3
        assert_same(pool.snapshot().values(), before.values())


def test_hang_in_this_process_is_one_line_with_its_remedy(healthy):
    policy, noise, *_ = healthy
    with faulty(0, timeout=0.3, fault="hang_here") as pool:
        pool.reset()
        with pytest.raises(HostFailure) as caught:
            pool.rollout(policy, noise, STEPS, never_stop)
    message = str(caught.value)
    assert "step 5) gave no answer within 0.3 s: it cannot be ended here" in message
    assert "--workers 1" in message and "\n" not in message


def test_memory_that_is_full_is_one_line_with_its_remedy(healthy, monkeypatch):
    policy, noise, *_ = healthy
    allocate = os.posix_fallocate

    def full(file, offset, size):
        if size > 4096:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(file, offset, size)

    with faulty(1) as pool:
        pool.reset()
        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(HostFailure) as caught:
            pool.rollout(policy, noise, STEPS, never_stop)
    message = str(caught.value)
    assert "has no room for its" in message and "No space left on device" in message
    assert "TMPDIR" in message and "workers=0" in message and "\n" not in message


def test_more_workers_than_environments_are_refused():
    with pytest.raises(ValueError, match="pool: 7 workers for 6 environments; use fewer"):
        faulty(7)


# --- where environments are stepped -------------------------------------------------------------


def host(**changes):
    """What `envs.host.stepping` reads of a `HostEnv`."""
    from types import SimpleNamespace

    values = {
        "id": "CartPole-v1",
        "constructor": None,
        "workers": None,
        "kwargs": {},
        "image": None,
        "timeout": 60.0,
    }
    return SimpleNamespace(**{**values, "reproducible": True, **changes})


def test_fast_environments_of_gymnasium_are_stepped_here_and_all_others_in_workers(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    seconds = stepping.measured_seconds(host())
    assert 1e-7 < seconds < 1e-2
    assert stepping.choose_workers(host(), 8, 1e-5) == 0
    assert stepping.choose_workers(host(), 64, 1e-5) == 2
    assert "8 environments are stepped in this process (a step of one takes 10 us)" in (
        stepping.stepping_line(host(), 8, 1e-5)
    )
    for other in (host(constructor=Faulty), host(id="tests.envs.unusual_envs:Strange/Faulty-v0")):
        assert stepping.measured_seconds(other) is None
        assert stepping.choose_workers(other, 8, None) == 2
        assert "2 worker processes (as for all but" in stepping.stepping_line(other, 8, None)
    for workers in (0, 1):
        assert stepping.measured_seconds(host(workers=workers)) is None
        assert stepping.choose_workers(host(workers=workers), 8, None) == workers
    assert "(as requested)" in stepping.stepping_line(host(workers=1), 8, None)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert stepping.choose_workers(host(), 64, 1e-5) == 0
