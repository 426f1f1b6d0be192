"""The benchmark: rows, order of measurements, worker processes, tables and operation counts."""

import csv
import math
import os
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from agents.ppo import PPO
from runs import benchmark
from runs.bench import timing
from runs.bench.rivals import product_updates
from runs.bench.table import meets_goal, pairs_csv, ratios, remarks, table_row
from runs.bench.timing import (
    PEERS,
    TimedPair,
    TimedResult,
    Worker,
    WorkerFailed,
    Workload,
    alternate,
    in_new_processes,
)
from runs.benchmark import INSTALL, Settings, installed, main, smoke_load, timed_pairs

LOAD = Workload("training.time_training", 4, 1)
OTHER = Workload("rivals.rejax", 4, 1)


def timed_result(*seconds: tuple[float, float], goal="", unit=" s") -> TimedResult:
    """Make the result of a row with the given seconds (ours, other) per pair."""
    row = TimedPair("training", "a / b", LOAD, OTHER, goal, unit)
    pairs = tuple(tuple({"steps": 10, "seconds": value} for value in pair) for pair in seconds)
    return TimedResult(row, pairs)


# --- the command --------------------------------------------------------------------------------


ALL = pytest.param(benchmark.PARTS, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [("report",), ("accelerator",), ALL])
def test_smoke_run_prints_every_row_or_why_it_is_left_out(parts, tmp_path, monkeypatch, capsys):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
    monkeypatch.setenv("XLA_FLAGS", flags)  # of the worker process
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    assert main(["--smoke", "--out", str(tmp_path), "--parts", *parts]) == 0
    printed = capsys.readouterr()
    rows = timed_pairs(Settings(parts=parts))
    assert {row.part for row in rows} == set(parts)
    for row in rows:
        absent = not all(map(installed, row.ours.modules | row.other.modules))
        line = next(line for line in printed.out.splitlines() if f"| {row.title} " in line)
        assert ("left out" in line) == absent, line
        assert (f"left out: {row.title}: {INSTALL}" in printed.out) == absent
        assert f"{row.title}: " in printed.err
    assert "devices " in printed.out
    with next(tmp_path.glob("*.csv")).open() as file:
        assert {row["row"] for row in csv.DictReader(file)} <= {row.title for row in rows}


def test_parts_select_rows_and_smoke_keeps_all_rows_but_makes_them_small():
    rows = timed_pairs(Settings(parts=("heads", "memory")))
    assert {row.part for row in rows} == {"heads", "memory"}
    full, smoke = timed_pairs(Settings()), timed_pairs(Settings(smoke=True))
    assert {row.part for row in full} == set(benchmark.PARTS)
    assert [row.title for row in full] == [row.title for row in smoke]
    assert all(row.ours.steps <= 2 * 4 * 8 * 10 for row in smoke)
    assert smoke_load(replace(LOAD, heads=("fear", "hope"))).heads == ("fear",)


def test_both_sides_of_a_training_row_do_the_same_work():
    for row in timed_pairs(Settings()):
        ours, other = row.ours, row.other
        if row.part in ("training", "heads", "ceiling"):
            assert (ours.num_envs, ours.num_steps) == (other.num_envs, other.num_steps)
        if other.prepare in ("rivals.rejax", "rivals.time_products") or row.part == "heads":
            assert (ours.seeds, ours.updates) == (other.seeds, other.updates)


def test_missing_peer_is_left_out(monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    messages = []
    progress = SimpleNamespace(say=messages.append, advance=lambda *units: None)
    job = SimpleNamespace(progress=progress, stopped=lambda: False)
    results = list(benchmark.measure(Settings(parts=("training",)), None, job))
    assert [result.reason for result in results] == [INSTALL] * 6
    assert sum(INSTALL in line for line in messages) == 6


# --- order --------------------------------------------------------------------------------------


class Recording:
    """Records each measurement and returns its number as the seconds."""

    def __init__(self):
        self.sides, self.caches = [], []

    @contextmanager
    def new_worker(self, cache=None):
        self.caches.append(cache)
        yield self

    def request(self, verb, load):
        if verb == "measure":
            self.sides.append("ours" if load == LOAD else "other")
        return {"seconds": float(len(self.sides))}


def seconds(pairs) -> list[tuple[float, float]]:
    return [(ours["seconds"], other["seconds"]) for ours, other in pairs]


def test_sides_alternate_and_so_does_the_order_within_a_pair():
    worker = Recording()
    pairs = list(alternate(timed_result().row, 3, worker.new_worker))
    assert worker.sides == ["ours", "other", "other", "ours", "ours", "other"]
    assert seconds(pairs) == [(1, 2), (4, 3), (5, 6)]


def test_cold_process_precedes_the_cached_one_in_the_same_folder():
    worker = Recording()
    row = replace(timed_result().row, fresh="empty")
    assert seconds(in_new_processes(row, 2, worker.new_worker)) == [(2, 1), (4, 3)]
    first, second, third, fourth = worker.caches
    assert first == second != third == fourth
    assert not any(Path(folder).exists() for folder in worker.caches)


def test_uncounted_pair_fills_the_cache():
    worker = Recording()
    row = replace(timed_result().row, fresh="filled")
    assert seconds(in_new_processes(row, 5, worker.new_worker)) == [(4, 3), (6, 5), (8, 7)]
    assert set(worker.caches) == {None}


# --- processes ----------------------------------------------------------------------------------


def test_worker_reports_errors_and_its_death_is_reported():
    with Worker() as worker:
        with pytest.raises(WorkerFailed, match="AttributeError: .* no attribute 'nothing'"):
            worker.request("prepare", Workload("table.nothing", 1))
        with pytest.raises(WorkerFailed, match="KeyError"):  # alive, but this was not prepared
            worker.request("measure", LOAD)
        worker.process.kill()
        with pytest.raises(WorkerFailed, match="the process died, exit code -9"):
            worker.request("measure", LOAD)


def test_hanging_process_is_killed(monkeypatch):
    monkeypatch.setattr(timing, "LIMIT", 0.2)
    with Worker() as worker:
        monkeypatch.setattr(worker.connection, "send", lambda request: None)  # it is lost
        with pytest.raises(WorkerFailed, match="no answer within 0 s"):
            worker.request("measure", LOAD)
        worker.process.join(10)
        assert worker.process.exitcode == -9


# --- tables -------------------------------------------------------------------------------------


def test_ratios_are_computed_per_pair_in_the_unit_of_the_row():
    """A machine that slows down for a whole pair does not move its ratio."""
    result = timed_result((2.0, 1.0), (200.0, 100.0), (6.0, 2.0))
    assert ratios(result) == [2.0, 2.0, 3.0]
    assert table_row(result)[1:4] == ["6.00 s", "2.00 s", "2.00 [2.00, 3.00]"]
    rate = timed_result((2.0, 1.0), unit="/s")
    assert table_row(rate)[1:4] == ["5/s", "10/s", "0.50 [0.50, 0.50]"]


@pytest.mark.parametrize(
    ("goal", "pairs", "verdict"),
    [
        ("ratio >= 1.7", [(1.7, 1.0), (9.0, 1.0), (1.0, 1.0)], True),
        ("ratio >= 1.7", [(1.6, 1.0), (9.0, 1.0), (1.0, 1.0)], False),
        ("ratio < 1.35", [(1.3, 1.0)], True),
        ("ratio < 1.35", [(1.4, 1.0)], False),
        ("ours < 3", [(2.9, 1.0)], True),  # seconds, whatever the ratio
        ("ours < 3", [(3.1, 30.0)], False),
        ("difference < 0.3", [(1.2, 1.0), (9.0, 1.0), (0.5, 1.0)], True),
        ("difference < 0.3", [(1.4, 1.0)], False),
        ("", [(1.0, 1.0)], None),
        ("ratio >= 1.7", [], None),
    ],
)
def test_goal_is_compared_with_the_median(goal, pairs, verdict):
    assert meets_goal(timed_result(*pairs, goal=goal)) is verdict


def test_every_pair_is_written_and_rows_left_out_are_named():
    missing = TimedResult(replace(timed_result().row, title="c / d"), (), INSTALL)
    results = [timed_result((2.0, 1.0), (3.0, 1.0), goal="ratio >= 1.7"), missing]
    assert table_row(results[0])[3:] == ["2.50 [2.00, 3.00]", "ratio >= 1.7", "yes"]
    assert table_row(missing) == ["c / d", "-", "-", "left out", "-", "-"]
    assert remarks(results) == [f"left out: c / d: {INSTALL}"]
    sides = {"seconds": 1.0, "busy": 0.5}, {"seconds": 1.0, "busy": 0.875}
    hosts = TimedResult(replace(results[0].row, part="hosts"), (sides, sides))
    assert remarks([hosts]) == ["a / b: the processors computed for 50 % and 88 % of the time"]
    rows = list(csv.DictReader(pairs_csv(results).splitlines()))
    assert [(row["repeat"], row["ratio"]) for row in rows] == [("0", "2.0"), ("1", "3.0")]


# --- the ceiling --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "sizes"),
    [
        ({"width": 3, "epochs": 1, "minibatches": 1}, {"num_envs": 1, "num_steps": 1}),
        ({"width": 5, "epochs": 3, "minibatches": 2}, {"num_envs": 2, "num_steps": 6}),
    ],
)
def test_bare_products_are_those_of_ppo(agent, sizes):
    """2 m k n operations for a product [m, k] x [k, n], counted by hand for one update."""
    agent, load = PPO(**agent), replace(LOAD, updates=7, **sizes)
    first, inner, actor_last, critic_last = (
        4 * agent.width,
        agent.width**2,
        2 * agent.width,
        agent.width,
    )
    actor, critic = first + inner + actor_last, first + inner + critic_last
    forward = 2 * actor  # every step of the rollout, and once more for the old log-probability
    forward += 2 * critic  # every observation, and its successor
    backward = actor + inner + actor_last  # weights; inputs of the last two layers
    backward += critic + inner + critic_last
    samples = load.num_envs * load.num_steps
    expected = 2 * samples * (forward + agent.epochs * (actor + critic + backward))
    program = jax.make_jaxpr(partial(product_updates, agent=agent, load=load))(jax.random.key(0))
    assert flops(program.jaxpr) == load.updates * expected


def flops(jaxpr) -> int:
    """Count 2 m k n for each product of a program, times the repeats of its enclosing loops."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * inner * equation.outvars[0].aval.size
        repeats = equation.params.get("length", 1)
        for name in ("jaxpr", "call_jaxpr"):
            if name in equation.params:
                inner_jaxpr = equation.params[name]
                total += repeats * flops(getattr(inner_jaxpr, "jaxpr", inner_jaxpr))
    return total


# --- the peers, where they are installed ----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
def test_peer_trains(peer):
    if not installed(peer):
        pytest.skip(f"{peer} is {INSTALL}")
    load = Workload(f"rivals.{peer}", 1, 2, num_envs=4, num_steps=8)
    with Worker() as worker:
        worker.request("prepare", load)
        sample = worker.request("measure", load)
    assert sample["steps"] == 64
    assert sample["seconds"] > 0
