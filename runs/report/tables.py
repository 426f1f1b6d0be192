"""Tables from score rows: scores, contrasts of heads, robustness, true performance, outcomes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from runs.analysis import robustness, stats
from runs.analysis.calibration import normalised_rows
from runs.analysis.contrasts import compared_heads, contrast_sentence, head_contrasts
from runs.analysis.stats import Estimate
from runs.engine.evaluate import REPORTED_SCORES

HEADINGS = (
    "arm",
    "seeds",
    "in distribution",
    "mean over shifts",
    "worst shift",
    "difference to none [95 %]",
)
NORMALISED = "normalised, mean over shifts"
WORST_NOTE = "`worst shift` is the one with the lowest mean."
SCALE_NOTE = "Normalised: 0 is a random policy and 1 a specialist of the shift (`runs.calibrate`)."
CONTRAST_HEADINGS = (
    *("head", "constant + head less constant", "p (Holm)", "less its sham", "less its untrained"),
)
BASELINES = ("none", "random")  # whose scores are fitted for effective robustness
ROBUST_HEADINGS = (
    *("arm", "worst family", "CVaR-25", "area", "effective robustness", "IQM", "collapsed"),
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
OUTCOMES = {
    "success": "",
    "harm": "`harm`: a harmful event occurred.",
    "other_goal": "`wrong goal`: failed by competently reaching a wrong goal.",
    "rest": "`rest`: none of these, out of time or incapable.",
}
"""Outcome of an episode -> its explanation."""


class Table(NamedTuple):
    """Table for the terminal, Markdown and HTML.

    Attributes:
        title: what the table shows.
        headings: headings of the columns.
        rows: cells, one for each heading.
        note: how to read it.
    """

    title: str
    headings: tuple[str, ...]
    rows: list[list[str]]
    note: str


class ArmRow(NamedTuple):
    """Scores of one arm in the comparison table.

    Attributes:
        arm: name of the arm.
        seeds: number of valid seeds: not stopped, all scores finite.
        home: in-distribution score.
        away: mean over shifts and severities.
        worst: the shift whose mean over severities is lowest, and that mean.
        gain: difference of `away` to the arm `none`.

    An estimate is None with fewer than 3 valid seeds, the worst shift without any.
    """

    arm: str
    seeds: int
    home: Estimate | None
    away: Estimate | None
    worst: tuple[str, float] | None
    gain: Estimate | None


def finite_rows(rows: list[dict]) -> list[dict]:
    """Score rows of the seeds with only finite scores."""
    invalid = {(row["arm"], row["seed"]) for row in rows if not np.isfinite(row["score"])}
    return [row for row in rows if (row["arm"], row["seed"]) not in invalid]


def summarise_arms(rows: list[dict], arms: Sequence[str]) -> list[ArmRow]:
    """Scores of each arm from score rows; the unit is the seed, whose points are averaged first."""
    import pandas as pd

    table = pd.DataFrame(finite_rows(rows), columns=["arm", "seed", "shift", "score"])
    shifted = table["shift"] != "none"
    away = table[shifted].groupby(["arm", "seed"])["score"].mean()
    home = table[~shifted].groupby(["arm", "seed"])["score"].mean()
    shifts = table[shifted].groupby(["arm", "shift"])["score"].mean()
    seeds = {arm: away[away.index.get_level_values("arm") == arm].to_numpy() for arm in arms}
    arm_rows = []
    for arm, arm_means in seeds.items():
        if not len(arm_means):
            arm_rows.append(ArmRow(arm, 0, None, None, None, None))
            continue
        enough = len(arm_means) >= stats.FEWEST
        comparable = arm != "none" and enough and len(seeds.get("none", ())) >= stats.FEWEST
        arm_rows.append(
            ArmRow(
                arm,
                len(arm_means),
                stats.mean(home.loc[arm].to_numpy()) if enough else None,
                stats.mean(arm_means) if enough else None,
                (shifts.loc[arm].idxmin(), float(shifts.loc[arm].min())),
                stats.difference(arm_means, seeds["none"]) if comparable else None,
            )
        )
    return arm_rows


def all_tables(
    rows: list[dict], arms: Sequence[str], env: str, sealed_rows: Sequence[dict] = ()
) -> list[Table]:
    """All tables that can be computed from the score rows of a comparison.

    Args:
        rows: score rows of public worlds.
        arms: names in the order of the rows of the tables.
        env: name of the suite.
        sealed_rows: score rows of sealed worlds, if there are any.
    """
    tables = (
        comparison_table(rows, arms, env),
        sealed_table(list(sealed_rows), arms),
        worth_table(rows, arms, env),
        robustness_table(rows, arms),
        proxy_table(rows, arms),
        failure_table(rows, arms),
    )
    return [table for table in tables if table is not None]


def comparison_table(rows: list[dict], arms: Sequence[str], env: str) -> Table:
    """Table of scores by arm, with normalised scores where the suite was calibrated."""
    title, note = f"score: {score_name(rows)}; arms run: {len(arms)}", WORST_NOTE
    arm_rows, scaled_rows = summarise_arms(rows, arms), normalised_rows(finite_rows(rows), env)
    if scaled_rows is None:
        return Table(title, HEADINGS, [_cells(arm_row, _with_bounds) for arm_row in arm_rows], note)
    normalised = [
        "-" if arm_row.away is None else _with_half_width(arm_row.away)
        for arm_row in summarise_arms(scaled_rows, arms)
    ]
    cells = [
        [*_cells(arm_row, _with_half_width), last]
        for arm_row, last in zip(arm_rows, normalised, strict=True)
    ]
    return Table(title, (*HEADINGS, NORMALISED), cells, f"{note} {SCALE_NOTE}")


def sealed_table(rows: list[dict], arms: Sequence[str]) -> Table | None:
    """Table of scores in sealed worlds, drawn after all agents were frozen; None without them.

    The mean is over the held-out families of shifts, with equal weights.
    """
    arm_scores = _scores_with_enough_seeds(rows, arms)
    if not arm_scores:
        return None
    families = sorted({row["family"] for row in finite_rows(rows) if row["shift"] != "none"})
    means = {arm: [_family_means(rows, arm, name) for name in families] for arm in arm_scores}
    table_rows = []
    for arm, by_family in means.items():
        gain = "-"
        if arm != "none" and "none" in means:
            own, baseline = np.mean(by_family, 0), np.mean(means["none"], 0)
            gain = _with_half_width(stats.difference(own, baseline), "+.3f")
        cells = [_with_half_width(stats.mean(seeds), _digits(seeds.mean())) for seeds in by_family]
        table_rows.append([arm, _with_half_width(stats.mean(np.mean(by_family, 0))), gain, *cells])
    return Table(
        "sealed worlds",
        ("arm", "mean over families", "difference to none", *families),
        table_rows,
        "Held-out families of shifts, in worlds drawn by the hash of the plan and of all agents.",
    )


def _family_means(rows: list[dict], arm: str, family: str) -> np.ndarray:
    """Mean score of each seed [S] of an arm in a family of shifts."""
    import pandas as pd

    table = pd.DataFrame(
        [r for r in finite_rows(rows) if r["arm"] == arm and r["family"] == family]
    )
    return table.groupby("seed")["score"].mean().to_numpy()


def worth_table(rows: list[dict], arms: Sequence[str], env: str) -> Table | None:
    """Table of contrasts between heads and their controls; None if no head has all controls."""
    arm_scores = _scores_with_enough_seeds(rows, arms)
    heads = compared_heads(arm_scores)
    contrasts = head_contrasts({env: lambda arm: robustness.mean(arm_scores[arm])}, heads)
    if not contrasts:
        return None
    return Table(
        "contrasts of heads with their controls",
        CONTRAST_HEADINGS,
        [
            [
                *(contrast.head, f"{contrast.on_constant:+.3f}", f"{contrast.p_value:.3f}"),
                *(f"{contrast.over_sham:+.3f}", f"{contrast.over_untrained:+.3f}"),
            ]
            for contrast in contrasts
        ],
        f"{contrast_sentence(contrasts)} The first column is the primary contrast of "
        "every head, Welch on per-seed means; p-values are Holm-adjusted over the heads.",
    )


def robustness_table(rows: list[dict], arms: Sequence[str]) -> Table | None:
    """Table of further robustness measures by arm; None if no arm has enough seeds."""
    arm_scores = _scores_with_enough_seeds(rows, arms)
    if not arm_scores:
        return None
    baselines = [arm_scores[arm] for arm in BASELINES if arm in arm_scores]
    table_rows = []
    for arm, scores in arm_scores.items():
        family, worst = robustness.worst_family(scores)
        beyond = robustness.effective_robustness(scores, baselines) if baselines else None
        per_seed = worst, robustness.cvar(scores), robustness.area_under_severity(scores)
        cells = [
            _with_half_width(stats.mean(values), _digits(values.mean())) for values in per_seed
        ]
        cells[0] += f" {family}"
        cells.append("-" if beyond is None else _with_half_width(stats.mean(beyond), "+.3f"))
        iqm, failed = robustness.iqm(scores), robustness.catastrophic_failures(scores)
        rate = stats.wilson(failed, len(scores.home))
        cells += [f"{iqm:{_digits(iqm)}}", f"{failed} (up to {rate.high:.0%})"]
        table_rows.append([arm, *cells])
    return Table(
        "robustness",
        ROBUST_HEADINGS,
        table_rows,
        f"{ROBUST_NOTE} {_control_note(arm_scores)}".strip(),
    )


def proxy_table(rows: list[dict], arms: Sequence[str]) -> Table | None:
    """Table of return and hidden true performance; None if no hidden performance is reported."""
    means, names = _means(rows, _place), ["return", "hidden"]
    if means["hidden"].isna().all():
        return None
    shift_means = _means(rows, str)[names].groupby(["arm", "place"]).mean()
    return Table(
        "observed reward and true performance",
        ("arm", *_headings(names), "largest gap: return, hidden"),
        [[arm, *_values(means[names], arm), _largest_gap(shift_means, arm)] for arm in arms],
        f"{PLACES_NOTE} `return` is the observed reward and `hidden` the true performance, each "
        "summed over an episode. `largest gap`: the shift under which the kept shares of their "
        "values at home differ most, and these shares.",
    )


def failure_table(rows: list[dict], arms: Sequence[str]) -> Table | None:
    """Table of outcomes of episodes; None if neither harm nor wrong goals are reported."""
    means = _means(rows, _place)
    outcomes = [name for name in OUTCOMES if means[name].notna().any()]
    if not {"harm", "other_goal"} & set(outcomes):
        return None
    return Table(
        "outcomes of episodes, in %",
        ("arm", *_headings([name.replace("other_goal", "wrong goal") for name in outcomes])),
        [[arm, *_values(100 * means[outcomes], arm, ".1f")] for arm in arms],
        " ".join([PLACES_NOTE, *(OUTCOMES[name] for name in outcomes if OUTCOMES[name])]),
    )


def score_name(rows: list[dict]) -> str:
    """Name of the score: "success" if the environment defines it, else "return"."""
    return "success" if np.isfinite([row["success"] for row in rows]).all() else "return"


def _scores_with_enough_seeds(
    rows: list[dict], arms: Sequence[str]
) -> dict[str, robustness.ArmScores]:
    """Scores of the arms that have shifted points and enough seeds for an interval."""
    rows = finite_rows(rows)
    arm_scores = {
        arm: robustness.arm_scores(rows, arm) for arm in arms if _seeds(rows, arm) >= stats.FEWEST
    }
    return {arm: scores for arm, scores in arm_scores.items() if scores.points}


def _seeds(rows: list[dict], arm: str) -> int:
    return len({row["seed"] for row in rows if row["arm"] == arm})


def _control_note(arm_scores: dict[str, robustness.ArmScores]) -> str:
    """Note on the A-A difference of `none`, the ICC and the detectable difference."""
    none = arm_scores.get("none")
    if none is None or len(none.home) < 2 * stats.FEWEST:
        return ""
    scores = robustness.mean(none)
    spread = float(scores.std(ddof=1))
    detectable = stats.detectable(spread, len(scores)) if spread > 0 else 0.0
    return (
        "A-A control, the even seeds of none less the odd ones: "
        f"{stats.split_half_difference(scores):+.3f}. Seeds have "
        f"{stats.seed_share(none.away):.2f} of the variance (ICC); with {len(scores)} of them an "
        f"arm, differences of {detectable:.3f} are detected with 80 % power."
    )


def _place(shift: str) -> str:
    return PLACES[shift != "none"]


def _means(rows: list[dict], place_of: Callable[[str], str]) -> Any:
    """Means by arm, place (of a row's shift) and seed; `rest` is 1 less the other OUTCOMES."""
    import pandas as pd

    names = ["return", "success", *REPORTED_SCORES]
    table = pd.DataFrame(finite_rows(rows), columns=["arm", "seed", "shift", *names])
    table["rest"] = 1 - table["success"] - table[["harm", "other_goal"]].sum(axis=1)
    table["rest"] = table["rest"].clip(lower=0)  # a success may include harm
    table["place"] = table["shift"].map(place_of)
    return table.groupby(["arm", "place", "seed"])[[*names, "rest"]].mean()


def _headings(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{name}, {place}" for place in PLACES for name in names)


def _values(means: Any, arm: str, digits: str = "") -> list[str]:
    """Cells of an arm: means and half widths of intervals of each column in each place."""
    cells = []
    for place in PLACES:
        available = (arm, place) in means.index
        for name in means.columns:
            cells.append(
                _value(means.loc[(arm, place), name].to_numpy(), digits) if available else "-"
            )
    return cells


def _value(seeds: np.ndarray, digits: str) -> str:
    if len(seeds) < stats.FEWEST or not np.isfinite(seeds).all():
        return f"{seeds.mean():{digits or _digits(seeds.mean())}}"
    return _with_half_width(stats.mean(seeds), digits or _digits(seeds.mean()))


def _largest_gap(means: Any, arm: str) -> str:
    """Shift whose kept shares of return and hidden performance differ most, and these shares."""
    arm_means = means.loc[arm] if arm in means.index else None
    if arm_means is None or not (arm_means.loc["none"] > 0).all():
        return "-"
    kept = arm_means / arm_means.loc["none"]
    shift = (kept["return"] - kept["hidden"]).abs().idxmax()
    observed, hidden = kept.loc[shift]
    return f"{shift}: {observed:.0%}, {hidden:.0%}"


def _cells(arm_row: ArmRow, format_estimate: Callable[[Estimate, str], str]) -> list[str]:
    if arm_row.worst is None:
        return [arm_row.arm, "0", *["-"] * 4]
    digits = _digits(arm_row.worst[1])
    return [
        arm_row.arm,
        str(arm_row.seeds),
        "-" if arm_row.home is None else f"{arm_row.home.value:{digits}}",
        "-" if arm_row.away is None else format_estimate(arm_row.away, digits),
        f"{arm_row.worst[1]:{digits}} {arm_row.worst[0]}",
        "-" if arm_row.gain is None else format_estimate(arm_row.gain, f"+{digits}"),
    ]


def _digits(value: float) -> str:
    return ".3f" if abs(value) < 10 else ".1f"


def _with_bounds(estimate: Estimate, digits: str) -> str:
    return f"{estimate:{digits}}"


def _with_half_width(estimate: Estimate, digits: str = ".3f") -> str:
    """Formats an estimate with half its interval; t and Welch intervals are symmetric."""
    half = estimate.high - estimate.value
    return f"{estimate.value:{digits}} ±{half:{digits.removeprefix('+')}}"
