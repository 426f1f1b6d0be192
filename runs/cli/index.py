"""Read summary, run time and last recorded result of every study from files, for `runs.__main__`.

The summary is the first line of a module's docstring, the minutes on two cores come from the
table of STUDIES, the last finding from runs/results/.
"""

import ast
import re
import subprocess
from datetime import date
from pathlib import Path
from typing import NamedTuple

ROW = re.compile(r"^\| `runs\.(\w+)` \| .+ \| ([\d.]+|-) \|$", re.MULTILINE)
INTERVAL = re.compile(r"\[[-+\d.,]+, [-+\d.,]+\]")
STUDIES = "docs/reference/studies.md"
RECORDED = ("StudySettings", "TrainingSettings", "EnvSettings")
"""Bases of the settings of what records results."""
SENTENCE = re.compile(r"(?<=[.?!]) (?=[A-Z(])")


class RecordedResult(NamedTuple):
    """Last recorded result of a study."""

    when: str  # date of the last commit to its table, YYYY-MM-DD; of the file if not in git
    finding: str  # the first sentence that states a result; empty if there is only a table
    path: str  # of the table or figure, relative to the root


class ListedStudy(NamedTuple):
    """A runnable module of runs/: a study, or a tool."""

    name: str
    summary: str  # the first line of its docstring
    recorded: bool  # whether it can record a table in runs/results/; the others are tools
    minutes: float | None  # run time on two cores; None if STUDIES has no number
    last: RecordedResult | None  # None if there is none


def list_studies(root: Path) -> list[ListedStudy]:
    """List every module directly under `root`/runs with a `main`: studies first, then tools."""
    minutes, dates = read_minutes(root), commit_dates(root)
    studies = []
    for path in sorted((root / "runs").glob("[!_]*.py")):
        tree = ast.parse(path.read_text(), str(path))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if "main" in names | functions:
            recorded = not names.isdisjoint(RECORDED)
            name, summary = path.stem, (ast.get_docstring(tree) or "").split("\n")[0]
            last = last_result(root, name, dates)
            studies.append(ListedStudy(name, summary, recorded, minutes.get(name), last))
    return sorted(studies, key=lambda study: not study.recorded)


def read_minutes(root: Path) -> dict[str, float | None]:
    """Read minutes by study name from the table of STUDIES, None for -; empty without that page."""
    page = root / STUDIES
    rows = ROW.findall(page.read_text()) if page.exists() else []
    return {name: None if minutes == "-" else float(minutes) for name, minutes in rows}


def commit_dates(root: Path) -> dict[str, str]:
    """Date of the last commit to each file in runs/results, by path; empty without git."""
    command = ["git", "log", "--format=@%cs", "--name-only", "--relative", "--", "runs/results"]
    try:
        git = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    dates, day = {}, ""
    for line in git.stdout.splitlines():
        if line.startswith("@"):
            day = line[1:]
        elif line:
            dates.setdefault(line, day)
    return dates


def last_result(root: Path, name: str, dates: dict[str, str]) -> RecordedResult | None:
    """Newest result NAME.* or NAME-* of a study, preferring tables to figures; None without one."""
    paths = sorted((root / "runs" / "results").glob(f"{name}[.-]*"))
    results = {}
    for path in [path for path in paths if path.suffix == ".md"] or paths:
        place, modified = path.relative_to(root).as_posix(), path.stat().st_mtime
        finding = first_finding(path.read_text()) if path.suffix == ".md" else ""
        day = dates.get(place) or date.fromtimestamp(modified).isoformat()
        results[day, bool(finding), modified] = RecordedResult(day, finding, place)
    return results[max(results)] if results else None


def first_finding(text: str) -> str:
    """Extract the sentence that states the finding from a result page in Markdown.

    It is the first sentence before the first table, unless that is a legend; else the first
    sentence with a confidence interval; else empty.
    """
    blocks = [block.strip() for block in text.split("\n\n") if block.strip()]
    is_table = [block.lstrip("|").count("|") > 1 for block in blocks]
    first_table = is_table.index(True) if any(is_table) else len(blocks)
    opening, later = [], []
    for i, block in enumerate(blocks):
        if re.match(r"\w", block) and not is_table[i]:
            sentences = SENTENCE.split(" ".join(block.split()))
            opening += sentences if i < first_table and not opening else []
            later += [sentence for sentence in sentences if INTERVAL.search(sentence)]
    findings = [sentence for sentence in opening + later if "intervals at 95" not in sentence]
    return findings[0].removeprefix("Finding: ") if findings else ""
