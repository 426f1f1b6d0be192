"""Where environments are stepped: in the caller's process, or in worker processes.

Workers isolate crashes and hangs and use all cores, but a step waits for messages. What the
environments return is the same either way.
"""

import os
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from envs.host import make
from envs.host.known import is_built_in
from envs.host.pool import HostPool
from envs.host.rows import random_action

FAST = (
    1.5e-4  # seconds of a step of all environments, up to which messages cost more than they save
)
STEPS = 200  # that are timed at most


def measured_seconds(host: Any) -> float | None:
    """Seconds of a step of one environment, random actions; None where that decides nothing.

    Only environments of gymnasium's own packages are stepped in this process unless it is
    requested, so that no other is timed.

    Args:
        host: `envs.host.suite.HostEnv`.

    Raises:
        HostFailure: if the environment fails.
    """
    if host.workers is not None or host.constructor is not None or not is_built_in(host.id):
        return None
    options = {"reproducible": host.reproducible, "image": host.image, **host.kwargs}
    make_one = partial(make.make_env, host.id, None, **options)
    with HostPool(make_one, 1, 0, name=host.id, workers=0, timeout=host.timeout) as pool:
        return pool.step_seconds(random_actions(pool.single_action_space, STEPS))


def random_actions(space: gymnasium.Space, steps: int) -> np.ndarray:
    """Random actions [steps, ...] of a standard space."""
    rng = np.random.default_rng(0)
    return np.stack([random_action(space, rng) for _ in range(steps)])


def choose_workers(host: Any, num_envs: int, seconds: float | None) -> int:
    """Number of processes that step `num_envs` environments; 0 for the caller's own.

    Args:
        host: `envs.host.suite.HostEnv`, whose `workers` are used if they are given.
        num_envs: of all seeds.
        seconds: of `measured_seconds`.
    """
    cores = os.cpu_count() or 1
    if host.workers is not None:
        return min(host.workers, num_envs)
    if seconds is not None and (cores == 1 or seconds * num_envs <= FAST):
        return 0
    return min(cores, num_envs)


def stepping_line(host: Any, num_envs: int, seconds: float | None) -> str:
    """Where `num_envs` environments are stepped and why, in one line."""
    workers = choose_workers(host, num_envs, seconds)
    place = "in this process" if workers == 0 else f"in {workers} worker processes"
    if host.workers is not None:
        reason = "as requested"
    elif seconds is None:
        reason = "as for all but gymnasium's own"
    else:
        reason = f"a step of one takes {1e6 * seconds:,.0f} us"
    return f"{host.id}: {num_envs} environments are stepped {place} ({reason})"
