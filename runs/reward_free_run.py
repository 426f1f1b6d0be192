"""Run of the reward-free study: its order of steps, and the files that hold its results.

    plan registered -> home training -> all arms frozen -> dev shifts, a look -> sealed shifts drawn

The checkpoint of an arm holds what it starts from (home training, reward mix), so the sealed draw
depends on all of it. A part is one arm in one shift, all seeds, in a file of its own.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
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
from runs.engine.backend import make_backend
from runs.engine.cache import cached_part
from runs.engine.checkpoint import Checkpoints
from runs.engine.evaluate import EvalPoints, draw_points, select_points
from runs.engine.jax_backend import DRAWS
from runs.engine.phases import Phase, flat_worlds, world_pool
from runs.engine.seeds import Stream, seed_keys, stream_key, vmap_seeds
from runs.engine.train import Learner
from runs.engine.training_loop import Trained, run_phase
from runs.errors import Interrupted, UserError
from runs.lock import replace_file
from runs.names import SCORES, safe_name
from runs.prereg import seal
from runs.probes.labels import outcome_labels
from runs.probes.ranking import discrimination
from runs.probes.signals import predictions
from runs.reward_free_design import Design
from runs.signal_arms import (
    AT_HOME,
    FLIP_RATES,
    TESTED,
    SignalArm,
    with_parent_critic,
)
from runs.tree_io import leaves_digest

HORIZON = 10  # steps within which harm counts as soon, as for `affect.Fear`
BOUNDS = ("frozen", "zero", TESTED, "true")  # arms that are also run at the milder severity


class Split(NamedTuple):
    """Shifts of a split: worlds to train in [P, DRAWS], points to evaluate at, home first."""

    train_worlds: Any
    points: EvalPoints
    k_train: jax.Array


class RewardFreeRun(AbstractContextManager):
    """The study in its folder; a context manager that ends worker processes.

    Args:
        design: of the study.
        job: its folder, progress and stop flag.
    """

    def __init__(self, design: Design, job: Job):
        self.design, self.out = design, job.out
        self.progress, self.stopped = job.progress, job.stopped
        self.backend, self.done = make_backend(design.suite.env, design.home), 0
        milder = (len(design.severities) - 1) * len(BOUNDS)
        cells = len(design.arms) * (len(design.dev) + len(design.sealed))
        cells += (len(design.extra) + milder) * len(design.dev)
        self.cell_updates = design.away.chunks * design.away.updates
        home_updates = design.home.chunks * design.home.updates
        self.progress.total = home_updates + (cells + 1) * self.cell_updates

    def __exit__(self, *error: Any) -> None:
        self.backend.close()

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
            f"{len(design.arms)} arms x {design.away.steps:,} in each of {len(design.dev)} dev and "
            f"{len(design.sealed)} sealed shifts -> {self.out}"
        )
        if changes := seal.register(self.out, design.plan):
            raise UserError(
                f"{self.out}: the study differs from the plan that is registered there "
                f"({'; '.join(changes)}): choose another --out"
            )
        learner, alive = self.train_at_home()
        self.save_arms()
        seal.freeze_agents(self.out)
        dev = self.make_split(home.base, design.dev, design.severities)
        results = [self.train_arms(learner, dev, 1.0, (*design.arms, *design.extra))]
        for severity in design.severities[:-1]:
            bounds = [arm for arm in design.arms if arm.name in BOUNDS]
            results.append(self.train_arms(learner, dev, severity, bounds))
        noise = self.label_noise(learner, dev, pd.concat(results))
        self.write_scores(results[0], "dev")
        key = seal.seal_key(seal.draw_sealed(self.out))
        sealed = self.make_split(key, design.sealed, (1.0,))
        results.append(self.train_arms(learner, sealed, 1.0, design.arms))
        self.write_scores(results[-1], "sealed")
        table = pd.concat(results, ignore_index=True)
        return table.assign(alive=table["alive"] & alive[table["seed"]]), noise

    def train_at_home(self) -> Trained:
        """Train at home, or restore -> the learners, with their critic in every `ParentCritic`."""
        design, home = self.design, self.design.home
        worlds = design.suite.worlds(stream_key(home.base, Stream.TRAINING_WORLDS), DRAWS)
        pool, mix = world_pool(flat_worlds(worlds, [0])), AT_HOME.mix(design.blend)
        phase = Phase(pool, home.chunks, home.updates, home.agent, design.blend, mix)

        def advance(chunks: int, fresh: bool = True) -> None:
            self.done = chunks * home.updates
            self.progress.advance("at home", self.done, fresh)

        trained = run_phase(
            self.backend,
            phase,
            partial(self.backend.init, phase),
            self.stopped,
            Checkpoints(self.out / "checkpoints" / "frozen", keep=1, warn=self.progress.say),
            partial(advance, fresh=False),
            lambda chunk: advance(chunk.index + 1),
        )
        if failed := int((~trained.alive[: home.seeds]).sum()):
            self.progress.say(f"{failed} seeds got non-finite numbers at home and are stopped")
        return trained._replace(state=with_parent_critic(trained.state.learner, design.blend))

    def save_arms(self) -> None:
        """Save the reward mix and the options of each arm as its checkpoint."""
        design = self.design
        updates = design.home.chunks * design.home.updates
        for arm in design.arms:
            folder = self.out / "checkpoints" / safe_name(arm.name)
            if arm.learns and not folder.exists():
                mix = tuple(np.asarray(x, np.float32) for x in arm.mix(design.blend)[:3])
                options = np.array([arm.critic_kept, design.rates[arm.name]], np.float32)
                Checkpoints(folder, keep=1).save(updates, (mix, options))

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
                name = f"{safe_name(point.shift)}-{severity:g}-{safe_name(arm.name)}"
                train = partial(self.train_arm, learner, arm, pool, points, split.k_train)
                part = self.part(name, f"{digest}-{self.design.rates[arm.name]:g}", train)
                table = pd.DataFrame(part)
                tables.append(table.assign(arm=arm.name, **point._asdict()))
        return pd.concat(tables, ignore_index=True)

    def part(self, name: str, digest: str, compute: Any) -> dict:
        """A saved part of the study, computed if there is none of this digest."""
        if self.stopped():
            raise Interrupted
        path = self.out / "parts" / f"{name}.json"
        part, fresh = cached_part(path, digest, lambda: {"columns": compute()})
        self.done += self.cell_updates
        self.progress.advance(name, self.done, fresh)
        return part["columns"]

    def train_arm(
        self, learner: Learner, arm: SignalArm, pool: Any, points: EvalPoints, k_train: jax.Array
    ) -> dict[str, list]:
        """Train one arm in one shift -> columns with an entry per seed (`run`)."""
        away, seeds = self.design.away, self.design.home.seeds
        agent = replace(away.agent, lr=self.design.rates[arm.name])
        columns: dict[str, Any] = {"seed": range(seeds), "alive": np.ones(seeds, bool)}
        if arm.learns:
            phase = Phase(
                worlds=world_pool(pool),
                chunks=away.chunks,
                updates=away.updates,
                agent=agent,
                blend=self.design.blend,
                mix=arm.mix(self.design.blend),
                heads="frozen",
                renew=arm.renew,
            )
            keys, curve = seed_keys(k_train, range(away.rows)), []
            trained = run_phase(
                self.backend,
                phase,
                partial(self.backend.enter, learner, phase, keys),
                self.stopped,
                on_chunk=lambda chunk: curve.append(chunk.metrics["success"]),
            )
            learner, columns["alive"] = trained.state.learner, trained.alive[:seeds]
            columns |= {f"curve_{i}": success[:seeds] for i, success in enumerate(curve)}
        scores = self.backend.evaluate(learner, agent, points, self.stopped)
        for place, values in zip(("home", "away"), scores, strict=True):
            columns |= {f"{name}_{place}": values[name][:seeds] for name in SCORES}
            success = values["success"][:seeds]
            score = values["return"][:seeds] if np.isnan(success).all() else success
            columns[f"score_{place}"] = score
        return {name: np.asarray(column).tolist() for name, column in columns.items()}

    def label_noise(self, learner: Learner, split: Split, results: pd.DataFrame) -> pd.DataFrame:
        """AUROC and gain of hope - fear by the share of flipped labels, a row per share and seed.

        Columns: `share`, `seed`, `home` and `soon` (AUROC of fear for harm within ten steps, at
        home and over the dev shifts), `end` (of fear less hope for harm at terminal observations
        there), `gain` (score in the dev shifts less that of the frozen agent).
        """
        full = [i for i, p in enumerate(split.points.points) if p.severity in (0.0, 1.0)]
        points = select_points(split.points, full)
        suffixes = ["", *(f"_flipped_{rate}" for rate in FLIP_RATES)]
        digest = leaves_digest(points.worlds)
        aurocs = self.part("aurocs", digest, partial(self.aurocs, learner, points, suffixes))
        away = results[results["severity"] == 1.0].groupby(["arm", "seed"])["score_away"].mean()
        tables = []
        for rate, suffix in zip((0.0, *FLIP_RATES), suffixes, strict=True):
            arm = f"flipped_{rate}" if rate else TESTED
            soon, end = (np.array(aurocs[f"{name}{suffix}"], float) for name in ("soon", "end"))
            columns = {
                "seed": range(len(soon)),
                "home": soon[:, 0],
                "soon": soon[:, 1:].mean(1),
                "end": end[:, 1:].mean(1),
                "gain": (away.loc[arm] - away.loc["frozen"]).to_numpy(),
            }
            tables.append(pd.DataFrame(columns).assign(share=rate))
        return pd.concat(tables, ignore_index=True)

    def aurocs(
        self, learner: Learner, points: EvalPoints, suffixes: Sequence[str]
    ) -> dict[str, list]:
        """AUROCs [S, P] of the pairs of fear and hope heads with these suffixes, by name."""
        home, blend = self.design.home, self.design.blend
        measure = vmap_seeds(partial(head_aurocs, blend=blend, suffixes=tuple(suffixes)), home.rows)
        recordings = self.backend.record(learner, home.agent, points, self.stopped, home.episodes)
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
        names = [arm.name for arm in self.design.arms]
        rows = []
        for arm in names:
            table = results[results["arm"] == arm]
            home = table.groupby("seed").mean(numeric_only=True)
            for seed in home.index:
                point = {"shift": "none", "family": "none", "severity": 0.0}
                rows.append(self._row(arm, seed, point, home.loc[seed], "home"))
                for _, part in table[table["seed"] == seed].iterrows():
                    point = {name: part[name] for name in ("shift", "family", "severity")}
                    rows.append(self._row(arm, seed, point, part, "away"))
        return rows

    def _row(self, arm: str, seed: int, point: dict, part: Any, place: str) -> dict:
        """One row of the score file."""
        values = {name: float(part[f"{name}_{place}"]) for name in ("score", *SCORES)}
        row = {"env": self.design.suite.name, "arm": arm, "seed": int(seed)}
        return row | point | {"episodes": self.design.home.episodes} | values


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
