"""The laws of the house: who may import whom, where gradients are taken, how long a file may be.

Each rule is a function from a checkout's root to a list of violations, one line each. Every rule is
run on this checkout, where it must find nothing, and on a small tree that breaks it, where it must.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("affect", "envs", "agents", "runs")
MAY_IMPORT = {  # ours only; everybody may import itself
    "affect": set(),
    "envs": {"affect"},
    "agents": {"affect"},
    "runs": {"affect", "envs", "agents"},
}
CORE = {"jax", "flax", "optax"} | set(sys.stdlib_module_names)
GRADIENTS = {f"jax.{name}" for name in ("grad", "value_and_grad", "vjp", "jacfwd", "jacrev")}
HOLLOW_MODULE = re.compile(r"utils?|common")
HOLLOW_CLASS = re.compile(r"_*Base([A-Z_]\w*)?|\w*Manager")
NNX_TRANSFORMS = {
    f"flax.nnx.{name}"
    for name in ("grad", "value_and_grad", "jit", "scan", "vmap", "pmap", "split", "merge")
} | {"flax.nnx.Optimizer"}


# --- reading a tree ---------------------------------------------------------------------------


def sources(root: Path, *packages: str) -> Iterator[tuple[str, ast.Module]]:
    """Yields (path relative to the root, syntax tree) of every module of the packages."""
    for package in packages or PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            yield path.relative_to(root).as_posix(), ast.parse(path.read_text(), str(path))


def bindings(name: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yields (name bound in the module, absolute dotted name it stands for) of every import."""
    here = name.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom):
            parents = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                yield alias.asname or alias.name, f"{module}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).split(".")[-1]
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
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


# --- the rules --------------------------------------------------------------------------------


def arrows(root: Path) -> list[str]:
    """Imports run runs -> {agents, envs} -> affect, and no other way."""
    found = []
    for name, tree in sources(root):
        package = name.split("/")[0]
        for target in sorted({target for _, target in bindings(name, tree)}):
            top = target.split(".")[0]
            if top == "tests" or (top in PACKAGES and top not in MAY_IMPORT[package] | {package}):
                found.append(f"{name}: {package} must not import {top} ({target})")
    return found


def core_dependencies(root: Path) -> list[str]:
    """The library imports jax, flax, optax and the standard library, and nothing else."""
    allowed = CORE | {"affect"}
    return [
        f"{name}: affect must not import {target}"
        for name, tree in sources(root, "affect")
        for target in sorted({target for _, target in bindings(name, tree)})
        if target.split(".")[0] not in allowed
    ]


def names(root: Path) -> list[str]:
    """No module is called utils or common, no class Base* or *Manager."""
    found = []
    for name, tree in sources(root):
        for part in Path(name).with_suffix("").parts:
            if HOLLOW_MODULE.fullmatch(part):
                found.append(f"{name}: a module called {part} has no idea of its own")
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and HOLLOW_CLASS.fullmatch(node.name):
                found.append(f"{name}: class {node.name} names a role, not a thing")
    return found


def one_gradient(root: Path) -> list[str]:
    """Gradients are taken in affect/learn.py alone."""
    return [
        f"{name}: {target} belongs in affect/learn.py"
        for name, tree in sources(root)
        for target in sorted(GRADIENTS.intersection(uses(name, tree)))
        if name != "affect/learn.py"
    ]


def plain_pytrees(root: Path) -> list[str]:
    """Modules are plain pytrees under jax's own transforms, never under NNX's."""
    return [
        f"{name}: {target}, where jax's own transforms serve modules as plain pytrees"
        for name, tree in sources(root)
        for target in sorted(NNX_TRANSFORMS.intersection(uses(name, tree)))
    ]


def nesting(root: Path) -> list[str]:
    """A function may hold a function, and that one none."""
    return [
        f"{name}:{node.lineno}: {node.name} is {depth} functions deep"
        for name, tree in sources(root)
        for node, depth in functions(tree)
        if depth > 2
    ]


def length(root: Path) -> list[str]:
    """A file of affect, envs or agents has at most 300 lines."""
    found = []
    for name, _ in sources(root, "affect", "envs", "agents"):
        lines = len((root / name).read_text().splitlines())
        if lines > 300:
            found.append(f"{name}: {lines} lines, and one idea needs at most 300")
    return found


def packages(root: Path) -> list[str]:
    """Every folder that holds modules is a package."""
    folders = {(root / name).parent for name, _ in sources(root)}
    return [
        f"{folder.relative_to(root)}: no __init__.py"
        for folder in sorted(folders)
        if not (folder / "__init__.py").exists()
    ]


RULES = (arrows, core_dependencies, names, one_gradient, plain_pytrees, nesting, length, packages)
DEEP = "def a():\n  def b():\n    class C:\n      def c(self): pass\n"
VIOLATIONS = [  # rule, file, source, a word of the complaint
    (arrows, "affect/hope.py", "import envs.world", "envs.world"),
    (arrows, "affect/hope.py", "def f():\n    from agents import ppo", "agents.ppo"),
    (arrows, "affect/hope.py", "from ..runs import compare", "runs.compare"),
    (arrows, "affect/hope.py", "import importlib\nimportlib.import_module('envs')", "envs"),
    (arrows, "envs/cartpole.py", "from agents.ppo import PPO", "agents.ppo.PPO"),
    (arrows, "agents/ppo.py", "import envs", "envs"),
    (arrows, "agents/ppo.py", "from runs.engine.train import train", "runs.engine"),
    (arrows, "envs/deep/maze.py", "from ...runs.analysis import stats", "runs.analysis.stats"),
    (arrows, "runs/compare.py", "from tests.affect import cases", "tests"),
    (core_dependencies, "affect/hope.py", "import numpy as np", "numpy"),
    (core_dependencies, "affect/hope.py", "from gymnasium import spaces", "gymnasium.spaces"),
    (names, "envs/utils.py", "", "utils"),
    (names, "runs/engine/common/files.py", "", "common"),
    (names, "agents/ppo.py", "class BaseAgent: pass", "BaseAgent"),
    (names, "agents/ppo.py", "class RunManager: pass", "RunManager"),
    (one_gradient, "agents/ppo.py", "import jax\nstep = jax.grad(loss)", "jax.grad"),
    (one_gradient, "agents/ppo.py", "import jax as j\nj.value_and_grad", "jax.value_and_grad"),
    (one_gradient, "runs/compare.py", "from jax import grad as slope", "jax.grad"),
    (
        one_gradient,
        "envs/cartpole.py",
        "import jax.numpy\njax.vjp(f, 0.0)",
        "jax.vjp",
    ),
    (plain_pytrees, "affect/learn.py", "from flax import nnx\nnnx.value_and_grad", "nnx.value"),
    (plain_pytrees, "agents/ppo.py", "import flax\nflax.nnx.Optimizer(m, t)", "nnx.Optimizer"),
    (nesting, "agents/ppo.py", DEEP, "agents/ppo.py:4: c is 3"),
    (nesting, "agents/ppo.py", DEEP.replace("def c", "async def c"), "3 functions"),
    (length, "envs/cartpole.py", "x = 1\n" * 301, "301 lines"),
    (packages, "envs/deep/maze.py", "", "envs/deep"),
]
LAWFUL = {
    "affect/__init__.py": "from .learn import step\nfrom affect.hope import Hope",
    "affect/hope.py": "import math\nimport jax.numpy as jnp\nfrom flax import nnx\nnnx.Param",
    "affect/learn.py": "import jax\nimport optax\nstep = jax.value_and_grad(loss, has_aux=True)",
    "agents/__init__.py": "",
    "agents/ppo.py": "import numpy\nfrom affect.learn import step\ndef f():\n  def g(): h.grad",
    "envs/__init__.py": "import gymnasium",
    "envs/cartpole.py": "class Baseline: pass\n" + "x = 1\n" * 299,
    "runs/__init__.py": "",
    "runs/compare.py": "import agents.ppo, envs, affect\nfrom . import engine\n" + "x = 1\n" * 400,
    "runs/engine/__init__.py": "from ..engine import train",
}


def grow(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_this_checkout_is_lawful(rule):
    assert not (found := rule(ROOT)), "\n".join([rule.__doc__, *found])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_lawful_code_is_left_alone(rule, tmp_path):
    assert rule(grow(tmp_path, LAWFUL)) == []


@pytest.mark.parametrize(("rule", "name", "text", "word"), VIOLATIONS)
def test_a_violation_is_found_and_named(rule, name, text, word, tmp_path):
    found = rule(grow(tmp_path, {**LAWFUL, name: text}))
    assert len(found) == 1
    assert name.rpartition("/")[0] in found[0]
    assert word in found[0]


def test_every_rule_has_a_violation():
    assert {rule for rule, *_ in VIOLATIONS} == set(RULES)


# --- help is quick ----------------------------------------------------------------------------

HELP = """
import resource, runpy, sys
sys.path.insert(0, "")
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    code = 0
except SystemExit as stop:
    code = stop.code or 0
used = resource.getrusage(resource.RUSAGE_SELF)
print(code, "jax" in sys.modules, used.ru_utime + used.ru_stime, file=sys.stderr)
"""
BUSY = "import time\n    while time.process_time() < 1.5: pass\n    print('usage: it')"
HELP_SECONDS = 3.0  # of processor time; about one is usual, the rest is for noisy machines


def scripts(root: Path) -> list[str]:
    """Dotted names of the modules directly under runs/ that can be run with `python -m`."""
    return [
        name.removesuffix(".py").replace("/", ".")
        for name, tree in sources(root, "runs")
        if name.count("/") == 1
        and any(isinstance(n, ast.If) and "__main__" in ast.unparse(n.test) for n in tree.body)
    ]


def help_complaint(root: Path, script: str, limit: float) -> str:
    """What is wrong with the script's --help: a line that says it, or the empty string."""
    command = [sys.executable, "-c", HELP, script]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    words = done.stderr.split()[-3:]
    if done.returncode or len(words) < 3 or words[0] != "0":
        return f"{script} --help fails: {done.stderr.strip()[-2000:]}"
    if "usage" not in done.stdout.lower():
        return f"{script} --help prints no usage"
    if words[1] == "True":
        return f"{script} --help imports jax"
    if float(words[2]) > limit:
        return f"{script} --help takes {words[2]} s of processor time"
    return ""


@pytest.mark.parametrize("script", scripts(ROOT))
def test_help_is_quick(script):
    assert help_complaint(ROOT, script, HELP_SECONDS) == ""


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
def test_bad_help_is_found(body, complaint, tmp_path):
    study = f"if __name__ == '__main__':\n    {body}\n"
    grow(tmp_path, {"jax.py": "", "runs/__init__.py": "", "runs/study.py": study})
    assert scripts(tmp_path) == ["runs.study"]
    found = help_complaint(tmp_path, "runs.study", limit=1.0)
    assert complaint in found
    assert bool(complaint) == bool(found)
