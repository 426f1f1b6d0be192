"""Export a trained head, or an agent's critic, of a finished study as a file.

The file is what `affect.Inherited` takes; its card holds the world, the steps, the seed, the two
commands that made it, how well it tells success from failure at home and under shift
(`runs.probes.success`), and a scale and a shift for `affect.Potential`. Studies of
`python -m runs.compare` and `python -m runs.parents` are exported; others from Python, by
`Result.head` and `Result.value`.
"""

import importlib
import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from runs.cli.settings import parse_settings, run_main, shell_command
from runs.cli.study import COMMAND_FILE
from runs.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from affect import Head, Transition
    from runs.result import Result

COMMAND = "python -m runs.export"
EXPORTED = re.compile(r"python -m (runs\.(?:compare|parents))(?: (.*))?")
VALUE = "value"
DISTILLED = re.compile(r"(\d+)x(\d+)")
EPISODES, HOST_EPISODES = 128, 16  # recorded at each point, to distil on and to measure
SCALE, PERCENTILE = 2.0, 99
CHOSEN = (
    "phi = 2 f - max f (99th percentile at home): in Drive about 2 V - 1, a pilot's choice for "
    "Timid and cross traffic; not tried elsewhere"
)


@dataclass(frozen=True)
class Settings:
    """Command-line settings of the export.

    Attributes:
        study: folder of a finished study, such as runs/logs/compare/Drive-eb021f4b.
        arm: of the study; `parent` in those of runs.parents.
        head: of the arm, or `value`: the critic of its agent.
        seed: of the training run.
        save: the file, such as value.safetensors.
        distil: UNITSxBITS, such as 2x4: a smaller head, fitted where the trained agent goes.
        licence: under which the file may be used, such as MIT.
    """

    study: Positional[Path] = Path()
    arm: str = "none"
    head: str = VALUE
    seed: int = 0
    save: Path | None = None
    distil: str = ""
    licence: str = ""


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
    from runs.probes.success import success_measures

    result, arm, seed = open_study(settings.study, command), settings.arm, settings.seed
    is_value = settings.head == VALUE
    head = result.value(arm, seed) if is_value else result.head(arm, settings.head, seed)
    facts = {"licence": settings.licence, "commands": (command, shell_command(COMMAND, argv))}
    measures, summary, recordings = {}, "", seed_recordings(result, arm, seed)
    try:
        home = next(recordings)
        if size is not None:
            units, bits = int(size[1]), int(size[2])
            small = distil(head, units=units, bits=bits, on=observations(*home))
            measures["r2"] = round(small.r2, 3)
            summary = f", {small.num_bytes} bytes of weights, R2 {small.r2:.3f}"
            head = small.head.with_facts(**head.origin.facts)
        env, agent = result.experiment.suite.env, result.experiment.run_config.agent
        points = itertools.chain([home], recordings)
        measures |= success_measures(head, points, env.success, getattr(agent, "gamma", 1.0))
        head.save(settings.save, **facts, measures=measures, **recommended(head, *home))
    except (ValueError, OSError) as error:
        raise UserError(f"{arm}, {settings.head}: {error}") from None
    print(f"{settings.save}: {type(head).__name__} of {arm}, seed {seed}{summary}")
    print(", ".join(f"{name} {value:.3f}" for name, value in measures.items()))
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
    if EXPORTED.fullmatch(command) is None:
        raise UserError(
            f"{folder} was made by `{command}`: its agents cannot be loaded; only those of "
            "runs.compare and runs.parents can"
        )
    if not (folder / "scores.csv").is_file():
        raise UserError(f"{folder} is not finished: go on with `{command}`")
    return command


def open_study(folder: Path, command: str) -> "Result":
    """Result of a finished study, from its folder and the command that made it."""
    from runs.result import Result

    name, flags = EXPORTED.fullmatch(command).groups("")
    study = importlib.import_module(name)
    settings = parse_settings(study.Settings, shlex.split(flags), "", prog=f"python -m {name}")
    return Result(study.make_experiment(settings), folder)


def seed_recordings(
    result: "Result", arm: str, seed: int
) -> Iterator[tuple["Transition", "np.ndarray"]]:
    """Whole episodes of one trained agent -> (transitions, alive), each [T, B], home first.

    Observations are those that heads read.
    """
    from affect.observation import read
    from envs.host.suite import HostEnv
    from runs.engine.seeds import take_seeds

    env = result.experiment.suite.env
    episodes = HOST_EPISODES if isinstance(env, HostEnv) else EPISODES
    for recording in result.recordings(arm, episodes):
        batch, alive = take_seeds(recording, seed)
        yield read(env.spec, batch), alive


def observations(batch: "Transition", alive: "np.ndarray") -> "np.ndarray":
    """Observations [N, D] after each step of whole episodes [T, B]."""
    import numpy as np

    return np.asarray(batch.next_obs)[np.asarray(alive)]


def recommended(head: "Head", batch: "Transition", alive: "np.ndarray") -> dict[str, Any]:
    """Scale and shift of the potential of a head, and how they were chosen, as in CHOSEN.

    Args:
        head: frozen.
        batch: [T, B] whole episodes at home.
        alive: [T, B] bool.
    """
    import numpy as np

    from runs.probes.signals import read_signal

    signal = np.asarray(read_signal(head, head.initial_state(alive.shape[1]), batch))
    went_on = np.asarray(alive & ~batch.terminated)
    highest = np.percentile(signal[went_on], PERCENTILE) if went_on.any() else 0.0
    return {"scale": SCALE, "shift": round(-float(highest), 3) + 0.0, "chosen": CHOSEN}


if __name__ == "__main__":
    run_main(main)
