"""The reward-free study: its order of steps, and the files that hold its results.

    plan registered -> home training -> all arms frozen -> dev shifts, a look -> sealed shifts drawn

The checkpoint of an arm holds what it starts from (home training, reward mix), so the sealed draw
depends on all of it. A part is one arm in one shift, all seeds, in a file of its own.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from envs.world import World
from runs.adaptation.control_heads import insert_critic
from runs.adaptation.reward_arms import FLIP_RATES, TESTED, RewardArm
from runs.adaptation.reward_free_design import HOME_CHUNKS, RewardFreeDesign
from runs.adaptation.reward_free_report import seed_scores
from runs.analysis.scores import COLUMNS
from runs.engine.cache import load_part, save_part
from runs.engine.checkpoint import Checkpoints
from runs.engine.evaluate import SCORES
from runs.engine.jax_backend import DRAWS
from runs.engine.specialists import pool_worlds, worlds_digest
from runs.engine.train import RunnerState
from runs.errors import Interrupted
from runs.names import safe_name
from runs.prereg import seal


class SplitWorlds(NamedTuple):
    """Worlds of one split, [P, draws], to train and to evaluate in, and the keys of both."""

    points: dict[tuple[str, float], int]
    train_worlds: World
    eval_worlds: World
    k_train: jax.Array
    k_eval: jax.Array


class RewardFreeStudy:
    """One study in its folder.

    Args:
        design: of the study.
        out: the folder.
        progress: receives messages and units of progress.
        stopped: whether the user requested a stop.
    """

    def __init__(
        self, design: RewardFreeDesign, out: Path, progress: Any, stopped: Callable[[], bool]
    ):
        self.design, self.out, self.progress, self.stopped = design, out, progress, stopped
        self.done, self.non_finite = 0, 0
        self.chunk_units, self.arm_units = design.home.progress_units(
            design.updates[0] // HOME_CHUNKS, design.updates[1]
        )
        milder = 4 * len(design.dev) * len(design.severities[:-1])
        self.num_parts = len(design.arms) * (len(design.dev) + len(design.sealed))
        self.num_parts += len(design.extra) * len(design.dev) + milder
        progress.total = (self.num_parts + 1) * self.arm_units + HOME_CHUNKS * self.chunk_units

    def run(self) -> tuple[dict, list[dict]]:
        """Run the whole study -> (parts by shift, severity and arm; `label_noise_levels`).

        Raises:
            Interrupted: if a stop is requested; finished parts are kept.
        """
        design = self.design
        sizes, batch = design.home.sizes, design.home.sizes.num_envs * design.home.sizes.num_steps
        self.progress.say(
            f"{design.suite.name}: {sizes.seeds} seeds x {design.updates[0] * batch:,} steps at "
            f"home, then {len(design.arms)} arms x {design.updates[1] * batch:,} in each of "
            f"{len(design.dev)} dev and {len(design.sealed)} sealed shifts -> {self.out}"
        )
        points = 2 * self.num_parts + 1 + len(design.dev)
        updates = design.updates[0] + self.num_parts * design.updates[1]
        if (cost := design.home.time_estimate(self.home_pool(), updates, points)) is not None:
            self.progress.say(cost)
        for line in seal.register(self.out, design.plan):
            self.progress.say(f"differs from the registered plan: {line}")
        run = self.train_at_home()
        self.save_arms(run)
        seal.freeze_agents(self.out)
        parts, dev = (
            {},
            self.make_worlds(jax.random.key(design.home.sizes.base + 1), design.dev, True),
        )
        parts |= self.train_arms(run, dev, design.dev, 1.0, (*design.arms, *design.extra))
        bounds = [arm for arm in design.arms if arm.name in ("frozen", "zero", TESTED, "true")]
        for severity in design.severities[:-1]:
            parts |= self.train_arms(run, dev, design.dev, severity, bounds)
        levels = self.label_noise_levels(run, dev, parts)
        self.write_scores(parts, design.dev, "dev")
        key = seal.seal_key(seal.draw_sealed(self.out))
        parts |= self.train_arms(
            run, self.make_worlds(key, design.sealed), design.sealed, 1.0, design.arms
        )
        self.write_scores(parts, design.sealed, "sealed")
        return parts, levels

    def home_pool(self) -> World:
        """The worlds [N] of home to train in."""
        key = jax.random.key(self.design.home.sizes.base + 4)
        return pool_worlds(self.design.suite.worlds(key, DRAWS), [0])

    def train_at_home(self) -> RunnerState:
        """Train at home or restore the learners; their critic fills every `ParentCritic`."""
        home, pool = self.design.home, self.home_pool()
        run = home.init(pool)
        checkpoints = Checkpoints(self.out / "checkpoints" / "frozen", keep=1)
        restored = checkpoints.restore(run.learner)
        self.done = HOME_CHUNKS * self.chunk_units
        if restored is not None:
            self.progress.advance("at home", self.done, False)
            return run._replace(learner=restored[1])
        for chunk in range(HOME_CHUNKS):
            if self.stopped():
                raise Interrupted
            updates = self.design.updates[0] // HOME_CHUNKS
            mix = home.reward_mix(task_weight=1.0)
            run, sums = home.train(run, pool, mix, updates, True, self.stopped)
            self.count_non_finite(sums)
            self.progress.advance("at home", self.chunk_units * (chunk + 1))
        blend_state = run.learner.blend_state
        critic = run.learner.agent.train_state.net.critic
        blend_state = insert_critic(blend_state, home.blend, critic)
        run = run._replace(learner=run.learner._replace(blend_state=blend_state))
        checkpoints.save(self.design.updates[0], run.learner)
        return run

    def save_arms(self, run: RunnerState) -> None:
        """Save a checkpoint an arm: of the frozen agent, or the reward mix of another arm."""
        for arm in self.design.arms:
            folder = self.out / "checkpoints" / safe_name(arm.name)
            if arm.learns and not folder.exists():
                mix = self.design.home.reward_mix(arm.signal_weights, arm.task_weight, arm.sham)
                options = np.array([arm.critic_kept, self.design.rates[arm.name]], np.float32)
                Checkpoints(folder, keep=1).save(self.design.updates[0], (mix, options))

    def make_worlds(
        self, key: jax.Array, shifts: Sequence[str], all_severities: bool = False
    ) -> SplitWorlds:
        """Sample the worlds of home (first) and of some shifts from a key."""
        severities = self.design.severities if all_severities else (1.0,)
        selected = tuple(shift for shift in self.design.suite.shifts if shift.name in shifts)
        suite = replace(self.design.suite, shifts=selected, severities=severities)
        points = {(p.shift, p.severity): i for i, p in enumerate(suite.points())}
        k_train_worlds, k_eval_worlds, k_train, k_eval = jax.random.split(key, 4)
        draws = min(DRAWS, self.design.home.sizes.episodes)
        train, test = suite.worlds(k_train_worlds, DRAWS), suite.worlds(k_eval_worlds, draws)
        return SplitWorlds(points, train, test, k_train, k_eval)

    def train_arms(
        self,
        run: RunnerState,
        worlds: SplitWorlds,
        shifts: Sequence[str],
        severity: float,
        arms: Sequence[RewardArm],
    ) -> dict:
        """Train and evaluate each arm in each shift, or load its saved part."""
        parts = {}
        for shift in shifts:
            i = worlds.points[shift, severity]
            pool = pool_worlds(worlds.train_worlds, [i])
            eval_worlds = jax.tree.map(lambda leaf, i=i: leaf[np.array([0, i])], worlds.eval_worlds)
            digest = worlds_digest((pool, eval_worlds, jax.random.key_data(worlds.k_train)))
            for arm in arms:
                if self.stopped():
                    raise Interrupted
                name = f"{safe_name(shift)}-{severity:g}-{safe_name(arm.name)}"
                path = self.out / "parts" / f"{name}.json"
                arm_digest = f"{digest}-{self.design.rates[arm.name]:g}"
                part = load_part(path, arm_digest)
                fresh = part is None
                if fresh:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    save_part(
                        path,
                        self.train_arm(run, arm, pool, eval_worlds, worlds)
                        | {"settings": arm_digest},
                    )
                    part = load_part(path, arm_digest)
                self.non_finite += part["non_finite"]
                parts[shift, severity, arm.name] = part
                self.done += self.arm_units
                self.progress.advance(f"{shift}, {arm.name}", self.done, fresh)
        return parts

    def train_arm(
        self, run: RunnerState, arm: RewardArm, pool: World, eval_worlds: World, worlds: SplitWorlds
    ) -> dict:
        """Train one arm in one shift -> its part: scores [S] at home and away, curves [S][U]."""
        away, curve, non_finite = self.design.away[self.design.rates[arm.name]], {}, 0
        seeds = away.sizes.seeds
        agent = run.learner.agent
        if arm.learns:
            state = away.transfer_renewed(run, pool, worlds.k_train, arm.critic_kept)
            mix = away.reward_mix(arm.signal_weights, arm.task_weight, arm.sham)
            state, sums = away.train(state, pool, mix, self.design.updates[1], stopped=self.stopped)
            agent = state.learner.agent
            curve = {
                name: np.asarray(getattr(sums, name))[:seeds].tolist()
                for name in ("episodes", "success", "harm")
            }
            non_finite = int((np.asarray(sums.finite)[:seeds].min(1) < 1).sum())
        scores = away.score(agent, eval_worlds, worlds.k_eval, self.stopped)
        by_place = {
            place: {name: scores[name][:seeds, i].tolist() for name in SCORES}
            for i, place in enumerate(("home", "away"))
        }
        return by_place | {"curve": curve, "non_finite": non_finite}

    def label_noise_levels(self, run: RunnerState, worlds: SplitWorlds, parts: dict) -> list[dict]:
        """AUROC and gain of hope - fear by the share of flipped labels, a dict a level."""
        dev, home = self.design.dev, self.design.home
        suffixes = ["", *(f"_wrong_{rate}" for rate in FLIP_RATES)]
        path = self.out / "parts" / "known.json"
        indices = np.array([0, *(worlds.points[shift, 1.0] for shift in dev)])
        eval_worlds = jax.tree.map(lambda leaf: leaf[indices], worlds.eval_worlds)
        digest = worlds_digest(eval_worlds)
        aurocs = load_part(path, digest)
        if aurocs is None:
            results = home.head_aurocs(
                run.learner, eval_worlds, worlds.k_eval, suffixes, self.stopped
            )
            results = {name: x[: home.sizes.seeds].tolist() for name, x in results.items()}
            save_part(path, results | {"settings": digest})
            aurocs = load_part(path, digest)
        self.done += self.arm_units
        self.progress.advance("AUROC of the heads", self.done, True)
        frozen = seed_scores(parts, dev, "frozen")
        levels = []
        for rate, suffix in zip((0.0, *FLIP_RATES), suffixes, strict=True):
            arm = f"wrong_{rate}" if rate else TESTED
            soon, end = (np.array(aurocs[f"{name}{suffix}"]) for name in ("soon", "end"))
            levels.append(
                {
                    "share": rate,
                    "home": soon[:, 0],
                    "soon": soon[:, 1:].mean(1),
                    "end": end[:, 1:].mean(1),
                    "gain": seed_scores(parts, dev, arm) - frozen,
                }
            )
        return levels

    def write_scores(self, parts: dict, shifts: Sequence[str], split: str) -> None:
        """Write the scores of a split to its CSV file and enter them in the ledger."""
        path, buffer = self.out / seal.SCORES[split], io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.score_rows(parts, shifts))
        if not path.exists() or path.read_text() != buffer.getvalue():
            path.write_text(buffer.getvalue())
        seal.enter_scores(self.out, split)

    def score_rows(self, parts: dict, shifts: Sequence[str]) -> Iterator[dict]:
        """CSV rows by seed and point; scores at home are means over the shifts trained in."""
        family = {shift.name: shift.family for shift in self.design.suite.shifts}
        for arm in self.design.arms:
            arm_parts = {shift: parts[shift, 1.0, arm.name] for shift in shifts}
            for seed in range(self.design.home.sizes.seeds):
                by_shift = {"none": [part["home"] for part in arm_parts.values()]}
                by_shift |= {shift: [part["away"]] for shift, part in arm_parts.items()}
                for shift, all_scores in by_shift.items():
                    values = {
                        name: float(np.mean([scores[name][seed] for scores in all_scores]))
                        for name in SCORES
                    }
                    score = values["return" if np.isnan(values["success"]) else "success"]
                    row = {"env": self.design.suite.name, "arm": arm.name, "seed": seed}
                    row |= {"shift": shift, "family": family.get(shift, "none"), "score": score}
                    row |= {"episodes": self.design.home.sizes.episodes}
                    yield row | {"severity": 0.0 if shift == "none" else 1.0} | values

    def count_non_finite(self, sums: Any) -> None:
        """Count learners with non-finite numbers."""
        finite = np.asarray(sums.finite)[: self.design.home.sizes.seeds].min(1)
        self.non_finite += int((finite < 1).sum())
