"""Table of a sweep: by hand from score rows, the best with its optimism, reports, 10,000 cells."""

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from affect import Blend, Hope, Potential
from agents import PPO
from runs.analysis import stats
from runs.analysis.scores import COLUMNS, rows_as_csv
from runs.errors import UserError
from runs.experiment import Experiment
from runs.prereg import ledger
from runs.scale.division import divide
from runs.scale.grid import point_digest
from runs.scale.page import NAME, figure, write_reports
from runs.scale.space import Space
from runs.scale.table import SweepResult, seed_table
from tests.runs import small_study

ARMS = {"none": Blend(), "hope": Blend(hope=(1.0, Potential(Hope)))}
SIZES = {"seeds": 6, "steps": 48, "num_envs": 2, "num_steps": 8, "episodes": 2}
SUITE = replace(small_study.suite(), severities=(0.5, 1.0))
GRID = [{"heads.hope.horizon": h, "weight": w} for h in (5, 10, 20) for w in (1, 3)]


def score(point: str, arm: str, seed: int, shift: str, severity: float) -> float:
    """A score that depends on everything."""
    entropy = [ord(c) for c in f"{point}{arm}{shift}"] + [seed, int(10 * severity)]
    return float(np.random.default_rng(entropy).normal())


def rows_of(cell, points=(("none", 0.0), ("force", 0.5), ("force", 1.0), ("flip", 1.0))):
    return [
        dict.fromkeys(COLUMNS, 0.0)
        | {"env": "CartPole", "arm": cell.arm, "shift": shift, "severity": severity, "seed": seed}
        | {"variant": name, "score": score(name, cell.arm, seed, shift, severity)}
        for name in cell.variants
        for shift, severity in points
        for seed in range(cell.first, cell.first + cell.seeds)
    ]


def write_cell(folder: Path, rows: list[dict]) -> None:
    """Write the result of a cell as `write_result` does, but without syncs of the disk."""
    folder.mkdir(parents=True)
    text = rows_as_csv(rows, header=True, columns=("variant", *COLUMNS))
    (folder / "result.csv").write_text(text)
    done = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "checkpoint": "c"}
    (folder / "done.json").write_text(json.dumps(done))


@pytest.fixture
def result(tmp_path):
    space = Space(Experiment(SUITE, ARMS, PPO(width=8, epochs=1, minibatches=2), **SIZES))
    points = space.points(GRID)
    cells, sources = divide(space, points, block=4, together=2)
    result = SweepResult(tmp_path, space, points, cells, sources)
    for cell, folder in zip(cells, result.folders, strict=True):
        write_cell(folder, rows_of(cell))
    return result


def expected(result, point: dict, arm: str, seed: int) -> tuple[float, float, float]:
    """Score at home, over shifted points, and under the worst shift, by hand."""
    name = result.sources[point_digest(point), arm]
    force, flip = (
        [score(name, arm, seed, shift, s) for s in severities]
        for shift, severities in (("force", (0.5, 1.0)), ("flip", (1.0,)))
    )
    home = score(name, arm, seed, "none", 0.0)
    return home, np.mean(force + flip), min(np.mean(force), np.mean(flip))


def test_the_table_has_a_row_a_setting_arm_and_seed(result):
    table = result.table
    assert list(table) == [
        *("point", "heads.hope.horizon", "weight", "arm", "seed", "home", "shifts", "worst")
    ]
    assert len(table) == len(GRID) * 2 * 6 and not table.duplicated(["point", "arm", "seed"]).any()
    for row in table.itertuples(index=False):
        point = next(p for p in result.points if point_digest(p) == row[0])
        assert tuple(row[1:3]) == tuple(point.values())
        by_hand = expected(result, point, row.arm, row.seed)
        assert (row.home, row.shifts, row.worst) == pytest.approx(by_hand)


def test_a_seed_with_a_score_that_is_no_number_is_left_out():
    rows = [
        {"variant": "p", "arm": "a", "seed": s, "shift": x, "severity": 1.0, "score": v}
        for s, x, v in [(0, "none", 1.0), (0, "ice", 2.0), (1, "none", 1.0), (1, "ice", np.inf)]
    ]
    table = seed_table(pd.DataFrame(rows))
    assert table.loc[0, ["home", "shifts", "worst"]].tolist() == [1.0, 2.0, 2.0]
    assert table.loc[1, ["home", "shifts", "worst"]].isna().all()


def test_the_best_setting_and_the_optimism_of_having_looked(result):
    gains = {}
    for point in result.points:
        sides = [
            np.array([expected(result, point, arm, seed)[1] for seed in range(6)])
            for arm in ("hope", "none")
        ]
        gains[point_digest(point)] = stats.difference(*sides), stats.difference_error(*sides)
    best = result.best(("hope", "none"))
    estimate, error = max(gains.values(), key=lambda gain: gain[0].value)
    assert best.estimate == pytest.approx(estimate)
    assert best.point == result.points[list(gains).index(point_digest(best.point))]
    assert best.looks == len(GRID)
    assert best.optimism == pytest.approx(stats.optimism(len(GRID)) * error)
    alone = result.best(("none",))  # no setting changes it: a single look
    assert alone.looks == 1 and alone.optimism == 0.0


def test_a_claim_is_the_best_setting_with_new_seeds(result, tmp_path):
    best = result.best(("hope", "none"))
    claim = result.claim(base=1, out=tmp_path / "claim", contrast=("hope", "none"))
    assert claim.base == 1 and claim.plan.primary == ("hope", "none")
    (arm,) = (arm for arm in claim.all_arms if arm.name == "hope")
    weight, factory = arm.blend.heads["hope"]
    assert weight == best.point["weight"]
    assert factory == Potential(Hope(horizon=best.point["heads.hope.horizon"]))
    with pytest.raises(UserError, match="base 0: the setting was chosen with these seeds"):
        result.claim(base=0)


def test_the_optimism_is_what_the_best_of_null_settings_gains():
    rng, gains = np.random.default_rng(0), []
    for _ in range(2_000):
        x, y = rng.normal(size=(2, 12, 20))
        in_errors = (x.mean(1) - y.mean(1)) / stats.difference_error(x, y)
        gains.append(in_errors.max())
    assert np.mean(gains) == pytest.approx(stats.optimism(12), abs=0.08)


def test_a_changed_or_missing_result_is_refused(result):
    path = result.folders[3] / "result.csv"
    path.write_text(path.read_text().replace("0.0", "9.0", 1))
    with pytest.raises(UserError, match="is not done or was changed"):
        _ = result.table


def test_a_cell_that_failed_takes_its_points_alone_out_of_the_result(result):
    variant = result.sources[point_digest(result.points[0]), "hope"]
    folder = result.folders_of["hope", variant][0]
    (folder / "result.csv").unlink()
    rest = result.without({folder})
    assert 0 < len(rest.points) < len(result.points) and result.points[0] not in rest.points
    assert set(rest.table["point"]) == set(map(point_digest, rest.points))
    assert rest.best(("hope", "none")).looks == len(rest.points)
    with pytest.raises(UserError, match="no setting was run"):
        result.without(result.folders).best(("hope", "none"))


def hparams_of(folder: Path) -> tuple[dict, set[str]]:
    """Values and declared columns of a session of the HPARAMS tab."""
    events = EventAccumulator(str(folder))
    events.Reload()
    metadata = events.summary_metadata
    start, experiment = (
        plugin_data_pb2.HParamsPluginData.FromString(metadata[tag].plugin_data.content)
        for tag in ("_hparams_/session_start_info", "_hparams_/experiment")
    )
    values = {
        name: value.number_value if value.HasField("number_value") else value.string_value
        for name, value in start.session_start_info.hparams.items()
    }
    return values, {info.name for info in experiment.experiment.hparam_infos}


def test_reports_table_page_figure_sessions_and_looks(result):
    text = write_reports(("hope", "none"), result, "the command")
    best = result.best(("hope", "none"))
    assert f"Best of 6: heads.hope.horizon = {best.point['heads.hope.horizon']}" in text
    assert f"gains {best.optimism:.3f} by chance" in text and "`the command`" in text
    assert len(pd.read_csv(result.out / f"{NAME}.csv")) == 72
    assert (result.out / f"{NAME}.png").stat().st_size > 5_000
    sessions = sorted((result.out / "tb" / NAME).iterdir())
    assert len(sessions) == 12
    for folder in sessions:
        values, columns = hparams_of(folder)
        assert {"heads.hope.horizon", "heads.hope.width", "agent.lr", "weight", "arm"} <= columns
        assert values["heads.hope.horizon"] in (5.0, 10.0, 20.0)  # a number, for parallel axes
    entries = ledger.read_entries(result.out / ledger.NAME)
    assert ledger.problems(result.out / ledger.NAME) == []
    assert ledger.count_looks([result.out / ledger.NAME], entries[0].suite).dev == 6
    write_reports(("hope", "none"), result, "the command")  # again: nothing is a look anew
    assert len(ledger.read_entries(result.out / ledger.NAME)) == 6
    assert len(list((result.out / "tb").rglob("*tfevents*"))) == 12


def test_three_settings_are_drawn_as_curves(tmp_path):
    table = pd.DataFrame(
        {"a": [1, 2] * 4, "b": ["x", "x", "y", "y"] * 2, "c": [True] * 4 + [False] * 4}
        | {"value": np.arange(8.0), "low": np.arange(8.0) - 1, "high": np.arange(8.0) + 1}
    )
    figure(table, ["a", "b", "c"], "score", tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 5_000


MEASURE = """
import json, resource, sys, time
from pathlib import Path
from runs.scale.table import read_results, seed_table, tidy_table
import pandas as pd
folders = sorted(Path(sys.argv[1]).iterdir())
points = [{"a": i, "b": i / 7} for i in range(1000)]
from runs.scale.grid import point_digest
before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
seeds = pd.concat(map(seed_table, read_results(folders)), ignore_index=True)
sources = {(point_digest(p), "hope"): point_digest(p) for p in points}
table = tidy_table(seeds, points, sources)
seconds = time.monotonic() - begin
table.to_csv(sys.argv[2], index=False)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([len(table), seconds, before / 1e6, peak / 1e6]))
"""


@pytest.mark.slow
def test_ten_thousand_cells_are_aggregated_in_a_minute_and_two_gigabytes(tmp_path, capsys):
    """1,000 settings x 200 seeds in blocks of 20, each scored at 29 points: 5.8 million rows."""
    shifts = [("none", 0.0)] + [(f"s{i}", s) for i in range(7) for s in (0.25, 0.5, 0.75, 1.0)]
    rng, begin = np.random.default_rng(0), time.monotonic()
    for i in range(1_000):
        name = point_digest({"a": i, "b": i / 7})
        for block in range(10):
            head = dict.fromkeys(COLUMNS, 0.123456789012345) | {"env": "Drive", "arm": "hope"}
            rows = [
                head | {"variant": name, "seed": 20 * block + seed, "shift": shift, "severity": s}
                for shift, s in shifts
                for seed in range(20)
            ]
            for row, value in zip(rows, rng.random(len(rows)), strict=True):
                row["score"] = value
            write_cell(tmp_path / "cells" / f"{i:04d}-{block}", rows)
    written = time.monotonic() - begin
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "cells"), str(tmp_path / "t.csv")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    count, seconds, before, peak = json.loads(done.stdout)
    with capsys.disabled():
        print(
            f"\n10,000 cells, {len(shifts) * 200_000:,} rows, written in {written:.0f} s: "
            f"{seconds:.1f} s, peak {peak:.2f} GB (before {before:.2f})"
        )
    assert count == 200_000
    assert seconds < 60 and peak < 2.0
