"""Steps of `runs.reward_free` in order, on `StudyRun`, and the files that hold its results.

    plan registered -> home training -> all arms frozen -> dev shifts, a look -> sealed shifts drawn

The checkpoint of an arm holds what it starts from (home training, reward mix), so the sealed draw
depends on all of it. A part is one arm in one shift, all seeds, in a file of its own.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from affect import Blend, BlendState, Transition
from affect.predict import harm
from runs.analysis.scores import rows_as_csv
from runs.cli.study import Job
from runs.engine.checkpoint import Checkpoints
from runs.engine.evaluate import EvalPoints, draw_points, select_points
from runs.engine.jax_backend import DRAWS
from runs.engine.phases import Phase, flat_worlds, world_pool
from runs.engine.seeds import Stream, seed_keys, stream_key, vmap_seeds
from runs.engine.train import Learner
from runs.engine.training_loop import Trained
from runs.lock import replace_file
from runs.names import SCORES, safe_name
from runs.prereg import seal
from runs.probes.labels import outcome_labels
from runs.probes.ranking import discrimination
from runs.probes.signals import predictions
from runs.reward_free_design import RewardFreeDesign
from runs.signal_arms import TESTED, SignalArm
from runs.study_run import StudyRun
from runs.tree_io import leaves_digest

HORIZON = 10  # steps within which harm counts as soon, as for `affect.Fear`
BOUNDS = ("frozen", "zero", TESTED, "true")  # arms that are also run at the milder severity


class Split(NamedTuple):
    """Shifts of a split: worlds to train in [P, DRAWS], points to evaluate at, home first."""

    train_worlds: Any
    points: EvalPoints
    k_train: jax.Array


class RewardFreeRun(StudyRun):
    """The study in its folder.

    Attributes:
        design: of the study.
        rates: step size in the shifted worlds, by arm; those of the design.
    """

    def __init__(self, design: RewardFreeDesign, job: Job):
        super().__init__(job, design.suite.env, design.home)
        self.design, self.rates = design, design.rates
        milder = (len(design.severities) - 1) * len(BOUNDS)
        cells = len(design.arms) * (len(design.dev) + len(design.sealed))
        cells += (len(design.extra) + milder) * len(design.dev)
        self.cell_updates = design.further.chunks * design.further.updates
        self.home_updates = design.home.chunks * design.home.updates
        self.progress.total = self.home_updates + (cells + 1) * self.cell_updates

    def run(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Run the whole study -> (results, label noise).

        Returns:
            Results: a row per shift, severity, arm and seed: score and every other score in the
            shift (`away`) and at home after training there (`home`), `alive`, and `curve_0` to
            `curve_4`, the success of training episodes in fifths of the training. Label noise: a
            row per share of flipped labels and seed (`label_noise`).

        Raises:
            Interrupted: if a stop is requested; finished parts are kept.
            UserError: if another plan is registered in the folder.
        """
        design, home = self.design, self.design.home
        self.progress.say(
            f"{design.suite.name}: {home.seeds} seeds x {home.steps:,} steps at home, then "
            f"{len(design.arms)} arms x {design.further.steps:,} in each of {len(design.dev)} dev "
            f"and {len(design.sealed)} sealed shifts -> {self.out}"
        )
        seal.register_unchanged(self.out, design.plan)
        learner, alive = self.train_parents()
        self.save_arms()
        seal.freeze_agents(self.out)
        dev = self.make_split(home.base, design.dev, design.severities)
        results = [self.train_arms(learner, dev, 1.0, (*design.arms, *design.extra))]
        for severity in design.severities[:-1]:
            bounds = [arm for arm in design.arms if arm.name in BOUNDS]
            results.append(self.train_arms(learner, dev, severity, bounds))
        noise = self.label_noise(learner, dev, results[0])
        self.write_scores(results[0], "dev")
        key = seal.seal_key(seal.draw_sealed(self.out))
        sealed = self.make_split(key, design.sealed, (1.0,))
        results.append(self.train_arms(learner, sealed, 1.0, design.arms))
        self.write_scores(results[-1], "sealed")
        table = pd.concat(results, ignore_index=True)
        return table.assign(alive=table["alive"] & alive[table["seed"]]), noise

    def train_parents(self) -> Trained:
        """Train at home, or restore (`StudyRun.train_at_home`)."""
        key = stream_key(self.home.base, Stream.TRAINING_WORLDS)
        pool = flat_worlds(self.design.suite.worlds(key, DRAWS), [0])
        return self.train_at_home(pool, self.design.blend, self.out / "checkpoints" / "frozen")

    def save_arms(self) -> None:
        """Save the reward mix and the options of each arm as its checkpoint."""
        for arm in self.design.arms:
            if arm.learns and not seal.has_checkpoint(self.out, arm.name):
                mix = tuple(np.asarray(x, np.float32) for x in arm.mix(self.design.blend)[:3])
                options = np.array([arm.critic_kept, self.rates[arm.name]], np.float32)
                folder = self.out / "checkpoints" / safe_name(arm.name)
                Checkpoints(folder, keep=1).save(self.home_updates, (mix, options))

    def make_split(
        self, source: int | jax.Array, shifts: Sequence[str], severities: tuple[float, ...]
    ) -> Split:
        """Draw the worlds of home (first) and of some shifts from a base seed or a key."""
        selected = tuple(shift for shift in self.design.suite.shifts if shift.name in shifts)
        suite = replace(self.design.suite, shifts=selected, severities=severities)
        worlds = suite.worlds(stream_key(source, Stream.TRAINING_WORLDS), DRAWS)
        points = draw_points(suite, self.backend.draws, source)
        return Split(worlds, points, stream_key(source, Stream.LATER_PHASES))

    def train_arms(
        self, learner: Learner, split: Split, severity: float, arms: Sequence[SignalArm]
    ) -> pd.DataFrame:
        """Train and evaluate each arm in each shift of a split, or load its saved part."""
        tables = []
        for i, point in enumerate(split.points.points):
            if point.severity != severity:
                continue
            points = select_points(split.points, [0, i])
            pool = flat_worlds(split.train_worlds, [i])
            digest = leaves_digest((pool, points.worlds, jax.random.key_data(split.k_train)))
            for arm in arms:
                name = f"{point.shift}-{severity:g}-{arm.name}"
                train = partial(self.train_arm, learner, arm, pool, points, split.k_train)
                key = f"{digest}-{self.rates[arm.name]:g}"
                table = pd.DataFrame(self.part(name, key, self.cell_updates, train))
                tables.append(table.assign(arm=arm.name, **point._asdict()))
        return pd.concat(tables, ignore_index=True)

    def train_arm(
        self, learner: Learner, arm: SignalArm, pool: Any, points: EvalPoints, k_train: jax.Array
    ) -> dict[str, list]:
        """Train one arm in one shift -> columns with an entry per seed (`run`)."""
        away, blend, seeds = self.design.further, self.design.blend, self.home.seeds
        agent = replace(away.agent, lr=self.rates[arm.name])
        columns: dict[str, Any] = {"seed": range(seeds), "alive": np.ones(seeds, bool)}
        if arm.learns:
            sizes, mix = (away.chunks, away.updates, agent, blend), arm.mix(blend)
            phase = Phase(world_pool(pool), *sizes, mix, "frozen", arm.renew)
            keys, curve = seed_keys(k_train, range(away.rows)), []
            start = partial(self.backend.enter, learner, phase, keys)
            keep = lambda chunk: curve.append(chunk.metrics["success"][:seeds])  # noqa: E731
            state, alive = self.train(arm.name, phase, start, on_chunk=keep)
            learner, columns["alive"] = state.learner, alive[:seeds]
            columns |= {f"curve_{i}": success for i, success in enumerate(curve)}
        scores = self.backend.evaluate(learner, agent, points, self.stopped)
        for place, values in zip(("home", "away"), scores, strict=True):
            columns |= {f"{name}_{place}": values[name][:seeds] for name in SCORES}
            success, returns = (columns[f"{name}_{place}"] for name in ("success", "return"))
            columns[f"score_{place}"] = returns if np.isnan(success).all() else success
        return {name: np.asarray(column).tolist() for name, column in columns.items()}

    def label_noise(self, learner: Learner, split: Split, results: pd.DataFrame) -> pd.DataFrame:
        """AUROC and gain of hope - fear by the share of flipped labels, a row per share and seed.

        Columns: `share`, `seed`, `home` and `soon` (AUROC of fear for harm within ten steps, at
        home and over the dev shifts), `end` (of fear less hope for harm at terminal observations
        there), `gain` (score in the dev shifts less that of the frozen agent).
        """
        full = [i for i, p in enumerate(split.points.points) if p.severity in (0.0, 1.0)]
        points = select_points(split.points, full)
        flipped = [arm.name for arm in self.design.extra if arm.name.startswith("flipped_")]
        suffixes = ["", *(f"_{name}" for name in flipped)]
        compute = partial(self.aurocs, learner, points, suffixes)
        aurocs = self.part("aurocs", leaves_digest(points.worlds), self.cell_updates, compute)
        away = results.groupby(["arm", "seed"])["score_away"].mean()
        tables = []
        for arm, suffix in zip((TESTED, *flipped), suffixes, strict=True):
            soon, end = (np.array(aurocs[f"{name}{suffix}"], float) for name in ("soon", "end"))
            columns = {"home": soon[:, 0], "soon": soon[:, 1:].mean(1), "end": end[:, 1:].mean(1)}
            columns["gain"] = (away[arm] - away["frozen"]).to_numpy()
            share = float(suffix.removeprefix("_flipped_") or 0)
            tables.append(pd.DataFrame(columns).assign(share=share, seed=range(len(soon))))
        return pd.concat(tables, ignore_index=True)

    def aurocs(
        self, learner: Learner, points: EvalPoints, suffixes: Sequence[str]
    ) -> dict[str, list]:
        """AUROCs [S, P] of the pairs of fear and hope heads with these suffixes, by name."""
        home, blend = self.home, self.design.blend
        measure = vmap_seeds(partial(head_aurocs, blend=blend, suffixes=tuple(suffixes)), home.rows)
        recordings = self.recordings(learner, points)
        values = [measure(learner.blend_state, *recording) for recording in recordings]
        return {
            name: np.stack([np.asarray(value[name]) for value in values], 1)[: home.seeds].tolist()
            for name in values[0]
        }

    def write_scores(self, results: pd.DataFrame, split: str) -> None:
        """Write the scores of a split to its CSV file and enter them in the ledger."""
        path, text = self.out / seal.SCORES[split], rows_as_csv(self.score_rows(results), True)
        if not path.exists() or path.read_text() != text:
            replace_file(path, text)
        seal.enter_scores(self.out, split)

    def score_rows(self, results: pd.DataFrame) -> list[dict]:
        """Rows of the score file; scores at home are means over the shifts trained in."""
        names, point = ("score", *SCORES), ["shift", "family", "severity"]
        away = results.rename(columns={f"{name}_away": name for name in names})
        home = results.groupby(["arm", "seed"])[[f"{name}_home" for name in names]].mean()
        home = home.set_axis(names, axis=1).reset_index()
        home = home.assign(shift="none", family="none", severity=0.0)
        rows = pd.concat([home, away[["arm", "seed", *point, *names]]])
        common = {"env": self.design.suite.name, "episodes": self.home.episodes}
        arms = [rows[rows["arm"] == arm.name] for arm in self.design.arms]
        table = pd.concat([arm.sort_values("seed", kind="stable") for arm in arms])
        return table.assign(**common).to_dict("records")


def head_aurocs(
    blend_state: BlendState,
    batch: Transition,
    alive: jax.Array,
    *,
    blend: Blend,
    suffixes: Sequence[str],
) -> dict[str, jax.Array]:
    """AUROCs [] of one seed's pairs of a fear and a hope head for harm in episodes [T, B].

    `soon` + suffix: of fear for harm within HORIZON steps, on steps before the end. `end` + suffix:
    of fear less hope for harm at the terminal observation, where the signal is used as reward.
    """
    predicted, labels = predictions(blend, blend_state), outcome_labels(batch, alive, HORIZON, 0.99)
    aurocs = {}
    for suffix in suffixes:
        fear, hope = (predicted[name + suffix](batch) for name in ("fear", "hope"))
        ends = batch.terminated & alive
        aurocs[f"soon{suffix}"] = discrimination(fear, labels.harmed, labels.known)[0]
        aurocs[f"end{suffix}"] = discrimination(fear - hope, harm(batch), ends)[0]
    return aurocs
