"""Page of the reward-free study: finding, tables of arms, gain by label noise, three figures."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runs.analysis import stats
from runs.analysis.contrasts import contrasts
from runs.analysis.stats import Estimate
from runs.cli.study import Job
from runs.prereg import audit
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_means, new_figure, new_panels, save_figure, save_with_legend
from runs.reward_free_design import CONTROLS, RewardFreeDesign, read_choices
from runs.signal_arms import TESTED
from runs.study_run import finite_seeds, page_name

CURVE_ARMS = ("zero", "sham", "critic", "reward_model", TESTED, "true")  # with a learning curve
COLOURS = {
    TESTED: "#c8553d",
    "true": "#2f7d4f",
    "zero": "#8b929c",
    "sham": "#5f87b0",
    "critic": "#d79b2f",
    "reward_model": "#7b5ea7",
}
CONTROL, OTHER = "#9aa3ae", "#4a7fb5"  # colours of bars
AUROCS = {"soon": "for harm within 10 steps", "end": "at the end"}  # in the label-noise results
NOTE = (
    "Away and home are evaluated by the task reward after training. Shifts are averaged inside a "
    "seed; differences are paired by seed, t intervals at 95 %; shares of the ceiling's gain have "
    "a bootstrap over seeds. Holm over hope - fear less each control. `zero_critic_kept` has no "
    "reward either, but keeps the critic from home: its gain comes from that critic, so all other "
    "arms start with a new one. `critic` is that critic as a potential. `reward_model` is the "
    "reward predicted from the observation, at every step, `classifier` the same, learned and used "
    "at ends alone. `unanchored` are hope and fear that never learned from a terminal observation. "
    "`neither`: without success or harm."
)
LABEL_NOISE_NOTE = (
    "`flipped`: share of the ends that hope and fear learned from with flipped labels: harm for "
    "none, and the negative reward. AUROC of fear is for harm within 10 steps while the episode "
    "goes on, at the end that of fear less hope at terminal observations, both on episodes of the "
    "frozen agent on the dev shifts."
)


def reward_free_page(
    design: RewardFreeDesign, results: pd.DataFrame, noise: pd.DataFrame, job: Job
) -> Page:
    """Page of the study from the two tables of `RewardFreeRun.run`.

    Raises:
        UserError: if fewer than 3 seeds are finite in every arm.
    """
    non_finite = int((~results["alive"]).sum())
    results = finite_seeds(results)
    noise = noise[noise["seed"].isin(results["seed"])]
    names = [arm.name for arm in design.arms]
    extra = [arm.name for arm in design.extra if not arm.name.startswith("flipped")]
    stem, watermark = page_name("reward_free", design.suite.name), audit.watermark(job.out)
    sealed = summarise(results, design.sealed, names)
    dev = summarise(results, design.dev, [*names, *extra])
    sections = [
        finding(sealed, design.plan.primary[1], design.sealed),
        zero_gain_sentence(noise),
        f"**{watermark}**" if watermark else None,
        f"![Share of the ceiling's gain, by arm]({stem}.png)",
        f"## Sealed: {', '.join(design.sealed)}\n\n{arm_table(sealed)}",
        shift_table(results, design.sealed, names),
        f"{sizes_text(design, job.settings)} {NOTE}",
        a_a_sentence(seed_scores(results, design.sealed)[TESTED]),
        f"![Learning curves]({stem}-curves.png)",
        f"## Dev: {', '.join(design.dev)}\n\n{arm_table(dev.loc[names])}",
        f"## Gain by label noise\n\n![Gain by AUROC]({stem}-flipped.png)",
        label_noise_table(noise),
        LABEL_NOISE_NOTE,
        "## Width, weight and severity, dev shifts",
        arm_table(dev.loc[[TESTED, *extra]]),
        severity_table(results, design.dev, design.severities),
        f"Runs with non-finite numbers: {non_finite}. {audit.looks_sentence(job.out)}.",
    ]
    figures = {
        "": partial(draw_shares, results, {"sealed": design.sealed, "dev": design.dev}, names),
        "-curves": partial(draw_curves, results, design),
        "-flipped": partial(draw_label_noise, results, noise, design.dev),
    }
    title = f"{design.suite.name}: training without task reward"
    return Page(stem, page_text(title, sections, job.command), figures)


# --- scores -----------------------------------------------------------------------------------


def seed_scores(
    results: pd.DataFrame, shifts: Sequence[str], column: str = "score_away", severity: float = 1.0
) -> dict[str, np.ndarray]:
    """Per-seed means [S] of a column over shifts, by arm."""
    rows = results[results["shift"].isin(shifts) & (results["severity"] == severity)]
    means = rows.groupby(["arm", "seed"])[column].mean()
    return {arm: scores.to_numpy() for arm, scores in means.groupby(level="arm")}


def summarise(results: pd.DataFrame, shifts: Sequence[str], arms: Sequence[str]) -> pd.DataFrame:
    """Scores and contrasts of the arms at severity 1, averaged over shifts, a row an arm.

    Columns: `away`, score in the shifts; `crash`, share of episodes there with harm, NaN where the
    environment reports none; `neither`, share without success or harm; `home`, score at home after
    training away; `gain`, `away` less that of the frozen agent, paired; `share` of the ceiling's
    gain, with a bootstrap over seeds; `less`, the contrast of hope - fear less this arm, paired and
    Holm-adjusted over CONTROLS. Estimates are over seeds.
    """
    columns = ("score_away", "harm_away", "success_away", "score_home")
    away, harm, success, home = (seed_scores(results, shifts, column) for column in columns)
    controls = [arm for arm in arms if arm in CONTROLS]
    less = contrasts(away, [(TESTED, arm) for arm in controls], paired=True)
    others = contrasts(away, [(TESTED, arm) for arm in arms if arm not in controls], paired=True)
    less += [contrast._replace(p_holm=np.nan) for contrast in others]
    by_arm = {contrast.reference: contrast for contrast in less}
    rows = {
        arm: {
            "away": stats.mean(away[arm]),
            "crash": harm[arm].mean(),
            "neither": 1 - success[arm].mean() - harm[arm].mean(),
            "home": home[arm].mean(),
            "gain": stats.paired(away[arm], away["frozen"]),
            "share": share_of_ceiling(away[arm], away["frozen"], away["true"]),
            "less": by_arm[arm],
        }
        for arm in arms
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def share_of_ceiling(x: np.ndarray, frozen: np.ndarray, ceiling: np.ndarray) -> Estimate:
    """Gain of x [S] over frozen as a share of the ceiling's, with a bootstrap over seeds."""
    resamples = np.random.default_rng(0).integers(len(x), size=(10_000, len(x)))

    def share(seeds: Any) -> np.ndarray:
        gain, full_gain = ((y[seeds] - frozen[seeds]).mean(-1) for y in (x, ceiling))
        return gain / np.where(np.abs(full_gain) < 1e-9, np.nan, full_gain)

    return _with_bootstrap(share(np.arange(len(x))), share(resamples))


def auroc_at_zero_gain(auroc: np.ndarray, gain: np.ndarray) -> Estimate:
    """AUROC at which the mean gain falls to 0, interpolated between levels; bootstrap over seeds.

    Args:
        auroc: [L, S] of L levels of label noise, from the least to the most; NaN counts as .5.
        gain: [L, S] of the same.

    Returns:
        NaN where the gain never changes sign; the interval is of the draws in which it does.
    """
    auroc = np.nan_to_num(auroc, nan=0.5)
    resamples = np.random.default_rng(0).integers(gain.shape[1], size=(2_000, gain.shape[1]))
    crossings = [zero_crossing(auroc[:, seeds], gain[:, seeds]) for seeds in resamples]
    return _with_bootstrap(zero_crossing(auroc, gain), crossings)


def zero_crossing(x: np.ndarray, y: np.ndarray) -> float:
    """Where the line through the means over seeds of (x, y) [L, S] first falls to y = 0, or NaN."""
    x, y = x.mean(1), y.mean(1)
    for k in range(len(y) - 1):
        if y[k] > 0 >= y[k + 1]:
            return float(x[k] + y[k] / (y[k] - y[k + 1]) * (x[k + 1] - x[k]))
    return float("nan")


def _with_bootstrap(value: Any, draws: Any) -> Estimate:
    """Value with the 95 % interval of its finite bootstrap draws; NaN bounds without any."""
    draws = np.asarray(draws)[np.isfinite(draws)]
    low, high = np.quantile(draws, [0.025, 0.975]) if len(draws) else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))


def noise_levels(noise: pd.DataFrame, column: str) -> np.ndarray:
    """A column of the label-noise results [L, S], by the share of flipped labels and seed."""
    return noise.pivot(index="share", columns="seed", values=column).to_numpy(float)


# --- text -------------------------------------------------------------------------------------


def finding(arms: pd.DataFrame, rival: str, shifts: Sequence[str]) -> str:
    """One sentence with the registered contrast and its verdict, from `summarise`."""
    contrast, tested = arms.at[rival, "less"].estimate, arms.loc[TESTED]
    verdict = "beats" if contrast.low > 0 else "is not told apart from"
    verdict = "falls below" if contrast.high < 0 else verdict
    controls = [arm for arm in CONTROLS if arm in arms.index]
    others = [arm for arm in controls if not arms.at[arm, "less"].estimate.low > 0]
    not_beaten = f"it is not above {', '.join(others)}" if others else "it is above each of them"
    return (
        f"Without task reward, hope - fear {verdict} {rival}, the best control of the dev shifts: "
        f"{contrast} over {', '.join(shifts)}. Against the frozen agent it is {tested['gain']}, "
        f"{_percent(tested['share'])} of what the true reward gains ({arms.at['true', 'gain']}); "
        f"of {len(controls)} controls {not_beaten}. Its score at home is {tested['home']:.3f}, "
        f"{arms.at['frozen', 'home']:.3f} before."
    )


def zero_gain_sentence(noise: pd.DataFrame) -> str:
    """One sentence with the AUROC at which the gain turns to loss."""
    gain = noise_levels(noise, "gain")
    crossings = {
        where: auroc_at_zero_gain(noise_levels(noise, column), gain)
        for column, where in AUROCS.items()
    }
    if np.isnan([crossing.value for crossing in crossings.values()]).any():
        sign = "gain" if gain.mean() > 0 else "lose"
        return f"Training without reward never turns from gain to loss at these levels: all {sign}."
    clauses = " and ".join(f"{crossing:.2f} {where}" for where, crossing in crossings.items())
    return f"Training without reward turns harmful at an AUROC of {clauses}."


def sizes_text(design: RewardFreeDesign, settings: Any) -> str:
    """Sentences with seeds, steps, step sizes and episodes, and the primary contrast."""
    rates = list(design.rates.values())
    usual = max(rates, key=rates.count)
    others = [
        f"{design.rates[arm.name]:g} of {arm.name}"
        for arm in design.arms
        if arm.learns and design.rates[arm.name] != usual
    ]
    tuned = not (settings.lr or settings.smoke) and read_choices(design.suite.name)
    how = ", each arm's the better of two on the dev shifts, with other seeds: `--tune`"
    return (
        f"{design.home.seeds} seeds: {design.home.steps:,} steps at home, then "
        f"{design.further.steps:,} in a shift at severity 1 with the task reward off, heads "
        f"frozen, critic and optimiser new (signals at weight {settings.weight:g}, step size "
        f"{', '.join([f'{usual:g}', *others])}{how if tuned else ''}); {design.home.episodes} "
        f"episodes a point. The primary contrast is {' less '.join(design.plan.primary)}."
    )


def a_a_sentence(scores: np.ndarray) -> str | None:
    """Sentence with the A-A control of the scores [S] of hope - fear; None below 6 seeds."""
    if len(scores) < 2 * stats.FEWEST:
        return None
    difference = stats.split_half_difference(scores)
    return f"A-A control, even seeds of hope - fear less odd ones: {difference}."


def arm_table(arms: pd.DataFrame) -> str:
    """Table with a row an arm, from `summarise`."""
    headings = ("arm", "away", "crash", "neither", "home", "less frozen")
    headings += ("share of the ceiling's gain", "hope - fear less this", "p (Holm)")
    rows = []
    for name, arm in arms.iterrows():
        row = [name, f"{arm['away']:.3f}", *map(_number, arm[["crash", "neither", "home"]])]
        row += ["-", "-"] if name == "frozen" else [f"{arm['gain']}", _percent(arm["share"])]
        less = arm["less"]
        row += ["-" if name == TESTED else f"{less.estimate}", _number(less.p_holm)]
        rows.append(row)
    return markdown_table(headings, rows)


def shift_table(results: pd.DataFrame, shifts: Sequence[str], arms: Sequence[str]) -> str:
    """Table of the score of each arm in each shift at severity 1."""
    by_shift = [seed_scores(results, [shift]) for shift in shifts]
    rows = [[arm, *(f"{stats.mean(scores[arm]):.3f}" for scores in by_shift)] for arm in arms]
    return markdown_table(("arm", *shifts), rows)


def severity_table(
    results: pd.DataFrame, shifts: Sequence[str], severities: Sequence[float]
) -> str:
    """Table of hope - fear and its bounds, by severity of the shifts."""
    arms, rows = ("frozen", "zero", TESTED, "true"), []
    for severity in severities:
        away = seed_scores(results, shifts, severity=severity)
        share = share_of_ceiling(away[TESTED], away["frozen"], away["true"])
        means = [f"{stats.mean(away[arm]):.3f}" for arm in arms]
        rows.append([f"{severity:g}", *means, _percent(share)])
    return markdown_table(("severity", "frozen", "zero", "hope - fear", "true", "share"), rows)


def label_noise_table(noise: pd.DataFrame) -> str:
    """Table of mean AUROC and of gain, by the share of flipped labels."""
    rows = []
    for share, level in noise.groupby("share"):
        aurocs = [_number(level[name].mean()) for name in ("home", "soon", "end")]
        rows.append([f"{share:g}", *aurocs, f"{stats.mean(level['gain'].to_numpy())}"])
    headings = ("flipped", "AUROC at home", "AUROC away", "AUROC at the end away", "less frozen")
    return markdown_table(headings, rows)


def _number(value: float) -> str:
    """Text of a number, without the sign of a zero; `-` for NaN."""
    return f"{round(value, 3) + 0.0:.3f}" if np.isfinite(value) else "-"


def _percent(share: Estimate) -> str:
    """Text of a share of the ceiling's gain; `-` for NaN, where the ceiling gains nothing."""
    return f"{share:.0%}" if np.isfinite(share.value) else "-"


# --- figures ----------------------------------------------------------------------------------


def draw_shares(
    results: pd.DataFrame, splits: Mapping[str, Sequence[str]], arms: Sequence[str], path: Path
) -> None:
    """Draw each arm's share of the ceiling's gain, a panel a split, a dot a seed."""
    shown = [arm for arm in reversed(arms) if arm not in ("frozen", "true")]
    size = (5.2 * len(splits), 0.34 * len(shown) + 1.6)
    figure, axes = new_figure(1, len(splits), size, sharey=True)
    for axis, (split, shifts) in zip(axes.flat, splits.items(), strict=True):
        away = seed_scores(results, shifts)
        full_gain = (away["true"] - away["frozen"]).mean() or np.inf
        for y, arm in enumerate(shown):
            share = (away[arm] - away["frozen"]) / full_gain
            mean, jitter = stats.mean(share), np.linspace(-0.25, 0.25, len(share))
            colour = COLOURS[arm] if arm == TESTED else CONTROL if arm in CONTROLS else OTHER
            axis.barh(y, mean.value, color=colour, alpha=0.75, height=0.7, zorder=1)
            axis.scatter(share, y + jitter, s=5, color="black", alpha=0.45, linewidths=0, zorder=3)
            axis.plot([mean.low, mean.high], [y, y], color="black", lw=1.3, zorder=4)
        axis.axvline(0, color="#555555", lw=0.8)
        axis.axvline(1, color=COLOURS["true"], lw=1, ls="--")
        axis.set_yticks(range(len(shown)), shown)
        axis.set_xlabel("share of the true reward's gain over the frozen agent")
        axis.set_title(f"{split}: {', '.join(shifts)}", fontsize=10)
    save_figure(figure, path)


def draw_curves(results: pd.DataFrame, design: RewardFreeDesign, path: Path) -> None:
    """Draw success of training episodes by steps, a panel a shift, with 95 % bands."""
    shifts = (*design.sealed, *design.dev)
    chunks = design.further.chunks
    columns = [f"curve_{i}" for i in range(chunks)]
    steps = design.further.chunk_steps * (np.arange(chunks) + 0.5)
    figure, panels = new_panels(len(shifts), 3, (3.9, 2.9))
    for axis, shift in zip(panels, shifts, strict=True):
        at_shift = results[(results["shift"] == shift) & (results["severity"] == 1.0)]
        for arm in (arm for arm in CURVE_ARMS if (at_shift["arm"] == arm).any()):
            curves = at_shift.loc[at_shift["arm"] == arm, columns].to_numpy(float)
            style = "--" if arm == "zero" else "-"
            draw_means(axis, steps, curves, arm, COLOURS[arm], ls=style, lw=1.6)
        frozen = seed_scores(results, [shift], "success_away")["frozen"].mean()
        axis.axhline(frozen, color="#555555", lw=0.8, ls=":", label="frozen, greedy")
        axis.set_ylim(-0.03, 1.03)
        axis.set_title(shift, fontsize=10)
    x, y = "steps in the shifted world, task reward off", "share of episodes that succeed"
    save_with_legend(figure, path, x, y, label_size=9)


def draw_label_noise(
    results: pd.DataFrame, noise: pd.DataFrame, shifts: Sequence[str], path: Path
) -> None:
    """Draw gain over the frozen agent against the AUROC of heads with label noise."""
    from matplotlib import colormaps

    away, gain = seed_scores(results, shifts), noise_levels(noise, "gain")
    zero, shares = (away["zero"] - away["frozen"]).mean(), sorted(set(noise["share"]))
    figure, axes = new_figure(1, 2, (9.4, 3.9), sharey=True)
    for axis, (column, where) in zip(axes.flat, AUROCS.items(), strict=True):
        auroc = noise_levels(noise, column)
        means = [np.nanmean(level) if np.isfinite(level).any() else np.nan for level in auroc]
        for share, x, middle, y in zip(shares, auroc, means, gain, strict=True):
            colour, mean = colormaps["viridis_r"](0.1 + 1.6 * share), stats.mean(y)
            axis.scatter(x, y, s=9, color=colour, alpha=0.5, linewidths=0)
            axis.plot([middle, middle], [mean.low, mean.high], "_-", color=colour)
            axis.plot(middle, mean.value, "o", color=colour, label=f"{share:.0%} flipped")
        axis.plot(means, gain.mean(1), color="#555555", lw=1, zorder=0)
        axis.axhline(0, color="#555555", lw=0.8)
        axis.axhline(zero, color=CONTROL, lw=1, ls="--", label="zero reward")
        crossing = auroc_at_zero_gain(auroc, gain)
        if np.isfinite(crossing.value):
            axis.axvline(crossing.value, color=COLOURS[TESTED], lw=1, ls=":")
            axis.axvspan(crossing.low, crossing.high, color=COLOURS[TESTED], alpha=0.08, lw=0)
        axis.set_xlabel(f"AUROC away, {where}")
    axes[0, 0].set_ylabel("gain over the frozen agent, without reward")
    label = f"training in {', '.join(shifts)} on heads with label noise"
    save_with_legend(figure, path, label, columns=7)
