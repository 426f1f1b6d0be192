"""Validity probe of seeds in a jitted environment, a few at a time, resumable after each group."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from runs.engine.cache import load_part, save_part
from runs.engine.jax_backend import DRAWS
from runs.engine.specialists import worlds_digest
from runs.engine.train import seed_keys, vmap_seeds
from runs.errors import Interrupted
from runs.probes.reliability import pooled_curves
from runs.probes.validity_probe import ValidityProbe


def probe_seeds(
    probe: ValidityProbe,
    trainer: Any,
    run: Any,
    out: Path,
    progress: Any,
    stopped: Callable[[], bool],
) -> dict[str, np.ndarray]:
    """Compute the readouts of every seed, each [S, ...]; groups that are already saved are loaded.

    Raises:
        Interrupted: if `stopped` returned True.
    """
    run_config, suite = probe.run_config, probe.suite
    draws, together = min(DRAWS, run_config.episodes), len(jax.devices())
    worlds = suite.worlds(jax.random.key(run_config.base + 1), draws)
    program = vmap_seeds(probe.train_and_probe, together, 2, run_config.optimise, together=1)
    keys = seed_keys(run_config.base + 6, np.arange(run_config.rows))
    mark, groups = worlds_digest(jax.tree.leaves(run.learner.agent)), []
    for begin in range(0, run_config.rows, together):
        part = out / "examined" / f"{begin}.json"
        saved = load_part(part, mark)
        fresh = saved is None
        if fresh:
            if stopped():
                raise Interrupted
            inputs = jax.tree.map(partial(_select_group, begin, together), (run.learner, keys))
            readouts = program(*inputs, worlds, jax.random.key(run_config.base + 2))
            part.parent.mkdir(parents=True, exist_ok=True)
            readouts = {name: np.asarray(leaf) for name, leaf in readouts.items()}
            lists = {name: leaf.tolist() for name, leaf in pooled_curves(readouts).items()}
            save_part(part, {"settings": mark, "readouts": lists})
            saved = load_part(part, mark)
        groups.append(saved["readouts"])
        done = min(begin + together, run_config.seeds)
        progress.advance("probing", run_config.chunks + done, fresh)
    return {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}


def _select_group(begin: int, number: int, leaf: jax.Array) -> jax.Array:
    return leaf[begin : begin + number]
