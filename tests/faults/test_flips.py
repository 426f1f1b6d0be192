"""Single-bit flips, truncations and deletions of every kind of file of a study are named."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runs.cli.study import claimed_folder
from runs.compare import Settings
from runs.errors import UserError
from runs.lock import claim_folder
from runs.prereg import ledger, manifest
from runs.prereg.audit import audit
from runs.prereg.manifest import check_kept, enter_manifest
from runs.verify import main
from tests.faults.bench import SMOKE, end, report, start, tries
from tests.runs.sealed_study import study


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A sealed study without training, with a file of each kind that a study has."""
    out = study(tmp_path_factory.mktemp("small") / "study", ("none", "fear"))
    claim_folder(out, "0123456789ab")
    for name in (
        "metrics.jsonl",
        "readouts.csv",
        "report.html",
        "table.md",
        "table.png",
        "command",
        "timelines/home.npz",
        "films/fear.done",
        "tb/compare/CartPole/fear/events.out.tfevents.1.2.rollout",
        "tb/runs/CartPole/fear/s0/events.out.tfevents.1.2.train",
        "parts/home.json",
        "stopped/other-s1/000001-step-1/manifest.json",
    ):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(np.random.default_rng(0).bytes(200))
    enter_manifest(out)
    assert complaints(out) == []
    return out


def complaints(out: Path) -> list[str]:
    """Problems that verification finds, one line each."""
    lines = [problem for finding in audit(out) for problem in finding.problems]
    assert not any("\n" in line for line in lines)
    return lines


def files_of(out: Path) -> list[Path]:
    """Files of a study that hold anything, but for its lock."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock"]
    return [path for path in paths if path.stat().st_size]


def kinds_of(out: Path) -> dict[str, list[Path]]:
    """Files by their kind: the name of a folder of the study, or of the file in it."""
    kinds: dict[str, list[Path]] = {}
    for path in files_of(out):
        kinds.setdefault(path.relative_to(out).parts[0], []).append(path)
    return kinds


def damages(out: Path, count: int, rng: random.Random) -> Iterator[Path]:
    """Damages `count` files, in turn of each kind; restores each before the next."""
    kinds = kinds_of(out)
    for i in range(count):
        path = rng.choice(kinds[sorted(kinds)[i % len(kinds)]])
        content, position = path.read_bytes(), rng.randrange(8 * path.stat().st_size)
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged if i % 3 else content[: position // 8])
        yield path
        path.write_bytes(content)


def assert_named(out: Path, count: int, rng: random.Random) -> None:
    """Asserts that each damage is named by its file, or its arm's checkpoint, in one line."""
    for path in damages(out, count, rng):
        name = path.relative_to(out).as_posix()
        lines = complaints(out)
        assert lines, f"{name} was damaged, and nothing was noticed"
        known = {
            "ledger.jsonl": ("line ", "cut from", "deleted"),
            "ledger.head": ("line", "ledger.head"),
        }
        words = known.get(name, (name,))
        assert any(word in line for line in lines for word in words), (name, lines)
    assert complaints(out) == []


def test_a_damaged_file_is_named_with_what_it_costs_to_make_it_again(
    small, tmp_path, record_property, capsys
):
    out = Path(shutil.copytree(small, tmp_path / "study"))
    count = len(kinds_of(out))
    assert_named(out, count, random.Random(0))
    report(record_property, "bit flips and truncations of a study's files", count)
    (out / "report.html").write_text("edited")
    assert main([str(out)]) == 1 and main([str(small)]) == 0
    assert "FAILS  files            report.html was changed" in capsys.readouterr().out
    for path in files_of(out):
        remedy, _ = manifest.kind_of(path.relative_to(out).as_posix())
        assert any(word in remedy for word in ("repeat the command", "restore it", "delete it"))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("metrics.jsonl", "only training elsewhere"),
        ("readouts.csv", "computes it again"),
        ("parts/home.json", "computes it again"),
        ("timelines/home.npz", "computes it again"),
        ("tb/compare/CartPole/fear/events.out.tfevents.1.2.rollout", "its .done in films"),
        ("plan.toml", "restore it from a copy"),
    ],
)
def test_the_command_of_a_study_vouches_for_no_altered_file(name, word, small, tmp_path):
    out = Path(shutil.copytree(small, tmp_path / "study"))
    lines = (out / ledger.NAME).read_text()
    (out / name).write_bytes(b"better")
    with pytest.raises(UserError, match=f"{name} was changed after it was entered: .*{word}"):
        check_kept(out)
    (out / name).unlink()
    if word in ("computes it again", "its .done in films"):
        check_kept(out)  # what is missing is computed again
    else:
        with pytest.raises(UserError, match=f"{name} was deleted after it was entered"):
            check_kept(out)
    assert (out / ledger.NAME).read_text() == lines


def test_what_the_command_writes_anew_may_change_and_is_entered_again(small, tmp_path):
    out = Path(shutil.copytree(small, tmp_path / "study"))
    (out / "report.html").write_text("another")
    (out / "tb/runs/CartPole/fear/s0/events.out.tfevents.3.4.train").write_text("added")
    named = " ".join(complaints(out))
    assert "report.html was changed" in named and "3.4.train was added" in named
    check_kept(out)
    enter_manifest(out)
    assert complaints(out) == []
    lines = (out / ledger.NAME).read_text()
    enter_manifest(out)
    assert (out / ledger.NAME).read_text() == lines


def test_a_manifest_that_is_lost_is_written_again_if_nothing_else_changed(small, tmp_path):
    out = Path(shutil.copytree(small, tmp_path / "study"))
    path = out / manifest.NAME
    path.unlink()
    assert "every other file is as it was entered" in " ".join(complaints(out))
    check_kept(out)
    assert complaints(out) == []
    path.write_text('{"../../etc/passwd": "0"}')
    (out / "readouts.csv").write_text("better")
    with pytest.raises(UserError, match="other files are not as they were entered"):
        check_kept(out)


def test_a_symbolic_link_is_refused(small, tmp_path):
    out = Path(shutil.copytree(small, tmp_path / "study"))
    (out / "readouts.csv").unlink()
    (out / "readouts.csv").symlink_to("/etc/hostname")
    assert "readouts.csv is a symbolic link" in " ".join(complaints(out))
    with pytest.raises(UserError, match="is a symbolic link"):
        enter_manifest(out)


def test_a_damaged_identity_is_told_from_other_settings(tmp_path):
    settings = Settings(out=tmp_path, heads=("hope",))
    with claimed_folder(settings, "python -m runs.compare"):
        pass
    (tmp_path / "scores.csv").write_text("")
    content = (tmp_path / "identity").read_bytes()
    for damaged in (
        b"",
        b"\xff\xfe",
        content[:-3],
        content.replace(b"\n", b" "),
        b"8" + content[1:],
    ):
        (tmp_path / "identity").write_bytes(damaged)
        with (
            pytest.raises(
                UserError, match="identity is damaged .* there is scores.csv: if that is"
            ),
            claimed_folder(settings, "python -m runs.compare"),
        ):
            pass


def test_a_study_is_continued_under_the_versions_that_it_was_begun_under(tmp_path, monkeypatch):
    claim_folder(tmp_path, "one")
    monkeypatch.setattr("runs.lock._versions", lambda: "jax 99")
    with pytest.raises(
        UserError, match="was begun under .*jax 0.* and this is jax 99: go on under"
    ):
        claim_folder(tmp_path, "one")
    (tmp_path / manifest.NAME).write_text("{}")  # nothing is computed of a finished study
    claim_folder(tmp_path, "one")


@pytest.mark.slow
def test_flips_in_a_real_study_are_named(smoke, tmp_path, record_property, capsys):
    out = Path(shutil.copytree(smoke, tmp_path / "study"))
    assert complaints(out) == []
    assert_named(out, tries(120), random.Random(1))
    report(record_property, "bit flips and truncations of a study's files", tries(120))


@pytest.mark.slow
def test_laundering_by_the_command_itself_is_refused(smoke, tmp_path, record_property):
    out = Path(shutil.copytree(smoke, tmp_path / "study"))
    for name in ("scores.csv", "readouts.csv", "metrics.jsonl"):
        content = (out / name).read_text()
        (out / name).write_text(content.replace("1", "2", 1))
        ended = end(start(*SMOKE, "--out", out))
        assert ended.code == 2 and name in ended.err.splitlines()[-1]
        (out / name).write_text(content)
    os.rename(out / "scores.csv", out / "scores.changed.csv")
    ended = end(start(*SMOKE, "--out", out))
    assert ended.code == 0, ended.err
    assert (out / "scores.csv").read_bytes() == (smoke / "scores.csv").read_bytes()
    assert complaints(out) == []
    report(record_property, "edited results given to the study's own command", 3)
