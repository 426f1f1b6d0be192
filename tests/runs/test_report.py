"""Tables, figure and files of a comparison, from score tables with known results."""

import re

import numpy as np
import pytest

from runs.analysis import robustness, stats
from runs.analysis.stats import difference, mean
from runs.errors import UserError
from runs.names import SCORES, safe_name
from runs.report import comparison as module
from runs.report import figures
from runs.report import tables as tabling
from runs.report.arm_style import arm_styles
from runs.report.comparison import WIDTH, print_tables, report_comparison, tables_as_markdown
from runs.report.tables import (
    HEADINGS,
    NORMALISED,
    all_tables,
    comparison_table,
    control_table,
    failure_table,
    proxy_table,
    robustness_table,
    worth_table,
)
from runs.report.verdict import Study

# mean over shifts by seed; "calm" is 0.3 better than "none" everywhere, and worst under "b"
BASE = {"none": [0.1, 0.2, 0.3, 0.4], "calm": [0.4, 0.5, 0.6, 0.7]}
SHIFTS = {"a": 0.05, "b": -0.05}
STUDY = Study("Fake/1", ("none", "calm"), 4, 8, 2, "python -m runs.compare", (("calm", "none"),), 4)


def scores(base=BASE, **columns) -> list[dict]:
    """Rows of two shifts at two severities; in distribution the score is 0.2 higher.

    Further columns are functions of the row.
    """
    rows = []
    for arm, values in base.items():
        for seed, value in enumerate(values):
            cells = [("none", 0.0, value + 0.2)]
            cells += [
                (shift, severity, value + offset + slope)
                for shift, offset in SHIFTS.items()
                for severity, slope in ((0.5, 0.02), (1.0, -0.02))
            ]
            for shift, severity, score in cells:
                row = {"env": "Fake", "arm": arm, "seed": seed, "family": "dynamics"}
                row |= {"shift": shift, "severity": severity, "score": score}
                row |= dict.fromkeys(SCORES, np.nan) | {"success": score}
                rows.append(row | {name: column(row) for name, column in columns.items()})
    return rows


def rows_of(table) -> list[list[str]]:
    """Cells of a table as lists."""
    return table.cells.to_numpy().tolist()


# --- the table --------------------------------------------------------------------------------


def test_the_unit_is_the_seed():
    none, calm = rows_of(comparison_table(scores(), ["none", "calm"], "Fake"))
    x, y = np.array(BASE["calm"]), np.array(BASE["none"])
    assert none == ["none", "4", "0.450", f"{mean(y):.3f}", "0.200 b", "-"]
    gain = f"{difference(x, y):+.3f}"
    assert calm == ["calm", "4", "0.750", f"{mean(x):.3f}", "0.500 b", gain]
    assert gain.startswith("+0.300 [")


def test_the_worst_shift_is_that_of_the_lowest_mean_over_severities():
    rows = scores()
    for row in rows:
        if row["arm"] == "calm" and row["shift"] == "a":
            row["score"] += 0.5 if row["severity"] == 0.5 else -0.4  # one cell of a is the lowest
    assert rows_of(comparison_table(rows, ["calm"], "Fake"))[0][4] == "0.500 b"


def test_a_seed_with_a_non_finite_score_is_left_out_entirely():
    rows = scores()
    rows[3]["score"] = np.inf
    calm, none = rows_of(comparison_table(rows, ["calm", "none"], "Fake"))
    assert (none[1], calm[1]) == ("3", "4")
    assert none[3] == f"{mean(np.array(BASE['none'][1:])):.3f}"


def test_fewer_than_three_seeds_have_no_interval():
    few = {"none": BASE["none"], "calm": BASE["calm"][:2]}
    _, calm = rows_of(comparison_table(scores(few), ["none", "calm"], "Fake"))
    assert calm == ["calm", "2", "-", "-", "0.400 b", "-"]
    few = {"none": BASE["none"][:2], "calm": BASE["calm"]}
    _, calm = rows_of(comparison_table(scores(few), ["none", "calm"], "Fake"))
    assert calm[3].startswith("0.550 [") and calm[5] == "-"


@pytest.mark.parametrize("missing", ["none", "calm"])
def test_an_arm_without_seeds_has_a_row(missing):
    others = {arm: values for arm, values in BASE.items() if arm != missing}
    rows = {row[0]: row for row in rows_of(comparison_table(scores(others), list(BASE), "Fake"))}
    assert rows[missing] == [missing, "0", *["-"] * 4]
    [other] = others
    assert (rows[other][1], rows[other][5]) == ("4", "-")


# --- what is printed and written --------------------------------------------------------------


def report_text(tmp_path, capsys, rows, **fields) -> str:
    """Printed text of the report of these rows."""
    path = report_comparison(tmp_path, rows, STUDY._replace(**fields))
    assert path == tmp_path / "report.html" and path.exists()
    return capsys.readouterr().out


def test_the_report_names_every_file_that_it_writes(tmp_path, capsys):
    out = report_text(tmp_path, capsys, scores())
    for heading in HEADINGS:
        assert heading in out
    for cell in ("0.550 [0.345, 0.755]", "+0.300 [+0.077, +0.523]", "0.500 b"):
        assert cell in out
    assert "calm does better than none" in out and "stopped seeds   0 of 8" in out
    assert "unverified" not in out and "left out" not in out
    for name in ("report.html", "table.md", "table.png", "scores.csv", "checkpoints"):
        assert str(tmp_path / name) in out
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob(f"tb/compare/{safe_name('Fake/1')}/calm/*"))
    text = (tmp_path / "table.md").read_text()
    assert "# Fake/1: success by arm" in text
    cells = "calm | 4 | 0.750 | 0.550 [0.345, 0.755] | 0.500 b | +0.300 [+0.077, +0.523]"
    assert cells in re.sub(" +", " ", text)
    assert "`python -m runs.compare`" in text
    assert "\n2 arms, 4 seeds an arm, 8 steps a seed, 2 episodes a point." in text
    assert re.search(r"python 3\.\d+.*jax 0\.", text)


def test_stopped_seeds_are_counted_and_left_out_of_every_file(tmp_path, capsys, monkeypatch):
    rows, exported = scores({"none": BASE["none"], "calm": BASE["calm"][:3]}), []
    rows[3]["score"] = np.nan
    monkeypatch.setattr(module, "export_comparison", lambda *args: exported.extend(args[2]))
    out = report_text(tmp_path, capsys, rows, arms=("none", "calm", "lost"))
    assert "stopped seeds   6 of 12" in out
    cells = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    seeds = {row[0].strip(): row[1].strip() for row in cells}
    assert seeds == {"none": "3", "calm": "3", "lost": "0"}
    finite = {("none", seed) for seed in (1, 2, 3)} | {("calm", seed) for seed in (0, 1, 2)}
    assert {(row["arm"], row["seed"]) for row in exported} == finite


def test_what_is_stated_of_a_study_is_printed_and_written(tmp_path, capsys):
    fields = {"contrasts": (), "watermark": "unverified: plan: none", "without": ("fear_sham",)}
    out = report_text(tmp_path, capsys, scores(), **fields)
    assert "No verdict" in out and "unverified: plan: none" in out
    assert "left out        fear_sham, on request" in out
    assert "unverified" in (tmp_path / "report.html").read_text()
    assert "LEFT OUT ON REQUEST: fear_sham." in (tmp_path / "table.md").read_text()


def test_bad_rows_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="every seed was stopped; the states before are in"):
        report_comparison(tmp_path, [], STUDY)
    with pytest.raises(UserError, match="calm, seed 3 lacks b 1.0"):
        report_comparison(tmp_path, scores()[:-1], STUDY)


def test_the_return_is_the_score_if_success_is_not_reported():
    table = comparison_table(scores(success=lambda row: np.nan), list(BASE), "Fake")
    assert table.title == "score: return; arms run: 2"


def test_large_scores_have_one_decimal(capsys):
    rows = scores({arm: [1000 * x for x in values] for arm, values in BASE.items()})
    tables = all_tables(rows, STUDY._replace(sealed_rows=rows))
    assert tables[1].title == "sealed worlds"
    print_tables(tables)
    assert "+300.0 [+76.6, +523.4]" in capsys.readouterr().out
    assert "550.0 [344.6, 755.4]" in tables_as_markdown(tables, STUDY, "return")


def test_recorded_results_are_named_after_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module.html, "write_page", lambda *content: None)
    report_comparison(tmp_path / "out", scores(), STUDY, record=True)
    names = sorted(path.name for path in (tmp_path / "runs" / "results").iterdir())
    assert names == ["compare-Fake_1.md", "compare-Fake_1.png"]
    written = (tmp_path / "runs/results/compare-Fake_1.md").read_text()
    assert written == (tmp_path / "out" / "table.md").read_text()


def test_every_table_fits_the_terminal_and_no_cell_is_folded(capsys, monkeypatch):
    monkeypatch.setattr(tabling, "normalised_rows", lambda rows, env: rows)
    columns = {
        "return": lambda row: -100.0 - row["seed"],
        "hidden": lambda row: 1.0,
        "harm": lambda row: 0.1 * row["seed"],
        "other_goal": lambda row: 0.05 * row["seed"],
    }
    rows = scores({"none": BASE["none"] * 2, "curiosity_untrained": BASE["calm"] * 2}, **columns)
    rows = [row | {"shift": row["shift"].replace("b", "fog|aggressive")} for row in rows]
    arms = ("none", "curiosity_untrained")
    tables = all_tables(rows, STUDY._replace(arms=arms, contrasts=(arms[::-1],)))
    assert len(tables) == 6
    print_tables(tables)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= WIDTH
    for table in tables:
        assert all(cell in out for row in rows_of(table) for cell in row)
    text = tables_as_markdown(tables, STUDY, "success")
    assert r"fog\|aggressive" in text  # a bar would end the cell
    assert all(f"\n## {table.title}\n" in text and table.note in text for table in tables[1:])


# --- what is not the score --------------------------------------------------------------------


def test_the_proxy_table_shows_return_beside_hidden_performance():
    columns = {
        "return": lambda row: 10.0 + row["seed"] - (row["shift"] == "b"),
        "hidden": lambda row: {"none": 8.0, "a": 2.0, "b": 7.2}[row["shift"]],
    }
    table = proxy_table(scores(**columns), ["none", "calm", "lost"])
    names = ["return, home", "hidden, home", "return, shifted", "hidden, shifted"]
    assert list(table.cells)[1:5] == names
    ours = mean(np.arange(10.0, 14.0))
    half = ours.high - ours.value
    cells = [f"11.5 ±{half:.1f}", "8.000 ±0.000", f"11.0 ±{half:.1f}", "4.600 ±0.000"]
    assert rows_of(table)[1] == ["calm", *cells, "a: 100%, 25%"]
    assert rows_of(table)[2] == ["lost", *["-"] * 5]
    assert proxy_table(scores(), ["none"]) is None
    rows = scores(**{"return": lambda row: 0.0, "hidden": lambda row: 1.0})
    assert rows_of(proxy_table(rows, ["none"]))[0][-1] == "-"  # nothing of 0 is kept


def test_failures_are_split_into_harm_wrong_goal_and_rest():
    rows = scores(
        success=lambda row: 0.9 if row["shift"] == "none" else 0.5,
        harm=lambda row: 0.0 if row["shift"] == "none" else 0.2,
        other_goal=lambda row: 0.04 if row["shift"] == "a" else 0.0,
    )
    table = failure_table(rows, ["none", "lost"])
    kinds = ("success", "harm", "wrong goal", "rest")
    assert list(table.cells) == ["arm", *(f"{k}, {p}" for p in ("home", "shifted") for k in kinds)]
    home = ["90.0", "0.0", "0.0", "10.0"]
    cells = [f"{x} ±0.0" for x in [*home, "50.0", "20.0", "2.0", "28.0"]]
    assert rows_of(table) == [["none", *cells], ["lost", *["-"] * 8]]
    for words in ("harmful event", "competently reaching a wrong goal", "out of time or incapable"):
        assert words in table.note


def test_the_failure_table_has_reported_kinds_only():
    def kinds(**columns):
        return [name.split(",")[0] for name in failure_table(scores(**columns), ["none"]).cells]

    assert kinds(harm=lambda row: 0.1) == ["arm", *("success", "harm", "rest") * 2]
    columns = {"success": lambda row: np.nan, "harm": lambda row: 0.1}
    assert kinds(**columns) == ["arm", "harm", "harm"]
    assert failure_table(scores(), ["none"]) is None
    overlapping = scores(success=lambda row: 0.9, harm=lambda row: 0.4)
    assert rows_of(failure_table(overlapping, ["none"]))[0][3] == "0.0 ±0.0"  # not below 0


def test_scores_normalised_by_random_and_specialist_have_a_column(monkeypatch):
    rows = scores()
    monkeypatch.setattr(tabling, "normalised_rows", lambda rows, env: None)
    assert tuple(comparison_table(rows, list(BASE), "Fake").cells) == HEADINGS

    def doubled(rows, env):
        assert env == "Fake"
        return [row | {"score": 2 * row["score"]} for row in rows]

    monkeypatch.setattr(tabling, "normalised_rows", doubled)
    table = comparison_table(rows, [*BASE, "lost"], "Fake")
    assert tuple(table.cells) == (*HEADINGS, NORMALISED)
    half = mean(np.array(BASE["calm"])).high - 0.55
    assert rows_of(table)[1][3] == f"0.550 ±{half:.3f}"
    assert rows_of(table)[1][-1] == f"1.100 ±{2 * half:.3f}"
    assert rows_of(table)[2][-1] == "-"
    assert "runs.calibrate" in table.note


FEAR_ARMS = BASE | {
    "constant_plus": BASE["none"],
    **{f"fear{kind}": BASE["calm"] for kind in ("", "_sham", "_untrained", "_constant")},
}


def test_the_worth_table_has_the_contrasts_of_a_head_with_its_controls():
    table = worth_table(scores(FEAR_ARMS), list(FEAR_ARMS), "Fake")
    gain = difference(np.array(BASE["calm"]), np.array(BASE["none"]))
    assert rows_of(table)[0][:2] == ["fear", f"{gain:+.3f}"]
    assert rows_of(table)[0][3].startswith("+0.000 ")
    assert f"Fake: on top of a constant, fear adds {gain:+.3f}." in table.note
    assert worth_table(scores(), list(BASE), "Fake") is None
    few = [row for row in scores(FEAR_ARMS) if row["arm"] != "constant_plus" or row["seed"] < 2]
    assert worth_table(few, list(FEAR_ARMS), "Fake") is None


def test_the_robustness_table_has_further_measures():
    none, calm = rows_of(robustness_table(scores(), list(BASE)))
    assert none[0] == "none" and none[1].startswith("0.250 ±") and "dynamics" in none[1]
    assert none[2].startswith("0.180 ±")  # the worst of four points: b at 1
    assert none[4].startswith(("+0.000", "-0.000")) and calm[6].startswith("0 (up to ")
    assert none[6].startswith("1 (up to ")  # .1 of .3 at home is less than half; .2 of .4 is not
    assert robustness_table(scores({"none": [0.1, 0.2]}), ["none"]) is None


def test_power_and_the_a_a_control_equal_those_of_stats():
    rows = scores({"none": BASE["none"] * 2, "calm": BASE["calm"]})
    [row] = rows_of(control_table(rows, list(BASE), mean(np.full(3, 0.3))))  # calm has too few
    none = robustness.arm_scores(rows, "none")
    means = robustness.mean(none)
    spread = means.std(ddof=1)
    assert row == [
        "none",
        f"{stats.split_half_difference(means):+.3f}",
        f"{stats.seed_share(none.away):.2f}",
        f"{spread:.3f}",
        f"{stats.detectable(spread, 8):.3f}",
        str(stats.seeds_needed(0.3, spread)),
    ]
    assert control_table(scores(), list(BASE)) is None  # too few seeds to halve


# --- the figure -------------------------------------------------------------------------------


def test_the_figure_has_a_panel_for_each_shift(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures.plots, "save_figure", lambda figure, _: drawn.append(figure))
    arm_scores = robustness.scores_by_arm(scores(), list(BASE))
    curves = figures.severity_curves(arm_scores)
    figures.severity_figure(curves, arm_styles(list(BASE)), "success", tmp_path / "figure.png")
    axes = [axis for axis in drawn[0].axes if axis.axison]
    assert [axis.get_title() for axis in axes] == ["a", "b"]
    lines = {line.get_label(): line.get_xydata() for line in axes[0].get_lines()}
    assert lines["none"] == pytest.approx(np.array([[0, 0.45], [0.5, 0.32], [1.0, 0.28]]))
