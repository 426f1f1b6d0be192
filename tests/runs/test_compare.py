"""The main job as its user meets it: the whole command, stopped, gone on with, and refused."""

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
SMOKE_ARMS = [*CONTROLS, "fear", "fear_sham", "fear_scrambled", "fear_constant", "lesion"]
SMOKE = "--smoke", "--env", "CartPole"
SHIFTS = [shift.name for shift in load_suite("CartPole").shifts]
STRANGE = "tests.envs.unusual_envs:Strange/"


# --- the real command -------------------------------------------------------------------------


def start(*argv) -> subprocess.Popen:
    """The command in a process of its own, with this test run's compiled programs."""
    return subprocess.Popen(
        [sys.executable, "-m", "runs.compare", *map(str, argv)],
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Ended(NamedTuple):
    """How a command ended, and how long it took to after it was told to."""

    code: int
    out: str
    err: str
    seconds: float = 0.0


def finish(*argv) -> Ended:
    process = start(*argv)
    out, err = process.communicate(timeout=1500)
    return Ended(process.returncode, out, err)


def interrupt(process: subprocess.Popen, number: signal.Signals, when: Callable) -> Ended:
    """Sends a signal as soon as `when()`, unless the command ends before."""
    until = time.monotonic() + 600
    while not when() and process.poll() is None:
        assert time.monotonic() < until, "the moment never came"
        time.sleep(0.02)
    told = time.monotonic()
    process.send_signal(number)
    process.wait(60)
    seconds = time.monotonic() - told
    return Ended(process.returncode, *process.communicate(), seconds)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def rows_of(out: Path) -> list[dict]:
    with (out / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def gone(pids: list[int], seconds: float) -> bool:
    """Whether all of them end within some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


def assert_left_in_time(ended: Ended, number: signal.Signals, argv) -> None:
    assert ended.code == 128 + number
    assert ended.seconds < 5.5  # 5, and a moment for a busy machine
    assert "Traceback" not in ended.err
    said = ended.err.splitlines()
    assert said[-2] == "stopped; what was done is kept. Go on with:"
    assert shlex.split(said[-1]) == ["python", "-m", "runs.compare", *map(str, argv)]


class Smoke(NamedTuple):
    """The smoke run: stopped once, gone on with to its end, and given once more."""

    argv: tuple
    out: Path
    stopped: Ended
    kept: list[str]
    ended: Ended
    again: Ended
    before: dict[str, bytes]


def contents(out: Path) -> dict[str, bytes]:
    names = ("metrics.jsonl", "scores.csv", "table.md")
    return {name: (out / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "a study"
    argv = *SMOKE, "--out", out
    stopped = interrupt(start(*argv), signal.SIGINT, lambda: lines(out / "metrics.jsonl"))
    kept = [path.parent.name for path in out.glob("checkpoints/*/*-step-*")]
    ended = finish(*argv)
    before = contents(out)
    return Smoke(argv, out, stopped, kept, ended, finish(*argv), before)


def test_ctrl_c_leaves_in_time_with_a_checkpoint_and_the_command(smoke):
    assert_left_in_time(smoke.stopped, signal.SIGINT, smoke.argv)
    assert "none" in smoke.kept


def test_a_smoke_run_ends_well_and_prints_the_whole_table(smoke):
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


def test_the_score_file_is_tidy_and_complete(smoke):
    rows = rows_of(smoke.out)
    points = [("none", "0.0")] + [(shift, "1.0") for shift in SHIFTS]
    cells = [(row["arm"], row["shift"], row["severity"], row["seed"]) for row in rows]
    assert cells == [
        (arm, *point, str(seed)) for arm in SMOKE_ARMS for point in points for seed in range(3)
    ]
    assert all(np.isfinite(float(row["score"])) for row in rows)
    assert {(row["env"], row["episodes"]) for row in rows} == {("CartPole", "4")}


def test_curves_checkpoints_and_the_board_are_there(smoke):
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


def test_the_same_command_again_computes_nothing_and_says_the_same(smoke):
    assert smoke.again.code == 0
    assert smoke.again.out == smoke.ended.out
    assert contents(smoke.out) == smoke.before  # with the seconds that each chunk took


# --- what is run ------------------------------------------------------------------------------


def test_the_defaults_are_the_whole_comparison():
    suite, trainer, run_config, arms, *_ = design(Settings())
    assert (suite.name, trainer) == ("Drive", JaxBackend)
    felt = [
        name + kind
        for name in ("fear", "hope", "curiosity")
        for kind in ("", "_sham", "_scrambled", "_constant")
    ]
    assert [arm.name for arm in arms] == [*CONTROLS, *felt, "lesion"]
    assert [arm.name for arm in arms if arm.randomised] == ["random"]
    assert (run_config.seeds, run_config.episodes, run_config.optimise) == (20, 256, True)
    assert 20 <= run_config.chunks <= 200
    assert 200_000 <= run_config.chunks * run_config.chunk_steps <= 217_000
    assert run_config.agent.anneal == run_config.chunks * run_config.updates
    assert run_config.rows % len(jax.devices()) == 0 and run_config.rows >= 20
    assert len(suite.points()) == 1 + 4 * len(suite.shifts)


def test_a_quick_look_has_one_head_and_three_seeds_and_says_what_it_leaves_out():
    quick = Settings(quick=True)
    suite, _, run_config, arms, plan, asks = design(quick)
    assert [arm.name for arm in arms] == ["none", "constant_plus", "fear", "fear_scrambled"]
    assert set(plan.without) == set(SMOKE_ARMS) - {arm.name for arm in arms} and not asks
    assert (run_config.seeds, run_config.episodes, suite.severities) == (3, 64, (0.5, 1.0))
    assert 100_000 < run_config.chunks * run_config.chunk_steps < 110_000


def test_an_arm_is_left_out_if_asked_for():
    settings = Settings(heads=("fear",), without=("fear_sham", "random"))
    _, _, _, arms, *_ = design(settings)
    assert omitted_arms(settings) == settings.without
    left = [name for name in SMOKE_ARMS if name not in settings.without]
    assert [arm.name for arm in arms] == left


def test_heads_are_filmed_and_controls_are_not():
    arms = design(Settings(heads=("fear", "hope"))).arms
    assert [arm.name for arm in arms if not arm.control] == ["none", "fear", "hope"]


def test_cartpole_has_its_usual_settings():
    _, _, run_config, *_ = design(Settings("CartPole"))
    assert (run_config.num_envs, run_config.num_steps, run_config.agent.lr) == (4, 128, 2.5e-4)
    assert 480_000 <= run_config.chunks * run_config.chunk_steps <= 500_000


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_a_host_has_its_own_sizes(id):
    suite, trainer, run_config, arms, *_ = design(Settings(env=id))
    assert trainer is HostBackend
    assert "random" not in [arm.name for arm in arms]
    assert run_config.agent.normalise
    assert (run_config.agent.entropy == 0) == (id == "Pendulum-v1")
    assert run_config.chunks == 100_000 // run_config.chunk_steps == run_config.agent.anneal
    assert run_config.episodes == 8


def test_settings_are_sizes():
    settings = Settings("CartPole", ("hope",), seeds=5, steps=10_000, shifts=("noise",), episodes=3)
    suite, _, run_config, arms, *_ = design(settings)
    assert [shift.name for shift in suite.shifts] == ["noise"]
    assert (run_config.seeds, run_config.episodes) == (5, 3)
    assert 9_000 < run_config.chunks * run_config.chunk_steps <= 10_000
    assert "hope_sham" in [arm.name for arm in arms]
    _, _, run_config, *_ = design(replace(settings, steps=1))
    assert run_config.chunks * run_config.chunk_steps == 512  # one update at least


@pytest.mark.parametrize(("asked", "scored"), [(1, 1), (9, 9), (16, 16), (40, 32)])
def test_episodes_are_as_many_as_are_scored(asked, scored):
    assert design(Settings(episodes=asked)).run_config.episodes == scored
    assert design(Settings(env="CartPole-v1", episodes=asked)).run_config.episodes == asked


def test_a_folder_is_one_study(tmp_path):
    claim_folder(tmp_path, identity(Settings()))
    claim_folder(tmp_path, identity(Settings(out=tmp_path, config=Path("other"), record=True)))
    with pytest.raises(UserError, match="holds a study with other settings; choose another --out"):
        claim_folder(tmp_path, identity(Settings(steps=9)))
    assert identity(Settings()) != identity(Settings(steps=9))


# --- bad input --------------------------------------------------------------------------------


@pytest.fixture
def nothing_is_compiled(monkeypatch):
    """In this process, whose devices are there already; a study that begins is a failure."""
    monkeypatch.setattr(devices, "prepare_devices", lambda: None)
    for trainer in (JaxBackend, HostBackend):
        monkeypatch.setattr(trainer, "__init__", lambda *args: pytest.fail("a study began"))


def refusal(*argv) -> str:
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
    (f"--env {STRANGE}Text-v0", "is not made of numbers; keep the keys that are by gymnasium.wrap"),
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
def test_bad_flags_are_refused(argv, complaint, nothing_is_compiled, tmp_path, capfd):
    file = tmp_path / "file"
    file.touch()
    began = time.process_time()
    assert complaint in refusal(*argv.format(file=file).split())
    assert time.process_time() - began < 5
    assert capfd.readouterr().err == ""  # the one line comes from whoever catches it


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
def test_bad_files_are_refused(text, complaint, nothing_is_compiled, tmp_path):
    path, marker = tmp_path / "settings.yaml", tmp_path / "marker"
    path.write_text(text.replace("{marker}", str(marker)))
    assert complaint in refusal("--config", path)
    assert not marker.exists()


def test_a_missing_package_is_named(nothing_is_compiled, monkeypatch):
    monkeypatch.setitem(sys.modules, "minigrid", None)
    line = refusal("--env", "MiniGrid-DistShift1-v0")
    assert line.startswith("minigrid is missing: pip install -e '.[hosts]'")


def test_a_folder_in_use_names_the_process(nothing_is_compiled, tmp_path):
    with hold_lock(tmp_path):
        line = refusal("--smoke", "--out", tmp_path)
    assert line.startswith(f"{tmp_path} is in use by another run (process {os.getpid()}): ")
    assert "--out" in line


def test_a_folder_of_another_study_is_refused(nothing_is_compiled, tmp_path):
    claim_folder(tmp_path, identity(Settings()))
    assert refusal("--smoke", "--out", tmp_path).endswith("choose another --out, or delete it")


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (
            HostFailure("CartPole-v1: environment 3 raised it", [3], [0], "raised"),
            "arm none: CartPole-v1: environment 3 raised it; the same command then goes on",
        ),
        (
            OSError(28, "No space left on device", "scores.csv"),
            "scores.csv: No space left on device; mend it, then the same command goes on",
        ),
    ],
)
def test_what_ends_a_study_is_one_line(error, complaint, tmp_path, monkeypatch):
    def run(self, trainer, showpiece, ask):
        raise error

    monkeypatch.setattr(devices, "prepare_devices", lambda: None)
    monkeypatch.setattr(ArmRunner, "run", run)
    assert refusal("--smoke", "--out", tmp_path) == complaint


def test_the_arm_is_closed_whatever_happens(tmp_path, monkeypatch):
    closed = []

    def run(self, trainer, showpiece, ask):
        raise UserError("bad")

    monkeypatch.setattr(devices, "prepare_devices", lambda: None)
    monkeypatch.setattr(ArmRunner, "run", run)
    monkeypatch.setattr(JaxBackend, "close", lambda self: closed.append(self))
    assert refusal("--smoke", "--out", tmp_path) == "bad"
    assert len(closed) == 1


def test_a_real_refusal_is_one_line_and_code_2(tmp_path):
    ended = finish("--env", "CartPole-v1", "--heads", "feer", "--out", tmp_path / "out")
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err == "error: unknown head 'feer'; did you mean fear?\n"
    assert not (tmp_path / "out").exists()


# --- slow: the real command, harder -----------------------------------------------------------


def final_states(out: Path) -> dict:
    """Checksums of every leaf of every arm's last checkpoint."""
    found = {}
    for arm in (out / "checkpoints").iterdir():
        newest = max(arm.glob("*-step-*"))
        found[arm.name] = json.loads((newest / "manifest.json").read_text())["leaves"]
    return found


def assert_same_results(one: Path, other: Path) -> None:
    assert (one / "scores.csv").read_bytes() == (other / "scores.csv").read_bytes()
    assert final_states(one) == final_states(other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A smoke run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole")
    assert finish(*SMOKE, "--out", out).code == 0
    return out


@pytest.mark.slow
def test_the_stopped_smoke_run_is_the_whole_one(smoke, whole):
    assert_same_results(smoke.out, whole)


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(2))
def test_killed_at_random_it_ends_as_the_whole_one(draw, whole, tmp_path):
    rng, argv = random.Random(draw), (*SMOKE, "--out", tmp_path)
    kills = 0
    for _ in range(5):
        pause = time.monotonic() + rng.uniform(1, 12)
        ended = interrupt(start(*argv), signal.SIGKILL, lambda p=pause: time.monotonic() > p)
        kills += ended.code == -signal.SIGKILL
    assert kills
    assert finish(*argv).code == 0
    assert_same_results(tmp_path, whole)


@pytest.mark.slow
def test_killed_while_it_writes_it_ends_as_the_whole_one(whole, tmp_path):
    argv, scores, curves = (*SMOKE, "--out", tmp_path), "scores.csv", "metrics.jsonl"
    for name, count in ((curves, 1), (scores, 2), (curves, 3), (scores, 40), (scores, 90)):
        path = tmp_path / name
        ended = interrupt(start(*argv), signal.SIGKILL, lambda p=path, n=count: lines(p) >= n)
        assert ended.code == -signal.SIGKILL
    assert finish(*argv).code == 0
    assert_same_results(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_while_xla_compiles(number, tmp_path):
    argv = "--out", tmp_path, "--seeds", 4
    began = time.monotonic()

    def compiling():
        return (tmp_path / "identity").exists() and time.monotonic() - began > 6

    ended = interrupt(start(*argv), number, compiling)
    assert_left_in_time(ended, number, argv)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_a_host_study_that_then_goes_on(number, tmp_path):
    argv = ("--smoke", "--env", "CartPole-v1", "--shifts", "force", "noise")
    process = start(*argv, "--out", tmp_path / "stopped")
    workers: list[int] = []

    def training():
        workers[:] = children(process.pid) or workers
        return lines(tmp_path / "stopped" / "metrics.jsonl") >= 3

    ended = interrupt(process, number, training)
    assert workers
    assert gone(workers, 4)
    if number == signal.SIGKILL:
        assert ended.code == -number
    else:
        assert_left_in_time(ended, number, (*argv, "--out", tmp_path / "stopped"))
        assert list(tmp_path.glob("stopped/checkpoints/*/*-step-*"))
    for name in ("stopped", "whole"):
        assert finish(*argv, "--out", tmp_path / name).code == 0
    assert_same_results(tmp_path / "stopped", tmp_path / "whole")


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
def test_a_smoke_run_on_somebody_elses_environment(id, score, shifts, tmp_path):
    ended = finish("--smoke", "--env", id, "--out", tmp_path)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    assert "not filmed" not in ended.err
    assert not [line for line in ended.err.splitlines() if line.startswith("error")]
    arms = [arm for arm in SMOKE_ARMS if arm != "random"]
    points = [("none", "0.0")] + [(shift, "1.0") for shift in shifts.split()]
    cells = [(row["arm"], row["shift"], row["severity"], row["seed"]) for row in rows_of(tmp_path)]
    assert cells == [
        (arm, *point, str(seed)) for arm in arms for point in points for seed in range(3)
    ]
    assert all(np.isfinite(float(row["score"])) for row in rows_of(tmp_path))
    assert f"score: {score}" in ended.out


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_a_host_that_fails_for_good_ends_the_command_in_one_line(fault, tmp_path, monkeypatch):
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
def test_two_at_once_name_the_first(tmp_path):
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
