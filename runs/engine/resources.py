"""Estimate of the memory and disk that an experiment needs at least, compared with what is free."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from agents.foreign import Foreign
from envs.host.suite import HostEnv
from envs.suite import Suite
from runs.engine.config import RunConfig, head_spec
from runs.engine.jax_backend import train_config
from runs.engine.phases import Phase
from runs.engine.train import init_learner, init_runner
from runs.errors import UserError

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_resources(
    phases: Iterable[Phase], suite: Suite, run_config: RunConfig, out: Path
) -> None:
    """Check that memory holds the training and scoring of an arm, and the disk all checkpoints.

    What is counted is a lower bound: learners before and after an update, one batch, and the
    episodes that are scored together; of the disk a checkpoint an arm.

    Raises:
        UserError: with both numbers, and what to make smaller.
    """
    by_heads = sorted(phases, key=lambda phase: len(phase.blend.names))
    least, most = (_seed_bytes(by_heads[i], suite, run_config) for i in (0, -1))
    spec, rows = suite.env.spec, run_config.rows
    obs = spec.row * np.dtype(spec.dtype).itemsize
    batch = run_config.batch_steps * (2 * obs + 4 * (spec.action_dim + 6))
    scored = len(suite.points()) * run_config.episodes * obs
    scored = 0 if isinstance(suite.env, HostEnv) else scored  # a point after the other there
    memory = rows * max(2 * most + batch, scored)
    if memory > (free := free_memory()):
        raise UserError(
            f"{suite.name}: {rows:,} seeds need at least {_size(memory)} of memory, and "
            f"{_size(free)} are free: take fewer seeds, num_envs, num_steps or episodes"
        )
    folder = next(path for path in (out, *out.absolute().parents) if path.exists())
    disk, free = rows * least * len(by_heads), shutil.disk_usage(folder).free
    if disk > free:
        raise UserError(
            f"{suite.name}: checkpoints of {len(by_heads)} arms need at least {_size(disk)}, and "
            f"the disk of {out} has {_size(free)} free: free space, or choose another --out"
        )


def free_memory() -> int:
    """Bytes of memory that the devices of jax can use: of the machine, or of its accelerators."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if jax.default_backend() != "cpu" and all("bytes_limit" in x for x in stats):
        return sum(x["bytes_limit"] for x in stats)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        lines = []
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    for path in map(Path, LIMITS):  # of a container
        if path.exists() and (text := path.read_text().strip()).isdecimal():
            free.append(int(text))
    return min(free, default=2**62)


def _seed_bytes(phase: Phase, suite: Suite, run_config: RunConfig) -> int:
    """Bytes of what one seed carries through a phase; of another library's agent, its heads."""
    config, key, env = train_config(phase, run_config), jax.random.key(0), suite.env

    def init(key: jax.Array) -> Any:
        if isinstance(phase.agent, Foreign):
            spec = head_spec(env.spec, phase.agent)
            return phase.blend.init(key, spec, run_config.num_envs)
        if isinstance(env, HostEnv):
            return init_learner(key, config, env.spec)
        return init_runner(key, config, env, phase.worlds)

    leaves = jax.tree.leaves(jax.eval_shape(init, key))
    return sum(
        int(np.prod(leaf.shape, dtype=float)) * max(leaf.dtype.itemsize, 1) for leaf in leaves
    )


def _size(count: float) -> str:
    """Number of bytes in words."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(int(np.log10(max(count, 1)) // 3), len(units) - 1)
    return f"{count / 1000**power:,.0f} {units[power]}"
