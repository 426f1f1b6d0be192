"""The scripts of examples/, run as by a user: from any folder, with the package installed."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PRINTS = {
    "gymnasium_id": ("none", "In CartPole-v1, fear "),
    "own_head_and_agent": ("middle", "extrapolation"),
    "own_world": ("Contrast(arm='hope', reference='none', estimate=Estimate(value=", ""),
}


def test_every_example_is_run_and_has_at_most_30_lines():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PRINTS)
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 30, path.name


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTS)
def test_example_runs_in_an_empty_folder_and_leaves_it_empty(name, tmp_path):
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        env=environ | {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert ended.returncode == 0, ended.stderr
    assert all(text in ended.stdout for text in PRINTS[name])
    assert "Traceback" not in ended.stderr and not list(tmp_path.iterdir())
