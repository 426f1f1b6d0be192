"""The study of learning where nobody pays: what is run, in which order, and what is kept of it.

    plan entered -> home training -> every arm frozen -> dev shifts, a look -> sealed draw -> sealed

What an arm starts from (the home training, its terms) is its checkpoint, so the sealed draw depends
on all of it. A part is one arm in one shift, all seeds, in a file of its own.
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
from runs.adaptation.reward_arms import TESTED, WRONG, RewardArm
from runs.adaptation.reward_free_design import HOME_CHUNKS, RewardFreeDesign
from runs.adaptation.reward_free_report import seed_scores
from runs.analysis.scores import COLUMNS
from runs.cli.interrupt import Interrupted
from runs.engine.cache import load_part, save_part
from runs.engine.checkpoint import Checkpoints
from runs.engine.evaluate import SCORES
from runs.engine.jax_backend import DRAWS
from runs.engine.specialists import pool_worlds, worlds_digest
from runs.engine.train import RunnerState
from runs.prereg import seal
from runs.report.tb_export import safe_name


class SplitWorlds(NamedTuple):
    """Worlds of one split: to learn in and to be scored in [P, draws], and their keys."""

    points: dict[tuple[str, float], int]
    school: World
    field: World
    k_life: jax.Array
    k_score: jax.Array


class RewardFreeStudy:
    """One study in its folder.

    Args:
        what: is run.
        out: the folder.
        progress: told how far it is.
        stopped: whether the user asked to stop.
    """

    def __init__(
        self, what: RewardFreeDesign, out: Path, progress: Any, stopped: Callable[[], bool]
    ):
        self.what, self.out, self.progress, self.stopped = what, out, progress, stopped
        self.done, self.non_finite = 0, 0
        self.chunk, self.arm = what.home.worth(what.updates[0] // HOME_CHUNKS, what.updates[1])
        milder = 4 * len(what.dev) * len(what.severities[:-1])
        self.parts = len(what.arms) * (len(what.dev) + len(what.sealed))
        self.parts += len(what.extra) * len(what.dev) + milder
        progress.total = (self.parts + 1) * self.arm + HOME_CHUNKS * self.chunk

    def run(self) -> tuple[dict, list[dict]]:
        """All of it -> (parts by shift, severity and arm; what wrongly told heads know).

        Raises:
            Interrupted: if the user asked to stop; what was done is kept.
        """
        what = self.what
        sizes, per = what.home.sizes, what.home.sizes.num_envs * what.home.sizes.num_steps
        self.progress.say(
            f"{what.suite.name}: {sizes.seeds} seeds x {what.updates[0] * per:,} steps at home, "
            f"then {len(what.arms)} arms x {what.updates[1] * per:,} in each of {len(what.dev)} "
            f"dev and {len(what.sealed)} sealed shifts -> {self.out}"
        )
        points = 2 * self.parts + 1 + len(what.dev)
        updates = what.updates[0] + self.parts * what.updates[1]
        if (cost := what.home.cost(self.nursery(), updates, points)) is not None:
            self.progress.say(cost)
        for line in seal.register(self.out, what.plan):
            self.progress.say(f"not as declared: {line}")
        run = self.taught()
        self.freeze(run)
        seal.freeze_agents(self.out)
        found, dev = {}, self.ground(jax.random.key(what.home.sizes.base + 1), what.dev, True)
        found |= self.learn(run, dev, what.dev, 1.0, (*what.arms, *what.extra))
        few = [arm for arm in what.arms if arm.name in ("frozen", "zero", TESTED, "true")]
        for severity in what.severities[:-1]:
            found |= self.learn(run, dev, what.dev, severity, few)
        levels = self.wrong(run, dev, found)
        self.enter(found, what.dev, "dev")
        key = seal.seal_key(seal.draw_sealed(self.out))
        found |= self.learn(run, self.ground(key, what.sealed), what.sealed, 1.0, what.arms)
        self.enter(found, what.sealed, "sealed")
        return found, levels

    def nursery(self) -> World:
        """The worlds [N] of home that are learned in."""
        key = jax.random.key(self.what.home.sizes.base + 4)
        return pool_worlds(self.what.suite.worlds(key, DRAWS), [0])

    def taught(self) -> RunnerState:
        """The learners after their training at home, the old critic among their feelings."""
        home, pool = self.what.home, self.nursery()
        run = home.start(pool)
        saved = Checkpoints(self.out / "checkpoints" / "frozen", keep=1)
        restored = saved.restore(run.learner)
        self.done = HOME_CHUNKS * self.chunk
        if restored is not None:
            self.progress.advance("at home", self.done, False)
            return run._replace(learner=restored[1])
        for chunk in range(HOME_CHUNKS):
            if self.stopped():
                raise Interrupted
            updates = self.what.updates[0] // HOME_CHUNKS
            paid = home.terms(pay=1.0)
            run, sums = home.live(run, pool, paid, updates, True, self.stopped)
            self.count_unsound(sums)
            self.progress.advance("at home", self.chunk * (chunk + 1))
        blend_state = run.learner.blend_state
        critic = run.learner.agent.trained.net.critic
        blend_state = insert_critic(blend_state, home.blend, critic)
        run = run._replace(learner=run.learner._replace(blend_state=blend_state))
        saved.save(self.what.updates[0], run.learner)
        return run

    def freeze(self, run: RunnerState) -> None:
        """A checkpoint an arm: of the frozen agent, and of the terms of all others."""
        for arm in self.what.arms:
            folder = self.out / "checkpoints" / safe_name(arm.name)
            if arm.learns and not folder.exists():
                terms = self.what.home.terms(arm.weights, arm.pay, arm.sham)
                kind = np.array([arm.critic_kept, self.what.rates[arm.name]], np.float32)
                Checkpoints(folder, keep=1).save(self.what.updates[0], (terms, kind))

    def ground(self, key: jax.Array, shifts: Sequence[str], milder: bool = False) -> SplitWorlds:
        """The worlds of some shifts under a key, home first."""
        severities = self.what.severities if milder else (1.0,)
        some = tuple(shift for shift in self.what.suite.shifts if shift.name in shifts)
        suite = replace(self.what.suite, shifts=some, severities=severities)
        points = {(p.shift, p.severity): i for i, p in enumerate(suite.points())}
        k_school, k_field, k_life, k_score = jax.random.split(key, 4)
        draws = min(DRAWS, self.what.home.sizes.episodes)
        schools, fields = suite.worlds(k_school, DRAWS), suite.worlds(k_field, draws)
        return SplitWorlds(points, schools, fields, k_life, k_score)

    def learn(
        self,
        run: RunnerState,
        ground: SplitWorlds,
        shifts: Sequence[str],
        severity: float,
        arms: Sequence[RewardArm],
    ) -> dict:
        """Each arm in each shift, those that are kept included -> parts."""
        found = {}
        for shift in shifts:
            i = ground.points[shift, severity]
            pool = pool_worlds(ground.school, [i])
            field = jax.tree.map(lambda leaf, i=i: leaf[np.array([0, i])], ground.field)
            made = worlds_digest((pool, field, jax.random.key_data(ground.k_life)))
            for arm in arms:
                if self.stopped():
                    raise Interrupted
                name = f"{safe_name(shift)}-{severity:g}-{safe_name(arm.name)}"
                path = self.out / "parts" / f"{name}.json"
                kind = f"{made}-{self.what.rates[arm.name]:g}"
                part = load_part(path, kind)
                fresh = part is None
                if fresh:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    save_part(path, self.adapt(run, arm, pool, field, ground) | {"recipe": kind})
                    part = load_part(path, kind)
                self.non_finite += part["non_finite"]
                found[shift, severity, arm.name] = part
                self.done += self.arm
                self.progress.advance(f"{shift}, {arm.name}", self.done, fresh)
        return found

    def adapt(
        self, run: RunnerState, arm: RewardArm, pool: World, field: World, ground: SplitWorlds
    ) -> dict:
        """One arm in one shift: scores at home and away [S], and how it went [S][U]."""
        away, curve, non_finite = self.what.away[self.what.rates[arm.name]], {}, 0
        seeds = away.sizes.seeds
        agent = run.learner.agent
        if arm.learns:
            lived = away.enter(run, pool, ground.k_life, arm.critic_kept)
            terms = away.terms(arm.weights, arm.pay, arm.sham)
            lived, sums = away.live(lived, pool, terms, self.what.updates[1], stopped=self.stopped)
            agent = lived.learner.agent
            curve = {
                name: np.asarray(getattr(sums, name))[:seeds].tolist()
                for name in ("episodes", "success", "harm")
            }
            non_finite = int((np.asarray(sums.finite)[:seeds].min(1) < 1).sum())
        scores = away.score(agent, field, ground.k_score, self.stopped)
        at = {
            where: {name: scores[name][:seeds, i].tolist() for name in SCORES}
            for i, where in enumerate(("home", "away"))
        }
        return at | {"curve": curve, "non_finite": non_finite}

    def wrong(self, run: RunnerState, ground: SplitWorlds, found: dict) -> list[dict]:
        """Heads by the share of ends that they were told wrong: what they know, what they teach."""
        dev, home = self.what.dev, self.what.home
        suffixes = ["", *(f"_wrong_{share}" for share in WRONG)]
        path = self.out / "parts" / "known.json"
        at = np.array([0, *(ground.points[shift, 1.0] for shift in dev)])
        field = jax.tree.map(lambda leaf: leaf[at], ground.field)
        kind = worlds_digest(field)
        told = load_part(path, kind)
        if told is None:
            known = home.known(run.learner, field, ground.k_score, suffixes, self.stopped)
            known = {n: x[: home.sizes.seeds].tolist() for n, x in known.items()}
            save_part(path, known | {"recipe": kind})
            told = load_part(path, kind)
        self.done += self.arm
        self.progress.advance("what heads know", self.done, True)
        frozen = seed_scores(found, dev, "frozen")
        levels = []
        for share, suffix in zip((0.0, *WRONG), suffixes, strict=True):
            arm = f"wrong_{share}" if share else TESTED
            soon, end = (np.array(told[f"{name}{suffix}"]) for name in ("soon", "end"))
            levels.append(
                {
                    "share": share,
                    "home": soon[:, 0],
                    "soon": soon[:, 1:].mean(1),
                    "end": end[:, 1:].mean(1),
                    "gain": seed_scores(found, dev, arm) - frozen,
                }
            )
        return levels

    def enter(self, found: dict, shifts: Sequence[str], split: str) -> None:
        """Writes the scores of a split and enters them in the ledger."""
        path, rows = self.out / seal.SCORES[split], io.StringIO()
        writer = csv.DictWriter(rows, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows(found, shifts))
        if not path.exists() or path.read_text() != rows.getvalue():
            path.write_text(rows.getvalue())
        seal.enter_scores(self.out, split)

    def rows(self, found: dict, shifts: Sequence[str]) -> Iterator[dict]:
        """A row a seed and point; home is the mean over what was learned in each shift."""
        family = {shift.name: shift.family for shift in self.what.suite.shifts}
        for arm in self.what.arms:
            parts = {shift: found[shift, 1.0, arm.name] for shift in shifts}
            for seed in range(self.what.home.sizes.seeds):
                at = {"none": [part["home"] for part in parts.values()]}
                at |= {shift: [part["away"]] for shift, part in parts.items()}
                for shift, scored in at.items():
                    values = {n: float(np.mean([s[n][seed] for s in scored])) for n in SCORES}
                    good = values["return" if np.isnan(values["success"]) else "success"]
                    row = {"env": self.what.suite.name, "arm": arm.name, "seed": seed}
                    row |= {"shift": shift, "family": family.get(shift, "none"), "score": good}
                    row |= {"episodes": self.what.home.sizes.episodes}
                    yield row | {"severity": 0.0 if shift == "none" else 1.0} | values

    def count_unsound(self, sums: Any) -> None:
        """Counts learners that stopped being numbers."""
        finite = np.asarray(sums.finite)[: self.what.home.sizes.seeds].min(1)
        self.non_finite += int((finite < 1).sum())
