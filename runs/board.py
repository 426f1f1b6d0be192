"""Serve a study's curves with TensorBoard: the comparison of arms, then every training seed.

Starts TensorBoard on the study's folder and prints links to its views: all shifts at once, each
shift alone, training seed by seed. In the first two an arm is one line with a band over seeds, and
a filter hides the single seeds, because the older tabs of TensorBoard select nothing among more
than 40 runs.
"""

import contextlib
import csv
import io
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tyro.conf import Positional

from runs.cli.settings import parse_settings, run_main
from runs.errors import UserError
from runs.names import LOGS, closest_name, safe_name

COMMAND = "python -m runs.board"
HOST = "127.0.0.1"
ARMS, SEEDS = "^compare/", "^runs/"
BY_ARM = "regex:^compare/(.+)$"
BY_ARM_OF_SEED = "regex:^runs/(.+)/s[0-9]+$"


@dataclass(frozen=True)
class Settings:
    """Settings of the board.

    Attributes:
        study: folder of a study, or its name under runs/logs; the newest by default.
        port: to serve at; 0 for any free port.
    """

    study: Positional[str] = ""
    port: int = 6006


def main(argv: list[str]) -> int:
    """Serve a study until Ctrl-C or SIGTERM -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if not 0 <= settings.port <= 65535:
        raise UserError(f"--port {settings.port}: must be 0 (any that is free) to 65535")
    study = find_study(settings.study)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    url = serve(study / "tb", settings.port)
    print(f"{study}\n")
    for title, link in board_links(study, url):
        print(f"{title:<28}{link}")
    print("\nCtrl-C ends it.", flush=True)
    stop.wait()
    return 0


def find_study(name: str) -> Path:
    """Find the folder of a study that has TensorBoard files.

    Args:
        name: folder, path or name under runs/logs; empty for the newest study.

    Raises:
        UserError: if no study has that name (with the closest one), or several have it.
    """
    studies = {path.parent for depth in ("*", "*/*", "*/*/*") for path in LOGS.glob(f"{depth}/tb")}
    if not name:
        if not studies:
            raise UserError(f"no study in {LOGS}: run one, such as python -m runs.compare --quick")
        return max(studies, key=_last_written)
    for folder in (Path(name), LOGS / name):
        if (folder / "tb").is_dir():
            return folder
    matches = sorted(folder for folder in studies if folder.name == name)
    if len(matches) > 1:
        raise UserError(f"{name} is {' and '.join(map(str, matches))}: name one of them")
    if not matches:
        names = [folder.name for folder in sorted(studies)]
        raise UserError(f"no study {name} with anything to show{closest_name(name, names)}")
    return matches[0]


def serve(logdir: Path, port: int) -> str:
    """Start TensorBoard in a thread of this process -> its URL.

    Raises:
        UserError: for a port that is taken.
    """
    from tensorboard.program import TensorBoard, TensorBoardServerException

    board = TensorBoard()
    board.configure(logdir=str(logdir.resolve()), host=HOST, port=port)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its advertisements
            return board.launch()
    except TensorBoardServerException as error:
        why = " ".join(str(error).split())
        raise UserError(f"--port {port}: {why}; --port 0 takes any that is free") from None


def board_links(study: Path, url: str) -> Iterator[tuple[str, str]]:
    """Yield (title, link): the comparison, each shift, training, films and settings.

    Args:
        study: folder, whose `scores.csv` names the shifts.
        url: of TensorBoard.
    """
    url = url.rstrip("/")
    query = f"_smoothingWeight=0&regexInput={quote(ARMS, safe='')}"
    yield "every shift, arm by arm", f"{url}/#custom_scalars&{query}"
    for shift in scored_shifts(study):
        tag = re.sub("[.+]", r"\\\g<0>", safe_name(shift))  # no other special character is left
        yield f"  {shift}", _series(url, ARMS, BY_ARM, f"^shift/{tag}/mean$")
    yield "training, seed by seed", _series(url, SEEDS, BY_ARM_OF_SEED, "^train/return$")
    if any((study / "tb").glob("compare/*/*/*.rollout")):
        yield "films of one episode", _series(url, ARMS, BY_ARM, "^rollout$")
    yield "settings against scores", f"{url}/#hparams"


def scored_shifts(study: Path) -> list[str]:
    """Names of the scored shifts, in order; empty before scoring."""
    path = study / "scores.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        names = dict.fromkeys(row.get("shift", "none") for row in csv.DictReader(file))
    return [name for name in names if name not in ("none", None)]


def _series(url: str, runs: str, colours: str, tags: str) -> str:
    """Link to the tab TIME SERIES that filters runs and tags and sets the colours of runs."""
    options = {"runFilter": runs, "runColorGroup": colours, "tagFilter": tags, "smoothing": "0"}
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
    return f"{url}/?{query}#timeseries"


def _last_written(study: Path) -> float:
    """Time of the last write to TensorBoard files of a study, in seconds."""
    files = [path for path in (study / "tb").rglob("*") if path.is_file()]
    return max((path.stat().st_mtime for path in files), default=0.0)


if __name__ == "__main__":
    run_main(main)
