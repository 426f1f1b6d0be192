"""Train and score one arm with checkpoints, so that an interrupted run resumes exactly.

Files in the study folder: checkpoints, `metrics.jsonl` (one line per chunk) and `scores.csv` (one
row per seed and evaluation point). On resume, lines written after the restored checkpoint are
removed first, so an interrupted run ends with the same files as an uninterrupted one.
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
from runs.engine.checkpoint import Checkpoints
from runs.engine.eval_protocol import EvalProtocol
from runs.engine.evaluate import SCORES
from runs.engine.run_config import RunConfig
from runs.engine.train import SOURCES
from runs.errors import Interrupted, UserError
from runs.names import safe_name
from runs.probes import readout_table
from runs.report import episode_trace
from runs.report.tb_export import TrainingCurves

CHECKPOINT_SECONDS = 10.0  # between two checkpoints


class ArmRunner:
    """Train, score and record the arms of one study, writing into one folder.

    Args:
        out: the study folder.
        env: name of the environment.
        run_config: sizes of each arm.
        say: prints a line for the user.
        advance: receives the progress (arm, chunks and points done, whether done by this process).
        stopped: returns whether the user requested a stop.
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

    def run(self, trainer: Any, record_episodes: bool = False, probe: bool = False) -> list[dict]:
        """Train, checkpoint and score one arm, resuming if possible; return its score rows.

        Args:
            trainer: `JaxBackend` or `HostBackend` of the arm.
            record_episodes: whether to save the two timelines (`save_timelines`).
            probe: whether to save the readouts of its signals (`save_readouts`).

        Raises:
            Interrupted: after saving a checkpoint, if the user requested a stop.
            HostFailure: after saving a checkpoint, if a host environment fails for good.
            UserError: if the folder's checkpoint is of another configuration.
        """
        arm, run_config = trainer.arm.name, self.run_config
        checkpoints = self._checkpoints(trainer)
        done, state, alive = self._restore(trainer)
        if done is None:
            done = 0
        else:
            trainer.resume(state)
        self._cut_metrics(arm, done * run_config.chunk_steps)
        self.advance(arm, done, False)
        next_save = time.monotonic()  # the first chunk is saved at once
        try:
            while done < run_config.chunks:
                if self.stopped():
                    raise Interrupted
                state, alive = self._train_chunk(trainer, state, alive, done)
                done += 1
                self.advance(arm, done, True)
                if time.monotonic() > next_save or done == run_config.chunks:
                    checkpoints.save(done, (state, alive))
                    next_save = time.monotonic() + CHECKPOINT_SECONDS
        except (Interrupted, HostFailure):
            checkpoints.save(done, (state, alive))
            raise
        rows = self._score(trainer, state, alive, EvalProtocol(trainer.suite))
        if not trainer.arm.control:
            self.film(trainer, state)
        if record_episodes:
            self.save_timelines(trainer, state, rows)
        if probe:
            self.save_readouts(trainer, state, alive)
        return rows

    def rescore(self, trainer: Any, protocol: EvalProtocol) -> list[dict]:
        """Score a trained arm under another protocol, resuming if possible; return its score rows.

        Raises:
            Interrupted: if the user requested a stop.
            HostFailure: if a host environment fails for good.
            UserError: if the arm has chunks left to train.
        """
        done, state, alive = self._restore(trainer)
        if done != self.run_config.chunks:
            raise UserError(
                f"arm {trainer.arm.name} is not fully trained; resume its training first"
            )
        return self._score(trainer, state, alive, protocol)

    def _checkpoints(self, trainer: Any) -> Checkpoints:
        """Checkpoint store of the trainer's arm."""
        return Checkpoints(self.out / "checkpoints" / safe_name(trainer.arm.name), warn=self.say)

    def _restore(self, trainer: Any) -> tuple[int | None, Any, np.ndarray]:
        """Load the newest checkpoint (chunks done, state, alive [S]); initial state with None."""
        state, alive = trainer.start(), np.ones(self.run_config.rows, bool)
        saved = self._checkpoints(trainer).restore((state, alive))
        if saved is None:
            return None, state, alive
        done, (state, alive) = saved
        return done, state, np.asarray(alive)

    def film(self, trainer: Any, state: Any) -> None:
        """Record one episode of the arm and write it as an animation, unless already written."""
        from runs.report.film import write_film

        marker = self.out / "films" / f"{safe_name(trainer.arm.name)}.done"
        recording = (
            None if marker.exists() else self._record_or_warn(trainer, lambda: trainer.film(state))
        )
        if recording is None:
            return
        write_film(self.out, self.env, trainer.arm.name, *recording)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()

    def save_timelines(self, trainer: Any, state: Any, rows: list[dict]) -> None:
        """Record one episode unshifted and one at the lowest-scoring point, unless saved before."""
        points = trainer.suite.points()
        for name, point in (("home", 0), ("away", _worst_point(rows, points))):
            path = self.out / "timelines" / f"{name}.npz"
            if path.exists() or point is None:
                continue
            episode = self._record_or_warn(
                trainer, lambda point=point: trainer.timeline(state, point)
            )
            if episode is None:
                return
            shift, _, severity = points[point]
            where = f"at home in {self.env}" if name == "home" else f"under {shift}, {severity:g}"
            episode_trace.save_trace(path, episode, f"{trainer.arm.name} {where}")

    def save_readouts(self, trainer: Any, state: Any, alive: np.ndarray) -> None:
        """Measure how well the arm's signals predict harm and return, and write them, once."""
        seeds = [seed for seed in range(self.run_config.seeds) if alive[seed]]
        if not seeds or (self.out / readout_table.NAME).exists():
            return
        arm, points = trainer.arm.name, trainer.suite.points()
        self.say(f"{self.env}: measuring readouts of the signals of {arm} at {len(points)} points")
        readouts = trainer.ask(state, self.stopped)
        readout_table.write_readouts(
            self.out, readout_table.readout_rows(arm, readouts, points, seeds)
        )

    def _record_or_warn(self, trainer: Any, record: Callable[[], Any]) -> Any:
        """Result of `record()`; None, with a printed warning, if it raises."""
        try:
            return record()
        except Exception as error:  # host renderers raise anything; recordings are optional
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            self.say(f"{self.env}, arm {trainer.arm.name}: not filmed ({cause})")
            return None

    def _train_chunk(self, trainer: Any, state: Any, alive: np.ndarray, done: int):
        """Train one chunk and log its metrics; seeds with non-finite values stay unchanged."""
        started = time.monotonic()
        new_state, metrics, finite = trainer.chunk(state, self.stopped)
        finite = np.asarray(finite)  # [S, U, sources]
        failing = alive & ~finite.all((1, 2))
        failing[self.run_config.seeds :] = False
        for seed in np.flatnonzero(failing):
            self._stop_seed(trainer.arm.name, state, int(seed), finite[seed], done)
        alive = alive & finite.all((1, 2))
        if not alive.all():
            new_state = select_seeds(alive, new_state, state)
        values = {key: np.asarray(value)[: self.run_config.seeds] for key, value in metrics.items()}
        line = {
            "arm": trainer.arm.name,
            "step": (done + 1) * self.run_config.chunk_steps,
            "seconds": round(time.monotonic() - started, 3),
            "metrics": {
                key: [
                    _finite_or_none(x) if ok else None for x, ok in zip(value, alive, strict=False)
                ]
                for key, value in values.items()
            },
        }
        append_text(self.out / "metrics.jsonl", json.dumps(line) + "\n")
        self.board.append(line)
        return new_state, alive

    def _stop_seed(self, arm: str, state: Any, seed: int, finite: np.ndarray, done: int) -> None:
        """Report the source of a seed's non-finite values and save its last state for replay."""
        update = int((~finite).any(1).argmax())
        source = SOURCES[int((~finite[update]).argmax())]
        steps = self.run_config.num_envs * self.run_config.num_steps
        step = done * self.run_config.chunk_steps + (update + 1) * steps
        folder = self.out / "stopped" / f"{safe_name(arm)}-s{seed}"
        Checkpoints(folder, warn=self.say).save(
            done, one_seed(state, seed, self.run_config.num_envs)
        )
        self.say(
            f"{self.env}, arm {arm}, seed {seed}: {source} produced a value that is not a "
            f"number by step {step}; the seed is stopped, its state at step "
            f"{done * self.run_config.chunk_steps} is in {folder}"
        )

    def _score(
        self, trainer: Any, state: Any, alive: np.ndarray, protocol: EvalProtocol
    ) -> list[dict]:
        """Score the remaining points of a protocol into its score file; return all rows."""
        arm, path = trainer.arm.name, self.out / protocol.file
        points, units_before = len(protocol.suite.points()), self.run_config.chunks
        if protocol.draw is not None:
            units_before += len(trainer.suite.points())
        rows, other_rows = self._read_scores(path, arm)
        seeds = [seed for seed in range(self.run_config.seeds) if alive[seed]]
        done = len(rows) // max(len(seeds), 1)
        rows = rows[: done * len(seeds)]
        self.advance(arm, units_before + done, False)
        if done == points or not seeds:
            return rows
        replace_file(path, rows_as_csv(other_rows + rows, header=True))
        for point, scores in trainer.score(state, done, self.stopped, protocol):
            new_rows = [self._row(arm, seed, point, scores) for seed in seeds]
            for seed in [row["seed"] for row in new_rows if not np.isfinite(row["score"])]:
                self.say(
                    f"{self.env}, arm {arm}, seed {seed}: the reward is not a number under "
                    f"{point.shift} {point.severity}; the seed is left out of the results"
                )
            append_text(path, rows_as_csv(new_rows))
            rows += new_rows
            done += 1
            self.advance(arm, units_before + done, True)
        return rows

    def _row(self, arm: str, seed: int, point: Point, scores: dict) -> dict:
        """One row of the score file; `score` is the success rate, or the return where it is NaN."""
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
        """Read the score rows (of this arm, of other arms), without half-written lines."""
        rows = read_scores(path) if path.exists() else []
        return [r for r in rows if r["arm"] == arm], [r for r in rows if r["arm"] != arm]

    def _cut_metrics(self, arm: str, step: int) -> None:
        """Remove an arm's metric lines after `step`, and broken lines, before resuming there."""
        path = self.out / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _is_kept(line, arm, step)]
        if kept != lines or (lines and not path.read_text().endswith("\n")):
            replace_file(path, "".join(f"{line}\n" for line in kept))
        self.board.restart(arm, step)


def _worst_point(rows: list[dict], points: Sequence[Point]) -> int | None:
    """Index of the shifted point with the lowest mean score; None without shifted rows."""
    means = {
        i: np.mean([r["score"] for r in rows if r["shift"] == name and r["severity"] == severity])
        for i, (name, _, severity) in enumerate(points)
        if i and any(r["shift"] == name and r["severity"] == severity for r in rows)
    }
    return min(means, key=means.get, default=None)


def select_seeds(alive: np.ndarray, new: Any, old: Any) -> Any:
    """Select seeds along axis 0 of leaves [S, ...]: `new` where `alive` [S], `old` elsewhere."""

    def pick(new, old):
        if jnp.shape(new)[:1] != alive.shape:
            return new
        return jnp.where(alive.reshape(-1, *[1] * (jnp.ndim(new) - 1)), new, old)

    return _with_shared(new, jax.tree.map(pick, _without_shared(new), _without_shared(old)))


def one_seed(state: Any, seed: int, num_envs: int) -> Any:
    """Slice one seed out of a runner state: leaves [1, ...], host environments [B, ...]."""
    seed_state = jax.tree.map(lambda leaf: leaf[seed : seed + 1], _without_shared(state))
    if not hasattr(state, "pool"):
        return seed_state
    rows = slice(seed * num_envs, (seed + 1) * num_envs)
    return seed_state._replace(pool={name: leaf[rows] for name, leaf in state.pool.items()})


def _without_shared(state: Any) -> Any:
    """Runner state without the host pool's snapshot, whose leaves have no seed axis."""
    return state._replace(pool=()) if hasattr(state, "pool") else state


def _with_shared(state: Any, seed_state: Any) -> Any:
    """Put the host pool's snapshot of `state`, if it has one, into `seed_state`."""
    return seed_state._replace(pool=state.pool) if hasattr(state, "pool") else seed_state


def _finite_or_none(x: Any) -> float | None:
    """Convert to float, or None for NaN and infinity, which JSON cannot store."""
    return float(x) if np.isfinite(x) else None


def _is_kept(line: str, arm: str, step: int) -> bool:
    """Whether a metrics line is whole and either of another arm or not after `step`."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return False
    return row["arm"] != arm or row["step"] <= step
