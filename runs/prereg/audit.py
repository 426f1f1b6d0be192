"""Audit of a study folder: recompute and compare ledger, plan, checkpoints and scores."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from runs.analysis.scores import read_scores
from runs.engine.checkpoint import read_arrays, read_manifest
from runs.errors import UserError
from runs.names import safe_name
from runs.prereg import ledger, manifest, seal
from runs.prereg.plan_file import PLAN_FILE, Plan, read_plan, score_departures
from runs.prereg.splits import refuse_training_on

PARTS = ("identity", "checkpoints", "scores.csv", ledger.NAME, PLAN_FILE)  # of a study


class AuditFinding(NamedTuple):
    """Result of one check of an audit."""

    check: str  # its name
    problems: Sequence[str]  # one line each; empty if the check holds
    detail: str = ""  # what was checked, for printing


def audit(out: Path, rewritten: bool = True) -> list[AuditFinding]:
    """Check ledger, files, plan, training worlds, checkpoints, scores, and scores against the plan.

    A study that declared no plan, such as `runs.validity`, has only a ledger and files.

    Args:
        out: folder of the study.
        rewritten: whether to check too the files that the study's command writes anew.

    Raises:
        UserError: for a folder that holds no study.
    """
    if not any((out / part).exists() for part in PARTS):
        raise UserError(f"{out} holds no study: name its folder, such as runs/logs/compare/...")
    path = out / ledger.NAME
    entries = ledger.read_entries(path)
    last = f"{len(entries)} lines, last hash {entries[-1].hash[:16]}" if entries else ""
    findings = [
        AuditFinding("ledger", ledger.problems(path), last),
        AuditFinding("files", manifest.problems(out, rewritten), manifest.count_files(out)),
    ]
    if entries and not any(entry.plan for entry in entries) and not (out / PLAN_FILE).exists():
        return [*findings, AuditFinding("plan", [], "none was declared: an exploratory study")]
    try:
        plan = read_plan(out / PLAN_FILE)
    except UserError as error:
        return [*findings, AuditFinding("plan", [str(error)])]
    scores, departures, count = _check_scores(out, plan, entries)
    arms = f"{len(seal.checkpoint_hashes(out))} arms"
    return [
        *findings,
        AuditFinding("plan", list(_plan_problems(plan, entries)), f"hash {plan.hash[:16]}"),
        AuditFinding("training worlds", list(_training_problems(plan)), ", ".join(plan.worlds)),
        AuditFinding("checkpoints", list(_checkpoint_problems(out)), arms),
        AuditFinding("scores", scores, f"{count} rows"),
        AuditFinding("run as planned", departures, "" if count else "no scores yet"),
    ]


def watermark(out: Path) -> str | None:
    """Message that a study is unverified, with all problems; None if every check holds.

    Files that the study's command writes anew, as the report with this message, are left out.
    """
    try:
        findings = audit(Path(out), rewritten=False)
    except UserError as error:
        return f"unverified: {error}"
    problems = [f"{finding.check}: {x}" for finding in findings for x in finding.problems]
    return f"unverified: {'; '.join(problems)}" if problems else None


def looks_sentence(out: Path) -> str:
    """Sentence with the looks at this study's suite, in this study and those beside it.

    A study beside it whose ledger is damaged is named; what can be read of it is counted.
    """
    folder = Path(out).absolute()
    entries = ledger.read_entries(folder / ledger.NAME)
    ledgers = sorted(folder.parent.glob(f"*/{ledger.NAME}"))
    looks = ledger.count_looks(ledgers, entries[0].suite) if entries else ledger.Looks(0, 0)
    damaged = [path.parent.name for path in ledgers if not ledger.is_readable(path)]
    skipped = f"; damaged and not fully counted: {', '.join(damaged)}" if damaged else ""
    return ledger.looks_text(looks) + skipped


def _plan_problems(plan: Plan, entries: list[ledger.Entry]) -> Iterator[str]:
    if not entries:
        yield "it was never entered in a ledger"
    elif entries[0].plan != plan.hash:
        yield f"{PLAN_FILE} was changed after it was entered"
    elif any(entry.plan != plan.hash for entry in entries):
        yield "some lines of the ledger are of another plan"
    if entries and entries[0].checkpoints:
        arms = ", ".join(entries[0].checkpoints)
        yield f"it was written after training had begun: there were checkpoints of {arms}"


def _training_problems(plan: Plan) -> Iterator[str]:
    for name in plan.worlds:
        try:
            refuse_training_on(name, plan.splits)
        except UserError as error:
            yield str(error)


def _checkpoint_problems(out: Path) -> Iterator[str]:
    frozen, current = seal.frozen_checkpoints(out), seal.checkpoint_hashes(out)
    if frozen:
        yield from seal.checkpoint_changes(frozen, current)
    else:
        yield "no checkpoint was frozen: run the study to its end"
    for arm in current:
        path = seal.newest_checkpoint(out / "checkpoints" / arm)
        try:
            read_arrays(path, read_manifest(path))
        except Exception as error:  # damaged bytes may make a decoder raise anything
            yield f"checkpoint of {arm} is damaged: {_one_line(error)}"


def _check_scores(
    out: Path, plan: Plan, entries: list[ledger.Entry]
) -> tuple[list[str], list[str], int]:
    """Problems of the score files, their departures from the plan, and total number of rows."""
    problems, departures, count = [], [], 0
    stopped = [  # (arm, seed) of training runs that stopped because of a non-finite number
        (arm, seed)
        for arm in plan.arms
        for seed in range(plan.seeds)
        if (out / "stopped" / f"{safe_name(arm)}-s{seed}").exists()
    ]
    for split, name in seal.SCORES.items():
        path = out / name
        results = [entry.result for entry in entries if entry.split == split and entry.result]
        if not path.exists():
            problems += [f"{name} was deleted after it was entered"] if results else []
            continue
        if not results:
            problems.append(f"{name} was never entered in the ledger")
        elif seal.file_hash(path) != results[-1]:
            problems.append(f"{name} was changed after it was entered")
        try:
            rows = read_scores(path)
        except (UserError, ValueError, KeyError, TypeError) as error:
            problems.append(f"{name} cannot be read: {_one_line(error)}")
            continue
        differences = score_departures(plan, rows, split, stopped) if rows else []
        departures += [f"{name}: {difference}" for difference in differences]
        count += len(rows)
    return problems, departures, count


def _one_line(error: Exception) -> str:
    """Message of an error as one line of at most 120 characters."""
    return " ".join(str(error).split())[:120]
