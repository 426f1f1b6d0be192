"""Pages of the site that are made of code, of READMEs and of recorded results; a hook of mkdocs.

`mkdocs build` calls `on_files` and `on_page_markdown`. Nothing here imports jax or the laboratory:
commands and their flags are read from the source, results from `runs/results`.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "runs" / "results"
INCLUDED = {
    "tutorials/bridges.md": "affect/bridges/README.md",
    "tutorials/sweep.md": "runs/scale/README.md",
    "guides/inheritance.md": "runs/inheritance/README.md",
    "findings/signals.md": "runs/README.md",
    "reference/heads.md": "affect/README.md",
    "reference/worlds.md": "envs/README.md",
    "design/contributing.md": "CONTRIBUTING.md",
    "design/changelog.md": "CHANGELOG.md",
}
"""Page of the site -> the file of the repository that it shows."""
FIGURES = {"figures/results": "runs/results", "figures/worlds": "envs/gallery"}
"""Folder of the site -> the folder of the repository whose pictures it holds."""
HOUSE = "figures/house.svg"  # drawn from the source by docs/house.py
RECORDED = re.compile(r"^\[`([\w.-]+)`\]\(\.\./\.\./runs/results/\1\)[ \t]*$", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


class Flag(NamedTuple):
    """A setting of a command: its name, default and description, as the source has them."""

    name: str
    default: str
    text: str


# --- hook ---------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made here, and the pictures that they and others show."""
    from mkdocs.structure.files import File

    for page, text in made_pages().items():
        files.append(File.generated(config, page, content=text))
    for folder, source in FIGURES.items():
        for path in sorted((ROOT / source).glob("*.png")):
            files.append(File.generated(config, f"{folder}/{path.name}", abs_src_path=str(path)))
    files.append(File.generated(config, HOUSE, content=picture_of_the_house()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make a page that is written in docs/ one of the site."""
    uri = page.file.src_uri
    return site_page(markdown, uri) if (ROOT / "docs" / uri).exists() else markdown


def site_page(markdown: str, page: str) -> str:
    """A page of docs/ whose links hold on the site; a link to a result, in a line, becomes it."""
    parts = RECORDED.split(markdown)  # text, name of a result, text, ...
    parts[::2] = [with_links(text, page, f"docs/{page}") for text in parts[::2]]
    parts[1::2] = [recorded(name, page) for name in parts[1::2]]
    return "".join(parts)


# --- pages --------------------------------------------------------------------------------------


def made_pages() -> dict[str, str]:
    """Text of every page that is made: those of other files, and that of all commands."""
    pages = {
        page: with_links((ROOT / source).read_text(), page, source)
        for page, source in INCLUDED.items()
    }
    return pages | {
        "reference/commands.md": commands_page(),
        "findings/recorded.md": recordings_page("findings/recorded.md"),
    }


def with_links(markdown: str, page: str, source: str) -> str:
    """A file's text with links that hold on its page; a link to what has no page becomes text."""

    def rewritten(match: re.Match) -> str:
        picture, text, target, anchor = match.groups("")
        if "://" in target:
            return match[0]
        path = os.path.normpath(f"{os.path.dirname(source)}/{target}".lstrip("/"))
        places = {file: place for place, file in INCLUDED.items()} | {"README.md": "index.md"}
        places["runs/results"] = "findings/recorded.md"
        for folder, pictures in FIGURES.items():
            if path.startswith(f"{pictures}/") and path.endswith(".png"):
                places[path] = f"{folder}/{Path(path).name}"
        if path.startswith("docs/"):
            places[path] = path.removeprefix("docs/")
        if path not in places:
            return text
        return f"{picture}[{text}]({relative(places[path], page)}{anchor})"

    return LINK.sub(rewritten, markdown)


def relative(target: str, page: str) -> str:
    """Path of a file of the site, as seen from a page."""
    return os.path.relpath(target, os.path.dirname(page) or ".")


def recorded(name: str, page: str) -> str:
    """A recorded result as a part of a page: when it was made and from what, then its text."""
    text = (RESULTS / name).read_text()
    title, _, body = text.partition("\n")
    body = re.sub("^(#+) ", r"#\1 ", with_links(body, page, f"runs/results/{name}"), flags=re.M)
    title = title.lstrip("# ").rstrip("?")
    return f"*{title}. Recorded {origin(name)}; the file is `runs/results/{name}`.*\n{body}"


def origin(name: str) -> str:
    """Date and commit of the last recording of a result, as git knows them."""
    command = ["git", "log", "-1", "--format=on %cs in commit `%h`", "--", f"runs/results/{name}"]
    try:
        git = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    except OSError:
        return "before this copy was made"
    return git.stdout.strip() or "before this copy was made"


# --- recordings ---------------------------------------------------------------------------------


def recordings_page(page: str) -> str:
    """Page of all recorded results, chosen by nobody: what each says, and how many nulls it has."""
    prepare_imports()
    from runs.cli.index import commit_dates, first_finding

    days, places = commit_dates(ROOT), places_of_results()
    lines = [
        "# Every recording\n\nThis page is made from all files in `runs/results/`; nothing is left "
        "out because of what it says. *Differences* counts the numbers with a sign and a 95 % "
        "interval in a file, exploratory and repeated ones included; *null*, those whose interval "
        "contains 0, before any correction for their number.\n",
        "| recorded | on | what it says | differences | null |\n|---|---|---|---:|---:|",
    ]
    for path in sorted(RESULTS.glob("*.md")):
        text, name = path.read_text(), f"`{path.stem}`"
        nulls = [low <= 0 <= high for low, high in signed_intervals(text)]
        if path.name in places:
            name = f"[{name}]({relative(places[path.name], page)})"
        says = first_finding(text) or text.partition("\n")[0].lstrip("# ")
        day = days.get(f"runs/results/{path.name}", "")
        counts = f"{len(nulls) or '-'} | {sum(nulls)}"
        lines.append(f"| {name} | {day} | {escaped(says)} | {counts} |")
    lines.append("\n## Not recorded yet\n\nThese can be run, and nobody has recorded them:\n")
    words = [set(re.split("[-_.]", path.name)) for path in RESULTS.iterdir()]
    for study in listed_studies():
        if study.recorded and not any(set(study.name.split("_")) <= name for name in words):
            lines.append(f"- `runs.{study.name}`: {study.summary}")
    return "\n".join(lines) + "\n"


def places_of_results() -> dict[str, str]:
    """Recorded result -> the page of the site that shows it."""
    return {
        name: path.relative_to(ROOT / "docs").as_posix()
        for path in sorted((ROOT / "docs").rglob("*.md"))
        for name in RECORDED.findall(path.read_text())
    }


def signed_intervals(text: str) -> list[tuple[float, float]]:
    """(low, high) of every signed number with an interval, as in `+.049 [+.040, +.058]`."""
    number = r"[-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?"
    pairs = re.findall(rf"[-+][\d,]*\.?\d+ \[({number}), ({number})\]", " ".join(text.split()))
    return [tuple(float(bound.replace(",", "")) for bound in pair) for pair in pairs]


# --- commands -----------------------------------------------------------------------------------


def commands_page() -> str:
    """Page of all commands: what each does, and its flags."""
    studies = listed_studies()
    parts = [
        "# Commands\n\nThis page is made from the source; `--help` of a command prints the same. A "
        "study writes into a folder under `runs/logs/` that is named by its settings, so the same "
        "command resumes it. Flags of a study can be written in a YAML file: `--config FILE`."
    ]
    for title, kind in (("Studies", True), ("Tools", False)):
        parts.append(f"## {title}")
        for study in studies:
            if study.recorded == kind:
                parts.append(command_section(study))
    return "\n\n".join(parts) + "\n"


def listed_studies() -> list:
    """All commands of `python -m runs`, studies first."""
    prepare_imports()
    from runs.cli.index import list_studies

    return list_studies(ROOT)


def picture_of_the_house() -> str:
    """SVG of the project's import graph."""
    prepare_imports()
    from docs.house import drawing

    return drawing(ROOT)


def prepare_imports() -> None:
    """Let Python import from the root; mkdocs does not, and undoes what a hook sets when loaded."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))


def command_section(study: Any) -> str:
    """Section of one command."""
    path = ROOT / "runs" / f"{study.name}.py"
    text = ast.get_docstring(parsed(path)) or ""
    minutes = "" if study.minutes is None else f" About {study.minutes:g} minutes on two cores."
    lines = [f"### `python -m runs.{study.name}`", text + minutes]
    flags = list(flags_of(path))
    if flags:
        rows = [
            f"| `{flag.name}` | {cell(flag.default)} | {escaped(flag.text)} |" for flag in flags
        ]
        lines.append("\n".join(["| flag | default | what |", "|---|---|---|", *rows]))
    return "\n\n".join(lines)


def flags_of(path: Path) -> Iterator[Flag]:
    """Flags of a command in the order of `--help`: of its Settings and what they extend."""
    tree = parsed(path)
    settings = settings_class("Settings", path) or settings_class("TrainingSettings", path)
    if settings is not None:
        yield from {flag.name: flag for flag in settings_flags(*settings)}.values()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "add":
            given = {
                word.arg: ast.literal_eval(word.value)
                for word in node.keywords
                if word.arg in ("default", "help", "action")
            }
            flag = node.args[0].value
            default = "off" if given.get("action") else given.get("default", "")
            yield Flag(flag, "" if default == [] else str(default), given.get("help", ""))


def settings_flags(settings: ast.ClassDef, path: Path) -> Iterator[Flag]:
    """Flags of a dataclass of settings, its own last; those that it defines anew come twice."""
    for base in settings.bases:
        base_class = settings_class(ast.unparse(base), path)
        if base_class is not None:
            yield from settings_flags(*base_class)
    texts = attribute_texts(ast.get_docstring(settings) or "")
    for node in settings.body:
        if isinstance(node, ast.AnnAssign) and node.target.id in texts:
            name, kind = node.target.id, ast.unparse(node.annotation)
            named = re.search(r"\barg\(name='([\w-]+)'\)", kind)
            positional = kind.startswith("Positional")
            flag = f"--{named[1] if named else name.replace('_', '-')}"
            flag = name.upper() if positional else flag
            yield Flag(flag, " ".join(default_words(node.value, parsed(path))), texts[name])


def default_words(node: ast.expr | None, module: ast.Module) -> list[str]:
    """Words of a default as a command line has them; constants of the module by their value."""
    match node:
        case None | ast.Constant(value=None | ""):
            return []
        case ast.Constant(value=bool()):
            return ["on" if node.value else "off"]
        case ast.Constant():
            return [str(node.value)]
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Dict(keys=parts):
            return [word for part in parts for word in default_words(part, module)]
        case ast.Starred(value=inner) | ast.Call(args=[inner]):  # *NAMES; tuple(NAMES), Path(NAME)
            return default_words(inner, module)
        case ast.Call():
            return []
        case ast.Name():
            for statement in module.body:
                if isinstance(statement, ast.Assign) and ast.unparse(statement.targets) == node.id:
                    return default_words(statement.value, module)
    return [ast.unparse(node)]


def settings_class(name: str, path: Path) -> tuple[ast.ClassDef, Path] | None:
    """The class of this name in a module, and the module that defines it; None if it is foreign."""
    for node in parsed(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, path
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("runs."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return settings_class(alias.name, ROOT / f"{node.module.replace('.', '/')}.py")
    return None


def attribute_texts(docstring: str) -> dict[str, str]:
    """Name -> description of each entry under `Attributes:` of a docstring."""
    entries = docstring.partition("Attributes:\n")[2]
    texts = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", entries, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in texts}


@cache
def parsed(path: Path) -> ast.Module:
    """Syntax tree of a module."""
    return ast.parse(path.read_text(), str(path))


def cell(default: str) -> str:
    """A default as code, or nothing."""
    return f"`{escaped(default)}`" if default else ""


def escaped(text: str) -> str:
    """Text that does not end its cell of a table."""
    return text.replace("|", r"\|")
