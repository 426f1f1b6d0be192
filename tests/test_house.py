"""Rules of the code base: imports, names, gradients, nesting, file length, fast `--help`.

Each rule is a function from a checkout's root to a list of violations, one line each. Every rule is
run on this checkout, which must not break it, and on small trees that break it.
"""

import ast
import functools
import graphlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("affect", "envs", "agents", "runs")
MAY_IMPORT = {  # among these packages; each may also import itself
    "affect": set(),
    "envs": {"affect"},
    "agents": {"affect"},
    "runs": {"affect", "envs", "agents"},
}
LEVELS = {
    **dict.fromkeys(("describe", "errors", "lock", "names", "tree_io"), 0),
    "engine": 1,
    "analysis": 2,
    **dict.fromkeys(("probes", "prereg"), 3),
    **dict.fromkeys(("report", "cli"), 4),
    **dict.fromkeys(("arm_runner", "result", "experiment"), 5),
}
"""Folder or module of runs -> its level; all others are studies, with theory and bench."""
TOP_LEVEL = 6
OPEN_LEVELS = {0, 5, 6}  # levels whose modules may import each other
CORE = {"jax", "flax", "optax", "numpy", "safetensors"} | set(sys.stdlib_module_names)
BRIDGED = {  # folder or module of affect/bridges -> what it may import beside
    "affect/bridges/gymnasium.py": {"gymnasium"},
    "affect/bridges/spaces.py": {"gymnasium"},
    "affect/bridges/stable_baselines3": {"stable_baselines3", "gymnasium"},
}
GRADIENTS = {f"jax.{name}" for name in ("grad", "value_and_grad", "vjp", "jacfwd", "jacrev")}
VAGUE_MODULE = re.compile(r"utils?|common")
VAGUE_CLASS = re.compile(r"_*Base([A-Z_]\w*)?|\w*Manager")
VAGUE_VARIABLES = {"asked", "felt", "found", "lived", "said", "told"}  # of whatever it was
SEALED_MODULE = re.compile(r"(envs(\.\w+)*\.sealed)([.:]\w+)?")  # of sealed shifts
SEALED_ENTRIES = {"envs.SEALED", "envs.load_sealed_suite"}
SEALED_IMPORTERS = {"envs/__init__.py", "runs/calibrate_sealed.py"}  # registry, calibration
SEALED_CALLER = "runs/inheritance/homes.py"  # after its sealed draw
NNX_TRANSFORMS = {
    f"flax.nnx.{name}"
    for name in ("grad", "value_and_grad", "jit", "scan", "vmap", "pmap", "split", "merge")
} | {"flax.nnx.Optimizer"}


# --- reading a tree ---------------------------------------------------------------------------


def sources(root: Path, *packages: str) -> Iterator[tuple[str, ast.Module]]:
    """Yields (path relative to the root, syntax tree) of every module of the packages."""
    for package in packages or PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            yield path.relative_to(root).as_posix(), syntax_tree(path.read_text())


@functools.cache
def syntax_tree(source: str) -> ast.Module:
    """Syntax tree of a module; rules do not change it."""
    return ast.parse(source)


def bindings(name: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yields (name bound in the module, absolute dotted name it stands for) of every import."""
    folders = name.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom):
            parents = folders[: len(folders) - node.level + 1] if node.level else []
            module = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                yield alias.asname or alias.name, f"{module}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = ast.unparse(node.func).split(".")[-1]
            if function in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield "", node.args[0].value


def uses(name: str, tree: ast.Module) -> Iterator[str]:
    """Yields every attribute and imported name the module mentions, spelt out from its origin."""
    origin = {}
    for bound, target in bindings(name, tree):
        origin[bound] = target.split(".")[0] if target.startswith(f"{bound}.") else target
        yield target
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            head, _, rest = ast.unparse(node).partition(".")
            if head in origin:
                yield f"{origin[head]}.{rest}"


def functions(node: ast.AST, depth: int = 0) -> Iterator[tuple[ast.AST, int]]:
    """Yields (function definition, how many function definitions enclose it, itself counted)."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child, depth + 1
            yield from functions(child, depth + 1)
        else:
            yield from functions(child, depth)


def identifiers(node: ast.AST) -> set[str]:
    """Names that one node of a syntax tree binds, reads or passes by keyword."""
    return {getattr(node, field, None) for field in ("id", "arg", "attr", "name")} - {None}


# --- the rules --------------------------------------------------------------------------------


def import_order(root: Path) -> list[str]:
    """Packages import only in the order runs -> {agents, envs} -> affect."""
    violations = []
    for name, tree in sources(root):
        package = name.split("/")[0]
        for target in sorted({target for _, target in bindings(name, tree)}):
            target_package = target.split(".")[0]
            if target_package == "tests" or (
                target_package in PACKAGES and target_package not in MAY_IMPORT[package] | {package}
            ):
                violations.append(f"{name}: {package} must not import {target_package} ({target})")
    return violations


def runs_order(root: Path) -> list[str]:
    """Modules of runs import only from lower levels of LEVELS, or within their own folder.

    Imports inside functions count. What stands on one level does not import its neighbours, but
    for studies, which may build on each other without a circle.
    """
    violations = []
    graph: dict[str, set[str]] = {}
    for name, tree in sources(root, "runs"):
        part = runs_part(name[: -len(".py")].replace("/", "."))
        for target in sorted({target for _, target in bindings(name, tree)}):
            other = runs_part(target)
            if other is None or part is None or other == part:
                continue
            level, other_level = (LEVELS.get(key, TOP_LEVEL) for key in (part, other))
            graph.setdefault(part, set()).add(other)
            if other_level > level or (other_level == level and level not in OPEN_LEVELS):
                violations.append(f"{name}: {part} must not import {other} ({target})")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        violations.append(f"runs: imports form a circle: {' -> '.join(error.args[1])}")
    return violations


def runs_part(module: str) -> str | None:
    """Folder or module of runs that a dotted name belongs to; None outside, or for runs itself."""
    package, _, rest = module.partition(".")
    part = rest.partition(".")[0]
    exists = (ROOT / "runs" / part).is_dir() or (ROOT / "runs" / f"{part}.py").is_file()
    return part if package == "runs" and part and not part.startswith("_") and exists else None


def core_dependencies(root: Path) -> list[str]:
    """The library `affect` imports only its five dependencies and the standard library.

    Its bridges may import the libraries of BRIDGED, and are not imported by what needs none.
    """
    violations = []
    for name, tree in sources(root, "affect"):
        places = [place for place in BRIDGED if name.startswith(place)]
        allowed = CORE | {"affect"}.union(*(BRIDGED[place] for place in places))
        for target in sorted({target for _, target in bindings(name, tree)}):
            if target.split(".")[0] not in allowed:
                violations.append(f"{name}: affect must not import {target}")
            elif not name.startswith("affect/bridges/") and is_bridge(target):
                violations.append(f"{name}: {target} needs another library than the core has")
    return violations


def is_bridge(target: str) -> bool:
    """Whether a dotted name belongs to a bridge that imports another library as it is imported."""
    modules = [place.removesuffix(".py").replace("/", ".") for place in BRIDGED]
    late = "affect.bridges.spaces"  # imports its library in functions alone
    return any(f"{target}.".startswith(f"{module}.") for module in modules if module != late)


def vague_names(root: Path) -> list[str]:
    """No module is called utils or common, no class Base* or *Manager, no variable `found`."""
    violations = []
    for name, tree in sources(root):
        for part in Path(name).with_suffix("").parts:
            if VAGUE_MODULE.fullmatch(part):
                violations.append(f"{name}: the module name {part} does not say what it holds")
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and VAGUE_CLASS.fullmatch(node.name):
                violations.append(f"{name}: the class name {node.name} does not say what it is")
            for identifier in VAGUE_VARIABLES.intersection(identifiers(node)):
                violations.append(
                    f"{name}:{node.lineno}: `{identifier}` does not say what it holds"
                )
    return violations


def import_circles(root: Path) -> list[str]:
    """Imports between modules, those inside functions included, form no circle."""
    trees = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): (name, tree)
        for name, tree in sources(root)
    }
    graph = {}
    for module, (name, tree) in trees.items():
        targets = {target for _, target in bindings(name, tree)}
        parents = {target.rpartition(".")[0] for target in targets - trees.keys()}
        graph[module] = (targets | parents) & trees.keys() - {module}
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        return [f"{trees[error.args[1][0]][0]}: imports run in a circle, {circle}"]
    return []


def gradient_calls(root: Path) -> list[str]:
    """Gradients are computed only in affect/learn.py."""
    return [
        f"{name}: {target} belongs in affect/learn.py"
        for name, tree in sources(root)
        for target in sorted(GRADIENTS.intersection(uses(name, tree)))
        if name != "affect/learn.py"
    ]


def plain_pytrees(root: Path) -> list[str]:
    """Modules are used as plain pytrees with the transforms of JAX, never those of NNX."""
    return [
        f"{name}: {target}; use the transform of JAX, modules are plain pytrees"
        for name, tree in sources(root)
        for target in sorted(NNX_TRANSFORMS.intersection(uses(name, tree)))
    ]


def named_streams(root: Path) -> list[str]:
    """Streams of random numbers in runs have names (`runs.engine.seeds.Stream`), no offsets."""
    violations = []
    for name, tree in sources(root, "runs"):
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if not called.endswith(("random.key", "random.fold_in")):
                continue
            value = node.args[-1]
            is_number = called.endswith("fold_in") and isinstance(value, ast.Constant)
            if is_number or isinstance(value, ast.BinOp):
                violations.append(f"{name}:{node.lineno}: {ast.unparse(node)} is no named stream")
    return violations


def nesting(root: Path) -> list[str]:
    """Functions are nested at most two deep."""
    return [
        f"{name}:{node.lineno}: {node.name} is {depth} functions deep"
        for name, tree in sources(root)
        for node, depth in functions(tree)
        if depth > 2
    ]


def file_length(root: Path) -> list[str]:
    """A file of affect, envs or agents has at most 300 lines."""
    violations = []
    for name, _ in sources(root, "affect", "envs", "agents"):
        lines = len((root / name).read_text().splitlines())
        if lines > 300:
            violations.append(f"{name}: {lines} lines, more than 300")
    return violations


def missing_init_files(root: Path) -> list[str]:
    """Every folder that holds modules is a package."""
    folders = {(root / name).parent for name, _ in sources(root)}
    return [
        f"{folder.relative_to(root)}: no __init__.py"
        for folder in sorted(folders)
        if not (folder / "__init__.py").exists()
    ]


def sealed_shifts(root: Path) -> list[str]:
    """Sealed shifts are imported, and loaded, in one place each."""
    violations = []
    for name, tree in sources(root):
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        names = {text for text in texts if isinstance(text, str)} | set(uses(name, tree))
        for target in sorted(filter(SEALED_MODULE.fullmatch, names)):
            if name not in SEALED_IMPORTERS:
                violations.append(f"{name}: {target} is sealed; nothing is developed on it")
        for target in sorted(SEALED_ENTRIES & names):
            if name != SEALED_CALLER:
                violations.append(f"{name}: {target} is for {SEALED_CALLER} alone")
    return violations


RULES = (
    import_order,
    import_circles,
    runs_order,
    core_dependencies,
    vague_names,
    gradient_calls,
    plain_pytrees,
    named_streams,
    nesting,
    file_length,
    missing_init_files,
    sealed_shifts,
)
DEEP = "def a():\n  def b():\n    class C:\n      def c(self): pass\n"
VIOLATIONS = [  # rule, file, source, a word of the complaint
    (import_order, "affect/hope.py", "import envs.world", "envs.world"),
    (import_order, "affect/hope.py", "def f():\n    from agents import ppo", "agents.ppo"),
    (import_order, "affect/hope.py", "from ..runs import compare", "runs.compare"),
    (import_order, "affect/hope.py", "import importlib\nimportlib.import_module('envs')", "envs"),
    (import_order, "envs/cartpole.py", "from agents.ppo import PPO", "agents.ppo.PPO"),
    (import_order, "agents/ppo.py", "import envs", "envs"),
    (import_order, "agents/ppo.py", "from runs.engine.train import train", "runs.engine"),
    (
        import_order,
        "envs/deep/maze.py",
        "from ...runs.analysis import stats",
        "runs.analysis.stats",
    ),
    (import_order, "runs/compare.py", "from tests.affect import cases", "tests"),
    (runs_order, "runs/engine/train.py", "from runs.report import html", "import report"),
    (runs_order, "runs/report/html.py", "def f():\n  import runs.cli.study", "import cli"),
    (runs_order, "runs/lock.py", "from runs import compare", "import compare"),
    (runs_order, "runs/credit.py", "from runs import validity", "form a circle"),
    (core_dependencies, "affect/hope.py", "import scipy.stats", "scipy"),
    (core_dependencies, "affect/hope.py", "from gymnasium import spaces", "gymnasium.spaces"),
    (core_dependencies, "affect/bridges/offline.py", "import gymnasium", "gymnasium"),
    (core_dependencies, "affect/hope.py", "import affect.bridges.gymnasium", "another library"),
    (vague_names, "envs/utils.py", "", "utils"),
    (vague_names, "runs/engine/common/files.py", "", "common"),
    (vague_names, "agents/ppo.py", "class BaseAgent: pass", "BaseAgent"),
    (vague_names, "agents/ppo.py", "class RunManager: pass", "RunManager"),
    (vague_names, "agents/ppo.py", "def f(x):\n  found = x", "found"),
    (vague_names, "agents/ppo.py", "def f(told): pass", "told"),
    (import_circles, "affect/hope.py", "def f():\n    import affect", "affect -> affect.hope"),
    (import_circles, "affect/hope.py", "from affect import learn, Hope", "in a circle"),
    (import_circles, "runs/engine/train.py", "def f():\n  from .. import engine", "in a circle"),
    (gradient_calls, "agents/ppo.py", "import jax\nstep = jax.grad(loss)", "jax.grad"),
    (gradient_calls, "agents/ppo.py", "import jax as j\nj.value_and_grad", "jax.value_and_grad"),
    (gradient_calls, "runs/compare.py", "from jax import grad as slope", "jax.grad"),
    (gradient_calls, "envs/cartpole.py", "import jax.numpy\njax.vjp(f, 0.0)", "jax.vjp"),
    (plain_pytrees, "affect/learn.py", "from flax import nnx\nnnx.value_and_grad", "nnx.value"),
    (plain_pytrees, "agents/ppo.py", "import flax\nflax.nnx.Optimizer(m, t)", "nnx.Optimizer"),
    (named_streams, "runs/compare.py", "jax.random.key(base + 1)", "base + 1"),
    (named_streams, "runs/compare.py", "jax.random.fold_in(key, 7)", "key, 7"),
    (nesting, "agents/ppo.py", DEEP, "agents/ppo.py:4: c is 3"),
    (nesting, "agents/ppo.py", DEEP.replace("def c", "async def c"), "3 functions"),
    (file_length, "envs/cartpole.py", "x = 1\n" * 301, "301 lines"),
    (missing_init_files, "envs/deep/maze.py", "", "envs/deep"),
    (sealed_shifts, "runs/compare.py", "import envs.worlds.drive.sealed", "nothing is developed"),
    (sealed_shifts, "envs/worlds/drive/shifts.py", "from .sealed import WORST", "sealed.WORST"),
    (sealed_shifts, "agents/ppo.py", "g('envs.worlds.drive.sealed:suite')", "sealed:suite"),
    (sealed_shifts, "runs/sweep.py", "import envs\nenvs.load_sealed_suite('Drive', d)", "alone"),
    (sealed_shifts, "runs/sweep.py", "from envs import SEALED as S", "envs.SEALED"),
]
VALID_TREE = {
    "affect/__init__.py": "from .learn import step\nfrom affect.hope import Hope",
    "affect/hope.py": "import math\nimport jax.numpy as jnp\nfrom flax import nnx\nnnx.Param",
    "affect/bridges/__init__.py": "",
    "affect/bridges/gymnasium.py": "import gymnasium\nfrom affect.hope import Hope",
    "affect/bridges/offline.py": "",
    "affect/learn.py": "import jax\nimport optax\nstep = jax.value_and_grad(loss, has_aux=True)",
    "agents/__init__.py": "",
    "agents/ppo.py": "import numpy\nfrom affect.learn import step\ndef f():\n  def g(): h.grad",
    "envs/__init__.py": "import gymnasium\nSEALED = {'Drive': 'envs.worlds.drive.sealed:suite'}",
    "envs/cartpole.py": "class Baseline: pass\n" + "x = 1\n" * 299,
    "runs/__init__.py": "",
    "runs/compare.py": "import agents.ppo, envs, affect\nfrom . import engine\n" + "x = 1\n" * 400,
    "runs/engine/__init__.py": "from ..engine import train",
    "runs/calibrate_sealed.py": "from envs.worlds.drive.sealed import sealed_suite",
    "runs/inheritance/__init__.py": "",
    "runs/inheritance/homes.py": "from envs import load_sealed_suite as load",
    "runs/validity.py": "from runs import credit, experiment\nimport runs.report.page",
}


def write_files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_checkout_breaks_no_rule(rule):
    assert not (violations := rule(ROOT)), "\n".join([rule.__doc__, *violations])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rules_accept_a_valid_tree(rule, tmp_path):
    assert rule(write_files(tmp_path, VALID_TREE)) == []


@pytest.mark.parametrize(("rule", "name", "text", "word"), VIOLATIONS)
def test_violation_is_found_and_named(rule, name, text, word, tmp_path):
    violations = rule(write_files(tmp_path, {**VALID_TREE, name: text}))
    assert len(violations) == 1
    assert name.rpartition("/")[0] in violations[0]
    assert word in violations[0]


def test_every_rule_is_tested_with_a_violation():
    assert {rule for rule, *_ in VIOLATIONS} == set(RULES)


# --- fast `--help` ----------------------------------------------------------------------------

HELP = """
import contextlib, importlib, io, json, os, resource, runpy, sys, traceback
sys.path.insert(0, "")
with contextlib.suppress(ModuleNotFoundError):
    importlib.import_module("runs.cli.settings"), importlib.import_module("tyro")
for script in sys.argv[1:]:
    if os.fork():
        os.wait()
        continue
    sys.argv, error, text = [script, "--help"], "", io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            runpy.run_module(script, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        error = f"exit code {stop.code}" if stop.code else ""
    except BaseException:
        error = traceback.format_exc()
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds, usage = used.ru_utime + used.ru_stime, "usage" in text.getvalue().lower()
    print(json.dumps([script, error, usage, "jax" in sys.modules, seconds]), flush=True)
    os._exit(0)
"""
HELP_SECONDS = 1.5  # of processor time; usually about .3


def scripts(root: Path) -> list[str]:
    """Dotted names of the modules directly under runs/ that can be run with `python -m`."""
    trees = {x.stem: syntax_tree(x.read_text()) for x in sorted((root / "runs").glob("*.py"))}
    return [
        f"runs.{name}"
        for name, tree in trees.items()
        if any(isinstance(n, ast.If) and "__main__" in ast.unparse(n.test) for n in tree.body)
    ]


@functools.cache
def help_errors(root: Path, limit: float) -> dict[str, str]:
    """Run every script with --help, in forks of one process -> error by script, empty if fine.

    The process has imported what all commands share, so `limit` bounds what a script adds to that.
    """
    command = [sys.executable, "-c", HELP, *scripts(root)]
    options = {"capture_output": True, "text": True, "timeout": 240, "stdin": subprocess.DEVNULL}
    done = subprocess.run(command, cwd=root, **options)
    errors = dict.fromkeys(scripts(root), f"no answer: {done.stderr.strip()[-2000:]}")
    for script, error, usage, imports_jax, seconds in map(json.loads, done.stdout.splitlines()):
        complaints = {
            f"{script} --help fails: {error}": bool(error),
            f"{script} --help prints no usage": not usage,
            f"{script} --help imports jax": imports_jax,
            f"{script} --help takes {seconds} s of processor time": seconds > limit,
        }
        errors[script] = next((text for text, holds in complaints.items() if holds), "")
    return errors


@pytest.mark.parametrize("script", scripts(ROOT))
def test_help_is_fast(script):
    assert help_errors(ROOT, HELP_SECONDS)[script] == ""


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("print('usage: it')", ""),
        ("import argparse; argparse.ArgumentParser().parse_args()", ""),
        ("import jax; print('usage: it')", "imports jax"),
        ("pass", "no usage"),
        ("raise SystemExit(2)", "fails"),
        ("raise ValueError('a bug')", "a bug"),
        (
            "import time\n    while time.process_time() < 1.5: pass\n    print('usage')",
            "processor time",
        ),
    ],
)
def test_bad_help_is_detected(body, complaint, tmp_path):
    study = f"if __name__ == '__main__':\n    {body}\n"
    write_files(tmp_path, {"jax.py": "", "runs/__init__.py": "", "runs/study.py": study})
    assert scripts(tmp_path) == ["runs.study"]
    error = help_errors(tmp_path, limit=1.0)["runs.study"]
    assert complaint in error
    assert bool(complaint) == bool(error)
