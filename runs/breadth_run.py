"""Training on narrow and on broad experience of one size, scores under shift, and new shifts.

All arms are mixes of one blend in pools of worlds, which are data: they share compiled programs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from affect import Blend, ConstantPotential, Hope, Potential, zoo
from envs.suite import Suite
from envs.world import World
from runs.cli.study import Job
from runs.engine.config import head_epochs
from runs.engine.evaluate import EvalPoints, draw_points, select_points
from runs.engine.phases import Phase, RewardMix, flat_worlds, signal_weights, world_pool
from runs.engine.presets import find_suite, preset
from runs.engine.seeds import Stream, seed_keys, stream_key
from runs.engine.train import Learner
from runs.errors import UserError
from runs.names import checked_choice
from runs.study_run import StudyDesign, StudyRun, run_configs
from runs.tree_io import leaves_digest

DIETS = ("narrow", "noisy", "broad", "curriculum")
NEW = ("cross", "ice")  # shifts of Drive in which all go on learning
ZOO = {
    "Drive": "drive-value-2x4",
    "Acrobot": "acrobot-value",
    "CartPole": "cartpole-value",
    "Lava": "lava-value",
    "Keys": "keys-value",
}
"""Suite -> the trained head of `affect.zoo` that is inherited there."""
LEVEL = -1.0  # of the constant potential
STAGES = 4  # of a curriculum
POOL = 256  # worlds of a diet, from which each episode draws one
FURTHER, EVALS = 0.3, 8  # steps in a new shift, as a share of those before; evaluations there


@dataclass(frozen=True)
class BreadthDesign(StudyDesign):
    """Everything that the study runs; a diet has STAGES chunks, `further` is in a new shift.

    Attributes:
        new: indices of the shifts in which all go on learning.
        heads: name of an arm's heads -> their weights.
    """

    new: tuple[int, ...]
    heads: Mapping[str, Mapping[str, float]]


def make_design(settings: Any) -> BreadthDesign:
    """The design that these settings define.

    Raises:
        UserError: for an unknown environment or shift, or a suite without a box of worlds.
    """
    suite = find_suite(settings.env)
    if suite.randomised is None:
        raise UserError(f"{suite.name} has no box of worlds: choose an --env with `randomised`")
    names = [shift.name for shift in suite.shifts]
    default = NEW if set(NEW) <= set(names) else tuple(names[:2])
    new = [names.index(checked_choice("shift", x, names)) for x in settings.new or default]
    if settings.smoke:
        shifts = tuple(suite.shifts[i] for i in new)
        suite, new = replace(suite, shifts=shifts, severities=(1.0,)), list(range(len(new)))
    sizes = preset(suite)
    at_home = settings.steps or sizes.steps
    steps, chunks = (at_home, round(FURTHER * at_home)), (STAGES, 1 if settings.smoke else EVALS)
    episodes = settings.episodes or sizes.episodes // 4
    home, further = run_configs(settings, suite, steps, chunks, episodes, smoke_updates=(STAGES, 1))
    terms: dict[str, Any] = {"own": Potential(Hope), "constant": ConstantPotential(LEVEL)}
    if suite.name in ZOO:
        terms["inherited"] = Potential.from_card(zoo.path(ZOO[suite.name]))
    blend = Blend(**{name: (1.0, head) for name, head in terms.items()})
    heads = {"none": {}} | {name: {name: 1.0} for name in terms}
    blend = blend.with_epochs(head_epochs(home))
    return BreadthDesign(suite, home, further, blend, tuple(new), heads)


def diet_pools(suite: Suite, key: jax.Array, count: int = POOL) -> dict[str, list[World]]:
    """Worlds [count] of each diet, a list with those of each of STAGES stages.

    narrow: home alone. noisy: home, with sensor noise of up to half of an observation's unit, an
    amount for each episode. broad: worlds of the suite's box. curriculum: the same worlds, ever
    further from home.
    """
    home = flat_worlds(replace(suite, shifts=()).worlds(key, count), [0])
    keys = jax.random.split(jax.random.clone(key), count)
    noise = jnp.linspace(0.0, 0.5, count)
    noisy = home._replace(channel=home.channel._replace(noise=noise + home.channel.noise))

    def box(severity: float) -> World:
        draw = partial(suite.randomised, suite.world, severity)
        return jax.tree.map(jnp.asarray, jax.vmap(draw)(jax.random.clone(keys)))

    stages = [box((i + 1) / STAGES) for i in range(STAGES)]
    pools = {
        "narrow": [home] * STAGES,
        "noisy": [noisy] * STAGES,
        "broad": [stages[-1]] * STAGES,
        "curriculum": stages,
    }
    return jax.tree.map(np.asarray, pools)  # of equal types, so that all diets share a program


class BreadthRun(StudyRun):
    """The study in its folder.

    Attributes:
        pools: worlds of each diet by stage.
        points: at which all arms are scored, home first.
    """

    def __init__(self, design: BreadthDesign, job: Job):
        super().__init__(job, design.suite.env, design.home)
        self.design, base = design, design.home.base
        key = stream_key(base, Stream.TRAINING_WORLDS)
        self.pools = diet_pools(design.suite, key, 8 if job.settings.smoke else POOL)
        self.new_worlds = design.suite.worlds(key, 64)
        self.points = draw_points(design.suite, self.backend.draws, base)

    def run(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Train, score and continue every arm, or load its rows -> (scores, curves).

        Returns:
            scores: a row per diet, heads, seed and point: shift, family, severity, success, harm,
                alive. curves: a row per diet, heads, seed, new shift and time (evaluations so
                far): success.
        """
        design = self.design
        arms = [(diet, heads) for diet in DIETS for heads in design.heads]
        updates = design.home.chunks * design.home.updates
        updates += len(design.new) * design.further.chunks * design.further.updates
        self.progress.total = len(arms) * updates
        self.progress.say(
            f"{design.suite.name}: {len(arms)} arms x {design.home.seeds} seeds x "
            f"{design.home.steps:,} steps, {design.further.steps:,} in each of {len(design.new)} "
            f"new shifts, {len(self.points.points)} points -> {self.out}"
        )
        scores, curves = [], []
        for diet, heads in arms:
            digest = leaves_digest((self.pools[diet], self.new_worlds, self.points.worlds))
            compute = partial(self._run_arm, diet, heads)
            part = self.part(f"{diet}-{heads}", digest, updates, compute)
            for tables, name in ((scores, "scores"), (curves, "curves")):
                tables.append(pd.DataFrame(part[name]).assign(diet=diet, heads=heads))
        return pd.concat(scores, ignore_index=True), pd.concat(curves, ignore_index=True)

    def _run_arm(self, diet: str, heads: str) -> dict[str, Any]:
        """Train one arm on its diet, score it, and go on in each new shift -> columns of both."""
        design, config, label = self.design, self.home, f"{diet}, {heads}"
        mix = RewardMix(1.0, signal_weights(design.blend, design.heads[heads]))
        alive, state = np.ones(config.rows, bool), None
        for i in range(config.chunks):
            pool = world_pool(self.pools[diet][i * STAGES // config.chunks])
            phase = Phase(pool, 1, config.updates, config.agent, design.blend, mix)
            state, finite = self.train(label, phase, state)
            alive &= finite
        scored = self.scores(state.learner, self.points)
        curves = [self._continue(i, label, mix, state.learner) for i in design.new]
        rows = np.arange(config.seeds)
        scores = [
            {**point._asdict(), "seed": s, "alive": bool(alive[s])}
            | {name: float(score[name][s]) for name in ("success", "harm")}
            for point, score in zip(self.points.points, scored, strict=True)
            for s in rows.tolist()
        ]
        scores_table = pd.DataFrame(scores).to_dict("list")
        return {"scores": scores_table, "curves": pd.concat(curves).to_dict("list")}

    def _continue(self, index: int, label: str, mix: RewardMix, learner: Learner) -> pd.DataFrame:
        """Success [seeds, 1 + chunks] in a new shift while training goes on there -> rows."""
        design, config = self.design, self.design.further
        pool = world_pool(flat_worlds(self.new_worlds, [self._last(index)]))
        points = select_points(self.points, [self._last(index)])
        phase = Phase(
            pool, 1, config.updates, config.agent, design.blend, mix, renew=("optimiser",)
        )
        keys = stream_key(config.base, Stream.LATER_PHASES)
        keys = seed_keys(jax.random.fold_in(keys, index), range(config.rows))
        start = partial(self.backend.enter, learner, phase, keys)
        score = partial(self._success, points)
        before = score(learner)
        _, success = self.train_and_measure(label, phase, start, config.chunks, score)
        table = np.stack([before, *success], 1)
        seed, time = (axis.ravel() for axis in np.indices(table.shape))
        columns = {"seed": seed, "time": time, "success": table.ravel()}
        return pd.DataFrame(columns).assign(shift=design.suite.shifts[index].name)

    def _last(self, index: int) -> int:
        """Index of the point of a shift at the highest severity."""
        return (1 + index) * len(self.design.suite.severities)

    def _success(self, points: EvalPoints, learner: Learner) -> np.ndarray:
        """Success [seeds] at one point."""
        (score,) = self.scores(learner, points)
        return score["success"]
