"""Examines seeds in jitted worlds, a few at a time, so that it can be stopped and goes on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from runs.cli.interrupt import Interrupted
from runs.engine.cache import load_part, save_part
from runs.engine.jax_backend import DRAWS
from runs.engine.specialists import worlds_digest
from runs.engine.train import seed_keys, vmap_seeds
from runs.probes.reliability import pooled_curves
from runs.probes.validity_probe import ValidityProbe


def probe_seeds(
    examination: ValidityProbe,
    trainer: Any,
    run: Any,
    out: Path,
    progress: Any,
    stopped: Callable[[], bool],
) -> dict[str, np.ndarray]:
    """What every seed was told, each [S, ...]; seeds that were examined before are not again.

    Raises:
        Interrupted: if it was asked to stop.
    """
    run_config, suite = examination.run_config, examination.suite
    draws, together = min(DRAWS, run_config.episodes), len(jax.devices())
    worlds = suite.worlds(jax.random.key(run_config.base + 1), draws)
    program = vmap_seeds(examination.everything, together, 2, run_config.optimise, together=1)
    keys = seed_keys(run_config.base + 6, np.arange(run_config.rows))
    mark, told = worlds_digest(jax.tree.leaves(run.learner.agent)), []
    for begin in range(0, run_config.rows, together):
        part = out / "examined" / f"{begin}.json"
        found = load_part(part, mark)
        fresh = found is None
        if fresh:
            if stopped():
                raise Interrupted
            mine = jax.tree.map(partial(_probe_group, begin, together), (run.learner, keys))
            answer = program(*mine, worlds, jax.random.key(run_config.base + 2))
            part.parent.mkdir(parents=True, exist_ok=True)
            answer = {name: np.asarray(leaf) for name, leaf in answer.items()}
            lists = {name: leaf.tolist() for name, leaf in pooled_curves(answer).items()}
            save_part(part, {"recipe": mark, "told": lists})
            found = load_part(part, mark)
        told.append(found["told"])
        done = min(begin + together, run_config.seeds)
        progress.advance("examining", run_config.chunks + done, fresh)
    return {name: np.concatenate([some[name] for some in told]) for name in told[0]}


def _probe_group(begin: int, number: int, leaf: jax.Array) -> jax.Array:
    return leaf[begin : begin + number]
