"""Probe of an environment before anything is trained: two copies, one seed, the same actions."""

import time
from collections.abc import Callable, Iterator

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.host.fault import HostFailure
from envs.host.pool import HostPool, HostStep
from envs.host.shard import REPLAY_REMEDY

STEPS = 100  # random actions
SECONDS = 10.0  # after which a slow environment is not stepped further
SEED = 0


def probe(
    make: Callable[[], gymnasium.Env], name: str, workers: int | None, reproducible: bool = True
) -> None:
    """Steps two environments of one seed with the same random actions, in a worker process.

    What `envs.host.checks` requires is checked at every step, and that both environments return the
    same bytes, as they do when a run is resumed. At last the first episode is replayed in the same
    two environments, which shows whether one remembers what came before a reset.

    Args:
        make: makes one environment, with `check_values=True`.
        name: of the environment in messages.
        workers: as in `HostPool`.
        reproducible: whether to compare.

    Raises:
        ValueError: for any fault; the message names the step, what was expected, and the remedy.
    """
    processes = 0 if workers == 0 else 1
    try:
        with HostPool(make, 2, SEED, name=name, workers=processes, streams=(0, 0)) as pool:
            for step, results in enumerate(_results(pool)):
                for part, pair in results.items() if reproducible else ():
                    if pair[0].tobytes() != pair[1].tobytes():
                        raise ValueError(_difference(name, step, part, *pair))
            if reproducible:
                pool.restore(pool.snapshot())
    except HostFailure as failure:
        raise ValueError(str(failure)) from failure


def _results(pool: HostPool) -> Iterator[dict[str, np.ndarray]]:
    """Yields the results of a reset and of each step by name, [2, ...] each."""
    rng, end = np.random.default_rng(SEED), time.monotonic() + SECONDS
    yield {"observation": pool.reset()}
    for _ in range(STEPS):
        action = _random_action(pool.single_action_space, rng)
        results = pool.step(np.stack([action, action]))
        yield dict(zip(HostStep._fields[:-1], results[:-1], strict=True))
        if time.monotonic() > end:
            return


def _random_action(space: spaces.Space, rng: np.random.Generator) -> np.ndarray:
    """Random action: one of n, or uniform in [-1, 1]."""
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.n)
    return rng.uniform(-1.0, 1.0, space.shape).astype(space.dtype)


def _difference(name: str, step: int, part: str, first: np.ndarray, second: np.ndarray) -> str:
    """Says what two environments of one seed returned differently; arrays of equal shape."""
    first, second = np.ravel(first), np.ravel(second)
    i = np.flatnonzero(~((first == second) | (np.isnan(first) & np.isnan(second))))[:1]
    values = f"expected {first[i]}, got {second[i]}" if i.size else "expected equal bytes"
    return (
        f"{name}: step {step} of two environments with the same seed and actions gave another "
        f"{part} ({values}): {REPLAY_REMEDY}"
    )
