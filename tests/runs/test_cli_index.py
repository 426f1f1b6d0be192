"""`python -m runs` lists every question, from the pages that hold the answers, in no time."""

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
    """A README, two studies and a tool, without git."""
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
    """Writes a result that was touched on a day of January 1970."""
    path = checkout / "runs" / "results" / name
    path.write_text(text)
    os.utime(path, (86400 * (day - 0.5),) * 2)


def test_modules_with_a_main_are_listed_questions_first(checkout):
    found = list_studies(checkout)
    assert [question.name for question in found] == ["once_more", "one", "mend"]
    assert [question.recorded for question in found] == [True, True, False]
    assert [question.minutes for question in found] == [None, 7, None]
    assert [question.asks for question in found] == [
        "Does it work? ",
        "Does it work? ",
        "Mends it.",
    ]
    assert not any(question.last for question in found)


def test_the_newest_result_is_the_last_one(checkout):
    result(checkout, "one-a.md", "# A\n\nA is 1.\n", day=3)
    result(checkout, "one-b.md", "# B\n\nB is 2. And more.\n", day=4)
    result(checkout, "one-b.png", "", day=5)
    result(checkout, "once_more.md", "# C\n\nC is 3.\n", day=9)
    last = {question.name: question.last for question in list_studies(checkout)}
    assert last["one"] == RecordedResult("1970-01-04", "B is 2.", "runs/results/one-b.md")
    assert last["once_more"] == RecordedResult("1970-01-09", "C is 3.", "runs/results/once_more.md")


def test_a_commit_dates_a_result(checkout):
    result(checkout, "one.md", "# A\n\nA is 1.\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    when = os.environ | {"GIT_COMMITTER_DATE": "2020-02-03T12:00:00 +0000"}
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=checkout, env=when, check=True)
    assert index.dates_of(checkout) == {"runs/results/one.md": "2020-02-03"}
    assert {q.last.when for q in list_studies(checkout) if q.last} == {"2020-02-03"}


@pytest.mark.parametrize(
    ("text", "said"),
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
def test_the_finding_of_a_page(text, said):
    assert first_finding(text) == said


def test_an_entry_says_what_is_there():
    last = RecordedResult("2020-02-03", "", "runs/results/one.png")
    lines = index_entry(Study("one", "Does it?", True, 7, last), 100).splitlines()
    assert re.fullmatch(r"runs\.one +7 min  Does it\?", lines[0])
    assert lines[1].strip() == "2020-02-03: see runs/results/one.png"
    assert "never recorded" in index_entry(Study("one", "Does it?", True, None, None), 100)
    long = RecordedResult("2020-02-03", "word " * 1000, "")
    said = index_entry(Study("one", "Does it?", True, 7, long), 80)
    assert said.endswith("...") and max(map(len, said.splitlines())) <= 80


# --- this checkout ------------------------------------------------------------------------------


def test_every_command_of_this_checkout_is_listed():
    """By name, with a first line; __main__ is the list itself."""
    commands = {
        path.stem
        for path in (ROOT / "runs").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    }
    found = list_studies(ROOT)
    assert {question.name for question in found} == commands - {"__main__"}
    assert all(question.asks for question in found)


def test_the_readme_names_every_question_and_no_other():
    """Its table is where the minutes come from."""
    asked = {question.name for question in list_studies(ROOT) if question.recorded}
    assert set(index.minutes_of(ROOT)) == asked


@pytest.mark.parametrize(("args", "code"), [((), 0), (("--help",), 0), (("bogus",), 2)])
def test_the_list_is_there_in_no_time_and_without_jax(args, code):
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
        assert all(f"runs.{question.name}" in done.stdout for question in list_studies(ROOT))
