"""Export a trained head, or an agent's critic, of a finished comparison as a file.

The file is what `affect.Inherited` takes; its card holds the world, the steps, the seed and the two
commands that made it. Studies of `python -m runs.compare` are exported; others from Python, by
`Result.head` and `Result.value`.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from runs.cli.settings import parse_settings, run_main, shell_command
from runs.cli.study import COMMAND_FILE
from runs.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from runs.result import Result

COMMAND = "python -m runs.export"
EXPORTED = "python -m runs.compare"
VALUE = "value"
DISTILLED = re.compile(r"(\d+)x(\d+)")
EPISODES = 64  # recorded at home, to distil on


@dataclass(frozen=True)
class Settings:
    """Command-line settings of the export.

    Attributes:
        study: folder of a finished comparison, such as runs/logs/compare/Drive-eb021f4b.
        arm: of the comparison.
        head: of the arm, or `value`: the critic of its agent.
        seed: of the training run.
        save: the file, such as value.safetensors.
        distil: UNITSxBITS, such as 2x4: a smaller head, fitted where the trained agent goes.
    """

    study: Positional[Path] = Path()
    arm: str = "none"
    head: str = VALUE
    seed: int = 0
    save: Path | None = None
    distil: str = ""


def main(argv: list[str]) -> int:
    """Export one head -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if settings.save is None or not settings.save.parent.is_dir():
        raise UserError("--save: name a file in a folder that exists, such as value.safetensors")
    size = DISTILLED.fullmatch(settings.distil)
    if settings.distil and size is None:
        raise UserError(f"--distil {settings.distil}: write UNITSxBITS, such as 2x4")
    command = study_command(settings.study)

    from runs.engine.devices import prepare_devices

    prepare_devices()
    from affect import distil

    result = open_study(settings.study, command)
    if settings.head == VALUE:
        head = result.value(settings.arm, settings.seed)
    else:
        head = result.head(settings.arm, settings.head, settings.seed)
    facts, summary = {"commands": (command, shell_command(COMMAND, argv))}, ""
    try:
        if size is not None:
            units, bits = int(size[1]), int(size[2])
            obs = home_observations(result, settings.arm, settings.seed)
            small = distil(head, units=units, bits=bits, on=obs)
            facts["measures"] = {"r2": small.r2}
            summary = f", {small.num_bytes} bytes of weights, R2 {small.r2:.3f}"
            head = small.head.with_facts(**head.origin.facts)
        head.save(settings.save, **facts)
    except (ValueError, OSError) as error:
        raise UserError(f"{settings.arm}, {settings.head}: {error}") from None
    print(
        f"{settings.save}: {type(head).__name__} of {settings.arm}, seed {settings.seed}{summary}"
    )
    return 0


def study_command(folder: Path) -> str:
    """The command that made a study.

    Raises:
        UserError: no study, an unfinished one, or one of another kind.
    """
    file = folder / COMMAND_FILE
    if not file.is_file():
        raise UserError(f"{folder} is no study with its command; give it and run its command again")
    command = file.read_text().strip()
    if not command.startswith(f"{EXPORTED} ") and command != EXPORTED:
        raise UserError(
            f"{folder} was made by `{command}`: only those of runs.compare are exported"
        )
    if not (folder / "scores.csv").is_file():
        raise UserError(f"{folder} is not finished: go on with `{command}`")
    return command


def open_study(folder: Path, command: str) -> "Result":
    """Result of a finished comparison, from its folder and the command that made it."""
    from runs.compare import Settings as ComparisonSettings
    from runs.compare import make_experiment
    from runs.result import Result

    flags = shlex.split(command)[len(shlex.split(EXPORTED)) :]
    settings = parse_settings(ComparisonSettings, flags, "", prog=EXPORTED)
    return Result(make_experiment(settings), folder)


def home_observations(result: "Result", arm: str, seed: int) -> "np.ndarray":
    """Observations [N, D] after each step of whole episodes of a trained agent at home."""
    import numpy as np

    batch, alive = result.recording(arm, EPISODES)
    return np.asarray(batch.next_obs[seed])[np.asarray(alive[seed])]


if __name__ == "__main__":
    run_main(main)
