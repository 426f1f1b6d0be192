"""Strange environments give the right values, or are refused in one line that helps."""

import sys
import textwrap
from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs import load_suite
from envs.host import probe as probing
from envs.host.action_buffer import LONGEST
from envs.host.fault import HostFailure
from envs.host.known import check_env, env_facts
from envs.host.make import make_env
from envs.host.pool import HostPool
from envs.host.probe import probe
from envs.host.suite import host_suite
from envs.shift import ramp
from tests.envs import strange
from tests.refusal import refused

KINDS = {*strange.REFUSED, *strange.ACCEPTED}


def probed(kind: type, **options) -> None:
    """Probes a kind in this process."""
    make = partial(make_env, kind.__name__, kind, check_values=True, **options)
    make().close()
    probe(make, kind.__name__, workers=0, **options)


# --- kinds ------------------------------------------------------------------------------------


def test_there_are_many_kinds():
    assert len(KINDS) + len(strange.ACTIONS) >= 50


@pytest.mark.parametrize("kind", strange.REFUSED, ids=lambda kind: kind.__name__)
def test_strange_kind_is_refused_in_one_line(kind):
    with refused(ValueError, match=strange.REFUSED[kind]) as caught:
        probed(kind)
    assert str(caught.value).startswith(kind.__name__)


@pytest.mark.parametrize("kind", strange.ACCEPTED, ids=lambda kind: kind.__name__)
def test_odd_but_valid_kind_is_accepted(kind):
    probed(kind)


@pytest.mark.parametrize(("space", "rows"), strange.ACTIONS, ids=str)
def test_action_is_mapped_to_its_space(space, rows):
    env = make_env("Acting", strange.acting("Acting", space))
    env.reset(seed=0)
    for action, expected in rows:
        env.step(np.asarray(action, np.float32 if isinstance(space, spaces.Box) else np.int64))
        given = env.unwrapped.action
        assert space.contains(given), given
        np.testing.assert_allclose(given, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"terminated": None}, "returned terminated None, expected True or False"),
        ({"reward": "1"}, "returned reward '1', expected one number"),
        ({"reward": np.inf}, "returned reward inf, expected a finite number"),
        ({"reward": 1e40}, r"returned reward 1e\+40, expected a finite number"),
        ({"obs": np.array([0, np.nan], np.float32)}, "returned observation nan, expected a finite"),
    ],
)
def test_faults_are_caught_in_training_where_they_enter(fault, message):
    make = partial(make_env, "Late", strange.returning("Late", **fault))
    with HostPool(make, 2, 0, name="Late", workers=0) as pool:
        pool.reset()
        place = r"environment 0 \(episode seed \d+, step 2\) "
        with pytest.raises(HostFailure, match=place + message):
            for _ in range(9):
                pool.step(np.zeros(2, int))
        assert pool.recoveries == 0


# --- the probe --------------------------------------------------------------------------------


def test_probe_runs_in_a_worker_process_when_a_suite_is_made():
    kind = strange.Clock
    with pytest.raises(ValueError, match="gave another reward"):
        load_suite(kind)
    suite = load_suite(kind, [], reproducible=False)
    assert suite.env.workers is None and not suite.env.reproducible


def test_slow_environments_are_probed_for_a_limited_time(monkeypatch):
    monkeypatch.setattr(probing, "SECONDS", 0.0)
    probed(strange.Endless)


def test_what_is_not_reproducible_is_resumed_with_a_word(caplog):
    make = partial(make_env, "Clock", strange.Clock, reproducible=False)
    with HostPool(make, 2, 0, name="Clock", workers=0) as pool:
        pool.reset()
        for _ in range(4):
            pool.step(np.zeros(2, int))
        snapshot = pool.snapshot()
    assert not caplog.text
    with HostPool(make, 2, 0, name="Clock", workers=0) as pool:
        assert (pool.restore(snapshot) == 0).all()  # the first observation of an episode
        assert not pool.snapshot()["length"].any()
        pool.step(np.zeros(2, int))
    assert "Clock is not reproducible: its episodes under way start anew" in caplog.text


class FailsOnce(strange.Clock):
    """Raises at its fourth step, once a process."""

    fails = True

    def step(self, action):
        if self.steps == 3 and FailsOnce.fails:
            FailsOnce.fails = False
            raise RuntimeError("the engine is gone")
        return super().step(action)


def test_worker_that_fails_cuts_off_episodes_that_cannot_be_replayed():
    make = partial(make_env, "Clock", FailsOnce, reproducible=False)
    with HostPool(make, 2, 0, name="Clock", workers=0) as pool:
        last = pool.reset()
        for _ in range(3):
            last = pool.step(np.zeros(2, int)).obs
        cut = pool.step(np.zeros(2, int))
        assert cut.truncated.all() and not cut.terminated.any() and not cut.reward.any()
        assert (cut.next_obs == last).all() and (cut.obs == 0).all()
        assert pool.recoveries == 1
        after = pool.step(np.zeros(2, int))
        np.testing.assert_allclose(after.next_obs[:, 0], 1 / 7, rtol=1e-6)
        assert (pool.snapshot()["length"] == 1).all()


# --- sizes ------------------------------------------------------------------------------------


def test_values_of_mixed_observations():
    env = make_env("Mixed", strange.Mixed)
    obs, _ = env.reset(seed=0)
    assert obs.dtype == np.float32 and obs.tolist() == [0, 7, 0, 1, 0, 0, 0, 0, 0, 1]
    assert env.step(0)[0].tolist() == [0, 7, 1, 0, 1, 0, 0, 0, 0, 1]


def test_unit_of_a_constant_component_is_one():
    assert host_suite("Constant", strange.Constant, (), workers=0).env.obs_scale == (2.0, 1.0)


def test_endless_episodes_are_cut(caplog):
    gymnasium.register("Strange/Endless9-v0", strange.Endless, max_episode_steps=10**9)
    assert host_suite("Strange/Endless9-v0", None, (), workers=0).env.horizon == LONGEST
    assert "Strange/Endless9-v0: episodes are truncated after 100000 steps" in caplog.text


def make_windy(wind: float = 0.0) -> gymnasium.Env:
    return (strange.returning("Windy", reward=None) if wind else strange.Small)()


def test_fault_under_a_shift_is_named():
    windy = ramp("wind", "dynamics", "params.wind", to=1.0)
    with pytest.raises(ValueError, match="Windy: under shift wind it returned reward None"):
        host_suite("Windy", make_windy, [windy], workers=0)


# --- ids, files and arguments -----------------------------------------------------------------

OWN = """
import gymnasium
from tests.envs.strange import Small
class Own(Small):
    def __init__(self, size=1, wind: float = 0.5):
        self.size, self.wind = size, wind
    def pay(self):
        return self.size + self.wind
def nothing():
    pass
gymnasium.register("Pendulum-v1", Own, max_episode_steps=9)
gymnasium.register("MiniGridLike-v0", Own, max_episode_steps=9)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Folder of a user's module that registers the ids of others; the ids are restored."""
    (tmp_path / "own_strange.py").write_text(textwrap.dedent(OWN))
    (tmp_path / "broken_strange.py").write_text("import os\nfrom os import no_such_name\n")
    (tmp_path / "exits_strange.py").write_text("import sys\nsys.exit(5)\n")
    (tmp_path / "unread_strange.py").write_text("import os\nclass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(gymnasium.registry, "Pendulum-v1", gymnasium.registry["Pendulum-v1"])
    yield tmp_path
    sys.modules.pop("own_strange", None)
    gymnasium.registry.pop("MiniGridLike-v0", None)


def first_reward(suite) -> float:
    env = suite.env.maker(suite.world)()
    env.reset(seed=0)
    return env.step(0)[1]


def test_ids_that_a_users_module_registers_are_the_users(own):
    for id in ("own_strange:Pendulum-v1", "own_strange:MiniGridLike-v0", "Pendulum-v1"):
        suite = load_suite(id, kwargs={"size": 3})
        assert suite.env.spec.num_actions == 2 and suite.env.horizon == 9
        assert first_reward(suite) == 3.5
        assert [shift.name for shift in suite.shifts] == ["noise", "dropout", "flip", "delay"]


def test_class_in_a_file_with_arguments(own):
    entry = f"{own / 'own_strange.py'}:Own"
    check_env(entry)
    for wind in (0.25, 1):  # an integer is as good for a setter
        suite = load_suite(entry, [], kwargs={"size": 2, "wind": wind})
        assert (suite.name, suite.env.workers, suite.world.params) == ("Own", None, {"wind": wind})
        assert first_reward(suite) == 2 + wind


@pytest.mark.parametrize(
    ("env", "kwargs", "message"),
    [
        ("{own}/none.py:Own", None, "no such file .*none.py; write it as path/to/file.py:Class"),
        ("{own}/own_strange.py:Else", None, "class or function 'Else'; it has Small, Own, nothing"),
        ("{own}/own_strange.py", None, "is a file: write /.*/own_strange.py:Class, for a cl"),
        ("{own}/own_strange.py:nothing", None, ":nothing returned None, which is no environment"),
        ("{own}/exits_strange.py:Own", None, r"\(SystemExit: 5, exits_strange.py:2\); fix it"),
        ("exits_strange:Own-v0", None, r"\(SystemExit: 5, exits_strange.py:2\); fix it"),
        ("{own}/unread_strange.py:Own", None, r"SyntaxError: .*unread_strange.py, line 2\)\); fix"),
        ("{own}/own_strange.py:Own", {"wind": "big"}, "kwargs have wind='big', expected a number"),
        ("{own}/own_strange.py:Own", {"wind": None}, "kwargs have wind=None, expected a number"),
        ("{own}/own_strange.py:Own", {"wind": np.nan}, "kwargs have wind=nan, expected a number"),
        ("{own}/own_strange.py:Own", {"wind": True}, "kwargs have wind=True, expected a number"),
        ("{own}/own_strange.py:Own", {"render_mode": None}, "; let it accept render_mode=None"),
        ("{own}/broken_strange.py:Own", None, r"broken_strange.py:2\); install what it imports"),
        ("broken_strange:Own-v0", None, r"cannot import name .*broken_strange.py:2\); install"),
        ("no_such_strange:Own-v0", None, "no_such_strange is missing: pip install it, or add its"),
        ("{own}/own_strange.py:Own", {"sise": 1}, r"'sise'.*; correct kwargs"),
        ("CartPole", {"size": 1}, "CartPole is made without kwargs"),
        ("CartPole-v1", {"size": 1}, r"'size'.*; correct kwargs"),
        (strange.Small(), {"size": 1}, "exists already and takes no kwargs"),
        ("CartPole-v1", {"id": "Pendulum-v1"}, "kwargs cannot have 'id'"),
        ("CartPole-v1", {"reproducible": False}, "kwargs cannot have 'reproducible'"),
        ("CartPole-v1", {"force": None}, "CartPole-v1: kwargs have force=None, expected a number"),
        ("CartPole-v1", {"force": "strong"}, "kwargs have force='strong', expected a number"),
        (strange.NotClosed, None, r"NotClosed: its close fails \(OSError: the engine is gone, "),
        (strange.Broken, None, r"unwrapped fails \(OSError: the engine is gone, strange.py:\d+\);"),
        (strange.NeedsSize, None, r"required positional argument: 'size'\); give load_suite"),
        (strange.NeedsSize, None, r"kwargs={\"size\": \"...\"}\) or --env-kwargs "),
    ],
)
def test_wrong_ids_files_and_arguments_are_refused(env, kwargs, message, own):
    env = env.format(own=own) if isinstance(env, str) else env
    with refused(ValueError, match=message) as caught:
        load_suite(env, kwargs=kwargs)
    assert "hosts" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers=-1, expected a whole number of at least 0, or None"),
        ({"workers": 1.5}, "workers=1.5, expected a whole"),
        ({"workers": "2"}, "workers='2', expected a whole"),
        ({"workers": True}, "workers=True, expected a whole"),
        ({"shifts": 3}, r"shifts=3, expected those of envs.shift in a list, such as \[ramp"),
        ({"shifts": "noise"}, "shifts='noise', expected those of envs.shift"),
        ({"shifts": ["noise"]}, r"shifts=\('noise',\), expected those of envs.shift"),
        ({"kwargs": [1]}, r"kwargs=\[1\], expected a dict of arguments by name"),
        ({"kwargs": "size=8"}, "kwargs='size=8', expected a dict"),
        ({"kwargs": {1: 2}}, "kwargs={1: 2}, expected a dict"),
        ({"reproducible": "no"}, "reproducible='no', expected True or False"),
    ],
)
@pytest.mark.parametrize("env", ["CartPole", strange.Small])
def test_options_of_a_wrong_type_are_refused(env, options, message):
    with refused(ValueError, match=f"^load_suite: {message}"):
        load_suite(env, **options)


def test_a_suite_with_shifts_has_severities():
    with pytest.raises(ValueError, match="suite CartPole has shifts and no severities: give some"):
        replace(load_suite("CartPole"), severities=())


def test_arguments_of_known_ids_are_set_and_can_still_be_shifted():
    suite = load_suite("CartPole-v1", kwargs={"force": 5, "max_episode_steps": 60}, workers=0)
    assert (suite.world.params["force"], suite.env.horizon) == (5.0, 60)
    assert suite.shifts[0].name == "force"


def test_babyai_drops_its_mission_with_a_word(caplog):
    pytest.importorskip("minigrid")
    suite = load_suite("minigrid:BabyAI-GoToRedBall-v0", [], image="numbers", workers=0)
    assert suite.env.spec.obs_dim == 147 and suite.env.goal == 0.01
    assert "the text `mission` of its observations is dropped" in caplog.text
    assert not env_facts("CartPole-v1").drops_text
