"""Tables, figure and files of a comparison, from score tables with known results."""

import re

import numpy as np
import pytest

from runs.analysis.scores import read_scores
from runs.analysis.stats import difference, mean
from runs.errors import UserError
from runs.names import safe_name
from runs.prereg.plan_file import Plan
from runs.report import comparison as module
from runs.report import tables as tabling
from runs.report.comparison import WIDTH, print_tables, report_comparison, tables_as_markdown
from runs.report.tables import (
    HEADINGS,
    NORMALISED,
    ArmRow,
    all_tables,
    comparison_table,
    failure_table,
    finite_rows,
    proxy_table,
    robustness_table,
    summarise_arms,
    worth_table,
)
from tests.runs import sealed_study, small_study

# mean over shifts by seed; "calm" is 0.3 better than "none" everywhere, and worst under "b"
BASE = {"none": [0.1, 0.2, 0.3, 0.4], "calm": [0.4, 0.5, 0.6, 0.7]}
SHIFTS = {"a": 0.05, "b": -0.05}


def scores(base=BASE, success=True) -> list[dict]:
    """Rows of two shifts at two severities; in distribution the score is 0.2 higher."""
    rows = []
    for arm, values in base.items():
        for seed, value in enumerate(values):
            cells = [("none", 0.0, value + 0.2)]
            cells += [
                (shift, severity, value + offset + slope)
                for shift, offset in SHIFTS.items()
                for severity, slope in ((0.5, 0.02), (1.0, -0.02))
            ]
            rows += [
                {
                    "env": "Fake",
                    "arm": arm,
                    "seed": seed,
                    "shift": shift,
                    "family": "dynamics",
                    "severity": severity,
                    "score": score,
                    "success": score if success else np.nan,
                }
                for shift, severity, score in cells
            ]
    return rows


def approx(estimate):
    return pytest.approx(tuple(estimate))


# --- the table --------------------------------------------------------------------------------


def test_the_unit_is_the_seed():
    none, calm = summarise_arms(scores(), ["none", "calm"])
    x, y = np.array(BASE["calm"]), np.array(BASE["none"])
    assert (none.arm, none.seeds, calm.arm, calm.seeds) == ("none", 4, "calm", 4)
    assert calm.home == approx(mean(x + 0.2))
    assert calm.away == approx(mean(x))
    assert calm.worst == ("b", pytest.approx(0.5))
    assert calm.gain == approx(difference(x, y))
    assert calm.gain.value == pytest.approx(0.3)
    assert none.gain is None
    assert none.worst == ("b", pytest.approx(0.2))


def test_rows_are_in_the_order_of_the_arms():
    assert [row.arm for row in summarise_arms(scores(), ["calm", "none"])] == ["calm", "none"]


def test_the_worst_shift_is_that_of_the_lowest_mean_over_severities():
    rows = scores()
    for row in rows:
        if row["arm"] == "calm" and row["shift"] == "a":
            row["score"] += 0.5 if row["severity"] == 0.5 else -0.4  # one cell of a is the lowest
    assert summarise_arms(rows, ["none", "calm"])[1].worst[0] == "b"


def test_a_seed_with_a_non_finite_score_is_left_out_entirely():
    rows = scores()
    rows[3]["score"] = np.inf
    none, calm = summarise_arms(rows, ["none", "calm"])
    assert (none.seeds, calm.seeds) == (3, 4)
    assert none.away == approx(mean(np.array(BASE["none"][1:])))
    assert {row["seed"] for row in finite_rows(rows) if row["arm"] == "none"} == {1, 2, 3}


def test_fewer_than_three_seeds_have_no_interval():
    few = {"none": BASE["none"], "calm": BASE["calm"][:2]}
    none, calm = summarise_arms(scores(few), ["none", "calm"])
    assert (calm.seeds, calm.home, calm.away, calm.gain) == (2, None, None, None)
    assert calm.worst == ("b", pytest.approx(0.4))
    few = {"none": BASE["none"][:2], "calm": BASE["calm"]}
    none, calm = summarise_arms(scores(few), ["none", "calm"])
    assert calm.gain is None
    assert calm.away is not None


@pytest.mark.parametrize("missing", ["none", "calm"])
def test_an_arm_without_seeds_has_a_row(missing):
    others = {arm: values for arm, values in BASE.items() if arm != missing}
    summaries = {row.arm: row for row in summarise_arms(scores(others), ["none", "calm"])}
    assert summaries[missing] == ArmRow(missing, 0, None, None, None, None)
    [other] = set(BASE) - {missing}
    assert summaries[other].seeds == 4
    assert summaries[other].gain is None


# --- what is printed and written --------------------------------------------------------------

CONFIG = small_study.replace(small_study.CONFIG, seeds=4, rows=4)


def plan(arms=("none", "calm"), without=()) -> Plan:
    """Plan of these arms; the primary contrast is the last one less the first."""
    return Plan(
        env="Fake/1",
        suite="0" * 64,
        arms=tuple(arms),
        without=tuple(without),
        primary=(arms[-1], arms[0]),
        secondary=(),
        seeds=4,
        base=0,
        steps=8,
        episodes=2,
        severities=(0.5, 1.0),
        sealed=(),
        shifts=dict.fromkeys(SHIFTS, "dynamics"),
        worlds={"none": "none"},
        sizes={},
        agent={},
    )


def report_text(tmp_path, capsys, rows, arms=("none", "calm"), **kwargs) -> str:
    """Printed text of the report of these rows."""
    report_comparison(tmp_path, rows, CONFIG, plan(arms, **kwargs), "python -m runs.compare", False)
    return capsys.readouterr().out


def test_the_report_names_every_file_that_it_writes(tmp_path, capsys):
    out = report_text(tmp_path, capsys, scores())
    for heading in HEADINGS:
        assert heading in out
    assert "0.550 [0.345, 0.755]" in out
    assert "+0.300 [+0.077, +0.523]" in out
    assert "0.500 b" in out
    assert "stopped seeds   0 of 8" in out
    for name in ("table.md", "table.png", "scores.csv", "checkpoints"):
        assert str(tmp_path / name) in out
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob(f"tb/compare/{safe_name('Fake/1')}/calm/*"))
    text = (tmp_path / "table.md").read_text()
    assert "# Fake/1: success by arm" in text
    assert "calm | 4 | 0.750 | 0.550 [0.345, 0.755] | 0.500 b | +0.300 [+0.077, +0.523]" in text
    assert "`python -m runs.compare`" in text
    assert "\n2 arms, 4 seeds an arm" in text
    assert re.search(r"python 3\.\d+.*jax 0\.", text)


def test_stopped_seeds_are_counted(tmp_path, capsys):
    few = {"none": BASE["none"], "calm": BASE["calm"][:3], "lost": []}
    out = report_text(tmp_path, capsys, scores(few), ("none", "calm", "lost"))
    assert "stopped seeds   5 of 12" in out
    cells = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    seeds = {row[0].strip(): row[1].strip() for row in cells}
    assert seeds == {"none": "4", "calm": "3", "lost": "0"}
    assert [cell.strip() for cell in cells[-1]] == ["lost", "0", "-", "-", "-", "-"]


def test_only_seeds_with_finite_scores_are_drawn(tmp_path, capsys, monkeypatch):
    rows, drawn = scores(), []
    rows[3]["score"] = np.nan
    for name, place in (("severity_figure", 0), ("export_comparison", 2)):
        monkeypatch.setattr(module, name, lambda *args, i=place: drawn.append(args[i]))
    assert "stopped seeds   1 of 8" in report_text(tmp_path, capsys, rows)
    assert drawn == [finite_rows(rows)] * 2


def test_a_study_that_is_not_registered_has_no_verdict_and_is_marked(tmp_path, capsys):
    out = report_text(tmp_path, capsys, scores())
    assert "No verdict" in out and "unverified: " in out
    assert "unverified" in (tmp_path / "report.html").read_text()


def test_a_verified_study_has_a_verdict_and_sealed_scores(tmp_path, capsys):
    sealed_study.study(tmp_path)
    rows, run_config = (
        read_scores(tmp_path / "scores.csv"),
        small_study.replace(small_study.CONFIG, seeds=3),
    )
    report_comparison(tmp_path, rows, run_config, sealed_study.sealed_plan(), "command", False)
    out = capsys.readouterr().out
    assert "fear_constant" in out and "sealed looks 1" in out and "unverified" not in out
    assert "## sealed worlds" in (tmp_path / "table.md").read_text()


def test_a_comparison_without_any_seed_left_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="every seed was stopped; the states before are in"):
        report_comparison(tmp_path, [], CONFIG, plan(), "command", False)


def test_the_return_is_the_score_if_success_is_not_reported(tmp_path, capsys):
    out = report_text(tmp_path, capsys, scores(success=False))
    assert "score: return; arms run: 2" in out


def test_large_scores_have_one_decimal(capsys):
    rows = scores({arm: [1000 * x for x in values] for arm, values in BASE.items()})
    tables = all_tables(rows, ["none", "calm"], "Fake")
    print_tables(tables)
    assert "+300.0 [+76.6, +523.4]" in capsys.readouterr().out
    assert "550.0 [344.6, 755.4]" in tables_as_markdown(tables, "Fake", "return", CONFIG, "command")


def test_recorded_results_are_named_after_the_environment(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report_comparison(tmp_path / "out", scores(), CONFIG, plan(tuple(BASE)), "command", True)
    names = sorted(path.name for path in (tmp_path / "runs" / "results").iterdir())
    assert names == ["compare-Fake_1.md", "compare-Fake_1.png"]
    written = (tmp_path / "runs/results/compare-Fake_1.md").read_text()
    assert written == (tmp_path / "out" / "table.md").read_text()


# --- what is not the score --------------------------------------------------------------------


def add_columns(rows, **columns) -> list[dict]:
    """Rows with more columns, each a function of the row."""
    return [row | {name: column(row) for name, column in columns.items()} for row in rows]


def test_the_proxy_table_shows_return_beside_hidden_performance():
    rows = add_columns(
        scores(),
        **{"return": lambda row: 10.0 + row["seed"] - (row["shift"] == "b")},
        hidden=lambda row: {"none": 8.0, "a": 2.0, "b": 7.2}[row["shift"]],
    )
    table = proxy_table(rows, ["none", "calm", "lost"])
    names = ("return, home", "hidden, home", "return, shifted", "hidden, shifted")
    assert table.headings[1:5] == names
    ours = mean(np.arange(10.0, 14.0))
    half = ours.high - ours.value
    cells = [f"11.5 ±{half:.1f}", "8.000 ±0.000", f"11.0 ±{half:.1f}", "4.600 ±0.000"]
    assert table.rows[1] == ["calm", *cells, "a: 100%, 25%"]
    assert table.rows[2] == ["lost", *["-"] * 5]
    assert proxy_table(add_columns(rows, hidden=lambda row: np.nan), ["none"]) is None


def test_a_return_of_zero_has_no_retained_share():
    columns = {"return": lambda row: 0.0, "hidden": lambda row: 1.0}
    assert proxy_table(add_columns(scores(), **columns), ["none"]).rows[0][-1] == "-"


def test_failures_are_split_into_harm_wrong_goal_and_rest():
    rows = add_columns(
        scores(),
        success=lambda row: 0.9 if row["shift"] == "none" else 0.5,
        harm=lambda row: 0.0 if row["shift"] == "none" else 0.2,
        other_goal=lambda row: 0.04 if row["shift"] == "a" else 0.0,
    )
    table = failure_table(rows, ["none", "lost"])
    kinds = ("success", "harm", "wrong goal", "rest")
    assert table.headings == ("arm", *(f"{k}, {p}" for p in ("home", "shifted") for k in kinds))
    home = ["90.0", "0.0", "0.0", "10.0"]
    cells = [f"{x} ±0.0" for x in [*home, "50.0", "20.0", "2.0", "28.0"]]
    assert table.rows == [["none", *cells], ["lost", *["-"] * 8]]
    for words in ("harmful event", "competently reaching a wrong goal", "out of time or incapable"):
        assert words in table.note


def test_the_failure_table_has_reported_kinds_only():
    rows = add_columns(scores(), harm=lambda row: 0.1)
    assert [name.split(",")[0] for name in failure_table(rows, ["none"]).headings] == [
        *("arm", "success", "harm", "rest"),
        *("success", "harm", "rest"),
    ]
    rows = add_columns(scores(success=False), harm=lambda row: 0.1)  # success is not reported
    assert failure_table(rows, ["none"]).headings == ("arm", "harm, home", "harm, shifted")
    assert failure_table(scores(), ["none"]) is None


def test_the_rest_is_not_negative_if_success_and_harm_overlap():
    rows = add_columns(scores(), success=lambda row: 0.9, harm=lambda row: 0.4)
    assert failure_table(rows, ["none"]).rows[0][3] == "0.0 ±0.0"


def test_scores_normalised_by_random_and_specialist_have_a_column(monkeypatch):
    rows = scores()
    monkeypatch.setattr(tabling, "normalised_rows", lambda rows, env: None)
    assert comparison_table(rows, list(BASE), "Fake").headings == HEADINGS

    def doubled(rows, env):
        assert env == "Fake"
        return [row | {"score": 2 * row["score"]} for row in rows]

    monkeypatch.setattr(tabling, "normalised_rows", doubled)
    table = comparison_table(rows, [*BASE, "lost"], "Fake")
    assert table.headings == (*HEADINGS, NORMALISED)
    half = mean(np.array(BASE["calm"])).high - 0.55
    assert table.rows[1][3] == f"0.550 ±{half:.3f}"
    assert table.rows[1][-1] == f"1.100 ±{2 * half:.3f}"
    assert table.rows[2][-1] == "-"
    assert "runs.calibrate" in table.note


def test_every_table_fits_the_terminal_and_no_cell_is_folded(capsys, monkeypatch):
    monkeypatch.setattr(tabling, "normalised_rows", lambda rows, env: rows)
    arms = {"none": BASE["none"], "curiosity_untrained": BASE["calm"]}
    rows = add_columns(
        [row | {"shift": row["shift"].replace("b", "fog|aggressive")} for row in scores(arms)],
        **{"return": lambda row: -100.0 - row["seed"], "hidden": lambda row: 1.0},
        harm=lambda row: 0.1 * row["seed"],
        other_goal=lambda row: 0.05 * row["seed"],
    )
    tables = all_tables(rows, list(arms), "Fake")
    assert len(tables) == 4
    print_tables(tables)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= WIDTH
    for table in tables:
        for row in table.rows:
            assert all(cell in out for cell in row)
    text = tables_as_markdown(tables, "Fake", "success", CONFIG, "command")
    assert r"fog\|aggressive" in text  # a bar would end the cell
    assert all(f"\n## {table.title}\n" in text and table.note in text for table in tables[1:])


HEADS = ("", "_sham", "_untrained", "_constant")
FEAR_ARMS = BASE | {
    "constant_plus": BASE["none"],
    **{f"fear{kind}": BASE["calm"] for kind in HEADS},
}


def test_the_worth_table_has_the_contrasts_of_a_head_with_its_controls():
    table = worth_table(scores(FEAR_ARMS), list(FEAR_ARMS), "Fake")
    gain = difference(np.array(BASE["calm"]), np.array(BASE["none"]))
    assert table.rows[0][:2] == ["fear", f"{gain:+.3f}"]
    assert table.rows[0][3].startswith("+0.000 ")
    assert f"Fake: on top of a constant, fear adds {gain:+.3f}." in table.note
    assert worth_table(scores(), list(BASE), "Fake") is None
    few = [row for row in scores(FEAR_ARMS) if row["arm"] != "constant_plus" or row["seed"] < 2]
    assert worth_table(few, list(FEAR_ARMS), "Fake") is None


def test_the_robustness_table_has_further_measures_and_the_a_a_control():
    arms = {arm: [*values, *values] for arm, values in BASE.items()}
    table = robustness_table(scores(arms), list(arms))
    none, calm = table.rows
    assert none[0] == "none" and none[1].startswith("0.250 ±") and "dynamics" in none[1]
    assert none[2].startswith("0.180 ±")  # the worst of four points: b at 1
    assert none[4].startswith(("+0.000", "-0.000")) and calm[6].startswith("0 (up to ")
    assert none[6].startswith("2 (up to ")  # .1 of .3 at home is less than half; .2 of .4 is not
    assert "A-A control, the even seeds of none less the odd ones: -0.100 [" in table.note
    assert "ICC" in table.note and "80 % power" in table.note
    assert "A-A" not in robustness_table(scores(), list(BASE)).note  # too few seeds to halve
    assert robustness_table(scores({"none": [0.1, 0.2]}), ["none"]) is None


def test_arms_left_out_on_request_are_named(tmp_path, capsys):
    assert "left out        fear_sham, on request" in report_text(
        tmp_path, capsys, scores(), without=("fear_sham",)
    )
    assert "LEFT OUT ON REQUEST: fear_sham." in (tmp_path / "table.md").read_text()
    assert "left out" not in report_text(tmp_path, capsys, scores())


# --- the figure -------------------------------------------------------------------------------


def test_the_figure_has_a_panel_for_each_shift(tmp_path, monkeypatch):
    from matplotlib import pyplot as plt

    axes = []
    monkeypatch.setattr(plt, "close", lambda figure: axes.extend(figure.axes))
    module.severity_figure(scores(), "Fake", "success", tmp_path / "figure.png")
    monkeypatch.undo()
    titles = [axis.get_title() for axis in axes if axis.axison]
    assert titles == ["a", "b"]
    lines = {line.get_label(): line.get_xydata() for line in axes[0].get_lines()}
    expected = [[0, 0.45], [0.5, 0.32], [1.0, 0.28]]
    assert lines["none"] == pytest.approx(np.array(expected))
    plt.close("all")
