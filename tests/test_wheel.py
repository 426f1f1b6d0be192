"""The wheel contains only `affect`, which works without the other packages."""

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests import test_pythons

ROOT = Path(__file__).resolve().parents[1]
LABORATORY = ("envs", "agents", "runs")
LAB_ONLY = ("gymnasium", "matplotlib", "minigrid", "orbax", "pandas", "statsmodels", "tensorboard")

# Runs in a fresh interpreter, in another folder, with the installed wheel first on the path.
BLOCK_LAB_IMPORTS = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {LABORATORY + LAB_ONLY}:
            raise ModuleNotFoundError(f"{{name}} does not come with the wheel", name=name)

sys.meta_path.insert(0, Absent())
"""


def build(target: str, folder: Path) -> Path:
    """Build the wheel or the sdist of this checkout into the folder, without network access."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.iterdir()
    return built


def run_with_wheel(site: Path, folder: Path, code: str, timeout: float) -> str:
    """Run code with only the wheel and its dependencies importable -> stdout."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK_LAB_IMPORTS + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """Folder with the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(wheel)], check=True, timeout=120)
    return folder


def test_wheel_contains_only_the_library(wheel):
    shipped = set(zipfile.ZipFile(wheel).namelist())
    patterns = "*.py", "zoo/*.safetensors"
    files = (path for pattern in patterns for path in (ROOT / "affect").rglob(pattern))
    ours = {path.relative_to(ROOT).as_posix() for path in files}
    assert ours | {"affect/py.typed"} == {name for name in shipped if name.startswith("affect/")}
    info = {name.split("/")[0] for name in shipped} - {"affect"}
    assert len(info) == 1
    assert info.pop().endswith(".dist-info")
    assert any(name.endswith("/licenses/LICENSE") for name in shipped)


def test_wheel_requires_five_packages(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_string(archive.read(name).decode())
    needs = [need for need in metadata.get_all("Requires-Dist") if "extra ==" not in need]
    assert sorted(need.split(">")[0] for need in needs) == [
        "flax",
        "jax",
        "numpy",
        "optax",
        "safetensors",
    ]
    assert metadata["Name"] == "affect-heads"
    assert set(metadata.get_all("Provides-Extra")) == {
        "lab",
        "hosts",
        "envpool",
        "jaxenvs",
        "offline",
        "bench",
        "ray",
        "slurm",
        "optuna",
        "evolve",
        "docs",
        "dev",
    }


def test_sdist_contains_the_whole_project(tmp_path):
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = [ROOT / "constraints.txt", ROOT / ".ci" / "run"]
    for folder in ("affect", "tests", *LABORATORY):
        expected += (ROOT / folder).rglob("*.py")
    assert {path.relative_to(ROOT).as_posix() for path in expected} <= names
    assert not [name for name in names if name.startswith((".venv", ".git/", "runs/logs/"))]


def test_library_and_zoo_load_where_the_laboratory_cannot_be(site, tmp_path):
    code = f"""
for name in {LABORATORY + LAB_ONLY}:
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        assert "does not come with the wheel" in str(error)
    else:
        raise AssertionError(name)
from importlib.metadata import version
import affect
assert affect.__version__ == version("affect-heads")
print(affect.zoo.table())
for name in affect.zoo.names():
    affect.zoo.load(name)
print(affect.__file__)
"""
    *table, file = run_with_wheel(site, tmp_path, code, 120).splitlines()
    assert Path(file).is_relative_to(site)
    files = (ROOT / "affect" / "zoo").glob("*.safetensors")
    assert [line.split()[0] for line in table[1:]] == sorted(path.stem for path in files)
    assert len(table) > 12


@pytest.mark.slow
def test_recipes_of_the_readme_run_where_the_laboratory_cannot_be(site, tmp_path):
    readme = ROOT / "affect" / "README.md"
    code = f"""
import doctest, affect
text = open({str(readme)!r}).read()
saving = [name for name in ("**Save, load, inherit.**", "**Saving**", "zoo") if name not in text]
flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
failed, run = doctest.testfile({str(readme)!r}, module_relative=False, optionflags=flags)
assert (failed, saving) == (0, []) and run > 30, (failed, run, saving)
print(affect.__file__)
"""
    printed = run_with_wheel(site, tmp_path, code, 600)
    assert Path(printed.splitlines()[-1]).is_relative_to(site)


@pytest.mark.slow
def test_library_passes_its_tests_without_the_laboratory(site, tmp_path):
    shutil.copytree(ROOT / "tests" / "affect", tmp_path / "tests" / "affect")
    for name in ("pyproject.toml", "tests/conftest.py", "tests/tiers.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    arguments = ["tests/affect", "-q", "-p", "no:cacheprovider"]
    code = f"import pytest, affect; code = pytest.main({arguments}); print(affect.__file__)\n"
    printed = run_with_wheel(site, tmp_path, code + "sys.exit(code)", timeout=600)
    assert " passed" in printed
    assert Path(printed.split()[-1]).is_relative_to(site)


@pytest.mark.slow
def test_twine_accepts_the_wheel_and_the_sdist(wheel, tmp_path):
    sdist = build("sdist", tmp_path / "dist")
    version = "{}.{}".format(*sys.version_info)
    python = test_pythons.environment(version, tmp_path, "twine>=6")
    printed = test_pythons.run(
        python, "-m", "twine", "check", "--strict", wheel, sdist, cwd=tmp_path
    )
    assert printed.count("PASSED") == 2
