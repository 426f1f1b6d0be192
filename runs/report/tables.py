"""What score rows have to say, as tables: who does best, how robustly, and how it ends."""

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
WORST = "`worst shift` is the one with the lowest mean."
SCALE = "Normalised, 0 is a random policy and 1 a specialist of the shift (`runs.calibrate`)."
WORTH = (
    *("head", "constant + head less constant", "p (Holm)", "less its sham", "less its scrambled"),
)
BASELINES = ("none", "random")  # whose home scores predict what others lose
ROBUST = (*("arm", "worst family", "CVaR-25", "area", "beyond home", "IQM", "collapsed"),)
ROBUSTNESS = (
    "`CVaR-25`: mean over the worst quarter of a run's points. `area`: under the severity curve. "
    "`beyond home`: above what the home score predicts from none and random. `IQM`: drops the best "
    "and the worst quarter of all cells, failures among them. `collapsed`: runs that keep less "
    "than half of their home score, with Wilson's upper bound."
)
PLACES = ("home", "shifted")
HOME = "`home` is in distribution, `shifted` the mean over shifts and severities."
ENDINGS = {
    "success": "",
    "harm": "`harm`: came to some.",
    "other_goal": "`wrong goal`: failed, and had gone competently to the wrong thing.",
    "rest": "`rest`: none of these, out of time or incapable.",
}
"""How an episode may end, and what that means."""


class Table(NamedTuple):
    """What is shown, in the terminal and as Markdown.

    Attributes:
        title: what is in it.
        headings: of its columns.
        rows: cells, one for each heading.
        note: how to read it.
    """

    title: str
    headings: tuple[str, ...]
    rows: list[list[str]]
    note: str


class ArmRow(NamedTuple):
    """One arm of the table.

    Attributes:
        arm: its name.
        seeds: that count: neither stopped nor paid what is not a number.
        home: in-distribution score.
        away: mean over shifts and severities.
        worst: the shift whose mean over severities is lowest, and that mean.
        gain: difference of `away` to the arm `none`.

    An estimate is None where fewer than 3 seeds count, the worst shift where none does.
    """

    arm: str
    seeds: int
    home: Estimate | None
    away: Estimate | None
    worst: tuple[str, float] | None
    gain: Estimate | None


def finite_rows(rows: list[dict]) -> list[dict]:
    """The score rows of the seeds whose every score is a number."""
    lost = {(row["arm"], row["seed"]) for row in rows if not np.isfinite(row["score"])}
    return [row for row in rows if (row["arm"], row["seed"]) not in lost]


def summarise_arms(rows: list[dict], arms: Sequence[str]) -> list[ArmRow]:
    """The table, from score rows. The unit is the seed: its points are averaged first."""
    import pandas as pd

    table = pd.DataFrame(finite_rows(rows), columns=["arm", "seed", "shift", "score"])
    shifted = table["shift"] != "none"
    away = table[shifted].groupby(["arm", "seed"])["score"].mean()
    home = table[~shifted].groupby(["arm", "seed"])["score"].mean()
    shifts = table[shifted].groupby(["arm", "shift"])["score"].mean()
    seeds = {arm: away[away.index.get_level_values("arm") == arm].to_numpy() for arm in arms}
    lines = []
    for arm, mine in seeds.items():
        if not len(mine):
            lines.append(ArmRow(arm, 0, None, None, None, None))
            continue
        enough = len(mine) >= stats.FEWEST
        against = arm != "none" and enough and len(seeds.get("none", ())) >= stats.FEWEST
        lines.append(
            ArmRow(
                arm,
                len(mine),
                stats.mean(home.loc[arm].to_numpy()) if enough else None,
                stats.mean(mine) if enough else None,
                (shifts.loc[arm].idxmin(), float(shifts.loc[arm].min())),
                stats.difference(mine, seeds["none"]) if against else None,
            )
        )
    return lines


def all_tables(
    rows: list[dict], arms: Sequence[str], env: str, hidden: Sequence[dict] = ()
) -> list[Table]:
    """All that the score rows have to say: who does best, what was paid for, how it ended.

    Args:
        rows: public ones.
        arms: in their order.
        env: name of the suite.
        hidden: score rows of sealed worlds, if there are any.
    """
    found = (
        comparison_table(rows, arms, env),
        sealed_table(list(hidden), arms),
        worth_table(rows, arms, env),
        robustness_table(rows, arms),
        proxy_table(rows, arms),
        failure_table(rows, arms),
    )
    return [table for table in found if table is not None]


def comparison_table(rows: list[dict], arms: Sequence[str], env: str) -> Table:
    """The arms by score; where the environment was calibrated, also by what it is worth there."""
    title, note = f"score: {score_name(rows)}; arms run: {len(arms)}", WORST
    lines, scaled = summarise_arms(rows, arms), normalised_rows(finite_rows(rows), env)
    if scaled is None:
        return Table(title, HEADINGS, [_cells(line, _bounds) for line in lines], note)
    worth = [
        "-" if line.away is None else _half(line.away) for line in summarise_arms(scaled, arms)
    ]
    cells = [[*_cells(line, _half), last] for line, last in zip(lines, worth, strict=True)]
    return Table(title, (*HEADINGS, NORMALISED), cells, f"{note} {SCALE}")


def sealed_table(rows: list[dict], arms: Sequence[str]) -> Table | None:
    """Scores in worlds that nobody knew before all agents were frozen; None where there are none.

    The mean is over the families that were kept back, each of which counts once.
    """
    counted = _with_enough(rows, arms)
    if not counted:
        return None
    families = sorted({row["family"] for row in finite_rows(rows) if row["shift"] != "none"})
    means = {arm: [_in_family(rows, arm, name) for name in families] for arm in counted}
    lines = []
    for arm, each in means.items():
        gain = "-"
        if arm != "none" and "none" in means:
            mine, theirs = np.mean(each, 0), np.mean(means["none"], 0)
            gain = _half(stats.difference(mine, theirs), "+.3f")
        cells = [_half(stats.mean(seeds), _digits(seeds.mean())) for seeds in each]
        lines.append([arm, _half(stats.mean(np.mean(each, 0))), gain, *cells])
    return Table(
        "sealed worlds",
        ("arm", "mean over families", "difference to none", *families),
        lines,
        "Families that were kept back, in worlds drawn by the hash of the plan and of all agents.",
    )


def _in_family(rows: list[dict], arm: str, family: str) -> np.ndarray:
    """Mean score of each seed [S] in a family of shifts."""
    import pandas as pd

    table = pd.DataFrame(
        [r for r in finite_rows(rows) if r["arm"] == arm and r["family"] == family]
    )
    return table.groupby("seed")["score"].mean().to_numpy()


def worth_table(rows: list[dict], arms: Sequence[str], env: str) -> Table | None:
    """What each head adds to a constant, and to its own controls; None where one is missing."""
    counted = _with_enough(rows, arms)
    heads = compared_heads(counted)
    found = head_contrasts({env: lambda arm: robustness.mean(counted[arm])}, heads)
    if not found:
        return None
    return Table(
        "what a head is worth",
        WORTH,
        [
            [
                *(one.head, f"{one.on_constant:+.3f}", f"{one.p_value:.3f}"),
                *(f"{one.over_sham:+.3f}", f"{one.over_scrambled:+.3f}"),
            ]
            for one in found
        ],
        f"{contrast_sentence(found)} The first column is the primary contrast of every head, Welch on "
        "per-seed means; p-values are Holm-adjusted over the heads.",
    )


def robustness_table(rows: list[dict], arms: Sequence[str]) -> Table | None:
    """How robust each arm is by other measures; None where no arm has seeds enough."""
    counted = _with_enough(rows, arms)
    if not counted:
        return None
    baselines = [counted[arm] for arm in BASELINES if arm in counted]
    lines = []
    for arm, own in counted.items():
        family, worst = robustness.worst_family(own)
        beyond = robustness.effective_robustness(own, baselines) if baselines else None
        per_seed = worst, robustness.cvar(own), robustness.area_under_severity(own)
        cells = [_half(stats.mean(each), _digits(each.mean())) for each in per_seed]
        cells[0] += f" {family}"
        cells.append("-" if beyond is None else _half(stats.mean(beyond), "+.3f"))
        middle, failed = robustness.iqm(own), robustness.catastrophic_failures(own)
        rate = stats.wilson(failed, len(own.home))
        cells += [f"{middle:{_digits(middle)}}", f"{failed} (up to {rate.high:.0%})"]
        lines.append([arm, *cells])
    return Table("how robust", ROBUST, lines, f"{ROBUSTNESS} {_null_note(counted)}".strip())


def proxy_table(rows: list[dict], arms: Sequence[str]) -> Table | None:
    """What is paid beside what is wanted; None where no hidden performance is reported."""
    means, names = _means(rows, _place), ["return", "hidden"]
    if means["hidden"].isna().all():
        return None
    left = _means(rows, str)[names].groupby(["arm", "place"]).mean()
    return Table(
        "what is paid, and what is wanted",
        ("arm", *_headings(names), "parts most: return, hidden"),
        [[arm, *_values(means[names], arm), _largest_gap(left, arm)] for arm in arms],
        f"{HOME} `return` is the observed reward and `hidden` the true performance, each summed "
        "over an episode. `parts most`: the shift under which the shares of them that are left of "
        "home are furthest apart, and these shares.",
    )


def failure_table(rows: list[dict], arms: Sequence[str]) -> Table | None:
    """Failures told apart; None where neither harm nor a wrong goal is reported."""
    means = _means(rows, _place)
    told = [name for name in ENDINGS if means[name].notna().any()]
    if not {"harm", "other_goal"} & set(told):
        return None
    return Table(
        "how episodes end, in %",
        ("arm", *_headings([name.replace("other_goal", "wrong goal") for name in told])),
        [[arm, *_values(100 * means[told], arm, ".1f")] for arm in arms],
        " ".join([HOME, *(ENDINGS[name] for name in told if ENDINGS[name])]),
    )


def score_name(rows: list[dict]) -> str:
    """What the score is: success wherever the environment says what that is."""
    return "success" if np.isfinite([row["success"] for row in rows]).all() else "return"


def _with_enough(rows: list[dict], arms: Sequence[str]) -> dict[str, robustness.ArmScores]:
    """The cells of the arms that have seeds and shifts enough for an interval."""
    rows = finite_rows(rows)
    found = {
        arm: robustness.arm_scores(rows, arm) for arm in arms if _seeds(rows, arm) >= stats.FEWEST
    }
    return {arm: own for arm, own in found.items() if own.points}


def _seeds(rows: list[dict], arm: str) -> int:
    return len({row["seed"] for row in rows if row["arm"] == arm})


def _null_note(counted: dict[str, robustness.ArmScores]) -> str:
    """What a difference between two halves of one arm looks like, and what could be seen."""
    own = counted.get("none")
    if own is None or len(own.home) < 2 * stats.FEWEST:
        return ""
    scores = robustness.mean(own)
    spread = float(scores.std(ddof=1))
    visible = stats.detectable(spread, len(scores)) if spread > 0 else 0.0
    return (
        f"A-A control, the even seeds of none less the odd ones: {stats.split_half_difference(scores):+.3f}. Seeds "
        f"have {stats.seed_share(own.away):.2f} of the variance (ICC); with {len(scores)} of them "
        f"an arm, differences of {visible:.3f} are found four times in five."
    )


def _place(shift: str) -> str:
    return PLACES[shift != "none"]


def _means(rows: list[dict], place: Callable[[str], str]) -> Any:
    """Means by arm, place (of a row's shift) and seed; `rest` is what ENDINGS leave of 1."""
    import pandas as pd

    names = ["return", "success", *REPORTED_SCORES]
    table = pd.DataFrame(finite_rows(rows), columns=["arm", "seed", "shift", *names])
    table["rest"] = 1 - table["success"] - table[["harm", "other_goal"]].sum(axis=1)
    table["rest"] = table["rest"].clip(lower=0)  # a success may come to harm
    table["place"] = table["shift"].map(place)
    return table.groupby(["arm", "place", "seed"])[[*names, "rest"]].mean()


def _headings(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{name}, {place}" for place in PLACES for name in names)


def _values(means: Any, arm: str, digits: str = "") -> list[str]:
    """Each column of per-seed means in each place, as a mean and half its interval."""
    cells = []
    for place in PLACES:
        here = (arm, place) in means.index
        for name in means.columns:
            cells.append(_value(means.loc[(arm, place), name].to_numpy(), digits) if here else "-")
    return cells


def _value(seeds: np.ndarray, digits: str) -> str:
    if len(seeds) < stats.FEWEST or not np.isfinite(seeds).all():
        return f"{seeds.mean():{digits or _digits(seeds.mean())}}"
    return _half(stats.mean(seeds), digits or _digits(seeds.mean()))


def _largest_gap(means: Any, arm: str) -> str:
    """The shift under which return and hidden performance part most, and what is left of each."""
    mine = means.loc[arm] if arm in means.index else None
    if mine is None or not (mine.loc["none"] > 0).all():
        return "-"
    left = mine / mine.loc["none"]
    shift = (left["return"] - left["hidden"]).abs().idxmax()
    paid, wanted = left.loc[shift]
    return f"{shift}: {paid:.0%}, {wanted:.0%}"


def _cells(line: ArmRow, form: Callable[[Estimate, str], str]) -> list[str]:
    if line.worst is None:
        return [line.arm, "0", *["-"] * 4]
    digits = _digits(line.worst[1])
    return [
        line.arm,
        str(line.seeds),
        "-" if line.home is None else f"{line.home.value:{digits}}",
        "-" if line.away is None else form(line.away, digits),
        f"{line.worst[1]:{digits}} {line.worst[0]}",
        "-" if line.gain is None else form(line.gain, f"+{digits}"),
    ]


def _digits(value: float) -> str:
    return ".3f" if abs(value) < 10 else ".1f"


def _bounds(estimate: Estimate, digits: str) -> str:
    return f"{estimate:{digits}}"


def _half(estimate: Estimate, digits: str = ".3f") -> str:
    """The same in less room: t and Welch intervals are symmetric."""
    half = estimate.high - estimate.value
    return f"{estimate.value:{digits}} ±{half:{digits.removeprefix('+')}}"
