"""Serves a study's curves to a browser on this machine: the comparison first, then every seed.

Starts TensorBoard over the study's folder and prints links that open it at the right place: all
shifts at once, one shift by itself, training seed by seed. In the first ones an arm is one line
with a band, so that the few of them get colours however many seeds stand behind them; a filter
keeps the seeds out, because TensorBoard selects nothing among more than 40 runs in its older tabs.
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

from runs.cli.settings import closest_name, parse_settings, run_main
from runs.errors import UserError

COMMAND = "python -m runs.board"
LOGS = Path("runs/logs")
HOST = "127.0.0.1"
ARMS, SEEDS = "^compare/", "^runs/"
BY_ARM = "regex:^compare/(.+)$"
BY_ARM_OF_SEED = "regex:^runs/(.+)/s[0-9]+$"


@dataclass(frozen=True)
class Settings:
    """Settings of the board.

    Attributes:
        study: folder of a study, or its name under runs/logs; without one, the newest.
        port: to serve at; 0 for any that is free.
    """

    study: Positional[str] = ""
    port: int = 6006


def main(argv: list[str]) -> int:
    """Parses, then serves until Ctrl-C or SIGTERM; the exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if not 0 <= settings.port <= 65535:
        raise UserError(f"--port {settings.port}: must be 0 (any that is free) to 65535")
    study = find_study(settings.study)
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    url = serve(study / "tb", settings.port)
    print(f"{study}\n")
    for title, link in board_links(study, url):
        print(f"{title:<28}{link}")
    print("\nCtrl-C ends it.", flush=True)
    asked.wait()
    return 0


def find_study(name: str) -> Path:
    """The folder of a study that has something to show.

    Args:
        name: its folder, its path or its own name under runs/logs; empty for the newest.

    Raises:
        UserError: if there is none, naming the nearest; or several of that name.
    """
    studies = {path.parent for depth in ("*", "*/*", "*/*/*") for path in LOGS.glob(f"{depth}/tb")}
    if not name:
        if not studies:
            raise UserError(f"no study in {LOGS}: run one, such as python -m runs.compare --quick")
        return max(studies, key=_last_written)
    for folder in (Path(name), LOGS / name):
        if (folder / "tb").is_dir():
            return folder
    named = sorted(folder for folder in studies if folder.name == name)
    if len(named) > 1:
        raise UserError(f"{name} is {' and '.join(map(str, named))}: name one of them")
    if not named:
        known = [folder.name for folder in sorted(studies)]
        raise UserError(f"no study {name} with anything to show{closest_name(name, known)}")
    return named[0]


def serve(logdir: Path, port: int) -> str:
    """Starts TensorBoard in this process, which it leaves with -> its URL.

    Raises:
        UserError: for a port that is taken.
    """
    from tensorboard.program import TensorBoard, TensorBoardServerException

    board = TensorBoard()
    board.configure(logdir=str(logdir.resolve()), host=HOST, port=port)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it advertises what it loads with
            return board.launch()
    except TensorBoardServerException as error:
        why = " ".join(str(error).split())
        raise UserError(f"--port {port}: {why}; --port 0 takes any that is free") from None


def board_links(study: Path, url: str) -> Iterator[tuple[str, str]]:
    """Yields (what it shows, where): the comparison, each shift, training, settings and films.

    Args:
        study: its folder; `scores.csv` there names the shifts.
        url: of TensorBoard.
    """
    from runs.report.tb_export import safe_name

    url = url.rstrip("/")
    asked = f"_smoothingWeight=0&regexInput={quote(ARMS, safe='')}"
    yield "every shift, arm by arm", f"{url}/#custom_scalars&{asked}"
    for shift in scored_shifts(study):
        tag = re.sub("[.+]", r"\\\g<0>", safe_name(shift))  # what else it may hold means itself
        yield f"  {shift}", _series(url, ARMS, BY_ARM, f"^shift/{tag}/mean$")
    yield "training, seed by seed", _series(url, SEEDS, BY_ARM_OF_SEED, "^train/return$")
    if any((study / "tb").glob("compare/*/*/*.rollout")):
        yield "films of one episode", _series(url, ARMS, BY_ARM, "^rollout$")
    yield "settings against scores", f"{url}/#hparams"


def scored_shifts(study: Path) -> list[str]:
    """The shifts that were scored, in the order in which they were; none before that."""
    path = study / "scores.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        named = dict.fromkeys(row.get("shift", "none") for row in csv.DictReader(file))
    return [name for name in named if name not in ("none", None)]


def _series(url: str, runs: str, colours: str, tags: str) -> str:
    """A link to TIME SERIES: which runs, how they are coloured, which tags."""
    asked = {"runFilter": runs, "runColorGroup": colours, "tagFilter": tags, "smoothing": "0"}
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items())
    return f"{url}/?{query}#timeseries"


def _last_written(study: Path) -> float:
    """When a study last wrote to its curves, in seconds."""
    files = [path for path in (study / "tb").rglob("*") if path.is_file()]
    return max((path.stat().st_mtime for path in files), default=0.0)


if __name__ == "__main__":
    run_main(main)
