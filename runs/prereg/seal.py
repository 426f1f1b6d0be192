"""Worlds that nobody can know before every compared agent is frozen.

The key of the sealed draw is a hash of the plan and of all checkpoints. All arms get the same
worlds, anyone can draw them again, and there is no secret to keep. In the order of a study:

    begin(out, declared)    before training: the plan is written and entered in the ledger
    freeze(out)             after it: the checkpoints are entered
    look(out)               the public scores are entered: a look
    draw(out)               the key of the sealed worlds; refused if anything has changed
    look(out, "sealed")     their scores are entered

Each of them may be called again, as a study that goes on does: what is already entered is not
entered twice.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runs.errors import UserError
from runs.prereg import ledger, plan_file
from runs.prereg.plan_file import Plan

if TYPE_CHECKING:
    import jax

DOMAIN = "affect-sealed-v1"
SCORES = {"dev": "scores.csv", "sealed": "sealed.csv"}  # the score file of each split


def register(out: Path, plan: Plan) -> list[str]:
    """Writes and enters the plan, before anything is trained -> what has changed since it was.

    Raises:
        UserError: for a plan that cannot be read or a ledger that was tampered with.
    """
    standing = plan_file.freeze_plan(out, plan)
    if not (out / ledger.NAME).exists():
        _enter(out, "train", standing, checkpoint_hashes(out), None)
    return plan_file.plan_changes(standing, plan)


def freeze_agents(out: Path) -> dict[str, str]:
    """Enters the checkpoints of all declared arms -> the content hash of each.

    Raises:
        UserError: for an arm without one, or one that was frozen before and has changed.
    """
    plan, found = plan_file.read_plan(out / plan_file.PLAN_FILE), checkpoint_hashes(out)
    missing = [arm for arm in plan.arms if _safe(arm) not in found]
    if missing:
        raise UserError(f"{out}: {missing[0]} has no checkpoint: train it, then freeze")
    _refuse_changes(out, plan, found)
    _enter(out, "train", plan, found, None)
    return found


def enter_scores(out: Path, split: str = "dev") -> None:
    """Enters the scores of a split, a look if they were not entered before.

    Raises:
        UserError: if there are none, or checkpoints have changed since they were frozen.
    """
    plan, found = plan_file.read_plan(out / plan_file.PLAN_FILE), checkpoint_hashes(out)
    _refuse_changes(out, plan, found)
    path = out / SCORES[split]
    if not path.exists():
        raise UserError(f"{path}: no scores to enter; score the study first")
    _enter(out, split, plan, found, file_hash(path))


def draw_sealed(out: Path) -> str:
    """The hash from which the sealed worlds are drawn (`seal_key`); the draw is entered.

    Raises:
        UserError: if checkpoints were never frozen or have changed since, or if the plan has.
    """
    plan, found = plan_file.read_plan(out / plan_file.PLAN_FILE), checkpoint_hashes(out)
    if not frozen_checkpoints(out):
        raise UserError(f"{out}: freeze every checkpoint before the sealed worlds are drawn")
    _refuse_changes(out, plan, found)
    _enter(out, "sealed", plan, found, None)
    return seal_digest(plan.hash, found.values())


def seal_digest(plan: str, frozen: Iterable[str]) -> str:
    """sha256 of DOMAIN, the hash of the plan, and those of all checkpoints in their order."""
    return hashlib.sha256("".join([DOMAIN, plan, *sorted(frozen)]).encode()).hexdigest()


def host_seed(digest: str) -> int:
    """Of a host environment's draws, in [0, 2^31)."""
    return int(digest[:8], 16) >> 1


def seal_key(digest: str) -> "jax.Array":
    """Of jitted worlds' draws: all 256 bits, folded in 32 at a time."""
    import jax

    words = [int(digest[i : i + 8], 16) for i in range(0, len(digest), 8)]
    key = jax.random.key(0)
    for word in words:
        key = jax.random.fold_in(key, word)
    return key


def checkpoint_hashes(out: Path) -> dict[str, str]:
    """The content hash of each arm's newest checkpoint, by the name of its folder."""
    found = {path.name: newest_checkpoint(path) for path in sorted((out / "checkpoints").glob("*"))}
    return {arm: content_hash(path) for arm, path in found.items() if path is not None}


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in an arm's folder; None where there is none."""
    saved = [path for path in folder.glob("*-step-*") if path.name.partition("-")[0].isdigit()]
    return max(saved, key=lambda path: int(path.name.partition("-")[0]), default=None)


def content_hash(path: Path) -> str:
    """Of what a checkpoint holds: its step and the sha256 of every leaf, from its manifest.

    The manifest's own hash would not do: it changes whenever the same numbers are saved again, and
    with it the sealed draw, as often as one likes.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        said = {"step": manifest["step"], "leaves": manifest["leaves"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"unreadable: {type(error).__name__}"
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def frozen_checkpoints(out: Path) -> dict[str, str]:
    """The checkpoints that were entered last; none before that."""
    entered = [
        one.checkpoints for one in ledger.read_entries(out / ledger.NAME)[1:] if one.checkpoints
    ]
    return entered[-1] if entered else {}


def checkpoint_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What became of frozen checkpoints, one line each; none if they are as they were."""
    said = [
        f"checkpoint of {arm} was {'swapped' if arm in now else 'deleted'} after it was frozen"
        for arm in before
        if now.get(arm) != before[arm]
    ]
    return said + [f"checkpoint of {arm} was never frozen" for arm in now if arm not in before]


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refuse_changes(out: Path, plan: Plan, found: Mapping[str, str]) -> None:
    entries = ledger.read_entries(out / ledger.NAME)
    if not entries or entries[0].plan != plan.hash:
        raise UserError(
            f"{out / plan_file.PLAN_FILE} is not the plan that was entered before training: restore it, "
            "or start another study"
        )
    wrong = checkpoint_changes(frozen_checkpoints(out), found) if frozen_checkpoints(out) else []
    if wrong:
        raise UserError(f"{out}: {wrong[0]}: restore it, or start another study")


def _enter(out: Path, split: str, plan: Plan, found: Mapping, result: Any) -> None:
    """Adds a line to the study's ledger, unless the last of its kind says so already."""
    path, what = out / ledger.NAME, (split, plan.suite, plan.hash, dict(found))
    said = [
        (one.split, one.suite, one.plan, one.checkpoints, one.result)
        for one in ledger.read_entries(path)
        if one.split == split and (one.result is None) == (result is None)
    ]
    if said[-1:] != [(*what, result)]:
        ledger.append_entry(path, *what, plan.seeds, result)


def _safe(arm: str) -> str:
    from runs.report.tb_export import safe_name

    return safe_name(arm)
