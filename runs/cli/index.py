"""What this laboratory can be asked, read from its own pages: no study is imported.

The docstring of a module says what it asks, the README's table how many minutes that takes on two
cores, runs/results/ what was found last. Nothing of it is written down twice.
"""

import ast
import re
import subprocess
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple

ROW = re.compile(r"^\| `runs\.(\w+)` \| .+ \| ([\d.]+) \|$", re.MULTILINE)
INTERVAL = re.compile(r"\[[-+\d.,]+, [-+\d.,]+\]")
SENTENCE = re.compile(r"(?<=[.?!]) (?=[A-Z(])")


class RecordedResult(NamedTuple):
    """What a study came to.

    Attributes:
        when: of the last commit to its table, as YYYY-MM-DD; of the file, where git knows none.
        finding: its first sentence; empty where a table is all there is.
        path: of the table or figure, from the root.
    """

    when: str
    finding: str
    path: str


class Study(NamedTuple):
    """A module of runs/ that can be run.

    Attributes:
        name: of the module.
        asks: the first line of its docstring.
        recorded: whether it answers with a table in runs/results/; the others are tools.
        minutes: that an answer takes on two cores; None where the README has no number.
        last: what it came to; None before that.
    """

    name: str
    asks: str
    recorded: bool
    minutes: float | None
    last: RecordedResult | None


def list_studies(root: Path) -> list[Study]:
    """Every module directly under `root`/runs that has a `main`: questions first, then tools."""
    minutes, dates = minutes_of(root), dates_of(root)
    found = []
    for path in sorted((root / "runs").glob("[!_]*.py")):
        tree = ast.parse(path.read_text(), str(path))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            name, asks = path.stem, (ast.get_docstring(tree) or "").split("\n")[0]
            last = last_result(root, name, dates)
            found.append(Study(name, asks, _records(tree), minutes.get(name), last))
    return sorted(found, key=lambda question: not question.recorded)


def minutes_of(root: Path) -> dict[str, float]:
    """Minutes by name, from the table in the README; nothing where there is no README."""
    readme = root / "README.md"
    rows = ROW.findall(readme.read_text()) if readme.exists() else []
    return {name: float(minutes) for name, minutes in rows}


def dates_of(root: Path) -> dict[str, str]:
    """Date of the last commit to each result, by path from the root; empty without git."""
    command = ["git", "log", "--format=@%cs", "--name-only", "--relative", "--", "runs/results"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    dates, when = {}, ""
    for line in done.stdout.splitlines():
        if line.startswith("@"):
            when = line[1:]
        elif line:
            dates.setdefault(line, when)
    return dates


def last_result(root: Path, name: str, dates: dict[str, str]) -> RecordedResult | None:
    """The newest of a study's results, a table before a figure; None if it has none.

    Args:
        root: of the checkout.
        name: of the study; its results are NAME.* and NAME-*.
        dates: `dates_of` the checkout.
    """
    results = root / "runs" / "results"
    paths = [p for p in sorted(results.glob(f"{name}*")) if re.match(rf"{name}[.-]", p.name)]
    paths = [path for path in paths if path.suffix == ".md"] or paths
    found = []
    for path in paths:
        where = path.relative_to(root).as_posix()
        when = dates.get(where) or date.fromtimestamp(path.stat().st_mtime).isoformat()
        text = path.read_text() if path.suffix == ".md" else ""
        found.append(
            (when, bool(first_finding(text)), path.stat().st_mtime, where, first_finding(text))
        )
    if not found:
        return None
    when, _, _, where, said = max(found)
    return RecordedResult(when, said, where)


def first_finding(text: str) -> str:
    """The first sentence that says what was found, of a table's page.

    That is how the page opens, before its first table, unless that is a legend; failing that, the
    first sentence with an interval; failing that, nothing.
    """
    blocks = [block.strip() for block in text.split("\n\n") if block.strip()]
    tables = [i for i, block in enumerate(blocks) if block.lstrip("|").count("|") > 1]
    prose = [(i, block) for i, block in enumerate(blocks) if re.match(r"\w", block)]
    prose = [(i, " ".join(block.split())) for i, block in prose if i not in tables]
    before = [block for i, block in prose if i < min(tables, default=len(blocks))]
    said = _sentences(before[:1])
    said += [one for one in _sentences(block for _, block in prose) if INTERVAL.search(one)]
    said = [one for one in said if "intervals at 95" not in one]
    return said[0].removeprefix("Finding: ") if said else ""


def _sentences(blocks: Iterable[str]) -> list[str]:
    return [sentence for block in blocks for sentence in SENTENCE.split(block)]


def _records(tree: ast.Module) -> bool:
    """Whether its `Settings` have a field `record`."""
    fields = (
        node.target.id
        for part in tree.body
        if isinstance(part, ast.ClassDef) and part.name == "Settings"
        for node in part.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )
    return "record" in fields
