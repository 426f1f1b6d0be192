"""Examines seeds in jitted worlds, a few at a time, so that it can be stopped and goes on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from runs.asking.examination import Examination
from runs.asking.reliability import gathered
from runs.harness.jitted import DRAWS
from runs.harness.parts import keep, kept
from runs.harness.specialists import digest
from runs.harness.train import over_seeds, seed_keys
from runs.harness.watch import Interrupted


def examined(
    examination: Examination,
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
    plan, suite = examination.plan, examination.suite
    draws, together = min(DRAWS, plan.episodes), len(jax.devices())
    worlds = suite.worlds(jax.random.key(plan.base + 1), draws)
    program = over_seeds(examination.everything, together, 2, plan.optimise, together=1)
    keys = seed_keys(plan.base + 6, np.arange(plan.rows))
    mark, told = digest(jax.tree.leaves(run.learner.agent)), []
    for begin in range(0, plan.rows, together):
        part = out / "examined" / f"{begin}.json"
        found = kept(part, mark)
        fresh = found is None
        if fresh:
            if stopped():
                raise Interrupted
            mine = jax.tree.map(partial(_some, begin, together), (run.learner, keys))
            answer = program(*mine, worlds, jax.random.key(plan.base + 2))
            part.parent.mkdir(parents=True, exist_ok=True)
            answer = {name: np.asarray(leaf) for name, leaf in answer.items()}
            lists = {name: leaf.tolist() for name, leaf in gathered(answer).items()}
            keep(part, {"recipe": mark, "told": lists})
            found = kept(part, mark)
        told.append(found["told"])
        done = min(begin + together, plan.seeds)
        progress.advance("examining", plan.chunks + done, fresh)
    return {name: np.concatenate([some[name] for some in told]) for name in told[0]}


def _some(begin: int, number: int, leaf: jax.Array) -> jax.Array:
    return leaf[begin : begin + number]
