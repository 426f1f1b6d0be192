"""Host environments have flat spaces; an environment that cannot raises in one line."""

import os
import pickle
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.host.known import KNOWN
from envs.host.make import LIMIT, make_env
from tests.envs import unusual_envs  # noqa: F401  (registers ids)
from tests.tiers import slow

GRAPHICS = ("DISPLAY", "MUJOCO_GL", "SDL_VIDEODRIVER", "PYOPENGL_PLATFORM")
STRANGE = "tests.envs.unusual_envs:Strange/"
IDS = (
    *(id for id in KNOWN if not id.startswith("highway")),
    *("Acrobot-v1", "FrozenLake-v1", "MountainCarContinuous-v0", "Blackjack-v1"),
    *("MiniGrid-Empty-5x5-v0", STRANGE + "Dict-v0", STRANGE + "Wide-v0", STRANGE + "Faulty-v0"),
)
ROOT = Path(__file__).parents[2]


def run_python(code: str, *args: str, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **kwargs)


# --- what fits --------------------------------------------------------------------------------


@pytest.mark.parametrize("id", IDS)
def test_spaces_are_a_vector_of_floats_or_bytes_and_discrete_or_vector_actions(id):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # fail on gymnasium's warnings about spaces
        env = make_env(id)
    obs_space, action_space = env.observation_space, env.action_space
    dtype = np.uint8 if id.startswith("MiniGrid") else np.float32  # a grid of symbols
    assert isinstance(obs_space, spaces.Box) and obs_space.dtype == dtype
    assert len(obs_space.shape) == 1
    if isinstance(action_space, spaces.Box):
        assert len(action_space.shape) == 1  # unbounded, since values beyond [-1, 1] are clipped
    else:
        assert isinstance(action_space, spaces.Discrete) and action_space.start == 0
    action_space.seed(0)
    obs, _ = env.reset(seed=0)
    for _ in range(30):
        assert obs.shape == obs_space.shape and obs.dtype == dtype
        obs, reward, terminated, truncated, _ = env.step(action_space.sample())
        assert np.isfinite(float(reward))
        if terminated or truncated:
            obs, _ = env.reset()
    env.close()


def test_actions_are_rescaled_and_clipped():
    env = make_env(STRANGE + "Wide-v0")  # pays the sum of an action in [0, 10] x [-2, 2]
    env.reset(seed=0)
    for action, reward in (([-1, 0], 0), ([1, 1], 12), ([0, -0.5], 4), ([5, -9], 8)):
        assert env.step(np.array(action, np.float32))[1] == pytest.approx(reward)


def test_dict_observations_are_flattened_in_order():
    env, gym_env = make_env(STRANGE + "Dict-v0"), gymnasium.make("Strange/Dict-v0")
    obs, parts = env.reset(seed=3)[0], gym_env.reset(seed=3)[0]
    assert obs.tolist() == spaces.flatten(gym_env.observation_space, parts).tolist()
    assert obs.tolist() == [*parts["seen"].tolist(), *np.eye(4)[parts["held"]].tolist()]


def test_minigrid_observation_is_its_flattened_image():
    env, gym_env = make_env("MiniGrid-DistShift1-v0"), gymnasium.make("MiniGrid-DistShift1-v0")
    obs = env.reset(seed=0)[0]
    assert (obs == gym_env.reset(seed=0)[0]["image"].ravel()).all()
    assert obs.shape == (7 * 7 * 3,)


def test_environment_without_time_limit_gets_one():
    assert make_env(STRANGE + "Endless-v0").spec.max_episode_steps == LIMIT
    assert make_env("CartPole-v1").spec.max_episode_steps == 500


RENDER_TWICE = """
import sys
from envs.host import make as host_make
if sys.argv[1] == "no EGL":
    host_make.find_library = lambda name: None
host_make.make_env("Hopper-v5").close()
for _ in range(2):
    try:
        env = host_make.make_env("Hopper-v5", render_mode="rgb_array")
        env.reset(seed=0)
        print(env.render().shape)
    except Exception as error:
        print("no picture", error)
host_make.make_env("Hopper-v5").reset()
"""


@pytest.mark.parametrize("library", [slow(""), "no EGL"])
def test_mujoco_without_a_display_renders_or_raises(library):
    """The process survives, and environments can be made after it."""
    environ = {name: value for name, value in os.environ.items() if name not in GRAPHICS}
    process = run_python(RENDER_TWICE, library, env=environ)
    assert process.returncode == 0, process.stderr
    assert len(process.stdout.splitlines()) == 2
    if library:
        assert all(line.startswith("no picture") for line in process.stdout.splitlines())


# --- what does not fit ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "parts"),
    [
        (STRANGE + "Text-v0", ["observation space Dict", "FilterObservation"]),
        (STRANGE + "Floats-v0", ["21168 numbers, more than 10000", "make an image uint8"]),
        (STRANGE + "FloatImage-v0", ["an image of float32 in [0, 255]", "expected uint8"]),
        (STRANGE + "Pixel-v0", ["an image of one pixel", "image='numbers'"]),
        (STRANGE + "Tuple-v0", ["action space Tuple", "TransformAction"]),
        (STRANGE + "Unbounded-v0", ["action space Box(-inf, inf", "TransformAction"]),
        ("CartPol-v1", ["unknown environment 'CartPol-v1'", "did you mean CartPole-v1?"]),
        ("cartpole", ["did you mean CartPole?"]),
        ("LunarLander-v2", ["did you mean LunarLander-v3?"]),
        ("MiniGrid-DistShft1-v0", ["did you mean MiniGrid-DistShift1-v0?"]),
        ("Nothing/like-it", ["and the ids of gymnasium.registry"]),
        ("no_such_module:Any-v0", ["no_such_module is missing: pip install", "PYTHONPATH"]),
        ("Ant-v2", ["Ant-v2 needs a package", "gymnasium-robotics"]),
        (STRANGE + "Faulty-v0", ["cannot be made (OSError: no such map, faulty_envs.py:", "; fix"]),
    ],
)
def test_unfit_environments_raise_with_a_remedy(id, parts, monkeypatch):
    monkeypatch.setenv("FAULT", "make")  # of the last
    with pytest.raises(ValueError) as caught:
        make_env(id)
    for part in parts:
        assert part in " ".join(str(caught.value).split())


@pytest.mark.parametrize(
    ("id", "package"), [("MiniGrid-Empty-5x5-v0", "minigrid"), ("LunarLander-v3", "Box2D")]
)
def test_missing_package_is_named(id, package, monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == package or name.startswith("gymnasium.envs.box2d"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[hosts\]'") as caught:
        make_env(id)
    assert package.lower() in str(caught.value).lower()


def test_workers_make_environments_without_jax():
    pickled = pickle.dumps(partial(make_env, "CartPole-v1", force=5.0))
    code = f"import pickle, sys; pickle.loads({pickled!r})(); print('jax' in sys.modules)"
    process = run_python(code)
    assert (process.stdout.strip(), process.stderr) == ("False", "")
