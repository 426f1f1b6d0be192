"""Sweeps with real training: bits of shared programs, blocks and processes; the command."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from affect import Blend, ConstantPotential, Hope, Potential
from agents import A2C, PPO
from envs import load_suite
from envs.shift import ramp
from runs import compare
from runs.engine.arms import CONSTANT_POTENTIALS
from runs.engine.jax_backend import JaxBackend
from runs.errors import UserError
from runs.experiment import Experiment
from runs.prereg.seal import SCORES as SCORE_FILES
from runs.scale import sweep
from runs.scale.cell import RESULT, Cell, read_cell
from runs.scale.division import divide
from runs.scale.grid import point_digest
from runs.scale.points_backend import AT_ONCE
from runs.scale.space import Space
from runs.scale.table import read_results
from runs.scale.worker import points_backend, run_cell
from runs.sweep import main
from tests.runs import small_study
from tests.runs.small_study import bits, without_key_check_in_threads
from tests.runs.stub_cells import cell_processes, skip_if_missing, write_result

no_key_check = pytest.fixture(scope="module", autouse=True)(without_key_check_in_threads)
ROOT = Path(__file__).parents[2]
SUITE = replace(small_study.suite(), severities=(1.0,))
ARMS = {"none": Blend(), "hope": Blend(epochs=2, hope=(1.0, Potential(Hope, shift=1.0)))}
AGENT = PPO(width=8, epochs=1, minibatches=2)
SIZES = {"steps": 96, "num_envs": 2, "num_steps": 8, "episodes": 2, "optimise": False}
SCORES = ["arm", "seed", "shift", "severity", "return", "length", "success", "score"]
PLAIN = 2 * AT_ONCE  # seeds, of which a plain command computes AT_ONCE on each of two devices
DATA = [{"weight": 0.3}, {"heads.hope.scale": 2.0, "heads.hope.shift": -0.7}, {}]


def trained(backend: JaxBackend, phase, rows: slice) -> dict[str, bytes]:
    """Final bits of some rows after all chunks of a phase."""
    state = backend.init(phase)
    for chunk in range(phase.chunks):
        state, _, _ = backend.train(state, phase, chunk * phase.updates, lambda: False)
    return bits(jax.tree.map(lambda leaf: leaf[rows], state))


def largest_gap(a: dict[str, bytes], b: dict[str, bytes]) -> float:
    """Largest difference of float32 leaves that are finite."""
    gaps = [0.0]
    for name in a:
        if "net" in name and len(a[name]) % 4 == 0:
            x, y = np.frombuffer(a[name], np.float32), np.frombuffer(b[name], np.float32)
            gaps.append(float(np.abs(x - y).max(initial=0.0)))
    return max(gaps)


def cell_of(space: Space, points, **options) -> tuple[Cell, list, list]:
    cells, _ = divide(space, points, together=32, **options)
    (cell,) = (c for c in cells if c.arm == "hope" and len(c.points) == len(points))
    experiments = [space.at(point) for point in cell.points]
    return cell, experiments, [experiment.phases["hope"] for experiment in experiments]


@pytest.mark.slow
def test_points_that_share_a_program_have_the_bits_of_their_own_programs():
    space = Space(Experiment(SUITE, ARMS, AGENT, seeds=PLAIN, **SIZES))
    cell, experiments, phases = cell_of(space, DATA)
    backend = points_backend(experiments[0], phases, cell)
    assert not backend.numbers and backend.run_config.rows == 3 * PLAIN
    different = set()
    for i, (experiment, phase) in enumerate(zip(experiments, phases, strict=True)):
        shared = trained(backend, phases[0], slice(PLAIN * i, PLAIN * (i + 1)))
        assert shared == trained(experiment.make_backend(), phase, slice(0, PLAIN))
        different.add(tuple(shared.values()))
    assert len(different) == 3  # control: the points do differ
    names = [key[0].__name__ for key in backend._programs]
    parts = "_collect", "_update_heads", "_update_agent"
    assert [names.count(part) for part in parts] == [1, 1, 1]


def potential_rows(num_envs: int, alone: bool) -> dict[str, bytes]:
    """Final bits of two seeds of a constant potential, alone or in a cell of 14 rows.

    Its sums depend on the number of rows that a program computes at once.
    """
    arms = {"hope": Blend(potential=(1.0, ConstantPotential(-1.0)))}
    space = Space(Experiment(SUITE, arms, AGENT, seeds=7, **SIZES | {"num_envs": num_envs}))
    cell, experiments, phases = cell_of(space, [{"weight": 0.3}, {"weight": 3.0}])
    if alone:
        cell, phases = cell._replace(points=cell.points[1:], first=3, seeds=2), phases[1:]
    backend = points_backend(experiments[-1], phases, cell)
    return trained(backend, phases[0], slice(0, 2) if alone else slice(10, 12))


ON_DEVICES = """
import sys, jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from tests.runs.test_scale_sweep import potential_rows
print(potential_rows(int(sys.argv[2]), alone=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [2, 40])  # 40: training fits 3 rows at once in the cache
def test_a_row_has_the_same_bits_in_a_cell_of_any_size_on_any_devices(num_envs):
    own = potential_rows(num_envs, alone=True)
    assert own == potential_rows(num_envs, alone=False)
    for devices in ("3", "4"):
        command = [sys.executable, "-c", ON_DEVICES, devices, str(num_envs)]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
        assert done.stdout.strip() == str(own), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("agent", [AGENT, A2C(width=8)], ids=["PPO", "A2C"])
def test_numbers_of_agents_share_a_program_to_within_rounding(agent):
    space = Space(Experiment(SUITE, ARMS, agent, seeds=4, **SIZES))
    names = [n for n in ("lr", "entropy", "critic", "max_norm", "lam", "clip") if hasattr(agent, n)]
    points = [{}, {"agent.lr": 0.01}, {"agent.lam": 0.5}]
    points += [{f"agent.{name}": 0.8 * getattr(agent, name)} for name in names]
    cell, experiments, phases = cell_of(space, points, agent_numbers=True)
    backend = points_backend(experiments[0], phases, cell)
    assert set(backend.numbers) == set(names)
    base = trained(backend, phases[0], slice(0, 4))
    for i in (1, 2):  # each compiles a program of its own
        shared = trained(backend, phases[0], slice(4 * i, 4 * i + 4))
        own = trained(experiments[i].make_backend(), phases[i], slice(0, 4))
        assert largest_gap(shared, own) < 2e-5
        assert largest_gap(shared, base) > 50 * largest_gap(shared, own)  # the number is used


@pytest.mark.slow
def test_a_sweep_in_python_equals_plain_experiments_and_resumes(tmp_path):
    experiment = Experiment(SUITE, ARMS, AGENT, seeds=PLAIN, **SIZES)
    grid = {"weight": [0.5, 2], "heads.hope.horizon": [5, 20]}
    result = sweep(experiment, grid, out=tmp_path)
    arms = result.table.groupby("point")["arm"].unique()
    assert list(map(sorted, arms)) == [["hope", "none"]] * 4
    assert len(result.folders) == 3  # none; hope at two horizons, each with both weights
    (scores,) = read_results(result.folders, None)
    for point in (result.points[0], result.points[3]):
        plain = result.space.at(point).run().scores
        for arm in ARMS:
            source = result.sources[point_digest(point), arm]
            mine = scores[scores["variant"] == source]
            assert_same_scores(mine[mine["arm"] == arm], plain[plain["arm"] == arm])
    files = list(tmp_path.rglob("done.json"))
    times = [path.stat().st_mtime_ns for path in files]
    again = sweep(experiment, {"weight": [2, 0.5], "heads.hope.horizon": [20]}, out=tmp_path)
    assert again.best().looks == 2 and len(again.folders) == 2  # the arm without heads is kept
    assert [path.stat().st_mtime_ns for path in files] == times
    assert len(list(tmp_path.rglob("done.json"))) == 4
    pd.testing.assert_frame_equal(
        sweep(experiment, grid, out=tmp_path).table, result.table, check_exact=True
    )
    assert len(list(tmp_path.rglob("done.json"))) == 4


@pytest.mark.slow
def test_seeds_of_a_host_environment_are_computed_together_by_one_device(tmp_path):
    flips = ramp("flip", "actuator", "channel.flip", to=1.0)
    suite = replace(load_suite("CartPole-v1", [flips], workers=0), severities=(1.0,))
    experiment = Experiment(suite, ARMS, AGENT, seeds=3, **SIZES | {"steps": 16})
    assert experiment.run_config.rows == 4  # on two devices
    result = sweep(experiment, {"weight": [0.5]}, out=tmp_path)
    assert len(result.table) == 2 * 3
    cell = result.cells[0]
    with contextlib.closing(points_backend(experiment, [], cell)) as backend:
        state = backend.init(experiment.phases["none"])
    assert backend.run_config.rows == backend.block == 3
    leaves = [leaf for leaf in jax.tree.leaves(state.learner) if isinstance(leaf, jax.Array)]
    assert {len(leaf.devices()) for leaf in leaves} == {1}


def assert_same_scores(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Assert that two tables hold the same scores to the last bit."""
    tables = [t[SCORES].reset_index(drop=True) for t in (first, second)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


# --- the command ------------------------------------------------------------------------------

PENDULUM = ("compare", "--env", "Pendulum", "--heads", "hope", "--shifts", "mass")
SMOKE = ("compare", "--smoke", *PENDULUM[1:])
# Compiled with optimisation; the plain command computes AT_ONCE seeds on each of two devices.
SEEDS = 7
SMALL = ("compare", "--seeds", str(SEEDS), "--steps", "1", "--episodes", "4", *PENDULUM[1:])
WITHOUT = ("--without", *("random", "constant_plus", "constant_minus", "hope_sham"))
WITHOUT += ("hope_untrained", "hope_constant", "lesion")
WITHOUT += tuple(name for name in CONSTANT_POTENTIALS if name != "potential_-1")
GRID = ("--grid", "weight=1,3", "--contrast", "hope", "none")
FLAGS = (*SMALL, *WITHOUT, *GRID, "--block", "5", "--together", "2")


def command(out: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "runs.sweep", *FLAGS, "--out", str(out), *flags]


def environment() -> dict[str, str]:
    return os.environ | {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}


def cell_results(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob("cells/*/result.csv")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a sweep that was not interrupted, and what it printed."""
    out = tmp_path_factory.mktemp("sweep")
    done = subprocess.run(command(out), cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.mark.slow
def test_scores_are_those_of_the_plain_command(finished, tmp_path):
    out, printed = finished
    assert "Best of 2: weight = " in printed
    assert len(pd.read_csv(out / "sweep.csv")) == 2 * 3 * SEEDS
    assert compare.main([*SMALL[1:], *WITHOUT, "--out", str(tmp_path)]) == 0
    plain = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False, na_values=["nan", ""])
    variants, tables = set(), []
    for folder in sorted((out / "cells").iterdir()):
        cell, *_ = read_cell(folder)
        variants.add(cell.variants[cell.points.index({"weight": 1.0})])
        tables.append(pd.read_csv(folder / RESULT, keep_default_na=False, na_values=["nan"]))
    rows = pd.concat(tables)
    rows = rows[rows["variant"].isin(variants)]
    order = ["arm", "severity", "seed"]
    assert_same_scores(rows.sort_values(order), plain.sort_values(order))
    for _, arm in rows.groupby("arm"):
        assert arm["return"].nunique() == len(arm)  # sums of costs, which show the last bits


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "ray", "collect", "slurm"])
def test_executors_agree_to_the_last_bit_though_killed(executor, finished, tmp_path, monkeypatch):
    """The driver, or one of its workers, is killed SWEEP_KILLS times at random moments."""
    name = "ray" if executor == "collect" else executor
    skip_if_missing(name)
    flags = ["--executor", name, "--workers", "2"]
    flags += ["--collect"] if executor == "collect" else []
    flags += ["--options", "cluster=local", "timeout_min=30"] if name == "slurm" else []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng, out = random.Random(executor), tmp_path / "out"
    for i in range(int(os.environ.get("SWEEP_KILLS", "2"))):
        process = subprocess.Popen(command(out, *flags), cwd=ROOT, env=environment())
        deadline = time.monotonic() + rng.uniform(3, 40)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        if cells := cell_processes(tmp_path):
            os.kill(cells[0], signal.SIGKILL)
        if i % 2 == 0 or not cells:
            process.kill()
        process.wait()
    done = subprocess.run(command(out, *flags), cwd=ROOT, env=environment())
    assert done.returncode == 0
    assert cell_results(out) == cell_results(finished[0])
    first, second = (pd.read_csv(folder / "sweep.csv") for folder in (out, finished[0]))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


@pytest.mark.slow
def test_a_cell_of_other_settings_fails_for_good(finished, tmp_path):
    cells = [read_cell(folder) for folder in (finished[0] / "cells").iterdir()]
    cell, study, argv = next(row for row in cells if row[0].arm == "hope")  # one with the head
    other = tmp_path / cell.name
    other.mkdir()
    changed = cell._replace(points=({"heads.hope.horizon": 6.0},) * len(cell.points))
    (other / "cell.json").write_text(changed.text(study, argv))
    with pytest.raises(UserError, match="other settings, code or files"):
        main(["--cell", str(other)])
    assert "other settings" in (other / "failed").read_text()


@pytest.mark.slow
def test_the_command_tests_the_best_setting_on_sealed_shifts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    sealed, contrast = ("slip", "--sealed", "actuator"), ("--contrast", "hope", "none")
    argv = [*SMOKE, *sealed, *WITHOUT, "--grid", "weight=.3,3", *contrast, "--out", str(tmp_path)]
    with pytest.raises(UserError, match="is not done or was changed: run the sweep again"):
        main([*argv, "--claim", "1"])
    assert main(argv) == 0
    with pytest.raises(UserError, match="base 0: the setting was chosen with these seeds"):
        main([*argv, "--claim", "0"])
    assert main([*argv, "--claim", "1"]) == 0
    assert "sealed" in capsys.readouterr().out
    paths = [tmp_path / "claim-1" / name for name in SCORE_FILES.values()]
    shifts = [set(pd.read_csv(path, keep_default_na=False)["shift"]) for path in paths]
    assert shifts == [{"none", "mass"}, {"none", "slip"}]
    looked = [pd.read_csv(path, keep_default_na=False) for path in tmp_path.glob("cells/*/*.csv")]
    assert set(pd.concat(looked)["shift"]) == {"none", "mass"}  # no setting was chosen by these


def test_a_cell_that_is_done_is_not_run_again(tmp_path):
    write_result(tmp_path, "done")
    run_cell(tmp_path, Cell("x", "hope", (), (), 0, 4), None, None)  # else it needs experiments


MANY = ",".join(map(str, range(1, 1001)))
HOPE = ["compare", "--env", "CartPole", "--heads", "hope"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--env", "Drive", "--grid", "weight=1"], "name the study first"),
        (["compare", "--env", "CartPole"], "give either --grid or --list"),
        (["compar", "--grid", "weight=1"], "did you mean compare?"),
        ([*HOPE, "--grid", "weigth=1"], "did you mean weight?"),
        ([*HOPE, "--grid", "weight=heavy"], "weight must be float"),
        (["compare", "--env", "CartPole", "--grid", "weight="], "at least one value"),
        (["compare", "--env", "CartPole", "--grid", "weight"], "NAME=VALUE"),
        (["compare", "--env", "CartPole", "--grid", "weight=1", "--workers", "-1"], "--workers"),
        (["compare", "--env", "CartPole", "--grid", "weight=1", "--executor", "pbs"], "pbs"),
        ([*HOPE, "--grid", "weight=1", "--contrast", "hop"], "did you mean hope?"),
        ([*HOPE, "--grid", "weight=1:2", "--search", "optuna"], "--samples"),
        ([*HOPE, "--grid", f"weight={MANY}", f"agent.lr={MANY}", f"steps={MANY}"], "1,000,000,000"),
        (["compare", "--env", "CartPole", "--list", "no.csv"], "--list no.csv"),
        (["compare", "--env", "CartPole", "--sedes", "3", "--grid", "weight=1"], "sedes"),
        (["--cell", "no/such/folder"], "cell.json"),
        ([*HOPE, "--grid", "weight=1", "--claim", "1"], "begin the sweep with --sealed FAMILY"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_compiled(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    with pytest.raises(UserError) as error:
        main(argv)
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_study_that_is_more_than_one_experiment_is_swept_whole(tmp_path, capsys):
    argv = ["selection_bias", "--smoke", "--grid", "researchers=100,200", "--out", str(tmp_path)]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert text.count("The best of 20 variants that do nothing gains") == 2
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert table["researchers"].tolist() == [100, 200]
    assert all((Path(folder) / "selection_bias.md").exists() for folder in table["folder"])
    times = [path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/done.json")]
    assert main(argv) == 0  # nothing is missing
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/done.json")] == times
