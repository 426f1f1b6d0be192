"""Manifest of a study: the digest of every file, entered in the ledger when the study is finished.

`manifest.json` maps the path of each file in the study's folder to its sha256; its own digest is
the result of the ledger's last line of the split FILES. So an edit of anything that a reader relies
on is noticed: scores, readouts, metrics, timelines, films, event files, report. What the study's
command writes anew whenever it is repeated may change, and a new manifest is then entered. What it
keeps (KINDS) may not: the command refuses to go on from an altered file, which it would vouch for.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from runs.errors import UserError
from runs.lock import FINISHED as NAME
from runs.lock import IDENTITY, replace_file
from runs.prereg import ledger, seal
from runs.prereg.plan_file import PLAN_FILE

UNLISTED = re.compile(rf"{NAME}|ledger\.(jsonl|head)|(.*/)?(\.lock|\.part-[^/]*|\.partial-.*)")
AGAIN = "move it away and repeat the command, which computes it again from the trained agents"
KINDS = {
    "checkpoints/*": ("repeat the command, which trains on from an earlier one, or anew", False),
    "stopped/*": ("restore it from a copy: it is for inspection, and never made again", False),
    PLAN_FILE: ("restore it from a copy, or start another study", True),
    IDENTITY: ("delete it and repeat the command", False),
    "metrics.jsonl": ("restore it from a copy: only training elsewhere makes it again", True),
    **dict.fromkeys((*seal.SCORES.values(), "readouts.*", "*.json", "*.npz"), (AGAIN, True)),
    "*.rollout": (f"{AGAIN}, together with its .done in films/", True),
    "films/*": (AGAIN, True),
    "*": ("repeat the command, which writes it again", False),
}
"""Pattern of files -> (what it costs to make one again, whether the study's command keeps it)."""


def enter_manifest(out: Path) -> None:
    """Enter all files of a study in its ledger, and write its manifest.

    The entry comes first and the manifest is then renamed into place. After a crash between the two
    the files are those of the entry, and `check_kept` writes the manifest of these files; in the
    other order the manifest would be one that nobody entered, as that of a forger is.

    Raises:
        UserError: if the ledger was tampered with, or a file is a symbolic link.
        OSError: if the disk is full.
    """
    text, path = _manifest_text(out), out / ledger.NAME
    first = next(iter(ledger.read_entries(path)), None)
    suite, plan, seeds = (first.suite, first.plan, first.seeds) if first else ("", "", 0)
    frozen = seal.frozen_checkpoints(out)
    look = ledger.Look(ledger.FILES, suite, plan, frozen, seeds, _digest(text))
    ledger.append_entry(path, look)
    replace_file(out / NAME, text)


def check_kept(out: Path) -> None:
    """Check that what a finished study keeps is as it was entered, or can be computed again.

    Raises:
        UserError: naming the first altered file, and how to make it again.
    """
    entered = _entered(out)
    if entered is not None and _read(out, entered) is None and _is_whole(out, entered):
        replace_file(out / NAME, _manifest_text(out))
    for problem in problems(out, rewritten=False):
        raise UserError(f"{out}: {problem}")


def problems(out: Path, rewritten: bool = True) -> list[str]:
    """Differences between the files of a study and its manifest, one line each.

    Args:
        out: folder of the study.
        rewritten: whether to compare too what the study's command writes anew, and missing files.
    """
    entered = _entered(out)
    if entered is None:
        exists = (out / NAME).exists()
        return [f"{NAME} was never entered in the ledger: delete it"] if exists else []
    listed = _read(out, entered)
    if listed is None:
        remedy = "every other file is as it was entered: repeat the command, which writes it again"
        if not _is_whole(out, entered):
            remedy = "other files are not as they were entered either: restore it from a copy"
        return [f"{NAME} is damaged or missing; {remedy}"]
    return list(_differences(out, listed, rewritten))


def count_files(out: Path) -> str:
    """Number of files that were entered, for printing; why there are none."""
    entered = _entered(out)
    listed = None if entered is None else _read(out, entered)
    return "none were entered yet" if listed is None else f"{len(listed)} files"


def _differences(out: Path, listed: dict[str, str], rewritten: bool) -> Iterator[str]:
    """Files that differ from the manifest, that are missing, and event files that it lacks."""
    for name, digest in listed.items():
        path, (remedy, kept) = out / name, kind_of(name)
        if not (kept or rewritten):
            continue
        if path.is_symlink():
            yield f"{name} is a symbolic link, which was none when it was entered: {remedy}"
        elif not path.is_file():
            if rewritten or not remedy.startswith(AGAIN):
                yield f"{name} was deleted after it was entered: {remedy}"
        elif seal.file_hash(path) != digest:
            yield f"{name} was changed after it was entered: {remedy}"
    for path in sorted((out / "tb").rglob("*")) if rewritten else ():
        name = path.relative_to(out).as_posix()
        if name not in listed and not path.is_dir():
            yield f"{name} was added after the files were entered: delete it"


def kind_of(name: str) -> tuple[str, bool]:
    """What KINDS says of the file of this path in a study's folder."""
    return next(kind for pattern, kind in KINDS.items() if fnmatch(name, pattern))


def _entered(out: Path) -> str | None:
    """Digest of the manifest that was entered last; None if none was."""
    entries = reversed(ledger.read_entries(out / ledger.NAME))
    return next((entry.result for entry in entries if entry.split == ledger.FILES), None)


def _read(out: Path, entered: str) -> dict[str, str] | None:
    """Digests by path from the manifest; None if it is not the one of this digest."""
    try:
        text = (out / NAME).read_bytes()
        content = json.loads(text) if hashlib.sha256(text).hexdigest() == entered else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    inside = all(Path(name).is_relative_to("") and ".." not in Path(name).parts for name in content)
    return content if inside else None


def _is_whole(out: Path, entered: str) -> bool:
    """Whether the files of a study are those of the manifest with this digest."""
    try:
        return _digest(_manifest_text(out)) == entered
    except (UserError, OSError):
        return False


def _manifest_text(out: Path) -> str:
    """Manifest of the files in a folder, always the same for the same files."""
    digests = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if UNLISTED.fullmatch(name):
            continue
        if path.is_symlink():
            raise UserError(f"{path} is a symbolic link: a study's files are its own; remove it")
        if path.is_file():
            digests[name] = seal.file_hash(path)
    return json.dumps(digests, indent=0) + "\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
