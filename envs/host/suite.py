"""In-adapter: any gymnasium id as a suite of worlds with the same channel and shifts as ours."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import gymnasium
import jax
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.host import make
from envs.host.known import env_facts
from envs.host.shifts import PHYSICS, channel_shifts
from envs.shift import Shift
from envs.suite import Suite
from envs.world import World


class NoEffect(ValueError):
    """A shift that changes nothing."""


@dataclass(frozen=True)
class HostEnv:
    """A host-stepped environment, in the place of `envs.world.Env`.

    Attributes:
        id: its gymnasium id.
        spec: shapes of observation and action.
        horizon: steps after which an episode is truncated.
        obs_scale: [D] the unit of each observation, for sensor noise.
        harmful: its every termination is harm.
        goal: the return from which an episode is a success; None if nobody says.
    """

    id: str
    spec: Spec
    horizon: int
    obs_scale: tuple[float, ...]
    harmful: bool
    goal: float | None

    def maker(self, world: World, **kwargs) -> Callable[[], gymnasium.Env]:
        """A picklable function that makes the environment of a world.

        Raises:
            ValueError: for a world that is to change mid-episode, which none of these can.
        """
        if world.scheduled is not None:
            raise ValueError(f"{self.id}: a host environment knows no schedule; shift it at once")
        params = {name: float(value) for name, value in world.params.items()}
        return partial(make.make_env, self.id, **params, **kwargs)

    def success(self, total: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Whether an episode of this return was a success; NaN where nobody says what that is."""
        return np.full(np.shape(total), np.nan) if self.goal is None else total >= self.goal


def host_suite(id: str) -> Suite:
    """The suite of a gymnasium id: its declared physics, then what its channel can do to it.

    Raises:
        ValueError: for an unknown id, a space that does not fit (see `envs.host.make.make_env`), or
            one that changes under a shift.
        NoEffect: for a declared setter that changes nothing.
    """
    what, env = env_facts(id), make.make_env(id)
    space, action = env.observation_space, env.action_space
    discrete = isinstance(action, spaces.Discrete)
    spec = Spec(
        obs_dim=space.shape[0],
        num_actions=int(action.n) if discrete else 0,
        action_dim=0 if discrete else action.shape[0],
        info=("harm",) if what.harmful else (),
    )
    goal = env.spec.reward_threshold if what.goal is None and env.spec else what.goal
    goal = None if goal is None or math.isnan(goal) else goal
    limit = (env.spec.max_episode_steps if env.spec else None) or make.LIMIT
    env.close()
    host = HostEnv(id, spec, limit, _obs_scale(space), what.harmful, goal)
    world = World(dict(what.setters))
    physics = PHYSICS.get(id.rpartition(":")[2], ())
    severities = tuple((level + 1) / what.levels for level in range(what.levels))
    for shift in physics:
        check_spaces(host, world, shift, severities)
        check_effect(host, world, shift)
    return Suite(id, host, world, physics + channel_shifts(discrete), severities=severities)


def check_spaces(host: HostEnv, world: World, shift: Shift, severities: tuple[float, ...]) -> None:
    """Compares the spaces of the shifted worlds with those at home.

    Raises:
        ValueError: if one differs: an agent could not see or act there.
    """
    home = _spaces(host, world)
    for severity in severities:
        there = _spaces(host, shift(world, severity, jax.random.key(0)))
        for name, old, new in zip(("observation", "action"), home, there, strict=True):
            if old != new:
                line = (
                    f"{host.id}: under shift {shift.name} at {severity:g} the {name} space {old} "
                    f"becomes {new}; keep it in its maker by gymnasium.wrappers.Transform"
                    f"{name.capitalize()}, or drop the shift"
                )
                raise ValueError(" ".join(line.split()))


def check_effect(host: HostEnv, world: World, shift: Shift, steps: int = 200) -> None:
    """Acts alike in the world and in the shifted one until they differ.

    Raises:
        NoEffect: if within `steps` steps of random actions they never do.
    """
    shifted = shift(world, 1.0, jax.random.key(0))
    one, other = (host.maker(w)() for w in (world, shifted))
    space = one.action_space
    space.seed(0)
    try:
        seen = [env.reset(seed=0)[0] for env in (one, other)]
        for _ in range(steps):
            if not np.array_equal(*seen):
                return
            action = space.sample()
            steps_taken = [env.step(action) for env in (one, other)]
            seen = [np.append(obs, [*map(float, rest[:3])]) for obs, *rest in steps_taken]
            if np.array_equal(*seen) and seen[0][-2:].any():
                seen = [env.reset()[0] for env in (one, other)]
    finally:
        one.close()
        other.close()
    raise NoEffect(
        f"{host.id}: shift {shift.name} changes nothing in {steps} steps; mend its setter"
    )


def _spaces(host: HostEnv, world: World) -> tuple[spaces.Space, spaces.Space]:
    env = host.maker(world)()
    env.close()
    return env.observation_space, env.action_space


def _obs_scale(space: spaces.Box) -> tuple[float, ...]:
    """Half the declared range where it is finite and sensible, else 1."""
    half = (space.high.astype(np.float64) - space.low) / 2
    return tuple(np.where(half < 1e3, half, 1.0).tolist())
