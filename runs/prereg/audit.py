"""Audit of a study folder: recompute and compare ledger, plan, checkpoints and scores."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from runs.errors import UserError
from runs.names import safe_name
from runs.prereg import ledger, plan_file, seal, splits
from runs.prereg.plan_file import Plan

PARTS = ("identity", "checkpoints", "scores.csv", ledger.NAME, plan_file.PLAN_FILE)  # of a study


class AuditFinding(NamedTuple):
    """Result of one check of an audit.

    Attributes:
        check: name of the check.
        problems: one line each; empty if the check holds.
        detail: what was checked, for printing.
    """

    check: str
    problems: tuple[str, ...]
    detail: str = ""


def audit(out: Path) -> list[AuditFinding]:
    """Check ledger, plan, training worlds, checkpoints, scores, and scores against the plan.

    Raises:
        UserError: for a folder that holds no study.
    """
    if not any((out / part).exists() for part in PARTS):
        raise UserError(f"{out} holds no study: name its folder, such as runs/logs/compare/...")
    entries = ledger.read_entries(out / ledger.NAME)
    problems = ledger.problems(out / ledger.NAME)
    last = f"{len(entries)} lines, last hash {entries[-1].hash[:16]}" if entries else ""
    findings = [AuditFinding("ledger", tuple(problems), last)]
    try:
        plan = plan_file.read_plan(out / plan_file.PLAN_FILE)
    except UserError as error:
        return [*findings, AuditFinding("plan", (str(error),))]
    departures, unread, count = _departures(out, plan)
    return [
        *findings,
        AuditFinding("plan", tuple(_plan_problems(plan, entries)), f"hash {plan.hash[:16]}"),
        AuditFinding("training worlds", tuple(_training_problems(plan)), ", ".join(plan.worlds)),
        AuditFinding(
            "checkpoints",
            tuple(_checkpoint_problems(out)),
            f"{len(seal.checkpoint_hashes(out))} arms",
        ),
        AuditFinding("scores", (*unread, *_score_problems(out, entries)), f"{count} rows"),
        AuditFinding("run as planned", tuple(departures), "" if count else "no scores yet"),
    ]


def watermark(out: Path) -> str | None:
    """Message that a study is unverified, with all problems; None if every check holds."""
    try:
        problems = [
            f"{finding.check}: {problem}"
            for finding in audit(Path(out))
            for problem in finding.problems
        ]
    except UserError as error:
        problems = [str(error)]
    return f"unverified: {'; '.join(problems)}" if problems else None


def looks_sentence(out: Path) -> str:
    """Sentence with the looks at this study's suite, in this study and those beside it."""
    entries = ledger.read_entries(Path(out) / ledger.NAME)
    suite = entries[0].suite if entries else None
    return ledger.looks_text(
        ledger.count_looks(ledger.neighbouring_ledgers(out) if entries else [], suite)
    )


def _plan_problems(plan: Plan, entries: list[ledger.Entry]) -> Iterator[str]:
    if not entries:
        yield "it was never entered in a ledger"
    elif entries[0].plan != plan.hash:
        yield f"{plan_file.PLAN_FILE} was changed after it was entered"
    elif any(entry.plan != plan.hash for entry in entries):
        yield "some lines of the ledger are of another plan"
    if entries and entries[0].checkpoints:
        arms = ", ".join(entries[0].checkpoints)
        yield f"it was written after training had begun: there were checkpoints of {arms}"


def _training_problems(plan: Plan) -> Iterator[str]:
    for name in plan.worlds:
        try:
            splits.refuse_training_on(name, plan.splits)
        except UserError as error:
            yield str(error)


def _checkpoint_problems(out: Path) -> Iterator[str]:
    frozen, current = seal.frozen_checkpoints(out), seal.checkpoint_hashes(out)
    yield from (
        seal.checkpoint_changes(frozen, current)
        if frozen
        else ["no checkpoint was frozen: run the study to its end"]
    )
    for arm in current:
        path = seal.newest_checkpoint(out / "checkpoints" / arm)
        try:
            _read_leaves(path)
        except Exception as error:  # damaged bytes may make a decoder raise anything
            yield f"checkpoint of {arm} is damaged: {' '.join(str(error).split())[:120]}"


def _read_leaves(path: Path) -> None:
    """Read every leaf of a checkpoint; raises an error if one does not match the manifest."""
    from runs.engine.checkpoint import read_arrays, read_manifest

    read_arrays(path, read_manifest(path))


def _score_problems(out: Path, entries: list[ledger.Entry]) -> Iterator[str]:
    for split, name in seal.SCORES.items():
        results = [entry.result for entry in entries if entry.split == split and entry.result]
        path = out / name
        if not path.exists():
            if results:
                yield f"{name} was deleted after it was entered"
        elif not results:
            yield f"{name} was never entered in the ledger"
        elif seal.file_hash(path) != results[-1]:
            yield f"{name} was changed after it was entered"


def _departures(out: Path, plan: Plan) -> tuple[list[str], list[str], int]:
    """Deviations of the score files from the plan, read errors, and total number of rows."""
    from runs.analysis.scores import read_scores

    departures, unread, count = [], [], 0
    for split, name in seal.SCORES.items():
        try:
            rows = read_scores(out / name) if (out / name).exists() else []
        except (UserError, ValueError, KeyError, TypeError) as error:
            unread.append(f"{name} cannot be read: {' '.join(str(error).split())[:120]}")
            continue
        if rows:
            stopped = _stopped(out, plan)
            differences = plan_file.score_departures(plan, rows, split, stopped)
            departures += [f"{name}: {difference}" for difference in differences]
        count += len(rows)
    return departures, unread, count


def _stopped(out: Path, plan: Plan) -> list[tuple[str, int]]:
    """Pairs (arm, seed) of training runs that stopped because of a non-finite number."""
    return [
        (arm, seed)
        for arm in plan.arms
        for seed in range(plan.seeds)
        if (out / "stopped" / f"{safe_name(arm)}-s{seed}").exists()
    ]
