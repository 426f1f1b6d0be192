"""Arms of an `Experiment`: train, score and record each into its folder, resuming exactly.

Files: `checkpoints/ARM`, `metrics.jsonl` (one line per chunk), `scores.csv` (one row per seed and
evaluation point), `films`, `timelines`, `readouts.csv`. On resume, lines after the restored
checkpoint are removed first, so an interrupted run ends with the same files as any other.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from envs.suite import Point, Suite
from runs.analysis.scores import read_scores, rows_as_csv
from runs.engine.arms import Arm
from runs.engine.backend import Backend
from runs.engine.checkpoint import Checkpoints
from runs.engine.evaluate import EvalPoints
from runs.engine.jax_backend import train_config
from runs.engine.phases import Phase
from runs.engine.seeds import Stream, stream_seed, take_seeds
from runs.engine.train import Learner
from runs.engine.training_loop import Chunk, Trained, restore_phase, run_phase
from runs.errors import UserError
from runs.lock import append_file, replace_file
from runs.names import SCORES, safe_name
from runs.probes.probe import probe_arm
from runs.probes.readout_table import NAME as READOUTS
from runs.probes.readout_table import readout_rows, write_readouts
from runs.report.episode_trace import EpisodeTrace, save_trace, trace_episode
from runs.report.film import has_film, write_film
from runs.report.tb_export import TrainingCurves

METRICS = "metrics.jsonl"


class Reporter(NamedTuple):
    """Receivers of what the user is to see.

    Attributes:
        say: a line of text.
        advance: (name of the arm, units done of it, whether by this process).
        stopped: returns whether the user requested a stop.
    """

    say: Callable[[str], None]
    advance: Callable[[str, int, bool], None]
    stopped: Callable[[], bool]


class ArmRunner:
    """Trains, scores and records arms of one suite, writing into one folder.

    Args:
        out: the folder.
        suite: with the public shifts.
        backend: of the suite's environment.
        reporter: of messages and progress.
    """

    def __init__(self, out: Path, suite: Suite, backend: Backend, reporter: Reporter):
        self.out, self.suite, self.backend, self.reporter = out, suite, backend, reporter
        self.run_config, self.curves = backend.run_config, TrainingCurves(out, suite.name)

    def train(self, arm: Arm, phase: Phase) -> Trained:
        """Train an arm, or load its trained agents.

        Raises:
            Interrupted: after saving a checkpoint, if the user requested a stop.
            HostFailure: after saving a checkpoint, if a host environment fails for good.
            UserError: if the folder's checkpoint is of another configuration.
        """

        def on_resume(done: int) -> None:
            self._cut_metrics(arm.name, done * self.run_config.chunk_steps)
            self.reporter.advance(arm.name, done, False)

        def on_chunk(chunk: Chunk) -> None:
            self._log_chunk(arm.name, chunk)
            self.reporter.advance(arm.name, chunk.index + 1, True)

        def on_seed(state: Any) -> None:
            count = f"{int(state.trained.sum())} of {self.run_config.seeds} seeds"
            self.reporter.advance(f"{arm.name}, {count}", 0, True)

        start, stopped = lambda: self.backend.init(phase), self.reporter.stopped  # noqa: E731
        receivers = self._checkpoints(arm), on_resume, on_chunk, on_seed
        return run_phase(self.backend, phase, start, stopped, *receivers)

    def load(self, arm: Arm, phase: Phase) -> Trained:
        """Load the trained agents of an arm.

        Raises:
            UserError: if the arm has chunks left to train.
        """
        start = lambda: self.backend.init(phase)  # noqa: E731
        done, trained = restore_phase(self.backend, start, self._checkpoints(arm))
        if done != phase.chunks:
            raise UserError(f"arm {arm.name} is not fully trained; resume its training first")
        return trained

    def score(
        self, arm: Arm, phase: Phase, trained: Trained, points: EvalPoints, file: str, before: int
    ) -> list[dict]:
        """Score the points that a score file lacks -> the arm's rows.

        Args:
            arm: whose agents are scored.
            phase: in which they were trained.
            trained: their state.
            points: to score at.
            file: name of the score file.
            before: units of progress of the arm that precede its first point.
        """
        path, seeds = self.out / file, self._alive_seeds(trained)
        all_rows = read_scores(path) if path.exists() else []
        rows = [row for row in all_rows if row["arm"] == arm.name]
        others = [row for row in all_rows if row["arm"] != arm.name]
        done = len(rows) // max(len(seeds), 1)
        rows = rows[: done * len(seeds)]
        self.reporter.advance(arm.name, before + done, False)
        if done == len(points.points) or not seeds:
            return rows
        replace_file(path, rows_as_csv(others + rows, header=True))
        learner, stopped = trained.state.learner, self.reporter.stopped
        scored = self.backend.evaluate(learner, phase.agent, points, stopped, done)
        for point, scores in zip(points.points[done:], scored, strict=True):
            new_rows = [self._row(arm.name, seed, point, scores) for seed in seeds]
            self._report_non_finite(arm.name, point, new_rows)
            append_file(path, rows_as_csv(new_rows))
            rows += new_rows
            done += 1
            self.reporter.advance(arm.name, before + done, True)
        return rows

    def film(self, arm: Arm, phase: Phase, learner: Learner) -> None:
        """Write an animation of one episode with the signals of the heads, unless there is one."""
        marker = self.out / "films" / f"{safe_name(arm.name)}.done"
        if marker.exists() and has_film(self.out, self.suite.name, arm.name):
            return
        seed = stream_seed(self.run_config.base, Stream.FILM)
        recording = self._record(arm, phase, learner, self.suite.world, seed)
        if recording is None:
            return
        batch, frames = recording
        first_seed = take_seeds(learner, 0)
        signals, _ = phase.blend.feel(first_seed.blend_state, batch)
        curves = {
            name: np.asarray(signals)[: len(frames), 0, k]
            for k, name in enumerate(phase.blend.names)
        }
        write_film(self.out, self.suite.name, arm.name, frames, curves)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()

    def save_timelines(
        self, arm: Arm, phase: Phase, learner: Learner, points: EvalPoints, rows: list[dict]
    ) -> None:
        """Record one episode unshifted and one at the lowest-scoring point, unless saved before."""
        for name, index in (("home", 0), ("away", _worst_point(rows, points.points))):
            path = self.out / "timelines" / f"{name}.npz"
            if path.exists() or index is None:
                continue
            traced = self.trace(arm, phase, learner, points, index)
            if traced is None:
                return
            title, trace = traced
            save_trace(path, trace, title)

    def trace(
        self, arm: Arm, phase: Phase, learner: Learner, points: EvalPoints, index: int
    ) -> tuple[str, EpisodeTrace] | None:
        """Record an episode of the first seed at one of the points, with the signal of each step.

        Returns:
            Its title and trace; None, with a message, where the world cannot be drawn. All arms and
            points have the same random key.
        """
        world = jax.tree.map(lambda leaf: leaf[index, 0], points.worlds)
        seed = stream_seed(self.run_config.base, Stream.FILM)
        recording = self._record(arm, phase, learner, world, seed)
        if recording is None:
            return None
        first_seed = take_seeds(learner, 0)
        config = train_config(phase, self.run_config)
        trace = trace_episode(config, first_seed, *recording, self.suite.env.success)
        shift, _, severity = points.points[index]
        where = f"under {shift}, {severity:g}" if index else f"at home in {self.suite.name}"
        return f"{arm.name} {where}", trace

    def save_readouts(self, arm: Arm, phase: Phase, trained: Trained, points: EvalPoints) -> None:
        """Measure how well the arm's signals predict harm and return, and write them, once."""
        seeds = self._alive_seeds(trained)
        if not seeds or (self.out / READOUTS).exists():
            return
        self.reporter.say(
            f"{self.suite.name}: measuring what the signals of {arm.name} predict at "
            f"{len(points.points)} points"
        )
        learner, stopped = trained.state.learner, self.reporter.stopped
        readouts = probe_arm(self.backend, phase, learner, points, stopped)
        write_readouts(self.out, readout_rows(arm.name, readouts, points.points, seeds))

    def _checkpoints(self, arm: Arm) -> Checkpoints:
        """Checkpoint store of an arm."""
        folder = self.out / "checkpoints" / safe_name(arm.name)
        return Checkpoints(folder, warn=self.reporter.say)

    def _alive_seeds(self, trained: Trained) -> list[int]:
        """Seeds that never had a non-finite value."""
        return [seed for seed in range(self.run_config.seeds) if trained.alive[seed]]

    def _record(
        self, arm: Arm, phase: Phase, learner: Learner, world: Any, seed: int
    ) -> tuple[Any, np.ndarray] | None:
        """Transitions and frames of an episode; None, with a message, where drawing fails."""
        try:
            return self.backend.film(learner, phase.agent, world, seed)
        except Exception as error:  # host renderers raise anything; recordings are optional
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            self.reporter.say(f"{self.suite.name}, arm {arm.name}: not filmed ({cause})")
            return None

    def _log_chunk(self, arm: str, chunk: Chunk) -> None:
        """Append a chunk to the metrics file and the TensorBoard curves; report failing seeds."""
        for seed, (source, update) in chunk.failing.items():
            if seed < self.run_config.seeds:
                self._report_failing(arm, chunk, seed, source, update)
        seeds = range(self.run_config.seeds)
        metrics = {
            name: [_finite_or_none(value[s]) if chunk.alive[s] else None for s in seeds]
            for name, value in chunk.metrics.items()
        }
        line = {
            "arm": arm,
            "step": (chunk.index + 1) * self.run_config.chunk_steps,
            "seconds": round(chunk.seconds, 3),
            "metrics": metrics,
        }
        append_file(self.out / METRICS, json.dumps(line) + "\n")
        self.curves.append(line)

    def _report_failing(self, arm: str, chunk: Chunk, seed: int, source: str, update: int) -> None:
        """Report the source of a seed's non-finite values; save its last state for replay."""
        done = chunk.index * self.run_config.chunk_steps
        step = done + (update + 1) * self.run_config.batch_steps
        folder = self.out / "stopped" / f"{safe_name(arm)}-s{seed}"
        store = Checkpoints(folder, warn=self.reporter.say)
        store.save(chunk.index, chunk.before.one_seed(seed))
        self.reporter.say(
            f"{self.suite.name}, arm {arm}, seed {seed}: {source} produced a value that is not a "
            f"number by step {step}; the seed is stopped, its state at step {done} is in {folder}"
        )

    def _report_non_finite(self, arm: str, point: Point, rows: list[dict]) -> None:
        """Report seeds with a score that is not a number."""
        for seed in [row["seed"] for row in rows if not np.isfinite(row["score"])]:
            self.reporter.say(
                f"{self.suite.name}, arm {arm}, seed {seed}: the reward is not a number under "
                f"{point.shift} {point.severity}; the seed is left out of the results"
            )

    def _row(self, arm: str, seed: int, point: Point, scores: dict) -> dict:
        """One row of the score file; `score` is the success rate, or the return where it is NaN."""
        values = {name: float(scores[name][seed]) for name in SCORES}
        score = values["return" if np.isnan(values["success"]) else "success"]
        row = {"env": self.suite.name, "arm": arm, "seed": seed} | point._asdict()
        return row | {"episodes": self.run_config.episodes, "score": score} | values

    def _cut_metrics(self, arm: str, step: int) -> None:
        """Remove an arm's metric lines after `step`, and broken lines, before resuming there."""
        path = self.out / METRICS
        text = path.read_text(errors="replace") if path.exists() else ""
        kept = "".join(f"{line}\n" for line in text.splitlines() if _is_kept(line, arm, step))
        if kept != text:
            replace_file(path, kept)
        self.curves.restart(arm, step)


def _worst_point(rows: list[dict], points: Sequence[Point]) -> int | None:
    """Index of the shifted point with the lowest mean score; None without shifted rows."""
    scores: dict[tuple, list[float]] = {}
    for row in rows:
        scores.setdefault((row["shift"], row["severity"]), []).append(row["score"])
    means = {
        i: np.mean(scores[shift, severity])
        for i, (shift, _, severity) in enumerate(points)
        if i and (shift, severity) in scores
    }
    return min(means, key=means.get, default=None)


def _finite_or_none(x: Any) -> float | None:
    """Convert to float, or None for NaN and infinity, which JSON cannot store."""
    return float(x) if np.isfinite(x) else None


def _is_kept(line: str, arm: str, step: int) -> bool:
    """Whether a metrics line is whole and either of another arm or not after `step`."""
    try:
        row = json.loads(line)
        return row["arm"] != arm or row["step"] <= step
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
