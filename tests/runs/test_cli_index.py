"""`python -m runs` lists every study with its last recorded result, without importing JAX."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runs.__main__ import index_entry
from runs.cli import index
from runs.cli.index import RecordedResult, Study, first_finding, list_studies

ROOT = Path(__file__).resolve().parents[2]
STUDY = '''"""Does it work? {more}"""
class Settings:
    record: bool = False
def main(argv): ...
'''
TOOL = '"""Mends it."""\ndef main(argv): ...\n'


@pytest.fixture
def checkout(tmp_path):
    """Make a checkout with a README, two studies and a tool, without git."""
    (tmp_path / "runs" / "results").mkdir(parents=True)
    for name, text in (
        ("runs/__init__.py", '"""The laboratory."""\n'),
        ("runs/__main__.py", TOOL),
        ("runs/one.py", STUDY.format(more="\n\nMore of it.")),
        ("runs/once_more.py", STUDY.format(more="")),
        ("runs/mend.py", TOOL),
        ("runs/part.py", '"""No command."""\n'),
        (
            "README.md",
            "| `python -m` | asks | minutes |\n|---|---|---:|\n| `runs.one` | it | 7 |\n",
        ),
    ):
        (tmp_path / name).write_text(text)
    return tmp_path


def result(checkout: Path, name: str, text: str, day: int = 1) -> None:
    """Write a result file whose modification date is a day of January 1970."""
    path = checkout / "runs" / "results" / name
    path.write_text(text)
    os.utime(path, (86400 * (day - 0.5),) * 2)


def test_modules_with_a_main_are_listed_studies_before_tools(checkout):
    studies = list_studies(checkout)
    assert [study.name for study in studies] == ["once_more", "one", "mend"]
    assert [study.recorded for study in studies] == [True, True, False]
    assert [study.minutes for study in studies] == [None, 7, None]
    assert [study.summary for study in studies] == [
        "Does it work? ",
        "Does it work? ",
        "Mends it.",
    ]
    assert not any(study.last for study in studies)


def test_last_result_is_the_newest_file(checkout):
    result(checkout, "one-a.md", "# A\n\nA is 1.\n", day=3)
    result(checkout, "one-b.md", "# B\n\nB is 2. And more.\n", day=4)
    result(checkout, "one-b.png", "", day=5)
    result(checkout, "once_more.md", "# C\n\nC is 3.\n", day=9)
    last = {study.name: study.last for study in list_studies(checkout)}
    assert last["one"] == RecordedResult("1970-01-04", "B is 2.", "runs/results/one-b.md")
    assert last["once_more"] == RecordedResult("1970-01-09", "C is 3.", "runs/results/once_more.md")


def test_date_of_a_result_is_that_of_its_last_commit(checkout):
    result(checkout, "one.md", "# A\n\nA is 1.\n")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    env = os.environ | {"GIT_COMMITTER_DATE": "2020-02-03T12:00:00 +0000"}
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=checkout, env=env, check=True)
    assert index.commit_dates(checkout) == {"runs/results/one.md": "2020-02-03"}
    assert {study.last.when for study in list_studies(checkout) if study.last} == {"2020-02-03"}


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "# T\n\nFinding: it is so, by 1.5 [1.0, 2.0]. More.\n\na | b | c\n",
            "it is so, by 1.5 [1.0, 2.0].",
        ),
        ("# T\n\nIt\nis so. More.\n\n`command`\n", "It is so."),
        ("# T\n\n![picture](a.png)\n\nIt is so.\n", "It is so."),
        ("# T\n\na | b | c\n--- | --- | ---\n\n3 seeds an arm.\n", ""),
        (
            "# T\n\na | b | c\n\nA legend. It is so, -1 [-2.5, +1,000].\n",
            "It is so, -1 [-2.5, +1,000].",
        ),
        ("# T\n\nMeans with t intervals at 95 %.\n\na | b | c\n", ""),
        ("", ""),
    ],
)
def test_first_finding_of_a_result_page(text, finding):
    assert first_finding(text) == finding


def test_index_entry_shows_summary_minutes_and_last_result():
    last = RecordedResult("2020-02-03", "", "runs/results/one.png")
    lines = index_entry(Study("one", "Does it?", True, 7, last), 100).splitlines()
    assert re.fullmatch(r"runs\.one +7 min  Does it\?", lines[0])
    assert lines[1].strip() == "2020-02-03: see runs/results/one.png"
    assert "never recorded" in index_entry(Study("one", "Does it?", True, None, None), 100)
    long = RecordedResult("2020-02-03", "word " * 1000, "")
    entry = index_entry(Study("one", "Does it?", True, 7, long), 80)
    assert entry.endswith("...") and max(map(len, entry.splitlines())) <= 80


# --- this checkout ------------------------------------------------------------------------------


def test_every_command_of_this_checkout_is_listed():
    """Every module with a `main` is listed with a summary, except `__main__`."""
    commands = {
        path.stem
        for path in (ROOT / "runs").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    }
    studies = list_studies(ROOT)
    assert {study.name for study in studies} == commands - {"__main__"}
    assert all(study.summary for study in studies)


def test_readme_table_names_exactly_the_studies():
    """The table of the README, which holds the minutes, names exactly the studies."""
    names = {study.name for study in list_studies(ROOT) if study.recorded}
    assert set(index.read_minutes(ROOT)) == names


@pytest.mark.parametrize(("args", "code"), [((), 0), (("--help",), 0), (("bogus",), 2)])
def test_index_takes_less_than_a_second_and_does_not_import_jax(args, code):
    script = (
        "import sys, time, runpy\nsys.argv[0] = 'runs'\ntry: runpy.run_module('runs', run_name="
    )
    script += (
        "'__main__')\nfinally: print('jax' in sys.modules, time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *args], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code
    loaded, seconds = done.stderr.split()[-2:]
    assert loaded == "False"
    assert float(seconds) < 1
    if not args:
        assert all(f"runs.{study.name}" in done.stdout for study in list_studies(ROOT))
