"""Suites of gymnasium environments: a world, its shifts of physics and of the channel."""

import logging
import math
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium import spaces

from affect import Image, Spec
from affect.observation import read_spec
from envs.channel import channel_of
from envs.host import make
from envs.host.fault import Fault
from envs.host.known import EnvFacts, env_facts, is_built_in
from envs.host.probe import probe, try_apart
from envs.host.rows import choices, random_action
from envs.host.shifts import PHYSICS, channel_shifts
from envs.host.user_code import call_user
from envs.shift import Shift
from envs.suite import Suite
from envs.world import World

LOG = logging.getLogger(__name__)
RESERVED = {"id", "constructor", "check_values", "reproducible", "image", "masked"}
"""Arguments of `make_env` that are set here."""
READER_REMEDY = "write a function of images [T, B, H, W, C], in jax.numpy"


class NoEffect(ValueError):
    """Error: a shift has no effect on its environment."""


@dataclass(frozen=True)
class HostEnv:
    """A gymnasium environment stepped on the host; takes the place of `envs.world.Env`.

    Attributes:
        id: gymnasium id.
        spec: shapes of observation and action.
        horizon: steps after which an episode is truncated.
        obs_scale: [obs_dim] the unit of each number of an observation, for sensor noise.
        harmful: whether every termination counts as harm.
        goal: the return from which an episode is a success; None if success is not defined.
        constructor: makes the environment; None for `gymnasium.make(id)`.
        workers: processes that step it, 0 for the caller's own; None to choose by the time of a
            step (`envs.host.stepping`). No result depends on it.
        kwargs: further arguments of the constructor.
        reproducible: whether a seed and actions determine an episode.
        timeout: seconds that one call of an environment may take. No result depends on it.
        image: what an image is taken for (`envs.host.images`); None to decide by its space.
    """

    id: str
    spec: Spec
    horizon: int
    obs_scale: tuple[float, ...]
    harmful: bool
    goal: float | None
    constructor: Callable[..., gymnasium.Env] | None = None
    workers: int | None = field(default=None, compare=False)
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    reproducible: bool = True
    timeout: float = field(default=60.0, compare=False)
    image: str | None = None

    def maker(self, world: World, **kwargs) -> Callable[[], gymnasium.Env]:
        """Picklable function that makes the environment with the params of `world`.

        Raises:
            ValueError: for a world scheduled to change mid-episode, which is not supported here.
        """
        if world.scheduled is not None:
            raise ValueError(f"{self.id}: a host environment has no schedule; drop `Schedule(...)`")
        params = {name: float(value) for name, value in world.params.items()}
        own = {"reproducible": self.reproducible, "image": self.image, "masked": self.spec.masked}
        arguments = {**own, **self.kwargs, **params, **kwargs}
        return partial(make.make_env, self.id, self.constructor, **arguments)

    def success(self, total: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Whether the return `total` [...] reaches the goal; NaN where success is not defined."""
        return np.full(np.shape(total), np.nan) if self.goal is None else total >= self.goal


def host_suite(
    id: str,
    constructor: Callable[..., gymnasium.Env] | None = None,
    shifts: Iterable[Shift] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    reproducible: bool = True,
    workers: int | None = None,
    timeout: float = 60.0,
    image: str | None = None,
    reader: Callable | None = None,
) -> Suite:
    """Makes the suite of a gymnasium environment, after a probe of it (`envs.host.probe`).

    Args:
        id: a gymnasium id, or the name of what `constructor` makes.
        constructor: makes the environment; its float keyword parameters are the physics that
            shifts may change, as `params.NAME`. None for `gymnasium.make(id)`.
        shifts: that agents are scored under; None for the known shifts of physics of the id, then
            those of the channel.
        kwargs: further arguments of the constructor, or of `gymnasium.make`.
        reproducible: False for an environment that cannot be seeded: what it returns is not
            compared, and where a run is resumed, its episodes under way start anew.
        workers: as in `HostEnv`.
        timeout: as in `HostEnv`.
        image: as in `HostEnv`.
        reader: of an image, for heads (`affect.Spec`).

    Raises:
        ValueError: for an unknown id, a space that does not fit (see `envs.host.make.make_env`) or
            that changes under a shift, or an environment that breaks its contract.
        NoEffect: for a shift of physics that has no effect.
    """
    constructor = registered_here(id) if constructor is None else constructor
    facts = env_facts(id) if constructor is None else EnvFacts(constructor)
    kwargs = dict(kwargs or {})
    if reserved := sorted(RESERVED & set(kwargs)):
        raise ValueError(
            f"{id}: kwargs cannot have {reserved[0]!r}, which is set here; leave it out"
        )
    floats = facts.with_floats(kwargs, id)
    params = {name: floats.get(name, value) for name, value in facts.setters.items()}
    if constructor is None and not is_built_in(id):
        try_apart(partial(make.make_env, id, image=image, **kwargs), id, timeout)
    env = make.make_env(id, constructor, image=image, **kwargs)
    info = ("harm",) if facts.harmful else ()
    spec, numbers = _shapes(env, info, id, reader)
    limit, goal = make.limit_and_goal(env, id)
    limit, goal = limit or make.LIMIT, goal if facts.goal is None else facts.goal
    goal = None if goal is None or math.isnan(goal) else goal
    _close(env, id)
    sizes = spec, limit, _obs_scale(numbers), facts.harmful, goal
    workers = 0 if workers is None and not is_importable(constructor) else workers
    host = HostEnv(id, *sizes, constructor, workers, kwargs, reproducible, timeout, image)
    world = World({name: float(value) for name, value in params.items()}, channel_of(spec))
    probing = partial(probe, name=id, workers=workers, reproducible=reproducible, timeout=timeout)
    mask_dim = None if spec.choices else 0
    if probing(host.maker(world, check_values=True), mask_dim=mask_dim):
        spec = replace(spec, masked=True)
        host, world = replace(host, spec=spec), world._replace(channel=channel_of(spec))
        probing(host.maker(world, check_values=True), mask_dim=spec.mask_dim)
    if limit == make.LONGEST:
        LOG.warning("%s: episodes are truncated after %d steps", id, limit)
    if facts.drops_text:
        LOG.warning("%s: the text `mission` of its observations is dropped", id)
    if shifts is None:
        known = PHYSICS.get(id.rpartition(":")[2], ()) if params else ()
        shifts = known + channel_shifts(spec)
    shifts = tuple(shifts)
    severities = tuple((level + 1) / facts.levels for level in range(facts.levels))
    for shift in shifts:
        if changes_physics(shift, world):
            check_spaces(host, world, shift, severities)
            try:
                check_effect(host, world, shift)
            except Fault as fault:
                raise ValueError(f"{id}: under shift {shift.name} it {fault}") from fault
    return Suite(id, host, world, shifts, severities=severities)


def registered_here(id: str) -> Callable[..., gymnasium.Env] | None:
    """Constructor of an id that was registered in this process by other than a known package.

    None for other ids, and for those with their module, which worker processes import.
    """
    if id not in gymnasium.registry or is_built_in(id):
        return None
    return partial(gymnasium.make, gymnasium.spec(id), disable_env_checker=True)


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
    space, rng, mask_dim = original_env.action_space, np.random.default_rng(0), host.spec.mask_dim
    try:
        results = [env.reset(seed=0)[0] for env in (original_env, shifted_env)]
        for _ in range(steps):
            if not np.array_equal(*results):
                return
            allowed = results[0][host.spec.row - mask_dim : host.spec.row] if mask_dim else None
            action = random_action(space, rng, allowed)
            transitions = [env.step(action) for env in (original_env, shifted_env)]
            results = [np.append(obs, [*map(float, rest[:3])]) for obs, *rest in transitions]
            if np.array_equal(*results) and results[0][-2:].any():
                results = [env.reset()[0] for env in (original_env, shifted_env)]
    finally:
        _close(original_env, host.id)
        _close(shifted_env, host.id)
    raise NoEffect(
        f"{host.id}: shift {shift.name} changes nothing in {steps} steps; fix its setter"
    )


def _spaces(host: HostEnv, world: World) -> tuple[spaces.Space, spaces.Space]:
    """Observation and action space of the environment of a world."""
    env = host.maker(world)()
    _close(env, host.id)
    return env.observation_space, env.action_space


def _close(env: gymnasium.Env, id: str) -> None:
    """Closes an environment; ValueError if that raises."""
    call_user(f"{id}: its close fails", env.close)


def _shapes(
    env: gymnasium.Env, info: tuple[str, ...], id: str, reader: Callable | None
) -> tuple[Spec, spaces.Box | None]:
    """Spec of an environment of `make_env` without masks, and the space of its numbers.

    Raises:
        ValueError: if there is a reader and no image, or one that gives no features.
    """
    facts, numbers = None, env.observation_space
    if env.has_wrapper_attr("image_facts"):
        facts, numbers = (env.get_wrapper_attr(name) for name in ("image_facts", "rest_space"))
    if reader is not None and facts is None:
        raise ValueError(f"{id}: a reader of images, and {env.observation_space} has none")
    action = env.action_space
    several = isinstance(action, spaces.MultiDiscrete)
    spec = Spec(
        obs_dim=0 if numbers is None else numbers.shape[0],
        num_actions=int(action.n) if isinstance(action, spaces.Discrete) else 0,
        action_dim=action.shape[0] if isinstance(action, spaces.Box) else 0,
        action_sizes=choices(action) if several else (),
        info=info,
        image=None if facts is None else Image(*facts[:-1]),
        reader=reader,
    )
    if reader is not None:
        call_user(f"{id}: its reader fails", partial(read_spec, spec), READER_REMEDY)
    return spec, numbers


def _obs_scale(space: spaces.Box | None) -> tuple[float, ...]:
    """Scale [D] of each number: half the declared range if it is in (0, 1000), else 1."""
    if space is None:
        return ()
    half = (space.high.astype(np.float64) - space.low) / 2
    return tuple(np.where((half > 0) & (half < 1e3), half, 1.0).tolist())
