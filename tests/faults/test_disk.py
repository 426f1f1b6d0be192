"""A full disk at any write is one line, and after room is made the same command ends identical."""

import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from runs.engine.cache import cached_part
from runs.engine.checkpoint import Checkpoints
from runs.errors import UserError
from runs.lock import append_file, claim_folder, replace_file
from runs.prereg import seal
from runs.prereg.manifest import enter_manifest
from runs.report.episode_trace import EpisodeTrace, save_trace
from runs.report.film import write_film
from runs.report.page import Page
from runs.report.plots import save_figure
from runs.report.tb_writer import EventWriter
from tests.faults.bench import SMOKE, assert_one_error, end, report, results, start, tries
from tests.runs.sealed_study import sealed_plan

FRAMES = np.random.default_rng(0).integers(0, 255, (8, 60, 60, 3), np.uint8)
MANY = {f"w{i}": np.random.default_rng(i).random(5000) for i in range(8)}


def write_events(out: Path) -> None:
    with EventWriter(out / "tb") as events:
        for step in range(200):
            events.scalars({"x": step}, step)


def draw(path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([1, 2])
    save_figure(figure, path)


WRITES: dict[str, Callable[[Path], None]] = {
    "identity": lambda out: claim_folder(out, "x"),
    "scores": lambda out: append_file(out / "scores.csv", "1,2\n" * 2000),
    "part": lambda out: cached_part(out / "parts" / "a.json", "", lambda: {"x": [0.5] * 2000}),
    "plan and ledger": lambda out: seal.register(out, sealed_plan()),
    "manifest": lambda out: (replace_file(out / "a", "a" * 90), enter_manifest(out)),
    "checkpoint": lambda out: Checkpoints(out / "checkpoints").save(1, MANY),
    "events": write_events,
    "film": lambda out: write_film(out, "Env", "arm", FRAMES, {}),
    "timeline": lambda out: save_trace(
        out / "timelines" / "home.npz", EpisodeTrace(FRAMES, {}, None, ""), "title"
    ),
    "page": lambda out: Page("page", "text " * 2000, {"": draw}, tables={"": "a,b\n" * 900}).write(
        out
    ),
}


@contextmanager
def full_disk(most: int) -> Iterator[None]:
    """No file can become larger than `most` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("what", WRITES)
def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_no_half_of_it(
    what, tmp_path, record_property, capfd
):
    write, out = WRITES[what], tmp_path / "out"
    out.mkdir()
    for most in (0, 80, 20_000)[: 2 + (what == "checkpoint")]:
        with full_disk(most), pytest.raises((OSError, UserError)) as caught:
            write(out)
        message = str(caught.value)
        assert "\n" not in message and (str(tmp_path) in message), message
        assert what != "checkpoint" or "File too large" in message  # found before Orbax writes
    assert capfd.readouterr().err == ""  # of threads of Orbax
    halves = [path for path in out.rglob("*") if ".part" in path.name]
    assert halves == []
    write(out)
    assert any(path.stat().st_size for path in out.rglob("*") if path.is_file())
    report(record_property, "full and read-only disks at one write", 2)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """Folder of a file system of its own, in memory; a test is skipped where none is mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if mount("-t", "tmpfs", "none", folder) != 0:
        pytest.skip("no file system may be mounted")
    yield folder
    subprocess.run(["umount", folder], check=True)


def mount(*argv: object) -> int:
    """Exit code of `mount`."""
    return subprocess.run(["mount", *map(str, argv)], capture_output=True).returncode


def used(folder: Path) -> int:
    """Bytes of a file system that are used."""
    return shutil.disk_usage(folder).used


@pytest.mark.slow
@pytest.mark.parametrize("options", ["rw", "ro"])
def test_a_file_system_without_room_or_read_only_is_such_an_error(options, disk, record_property):
    folders = {what: disk / what for what in WRITES}
    for out in folders.values():
        out.mkdir()
    assert mount("-o", f"remount,{options},size={max(used(disk), 4096)}", disk) == 0
    if options == "rw":
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
    for what, out in folders.items():
        with pytest.raises((OSError, UserError)) as caught:
            WRITES[what](out)
        message = str(caught.value)
        assert "\n" not in message and str(disk) in message, (what, message)
    assert mount("-o", "remount,rw,size=1g", disk) == 0
    for what, out in folders.items():
        assert [path for path in out.rglob("*") if ".part" in path.name] == [], what
        WRITES[what](out)
    report(record_property, "full and read-only disks at one write", len(WRITES))


@pytest.mark.slow
def test_a_study_on_a_small_file_system_ends_identical_after_room_is_made(
    disk, smoke, record_property
):
    rng, out, times = random.Random(1), disk / "full", 0
    while times < tries(15):
        room = used(disk) + int(10 ** rng.uniform(3.6, 6.6))
        assert mount("-o", f"remount,size={room}", disk) == 0
        ended = end(start(*SMOKE, "--out", out))
        if ended.code == 0:  # it is complete: the next disks are of another
            assert results(out) == results(smoke)
            shutil.rmtree(out)
        else:
            assert_one_error(ended)
            times += 1
    assert mount("-o", "remount,ro", disk) == 0
    assert_one_error(end(start(*SMOKE, "--out", out)))
    assert mount("-o", "remount,rw,size=1g", disk) == 0
    ended = end(start(*SMOKE, "--out", out))
    assert ended.code == 0, ended.err
    assert results(out) == results(smoke)
    assert end(start("runs.verify", out)).code == 0
    report(record_property, "full disks during a study", times)


@pytest.mark.slow
def test_a_study_on_a_full_disk_ends_identical_after_room_is_made(smoke, tmp_path, record_property):
    rng, out, times = random.Random(0), tmp_path / "full", 0
    while times < tries(15):
        ended = end(start(*SMOKE, "--out", out, most_bytes=int(10 ** rng.uniform(1, 6.5))))
        if ended.code == 0:  # the limit is larger than every file: the next disks are of another
            assert results(out) == results(smoke)
            shutil.rmtree(out)
        else:
            assert_one_error(ended)
            times += 1
    ended = end(start(*SMOKE, "--out", out))
    assert ended.code == 0, ended.err
    assert results(out) == results(smoke)
    assert end(start("runs.verify", out)).code == 0
    report(record_property, "full disks during a study", times)
