"""Suites of a user's own environments: an object, a class, a function or a file that makes one."""

import copy
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import gymnasium

from envs.host.known import EnvFacts
from envs.host.shifts import channel_shifts
from envs.host.suite import host_suite
from envs.host.user_code import call_user, from_file
from envs.shift import Shift
from envs.suite import Suite
from envs.world import Env, World


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

    Raises:
        ValueError: for anything else, or for spaces that are not supported.
    """
    shown, env = (env, from_file(env)) if isinstance(env, str) else (repr(env), env)
    if kwargs and not callable(env):
        raise ValueError(f"{env!r} exists already and takes no kwargs; give its class instead")
    constructor = partial(env, **EnvFacts(env).with_floats(kwargs, shown)) if kwargs else env
    made = call_user(f"{shown} makes no environment", constructor) if callable(env) else env
    inner = call_user(f"{shown}: its unwrapped fails", partial(getattr, made, "unwrapped", made))
    name = type(inner).__name__
    if isinstance(made, Env):
        if workers is not None:
            raise ValueError(f"{name} is jitted: no worker process steps it; leave out workers")
        if shifts is None:
            shifts = channel_shifts(made.spec.num_actions > 0)
        return Suite(name, made, World(made.default_params), tuple(shifts))
    if isinstance(made, gymnasium.Env):
        constructor = constructor if callable(env) else CopyOf(env)
        return host_suite(name, constructor, shifts, reproducible=reproducible, workers=workers)
    what = shown if made is env or isinstance(env, type) else f"{shown} returned {made!r}, which"
    message = (
        f"{what} is no environment: give a name, a gymnasium id, an environment, its class, or a "
        "function that makes it"
    )
    raise ValueError(" ".join(message.split()))
