"""The documentation against the code: examples, names, flags, messages, numbers, links, site."""

import doctest
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import pytest

import envs
import runs
from runs.experiment import Experiment
from tests.runs import page_browser
from tests.runs.small_study import without_key_check_in_threads

no_key_check = pytest.fixture(scope="module", autouse=True)(without_key_check_in_threads)
ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
WRITTEN = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
SMALL = {"seeds": 3, "steps": 128, "num_envs": 4, "num_steps": 16, "episodes": 2}
SMALL |= {"optimise": False, "probe_signals": False}  # of every experiment in an example
LIBRARIES = ("stable_baselines3",)  # optional ones that examples import
MKDOCS = next(
    filter(None, (shutil.which(p) for p in (ROOT / ".venv-docs/bin/mkdocs", "mkdocs"))), None
)


def load_pages():
    """The module docs/pages.py, which lies in no package."""
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages = load_pages()
MADE = pages.made_pages()


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    """Code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


# --- examples run -------------------------------------------------------------------------------


def small_suite(*args, **options):
    """The suite of `envs.load_suite` with the first shift of each family, at severity 1 alone."""
    suite = envs.suite_of(*args, **options)
    first = {shift.family: shift for shift in reversed(suite.shifts)}
    return replace(suite, shifts=tuple(first.values()), severities=(1.0,))


def small_experiment(*args, **options):
    """The experiment of an example, in SMALL sizes."""
    return Experiment(*args, **(options | SMALL))


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in WRITTEN if blocks(p, "python")], ids=name_of)
def test_examples_run_in_one_session_each_page(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(envs, "suite_of", envs.load_suite, raising=False)
    monkeypatch.setattr(envs, "load_suite", small_suite)
    monkeypatch.setattr(runs, "Experiment", small_experiment)
    names = {"__name__": "example"}
    for i, text in enumerate(blocks(path, "python")):
        missing = [
            name for name in LIBRARIES if name in text and not importlib.util.find_spec(name)
        ]
        if ">>>" in text or missing:
            continue
        text = text.replace("100_000", "512")  # steps of other libraries
        exec(compile(text, f"{name_of(path)}, example {i}", "exec"), names)


@pytest.mark.parametrize("path", [p for p in WRITTEN if ">>>" in p.read_text()], ids=name_of)
def test_doctests(path):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, run = doctest.testfile(str(path), module_relative=False, optionflags=flags)
    assert failed == 0 and run > 10


# --- names --------------------------------------------------------------------------------------


@cache
def known_flags(module: str) -> set[str]:
    """Flags of a command `python -m module`."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    return {flag.name for flag in pages.flags_of(path)} | {"--help"}


def commands(text: str) -> list[tuple[str, list[str]]]:
    """(module, flags) of every command of ours in a text."""
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"python -m ((?:runs|envs)(?:\.\w+)?)([^\n`#]*)", joined)
    return [(module, re.findall(r"(?<!\S)--[a-z][\w-]*", rest)) for module, rest in lines]


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_commands_and_their_flags_exist(path):
    for module, flags in commands(path.read_text()):
        if module in ("runs", "runs.NAME", "envs.gallery", "envs.coverage"):
            continue
        known = known_flags(module)
        if module == "runs.sweep":
            known = known | known_flags("runs.compare")
        assert set(flags) <= known, f"{module}: {set(flags) - known}"


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_dotted_names_exist(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for name in set(re.findall(r"`((?:affect|envs|agents|runs)(?:\.\w+)+)[`(]", text)):
        assert resolves(name), name


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


@dataclass
class Empty:
    """Settings of a command that has none."""


def test_every_setting_of_every_command_is_on_the_page_of_commands():
    for study in pages.listed_studies():
        module = importlib.import_module(f"runs.{study.name}")
        expected = {
            f"--{x.name.replace('_', '-')}" for x in fields(getattr(module, "Settings", Empty))
        }
        listed = known_flags(f"runs.{study.name}")
        named = {flag if flag.startswith("--") else f"--{flag.lower()}" for flag in listed}
        assert expected - {"--neutral"} <= named, study.name
        assert f"### `python -m runs.{study.name}`" in MADE["reference/commands.md"]


# --- messages and numbers -----------------------------------------------------------------------


def texts_of_code() -> str:
    """Source of the code, with the parts of strings that go over several lines joined."""
    paths = (
        p for name in ("affect", "envs", "agents", "runs") for p in (ROOT / name).rglob("*.py")
    )
    return re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in paths))


def test_messages_in_the_troubleshooting_guide_are_those_of_the_code():
    text = (DOCS / "guides/troubleshooting.md").read_text()
    messages = re.findall(r"^(?:### |\*\*)`([^`]+)`", text, re.MULTILINE)
    assert len(messages) > 10
    texts = texts_of_code()
    for message in messages:
        for fragment in filter(None, (part.strip(" `") for part in message.split("…"))):
            assert fragment in texts, fragment


def intervals(text: str) -> set[tuple[float, ...]]:
    """(value, low, high) of every number with an interval, as in `+.049 [+.040, +.058]`."""
    number = r"([-+]?[\d,]*\.?\d+)"
    rows = re.findall(rf"{number} \[{number}, ?{number}\]", " ".join(text.split()))
    return {tuple(float(x.replace(",", "")) for x in row) for row in rows}


@pytest.mark.parametrize("path", [p for p in WRITTEN if intervals(p.read_text())], ids=name_of)
def test_numbers_with_intervals_are_recorded_ones(path):
    recorded = set().union(*(intervals(p.read_text()) for p in pages.RESULTS.glob("*.md")))
    earlier = {(-0.036, -0.171, 0.1)}  # of a recording that was replaced, as the page says
    assert intervals(path.read_text()) - recorded <= earlier


def test_the_number_of_targets_that_hold_is_the_recorded_one():
    text = (pages.RESULTS / "targets.md").read_text()
    passed, failed = text.count("| yes |"), text.count("| NO |")
    for path in (ROOT / "README.md", DOCS / "findings/literature.md"):
        assert f"{passed} of {passed + failed}" in path.read_text()


# --- links and site -----------------------------------------------------------------------------


def test_links_lead_to_what_there_is():
    texts = {
        path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")
    } | MADE
    for page, text in texts.items():
        for _, _, target, anchor in pages.LINK.findall(pages.with_results(text, page)):
            if "://" in target:
                continue
            place = os.path.normpath(os.path.join(os.path.dirname(page), target))
            made = any(
                place.startswith(folder) and (ROOT / source / Path(place).name).exists()
                for folder, source in pages.FIGURES.items()
            )
            assert place in texts or made or (DOCS / place).exists(), f"{page}: {target}"
            assert not anchor or anchor[1:] in anchors(texts[place]), f"{page}: {anchor}"
    for _, _, target, _ in pages.LINK.findall((ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def anchors(text: str) -> set[str]:
    """Anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in headings}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the site, built so that a warning is an error."""
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [MKDOCS, "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


with_mkdocs = pytest.mark.skipif(MKDOCS is None, reason="there is no mkdocs: .[docs]")
with_browser = pytest.mark.skipif(page_browser.CHROMIUM is None, reason="there is no Chromium")


@pytest.mark.slow
@with_mkdocs
def test_the_site_loads_nothing_from_elsewhere(site):
    for path in site.rglob("*.html"):
        text = path.read_text()
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\"\s>]+)", text)
        loaded += re.findall(
            r"<link[^>]* rel=\"?(?:stylesheet|icon)[^>]* href=\"?([^\"\s>]+)", text
        )
        assert not [url for url in loaded if re.match("(https?:)?//", url)], path


@pytest.mark.slow
@with_mkdocs
@with_browser
@pytest.mark.parametrize("page", ["index", "findings/inheritance", "reference/affect"])
def test_a_page_of_the_site_requests_nothing_and_logs_nothing(site, page, tmp_path):
    path = site / f"{page}.html"
    with page_browser.Proxy() as proxy:
        _, console = page_browser.load_page(path, tmp_path / "profile", *proxy.flags)
    assert (console, proxy.requests) == ([], [])
