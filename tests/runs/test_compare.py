"""The compare command: finished, interrupted and resumed runs, designs and error messages."""

import io
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from envs.host.fault import HostFailure
from envs.host.suite import HostEnv
from runs import replay
from runs.analysis.scores import read_scores
from runs.arm_runner import ArmRunner
from runs.cli.study import identity
from runs.compare import Settings, main, make_experiment
from runs.engine import devices
from runs.engine.arms import CONSTANT_POTENTIALS
from runs.engine.host_backend import HostBackend
from runs.engine.jax_backend import JaxBackend
from runs.errors import UserError
from runs.lock import claim_folder, hold_lock
from tests.runs.small_study import assert_same_files, metrics, without_key_check_in_threads

no_key_check = pytest.fixture(scope="module", autouse=True)(without_key_check_in_threads)
ROOT = Path(__file__).parents[2]
CONTROLS = ["none", "random", "constant_plus", "constant_minus"]
FEAR_ARMS = ["fear", "fear_sham", "fear_untrained", "fear_constant"]
SMOKE_ARMS = ["none", "fear"]
WITHOUT = [
    "--without",
    *(arm for arm in [*CONTROLS, *FEAR_ARMS, "lesion"] if arm not in SMOKE_ARMS),
    *CONSTANT_POTENTIALS,
]
SHIFTS = ("force", "noise")
SMOKE = "--smoke", "--env", "CartPole", "--shifts", *SHIFTS, *WITHOUT
HOST = {"env": "CartPole-v1", "workers": 0}
STRANGE = "tests.envs.unusual_envs:Strange/"

# As many devices as this process has, so that it can resume what the command began.
COMMAND = """
import runpy, jax
jax.config.update("jax_num_cpu_devices", 2)
jax.devices()
runpy.run_module("runs.compare", run_name="__main__", alter_sys=True)
"""


# --- the real command -------------------------------------------------------------------------


def start(*argv) -> subprocess.Popen:
    """Start the command in a subprocess with the compilation cache of this test run."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, argv)],
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_here(*argv) -> str:
    """Run the command to its end in this process -> what it prints."""
    with redirect_stdout(io.StringIO()) as printed:
        assert main([str(word) for word in argv]) == 0
    return printed.getvalue()


class Ended(NamedTuple):
    """Exit code and output of a command, and the seconds from the signal to its end."""

    code: int
    out: str
    err: str
    seconds: float


def interrupt(process: subprocess.Popen, number: signal.Signals, ready: Callable) -> Ended:
    """Send a signal as soon as `ready()`, unless the command ends before."""
    deadline = time.monotonic() + 600
    while not ready() and process.poll() is None:
        assert time.monotonic() < deadline, "not ready within 600 s"
        time.sleep(0.02)
    begin = time.monotonic()
    process.send_signal(number)
    process.wait(60)
    seconds = time.monotonic() - begin
    return Ended(process.returncode, *process.communicate(), seconds)


def assert_stopped_in_time(ended: Ended, number: signal.Signals, argv) -> None:
    assert ended.code == 128 + number
    assert ended.seconds < 5.5  # 5, plus slack for a busy machine
    assert "Traceback" not in ended.err
    stderr_lines = ended.err.splitlines()
    assert stderr_lines[-2] == "stopped; what was done is kept. Go on with:"
    assert shlex.split(stderr_lines[-1]) == ["python", "-m", "runs.compare", *map(str, argv)]


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Folder of an uninterrupted smoke run, and what it printed."""
    out = tmp_path_factory.mktemp("study") / "a study"
    return out, run_here(*SMOKE, "--out", out)


@pytest.mark.slow
def test_command_stopped_by_ctrl_c_is_resumed_bit_for_bit(smoke, tmp_path):
    argv = *SMOKE, "--out", tmp_path
    ended = interrupt(start(*argv), signal.SIGINT, lambda: count_lines(tmp_path / "metrics.jsonl"))
    assert_stopped_in_time(ended, signal.SIGINT, argv)
    assert list(tmp_path.glob("checkpoints/none/*-step-*"))
    run_here(*argv)
    assert_same_files(smoke[0], tmp_path)


def test_smoke_run_prints_the_table_and_where_its_files_are(smoke):
    out, printed = smoke
    cells = [re.split(r" *│ *", line)[1:-1] for line in printed.splitlines() if line[:1] == "│"]
    assert [line[:2] for line in cells] == [[arm, "3"] for arm in SMOKE_ARMS]
    number = r"-?\d\.\d{3}"
    for arm, _, home, away, worst, gain in cells:
        assert re.fullmatch(number, home)
        assert re.fullmatch(rf"{number} \[{number}, {number}\]", away)
        assert worst.split()[1] in SHIFTS
        assert (gain == "-") == (arm == "none")
    for text in ("score: success", "stopped seeds   0 of 6", "left out        random, constant_"):
        assert text in printed
    assert f"python -m runs.board {shlex.quote(str(out))}" in printed


def test_smoke_run_writes_scores_curves_checkpoints_and_figures(smoke):
    out, _ = smoke
    rows = read_scores(out / "scores.csv")
    points = [("none", 0.0)] + [(shift, 1.0) for shift in SHIFTS]
    assert [(row["arm"], row["shift"], row["severity"], row["seed"]) for row in rows] == [
        (arm, *point, seed) for arm in SMOKE_ARMS for point in points for seed in range(3)
    ]
    assert all(np.isfinite(row["score"]) for row in rows)
    assert {(row["env"], row["episodes"]) for row in rows} == {("CartPole", 4)}
    lines = [(line["arm"], line["step"]) for line in metrics(out)]
    assert lines == [(arm, step) for arm in SMOKE_ARMS for step in (512, 1024)]
    for arm in SMOKE_ARMS:
        assert list(out.glob(f"checkpoints/{arm}/*-step-2/manifest.json"))
        assert len(list(out.glob(f"tb/runs/CartPole/{arm}/s*/events.*.train"))) == 3
        board = out / f"tb/compare/CartPole/{arm}"
        assert list(board.glob("events.*.compare"))
        assert list(board.glob("events.*.rollout"))
    assert (out / "table.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "report.html").exists() and not list(out.rglob("*.part"))


def test_same_command_again_computes_nothing_and_prints_the_same(smoke, monkeypatch):
    out, printed = smoke
    names = ("metrics.jsonl", "scores.csv", "table.md")  # with the seconds that each chunk took
    before = [(out / name).read_bytes() for name in names]
    for name in ("train", "evaluate", "film", "record"):
        monkeypatch.setattr(JaxBackend, name, lambda *args: pytest.fail("computed again"))
    assert run_here(*SMOKE, "--out", out) == printed
    assert [(out / name).read_bytes() for name in names] == before


# --- its replay -------------------------------------------------------------------------------


def replay_page(smoke, monkeypatch, *flags) -> str:
    """The page that `runs.replay` writes of the smoke run."""
    monkeypatch.setattr(devices, "prepare_devices", lambda: None)
    with redirect_stdout(io.StringIO()) as printed:
        assert replay.main([str(smoke[0]), *map(str, flags)]) == 0
    return Path(printed.getvalue().strip()).read_text()


def test_a_replay_plays_the_recorded_episodes(smoke, monkeypatch):
    titles = re.findall("<figcaption><b>(.*?)</b>", replay_page(smoke, monkeypatch))
    assert len(titles) == 2 and titles[0] == "fear at home in CartPole"
    assert re.fullmatch("fear under (force|noise), 1", titles[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "titles"),
    [
        (("--arms", "none", "fear"), ("none at home in CartPole", "fear at home in CartPole")),
        (
            ("--arms", "fear", "--shift", "noise", "--seed", "1"),
            ("fear at home in CartPole", "fear under noise, 1"),
        ),
    ],
)
def test_a_replay_records_arms_and_shifts_anew(flags, titles, smoke, monkeypatch, tmp_path):
    page = replay_page(smoke, monkeypatch, *flags, "--save", tmp_path / "page.html")
    assert tuple(re.findall("<figcaption><b>(.*?)</b>", page)) == titles
    assert page.count("<b>critic</b>") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("{tmp}/none",), "no such folder; name that of a study"),
        (("{tmp}",), "has no recorded episode; record some: --arms none"),
        (("{tmp}", "--arms", "none"), "is no study with its command"),
        (("{study}", "--shift", "noise"), "--shift: name whose agents act there"),
        (("{study}", "--arms", "feer"), "unknown arm 'feer'; did you mean fear?"),
        (("{study}", "--arms", "none", "--shift", "nois"), "unknown shift 'nois'; did you mean"),
        (
            ("{study}", "--arms", "none", "--shift", "noise", "--severity", "0.3"),
            "severity 0.3 of noise: not scored, only 1",
        ),
        (("{study}", "--save", "{tmp}/none/page.html"), "there is no folder {tmp}/none"),
    ],
)
def test_what_cannot_be_replayed_is_refused(flags, message, smoke, monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "prepare_devices", lambda: None)
    paths = {"tmp": tmp_path, "study": smoke[0]}
    with pytest.raises(UserError, match=re.escape(message.format(**paths))):
        replay.main([flag.format(**paths) for flag in flags])


# --- designs ----------------------------------------------------------------------------------


def test_default_design_is_the_whole_comparison():
    experiment = make_experiment(Settings())
    suite, run_config, arms = experiment.suite, experiment.run_config, experiment.all_arms
    kinds = ("", "_sham", "_untrained", "_constant")
    head_arms = [name + kind for name in ("fear", "hope", "curiosity") for kind in kinds]
    assert [arm.name for arm in arms] == [*CONTROLS, *head_arms, *CONSTANT_POTENTIALS, "lesion"]
    assert [arm.name for arm in arms if arm.randomised] == ["random"]
    assert [arm.name for arm in arms if not arm.control] == ["none", "fear", "hope", "curiosity"]
    assert (run_config.seeds, run_config.episodes, run_config.optimise) == (20, 256, True)
    assert 20 <= run_config.chunks <= 200
    assert 200_000 <= run_config.steps <= 217_000
    assert run_config.agent.anneal == run_config.chunks * run_config.updates
    assert run_config.rows % len(jax.devices()) == 0 and run_config.rows >= 20
    assert len(suite.points()) == 1 + 4 * len(suite.shifts)
    assert experiment.plan.primary == ("fear_constant", "constant_plus")


def test_quick_design_has_one_head_and_three_seeds_and_lists_omitted_arms():
    experiment = make_experiment(Settings(quick=True))
    names, run_config = [arm.name for arm in experiment.all_arms], experiment.run_config
    assert names == ["none", "constant_plus", "fear", "fear_untrained"]
    omitted = {*CONTROLS, *FEAR_ARMS, *CONSTANT_POTENTIALS, "lesion"} - set(names)
    assert set(experiment.plan.without) == omitted
    assert not experiment.probe_signals
    sizes = run_config.seeds, run_config.episodes, experiment.suite.severities
    assert sizes == (3, 64, (0.5, 1.0))
    assert 100_000 < run_config.steps < 110_000


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_host_design_has_its_own_preset(id):
    experiment = make_experiment(Settings(env=id, workers=0))
    run_config = experiment.run_config
    assert isinstance(experiment.suite.env, HostEnv)
    assert "random" not in [arm.name for arm in experiment.all_arms]
    assert run_config.agent.normalise
    assert (run_config.agent.entropy == 0) == (id == "Pendulum-v1")
    assert run_config.chunks == 100_000 // run_config.chunk_steps == run_config.agent.anneal
    assert run_config.episodes == 8


def test_settings_override_the_preset():
    changes = {"seeds": 5, "shifts": ("noise",), "without": ("hope_sham", "random")}
    experiment = make_experiment(Settings(env="CartPole", heads=("hope",), steps=10_000, **changes))
    assert [shift.name for shift in experiment.suite.shifts] == ["noise"]
    assert experiment.run_config.seeds == 5 and 9_000 < experiment.run_config.steps <= 10_000
    names = [arm.name for arm in experiment.all_arms]
    assert "hope_constant" in names and "hope_sham" not in names
    assert experiment.plan.without == ("hope_sham", "random")
    assert make_experiment(Settings(env="CartPole", steps=1)).run_config.steps == 512  # one update


@pytest.mark.slow
def test_class_in_a_file_with_arguments_and_what_cannot_be_seeded_is_accepted_on_request():
    file = Path(__file__).parents[1] / "envs" / "strange.py"
    settings = Settings(env=f"{file}:NeedsSize", env_kwargs='{"size": 2}', heads=("hope",))
    host = make_experiment(settings).suite.env
    assert (host.id, host.reproducible) == ("NeedsSize", True)
    clock = replace(settings, env=f"{file}:Clock", env_kwargs="")
    with pytest.raises(UserError, match="gave another reward .* or --not-reproducible"):
        make_experiment(clock)
    assert not make_experiment(replace(clock, not_reproducible=True)).suite.env.reproducible


@pytest.mark.parametrize(("requested", "scored"), [(1, 1), (9, 9), (40, 32)])
def test_episodes_are_rounded_to_equally_many_per_random_world(requested, scored):
    common = {"heads": ("fear",), "episodes": requested}
    for env, episodes in (({"env": "Drive"}, scored), (HOST, requested)):
        assert make_experiment(Settings(**env, **common)).run_config.episodes == episodes


# --- bad input --------------------------------------------------------------------------------


@pytest.fixture
def no_compilation(monkeypatch):
    """Fail if a study begins; devices of this process stay as they are."""
    monkeypatch.setattr(devices, "prepare_devices", lambda: None)
    for backend in (JaxBackend, HostBackend):
        monkeypatch.setattr(backend, "__init__", lambda *args: pytest.fail("a study began"))


def error_message(*argv) -> str:
    with pytest.raises(UserError) as caught:
        main([str(word) for word in argv])
    return " ".join(str(caught.value).split())


BAD_FLAGS = [
    ("--heads feer", "unknown head 'feer'; did you mean fear?"),
    ("--heads", "--heads: name at least one head"),
    ("--without fear_shame", "unknown arm 'fear_shame'; did you mean fear_sham?"),
    ("--without none", "unknown arm 'none'"),
    ("--heads fear fear", "--heads fear fear: name each head once"),
    ("--heads care --env CartPole", "care in CartPole: Homeostasis reads info['body'], reported"),
    ("--shifts noize", "unknown shift 'noize'; did you mean noise?"),
    ("--env CartPole-v1 --shifts extrapolation", "unknown shift 'extrapolation'; there are force,"),
    ("--env cartpole", "unknown environment 'cartpole'; did you mean CartPole?"),
    (f"--env {STRANGE}Text-v0", "is not made of numbers; keep only numeric keys by gymnasium.wrap"),
    ("--sealed dynamics", "random is sealed"),
    ("--seeds 2", "--seeds 2: an interval needs at least 3 seeds"),
    ("--config {file}", "--seeds 2: an interval needs at least 3 seeds"),
    ("--out {file}", "cannot be used: "),
    ("--out {file}/deeper", "cannot be used: "),
]


@pytest.mark.parametrize(("argv", "complaint"), BAD_FLAGS)
def test_bad_flags_are_refused(argv, complaint, no_compilation, tmp_path, capfd):
    file = tmp_path / "file"
    file.write_text("seeds: 2")
    argv = argv.format(file=file).split()
    if "--out" not in argv:
        argv += ["--out", tmp_path / "out"]
    begin = time.process_time()
    assert complaint in error_message(*argv)
    assert time.process_time() - begin < 5
    assert capfd.readouterr().err == ""  # `run_main` prints the line
    assert not list(tmp_path.glob("out/checkpoints"))


def test_folder_in_use_or_of_another_study_is_refused(no_compilation, tmp_path):
    with hold_lock(tmp_path):
        line = error_message("--smoke", "--out", tmp_path)
    assert line.startswith(f"{tmp_path} is in use by another run (process {os.getpid()}): ")
    claim_folder(tmp_path, identity(Settings()))
    claim_folder(tmp_path, identity(Settings(out=tmp_path, config=Path("other"), record=True)))
    line = error_message("--smoke", "--out", tmp_path)
    assert line.endswith("holds a study with other settings; choose another --out, or delete it")


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (
            HostFailure("CartPole-v1: environment 3 raised it", [3], [0], "raised"),
            "CartPole-v1: environment 3 raised it; run it again to resume",
        ),
        (
            OSError(28, "No space left on device", "scores.csv"),
            "scores.csv: No space left on device; mend this and run it again to resume",
        ),
        (UserError("bad"), "bad"),
    ],
)
def test_error_that_ends_a_study_is_one_line_and_closes_its_workers(
    error, complaint, tmp_path, monkeypatch
):
    def train(self, arm, phase):
        raise error

    closed = []
    monkeypatch.setattr(ArmRunner, "train", train)
    monkeypatch.setattr(JaxBackend, "prepare", lambda self, phase: None)
    monkeypatch.setattr(JaxBackend, "close", lambda self: closed.append(self))
    assert error_message(*SMOKE, "--out", tmp_path) == complaint
    assert len(closed) == 1


# --- slow: more of the real command -----------------------------------------------------------


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


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(2))
def test_run_killed_at_random_ends_as_the_uninterrupted_one(draw, smoke, tmp_path):
    rng, argv, kills = random.Random(draw), (*SMOKE, "--out", tmp_path), 0
    for _ in range(5):
        pause = time.monotonic() + rng.uniform(1, 12)
        ended = interrupt(start(*argv), signal.SIGKILL, lambda p=pause: time.monotonic() > p)
        kills += ended.code == -signal.SIGKILL
    assert kills
    run_here(*argv)
    assert_same_files(smoke[0], tmp_path)


@pytest.mark.slow
def test_run_killed_while_writing_ends_as_the_uninterrupted_one(smoke, tmp_path):
    argv, scores, curves = (*SMOKE, "--out", tmp_path), "scores.csv", "metrics.jsonl"
    for name, count in ((curves, 1), (scores, 2), (curves, 3), (scores, 8), (scores, 14)):
        path = tmp_path / name
        ended = interrupt(start(*argv), signal.SIGKILL, lambda p=path, n=count: count_lines(p) >= n)
        assert ended.code == -signal.SIGKILL
    run_here(*argv)
    assert_same_files(smoke[0], tmp_path)


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
    smoke = "--smoke", "--env", "CartPole-v1", "--workers", 2, "--shifts", *SHIFTS, "--without"
    argv = (*smoke, *(arm for arm in WITHOUT[1:] if arm != "random"), "--out", tmp_path / "stopped")
    process, workers = start(*argv), []

    def training():
        workers[:] = children(process.pid) or workers
        return count_lines(tmp_path / "stopped" / "metrics.jsonl") >= 3

    ended = interrupt(process, number, training)
    assert workers and all_ended(workers, 4)
    if number == signal.SIGKILL:
        assert ended.code == -number
    else:
        assert_stopped_in_time(ended, number, argv)
        assert list(tmp_path.glob("stopped/checkpoints/*/*-step-*"))
    run_here(*argv)
    run_here(*argv[:-1], tmp_path / "uninterrupted")
    assert_same_files(tmp_path / "stopped", tmp_path / "uninterrupted")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "score", "shifts"),
    [
        ("CartPole-v1", "success", "force length mass noise dropout flip delay"),
        ("LunarLander-v3", "success", "gravity wind noise dropout flip delay"),
        ("Pendulum-v1", "return", "gravity mass length noise dropout slip delay"),
        ("MiniGrid-DistShift1-v0", "success", "DistShift2 occlusion dropout flip delay"),
        ("Hopper-v5", "return", "mass friction"),
        ("MiniGrid-LavaCrossingS9N1-v0", "success", "rivers"),
    ],
)
def test_smoke_run_on_gymnasium_environments(id, score, shifts, tmp_path, capfd):
    without = [arm for arm in WITHOUT if arm != "random"]
    flags = "--env", id, "--shifts", *shifts.split(), *without
    printed = run_here("--smoke", *flags, "--out", tmp_path)
    messages = capfd.readouterr().err
    assert "Traceback" not in messages and "not filmed" not in messages
    assert not [line for line in messages.splitlines() if line.startswith("error")]
    rows = read_scores(tmp_path / "scores.csv")
    points = [("none", 0.0)] + [(shift, 1.0) for shift in shifts.split()]
    assert [(row["arm"], row["shift"], row["severity"], row["seed"]) for row in rows] == [
        (arm, *point, seed) for arm in SMOKE_ARMS for point in points for seed in range(3)
    ]
    assert all(np.isfinite(row["score"]) for row in rows)
    assert f"score: {score}" in printed


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_permanently_failing_host_ends_the_command_in_one_line(fault, tmp_path, monkeypatch):
    monkeypatch.setenv("FAULT", fault)
    process = start("--smoke", "--env", f"{STRANGE}Faulty-v0", "--out", tmp_path)
    _, messages = process.communicate(timeout=1500)
    assert process.returncode == 2 and "Traceback" not in messages
    errors = [line for line in messages.splitlines() if line.startswith("error: ")]
    assert errors == messages.splitlines()[-1:]
    assert errors[0].startswith(f"error: {STRANGE}Faulty-v0: environment ")
    assert "3 times in a row" in errors[0]
