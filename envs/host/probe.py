"""Trial of an environment before anything is trained: two copies, one seed, the same actions."""

import time
from collections.abc import Callable, Iterator

import gymnasium
import numpy as np

from envs.host.fault import Fault, HostFailure, LastingFault
from envs.host.pool import HostPool, HostStep
from envs.host.rows import random_action
from envs.host.shard import REPLAY_REMEDY
from envs.host.worker import WorkerShard, pickled_make

STEPS = 100  # random actions
SECONDS = 10.0  # after which a slow environment is not stepped further
SEED = 0
TWO = "of two environments with the same seed and actions"
AGAIN = "of an environment that was reset to a seed of before, with the same actions,"


def probe(
    make: Callable[[], gymnasium.Env],
    name: str,
    workers: int | None,
    reproducible: bool = True,
    timeout: float = 60.0,
    mask_dim: int | None = None,
) -> bool:
    """Steps two environments of one seed with the same random actions, in a worker process.

    What `envs.host.checks` requires is checked at every step, and that both environments return the
    same bytes, as they do when a run is resumed. At last the first episodes are replayed in the
    same two environments, which shows whether one remembers what came before a reset.

    Args:
        make: makes one environment, with `check_values=True`.
        name: of the environment in messages.
        workers: as in `HostPool`.
        reproducible: whether to compare.
        timeout: seconds that one call may take.
        mask_dim: length of the mask with which observations end, 0 if there is none. None to stop
            after the reset of an environment that reports one.

    Returns:
        Whether it stopped there: the environment has masks, and is to be made with them.

    Raises:
        ValueError: for any fault; the message names the step, what was expected, and the remedy.
    """
    processes = 0 if workers == 0 else 1
    try:
        options = {"name": name, "workers": processes, "timeout": timeout, "streams": (0, 0)}
        with HostPool(make, 2, SEED, **options) as pool:
            seen = []
            for step, results in enumerate(_results(pool, mask_dim or 0, reproducible)):
                if step == 0 and mask_dim is None and pool.reports_mask():
                    return True
                seen.append(results)
                if reproducible:
                    pair = ({part: both[i] for part, both in results.items()} for i in (0, 1))
                    _check_equal(f"{name}: step {step} {TWO}", *pair)
            if reproducible:
                pool.restore(pool.snapshot())
                again = _results(pool, mask_dim or 0, reproducible)
                for step, pair in enumerate(zip(seen, again, strict=False)):
                    _check_equal(f"{name}: step {step} {AGAIN}", *pair)
    except HostFailure as failure:
        raise ValueError(str(failure)) from failure
    return False


def try_apart(make: Callable[[], gymnasium.Env], name: str, timeout: float) -> None:
    """Makes, resets and closes an environment in a process of its own, before this one makes it.

    So code that does not return, or ends its process, cannot do so to the caller. What raises is
    left to be reported where it is made again.

    Args:
        make: makes one environment; what no process can be given is not tried.
        name: of the environment in messages.
        timeout: seconds that its import and constructor, reset or close may take.

    Raises:
        ValueError: if one of them takes longer or ends the process.
    """
    try:
        packed = pickled_make(make, name)
    except ValueError:
        return
    zero, shard = np.zeros(1, int), WorkerShard(timeout)
    calls = {
        "when made": ("make", packed, 1, ()),
        "in reset": ("replay", (SEED, zero, zero), zero, np.zeros((1, 0)), None),
        "in close": ("close",),
    }
    shard.start()
    try:
        for place, call in calls.items():
            shard.send(*call)
            if not _answers(shard, f"{name}: {place} it"):
                return
    finally:
        shard.disconnect()
        shard.stop()


def _answers(shard: WorkerShard, what: str) -> bool:
    """Whether a call of a shard returns and does not raise; ValueError if it hangs or dies."""
    try:
        shard.receive()
    except Fault as fault:
        cause, remedy = fault.args
        if cause.startswith("raised") or isinstance(fault, LastingFault):
            return False
        raise ValueError(f"{what} {cause}: {remedy}") from None
    return True


def _results(pool: HostPool, mask_dim: int, same: bool) -> Iterator[dict[str, np.ndarray]]:
    """Yields the results of a reset and of each step by name, [2, ...] each.

    Both environments get the `same` action, or else each one that its own mask allows.
    """
    rng, end = np.random.default_rng(SEED), time.monotonic() + SECONDS
    obs = pool.reset()
    yield {"observation": obs}
    for _ in range(STEPS):
        masks = obs[: 2 - same, -mask_dim:] if mask_dim else (None,)
        actions = [random_action(pool.single_action_space, rng, allowed) for allowed in masks]
        results = pool.step(np.stack([actions[0], actions[-1]]))
        obs = results.obs
        yield dict(zip(HostStep._fields[:-1], results[:-1], strict=True))
        if time.monotonic() > end:
            return


def _check_equal(which: str, first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    """Checks that two results of one seed are of the same bytes; ValueError, beginning by `which`.

    Args:
        which: the results were.
        first: arrays by name.
        second: arrays of the same shapes.
    """
    for part in first:
        if first[part].tobytes() == second[part].tobytes():
            continue
        old, new = np.ravel(first[part]), np.ravel(second[part])
        i = np.flatnonzero(~((old == new) | (np.isnan(old) & np.isnan(new))))[:1]
        values = f"expected {old[i]}, got {new[i]}" if i.size else "expected equal bytes"
        raise ValueError(f"{which} gave another {part} ({values}): {REPLAY_REMEDY}")
