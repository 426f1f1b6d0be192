"""Fears that see parts of a grid, and how they rank harm where the layout changes."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import nnx

from affect import Blend, Fear, Lesion, Spec, Transition
from affect.head import State
from envs.worlds.grid.grid import OBSERVED
from envs.worlds.grid.layouts import LAVA, SIDE, WALL
from runs.cli.study import Job
from runs.engine.config import head_epochs
from runs.engine.evaluate import draw_points
from runs.engine.phases import Phase, one_world
from runs.engine.presets import find_suite, preset
from runs.engine.seeds import vmap_seeds
from runs.engine.train import Learner
from runs.engine.training_loop import Trained
from runs.probes.labels import outcome_labels
from runs.probes.ranking import discrimination
from runs.probes.signals import Prediction, predictions
from runs.study_run import StudyDesign, StudyRun, run_configs, seed_rows
from runs.tree_io import leaves_digest

SHIFTS = ("unseen", "lava_moves")
HORIZON = 10  # steps within which harm is predicted
CHUNKS, STEPS = 8, 300_000
CENTRE = SIDE // 2  # of the observed room, where the agent is


class SeenFear(Fear):
    """`Fear` of some numbers of the observation, within HORIZON.

    Args:
        spec: shapes of the world.
        seen: indices of the numbers that it sees.
        rngs: for the initial weights.
    """

    def __init__(self, spec: Spec, seen: tuple[int, ...] = (0,), *, rngs: nnx.Rngs):
        super().__init__(replace(spec, obs_dim=len(seen)), HORIZON, rngs=rngs)
        self.seen = tuple(seen)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Minus the probability of harm [T, B], as `Fear`."""
        return super().__call__(state, self._part(batch))

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of `Fear`."""
        return super().loss(state, self._part(batch))

    def _part(self, batch: Transition) -> Transition:
        seen = np.array(self.seen)
        return batch._replace(obs=batch.obs[..., seen], next_obs=batch.next_obs[..., seen])


def bit_indices(bits: tuple[int, ...], radius: int) -> tuple[int, ...]:
    """Indices in an observation of a grid of some bits of the cells at most `radius` away."""
    grid = np.arange(SIDE * SIDE * len(OBSERVED)).reshape(SIDE, SIDE, len(OBSERVED))
    window = slice(max(CENTRE - radius, 0), CENTRE + radius + 1)
    kinds = [OBSERVED.index(bit) for bit in bits]
    return tuple(grid[window, window][..., kinds].ravel().tolist())


SEEN = {
    "place": bit_indices((WALL,), SIDE),
    "lava": bit_indices((LAVA,), SIDE),
    "near": bit_indices((WALL, LAVA), 2),
    "adjacent": bit_indices((LAVA,), 1),
}
"""Fear -> what it sees: the walls of the room alone; all lava, relative to the agent; walls and
lava at most 2 cells away; lava at most 1 cell away."""


def nearness(batch: Transition) -> jax.Array:
    """Minus the distance [T, B] in moves to the nearest lava, straight through walls; 0 in it."""
    lava = batch.next_obs[..., jnp.array(bit_indices((LAVA,), SIDE))]
    rows, columns = np.indices((SIDE, SIDE)) - CENTRE
    distance = jnp.asarray((abs(rows) + abs(columns)).ravel(), jnp.float32)
    apart = jnp.where(lava > 0.5, jnp.broadcast_to(distance, lava.shape), 2.0 * SIDE)
    return -apart.min(-1)


def fear_signals(learner: Learner, blend: Blend) -> dict[str, Prediction]:
    """All signals of one seed, high where harm is expected."""
    return {**predictions(blend, learner.blend_state), "nearness": nearness}


def ranks(
    learner: Learner, batch: Transition, alive: jax.Array, *, blend: Blend, gamma: float
) -> dict[str, jax.Array]:
    """AUROC of each signal for harm within HORIZON over whole episodes [T, B], [] each."""
    labels = outcome_labels(batch, alive, HORIZON, gamma)
    signals = fear_signals(learner, blend)
    return {
        name: discrimination(signal(batch), labels.harmed, labels.known)[0]
        for name, signal in signals.items()
    }


def make_design(settings: Any) -> StudyDesign:
    """The design that these settings define: fears beside the agent, and no further training."""
    suite = replace(find_suite("Lava", SHIFTS), severities=(1.0,))
    sizes = (settings.steps or STEPS,), (CHUNKS,), preset(suite).episodes
    (config,) = run_configs(settings, suite, *sizes, smoke_updates=(2,))
    fears = {"fear": Fear} | {name: SeenFear(seen=seen) for name, seen in SEEN.items()}
    blend = Blend(**{name: (1.0, Lesion(fear)) for name, fear in fears.items()})
    return StudyDesign(suite, config, config, blend.with_epochs(head_epochs(config)))


class LavaRun(StudyRun):
    """The study in its folder."""

    def __init__(self, design: StudyDesign, job: Job):
        super().__init__(job, design.suite.env, design.home)
        self.design, config = design, design.home
        measured = partial(ranks, blend=design.blend, gamma=config.agent.gamma)
        self._ranks = vmap_seeds(measured, config.rows, optimise=config.optimise)

    def run(self) -> pd.DataFrame:
        """Train and measure, or load the rows: a row per shift and seed, measures of `ranks`."""
        design, config = self.design, self.home
        self.progress.total = 2 * config.chunks * config.updates
        sizes = config.chunks, config.updates, config.agent
        phase = Phase(one_world(design.suite.world), *sizes, design.blend)
        trained = self.train("at home", phase, folder=self.out / "at_home")
        digest = leaves_digest(trained.state.learner)
        compute = partial(self._measure, trained)
        return pd.DataFrame(self.part("ranks", digest, config.chunks * config.updates, compute))

    def _measure(self, trained: Trained) -> dict[str, list]:
        """Measures of all seeds at home and in each shift -> columns."""
        config, learner = self.home, trained.state.learner
        points = draw_points(self.design.suite, self.backend.draws, config.base)
        tables = [
            seed_rows(self._ranks(learner, *episodes), trained, config.seeds, shift=point.shift)
            for point, episodes in zip(points.points, self.recordings(learner, points), strict=True)
        ]
        return pd.concat(tables).to_dict("list")
