"""Play recorded episodes in a browser: frames, and the signal of every head at each step.

Writes one HTML page, which needs no network and no server. Without flags it plays the two episodes
that a comparison recorded: at home and under the worst shift. With --arms it records one episode of
each of them anew, from the trained agents: at home, or with --shift under that shift, or, of a
single arm, in both. All are recorded under the same random key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from runs.cli.settings import parse_settings, run_main
from runs.errors import UserError

if TYPE_CHECKING:
    from runs.report.episode_trace import EpisodeTrace

COMMAND = "python -m runs.replay"
HOME = ("none", 0.0)


@dataclass(frozen=True)
class Settings:
    """Command-line settings of the replay.

    Attributes:
        study: folder of a finished study, such as runs/logs/compare/Drive-eb021f4b.
        arms: whose agents act; without any, the recorded episodes are played.
        shift: under which they act; without one, at home.
        severity: of the shift, one that was scored.
        seed: of the training run.
        save: the page; by default replay.html in the folder of the study.
    """

    study: Positional[Path] = Path()
    arms: tuple[str, ...] = ()
    shift: str = ""
    severity: float = 1.0
    seed: int = 0
    save: Path | None = None


def main(argv: list[str]) -> int:
    """Write the page -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if not settings.study.is_dir():
        raise UserError(f"{settings.study}: no such folder; name that of a study")
    if settings.shift and not settings.arms:
        raise UserError("--shift: name whose agents act there, such as --arms none")
    path = settings.save or settings.study / "replay.html"
    if not path.parent.is_dir():
        raise UserError(f"--save {path}: there is no folder {path.parent}")
    episodes, arms = record(settings) if settings.arms else (recorded(settings.study), ())
    from runs.report.html import write_replay

    print(write_replay(path, settings.study.resolve().name, episodes, arms))
    return 0


def recorded(study: Path) -> list[tuple[str, "EpisodeTrace"]]:
    """Episodes that a study recorded: at home and under its worst shift.

    Raises:
        UserError: if there is none.
    """
    from runs.report.episode_trace import load_trace

    paths = (study / "timelines" / f"{name}.npz" for name in ("home", "away"))
    episodes = [trace for trace in map(load_trace, paths) if trace is not None]
    if not episodes:
        raise UserError(f"{study} has no recorded episode; record some: --arms none")
    return episodes


def record(settings: Settings) -> tuple[list[tuple[str, "EpisodeTrace"]], Sequence[str]]:
    """Record an episode of each arm of the settings -> (episodes, all arms of the study).

    Raises:
        UserError: for a study that is not finished or not one of `runs.compare`, or an unknown
            arm, shift, severity or seed.
    """
    from runs.engine.devices import prepare_devices
    from runs.export import open_study, study_command

    prepare_devices()
    result = open_study(settings.study, study_command(settings.study))
    places = [(settings.shift, settings.severity)] if settings.shift else [HOME]
    if settings.shift and len(settings.arms) == 1:
        places = [HOME, *places]
    episodes = [
        result.episode(arm, shift, severity, settings.seed)
        for arm in settings.arms
        for shift, severity in places
    ]
    return episodes, [arm.name for arm in result.experiment.all_arms]


if __name__ == "__main__":
    run_main(main)
