"""Suites of a user's own environments: an object, a class, a function or a file that makes one."""

import copy
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import gymnasium
import jax
import numpy as np

from affect.observation import read_spec
from affect.transition import one_line
from envs.channel import channel_of, random_actions
from envs.host.known import EnvFacts
from envs.host.make import make_env
from envs.host.probe import try_apart
from envs.host.shifts import channel_shifts
from envs.host.suite import READER_REMEDY, host_suite
from envs.host.user_code import FromFile, call_user, check_file, from_file
from envs.shift import Shift
from envs.suite import SEVERITIES, Suite
from envs.world import Env, World, reset_batch, rollout, some_allowed


class CopyOf:
    """Constructor that returns copies of an environment, whatever its arguments."""

    def __init__(self, env: gymnasium.Env):
        self.env = env

    def __call__(self, **kwargs: Any) -> gymnasium.Env:
        """Returns a deep copy of the environment."""
        del kwargs  # such as the render mode, which an existing environment has already
        return copy.deepcopy(self.env)


def own_suite(
    env: Any,
    shifts: Iterable[Shift] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    reproducible: bool = True,
    workers: int | None = None,
    timeout: float = 60.0,
    image: str | None = None,
    reader: Callable | None = None,
) -> Suite:
    """Makes the suite of an environment, named after its class.

    Args:
        env: an `envs.world.Env` or its class, which is jitted; a gymnasium environment, its class,
            or a function that makes one, which is stepped on the host; or where such a class or
            function is, "path/to/file.py:Class".
        shifts: that agents are scored under; None for those of sensors and actuators.
        kwargs: arguments of the class or function.
        reproducible: as in `host_suite`.
        workers: as in `host_suite`.
        timeout: as in `host_suite`.
        image: as in `host_suite`.
        reader: as in `host_suite`.

    Raises:
        ValueError: for anything else, or for spaces that are not supported.
    """
    shown = env if isinstance(env, str) else repr(env)
    if isinstance(env, str):
        check_file(env)
        path, _, name = env.rpartition(":")
        first = partial(FromFile(os.path.abspath(path), name), **(kwargs or {}))
        try_apart(partial(make_env, name, first), shown, timeout)
        env = from_file(env)
    if kwargs and not callable(env):
        raise ValueError(f"{env!r} exists already and takes no kwargs; give its class instead")
    constructor = partial(env, **EnvFacts(env).with_floats(kwargs, shown)) if kwargs else env
    made = call_user(f"{shown} makes no environment", constructor) if callable(env) else env
    inner = call_user(f"{shown}: its unwrapped fails", partial(getattr, made, "unwrapped", made))
    name = type(inner).__name__
    if isinstance(made, Env):
        if workers is not None:
            raise ValueError(f"{name} is jitted: no worker process steps it; leave out workers")
        if image is not None or reader is not None:
            raise ValueError(
                f"{name} is jitted: image and reader are of its own Spec; set them there"
            )
        shifts = channel_shifts(made.spec) if shifts is None else tuple(shifts)
        check_rows(made, name, shifts)
        return Suite(name, made, World(made.default_params, channel_of(made.spec)), shifts)
    if isinstance(made, gymnasium.Env):
        constructor = constructor if callable(env) else CopyOf(env)
        options = {"reproducible": reproducible, "workers": workers, "timeout": timeout}
        return host_suite(name, constructor, shifts, **options, image=image, reader=reader)
    what = shown if made is env or isinstance(env, type) else f"{shown} returned {made!r}, which"
    message = (
        f"{what} is no environment: give a name, a gymnasium id, an environment, its class, or a "
        "function that makes it"
    )
    raise ValueError(" ".join(message.split()))


def check_rows(
    env: Env, name: str, shifts: tuple[Shift, ...], steps: int = 200, num_envs: int = 8
) -> None:
    """Checks image, numbers and mask of a jitted environment, in steps of random allowed actions.

    Raises:
        ValueError: naming a part of another shape or dtype, or the first step whose mask allows no
            action, without a shift or under one; for a mask that is not defined, and a reader that
            gives no features.
    """
    spec, world = env.spec, World(env.default_params, channel_of(env.spec))
    if spec.plain:
        return
    call_user(f"{name}: its reader fails", partial(read_spec, spec), READER_REMEDY)
    key = jax.random.key(0)
    state = jax.eval_shape(env.initial, key, world.params)
    declared = partial(_declared_parts, env, state, world.params)
    for part, got, expected in call_user(f"{name}: its observation or mask fails", declared):
        if got != expected:
            raise ValueError(
                f"{name}: {part} is {got}, expected {expected} of its spec; correct it"
            )
    if not spec.masked:
        return

    def run(key: jax.Array, world: World) -> tuple[jax.Array, jax.Array]:
        act = partial(random_actions, spec)
        start = reset_batch(key, env, lambda key: world, num_envs)
        batch = rollout(jax.random.clone(key), env, lambda key: world, act, start, steps)[1]
        return jax.vmap(jax.vmap(partial(some_allowed, spec)))(batch.obs), batch.first

    worlds = [("", world)]
    for shift, level in itertools.product(shifts, SEVERITIES):
        worlds.append((f" under shift {shift.name}", shift(world, level, jax.random.key(0))))
    program = jax.jit(run)
    for where, each in worlds:
        inputs = jax.random.clone(key), jax.tree.map(np.asarray, each)
        allowed, first = map(np.asarray, program(*inputs))
        if not allowed.all():
            step, i = np.argwhere(~allowed)[0]
            begun = np.flatnonzero(first[: step + 1, i])[-1]
            raise ValueError(
                f"{name}:{where} its action_mask allows no action at step {step - begun} of an "
                "episode: allow one, or end the episode before"
            )


def _declared_parts(env: Env, state: Any, params: Any) -> list[tuple[str, str, str]]:
    """(part, what an environment gives, what its spec declares) of an observation."""
    spec, parts = env.spec, []
    obs = jax.eval_shape(env.observation, state, jax.random.key(0), params)
    if spec.image is not None:
        image, numbers = obs if isinstance(obs, tuple) else (obs, None)
        sizes = [spec.image.height, spec.image.width, spec.image.channels]
        parts.append(("the image of its observation", one_line(image), f"uint8{sizes}"))
    else:
        numbers = obs
    if numbers is not None or spec.obs_dim:
        parts.append(("its observation", one_line(numbers), f"float32[{spec.obs_dim}]"))
    if spec.masked:
        mask = jax.eval_shape(env.action_mask, state, params)
        parts.append(("its action_mask", one_line(mask), f"bool[{spec.mask_dim}]"))
    return parts
