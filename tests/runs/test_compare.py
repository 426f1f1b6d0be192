"""The compare command: finished, interrupted and resumed runs, designs and error messages."""

import csv
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from envs import load_suite
from envs.host.pool import HostFailure
from runs.compare import Settings, design, identity, main, omitted_arms
from runs.engine import devices
from runs.engine.arm_runner import ArmRunner
from runs.engine.comparison import claim_folder
from runs.engine.host_backend import HostBackend
from runs.engine.jax_backend import JaxBackend
from runs.errors import UserError
from runs.lock import hold_lock
from runs.report.tables import HEADINGS

ROOT = Path(__file__).parents[2]
CONTROLS = ["none", "random", "constant_plus", "constant_minus"]
SMOKE_ARMS = [*CONTROLS, "fear", "fear_sham", "fear_untrained", "fear_constant", "lesion"]
SMOKE = "--smoke", "--env", "CartPole"
SHIFTS = [shift.name for shift in load_suite("CartPole").shifts]
STRANGE = "tests.envs.unusual_envs:Strange/"


# --- the real command -------------------------------------------------------------------------


def start(*argv) -> subprocess.Popen:
    """Start the command in a subprocess with the compilation cache of this test run."""
    return subprocess.Popen(
        [sys.executable, "-m", "runs.compare", *map(str, argv)],
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class CommandResult(NamedTuple):
    """Exit code and output of a command, and the seconds from the signal to its end."""

    code: int
    out: str
    err: str
    seconds: float = 0.0


def finish(*argv) -> CommandResult:
    process = start(*argv)
    out, err = process.communicate(timeout=1500)
    return CommandResult(process.returncode, out, err)


def interrupt(process: subprocess.Popen, number: signal.Signals, ready: Callable) -> CommandResult:
    """Send a signal as soon as `ready()`, unless the command ends before."""
    deadline = time.monotonic() + 600
    while not ready() and process.poll() is None:
        assert time.monotonic() < deadline, "not ready within 600 s"
        time.sleep(0.02)
    begin = time.monotonic()
    process.send_signal(number)
    process.wait(60)
    seconds = time.monotonic() - begin
    return CommandResult(process.returncode, *process.communicate(), seconds)


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def score_rows(out: Path) -> list[dict]:
    with (out / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def all_ended(pids: list[int], seconds: float) -> bool:
    """Whether all processes end within the given seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


def assert_stopped_in_time(ended: CommandResult, number: signal.Signals, argv) -> None:
    assert ended.code == 128 + number
    assert ended.seconds < 5.5  # 5, plus slack for a busy machine
    assert "Traceback" not in ended.err
    stderr_lines = ended.err.splitlines()
    assert stderr_lines[-2] == "stopped; what was done is kept. Go on with:"
    assert shlex.split(stderr_lines[-1]) == ["python", "-m", "runs.compare", *map(str, argv)]


class SmokeRun(NamedTuple):
    """A smoke run interrupted once, resumed to its end, and then started again."""

    argv: tuple
    out: Path
    stopped: CommandResult
    saved_arms: list[str]
    ended: CommandResult
    again: CommandResult
    before: dict[str, bytes]


def contents(out: Path) -> dict[str, bytes]:
    names = ("metrics.jsonl", "scores.csv", "table.md")
    return {name: (out / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "a study"
    argv = *SMOKE, "--out", out
    stopped = interrupt(start(*argv), signal.SIGINT, lambda: count_lines(out / "metrics.jsonl"))
    saved_arms = [path.parent.name for path in out.glob("checkpoints/*/*-step-*")]
    ended = finish(*argv)
    before = contents(out)
    return SmokeRun(argv, out, stopped, saved_arms, ended, finish(*argv), before)


def test_ctrl_c_stops_in_time_with_a_checkpoint_and_the_resume_command(smoke):
    assert_stopped_in_time(smoke.stopped, signal.SIGINT, smoke.argv)
    assert "none" in smoke.saved_arms


def test_smoke_run_prints_the_whole_table(smoke):
    assert smoke.ended.code == 0, smoke.ended.err
    for heading in (*HEADINGS, "score: success", "stopped seeds   0 of 27"):
        assert heading in smoke.ended.out
    table = [line.split("│")[1:-1] for line in smoke.ended.out.splitlines() if line[:1] == "│"]
    cells = [[cell.strip() for cell in line] for line in table]
    assert [line[0] for line in cells] == SMOKE_ARMS
    assert all(line[1] == "3" for line in cells)
    number = r"-?\d\.\d{3}"
    assert all(re.fullmatch(number, line[2]) for line in cells)
    assert all(re.fullmatch(rf"{number} \[{number}, {number}\]", line[3]) for line in cells)
    assert all(line[4].split()[1] in SHIFTS for line in cells)
    assert [line[5] == "-" for line in cells] == [True] + [False] * 8
    assert f"python -m runs.board {shlex.quote(str(smoke.out))}" in smoke.ended.out
    assert (smoke.out / "tb" / "compare").is_dir()


def test_score_file_has_one_row_per_arm_point_and_seed(smoke):
    rows = score_rows(smoke.out)
    points = [("none", "0.0")] + [(shift, "1.0") for shift in SHIFTS]
    cells = [(row["arm"], row["shift"], row["severity"], row["seed"]) for row in rows]
    assert cells == [
        (arm, *point, str(seed)) for arm in SMOKE_ARMS for point in points for seed in range(3)
    ]
    assert all(np.isfinite(float(row["score"])) for row in rows)
    assert {(row["env"], row["episodes"]) for row in rows} == {("CartPole", "4")}


def test_curves_checkpoints_and_tensorboard_files_are_written(smoke):
    curves = [json.loads(line) for line in (smoke.out / "metrics.jsonl").read_text().splitlines()]
    assert [(line["arm"], line["step"]) for line in curves] == [
        (arm, step) for arm in SMOKE_ARMS for step in (512, 1024)
    ]
    for arm in SMOKE_ARMS:
        assert list((smoke.out / "checkpoints" / arm).glob("*-step-2/manifest.json"))
        for seed in range(3):
            assert list((smoke.out / f"tb/runs/CartPole/{arm}/s{seed}").glob("events.*.train"))
        board = smoke.out / f"tb/compare/CartPole/{arm}"
        assert list(board.glob("events.*.compare"))
        assert bool(list(board.glob("events.*.rollout"))) == (arm in ("none", "fear"))
    assert (smoke.out / "table.png").read_bytes().startswith(b"\x89PNG")
    assert not list(smoke.out.rglob("*.part"))


def test_same_command_again_computes_nothing_and_prints_the_same(smoke):
    assert smoke.again.code == 0
    assert smoke.again.out == smoke.ended.out
    assert contents(smoke.out) == smoke.before  # with the seconds that each chunk took


# --- designs ----------------------------------------------------------------------------------


def test_default_design_is_the_whole_comparison():
    suite, trainer, run_config, arms, *_ = design(Settings())
    assert (suite.name, trainer) == ("Drive", JaxBackend)
    head_arms = [
        name + kind
        for name in ("fear", "hope", "curiosity")
        for kind in ("", "_sham", "_untrained", "_constant")
    ]
    assert [arm.name for arm in arms] == [*CONTROLS, *head_arms, "lesion"]
    assert [arm.name for arm in arms if arm.randomised] == ["random"]
    assert (run_config.seeds, run_config.episodes, run_config.optimise) == (20, 256, True)
    assert 20 <= run_config.chunks <= 200
    assert 200_000 <= run_config.chunks * run_config.chunk_steps <= 217_000
    assert run_config.agent.anneal == run_config.chunks * run_config.updates
    assert run_config.rows % len(jax.devices()) == 0 and run_config.rows >= 20
    assert len(suite.points()) == 1 + 4 * len(suite.shifts)


def test_quick_design_has_one_head_and_three_seeds_and_lists_omitted_arms():
    quick = Settings(quick=True)
    suite, _, run_config, arms, plan, probe_signals = design(quick)
    assert [arm.name for arm in arms] == ["none", "constant_plus", "fear", "fear_untrained"]
    assert set(plan.without) == set(SMOKE_ARMS) - {arm.name for arm in arms} and not probe_signals
    assert (run_config.seeds, run_config.episodes, suite.severities) == (3, 64, (0.5, 1.0))
    assert 100_000 < run_config.chunks * run_config.chunk_steps < 110_000


def test_without_leaves_arms_out():
    settings = Settings(heads=("fear",), without=("fear_sham", "random"))
    _, _, _, arms, *_ = design(settings)
    assert omitted_arms(settings) == settings.without
    remaining = [name for name in SMOKE_ARMS if name not in settings.without]
    assert [arm.name for arm in arms] == remaining


def test_control_arms_are_marked_and_heads_are_not():
    arms = design(Settings(heads=("fear", "hope"))).arms
    assert [arm.name for arm in arms if not arm.control] == ["none", "fear", "hope"]


def test_cartpole_design_has_its_preset():
    _, _, run_config, *_ = design(Settings("CartPole"))
    assert (run_config.num_envs, run_config.num_steps, run_config.agent.lr) == (4, 128, 2.5e-4)
    assert 480_000 <= run_config.chunks * run_config.chunk_steps <= 500_000


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_host_design_has_its_own_preset(id):
    suite, trainer, run_config, arms, *_ = design(Settings(env=id))
    assert trainer is HostBackend
    assert "random" not in [arm.name for arm in arms]
    assert run_config.agent.normalise
    assert (run_config.agent.entropy == 0) == (id == "Pendulum-v1")
    assert run_config.chunks == 100_000 // run_config.chunk_steps == run_config.agent.anneal
    assert run_config.episodes == 8


def test_settings_override_the_preset():
    settings = Settings("CartPole", ("hope",), seeds=5, steps=10_000, shifts=("noise",), episodes=3)
    suite, _, run_config, arms, *_ = design(settings)
    assert [shift.name for shift in suite.shifts] == ["noise"]
    assert (run_config.seeds, run_config.episodes) == (5, 3)
    assert 9_000 < run_config.chunks * run_config.chunk_steps <= 10_000
    assert "hope_sham" in [arm.name for arm in arms]
    _, _, run_config, *_ = design(replace(settings, steps=1))
    assert run_config.chunks * run_config.chunk_steps == 512  # at least one update


@pytest.mark.parametrize(("requested", "scored"), [(1, 1), (9, 9), (16, 16), (40, 32)])
def test_episodes_are_rounded_to_equally_many_per_random_world(requested, scored):
    assert design(Settings(episodes=requested)).run_config.episodes == scored
    assert design(Settings(env="CartPole-v1", episodes=requested)).run_config.episodes == requested


def test_folder_of_a_study_refuses_other_settings(tmp_path):
    claim_folder(tmp_path, identity(Settings()))
    claim_folder(tmp_path, identity(Settings(out=tmp_path, config=Path("other"), record=True)))
    with pytest.raises(UserError, match="holds a study with other settings; choose another --out"):
        claim_folder(tmp_path, identity(Settings(steps=9)))
    assert identity(Settings()) != identity(Settings(steps=9))


# --- bad input --------------------------------------------------------------------------------


@pytest.fixture
def no_compilation(monkeypatch):
    """Fail if a study begins; devices of this process stay as they are."""
    monkeypatch.setattr(devices, "prepare_devices", lambda: None)
    for trainer in (JaxBackend, HostBackend):
        monkeypatch.setattr(trainer, "__init__", lambda *args: pytest.fail("a study began"))


def error_message(*argv) -> str:
    with pytest.raises(UserError) as caught:
        main([str(word) for word in argv])
    return " ".join(str(caught.value).split())


BAD_FLAGS = [
    ("--heads feer", "unknown head 'feer'; did you mean fear?"),
    ("--heads fear feer", "unknown head 'feer'"),
    ("--heads", "--heads: name at least one head"),
    ("--without fear_shame", "unknown arm 'fear_shame'; did you mean fear_sham?"),
    ("--without none", "unknown arm 'none'"),
    ("--heads fear fear", "--heads fear fear: name each head once"),
    ("--shifts noize", "unknown shift 'noize'; did you mean noise?"),
    ("--env CartPole-v1 --shifts extrapolation", "unknown shift 'extrapolation'; there are force,"),
    ("--env cartpole", "unknown environment 'cartpole'; did you mean CartPole?"),
    ("--env LunarLander", "did you mean LunarLander-v3?"),
    ("--env MiniGrid-DistShift3-v0", "did you mean MiniGrid-DistShift"),
    ("--env no.such.module:Any-v0", "no.such.module is missing: pip install"),
    (f"--env {STRANGE}Text-v0", "is not made of numbers; keep only numeric keys by gymnasium.wrap"),
    (
        f"--env {STRANGE}Image-v0",
        "21168 numbers, more than 10000; shrink it by gymnasium.wrappers.",
    ),
    (f"--env {STRANGE}Multi-v0", "map it by gymnasium.wrappers.TransformAction"),
    ("--seeds 2", "--seeds 2: an interval needs at least 3 seeds"),
    ("--smoke --record", "leave --smoke out"),
    ("--steps -1", "--steps -1: must not be negative"),
    ("--episodes -1", "--episodes -1: must not be negative"),
    ("--sedes 3", "Perhaps you meant: --seeds INT"),
    ("--seeds 2.5", "--seeds: invalid literal for int()"),
    ("--steps 3e5x", "--steps: invalid literal for int()"),
    ("--out {file}", "cannot be used: "),
    ("--out {file}/deeper", "cannot be used: "),
    ("--config nowhere.yaml", "config nowhere.yaml: no such file"),
]


@pytest.mark.parametrize(("argv", "complaint"), BAD_FLAGS)
def test_bad_flags_are_refused(argv, complaint, no_compilation, tmp_path, capfd):
    file = tmp_path / "file"
    file.touch()
    begin = time.process_time()
    assert complaint in error_message(*argv.format(file=file).split())
    assert time.process_time() - begin < 5
    assert capfd.readouterr().err == ""  # `run_main` prints the line


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("seeds: no", "seeds must be int, not False"),
        ("seeds: 2.5", "seeds must be int, not 2.5"),
        ("seeds: 2", "--seeds 2: an interval needs at least 3 seeds"),
        ('steps: "3e5x"', "steps must be int, not '3e5x'"),
        ("steps: -5", "--steps -5: must not be negative"),
        ("heads: fear", "heads must be a list, not 'fear'"),
        ("heads: [feer]", "unknown head 'feer'; did you mean fear?"),
        ("haeds: [fear]", "unknown key haeds; did you mean heads?"),
        ("env: no", "env must be str, not False"),
        ("env: !!python/object/apply:os.system ['touch {marker}']", "use plain values, no tags"),
    ],
)
def test_bad_files_are_refused(text, complaint, no_compilation, tmp_path):
    path, marker = tmp_path / "settings.yaml", tmp_path / "marker"
    path.write_text(text.replace("{marker}", str(marker)))
    assert complaint in error_message("--config", path)
    assert not marker.exists()


def test_missing_package_is_named(no_compilation, monkeypatch):
    monkeypatch.setitem(sys.modules, "minigrid", None)
    line = error_message("--env", "MiniGrid-DistShift1-v0")
    assert line.startswith("minigrid is missing: pip install -e '.[hosts]'")


def test_folder_in_use_error_names_the_process(no_compilation, tmp_path):
    with hold_lock(tmp_path):
        line = error_message("--smoke", "--out", tmp_path)
    assert line.startswith(f"{tmp_path} is in use by another run (process {os.getpid()}): ")
    assert "--out" in line


def test_command_refuses_the_folder_of_another_study(no_compilation, tmp_path):
    claim_folder(tmp_path, identity(Settings()))
    assert error_message("--smoke", "--out", tmp_path).endswith(
        "choose another --out, or delete it"
    )


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (
            HostFailure("CartPole-v1: environment 3 raised it", [3], [0], "raised"),
            "arm none: CartPole-v1: environment 3 raised it; rerun the command to resume",
        ),
        (
            OSError(28, "No space left on device", "scores.csv"),
            "scores.csv: No space left on device; fix this and rerun the command to resume",
        ),
    ],
)
def test_error_that_ends_a_study_is_one_line(error, complaint, tmp_path, monkeypatch):
    def run(self, trainer, record_episodes, probe):
        raise error

    monkeypatch.setattr(devices, "prepare_devices", lambda: None)
    monkeypatch.setattr(ArmRunner, "run", run)
    assert error_message("--smoke", "--out", tmp_path) == complaint


def test_backend_is_closed_after_an_error(tmp_path, monkeypatch):
    closed = []

    def run(self, trainer, record_episodes, probe):
        raise UserError("bad")

    monkeypatch.setattr(devices, "prepare_devices", lambda: None)
    monkeypatch.setattr(ArmRunner, "run", run)
    monkeypatch.setattr(JaxBackend, "close", lambda self: closed.append(self))
    assert error_message("--smoke", "--out", tmp_path) == "bad"
    assert len(closed) == 1


def test_real_command_prints_one_error_line_and_exits_with_2(tmp_path):
    ended = finish("--env", "CartPole-v1", "--heads", "feer", "--out", tmp_path / "out")
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err == "error: unknown head 'feer'; did you mean fear?\n"
    assert not (tmp_path / "out").exists()


# --- slow: more of the real command -----------------------------------------------------------


def final_states(out: Path) -> dict:
    """Checksums of all leaves of the last checkpoint, by arm."""
    leaves_by_arm = {}
    for arm in (out / "checkpoints").iterdir():
        newest = max(arm.glob("*-step-*"))
        leaves_by_arm[arm.name] = json.loads((newest / "manifest.json").read_text())["leaves"]
    return leaves_by_arm


def assert_same_results(first: Path, second: Path) -> None:
    assert (first / "scores.csv").read_bytes() == (second / "scores.csv").read_bytes()
    assert final_states(first) == final_states(second)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Folder of an uninterrupted smoke run."""
    out = tmp_path_factory.mktemp("uninterrupted")
    assert finish(*SMOKE, "--out", out).code == 0
    return out


@pytest.mark.slow
def test_stopped_and_resumed_smoke_run_equals_the_uninterrupted_one(smoke, uninterrupted):
    assert_same_results(smoke.out, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(2))
def test_run_killed_at_random_ends_as_the_uninterrupted_one(draw, uninterrupted, tmp_path):
    rng, argv = random.Random(draw), (*SMOKE, "--out", tmp_path)
    kills = 0
    for _ in range(5):
        pause = time.monotonic() + rng.uniform(1, 12)
        ended = interrupt(start(*argv), signal.SIGKILL, lambda p=pause: time.monotonic() > p)
        kills += ended.code == -signal.SIGKILL
    assert kills
    assert finish(*argv).code == 0
    assert_same_results(tmp_path, uninterrupted)


@pytest.mark.slow
def test_run_killed_while_writing_ends_as_the_uninterrupted_one(uninterrupted, tmp_path):
    argv, scores, curves = (*SMOKE, "--out", tmp_path), "scores.csv", "metrics.jsonl"
    for name, count in ((curves, 1), (scores, 2), (curves, 3), (scores, 40), (scores, 90)):
        path = tmp_path / name
        ended = interrupt(start(*argv), signal.SIGKILL, lambda p=path, n=count: count_lines(p) >= n)
        assert ended.code == -signal.SIGKILL
    assert finish(*argv).code == 0
    assert_same_results(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_xla_compilation_stops_in_time(number, tmp_path):
    argv = "--out", tmp_path, "--seeds", 4
    begin = time.monotonic()

    def compiling():
        return (tmp_path / "identity").exists() and time.monotonic() - begin > 6

    ended = interrupt(start(*argv), number, compiling)
    assert_stopped_in_time(ended, number, argv)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_of_a_stopped_host_study_end_and_it_resumes_exactly(number, tmp_path):
    argv = ("--smoke", "--env", "CartPole-v1", "--shifts", "force", "noise")
    process = start(*argv, "--out", tmp_path / "stopped")
    workers: list[int] = []

    def training():
        workers[:] = children(process.pid) or workers
        return count_lines(tmp_path / "stopped" / "metrics.jsonl") >= 3

    ended = interrupt(process, number, training)
    assert workers
    assert all_ended(workers, 4)
    if number == signal.SIGKILL:
        assert ended.code == -number
    else:
        assert_stopped_in_time(ended, number, (*argv, "--out", tmp_path / "stopped"))
        assert list(tmp_path.glob("stopped/checkpoints/*/*-step-*"))
    for name in ("stopped", "uninterrupted"):
        assert finish(*argv, "--out", tmp_path / name).code == 0
    assert_same_results(tmp_path / "stopped", tmp_path / "uninterrupted")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "score", "shifts"),
    [
        ("CartPole-v1", "success", "force length mass noise dropout flip delay"),
        ("LunarLander-v3", "success", "gravity wind noise dropout flip delay"),
        ("Pendulum-v1", "return", "gravity mass length noise dropout slip delay"),
        ("MiniGrid-DistShift1-v0", "success", "DistShift2 noise dropout flip delay"),
    ],
)
def test_smoke_run_on_gymnasium_environments(id, score, shifts, tmp_path):
    ended = finish("--smoke", "--env", id, "--out", tmp_path)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    assert "not filmed" not in ended.err
    assert not [line for line in ended.err.splitlines() if line.startswith("error")]
    arms = [arm for arm in SMOKE_ARMS if arm != "random"]
    points = [("none", "0.0")] + [(shift, "1.0") for shift in shifts.split()]
    cells = [
        (row["arm"], row["shift"], row["severity"], row["seed"]) for row in score_rows(tmp_path)
    ]
    assert cells == [
        (arm, *point, str(seed)) for arm in arms for point in points for seed in range(3)
    ]
    assert all(np.isfinite(float(row["score"])) for row in score_rows(tmp_path))
    assert f"score: {score}" in ended.out


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_permanently_failing_host_ends_the_command_in_one_line(fault, tmp_path, monkeypatch):
    monkeypatch.setenv("FAULT", fault)
    ended = finish("--smoke", "--env", f"{STRANGE}Faulty-v0", "--out", tmp_path)
    assert ended.code == 2
    assert "Traceback" not in ended.err
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert errors == ended.err.splitlines()[-1:]
    assert errors[0].startswith(f"error: arm none: {STRANGE}Faulty-v0: environment ")
    assert "3 times in a row" in errors[0]
    assert list(tmp_path.glob("checkpoints/none/*-step-0"))


@pytest.mark.slow
def test_second_command_in_the_same_folder_names_the_first_process(tmp_path):
    argv = *SMOKE, "--out", tmp_path
    first = start(*argv)
    while not (tmp_path / "identity").exists():
        assert first.poll() is None
        time.sleep(0.05)
    second = finish(*argv)
    assert second.code == 2
    assert second.err.startswith(
        f"error: {tmp_path} is in use by another run (process {first.pid})"
    )
    assert len(second.err.splitlines()) == 1
    assert first.wait(300) == 0
