"""Suites of a user's own environments: an object, a class, a function or a file that makes one."""

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import gymnasium

from envs.host.known import EnvFacts
from envs.host.shifts import channel_shifts
from envs.host.suite import host_suite
from envs.host.user_code import cause_of, from_file, remedy_of
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
    env = from_file(env) if isinstance(env, str) else env
    if kwargs and not callable(env):
        raise ValueError(f"{env!r} exists already and takes no kwargs; give its class instead")
    constructor = partial(env, **_with_floats(env, kwargs)) if kwargs else env
    made = _make(constructor) if callable(env) else env
    name = type(getattr(made, "unwrapped", made)).__name__
    if isinstance(made, Env):
        if workers is not None:
            raise ValueError(f"{name} is jitted: no worker process steps it; leave out workers")
        if shifts is None:
            shifts = channel_shifts(made.spec.num_actions > 0)
        return Suite(name, made, World(made.default_params), tuple(shifts))
    if isinstance(made, gymnasium.Env):
        constructor = constructor if callable(env) else CopyOf(env)
        return host_suite(name, constructor, shifts, reproducible=reproducible, workers=workers)
    raise ValueError(
        f"{env!r} is no environment: give a name, a gymnasium id, an environment, its class, or a "
        "function that makes it"
    )


def _with_floats(constructor: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with floats in place of integers where the default is a float, as a setter's."""
    floats = EnvFacts(constructor).setters
    return {k: float(v) if k in floats and type(v) is int else v for k, v in kwargs.items()}


def _make(constructor: Callable[[], Any]) -> Any:
    """Calls a class or function.

    Raises:
        ValueError: if it raises anything; the message names it and the cause.
    """
    try:
        return constructor()
    except Exception as error:  # a user's code may raise anything
        message = f"{constructor!r} makes no environment ({cause_of(error)}); {remedy_of(error)}"
        raise ValueError(message) from error
