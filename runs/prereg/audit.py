"""Whether a study is what its ledger says: everything recomputed from its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from runs.errors import UserError
from runs.prereg import ledger, plan_file, seal, splits
from runs.prereg.plan_file import Plan

PARTS = ("identity", "checkpoints", "scores.csv", ledger.NAME, plan_file.PLAN_FILE)  # of a study


class Finding(NamedTuple):
    """What was checked, and what is wrong with it: nothing, if it holds."""

    what: str
    wrong: tuple[str, ...]
    said: str = ""


def audit(out: Path) -> list[Finding]:
    """Recomputes all that can be: ledger, plan, checkpoints, scores, and who trained where.

    Raises:
        UserError: for a folder that holds no study.
    """
    if not any((out / part).exists() for part in PARTS):
        raise UserError(f"{out} holds no study: name its folder, such as runs/logs/compare/...")
    entries = ledger.read_entries(out / ledger.NAME)
    broken = ledger.problems(out / ledger.NAME)
    last = f"{len(entries)} lines, last hash {entries[-1].hash[:16]}" if entries else ""
    found = [Finding("ledger", tuple(broken), last)]
    try:
        plan = plan_file.read_plan(out / plan_file.PLAN_FILE)
    except UserError as error:
        return [*found, Finding("plan", (str(error),))]
    departures, unread, count = _departures(out, plan)
    return [
        *found,
        Finding("plan", tuple(_plan(plan, entries)), f"hash {plan.hash[:16]}"),
        Finding("training worlds", tuple(_training(plan)), ", ".join(plan.worlds)),
        Finding(
            "checkpoints", tuple(_checkpoints(out)), f"{len(seal.checkpoint_hashes(out))} arms"
        ),
        Finding("scores", (*unread, *_scores(out, entries)), f"{count} rows"),
        Finding("run as planned", tuple(departures), "" if count else "nothing is scored yet"),
    ]


def watermark(out: Path) -> str | None:
    """What a report of this study has to say above all else; None if everything holds."""
    try:
        wrong = [f"{one.what}: {each}" for one in audit(Path(out)) for each in one.wrong]
    except UserError as error:
        wrong = [str(error)]
    return f"unverified: {'; '.join(wrong)}" if wrong else None


def looks_sentence(out: Path) -> str:
    """The looks at this study's suite, in this study and those beside it, as a sentence."""
    entries = ledger.read_entries(Path(out) / ledger.NAME)
    suite = entries[0].suite if entries else None
    return ledger.looks_text(
        ledger.count_looks(ledger.neighbouring_ledgers(out) if entries else [], suite)
    )


def _plan(plan: Plan, entries: list[ledger.Entry]) -> Iterator[str]:
    if not entries:
        yield "it was never entered in a ledger"
    elif entries[0].plan != plan.hash:
        yield f"{plan_file.PLAN_FILE} was changed after it was entered"
    elif any(entry.plan != plan.hash for entry in entries):
        yield "some lines of the ledger are of another plan"
    if entries and entries[0].checkpoints:
        arms = ", ".join(entries[0].checkpoints)
        yield f"it was written after training had begun: there were checkpoints of {arms}"


def _training(plan: Plan) -> Iterator[str]:
    for name in plan.worlds:
        try:
            splits.refuse_training_on(name, plan.splits)
        except UserError as error:
            yield str(error)


def _checkpoints(out: Path) -> Iterator[str]:
    before, now = seal.frozen_checkpoints(out), seal.checkpoint_hashes(out)
    yield from (
        seal.checkpoint_changes(before, now)
        if before
        else ["none was frozen: run the study to its end"]
    )
    for arm in now:
        path = seal.newest_checkpoint(out / "checkpoints" / arm)
        try:
            _read(path)
        except Exception as error:  # damaged bytes may make a decoder raise anything
            yield f"checkpoint of {arm} is damaged: {' '.join(str(error).split())[:120]}"


def _read(path: Path) -> None:
    """Reads every leaf; raises where one is not what the manifest says."""
    from runs.engine.checkpoint import read_arrays, read_manifest

    read_arrays(path, read_manifest(path))


def _scores(out: Path, entries: list[ledger.Entry]) -> Iterator[str]:
    for split, name in seal.SCORES.items():
        results = [one.result for one in entries if one.split == split and one.result]
        path = out / name
        if not path.exists():
            if results:
                yield f"{name} was deleted after it was entered"
        elif not results:
            yield f"{name} was never entered in the ledger"
        elif seal.file_hash(path) != results[-1]:
            yield f"{name} was changed after it was entered"


def _departures(out: Path, plan: Plan) -> tuple[list[str], list[str], int]:
    """How the score files depart from the plan, why they cannot be read, and their rows in all."""
    from runs.analysis.scores import read_scores

    said, unread, count = [], [], 0
    for split, name in seal.SCORES.items():
        try:
            rows = read_scores(out / name) if (out / name).exists() else []
        except (UserError, ValueError, KeyError, TypeError) as error:
            unread.append(f"{name} cannot be read: {' '.join(str(error).split())[:120]}")
            continue
        if rows:
            stopped = _stopped(out, plan)
            found = plan_file.score_departures(plan, rows, split, stopped)
            said += [f"{name}: {each}" for each in found]
        count += len(rows)
    return said, unread, count


def _stopped(out: Path, plan: Plan) -> list[tuple[str, int]]:
    """(arm, seed) of the training runs that were stopped, since something was not a number."""
    from runs.report.tb_export import safe_name

    return [
        (arm, seed)
        for arm in plan.arms
        for seed in range(plan.seeds)
        if (out / "stopped" / f"{safe_name(arm)}-s{seed}").exists()
    ]
