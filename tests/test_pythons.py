"""The library under the oldest and the newest dependencies, and under every supported Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OLDEST = ("jax==0.8.1", "flax==0.12.6", "optax==0.2.6", "safetensors==0.5.0")
TESTING = ("pytest", "pytest-xdist", "hypothesis", "cloudpickle")
UPDATE = """
import jax, jax.numpy as jnp
from affect import Blend, Curiosity, Fear, Mood, Potential, Spec, Transition
blend = Blend(fear=(0.5, Potential(Fear)), mood=(0.1, Mood), novelty=(0.1, Curiosity))
spec = Spec(obs_dim=3, num_actions=2, discount=0.99)
state = blend.init(jax.random.key(0), spec, num_envs=2)
obs, false = jnp.ones((9, 2, 3)), jnp.zeros((8, 2), bool)
batch = Transition(obs[:-1], jnp.zeros((8, 2), int), obs[1:], jnp.ones((8, 2)), false, false, false)
signals, *_ = jax.jit(blend.update)(state, batch)
assert signals.shape == (8, 2, 3) and bool(jnp.isfinite(signals).all())
"""


def interpreter(version: str) -> str:
    """Path of a Python of this version; the test is skipped where there is none."""
    if version == "{}.{}".format(*sys.version_info):
        return sys.executable
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [*root.glob(f"versions/{version}.*/bin/python{version}")]
    path = found[0] if found else shutil.which(f"python{version}")
    return str(path) if path else pytest.skip(f"no python{version} on this machine")


def run(*command, cwd: Path) -> str:
    """Run a command without this environment's packages -> stdout and stderr."""
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def environment(version: str, folder: Path, *requirements) -> Path:
    """Virtual environment with these requirements -> its Python; skipped if they do not install."""
    python = folder / "venv" / "bin" / "python"
    run(interpreter(version), "-m", "venv", folder / "venv", cwd=folder)
    install = [python, "-m", "pip", "install", "--quiet", *map(str, requirements)]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=1800)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr[-4000:]
    return python


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "packages"), [("3.11", OLDEST), ("3.11", ()), ("3.12", ()), ("3.13", ())]
)
def test_library_passes_its_tests_with(version, packages, tmp_path):
    python = environment(version, tmp_path, ROOT, *packages, *TESTING)
    for name in ("pyproject.toml", "tests/conftest.py", "tests/tiers.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "tests" / "affect", tmp_path / "tests" / "affect")
    run(python, "-W", "error", "-c", UPDATE, cwd=tmp_path)
    printed = run(python, "-m", "pytest", "-q", "-n", "2", "tests/affect", cwd=tmp_path)
    print(run(python, "-m", "pip", "list", cwd=tmp_path))
    assert " passed" in printed and " failed" not in printed


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_main_job_runs_with_the_laboratory_of(version, tmp_path):
    python = environment(version, tmp_path, f"{ROOT}[lab]")
    command = ("-m", "runs.compare", "--smoke", "--env", "CartPole", "--out", tmp_path / "out")
    assert "fear" in run(python, *command, cwd=ROOT)
