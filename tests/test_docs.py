"""The documentation against the code: examples, names, flags, messages, numbers, links, site."""

import doctest
import html
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image

import affect
import agents
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
with_mkdocs = pytest.mark.skipif(MKDOCS is None, reason="there is no mkdocs: .[docs]")
with_browser = pytest.mark.skipif(page_browser.CHROMIUM is None, reason="there is no Chromium")


def load_script(name):
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages = load_script("pages")
made_pages = cache(pages.made_pages)


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


EXAMPLES = [*WRITTEN, ROOT / "runs/scale/README.md"]  # other files that the site shows have tests
TUTORIALS_TESTED_ELSEWHERE = {"tutorials/bridges.md": "tests/affect/bridges/test_readme.py"}


def test_every_tutorial_of_the_site_is_run_by_a_test():
    listed = re.findall(r"tutorials/[\w-]+\.md", (ROOT / "mkdocs.yml").read_text())
    assert len(listed) > 9
    for page in listed:
        source = ROOT / pages.INCLUDED.get(page, f"docs/{page}")
        test = ROOT / TUTORIALS_TESTED_ELSEWHERE.get(page, "")
        assert blocks(source, "python")
        assert source in EXAMPLES or source.parent.name in test.read_text(), page


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in EXAMPLES if blocks(p, "python")], ids=name_of)
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


@pytest.mark.parametrize("package", [affect, agents], ids=["affect", "agents"])
def test_every_public_name_is_on_the_page_of_its_package(package):
    text = (DOCS / f"reference/{package.__name__}.md").read_text()
    shown = set(re.findall(r"^::: [\w.]+?(\w+)$", text, re.MULTILINE))
    assert set(package.__all__) - shown <= {"HeadFactory"}  # a type of hints


@dataclass
class Empty:
    """Settings of a command that has none."""


def as_words(default) -> str:
    """A default as it would be given on a command line; nothing for one that says nothing."""
    if default in (None, "", (), Path(), MISSING):
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    return " ".join(default) if isinstance(default, tuple) else str(default)


def test_every_setting_of_every_command_is_on_the_page_of_commands():
    for study in pages.listed_studies():
        module = importlib.import_module(f"runs.{study.name}")
        expected = {x.name: as_words(x.default) for x in fields(getattr(module, "Settings", Empty))}
        if "from_file" in expected:
            expected["from"] = expected.pop("from_file")  # renamed by `arg(name=)`
        flags = list(pages.flags_of(ROOT / f"runs/{study.name}.py"))
        shown = {flag.name.lstrip("-").lower().replace("-", "_"): flag.default for flag in flags}
        assert len(shown) == len(flags) and expected.items() <= shown.items(), study.name
        assert f"### `python -m runs.{study.name}`" in made_pages()["reference/commands.md"]


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


def test_the_page_of_recordings_shows_every_result_with_its_nulls_and_what_is_not_recorded():
    assert pages.signed_intervals("+.1 [-.1, +.3], -1,2.5 [-3, -1] .7 [.6, .8] -0 [-1e-3, 0]") == [
        (-0.1, 0.3),
        (-3.0, -1.0),
        (-0.001, 0.0),
    ]
    text = made_pages()["findings/recorded.md"]
    for path in pages.RESULTS.glob("*.md"):
        (row,) = [line for line in text.splitlines() if f"`{path.stem}`" in line]
        bounds = pages.signed_intervals(path.read_text())
        nulls = sum(low <= 0 <= high for low, high in bounds)
        assert row.endswith(f"| {len(bounds) or '-'} | {nulls} |")
    known = {study.name for study in pages.listed_studies() if study.recorded and study.last}
    missing = re.findall(r"^- `runs.(\w+)`", text, re.M)
    assert known.isdisjoint(missing) and "calibrate_sealed" not in missing


def test_the_number_of_targets_that_hold_is_the_recorded_one():
    text = (pages.RESULTS / "targets.md").read_text()
    passed, failed = text.count("| yes |"), text.count("| NO |")
    for path in (ROOT / "README.md", DOCS / "findings/literature.md"):
        assert f"{passed} of {passed + failed}" in path.read_text()


def test_versions_and_dates_of_the_release_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    released = re.search(r"^## \[(\S+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert affect.__version__ == cited["version"] == released[1] == version
    assert str(cited["date-released"]) == released[2]
    assert f"{'.'.join(version.split('.')[:2])}, alpha" in (ROOT / "README.md").read_text()


# --- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((DOCS / "assets").glob("*.png")), ids=name_of)
def test_screenshots_are_small_and_shown_by_a_page(path):
    assert path.stat().st_size < 150_000
    assert any(f"assets/{path.name})" in page.read_text() for page in WRITTEN)


@pytest.mark.slow
@with_browser
def test_screenshots_are_taken_of_every_view(tmp_path, monkeypatch):
    screens, suite = load_script("screens"), envs.load_suite("CartPole")
    (length,) = (shift for shift in suite.shifts if shift.name == "length")
    suite = replace(suite, shifts=(length,), severities=(1.0,))
    smaller = {"Experiment": small_experiment, "load_suite": lambda name: suite}
    for name, value in (smaller | {"ASSETS": tmp_path, "OUT": tmp_path}).items():
        monkeypatch.setattr(screens, name, value)
    screens.main()
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {path.name for path in (DOCS / "assets").glob("board-*.png")}
    for path in tmp_path.glob("*.png"):
        assert len(Image.open(path).convert("RGB").getcolors(256)) > 20, path.name


def test_the_picture_of_the_house_shows_every_part_above_what_it_imports(tmp_path):
    house = load_script("house")
    for path, text in {
        "affect/__init__.py": "",
        "envs/world.py": "from affect import Head",
        "runs/__init__.py": "def f():\n    from runs.experiment import Experiment",
        "runs/names.py": "import os",
        "runs/engine/train.py": "def f():\n    from runs import names\n    import envs.world",
        "runs/experiment.py": "import runs.engine.train, affect",
        "runs/theory/gamble.py": "from runs.engine.train import f",
        "runs/deep/folder.py": "import runs.study",
        "runs/study.py": "import runs.deep.folder, runs.experiment, runs.theory.gamble",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    modules = house.module_graph(tmp_path)
    graph = house.part_graph(modules, house.parts_of(modules))
    assert house.rows_of(graph) == [
        ["affect", house.SHARED],
        ["envs"],
        ["engine"],
        [house.API, "theory"],
        [house.STUDIES],
    ]
    assert house.reduced(graph)[house.API] == {"engine"}
    assert house.drawing(tmp_path).count("marker-end") == 7
    with pytest.raises(ValueError, match="in a circle: \\['a', 'b'\\]"):
        house.rows_of({"a": {"b"}, "b": {"a"}})


def test_the_picture_of_the_house_is_made_and_well_formed():
    texts = ElementTree.fromstring(pages.picture_of_the_house()).itertext()
    assert {"affect", "agents", "envs", "engine", "analysis", "studies"} <= set(texts)
    assert f"]({os.path.relpath(pages.HOUSE, 'design')})" in (DOCS / "design/house.md").read_text()


# --- links and site -----------------------------------------------------------------------------


def test_links_lead_to_what_there_is():
    texts = {path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")}
    for page, text in texts.items():  # in the repository
        for _, _, target, _ in pages.LINK.findall(text):
            place = DOCS / os.path.dirname(page) / target
            assert "://" in target or pages.HOUSE in target or place.exists(), f"{page}: {target}"
    texts = {page: pages.site_page(text, page) for page, text in texts.items()} | made_pages()
    for page, text in texts.items():
        for _, _, target, anchor in pages.LINK.findall(text):
            if "://" in target:
                continue
            place = os.path.normpath(os.path.join(os.path.dirname(page), target))
            made = any(
                place.startswith(folder) and (ROOT / source / Path(place).name).exists()
                for folder, source in pages.FIGURES.items()
            )
            made = made or place == pages.HOUSE
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
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    options = {"capture_output": True, "text": True, "timeout": 600}
    built = subprocess.run(command, cwd=ROOT, env=environ, **options)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


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


MEASURE_SITE = """
const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const overflow = page => {
  const width = page.documentElement.clientWidth;
  const images = [...page.images].filter(image => !image.naturalWidth).map(image => image.src);
  return page.documentElement.scrollWidth > width + 1 ? [page.URL, ...images] : images;
};
const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
const over = ([r, g, b, alpha = 1], back) =>
  [r, g, b].map((value, i) => alpha * value + (1 - alpha) * back[i]);
const ground = element => element
  ? over(numbers(getComputedStyle(element).backgroundColor), ground(element.parentElement))
  : [255, 255, 255];
const linear = value => value <= 10.31 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const contrast = element => {
  const back = ground(element), ink = over(numbers(getComputedStyle(element).color), back);
  const [low, high] = [luminance(back), luminance(ink)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const TEXTS = ["p", "li", "a:not(.headerlink)", "td", "th", ":not(pre) > code"];
const pale = page => {
  const texts = page.querySelectorAll(TEXTS.map(text => `.md-content ${text}`).join());
  const tags = [...texts].filter(text => contrast(text) < 4.5).map(text => text.tagName);
  return [...new Set(tags)].map(tag => `${page.URL}: pale ${tag}`);
};
addEventListener("load", async () => {
  const faults = [], schemes = new Set();
  let pages = 0, hits = 0;
  for (const url of PAGES) {
    const frame = document.createElement("iframe");
    frame.style.cssText = "width:WIDTHpx;height:900px;border:0";
    const loaded = new Promise(resolve => (frame.onload = resolve));
    const first = url == PAGES[0];
    frame.src = first ? url + "?q=potential" : url;
    document.body.append(frame);
    await loaded;
    await wait(first ? 5000 : 300);
    faults.push(...overflow(frame.contentDocument), ...pale(frame.contentDocument));
    schemes.add(frame.contentDocument.body.dataset.mdColorScheme);
    pages += frame.contentDocument.querySelectorAll("h1").length > 0;
    hits += frame.contentDocument.querySelectorAll(".md-search-result__item").length;
    frame.remove();
  }
  document.body.textContent = "";
  document.title = JSON.stringify({ pages, faults, hits, schemes: [...schemes] });
});
"""


@pytest.mark.slow
@with_mkdocs
@with_browser
@pytest.mark.parametrize("scheme", ["default", "slate"])
@pytest.mark.parametrize("width", [420, 1280])
def test_pages_fit_are_legible_load_from_files_request_nothing_log_nothing_and_are_found(
    site, width, scheme, tmp_path, monkeypatch
):
    """Every page of the site in a frame of a width, light and dark; the search on the first."""
    monkeypatch.setattr(page_browser, "SECONDS", 400)
    urls = [path.as_uri() for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    urls.sort(key=lambda url: not url.endswith("site/index.html"))
    script = MEASURE_SITE.replace("PAGES", json.dumps(urls)).replace("WIDTH", str(width))
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(f"<!doctype html><script>{script}</script><body>")
    flags = ["--allow-file-access-from-files", "--virtual-time-budget=120000"]
    flags.append(page_browser.scheme_flag(dark=scheme == "slate"))
    with page_browser.Proxy() as proxy:
        document, console = page_browser.load_page(
            wrapper, tmp_path / "profile", *flags, "--window-size=1400,1000", *proxy.flags
        )
    assert (console, proxy.requests) == ([], [])
    title = re.search("<title>(.*?)</title>", document)
    assert title, document[-2000:]
    measures = json.loads(html.unescape(title[1]))
    assert (measures["faults"], measures["pages"]) == ([], len(urls))
    assert measures["schemes"] == [scheme]
    assert measures["hits"] > 0
