"""Summary of the reward-free study: gains, shares of the ceiling, contrasts and tables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from runs.adaptation.reward_arms import CONTROLS, TESTED
from runs.analysis import stats
from runs.analysis.stats import Estimate

Parts = Mapping[tuple[str, float, str], dict]  # (shift, severity, arm) -> its part


class GainRow(NamedTuple):
    """Scores and contrasts of one arm, averaged over shifts; estimates are over seeds.

    Attributes:
        arm: its name.
        away: score in the shifted worlds.
        crash: share of episodes there with harm; NaN where the environment reports none.
        late: share without success or harm.
        home: score in the home world, after training away.
        gain: `away` less that of the frozen agent, paired; None for the frozen agent.
        share: of the ceiling's gain, with a bootstrap interval over seeds.
        less: hope - fear less this arm, paired; None for hope - fear.
        p_value: of `less`, Holm-adjusted over CONTROLS; None for all other arms.
    """

    arm: str
    away: Estimate
    crash: float
    late: float
    home: Estimate
    gain: Estimate | None
    share: Estimate
    less: Estimate | None
    p_value: float | None


def seed_scores(
    parts: Parts, shifts: Sequence[str], arm: str, place: str = "away", severity: float = 1.0
):
    """Scores [S] of an arm, averaged over shifts: success, or return where there is none."""
    shift_parts = [parts[shift, severity, arm][place] for shift in shifts]
    return np.mean([part["success"] for part in map(_scored, shift_parts)], 0)


def seed_outcomes(parts: Parts, shifts: Sequence[str], arm: str, name: str) -> np.ndarray:
    """Another score [S] of an arm in shifted worlds, such as `harm`, averaged over shifts."""
    return np.mean([parts[shift, 1.0, arm]["away"][name] for shift in shifts], 0)


def summarise(parts: Parts, shifts: Sequence[str], arms: Sequence[str]) -> list[GainRow]:
    """A `GainRow` for each arm over these shifts at severity 1, in the order of the arms."""
    away = {arm: seed_scores(parts, shifts, arm) for arm in arms}
    home = {arm: seed_scores(parts, shifts, arm, "home") for arm in arms}
    controls = [arm for arm in CONTROLS if arm in arms]
    raw = {arm: p_paired(away[TESTED], away[arm]) for arm in controls}
    adjusted, lines = stats.holm(raw), []
    for arm in arms:
        crash = float(seed_outcomes(parts, shifts, arm, "harm").mean())
        less = None if arm == TESTED else stats.paired(away[TESTED], away[arm])
        gain = None if arm == "frozen" else stats.paired(away[arm], away["frozen"])
        share = share_of_ceiling(away[arm], away["frozen"], away["true"])
        lines.append(
            GainRow(
                arm=arm,
                away=stats.mean(away[arm]),
                crash=crash,
                late=1 - float(away[arm].mean()) - crash,
                home=stats.mean(home[arm]),
                gain=gain,
                share=share,
                less=less,
                p_value=adjusted.get(arm),
            )
        )
    return lines


def share_of_ceiling(x: np.ndarray, frozen: np.ndarray, ceiling: np.ndarray) -> Estimate:
    """Gain of x [S] over frozen as a share of the ceiling's, with a bootstrap over seeds."""
    resamples = np.random.default_rng(0).integers(len(x), size=(10_000, len(x)))

    def share(x, frozen, ceiling):
        ceiling_gain = (ceiling - frozen).mean(-1)
        return (x - frozen).mean(-1) / np.where(np.abs(ceiling_gain) < 1e-9, np.nan, ceiling_gain)

    shares = share(x[resamples], frozen[resamples], ceiling[resamples])
    low, high = (
        np.nanquantile(shares, [0.025, 0.975]) if np.isfinite(shares).any() else (np.nan,) * 2
    )
    return Estimate(float(share(x, frozen, ceiling)), float(low), float(high))


def p_paired(x: np.ndarray, y: np.ndarray) -> float:
    """P-value of a paired two-sided t test; 1 where nothing differs."""
    from scipy import stats as tests

    differences = np.asarray(x, np.float64) - np.asarray(y, np.float64)
    if np.ptp(differences) == 0:
        return 1.0 if differences[0] == 0 else 0.0
    return float(tests.ttest_1samp(differences, 0.0).pvalue)


def auroc_at_zero_gain(auroc: np.ndarray, gain: np.ndarray) -> Estimate:
    """AUROC at which the mean gain falls to 0, interpolated between levels; bootstrap over seeds.

    Args:
        auroc: [L, S] of L levels of label noise, from the least to the most.
        gain: [L, S] of the same.

    Returns:
        NaN where the gain never changes sign; the interval is of the draws in which it does.
    """
    resamples = np.random.default_rng(0).integers(gain.shape[1], size=(2_000, gain.shape[1]))
    crossings = [
        _zero_crossing(auroc[:, seeds].mean(1), gain[:, seeds].mean(1)) for seeds in resamples
    ]
    low, high = (
        np.nanquantile(crossings, [0.025, 0.975]) if np.isfinite(crossings).any() else (np.nan,) * 2
    )
    return Estimate(_zero_crossing(auroc.mean(1), gain.mean(1)), float(low), float(high))


def finding(lines: Sequence[GainRow], primary: tuple[str, str], shifts: Sequence[str]) -> str:
    """One sentence with the registered contrast and its verdict."""
    by_name = {line.arm: line for line in lines}
    tested, rival = by_name[TESTED], by_name[primary[1]]
    verdict = "beats" if rival.less.low > 0 else "is not told apart from"
    verdict = "falls below" if rival.less.high < 0 else verdict
    beaten = [arm for arm in CONTROLS if arm in by_name and by_name[arm].less.low > 0]
    others = [arm for arm in CONTROLS if arm in by_name and arm not in beaten]
    not_beaten = f"it is not above {', '.join(others)}" if others else "it is above each of them"
    return (
        f"Without task reward, hope - fear {verdict} {primary[1]}, the best control of the dev "
        f"shifts: {rival.less} over {', '.join(shifts)}. Against the frozen agent it is "
        f"{tested.gain}, {tested.share:.0%} of what the true reward gains "
        f"({by_name['true'].gain}); of {len(beaten) + len(others)} controls {not_beaten}. Its "
        f"score at home is {tested.home.value:.3f}, {by_name['frozen'].home.value:.3f} before."
    )


def arm_table(lines: Sequence[GainRow]) -> str:
    """Markdown table with a row an arm."""
    head = (
        "arm",
        "away",
        "crash",
        "neither",
        "home",
        "less frozen",
        "share of the ceiling's gain",
        "hope - fear less this",
        "p (Holm)",
    )
    rows = [
        (
            line.arm,
            f"{line.away:.3f}",
            f"{line.crash:.3f}",
            f"{line.late:.3f}",
            f"{line.home.value:.3f}",
            "-" if line.gain is None else f"{line.gain}",
            "-" if line.arm == "frozen" else f"{line.share:.0%}",
            "-" if line.less is None else f"{line.less}",
            "-" if line.p_value is None else f"{line.p_value:.3f}",
        )
        for line in lines
    ]
    return markdown_table(head, rows)


def shift_table(parts: Parts, shifts: Sequence[str], arms: Sequence[str]) -> str:
    """Markdown table of the score of each arm in each shift at severity 1."""
    rows = []
    for arm in arms:
        means = [stats.mean(seed_scores(parts, [shift], arm)) for shift in shifts]
        rows.append((arm, *(f"{mean:.3f}" for mean in means)))
    return markdown_table(("arm", *shifts), rows)


def variant_table(parts: Parts, shifts: Sequence[str], arms: Sequence[str]) -> str:
    """Markdown table of each variant at severity 1: score, gain over frozen, score at home."""
    frozen, rows = seed_scores(parts, shifts, "frozen"), []
    for arm in arms:
        away = seed_scores(parts, shifts, arm)
        gain = stats.paired(away, frozen)
        home = seed_scores(parts, shifts, arm, "home").mean()
        rows.append((arm, f"{stats.mean(away):.3f}", f"{gain}", f"{home:.3f}"))
    return markdown_table(("hope - fear", "away", "less frozen", "home"), rows)


def severity_table(parts: Parts, shifts: Sequence[str], severities: Sequence[float]) -> str:
    """Markdown table of hope - fear and its bounds, by severity of the shifts."""
    rows = []
    for severity in severities:
        away = {
            arm: seed_scores(parts, shifts, arm, severity=severity)
            for arm in ("frozen", "zero", TESTED, "true")
        }
        means = (f"{stats.mean(x):.3f}" for x in away.values())
        share = share_of_ceiling(away[TESTED], away["frozen"], away["true"])
        rows.append((f"{severity:g}", *means, f"{share:.0%}"))
    return markdown_table(("severity", "frozen", "zero", "hope - fear", "true", "share"), rows)


def label_noise_table(levels: Sequence[dict[str, Any]]) -> str:
    """Markdown table of AUROC and gain by the share of flipped labels.

    Args:
        levels: each with `share`, and `soon`, `home`, `end` (AUROC) and `gain`, all [S].
    """
    rows = [
        (
            f"{level['share']:g}",
            *(f"{np.nanmean(level[name]):.3f}" for name in ("home", "soon", "end")),
            f"{stats.mean(level['gain'])}",
        )
        for level in levels
    ]
    head = ("flipped", "AUROC at home", "AUROC away", "AUROC at the end away", "less frozen")
    return markdown_table(head, rows)


def zero_gain_sentence(levels: Sequence[dict[str, Any]]) -> str:
    """One sentence with the AUROC at which the gain turns to loss."""
    gain = np.array([level["gain"] for level in levels])
    if np.isnan(_zero_crossing(np.arange(len(gain), dtype=float), gain.mean(1))):
        sign = "gain" if gain.mean() > 0 else "lose"
        return f"Training without reward never turns from gain to loss at these levels: all {sign}."
    clauses = []
    for name, where in (("soon", "for harm within 10 steps"), ("end", "at the end")):
        auroc = np.array([level[name] for level in levels])
        clauses.append(f"{auroc_at_zero_gain(np.nan_to_num(auroc, nan=0.5), gain):.2f} {where}")
    return f"Training without reward turns harmful at an AUROC of {' and '.join(clauses)}."


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Join a head and rows of cells to a Markdown table."""
    return "\n".join(map(" | ".join, [head, ["---"] * len(head), *rows]))


def _scored(part: dict) -> dict:
    """The part, with `success` replaced by the return where all of it is NaN."""
    if np.isnan(np.array(part["success"], float)).all():
        return part | {"success": part["return"]}
    return part


def _zero_crossing(auroc: np.ndarray, gain: np.ndarray) -> float:
    """AUROC where the line through (auroc, gain) [L] first crosses 0 downwards; or NaN."""
    for k in range(len(gain) - 1):
        if gain[k] > 0 >= gain[k + 1]:
            share = gain[k] / (gain[k] - gain[k + 1])
            return float(auroc[k] + share * (auroc[k + 1] - auroc[k]))
    return float("nan")
