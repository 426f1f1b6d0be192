"""The benchmark: rows, order of measurements, worker processes, tables and operation counts."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib import util
from pathlib import Path

import pytest

from runs import benchmark
from runs.bench import paired_timing
from runs.bench.job import Job
from runs.bench.matmul_ceiling import matmul_flops, matmul_updates
from runs.bench.paired_timing import (
    Result,
    TimedPair,
    Worker,
    WorkerFailed,
    Workers,
    alternate,
    in_new_processes,
)
from runs.bench.timing_table import meets_goal, ratios, record_table, table_row
from runs.bench.worker import OURS, PEERS
from runs.benchmark import (
    COMPILATION,
    HEADS,
    INSTALL,
    REJAX,
    Settings,
    check,
    smoke_job,
    timed_pairs,
)
from runs.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
OURS_JOB, OTHER_JOB = Job("ours", 4, 1), Job("rejax", 4, 1)


def timed_result(*seconds: tuple[float, float], goal=None, unit=" s") -> Result:
    """Make the result of a row with the given seconds (ours, other) per pair."""
    row = TimedPair("training", "a / b", OURS_JOB, OTHER_JOB, goal, unit)
    pairs = tuple(tuple({"steps": 10, "seconds": value} for value in pair) for pair in seconds)
    return Result(row, pairs)


# --- the command --------------------------------------------------------------------------------


ALL = pytest.param(benchmark.PARTS, marks=pytest.mark.slow)


@pytest.mark.parametrize("parts", [("report",), ALL])
def test_smoke_run_prints_every_row_or_why_it_is_left_out(parts):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-m", "runs.benchmark", "--smoke", "--parts", *parts],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = timed_pairs(Settings(parts=parts))
    assert {row.part for row in rows} == set(parts)
    for row in rows:
        absent = row.other.kind in PEERS and util.find_spec(row.other.kind) is None
        line = next(line for line in done.stdout.splitlines() if f"│ {row.title} " in line)
        assert ("left out" in line) == absent, line
        assert (f"left out: {row.title}: {INSTALL}" in done.stdout) == absent
        assert f"{row.title}: " in done.stderr
    assert "devices " in done.stdout


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (Settings(parts=("trianing",)), "training"),
        (Settings(parts=()), "--parts"),
        (Settings(repeats=0), "--repeats 0"),
        (Settings(smoke=True, record=True), "--record"),
    ],
)
def test_invalid_settings_are_refused(settings, word):
    with pytest.raises(UserError, match=word):
        check(settings)


def test_parts_select_rows_and_smoke_keeps_all_rows():
    assert {row.part for row in timed_pairs(Settings(parts=("heads", "memory")))} == {
        "heads",
        "memory",
    }
    full, smoke = timed_pairs(Settings()), timed_pairs(Settings(smoke=True))
    assert [row.title for row in full] == [row.title for row in smoke]
    assert all(row.ours.steps <= 2 * 4 * 8 * 10 for row in smoke)
    assert {row.ours.kind for row in full} | {row.other.kind for row in full} == {*OURS, *PEERS}


def test_both_sides_of_a_training_row_do_the_same_work():
    for row in timed_pairs(Settings()):
        if row.part in ("training", "heads", "ceiling"):
            ours, other = row.ours, row.other
            assert (ours.num_envs, ours.num_steps) == (other.num_envs, other.num_steps)
        if row.other.kind in ("rejax", "ceiling") or row.part == "heads":
            assert replace(row.ours, heads=()) == replace(row.other, kind="ours")


# --- order --------------------------------------------------------------------------------------


class Recording(Workers):
    """Workers that record each request and return its number as the seconds."""

    def __init__(self):
        self.requests = []

    def worker_for(self, job):
        return self

    def request(self, verb, job):
        self.requests.append((job.kind, None))
        return {"seconds": float(len(self.requests))}

    def measure_once(self, job, cache=None):
        self.requests.append((job.kind, cache))
        return {"seconds": float(len(self.requests))}


def test_sides_alternate_and_so_does_the_order_within_a_pair():
    workers = Recording()
    pairs = list(alternate(timed_result().row, 3, workers))
    kinds = [kind for kind, _ in workers.requests]
    assert kinds == ["ours", "rejax", "rejax", "ours", "ours", "rejax"]
    assert [(a["seconds"], b["seconds"]) for a, b in pairs] == [(1, 2), (4, 3), (5, 6)]


def test_cold_process_precedes_the_cached_one_in_the_same_folder():
    workers = Recording()
    pairs = list(in_new_processes(replace(timed_result().row, fresh="empty"), 2, workers))
    assert [kind for kind, _ in workers.requests] == ["rejax", "ours"] * 2
    folders = [folder for _, folder in workers.requests]
    assert folders[0] == folders[1] != folders[2] == folders[3]
    assert not any(Path(folder).exists() for folder in folders)
    assert [(a["seconds"], b["seconds"]) for a, b in pairs] == [(2, 1), (4, 3)]


def test_uncounted_pair_fills_the_cache():
    workers = Recording()
    pairs = list(in_new_processes(replace(timed_result().row, fresh="filled"), 5, workers))
    assert [(a["seconds"], b["seconds"]) for a, b in pairs] == [(4, 3), (6, 5), (8, 7)]
    assert {folder for _, folder in workers.requests} == {None}


def test_missing_peer_is_left_out(monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    messages, workers = [], Workers(shared=False)
    results = benchmark.measure(Settings(parts=("training",)), workers, messages.append)
    assert [result.reason for result in results] == [INSTALL] * 6
    assert not workers.by_job
    assert sum(INSTALL in line for line in messages) == 6


# --- processes ----------------------------------------------------------------------------------


def test_worker_reports_errors_and_its_death_is_reported():
    worker = Worker()
    try:
        with pytest.raises(WorkerFailed, match="KeyError: 'nonsense'"):
            worker.request("prepare", Job("nonsense", 1, 1))
        with pytest.raises(WorkerFailed, match="KeyError"):  # alive, but this job was not prepared
            worker.request("measure", Job("ours", 1, 1))
        worker.process.kill()
        with pytest.raises(WorkerFailed, match="the process died, exit code -9"):
            worker.request("measure", Job("ours", 1, 1))
    finally:
        worker.close()


def test_hanging_process_is_killed(monkeypatch):
    monkeypatch.setattr(paired_timing, "LIMIT", 0.2)
    worker = Worker()
    try:
        monkeypatch.setattr(worker.process.stdin, "write", lambda text: None)  # the request is lost
        with pytest.raises(WorkerFailed, match="no answer within 0 s"):
            worker.request("measure", Job("ours", 1, 1))
        assert worker.process.wait(10) == -9
    finally:
        worker.close()


# --- tables -------------------------------------------------------------------------------------


def test_ratios_are_computed_per_pair():
    """A machine that slows down for a whole pair does not move its ratio."""
    result = timed_result((2.0, 1.0), (200.0, 100.0), (6.0, 2.0))
    assert ratios(result) == [2.0, 2.0, 3.0]
    assert table_row(result)[1:4] == ["6.00 s", "2.00 s", "2.00 [2.00, 3.00]"]


def test_rate_is_steps_per_second():
    result = timed_result((2.0, 1.0), unit="/s")
    assert ratios(result) == [0.5]
    assert table_row(result)[1:3] == ["5/s", "10/s"]


@pytest.mark.parametrize(
    ("goal", "pairs", "verdict"),
    [
        (REJAX, [(1.7, 1.0), (9.0, 1.0), (1.0, 1.0)], True),
        (REJAX, [(1.6, 1.0), (9.0, 1.0), (1.0, 1.0)], False),
        (HEADS, [(1.3, 1.0)], True),
        (HEADS, [(1.4, 1.0)], False),
        (COMPILATION, [(2.9, 1.0)], True),  # seconds, whatever the ratio
        (COMPILATION, [(3.1, 30.0)], False),
        (None, [(1.0, 1.0)], None),
        (REJAX, [], None),
    ],
)
def test_goal_is_compared_with_the_median(goal, pairs, verdict):
    assert meets_goal(timed_result(*pairs, goal=goal)) is verdict


def test_record_writes_the_table_and_every_pair(tmp_path):
    missing = Result(replace(timed_result().row, title="c / d"), (), INSTALL)
    results = [timed_result((2.0, 1.0), (3.0, 1.0), goal=REJAX), missing]
    record_table(results, {"machine": "abacus"}, "python -m runs.benchmark", tmp_path / "results")
    text = (tmp_path / "results" / "benchmark.md").read_text()
    expected = "| a / b | 2.50 s | 1.00 s | 2.50 [2.00, 3.00] | at least 1.7, aim 2 | yes |"
    for part in (expected, "machine abacus", "`python -m runs.benchmark`", f"c / d: {INSTALL}"):
        assert part in text
    with (tmp_path / "results" / "benchmark.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["repeat"], row["ratio"]) for row in rows] == [("0", "2.0"), ("1", "3.0")]


# --- the ceiling --------------------------------------------------------------------------------


def test_matmul_flops_match_a_hand_count():
    """One step, one epoch, networks 4-3-3-2 and 4-3-3-1."""
    from agents.ppo import PPO

    agent = PPO(width=3, epochs=1, minibatches=1)
    actor_forward = 4 * 3 + 3 * 3 + 3 * 2  # 27
    critic_forward = 4 * 3 + 3 * 3 + 3 * 1  # 24
    actor_backward = actor_forward + 3 * 3 + 3 * 2  # weights; inputs of the last two layers
    critic_backward = critic_forward + 3 * 3 + 3 * 1
    actor = 3 * actor_forward + actor_backward  # rollout, old log-probability, one epoch
    critic = 3 * critic_forward + critic_backward  # observation, successor, one epoch
    count = matmul_flops(agent, Job("ceiling", 1, 1, num_envs=1, num_steps=1))
    assert count == 2 * (actor + critic) == 462


def test_matmul_program_has_as_many_flops_as_counted():
    import jax

    from agents.ppo import PPO

    agent = PPO(width=5, epochs=3, minibatches=2)
    job = Job("ceiling", seeds=1, updates=7, num_envs=2, num_steps=6)
    program = jax.make_jaxpr(partial(matmul_updates, agent=agent, job=job))(jax.random.key(0))
    assert flops(program.jaxpr) == job.updates * matmul_flops(agent, job)


def flops(jaxpr) -> int:
    """Count 2 m k n for each product of a program, times the repeats of its enclosing loops."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            inner = 1
            for axis in contracted:
                inner *= left[axis]
            total += 2 * inner * equation.outvars[0].aval.size
        repeats = equation.params.get("length", 1)
        for name in ("jaxpr", "call_jaxpr"):
            if name in equation.params:
                inner_jaxpr = equation.params[name]
                total += repeats * flops(getattr(inner_jaxpr, "jaxpr", inner_jaxpr))
    return total


def test_smoke_jobs_are_small():
    assert smoke_job(Job("memory", 2, 1000, heads=("fear",))).updates == 10
    assert smoke_job(Job("ours", 4, 16, heads=("fear", "hope"))).heads == ("fear",)


# --- the peers, where they are installed ----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", PEERS)
def test_peer_trains(kind):
    if util.find_spec(kind) is None:
        pytest.skip(f"{kind} is {INSTALL}")
    workers, job = Workers(shared=False), Job(kind, 1, 2, num_envs=4, num_steps=8)
    try:
        sample = workers.measure_once(job)
    finally:
        workers.close()
    assert sample["steps"] == 64
    assert sample["seconds"] > 0
