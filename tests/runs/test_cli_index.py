"""`python -m runs` lists every study with its last recorded result, without importing JAX."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runs.__main__ import index_entry
from runs.cli import index
from runs.cli.index import STUDIES, ListedStudy, RecordedResult, first_finding, list_studies

ROOT = Path(__file__).resolve().parents[2]
STUDY = '''"""Does it work?

More of it.
"""
class Settings(StudySettings): ...
main = partial(run_study, Settings)
'''
TOOL = '"""Mends it."""\ndef main(argv): ...\n'


@pytest.fixture
def checkout(tmp_path):
    """Make a checkout with a page of minutes, two studies and a tool, without git."""
    (tmp_path / "runs" / "results").mkdir(parents=True)
    table = "| `python -m` | asks | minutes |\n|---|---|---:|\n| `runs.one` | it | 7 |\n"
    files = {"__init__": '"""The laboratory."""\n', "__main__": TOOL, "mend": TOOL}
    files |= {"one": STUDY, "once_more": STUDY, "part": '"""No command."""\n'}
    for name, text in files.items():
        (tmp_path / "runs" / f"{name}.py").write_text(text)
    (tmp_path / STUDIES).parent.mkdir(parents=True)
    (tmp_path / STUDIES).write_text(table)
    return tmp_path


def result(checkout: Path, name: str, text: str, day: int = 1) -> None:
    """Write a result file whose modification date is a day of January 1970."""
    path = checkout / "runs" / "results" / name
    path.write_text(text)
    os.utime(path, (86400 * (day - 0.5),) * 2)


def test_modules_with_a_main_are_listed_studies_before_tools(checkout):
    assert list_studies(checkout) == [
        ListedStudy("once_more", "Does it work?", True, None, None),
        ListedStudy("one", "Does it work?", True, 7, None),
        ListedStudy("mend", "Mends it.", False, None, None),
    ]


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
    assert {study.last.when for study in list_studies(checkout) if study.last} == {"2020-02-03"}


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "Finding: it is so, by 1.5 [1.0, 2.0]. More.\n\na | b | c\n",
            "it is so, by 1.5 [1.0, 2.0].",
        ),
        ("It\nis so. More.\n\n`command`\n", "It is so."),
        ("![picture](a.png)\n\nIt is so.\n", "It is so."),
        ("a | b | c\n--- | --- | ---\n\n3 seeds an arm.\n", ""),
        ("a | b | c\n\nA legend. It is so, -1 [-2.5, +1,000].\n", "It is so, -1 [-2.5, +1,000]."),
        ("Means with t intervals at 95 %.\n\na | b | c\n", ""),
        ("", ""),
    ],
)
def test_first_finding_of_a_result_page(text, finding):
    assert first_finding(f"# T\n\n{text}") == finding


def test_index_entry_shows_summary_minutes_and_last_result():
    study = ListedStudy(
        "one", "Does it?", True, 7, RecordedResult("2020-02-03", "", "results/one.png")
    )
    lines = index_entry(study, 100).splitlines()
    assert re.fullmatch(r"runs\.one +7 min  Does it\?", lines[0])
    assert lines[1].strip() == "2020-02-03: see results/one.png"
    assert "never recorded" in index_entry(study._replace(last=None), 100)
    entry = index_entry(study._replace(last=RecordedResult("", "word " * 1000, "")), 80)
    assert entry.endswith("...") and max(map(len, entry.splitlines())) <= 80


def test_every_command_of_this_checkout_is_listed_and_its_studies_are_in_the_readme():
    studies = list_studies(ROOT)
    paths = (ROOT / "runs").glob("[!_]*.py")
    commands = {path.stem for path in paths if "run_main(main)" in path.read_text()}
    assert {study.name for study in studies} == commands
    assert all(study.summary for study in studies)
    assert set(index.read_minutes(ROOT)) == {study.name for study in studies if study.recorded}


@pytest.mark.parametrize(("args", "code"), [((), 0), (("bogus",), 2)])
def test_index_takes_less_than_a_second_and_does_not_import_jax(args, code):
    script = (
        "import sys, time, runpy\n"
        "sys.argv[0] = 'runs'\n"
        "try: runpy.run_module('runs', run_name='__main__')\n"
        "finally: print('jax' in sys.modules, time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *args], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    loaded, seconds = done.stderr.split()[-2:]
    assert (done.returncode, loaded) == (code, "False")
    assert float(seconds) < 1
    assert args or all(f"runs.{study.name}" in done.stdout for study in list_studies(ROOT))
