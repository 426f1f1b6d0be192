"""What learning where nobody pays came to: shares, contrasts, a sentence, tables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from runs.adaptation.reward_arms import CONTROLS, TESTED
from runs.analysis import stats
from runs.analysis.stats import Estimate

Found = Mapping[tuple[str, float, str], dict]  # (shift, severity, arm) -> its part


class GainRow(NamedTuple):
    """One arm over some shifts; estimates are over seeds, whose shifts are averaged first.

    Attributes:
        arm: its name.
        away: score in the shifted worlds.
        crash: share of episodes there that came to harm; NaN where the world does not say.
        late: share that neither succeeded nor came to harm.
        home: score in the home world, after learning away.
        gain: `away` less that of the frozen agent, paired; None for that one.
        share: of the ceiling's gain, with a bootstrap over seeds.
        less: hope - fear less this arm, paired; None for hope - fear.
        p_value: of that, Holm-adjusted over CONTROLS; None for all other arms.
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
    found: Found, shifts: Sequence[str], arm: str, where: str = "away", severity: float = 1.0
):
    """The score of an arm's seeds [S], the mean over shifts: success, or return without one."""
    parts = [found[shift, severity, arm][where] for shift in shifts]
    return np.mean([part["success"] for part in map(_scored, parts)], 0)


def seed_outcomes(found: Found, shifts: Sequence[str], arm: str, name: str) -> np.ndarray:
    """Another score of an arm's seeds away, [S], such as `harm`; the mean over shifts."""
    return np.mean([found[shift, 1.0, arm]["away"][name] for shift in shifts], 0)


def summarise(found: Found, shifts: Sequence[str], arms: Sequence[str]) -> list[GainRow]:
    """A line an arm over these shifts at severity 1, in the order of the arms."""
    away = {arm: seed_scores(found, shifts, arm) for arm in arms}
    home = {arm: seed_scores(found, shifts, arm, "home") for arm in arms}
    controls = [arm for arm in CONTROLS if arm in arms]
    raw = {arm: p_paired(away[TESTED], away[arm]) for arm in controls}
    adjusted, lines = stats.holm(raw), []
    for arm in arms:
        crash = float(seed_outcomes(found, shifts, arm, "harm").mean())
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
    """Gain of x [S] over frozen as a share of the ceiling's; seeds are resampled together."""
    picked = np.random.default_rng(0).integers(len(x), size=(10_000, len(x)))

    def share(x, frozen, ceiling):
        room = (ceiling - frozen).mean(-1)
        return (x - frozen).mean(-1) / np.where(np.abs(room) < 1e-9, np.nan, room)

    drawn = share(x[picked], frozen[picked], ceiling[picked])
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (np.nan,) * 2
    return Estimate(float(share(x, frozen, ceiling)), float(low), float(high))


def p_paired(x: np.ndarray, y: np.ndarray) -> float:
    """P-value of a paired t test, two-sided; 1 where nothing differs."""
    from scipy import stats as tests

    apart = np.asarray(x, np.float64) - np.asarray(y, np.float64)
    if np.ptp(apart) == 0:
        return 1.0 if apart[0] == 0 else 0.0
    return float(tests.ttest_1samp(apart, 0.0).pvalue)


def auroc_at_zero_gain(auroc: np.ndarray, gain: np.ndarray) -> Estimate:
    """The AUROC at which the mean gain falls to 0, by lines between levels; seeds resampled.

    Args:
        auroc: [L, S] of L levels of wrongness, from the best head to the worst.
        gain: [L, S] of the same.

    Returns:
        NaN where the gain never changes sign; the interval is of the draws in which it does.
    """
    picked = np.random.default_rng(0).integers(gain.shape[1], size=(2_000, gain.shape[1]))
    draws = [_zero_crossing(auroc[:, one].mean(1), gain[:, one].mean(1)) for one in picked]
    low, high = np.nanquantile(draws, [0.025, 0.975]) if np.isfinite(draws).any() else (np.nan,) * 2
    return Estimate(_zero_crossing(auroc.mean(1), gain.mean(1)), float(low), float(high))


def finding(lines: Sequence[GainRow], primary: tuple[str, str], shifts: Sequence[str]) -> str:
    """What was found of the declared contrast, in a sentence, whichever way it falls."""
    by_name = {line.arm: line for line in lines}
    feeling, rival = by_name[TESTED], by_name[primary[1]]
    verdict = "beats" if rival.less.low > 0 else "is not told apart from"
    verdict = "falls below" if rival.less.high < 0 else verdict
    beaten = [arm for arm in CONTROLS if arm in by_name and by_name[arm].less.low > 0]
    others = [arm for arm in CONTROLS if arm in by_name and arm not in beaten]
    rest = f"it is not above {', '.join(others)}" if others else "it is above each of them"
    return (
        f"Where nobody pays, hope - fear {verdict} {primary[1]}, the best control of the dev "
        f"shifts: {rival.less} over {', '.join(shifts)}. Against the frozen agent it is "
        f"{feeling.gain}, {feeling.share:.0%} of what the true reward gains "
        f"({by_name['true'].gain}); of {len(beaten) + len(others)} controls {rest}. At home "
        f"{feeling.home.value:.3f} is left of {by_name['frozen'].home.value:.3f}."
    )


def arm_table(lines: Sequence[GainRow]) -> str:
    """A row an arm."""
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


def shift_table(found: Found, shifts: Sequence[str], arms: Sequence[str]) -> str:
    """Score of each arm in each shift at severity 1."""
    rows = []
    for arm in arms:
        means = [stats.mean(seed_scores(found, [shift], arm)) for shift in shifts]
        rows.append((arm, *(f"{one:.3f}" for one in means)))
    return markdown_table(("arm", *shifts), rows)


def variant_table(found: Found, shifts: Sequence[str], arms: Sequence[str]) -> str:
    """Each variant at severity 1: score, gain over frozen, skill at home."""
    frozen, rows = seed_scores(found, shifts, "frozen"), []
    for arm in arms:
        away = seed_scores(found, shifts, arm)
        gain = stats.paired(away, frozen)
        home = seed_scores(found, shifts, arm, "home").mean()
        rows.append((arm, f"{stats.mean(away):.3f}", f"{gain}", f"{home:.3f}"))
    return markdown_table(("hope - fear", "away", "less frozen", "home"), rows)


def severity_table(found: Found, shifts: Sequence[str], severities: Sequence[float]) -> str:
    """Score of hope - fear and its bounds, by severity of the shifts that were learned in."""
    rows = []
    for severity in severities:
        away = {
            arm: seed_scores(found, shifts, arm, severity=severity)
            for arm in ("frozen", "zero", TESTED, "true")
        }
        means = (f"{stats.mean(x):.3f}" for x in away.values())
        share = share_of_ceiling(away[TESTED], away["frozen"], away["true"])
        rows.append((f"{severity:g}", *means, f"{share:.0%}"))
    return markdown_table(("severity", "frozen", "zero", "hope - fear", "true", "share"), rows)


def label_noise_table(levels: Sequence[dict[str, Any]]) -> str:
    """What a head that was told wrong still knows, and what is learned from it.

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
    head = ("told wrong", "AUROC at home", "AUROC away", "AUROC at the end away", "less frozen")
    return markdown_table(head, rows)


def zero_gain_sentence(levels: Sequence[dict[str, Any]]) -> str:
    """At what AUROC the gain turns to loss, in a sentence."""
    gain = np.array([level["gain"] for level in levels])
    if np.isnan(_zero_crossing(np.arange(len(gain), dtype=float), gain.mean(1))):
        sign = "gain" if gain.mean() > 0 else "lose"
        return f"Learning unpaid never turns from gain to loss over these levels: all {sign}."
    said = []
    for name, words in (("soon", "for harm within 10 steps"), ("end", "at the end")):
        auroc = np.array([level[name] for level in levels])
        said.append(f"{auroc_at_zero_gain(np.nan_to_num(auroc, nan=0.5), gain):.2f} {words}")
    return f"Learning unpaid turns harmful at an AUROC of {' and '.join(said)}."


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(map(" | ".join, [head, ["---"] * len(head), *rows]))


def _scored(part: dict) -> dict:
    """A part whose `success` is its return where the world knows no success."""
    if np.isnan(np.array(part["success"], float)).all():
        return part | {"success": part["return"]}
    return part


def _zero_crossing(auroc: np.ndarray, gain: np.ndarray) -> float:
    """Where the line through (auroc, gain) [L] first goes from above 0 to below; NaN if never."""
    for k in range(len(gain) - 1):
        if gain[k] > 0 >= gain[k + 1]:
            share = gain[k] / (gain[k] - gain[k + 1])
            return float(auroc[k] + share * (auroc[k + 1] - auroc[k]))
    return float("nan")
