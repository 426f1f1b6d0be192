"""Sealed worlds, drawn only after the plan and every compared agent are frozen.

The key of the sealed draw is a hash of the plan and of all checkpoints, so that the worlds cannot
be known before, are the same for all arms, and can be drawn again by anyone. Order of a study:

    register(out, plan)           before training: the plan is written and entered in the ledger
    freeze_agents(out)            after training: the checkpoints are entered
    enter_scores(out)             the public scores are entered: a look
    draw_sealed(out)              digest of the sealed worlds; refused if anything has changed
    enter_scores(out, "sealed")   the sealed scores are entered

Each may be called again when a study is resumed: an entry that exists is not repeated.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runs.errors import UserError
from runs.lock import replace_file
from runs.names import safe_name
from runs.prereg import ledger
from runs.prereg.plan_file import PLAN_FILE, Plan, plan_changes, plan_text, read_plan

if TYPE_CHECKING:
    import jax

DOMAIN = "affect-sealed-v1"
SCORES = {"dev": "scores.csv", "sealed": "sealed.csv"}  # the score file of each split


def register(out: Path, plan: Plan) -> list[str]:
    """Write the plan and enter it in the ledger, unless a plan is there -> changes since that plan.

    Call it before anything is trained.

    Raises:
        UserError: for a plan that cannot be read, a ledger that was tampered with, or a study of
            version 0.1, whose arms had other names.
    """
    path = out / PLAN_FILE
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        replace_file(path, plan_text(plan))
    first_plan = read_plan(path)
    _reject_renamed_arms(out, first_plan)
    # The entry comes after the plan is in place: an entry never vouches for what is not there yet.
    # A run that was killed in between has a plan without a ledger, or a ledger without a line, and
    # enters it here, before anything is trained.
    if not ledger.read_entries(out / ledger.NAME):
        _enter(out, "train", first_plan, checkpoint_hashes(out))
    return plan_changes(first_plan, plan)


def register_unchanged(out: Path, plan: Plan) -> None:
    """Register a plan (`register`); raises UserError if another one is registered in the folder."""
    if changes := register(out, plan):
        raise UserError(
            f"{out}: the study differs from the plan that is registered there "
            f"({'; '.join(changes)}): choose another --out"
        )


def freeze_agents(out: Path) -> None:
    """Enter the checkpoints of all declared arms in the ledger.

    Raises:
        UserError: for an arm without checkpoint, or one that has changed since it was frozen.
    """
    plan, hashes = _unchanged(out)
    missing = [arm for arm in plan.arms if safe_name(arm) not in hashes]
    if missing:
        raise UserError(f"{out}: {missing[0]} has no checkpoint: train it, then freeze")
    _enter(out, "train", plan, hashes)


def enter_scores(out: Path, split: str = "dev") -> None:
    """Enter the score file of a split in the ledger: a look, unless the same scores are entered.

    Raises:
        UserError: if there are no scores, if others were entered before, or if checkpoints have
            changed since they were frozen.
    """
    plan, hashes = _unchanged(out)
    path = out / SCORES[split]
    if not path.exists():
        raise UserError(f"{path}: no scores to enter; score the study first")
    check_scores(out)
    _enter(out, split, plan, hashes, file_hash(path))


def check_scores(out: Path) -> None:
    """Check that score files are those that were entered, as far as they were entered.

    Raises:
        UserError: naming the altered file, and how its scores are computed again.
    """
    entries = ledger.read_entries(out / ledger.NAME)
    for split, name in SCORES.items():
        lines = [entry for entry in entries if entry.split == split and entry.result]
        path = out / name
        if lines and path.exists() and file_hash(path) != lines[-1].result:
            aside = f"{path.stem}.changed.csv"
            raise UserError(
                f"{path} is not what line {lines[-1].index} of the ledger entered, and what was "
                f"entered is never replaced: restore it, or move it to {aside} and repeat the "
                "command, which scores the frozen agents again into a new file"
            )


def draw_sealed(out: Path) -> str:
    """Digest from which the sealed worlds are drawn (`seal_key`); the draw is entered as a look.

    Raises:
        UserError: if checkpoints were never frozen or have changed since, or if the plan has.
    """
    plan, hashes = _unchanged(out)
    if not frozen_checkpoints(out):
        raise UserError(f"{out}: freeze every checkpoint before the sealed worlds are drawn")
    _enter(out, "sealed", plan, hashes)
    return seal_digest(plan.hash, hashes.values())


def seal_digest(plan: str, frozen: Iterable[str]) -> str:
    """Digest (sha256) of DOMAIN, the plan's hash and all checkpoint hashes in sorted order."""
    return hashlib.sha256("".join([DOMAIN, plan, *sorted(frozen)]).encode()).hexdigest()


def seal_key(digest: str) -> "jax.Array":
    """Random key of worlds and episodes, from all bits of the digest, folded in 32 at a time."""
    import jax

    key = jax.random.key(0)
    for i in range(0, len(digest), 8):
        key = jax.random.fold_in(key, int(digest[i : i + 8], 16))
    return key


def checkpoint_hashes(out: Path) -> dict[str, str]:
    """Content hash of each arm's newest checkpoint, by the name of its folder."""
    newest = {
        path.name: newest_checkpoint(path) for path in sorted((out / "checkpoints").glob("*"))
    }
    return {arm: content_hash(path) for arm, path in newest.items() if path is not None}


def newest_checkpoint(folder: Path) -> Path | None:
    """Path of the newest checkpoint in an arm's folder; None if there is none."""
    serials = {path: path.name.partition("-")[0] for path in folder.glob("*-step-*")}
    paths = [path for path, serial in serials.items() if serial.isdecimal()]
    return max(paths, key=lambda path: int(serials[path]), default=None)


def has_checkpoint(out: Path, arm: str) -> bool:
    """Whether an arm has a checkpoint; its folder alone may be what a kill during a save left."""
    return newest_checkpoint(out / "checkpoints" / safe_name(arm)) is not None


def content_hash(path: Path) -> str:
    """Hash (sha256) of a checkpoint's content: its step and the sha256 of every leaf.

    Both are read from its manifest. The hash of the manifest file would change each time the same
    numbers are saved again, so that the sealed draw could be repeated until it is favourable.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        content = {"step": manifest["step"], "leaves": manifest["leaves"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"unreadable: {type(error).__name__}"
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def frozen_checkpoints(out: Path) -> dict[str, str]:
    """Content hash of each arm's checkpoint entered last; empty before `freeze_agents`."""
    entries = ledger.read_entries(out / ledger.NAME)[1:]
    return next((entry.checkpoints for entry in reversed(entries) if entry.checkpoints), {})


def checkpoint_changes(frozen: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    """Differences between frozen and current checkpoints, one line each."""
    changes = [
        f"checkpoint of {arm} was {'swapped' if arm in current else 'deleted'} after it was frozen"
        for arm in frozen
        if current.get(arm) != frozen[arm]
    ]
    return changes + [
        f"checkpoint of {arm} was never frozen" for arm in current if arm not in frozen
    ]


def file_hash(path: Path) -> str:
    """Hash (sha256) of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reject_renamed_arms(out: Path, plan: Plan) -> None:
    """Raise a UserError for the plan of a study of version 0.1, whose arms had other names."""
    from affect.renamed import renamed_arm

    for arm in plan.arms:
        if present := renamed_arm(arm):
            raise UserError(
                f"{out} holds a study of version 0.1, whose arm {arm} is now {present}: "
                "runs.verify and runs.board still read it; to run it again, choose another --out"
            )


def _unchanged(out: Path) -> tuple[Plan, dict[str, str]]:
    """Plan and checkpoint hashes of a study; a UserError if a plan or frozen checkpoint changed."""
    plan, hashes = read_plan(out / PLAN_FILE), checkpoint_hashes(out)
    entries = ledger.read_entries(out / ledger.NAME)
    if not entries or entries[0].plan != plan.hash:
        raise UserError(
            f"{out / PLAN_FILE} is not the plan that was entered before training: "
            "restore it, or start another study"
        )
    frozen = frozen_checkpoints(out)
    if frozen and (changes := checkpoint_changes(frozen, hashes)):
        raise UserError(f"{out}: {changes[0]}: restore it, or start another study")
    return plan, hashes


def _enter(
    out: Path, split: str, plan: Plan, hashes: Mapping[str, str], result: str | None = None
) -> None:
    """Append an entry to the study's ledger, unless the last one of its kind is equal."""
    look = ledger.Look(split, plan.suite, plan.hash, hashes, plan.seeds, result)
    ledger.append_entry(out / ledger.NAME, look)
