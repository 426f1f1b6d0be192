"""One arm from its first step to its scores, whatever interrupts it.

The truth on disk is a checkpoint, `metrics.jsonl` (a line a chunk) and `scores.csv` (a row a seed
and point). Whatever was written after the checkpoint that a run resumes from is cut away first, so
a run that was interrupted at any moment ends as one that was not.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.host.pool import HostFailure
from envs.suite import Point
from runs.analysis.scores import append_text, read_scores, replace_file, rows_as_csv
from runs.cli.interrupt import Interrupted
from runs.engine.checkpoint import Checkpoints
from runs.engine.eval_protocol import EvalProtocol
from runs.engine.evaluate import SCORES
from runs.engine.run_config import RunConfig
from runs.engine.train import SOURCES
from runs.errors import UserError
from runs.probes import readout_table
from runs.report import episode_trace
from runs.report.tb_export import TrainingCurves, safe_name

CHECKPOINT_SECONDS = 10.0  # between two checkpoints


class ArmRunner:
    """The folder of a study: trains arms in it and scores them.

    Args:
        out: the folder.
        env: name of the environment.
        run_config: sizes.
        say: prints a line for the user.
        advance: told how far an arm is, as (arm, chunks and points done, whether just now).
        stopped: whether the user asked to stop.
    """

    def __init__(
        self,
        out: Path,
        env: str,
        run_config: RunConfig,
        say: Callable[[str], None],
        advance: Callable[[str, int, bool], None],
        stopped: Callable[[], bool],
    ):
        self.out, self.env, self.run_config = out, env, run_config
        self.say, self.advance, self.stopped = say, advance, stopped
        self.board = TrainingCurves(out, env)

    def run(self, trainer: Any, showpiece: bool = False, ask: bool = False) -> list[dict]:
        """Trains and scores one arm, or goes on with it -> its score rows.

        Args:
            trainer: of the arm.
            showpiece: whether its timelines are to be kept.
            ask: whether its signals are to be asked what they know.

        Raises:
            Interrupted: after a checkpoint, if the user asked to stop.
            HostFailure: after a checkpoint, if a host environment fails for good.
            UserError: if what the folder holds does not fit.
        """
        arm, run_config = trainer.arm.name, self.run_config
        checkpoints = self._checkpoints(trainer)
        done, run, alive = self._restored(trainer)
        if done is None:
            done = 0
        else:
            trainer.resume(run)
        self._cut_metrics(arm, done * run_config.chunk_steps)
        self.advance(arm, done, False)
        due = time.monotonic()  # the first chunk is kept at once
        try:
            while done < run_config.chunks:
                if self.stopped():
                    raise Interrupted
                run, alive = self._chunk(trainer, run, alive, done)
                done += 1
                self.advance(arm, done, True)
                if time.monotonic() > due or done == run_config.chunks:
                    checkpoints.save(done, (run, alive))
                    due = time.monotonic() + CHECKPOINT_SECONDS
        except (Interrupted, HostFailure):
            checkpoints.save(done, (run, alive))
            raise
        rows = self._score(trainer, run, alive, EvalProtocol(trainer.suite))
        if not trainer.arm.control:
            self.film(trainer, run)
        if showpiece:
            self.timelines(trainer, run, rows)
        if ask:
            self.ask(trainer, run, alive)
        return rows

    def examine(self, trainer: Any, exam: EvalProtocol) -> list[dict]:
        """Scores one trained arm once more, or goes on with it -> its score rows.

        Raises:
            Interrupted: if the user asked to stop.
            HostFailure: if a host environment fails for good.
        """
        done, run, alive = self._restored(trainer)
        if done != self.run_config.chunks:
            raise UserError(f"arm {trainer.arm.name} is not trained to its end: go on with it")
        return self._score(trainer, run, alive, exam)

    def _checkpoints(self, trainer: Any) -> Checkpoints:
        return Checkpoints(self.out / "checkpoints" / safe_name(trainer.arm.name), warn=self.say)

    def _restored(self, trainer: Any) -> tuple[int | None, Any, np.ndarray]:
        """Where an arm was: (chunks done, run, alive); as it starts, and None, where it was not."""
        run, alive = trainer.start(), np.ones(self.run_config.rows, bool)
        saved = self._checkpoints(trainer).restore((run, alive))
        if saved is None:
            return None, run, alive
        done, (run, alive) = saved
        return done, run, np.asarray(alive)

    def film(self, trainer: Any, run: Any) -> None:
        """Writes one episode of the arm as an animation, unless it is there."""
        from runs.report.film import write_film

        mark = self.out / "films" / f"{safe_name(trainer.arm.name)}.done"
        filmed = None if mark.exists() else self._filmed(trainer, lambda: trainer.film(run))
        if filmed is None:
            return
        write_film(self.out, self.env, trainer.arm.name, *filmed)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    def timelines(self, trainer: Any, run: Any, rows: list[dict]) -> None:
        """Keeps an episode at home and one where the arm does worst, unless they are there."""
        points = trainer.suite.points()
        for name, point in (("home", 0), ("away", _worst_point(rows, points))):
            path = self.out / "timelines" / f"{name}.npz"
            if path.exists() or point is None:
                continue
            episode = self._filmed(trainer, lambda point=point: trainer.timeline(run, point))
            if episode is None:
                return
            shift, _, severity = points[point]
            where = f"at home in {self.env}" if name == "home" else f"under {shift}, {severity:g}"
            episode_trace.save_trace(path, episode, f"{trainer.arm.name} {where}")

    def ask(self, trainer: Any, run: Any, alive: np.ndarray) -> None:
        """Asks the arm's signals what they know, and keeps it, unless it is there."""
        seeds = [seed for seed in range(self.run_config.seeds) if alive[seed]]
        if not seeds or (self.out / readout_table.NAME).exists():
            return
        arm, points = trainer.arm.name, trainer.suite.points()
        self.say(f"{self.env}: {arm} is asked what its feelings know, at {len(points)} points")
        told = trainer.ask(run, self.stopped)
        readout_table.write_readouts(self.out, readout_table.readout_rows(arm, told, points, seeds))

    def _filmed(self, trainer: Any, film: Callable[[], Any]) -> Any:
        """What was filmed; None if it could not be, which is said."""
        try:
            return film()
        except Exception as error:  # whatever draws a host environment; a film decides nothing
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            self.say(f"{self.env}, arm {trainer.arm.name}: not filmed ({cause})")
            return None

    def _chunk(self, trainer: Any, run: Any, alive: np.ndarray, done: int):
        """One chunk; a seed that made something that is not a number stays as it was before."""
        began = time.monotonic()
        new, metrics, finite = trainer.chunk(run, self.stopped)
        finite = np.asarray(finite)  # [S, U, sources]
        failing = alive & ~finite.all((1, 2))
        failing[self.run_config.seeds :] = False
        for seed in np.flatnonzero(failing):
            self._stop_seed(trainer.arm.name, run, int(seed), finite[seed], done)
        alive = alive & finite.all((1, 2))
        if not alive.all():
            new = select_seeds(alive, new, run)
        values = {key: np.asarray(value)[: self.run_config.seeds] for key, value in metrics.items()}
        line = {
            "arm": trainer.arm.name,
            "step": (done + 1) * self.run_config.chunk_steps,
            "seconds": round(time.monotonic() - began, 3),
            "metrics": {
                key: [_number(x) if ok else None for x, ok in zip(value, alive, strict=False)]
                for key, value in values.items()
            },
        }
        append_text(self.out / "metrics.jsonl", json.dumps(line) + "\n")
        self.board.append(line)
        return new, alive

    def _stop_seed(self, arm: str, run: Any, seed: int, finite: np.ndarray, done: int) -> None:
        """Names what went wrong and keeps the state before it, for replay."""
        update = int((~finite).any(1).argmax())
        source = SOURCES[int((~finite[update]).argmax())]
        steps = self.run_config.num_envs * self.run_config.num_steps
        step = done * self.run_config.chunk_steps + (update + 1) * steps
        kept = self.out / "stopped" / f"{safe_name(arm)}-s{seed}"
        Checkpoints(kept, warn=self.say).save(done, one_seed(run, seed, self.run_config.num_envs))
        self.say(
            f"{self.env}, arm {arm}, seed {seed}: {source} made something that is not a number by "
            f"step {step}; the seed is stopped, its state at step {done * self.run_config.chunk_steps} "
            f"is in {kept}"
        )

    def _score(self, trainer: Any, run: Any, alive: np.ndarray, exam: EvalProtocol) -> list[dict]:
        arm, path = trainer.arm.name, self.out / exam.file
        points, before = len(exam.suite.points()), self.run_config.chunks
        if exam.draw is not None:
            before += len(trainer.suite.points())
        rows, others = self._read_scores(path, arm)
        seeds = [seed for seed in range(self.run_config.seeds) if alive[seed]]
        done = len(rows) // max(len(seeds), 1)
        rows = rows[: done * len(seeds)]
        self.advance(arm, before + done, False)
        if done == points or not seeds:
            return rows
        replace_file(path, rows_as_csv(others + rows, header=True))
        for point, scores in trainer.score(run, done, self.stopped, exam):
            fresh = [self._row(arm, seed, point, scores) for seed in seeds]
            for seed in [row["seed"] for row in fresh if not np.isfinite(row["score"])]:
                self.say(
                    f"{self.env}, arm {arm}, seed {seed}: the environment paid something that is "
                    f"not a number under {point.shift} {point.severity}; the seed is left out"
                )
            append_text(path, rows_as_csv(fresh))
            rows += fresh
            done += 1
            self.advance(arm, before + done, True)
        return rows

    def _row(self, arm: str, seed: int, point: Point, scores: dict) -> dict:
        values = {name: float(scores[name][seed]) for name in SCORES}
        score = values["return" if np.isnan(values["success"]) else "success"]
        return {
            "env": self.env,
            "arm": arm,
            "seed": seed,
            "shift": point.shift,
            "family": point.family,
            "severity": point.severity,
            "episodes": self.run_config.episodes,
            "score": score,
        } | values

    def _read_scores(self, path: Path, arm: str) -> tuple[list[dict], list[dict]]:
        """Rows of the arm and of the others, without what a crash left half written."""
        rows = read_scores(path) if path.exists() else []
        return [r for r in rows if r["arm"] == arm], [r for r in rows if r["arm"] != arm]

    def _cut_metrics(self, arm: str, step: int) -> None:
        path = self.out / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _belongs(line, arm, step)]
        if kept != lines or (lines and not path.read_text().endswith("\n")):
            replace_file(path, "".join(f"{line}\n" for line in kept))
        self.board.restart(arm, step)


def _worst_point(rows: list[dict], points: Sequence[Point]) -> int | None:
    """The point away from home with the lowest mean score; None where there is none."""
    means = {
        i: np.mean([r["score"] for r in rows if r["shift"] == name and r["severity"] == severity])
        for i, (name, _, severity) in enumerate(points)
        if i and any(r["shift"] == name and r["severity"] == severity for r in rows)
    }
    return min(means, key=means.get, default=None)


def select_seeds(alive: np.ndarray, new: Any, old: Any) -> Any:
    """Seeds that are alive from `new`, the others from `old`; leaves [S, ...]."""

    def pick(new, old):
        if jnp.shape(new)[:1] != alive.shape:
            return new
        return jnp.where(alive.reshape(-1, *[1] * (jnp.ndim(new) - 1)), new, old)

    return _with_shared(new, jax.tree.map(pick, _without_shared(new), _without_shared(old)))


def one_seed(run: Any, seed: int, num_envs: int) -> Any:
    """What a run holds of one seed, leaves [1, ...] (of its host environments: [B, ...])."""
    own = jax.tree.map(lambda leaf: leaf[seed : seed + 1], _without_shared(run))
    if not hasattr(run, "pool"):
        return own
    here = slice(seed * num_envs, (seed + 1) * num_envs)
    return own._replace(pool={name: leaf[here] for name, leaf in run.pool.items()})


def _without_shared(run: Any) -> Any:
    """A run without what belongs to no single seed: the pool of host environments."""
    return run._replace(pool=()) if hasattr(run, "pool") else run


def _with_shared(run: Any, own: Any) -> Any:
    return own._replace(pool=run.pool) if hasattr(run, "pool") else own


def _number(x: Any) -> float | None:
    return float(x) if np.isfinite(x) else None


def _belongs(line: str, arm: str, step: int) -> bool:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return False
    return row["arm"] != arm or row["step"] <= step
