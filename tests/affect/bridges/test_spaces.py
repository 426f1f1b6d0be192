"""Observations and actions of gymnasium's spaces as the numbers that heads read."""

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium import spaces  # noqa: E402

from affect.bridges.optional import check_library, version_numbers  # noqa: E402
from affect.bridges.spaces import ActionReader, ObsReader, info_keys, spec_of  # noqa: E402
from tests.refusal import refused  # noqa: E402

BOX = spaces.Box(-1, 1, (2, 3), np.float64)
SPACES = [
    BOX,
    spaces.Box(0, 255, (2, 2, 1), np.uint8),
    spaces.Discrete(4, start=-1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete([[2, 2], [3, 2]]),
    spaces.MultiBinary(3),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_observations_are_flattened_as_gymnasium_does(space):
    read = ObsReader(space)
    space.seed(0)
    batch = [space.sample() for _ in range(5)]
    expected = np.stack([spaces.flatten(space, obs) for obs in batch]).astype(np.float32)
    vectors = read(np.stack(batch))
    assert vectors.dtype == np.float32 and read.size == expected.shape[1]
    np.testing.assert_array_equal(vectors, expected)
    np.testing.assert_array_equal(read.one(batch[0]), expected[:1])


def test_keys_of_a_dict_are_chosen_in_order():
    space = spaces.Dict(a=spaces.Discrete(2), b=BOX, c=spaces.Text(3))
    read = ObsReader(space, ("b", "a"))
    obs = {"a": np.array([1]), "b": np.ones((1, 2, 3)), "c": np.array(["xyz"])}
    np.testing.assert_array_equal(read(obs), [[1, 1, 1, 1, 1, 1, 0, 1]])


def test_vectors_are_copies():
    batch = np.ones((1, 2, 3), np.float32)
    vectors = ObsReader(spaces.Box(-1, 1, (2, 3), np.float32))(batch)
    batch[:] = 5
    assert (vectors == 1).all()


def test_actions_are_counted_or_lie_in_the_unit_box():
    assert ActionReader(spaces.Discrete(3, start=2))([2, 4]).tolist() == [0, 2]
    several = ActionReader(spaces.MultiDiscrete([101, 100], start=[5, 0]))
    assert several([[5, 2], [6, 101]]).tolist() == [[0, 2], [1, 99]]
    assert several.action_sizes == (101, 100) and not several.num_actions
    assert ActionReader(spaces.MultiBinary((2, 1)))([[[1], [0]]]).tolist() == [[1, 0]]
    box = spaces.Box(np.array([-2.0, 0.0, -np.inf]), np.array([2.0, 1.0, np.inf]), dtype=np.float32)
    np.testing.assert_allclose(
        ActionReader(box)([[1.0, 0.5, -1.0], [9.0, 1.0, 0.0]]), [[0.5, 0, -0.5], [1, 1, 0]]
    )


def test_the_spec_has_the_sizes():
    spec = spec_of(ObsReader(BOX), ActionReader(spaces.Discrete(2)), {"body": (2,)}, 0.9)
    assert (spec.obs_dim, spec.num_actions, spec.info, spec.discount) == (6, 2, ("body",), 0.9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ObsReader(spaces.Text(3)), ["cannot read", "map it to a Box"]),
        (lambda: ObsReader(spaces.Dict(a=BOX)), ["a Dict of ['a']", "obs_keys=('a',)"]),
        (lambda: ObsReader(spaces.Dict(a=BOX), ("b",)), ["obs_keys=('b',)"]),
        (lambda: ObsReader(spaces.Dict(a=BOX), "a"), ["obs_keys=('a',)"]),
        (lambda: ObsReader(BOX, ("a",)), ["choose of a Dict"]),
        (lambda: ObsReader(BOX)(np.ones((1, 3, 2))), ["[1, 3, 2]", "expected [B, 2, 3]"]),
        (lambda: ObsReader(spaces.Dict(a=BOX), ("a",))(np.ones(3)), ["expected a dict with 'a'"]),
        (lambda: ObsReader(spaces.Discrete(3))(np.array([3])), ["outside its space"]),
        (lambda: ActionReader(spaces.Text(3)), ["no Box and not discrete"]),
        (lambda: info_keys(("harm",)), ["give the shape of each key", "('harm',)"]),
        (lambda: info_keys({"harm": 2}), ["give the shape of each key"]),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(call, words):
    with refused(ValueError, *words):
        call()


def test_a_library_that_is_missing_or_too_old_is_named_with_the_remedy():
    with refused(
        ImportError, "this bridge needs no-such-library", "pip install 'no-such-library>=2.0'"
    ):
        check_library("no_such_library", "no-such-library", "2.0")
    with refused(
        ImportError, "99.1 or later", gymnasium.__version__, "pip install 'gymnasium>=99.1'"
    ):
        check_library("gymnasium", "gymnasium", "99.1")
    assert check_library("gymnasium", "gymnasium", "1.1") is gymnasium
    assert version_numbers("2.10.0a4") > version_numbers("2.9") and version_numbers("x") == ()
