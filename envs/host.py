"""In-adapter: any gymnasium id as a suite of worlds with the same channel and shifts as ours."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import gymnasium
import jax
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs import host_make
from envs.shift import Shift, ramp, scale
from envs.suite import Suite
from envs.world import World


class NoEffect(ValueError):
    """A shift that changes nothing."""


@dataclass(frozen=True)
class Host:
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
        """A picklable function that makes the environment of a world."""
        params = {name: float(value) for name, value in world.params.items()}
        return partial(host_make.make, self.id, **params, **kwargs)

    def success(self, total: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Whether an episode of this return was a success; NaN where nobody says what that is."""
        return np.full(np.shape(total), np.nan) if self.goal is None else total >= self.goal


# Shifts of known physics, by gymnasium id; the rest of a suite is the channel's.
PHYSICS = {
    "CartPole-v1": (
        scale("force", "dynamics", "params.force", to=0.1),
        scale("length", "dynamics", "params.half_length", to=4.0),
        scale("mass", "dynamics", "params.pole_mass", to=20.0),
    ),
    "LunarLander-v3": (
        scale("gravity", "dynamics", "params.gravity", to=0.3),
        ramp("wind", "dynamics", "params.wind", to=20.0),
    ),
    "Pendulum-v1": (
        scale("gravity", "dynamics", "params.gravity", to=1.5),
        scale("mass", "dynamics", "params.mass", to=1.5),
        scale("length", "dynamics", "params.length", to=1.5),
    ),
    "MiniGrid-DistShift1-v0": (ramp("DistShift2", "layout", "params.layout", to=1.0),),
}


def suite(id: str) -> Suite:
    """The suite of a gymnasium id: its declared physics, then what its channel can do to it.

    Raises:
        ValueError: for an unknown id or a space that does not fit (see `envs.host_make.make`).
        NoEffect: for a declared setter that changes nothing.
    """
    known, env = host_make.known(id), host_make.make(id)
    space, action = env.observation_space, env.action_space
    discrete = isinstance(action, spaces.Discrete)
    spec = Spec(
        obs_dim=space.shape[0],
        num_actions=int(action.n) if discrete else 0,
        action_dim=0 if discrete else action.shape[0],
        info=("harm",) if known.harmful else (),
    )
    goal = env.spec.reward_threshold if known.goal is None and env.spec else known.goal
    limit = (env.spec.max_episode_steps if env.spec else None) or host_make.LIMIT
    env.close()
    host = Host(id, spec, limit, _units(space), known.harmful, goal)
    world = World(dict(known.setters))
    physics = PHYSICS.get(id.rpartition(":")[2], ())
    for shift in physics:
        check_effect(host, world, shift)
    # A layout is the one or the other: it has no severity between.
    severities = (1.0,) if any(shift.family == "layout" for shift in physics) else (0.5, 1.0)
    return Suite(id, host, world, physics + _channel_shifts(discrete), severities=severities)


def check_effect(host: Host, world: World, shift: Shift, steps: int = 200) -> None:
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


def _channel_shifts(discrete: bool) -> tuple[Shift, ...]:
    slip = ("flip", "channel.flip", 0.5) if discrete else ("slip", "channel.action_noise", 1.0)
    return (
        ramp("noise", "sensor", "channel.noise", to=0.2),
        ramp("dropout", "sensor", "channel.dropout", to=0.6),
        ramp(slip[0], "actuator", slip[1], to=slip[2]),
        ramp("delay", "actuator", "channel.delay", to=3.0),
    )


def _units(space: spaces.Box) -> tuple[float, ...]:
    """Half the declared range where it is finite and sensible, else 1."""
    half = (space.high.astype(np.float64) - space.low) / 2
    return tuple(np.where(half < 1e3, half, 1.0).tolist())
