"""Points that Optuna suggests from the scores of those before them: one study, in one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runs.scale.grid import Axes, Point, Range, point_digest
from runs.scale.processes import optional_package
from runs.scale.space import typed_point


class Suggestions:
    """A study of Optuna (Akiba et al., 2019; sampler: TPE, Bergstra et al., 2011), in rounds.

    A study that was killed goes on with the points that it would have had.

    Args:
        path: file of the study, a journal of JSON lines.
        axes: of the grid.
        kinds: type of every setting, by name.
        samples: number of points in all.
        batch: points of a round, which are suggested before any of them has a score.
    """

    def __init__(self, path: Path, axes: Axes, kinds: Mapping[str, Any], samples: int, batch: int):
        self.optuna = optuna = optional_package("optuna", "optuna", "--search")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        storage = optuna.storages.JournalStorage(backend)
        options = {"study_name": "sweep", "direction": "maximize", "load_if_exists": True}
        self.study = optuna.create_study(storage=storage, **options)
        self.failed = optuna.trial.TrialState.FAIL
        self.axes, self.kinds, self.samples, self.batch = axes, kinds, samples, batch

    def points(self) -> list[Point]:
        """All points so far; those of the last round have no score yet."""
        for trial in self.study.trials:
            if not (trial.state.is_finished() or self.axes.keys() <= trial.params.keys()):
                self.study.tell(trial.number, state=self.failed)  # killed while it was drawn
        while (count := len(self._trials())) < self.samples:
            if count % self.batch == 0 and self._trials(scored=False):
                break
            sampler = self.optuna.samplers.TPESampler(seed=count, constant_liar=True)
            self.study.sampler = sampler  # a new one, so that points depend on the file alone
            self._suggest(self.study.ask())
        return [self._point(trial) for trial in self._trials()]

    def tell(self, scores: Mapping[str, float]) -> bool:
        """Add scores, by digest of the point -> whether all points have one, or failed."""
        for trial in self._trials(scored=False):
            score = scores.get(point_digest(self._point(trial)))
            self.study.tell(trial.number, score, state=self.failed if score is None else None)
        return len(self._trials()) == self.samples

    def _trials(self, scored: bool = True) -> list[Any]:
        """Trials that were drawn completely; without `scored` those without a score."""
        drawn = [trial for trial in self.study.trials if self.axes.keys() <= trial.params.keys()]
        return [trial for trial in drawn if scored or not trial.state.is_finished()]

    def _suggest(self, trial: Any) -> None:
        """Draw the parameters of a trial; of a list of values, the index of one."""
        for name, axis in self.axes.items():
            if not isinstance(axis, Range):
                trial.suggest_categorical(name, list(range(len(axis))))
            elif self.kinds[name] is int:
                trial.suggest_int(name, round(axis.low), round(axis.high), log=axis.log)
            else:
                trial.suggest_float(name, axis.low, axis.high, log=axis.log)

    def _point(self, trial: Any) -> Point:
        """The point of a trial."""
        values = {
            name: trial.params[name] if isinstance(axis, Range) else axis[trial.params[name]]
            for name, axis in self.axes.items()
        }
        return typed_point(values, self.kinds)
