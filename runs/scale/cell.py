"""A cell of a sweep: one arm, at points that share a program, in a block of seeds.

A cell is a folder with a description (`cell.json`) and a command, `python -m runs.sweep --cell
FOLDER`, that may be run any number of times: it goes on from its checkpoint and does nothing once
it is done. It ends with `result.csv`, score rows with the variant of each, and `done.json` with the
SHA-256 of that file. Nothing in the folder is code.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from runs.errors import UserError
from runs.lock import replace_file
from runs.scale.grid import Point

RESULT, DONE, FAILED, CELL = "result.csv", "done.json", "failed", "cell.json"
LOG = "log"  # what the command of a cell printed last
STUDY = "study"  # folder of the study in that of its cell, where a cell is a whole study


class Cell(NamedTuple):
    """One arm, at points that share a program, in a block of seeds; or a whole study at a point.

    Attributes:
        name: digest of all that changes its results, and the name of its folder.
        arm: name of the arm; empty for a whole study.
        points: with settings, of which each has its own rows of the result.
        variants: digest of all that changes the results of the arm at each point.
        first: seed of the block.
        seeds: number of seeds in the block.
    """

    name: str
    arm: str
    points: tuple[Point, ...]
    variants: tuple[str, ...]
    first: int
    seeds: int

    def text(self, study: str, argv: Sequence[str]) -> str:
        """Description of the cell in `cell.json`: of a module of `runs` with some flags."""
        return json.dumps(self._asdict() | {"study": study, "argv": list(argv)}, indent=1)


def read_cell(folder: Path) -> tuple[Cell, str, list[str]]:
    """The cell of a folder -> (cell, study, flags of the study).

    Raises:
        UserError: if the description is missing or broken.
    """
    try:
        content = json.loads((folder / CELL).read_text())
        study, argv = content.pop("study"), content.pop("argv")
        content |= {name: tuple(content[name]) for name in ("points", "variants")}
        return Cell(**content), study, argv
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / CELL}: {error}: run the sweep again to write it") from None


def write_result(folder: Path, text: str, checkpoint: str = "") -> None:
    """Write the result of a cell, and then its SHA-256 and the content hash of its checkpoint."""
    replace_file(folder / RESULT, text)
    done = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "checkpoint": checkpoint}
    replace_file(folder / DONE, json.dumps(done))


def read_done(folder: Path) -> dict[str, str]:
    """SHA-256 of a cell's result and content hash of its checkpoint; empty if it is not done."""
    try:
        return json.loads((folder / DONE).read_bytes())
    except (OSError, ValueError):
        return {}


def read_result(folder: Path) -> bytes | None:
    """Bytes of a cell's result; None if it is not done or does not match its checksum."""
    try:
        content = (folder / RESULT).read_bytes()
    except OSError:
        return None
    sha = hashlib.sha256(content).hexdigest()
    return content if read_done(folder).get("sha256") == sha else None


def is_done(folder: Path) -> bool:
    """Whether a cell's result is complete and matches its checksum."""
    return read_result(folder) is not None


def failure(folder: Path) -> str:
    """Why a cell failed for good; empty if it did not."""
    path = folder / FAILED
    return path.read_text().strip() if path.exists() else ""
