"""Tables from score rows: scores, contrasts, robustness, outcomes, readouts, controls, power.

The unit is the seed everywhere: `runs.analysis.scores.seed_means` averages its points first.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from runs.analysis import robustness, stats
from runs.analysis.calibration import normalised_rows
from runs.analysis.contrasts import (
    Contrast,
    HeadContrasts,
    compared_heads,
    contrast_sentence,
    head_contrasts,
    potential_sentence,
)
from runs.analysis.robustness import scores_by_arm
from runs.analysis.scores import finite_rows, score_name, seed_means
from runs.analysis.stats import Estimate
from runs.probes.readout_table import METRICS
from runs.report.verdict import Study, declared_contrasts

HEADINGS = (
    *("arm", "seeds", "in distribution", "mean over shifts", "worst shift"),
    "difference to none [95 %]",
)
NORMALISED = "normalised, mean over shifts"
WORST_NOTE = "`worst shift` is the one with the lowest mean."
SCALE_NOTE = "Normalised: 0 is a random policy and 1 a specialist of the shift (`runs.calibrate`)."
SEALED_NOTE = (
    "Held-out families of shifts, in worlds drawn by the hash of the plan and of all agents."
)
ROBUST_NOTE = (
    "`CVaR-25`: mean over the worst quarter of a run's points. `area`: under the severity curve. "
    "`effective robustness`: above what the in-distribution score predicts from none and random. "
    "`IQM`: mean of the middle half of all cells, without the worst quarter. "
    "`collapsed`: runs that keep less than half of their in-distribution score, with Wilson's "
    "upper bound."
)
PLACES = ("home", "shifted")
PLACES_NOTE = "`home` is in distribution, `shifted` the mean over shifts and severities."
PROXY_NOTE = (
    f"{PLACES_NOTE} `return` is the observed reward and `hidden` the true performance, each "
    "summed over an episode. `largest gap`: the shift under which the kept shares of their "
    "values at home differ most, and these shares."
)
OUTCOMES = {
    "success": ("success", ""),
    "harm": ("harm", "`harm`: a harmful event occurred."),
    "other_goal": ("wrong goal", "`wrong goal`: failed by competently reaching a wrong goal."),
    "rest": ("rest", "`rest`: none of these, out of time or incapable."),
}
"""Outcome of an episode -> its name and explanation."""
READOUTS = {"auroc": "harm soon, AUROC", "return": "return to go", "rarity": "rarity"}
"""Metric of the readouts -> its heading."""
READOUTS_NOTE = (
    "Signals of the arm `{arm}`, evaluated at every step at home and at {places} shifted points: "
    "AUROC for harm within ten steps, rank correlation with the discounted return to go, and with "
    "rarity (minus the visits to the observation's cell at home); chance level .5, 0 and 0. "
    "`signal_sum` is the weighted sum of all signals, the agent's reward beside the task's. "
    "Per-seed means first, t intervals at 95 %."
)
POWER_NOTE = (
    "A-A: the even seeds of an arm less its odd seeds; the true difference is zero, and one in "
    "twenty intervals excludes it by chance. ICC: the share of the variance due to the seeds. "
    "Power: the difference that so many seeds detect with 80 % power at the 5 % level, and the "
    "seeds per arm that the measured primary effect needs."
)
CONTROLS = "Controls and power"  # section of the HTML page


class Table(NamedTuple):
    """Table for the terminal, Markdown and HTML."""

    title: str
    cells: pd.DataFrame  # texts; the first column is the name of the row
    note: str = ""  # how to read it
    section: str = "Tables"  # of the HTML page


def all_tables(rows: Sequence[dict], study: Study, readouts: Sequence[dict] = ()) -> list[Table]:
    """All tables that can be computed from the score rows and readouts of a comparison.

    Args:
        rows: score rows of public worlds.
        study: what is stated beside the scores; its arms are the rows of the tables, in order.
        readouts: rows of `runs.probes.readout_table`, if signals were probed.
    """
    rows, arms, env = finite_rows(rows), study.arms, study.env
    contrasts = declared_contrasts(rows, study)
    tables = (
        comparison_table(rows, arms, env),
        sealed_table(study.sealed_rows, arms),
        worth_table(rows, arms, env),
        robustness_table(rows, arms),
        proxy_table(rows, arms),
        failure_table(rows, arms),
        readout_table(readouts),
        contrast_table(contrasts),
        control_table(rows, arms, contrasts[0].estimate if contrasts else None),
    )
    return [table for table in tables if table is not None]


# --- scores ---------------------------------------------------------------------------------------


def comparison_table(rows: Sequence[dict], arms: Sequence[str], env: str) -> Table:
    """Table of scores by arm, with normalised scores where the suite was calibrated.

    A seed with a score that is not finite is left out entirely; intervals need 3 seeds.
    """
    rows = finite_rows(rows)
    home, away = seed_means(rows, arms, home=True), seed_means(rows, arms)
    table = pd.DataFrame(rows, columns=["arm", "shift", "score"])
    shifts = table[table["shift"] != "none"].groupby(["arm", "shift"])["score"].mean()
    scaled_rows = normalised_rows(rows, env)
    text = Estimate.__format__ if scaled_rows is None else Estimate.with_half
    baseline, cells = away.get("none", ()), []
    for arm, seeds in away.items():
        row = [arm, str(len(home[arm])), *["-"] * 4]
        digits = _digits(shifts[arm].min() if len(seeds) else home[arm].max(initial=0.0))
        if len(home[arm]) >= stats.FEWEST:
            row[2] = f"{home[arm].mean():{digits}}"
        if len(seeds):
            row[4] = f"{shifts[arm].min():{digits}} {shifts[arm].idxmin()}"
        if len(seeds) >= stats.FEWEST:
            row[3] = text(stats.mean(seeds), digits)
            if arm != "none" and len(baseline) >= stats.FEWEST:
                row[5] = text(stats.difference(seeds, baseline), f"+{digits}")
        cells.append(row)
    table, note = pd.DataFrame(cells, columns=HEADINGS), WORST_NOTE
    if scaled_rows is not None:
        table[NORMALISED] = [_seeds_text(x, ".3f") for x in seed_means(scaled_rows, arms).values()]
        note += f" {SCALE_NOTE}"
    return Table(f"score: {score_name(rows)}; arms run: {len(arms)}", table, note)


def sealed_table(rows: Sequence[dict], arms: Sequence[str]) -> Table | None:
    """Table of scores in sealed worlds, drawn after all agents were frozen; None without them.

    The mean is over the held-out families of shifts, with equal weights.
    """
    arms = list(scores_by_arm(rows, arms, stats.FEWEST))
    if not arms:
        return None
    rows = finite_rows(rows)
    families = sorted({row["family"] for row in rows if row["shift"] != "none"})
    scores = {name: seed_means([r for r in rows if r["family"] == name], arms) for name in families}
    means = {arm: np.mean([scores[name][arm] for name in families], 0) for arm in arms}
    cells = []
    for arm, seeds in means.items():
        gain = "-"
        if arm != "none" and "none" in means:
            gain = stats.difference(seeds, means["none"]).with_half("+.3f")
        row = {"arm": arm, "mean over families": _seeds_text(seeds, ".3f")}
        row["difference to none"] = gain
        cells.append(row | {name: _seeds_text(scores[name][arm]) for name in families})
    return Table("sealed worlds", pd.DataFrame(cells), SEALED_NOTE)


def worth_table(rows: Sequence[dict], arms: Sequence[str], env: str) -> Table | None:
    """Table of contrasts between heads and their controls; None if no head has all controls."""
    arms = list(scores_by_arm(rows, arms, stats.FEWEST))
    contrasts = head_contrasts({env: seed_means(rows, arms)}, compared_heads(arms))
    cells = [
        {
            "head": contrast.head,
            "constant + head less constant": f"{contrast.on_constant:+.3f}",
            "p (Holm)": f"{contrast.p_value:.3f}",
            "less its sham": f"{contrast.over_sham:+.3f}",
            "less its untrained": f"{contrast.over_untrained:+.3f}",
        }
        | _over_potential(contrast)
        for contrast in contrasts
    ]
    note = (
        f"{contrast_sentence(contrasts)} The first column is the primary contrast of "
        "every head, Welch on per-seed means; p-values are Holm-adjusted over the heads. "
        f"{potential_sentence(contrasts)}"
    )
    return _table("contrasts of heads with their controls", cells, note)


def robustness_table(rows: Sequence[dict], arms: Sequence[str]) -> Table | None:
    """Table of further robustness measures by arm; None if no arm has enough seeds."""
    arm_scores = scores_by_arm(rows, arms, stats.FEWEST)
    baselines = [arm_scores[arm] for arm in robustness.BASELINES if arm in arm_scores]
    cells = []
    for arm, scores in arm_scores.items():
        (family, worst), iqm = robustness.worst_family(scores), robustness.iqm(scores)
        failed = robustness.catastrophic_failures(scores)
        beyond = robustness.effective_robustness(scores, baselines) if baselines else np.zeros(0)
        cells.append(
            {
                "arm": arm,
                "worst family": f"{_seeds_text(worst)} {family}",
                "CVaR-25": _seeds_text(robustness.cvar(scores)),
                "area": _seeds_text(robustness.area_under_severity(scores)),
                "effective robustness": _seeds_text(beyond, "+.3f"),
                "IQM": f"{iqm:{_digits(iqm)}}",
                "collapsed": f"{failed} (up to {stats.wilson(failed, len(worst)).high:.0%})",
            }
        )
    return _table("robustness", cells, ROBUST_NOTE)


# --- what is not the score ------------------------------------------------------------------------


def proxy_table(rows: Sequence[dict], arms: Sequence[str]) -> Table | None:
    """Table of return and hidden true performance; None if no hidden performance is reported."""
    rows, names = finite_rows(rows), ["return", "hidden"]
    table = pd.DataFrame(rows, columns=["arm", "seed", "shift", *names])
    if table["hidden"].isna().all():
        return None
    means = table.groupby(["arm", "shift", "seed"])[names].mean().groupby(["arm", "shift"]).mean()
    cells = {"arm": arms} | _by_place(rows, arms, dict(zip(names, names, strict=True)))
    cells["largest gap: return, hidden"] = [
        _largest_gap(means.loc[arm]) if arm in means.index else "-" for arm in arms
    ]
    return Table("observed reward and true performance", pd.DataFrame(cells), PROXY_NOTE)


def failure_table(rows: Sequence[dict], arms: Sequence[str]) -> Table | None:
    """Table of outcomes of episodes; None if neither harm nor wrong goals are reported."""
    rows = finite_rows(rows)
    table = 100 * pd.DataFrame(rows, columns=["success", "harm", "other_goal"])
    table["rest"] = (100 - table.sum(axis=1)).clip(lower=0)  # a success may include harm
    table.loc[table["success"].isna(), "rest"] = np.nan
    columns = {
        name: column for column, (name, _) in OUTCOMES.items() if table[column].notna().any()
    }
    if not {"harm", "other_goal"} & set(columns.values()):
        return None
    rows = [row | shares for row, shares in zip(rows, table.to_dict("records"), strict=True)]
    notes = [OUTCOMES[column][1] for column in columns.values()]
    return Table(
        "outcomes of episodes, in %",
        pd.DataFrame({"arm": arms} | _by_place(rows, arms, columns, ".1f")),
        " ".join([PLACES_NOTE, *filter(None, notes)]),
    )


def readout_table(readouts: Sequence[dict]) -> Table | None:
    """Table of what each signal predicts at home and under shift; None without readouts.

    Columns without a finite number, such as harm in a world without harm, are left out.
    """
    if not readouts:
        return None
    table = pd.DataFrame(readouts)
    table["place"] = np.where(table["shift"] == "none", *PLACES)
    means = table.groupby(["signal", "place", "seed"])[["harmed", *METRICS]].mean()
    signals = list(dict.fromkeys(table["signal"]))
    cells = {"signal": signals} | {
        f"{name}, {place}": [
            _seeds_text(np.asarray(means[metric].dropna().get((signal, place), ())), ".3f")
            for signal in signals
        ]
        for metric, name in READOUTS.items()
        if means[metric].notna().any()
        for place in PLACES
    }
    shifted = table.loc[table["place"] == "shifted", ["shift", "severity"]]
    note = READOUTS_NOTE.format(arm=readouts[0]["arm"], places=len(shifted.drop_duplicates()))
    sentences = filter(None, (_calibration_sentence(means, signal) for signal in signals))
    return Table("what the signals predict", pd.DataFrame(cells), " ".join([note, *sentences]))


def _calibration_sentence(means: pd.DataFrame, signal: str) -> str | None:
    """Comparison of a mean predicted probability of harm with its frequency; None without both."""
    by_place = means.loc[signal, ["expected", "harmed"]].groupby("place").mean()
    if len(by_place) < len(PLACES) or by_place.isna().any(axis=None):
        return None
    (home, harmed), (shifted, harmed_shifted) = by_place.loc[list(PLACES)].to_numpy()
    return (
        f"Calibration: mean {signal} {home:.3f} at home, where harm follows in {harmed:.3f}; "
        f"{shifted:.3f} under shift, where in {harmed_shifted:.3f}."
    )


# --- declared contrasts, controls and power -------------------------------------------------------


def contrast_table(contrasts: Sequence[Contrast]) -> Table | None:
    """Table of the declared contrasts with Holm-adjusted p-values, the primary one first."""
    cells = []
    for contrast in contrasts:
        estimate, p_holm = contrast.estimate, contrast.p_holm
        p_text = "< 0.001" if p_holm < 0.001 else f"{p_holm:.3f}"
        cells.append(
            {
                "contrast": f"{contrast.arm} less {contrast.reference}",
                "declared as": "secondary" if cells else "primary",
                "difference [95 %]": f"{estimate:+z.3f}" if estimate else "too few seeds",
                "p (Holm)": p_text if estimate else "–",
            }
        )
    note = "Of the mean over shifts, Welch on per-seed means; p-values are Holm-adjusted."
    return _table("declared contrasts", cells, note, CONTROLS)


def control_table(
    rows: Sequence[dict], arms: Sequence[str], effect: Estimate | None = None
) -> Table | None:
    """Table of A-A difference, ICC and power of every arm with several points and enough seeds.

    None without such an arm. `effect` is the primary contrast, if there is one.
    """
    cells = []
    for arm, scores in scores_by_arm(rows, arms, 2 * stats.FEWEST).items():
        if len(scores.points) < 2:
            continue
        means = robustness.mean(scores)
        spread = float(means.std(ddof=1))
        detectable = stats.detectable(spread, len(means)) if spread > 0 else 0.0
        cells.append(
            {
                "arm": arm,
                "A-A: even less odd seeds [95 %]": f"{stats.split_half_difference(means):+z.3f}",
                "ICC": f"{stats.seed_share(scores.away):.2f}",
                "sd over seeds": f"{spread:.3f}",
                "detected at 80 % power": f"{detectable:.3f}",
                "seeds for the primary effect": _seeds_needed(abs(effect.value), spread)
                if effect
                else "–",
            }
        )
    title = "A-A control, ICC (seeds' share of the variance) and power"
    return _table(title, cells, POWER_NOTE, CONTROLS)


def _seeds_needed(effect: float, spread: float) -> str:
    """Seeds per arm that detect the measured effect, as text; "> 900" for very small effects."""
    if spread <= 0:
        return str(stats.FEWEST)
    if effect < 0.13 * spread:
        return "> 900"
    return str(max(stats.seeds_needed(min(effect, 3 * spread), spread), stats.FEWEST))


# --- parts of tables ------------------------------------------------------------------------------


def _table(title: str, cells: list[dict], note: str, section: str = "Tables") -> Table | None:
    """Table of rows (heading -> text); None without rows."""
    return Table(title, pd.DataFrame(cells), note, section) if cells else None


def _seeds_text(seeds: np.ndarray, digits: str = "") -> str:
    """Mean of per-seed scores ± half its interval; the mean alone of fewer than 3, "-" of none."""
    if not len(seeds):
        return "-"
    digits = digits or _digits(seeds.mean())
    if len(seeds) < stats.FEWEST:
        return f"{seeds.mean():{digits}}"
    return stats.mean(seeds).with_half(digits)


def _over_potential(contrast: HeadContrasts) -> dict[str, str]:
    """Cell of the gain over the best constant potential; none where none was run."""
    name = "constant + head less constant + best constant potential"
    return {name: f"{contrast.over_potential:+.3f}"} if contrast.potential else {}


def _digits(value: float) -> str:
    return ".3f" if abs(value) < 10 else ".1f"


def _by_place(
    rows: Sequence[dict], arms: Sequence[str], columns: Mapping[str, str], digits: str = ""
) -> dict[str, list[str]]:
    """Columns of the table: means over seeds of columns (name -> key of the rows) in each place."""
    return {
        f"{name}, {place}": [
            _seeds_text(seeds, digits)
            for seeds in seed_means(rows, arms, column, place == "home").values()
        ]
        for place in PLACES
        for name, column in columns.items()
    }


def _largest_gap(means: pd.DataFrame) -> str:
    """Shift whose kept shares of return and hidden performance differ most, and these shares."""
    if not (means.loc["none"] > 0).all():
        return "-"
    kept = means / means.loc["none"]
    shift = (kept["return"] - kept["hidden"]).abs().idxmax()
    return f"{shift}: {kept.loc[shift, 'return']:.0%}, {kept.loc[shift, 'hidden']:.0%}"
