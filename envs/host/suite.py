"""Suites of gymnasium environments: a world, its shifts of physics and of the channel."""

import math
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import gymnasium
import jax
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.host import make
from envs.host.known import EnvFacts, env_facts
from envs.host.shifts import PHYSICS, channel_shifts
from envs.shift import Shift
from envs.suite import Suite
from envs.world import World


class NoEffect(ValueError):
    """Error: a shift has no effect on its environment."""


@dataclass(frozen=True)
class HostEnv:
    """A gymnasium environment stepped on the host; takes the place of `envs.world.Env`.

    Attributes:
        id: gymnasium id.
        spec: shapes of observation and action.
        horizon: steps after which an episode is truncated.
        obs_scale: [D] the unit of each observation, for sensor noise.
        harmful: whether every termination counts as harm.
        goal: the return from which an episode is a success; None if success is not defined.
        constructor: makes the environment; None for `gymnasium.make(id)`.
        workers: processes that step it; None for one per core, 0 for the caller's own.
    """

    id: str
    spec: Spec
    horizon: int
    obs_scale: tuple[float, ...]
    harmful: bool
    goal: float | None
    constructor: Callable[..., gymnasium.Env] | None = None
    workers: int | None = None

    def maker(self, world: World, **kwargs) -> Callable[[], gymnasium.Env]:
        """Picklable function that makes the environment with the params of `world`.

        Raises:
            ValueError: for a world scheduled to change mid-episode, which is not supported here.
        """
        if world.scheduled is not None:
            raise ValueError(f"{self.id}: a host environment has no schedule; drop `Schedule(...)`")
        params = {name: float(value) for name, value in world.params.items()}
        return partial(make.make_env, self.id, self.constructor, **params, **kwargs)

    def success(self, total: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Whether the return `total` [...] reaches the goal; NaN where success is not defined."""
        return np.full(np.shape(total), np.nan) if self.goal is None else total >= self.goal


def host_suite(
    id: str,
    constructor: Callable[..., gymnasium.Env] | None = None,
    shifts: Iterable[Shift] | None = None,
) -> Suite:
    """Makes the suite of a gymnasium environment.

    Args:
        id: a gymnasium id, or the name of what `constructor` makes.
        constructor: makes the environment; its float keyword parameters are the physics that
            shifts may change, as `params.NAME`. None for `gymnasium.make(id)`.
        shifts: that agents are scored under; None for the known shifts of physics of the id, then
            those of the channel.

    Raises:
        ValueError: for an unknown id, a space that does not fit (see `envs.host.make.make_env`), or
            one that changes under a shift.
        NoEffect: for a shift of physics that has no effect.
    """
    facts = env_facts(id) if constructor is None else EnvFacts(constructor)
    env = make.make_env(id, constructor)
    space, action = env.observation_space, env.action_space
    discrete = isinstance(action, spaces.Discrete)
    spec = Spec(
        obs_dim=space.shape[0],
        num_actions=int(action.n) if discrete else 0,
        action_dim=0 if discrete else action.shape[0],
        info=("harm",) if facts.harmful else (),
    )
    goal = env.spec.reward_threshold if facts.goal is None and env.spec else facts.goal
    goal = None if goal is None or math.isnan(goal) else goal
    limit = (env.spec.max_episode_steps if env.spec else None) or make.LIMIT
    env.close()
    sizes = spec, limit, _obs_scale(space), facts.harmful, goal
    host = HostEnv(id, *sizes, constructor, None if is_importable(constructor) else 0)
    world = World(dict(facts.setters))
    if shifts is None:
        shifts = PHYSICS.get(id.rpartition(":")[2], ()) + channel_shifts(discrete)
    shifts = tuple(shifts)
    severities = tuple((level + 1) / facts.levels for level in range(facts.levels))
    for shift in shifts:
        if changes_physics(shift, world):
            check_spaces(host, world, shift, severities)
            check_effect(host, world, shift)
    return Suite(id, host, world, shifts, severities=severities)


def changes_physics(shift: Shift, world: World) -> bool:
    """Whether a shift at severity 1 changes the params of a world."""
    return shift(world, 1.0, jax.random.key(0)).params != world.params


def is_importable(constructor: Callable | None) -> bool:
    """Whether worker processes can import a constructor: not if it is of the main module."""
    if constructor is None:
        return True
    try:
        return b"__main__" not in pickle.dumps(constructor)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False


def check_spaces(host: HostEnv, world: World, shift: Shift, severities: tuple[float, ...]) -> None:
    """Checks that a shift leaves the observation and action spaces as they are.

    Raises:
        ValueError: if a space differs at one of the severities, so that no agent can be scored.
    """
    original = _spaces(host, world)
    for severity in severities:
        shifted = _spaces(host, shift(world, severity, jax.random.key(0)))
        for name, old, new in zip(("observation", "action"), original, shifted, strict=True):
            if old != new:
                message = (
                    f"{host.id}: under shift {shift.name} at {severity:g} the {name} space {old} "
                    f"becomes {new}; undo that in the constructor by gymnasium.wrappers.Transform"
                    f"{name.capitalize()}, or drop the shift"
                )
                raise ValueError(" ".join(message.split()))


def check_effect(host: HostEnv, world: World, shift: Shift, steps: int = 200) -> None:
    """Checks that a shift of severity 1 changes what random actions lead to.

    Raises:
        NoEffect: if both environments give equal observations, rewards and ends for `steps` steps.
    """
    shifted = shift(world, 1.0, jax.random.key(0))
    original_env, shifted_env = (host.maker(each)() for each in (world, shifted))
    space = original_env.action_space
    space.seed(0)
    try:
        results = [env.reset(seed=0)[0] for env in (original_env, shifted_env)]
        for _ in range(steps):
            if not np.array_equal(*results):
                return
            action = space.sample()
            transitions = [env.step(action) for env in (original_env, shifted_env)]
            results = [np.append(obs, [*map(float, rest[:3])]) for obs, *rest in transitions]
            if np.array_equal(*results) and results[0][-2:].any():
                results = [env.reset()[0] for env in (original_env, shifted_env)]
    finally:
        original_env.close()
        shifted_env.close()
    raise NoEffect(
        f"{host.id}: shift {shift.name} changes nothing in {steps} steps; fix its setter"
    )


def _spaces(host: HostEnv, world: World) -> tuple[spaces.Space, spaces.Space]:
    """Observation and action space of the environment of a world."""
    env = host.maker(world)()
    env.close()
    return env.observation_space, env.action_space


def _obs_scale(space: spaces.Box) -> tuple[float, ...]:
    """Scale [D] of each observation: half the declared range if that is below 1,000, else 1."""
    half = (space.high.astype(np.float64) - space.low) / 2
    return tuple(np.where(half < 1e3, half, 1.0).tolist())
