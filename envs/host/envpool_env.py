"""EnvPool environments as gymnasium ones: a pool of one environment, made anew with each seed."""

import difflib
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from envs.host.user_code import import_module

PREFIX = "envpool:"


class EnvPoolEnv(gymnasium.Env):
    """One environment of EnvPool (Weng et al. 2022).

    A pool takes its seed when it is made, so each reset with a seed makes it anew: .7 ms for
    CartPole, .25 s for an Atari game. It holds one environment, which is never stepped beyond an
    end, so that its autoreset loses no successor. `envs.host.envpool_batch` steps many together.

    Args:
        task: one of `envpool.list_all_envs()`.
        **options: of `envpool.make`.
    """

    def __init__(self, task: str, **options: Any):
        options.pop("render_mode", None)  # it draws nothing here
        envpool = _envpool(task)
        options |= {"env_type": "gymnasium", "num_envs": 1}
        options.setdefault("num_threads", 1)  # shards of environments are stepped in parallel
        self.make_pool = partial(envpool.make, task, **options)
        self._pool = self.make_pool()
        self.observation_space = _with_bounds(self._pool.observation_space)
        self.action_space = self._pool.action_space
        limit, goal = self._pool.spec.config.max_episode_steps, self._pool.spec.reward_threshold
        self.spec = EnvSpec(PREFIX + task, max_episode_steps=limit, reward_threshold=goal)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Starts an episode -> (obs, {})."""
        if seed is not None:
            self._pool.close()
            self._pool = self.make_pool(seed=seed % 2**31)
        return _first(self._pool.reset()[0]), {}

    def step(self, action: Any):
        """Takes one step -> (obs, reward, terminated, truncated, {})."""
        obs, reward, terminated, truncated, _ = self._pool.step(np.asarray(action)[None])
        return _first(obs), float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def close(self) -> None:
        """Ends the threads of the pool."""
        self._pool.close()


def check_task(task: str) -> None:
    """Checks that EnvPool is installed and has a task; ValueError if not."""
    _envpool(task)


def _envpool(task: str) -> Any:
    """The package, which must have the task; ValueError if not."""
    envpool = import_module("envpool", "pip install -e '.[envpool]'")
    tasks = envpool.list_all_envs()
    if task not in tasks:
        near = difflib.get_close_matches(task, tasks, 1)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else "see envpool.list_all_envs()"
        raise ValueError(f"unknown environment '{PREFIX}{task}'; {hint}")
    return envpool


def _first(obs: Any) -> Any:
    """The observation of the one environment of a pool, whose leaves have shape [1, ...]."""
    if isinstance(obs, dict):
        return {name: _first(part) for name, part in obs.items()}
    return obs[0]


def _with_bounds(space: spaces.Space) -> spaces.Space:
    """A space whose floats are unbounded where EnvPool gives the limits of their type.

    Some of its tasks declare the least positive number as their lower bound.
    """
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: _with_bounds(part) for name, part in space.items()})
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
        return space
    limits = np.finfo(space.dtype)
    low = np.where(space.low == limits.tiny, -np.inf, space.low).astype(space.dtype)
    high = np.where(space.high == limits.max, np.inf, space.high).astype(space.dtype)
    return spaces.Box(low, high, dtype=space.dtype)
