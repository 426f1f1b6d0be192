"""Recorded data as transitions: arrays, episodes, and datasets of Minari."""

import sys
from types import ModuleType, SimpleNamespace

import jax
import numpy as np
import pytest

import affect
from affect import Blend, Spec
from tests.affect.bridges.loop_envs import Slope
from tests.refusal import refused

LENGTHS = (3, 2, 4)


def episode(length, start=0.0, end="terminations"):
    """One episode by Minari's names: observations [length + 1, 1] that count from `start`."""
    flags = {name: np.zeros(length, bool) for name in ("terminations", "truncations")}
    if end:
        flags[end][-1] = True
    return {
        "observations": start + np.arange(length + 1.0)[:, None],
        "actions": np.arange(length) % 2,
        "rewards": np.ones(length),
        "infos": {"harm": np.arange(length + 1)},
        **flags,
    }


EPISODES = [
    episode(length, 10.0 * i, end)
    for i, (length, end) in enumerate(
        zip(LENGTHS, ("terminations", "truncations", None), strict=True)
    )
]


def flat():
    """The same episodes as D4RL has them."""
    joined = {
        name: np.concatenate([one[name] for one in EPISODES])
        for name in ("actions", "rewards", "terminations", "truncations")
    }
    joined["truncations"][-1] = True
    joined["observations"] = np.concatenate([one["observations"][:-1] for one in EPISODES])
    joined["next_observations"] = np.concatenate([one["observations"][1:] for one in EPISODES])
    names = {"terminations": "terminals", "truncations": "timeouts"}
    return {names.get(name, name): array for name, array in joined.items()}


def dataset():
    """A dataset with Minari's interface."""
    spaces = pytest.importorskip("gymnasium").spaces
    return SimpleNamespace(
        iterate_episodes=lambda: iter([SimpleNamespace(**one) for one in EPISODES]),
        observation_space=spaces.Box(-99, 99, (1,)),
        action_space=spaces.Discrete(2),
    )


@pytest.mark.parametrize("data", [EPISODES, flat(), dataset], ids=["episodes", "d4rl", "minari"])
def test_episodes_follow_one_another(data):
    batch = affect.transitions_from(data() if callable(data) else data)
    assert batch.obs.shape == (9, 1, 1)
    assert batch.obs[:, 0, 0].tolist() == [0, 1, 2, 10, 11, 20, 21, 22, 23]
    assert (batch.next_obs - batch.obs == 1).all()
    assert np.flatnonzero(batch.first).tolist() == [0, 3, 5]
    assert np.flatnonzero(batch.terminated).tolist() == [2]
    assert np.flatnonzero(batch.truncated).tolist() == [4, 8]  # the recording stops at the last
    assert batch.action[:, 0].tolist() == [0, 1, 0, 0, 1, 0, 1, 0, 1] and batch.info == {}


def test_parts_side_by_side_are_cut_as_by_a_time_limit():
    batch = affect.transitions_from(EPISODES, num_envs=2, info=("harm",))
    assert batch.obs[..., 0].T.tolist() == [[0, 1, 2, 10], [11, 20, 21, 22]]
    assert batch.first.T.tolist() == [[True, False, False, True], [True, True, False, False]]
    assert batch.truncated.T.tolist() == [[False, False, False, True], [True, False, False, False]]
    assert batch.info["harm"].T.tolist() == [[1, 2, 3, 1], [2, 1, 2, 3]]  # not that of the reset


@pytest.mark.slow
def test_a_head_is_trained_on_recorded_data():
    batch = affect.transitions_from(EPISODES, num_envs=3)
    blend = Blend(slope=(1.0, Slope))
    state = blend.init(jax.random.key(0), Spec(1, 2), 3)
    _, after, metrics = jax.jit(blend.update)(state, batch)
    assert np.isfinite(metrics["slope/error"]) and metrics["heads/skipped"] == 0
    assert after.heads["slope"].steps == 2


def test_spaces_map_observations_and_actions():
    spaces = pytest.importorskip("gymnasium").spaces
    one = episode(2) | {"observations": np.array([0, 2, 1]), "actions": np.array([[4.0], [0.0]])}
    batch = affect.transitions_from(
        [one], observation_space=spaces.Discrete(3), action_space=spaces.Box(0, 4, (1,))
    )
    assert batch.obs[:, 0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert batch.action[:, 0].tolist() == [[1], [-1]]
    place = spaces.Dict(a=spaces.Box(-9, 9, (1,)), b=spaces.Box(-9, 9, (1,)))
    one = episode(2) | {"observations": {"a": np.ones((3, 1)), "b": np.zeros((3, 1))}}
    batch = affect.transitions_from([one], observation_space=place, obs_keys=("a",))
    assert (batch.obs == 1).all() and batch.obs.shape == (2, 1, 1)


def test_a_dataset_is_loaded_by_its_own_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with refused(ImportError, "needs minari", "pip install 'minari[hdf5]>=0.5'"):
        affect.transitions_from("D4RL/pen/human-v2")
    minari, made = ModuleType("minari"), dataset()
    minari.__version__, minari.load_dataset = "0.5.3", {"mine-v0": made}.get
    monkeypatch.setitem(sys.modules, "minari", minari)
    assert affect.transitions_from("mine-v0").obs.shape == (9, 1, 1)


def without(data, name):
    return {key: value for key, value in data.items() if key != name}


ONE = EPISODES[0]
REFUSED = [
    (lambda: affect.transitions_from(3), ["data is 3", "a dict of arrays"]),
    (lambda: affect.transitions_from([]), ["no episode"]),
    (lambda: affect.transitions_from([without(ONE, "rewards")]), ["no reward or rewards"]),
    (lambda: affect.transitions_from(ONE, num_envs=0), ["num_envs is a whole number"]),
    (lambda: affect.transitions_from(ONE, num_envs=4), ["3 steps cannot be divided into 4"]),
    (lambda: affect.transitions_from(ONE, info=("body",)), ["no 'body'", "harm"]),
    (
        lambda: affect.transitions_from(without(flat(), "next_observations")),
        ["observations are of 9 steps", "give those, or one observation more"],
    ),
    (
        lambda: affect.transitions_from(flat() | {"timeouts": np.zeros(9, bool)}),
        ["after step 4 comes another observation", "mark where episodes are cut"],
    ),
    (lambda: affect.transitions_from([ONE | {"rewards": np.ones(2)}]), ["rewards are float"]),
    (lambda: affect.transitions_from([ONE | {"actions": np.ones(2, int)}]), ["actions are of 2"]),
    (
        lambda: affect.transitions_from([ONE | {"terminations": np.ones(3, bool)}]),
        ["ends before its last step"],
    ),
    (
        lambda: affect.transitions_from([ONE | {"observations": np.arange(4)}]),
        ["expected numbers [T, D]", "observation_space"],
    ),
    (
        lambda: affect.transitions_from([ONE | {"actions": np.full((3, 1), 2.0)}]),
        ["[T, A] in [-1, 1]", "action_space"],
    ),
]


@pytest.mark.parametrize(("call", "words"), REFUSED, ids=[words[0] for _, words in REFUSED])
def test_wrong_data_is_refused_in_one_line(call, words):
    with refused(ValueError, *words):
        call()
