"""The examples of affect/bridges/README.md, run: the first lines of a newcomer."""

import ast
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import affect
from tests.affect.bridges import stub_gymnax, stub_sb3

TEXT = Path(__file__).parents[3] / "affect" / "bridges" / "README.md"
NAMES = ("gymnasium", "stable_baselines3", "functional", "rejax", "offline")


def examples():
    """The examples by name, with fewer steps; none where the page is not shipped."""
    if not TEXT.exists():
        return {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT.read_text(), flags=re.DOTALL)
    return dict(zip(NAMES, blocks, strict=True))


def run(name, folder, monkeypatch):
    """Names that the examples define, the one of rejax after that of the loop."""
    monkeypatch.chdir(folder)
    names = {"__name__": "example"}
    for each in ("functional", "rejax") if name == "rejax" else (name,):
        text = examples()[each].replace("100_000", "512").replace("1000", "10")
        text = text.replace('"MlpPolicy", venv', '"MlpPolicy", venv, n_steps=64')  # by default 2048
        exec(compile(text, f"{TEXT}, {each}", "exec"), names)
    return names


def test_every_example_is_short_and_imports_what_there_is():
    for name, text in examples().items():
        assert len(list(filter(None, text.splitlines()))) <= 18, name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module == "affect":
                assert all(hasattr(affect, alias.name) for alias in node.names), name


@pytest.mark.slow
def test_gymnasium(tmp_path, monkeypatch, capsys):
    pytest.importorskip("gymnasium")
    names = run("gymnasium", tmp_path, monkeypatch)
    assert (tmp_path / "hope.safetensors").exists() and names["reward"].shape == (4,)
    assert capsys.readouterr().out.startswith("[")


@pytest.mark.slow
def test_stable_baselines3_on_the_stub(tmp_path, monkeypatch):
    gymnasium = pytest.importorskip("gymnasium")
    stub_sb3.install(monkeypatch)
    tools = ModuleType("stable_baselines3.common.env_util")
    tools.make_vec_env = lambda id, n_envs: stub_sb3.DummyVecEnv(
        [lambda: gymnasium.make(id)] * n_envs
    )
    monkeypatch.setitem(sys.modules, tools.__name__, tools)
    bridge = __import__("affect.bridges.stable_baselines3", fromlist=["value_of"])
    critic = type("Critic", (), {"save": lambda self, path: None})
    monkeypatch.setattr(bridge, "value_of", lambda model: critic())
    names = run("stable_baselines3", tmp_path, monkeypatch)
    assert (tmp_path / "feelings.safetensors").exists()
    assert set(names["model"].logger.values) >= {"affect/novelty", "affect/hope_share"}


@pytest.mark.slow
def test_a_loop_in_jax_on_the_stub(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnax", stub_gymnax)
    names = run("functional", tmp_path, monkeypatch)
    assert names["rewards"].shape == (100, 8) and (tmp_path / "novelty.safetensors").exists()


@pytest.mark.slow
def test_recorded_data(tmp_path, monkeypatch):
    run("offline", tmp_path, monkeypatch)
    assert (tmp_path / "fear.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stable_baselines3", "functional", "rejax"])
def test_with_the_library_itself(name, tmp_path, monkeypatch):
    pytest.importorskip({"functional": "gymnax"}.get(name, name))
    run(name, tmp_path, monkeypatch)
    assert [*tmp_path.iterdir()]
