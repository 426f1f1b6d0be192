"""Make the files of `affect.zoo` anew: train the parents of each world and export their heads.

Each file is made by two commands, which its card holds; this one runs them all. A study that is
finished is not trained again.
"""

import importlib
import shlex
from dataclasses import dataclass
from pathlib import Path

from runs.cli.settings import parse_settings, run_main
from runs.errors import UserError
from runs.names import checked_choice

COMMAND = "python -m runs.zoo"
DRIVE = "Drive --heads hope-10 hope-20 hope-50 fear-10"
ENTRIES = {
    "drive-value": (DRIVE, ""),
    "drive-value-16": (DRIVE, "--distil 16x16"),
    "drive-value-2x4": (DRIVE, "--distil 2x4"),
    "drive-hope-10": (DRIVE, "--head hope_10"),
    "drive-hope-20": (DRIVE, "--head hope_20"),
    "drive-hope-50": (DRIVE, "--head hope_50"),
    "drive-fear": (DRIVE, "--head fear_10"),
    "cartpole-value": ("CartPole", "--distil 16x16"),
    "acrobot-value": ("Acrobot", "--distil 16x16"),
    "lava-value": ("Lava", "--distil 1x8"),
    "keys-value": ("Keys", "--distil 1x8"),
    "share-value": ("Share", "--distil 16x16"),
    "cartpole-v1-value": ("CartPole-v1", "--distil 16x16"),
}
"""Name of a file -> (environment and heads of its study, flags of its export)."""


@dataclass(frozen=True)
class Settings:
    """Settings of the command.

    Attributes:
        only: names of the files to make; all by default.
    """

    only: tuple[str, ...] = ()


def main(argv: list[str]) -> int:
    """Run the commands of the files -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    for name in settings.only:
        checked_choice("file", name, ENTRIES)
    if not Path("affect/zoo").is_dir():
        raise UserError("there is no folder affect/zoo here: run this in the root of the checkout")
    for command in commands(settings.only or tuple(ENTRIES)):
        print(command, flush=True)
        _, _, module, *flags = shlex.split(command)
        if code := importlib.import_module(module).main(flags):
            return code
    return 0


def commands(names: tuple[str, ...]) -> list[str]:
    """The commands that make some files, each once, in their order."""
    pairs = (entry_commands(name) for name in names)
    return list(dict.fromkeys(command for pair in pairs for command in pair))


def entry_commands(name: str) -> tuple[str, str]:
    """The two commands that make a file: those of its study and of its export."""
    study, flags = ENTRIES[name]
    folder = f"runs/logs/zoo/{study.partition(' ')[0]}"
    export = f"python -m runs.export {folder} --arm parent --save affect/zoo/{name}.safetensors"
    return (
        f"python -m runs.parents --env {study} --out {folder}",
        f"{export} {flags} --licence MIT".replace("  ", " "),
    )


if __name__ == "__main__":
    run_main(main)
