"""Serve curves of one study or several with TensorBoard: arms compared, then every training seed.

Starts TensorBoard on the study's folder and prints links to its views: all shifts at once, each
shift alone, training seed by seed. In the first two an arm is one line with a band over seeds, and
a filter hides the single seeds, because the older tabs of TensorBoard select nothing among more
than 40 runs.

Of several studies, such as `python -m runs.board first second`, each is a folder of the served
ones, and arms of one name have one colour in all of them.
"""

import contextlib
import csv
import io
import re
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tyro.conf import Positional

from runs.cli.settings import parse_settings, run_main
from runs.errors import UserError
from runs.names import LOGS, closest_name, safe_name

COMMAND = "python -m runs.board"
HOST = "127.0.0.1"
MOST_RUNS = 500
"""Number of runs above which TensorBoard shows none unless each is ticked by hand."""


@dataclass(frozen=True)
class Settings:
    """Settings of the board.

    Attributes:
        studies: folders of studies, or their names under runs/logs; the newest by default.
        port: to serve at; 0 for any free port.
    """

    studies: Positional[tuple[str, ...]] = ()
    port: int = 6006


def main(argv: list[str]) -> int:
    """Serve studies until Ctrl-C or SIGTERM -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if not 0 <= settings.port <= 65535:
        raise UserError(f"--port {settings.port}: must be 0 (any that is free) to 65535")
    studies = find_studies(settings.studies)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with served_folder(studies) as (folder, with_seeds):
        url = serve(folder, settings.port)
        for label, study in studies.items():
            print(f"{label:<28}{study}" if len(studies) > 1 else study)
        print()
        for title, link in board_links([*studies.values()], url, with_seeds):
            print(f"{title:<28}{link}")
        if not with_seeds:
            print(f"\nSeeds are left out: with them there are more than {MOST_RUNS} runs.")
        print("\nCtrl-C ends it.", flush=True)
        stop.wait()
    return 0


def find_studies(names: Sequence[str]) -> dict[str, Path]:
    """Folders of studies by label: the folder's name, numbered if two studies have the same.

    Args:
        names: of studies, as of `find_study`; none for the newest study.

    Raises:
        UserError: as `find_study`, or for a study that is named twice.
    """
    folders: list[Path] = []
    for name in names or ("",):
        folder = find_study(name)
        if folder.resolve() in [earlier.resolve() for earlier in folders]:
            raise UserError(f"{name or folder}: this study is given twice; name each study once")
        folders.append(folder)
    labels = [safe_name(folder.resolve().name) for folder in folders]
    if len(set(labels)) < len(labels):
        labels = [f"{number}-{label}" for number, label in enumerate(labels, 1)]
    return dict(zip(labels, folders, strict=True))


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


@contextlib.contextmanager
def served_folder(studies: Mapping[str, Path]) -> Iterator[tuple[Path, bool]]:
    """Folder that TensorBoard reads, and whether it holds the runs of single seeds.

    That of one study is its own. For several it is a temporary folder of links to theirs, without
    seeds where there are more than MOST_RUNS runs with them.

    Args:
        studies: label -> folder of a study.
    """
    if len(studies) == 1:
        yield next(iter(studies.values())) / "tb", True
        return
    patterns = ("tb/compare/*/*", "tb/runs/*/*/s*")
    runs = [run for study in studies.values() for p in patterns for run in study.glob(p)]
    with_seeds = len(runs) <= MOST_RUNS
    with tempfile.TemporaryDirectory(prefix="board-") as name:
        for label, study in studies.items():
            part = Path() if with_seeds else Path("compare")
            link = Path(name, label, part)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to((study / "tb" / part).resolve())
        yield Path(name), with_seeds


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


def board_links(
    studies: Sequence[Path], url: str, with_seeds: bool = True
) -> Iterator[tuple[str, str]]:
    """Yield (title, link): the comparison, each shift, training, films and settings.

    Args:
        studies: folders, whose `scores.csv` name the shifts.
        url: of TensorBoard.
        with_seeds: whether runs of single seeds are served.
    """
    url, several = url.rstrip("/"), len(studies) > 1
    study, suite = ("[^/]+/", "[^/]+/") if several else ("", "")  # what the colour does not show
    arms, seeds = f"^{study}compare/", f"^{study}runs/"
    by_arm, by_arm_of_seed = f"regex:{arms}{suite}(.+)$", f"regex:{seeds}{suite}(.+)/s[0-9]+$"
    if several:  # the tab of bands gives each run a colour of its own
        every = _series(url, arms, by_arm, "^shift/.+/mean$")
    else:
        query = f"_smoothingWeight=0&regexInput={quote(arms, safe='')}"
        every = f"{url}/#custom_scalars&{query}"
    yield "every shift, arm by arm", every
    for shift in dict.fromkeys(shift for folder in studies for shift in scored_shifts(folder)):
        tag = re.sub("[.+]", r"\\\g<0>", safe_name(shift))  # no other special character is left
        yield f"  {shift}", _series(url, arms, by_arm, f"^shift/{tag}/mean$")
    if with_seeds:
        yield "training, seed by seed", _series(url, seeds, by_arm_of_seed, "^train/return$")
    else:
        yield "training, arm by arm", _series(url, arms, by_arm, "^train/return/mean$")
    if any(path for folder in studies for path in (folder / "tb").glob("compare/*/*/*.rollout")):
        yield "films of one episode", _series(url, arms, by_arm, "^rollout$")
    if with_seeds:
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
