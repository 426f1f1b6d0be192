"""Page of the reward-free study: text, tables and figures in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs.adaptation.reward_arms import TESTED
from runs.adaptation.reward_free_design import RewardFreeDesign
from runs.adaptation.reward_free_figures import label_noise_curve, learning_curves, share_bars
from runs.adaptation.reward_free_report import (
    Parts,
    arm_table,
    finding,
    label_noise_table,
    seed_scores,
    severity_table,
    shift_table,
    summarise,
    variant_table,
    zero_gain_sentence,
)
from runs.analysis import stats
from runs.engine import devices
from runs.names import safe_name
from runs.prereg import audit

CURVE_ARMS = ("zero", "sham", "critic", "reward_model", TESTED, "true")  # with a learning curve
PILOT = (
    "The pilot (16 agents, another implementation, aggressive and cones) had hope - fear "
    "+.115 [.050, .180] over frozen, +.208 over zero, +.097 over sham, -.141 to the true reward."
)


def write_page(folder: Path, study: Any, parts: Parts, levels: Sequence[dict], command: str) -> str:
    """Write `reward_free.md` (suite name added except for Drive) and its figures -> the text."""
    design: RewardFreeDesign = study.design
    stem = (
        "reward_free"
        if design.suite.name == "Drive"
        else f"reward_free-{safe_name(design.suite.name)}"
    )
    names = [arm.name for arm in design.arms]
    batch = design.home.sizes.num_envs * design.home.sizes.num_steps
    shifts = {"sealed": design.sealed, "dev": design.dev}
    share_bars(parts, shifts, names, folder / f"{stem}.png")
    curve_arms = [name for name in CURVE_ARMS if name in names]
    steps = design.updates[1] * batch
    learning_curves(
        parts, (*design.sealed, *design.dev), curve_arms, steps, folder / f"{stem}-curves.png"
    )
    zero = seed_scores(parts, design.dev, "zero") - seed_scores(parts, design.dev, "frozen")
    label_noise_curve(levels, zero, design.dev, folder / f"{stem}-wrong.png")
    text = markdown(study, parts, levels, command, stem)
    (folder / f"{stem}.md").write_text(text)
    return text


def markdown(study: Any, parts: Parts, levels: Sequence[dict], command: str, stem: str) -> str:
    """Page in Markdown: the finding, the tables, and how they were made."""
    design: RewardFreeDesign = study.design
    names = [arm.name for arm in design.arms]
    sealed = summarise(parts, design.sealed, names)
    dev = summarise(parts, design.dev, names)
    home, away = (
        updates * design.home.sizes.num_envs * design.home.sizes.num_steps
        for updates in design.updates
    )
    sizes = design.home.sizes
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    a_a = (
        stats.split_half_difference(seed_scores(parts, design.sealed, TESTED))
        if sizes.seeds >= 6
        else None
    )
    extra = [arm.name for arm in design.extra if not arm.name.startswith("wrong")]
    watermark = audit.watermark(study.out)
    body = [
        f"# {design.suite.name}: training without task reward",
        finding(sealed, design.plan.primary, design.sealed),
        zero_gain_sentence(levels),
        *([f"**{watermark}**"] if watermark else []),
        f"![Share of the ceiling's gain, by arm]({stem}.png)",
        f"## Sealed: {', '.join(design.sealed)}\n\n{arm_table(sealed)}",
        f"{shift_table(parts, design.sealed, names)}",
        f"{sizes.seeds} seeds: {home:,} steps at home, then {away:,} in a shift at severity 1 with "
        "the task reward off, heads frozen, critic and optimiser new "
        f"(signals at weight {design.plan.sizes['weight']:g}, step size {step_size_text(design)}, "
        "each arm's the better of two on the dev shifts, with other seeds: `--tune`); "
        f"{sizes.episodes} episodes a point. Away and home are evaluated by the task reward after "
        "training. Shifts are averaged inside a seed; differences are paired by seed, t intervals "
        "at 95 %; shares of the ceiling's gain have a bootstrap over seeds. The primary contrast "
        f"is {' less '.join(design.plan.primary)}; Holm over hope - fear less each control. "
        "`zero_critic_kept` has no reward either, but keeps the critic from home: its gain comes "
        "from that critic, so all other arms start with a new one. `critic` is that critic as a "
        "potential. `reward_model` is the reward predicted from the observation, at every step, "
        "`classifier` the same, learned and used at ends alone. `unanchored` are hope and fear "
        "that never learned from a terminal observation. `neither`: without success or harm.",
        *([f"A-A control, even seeds of hope - fear less odd ones: {a_a}."] if a_a else []),
        f"![Learning curves]({stem}-curves.png)",
        f"## Dev: {', '.join(design.dev)}\n\n{arm_table(dev)}",
        f"## Gain by label noise\n\n![Gain by AUROC]({stem}-wrong.png)\n\n"
        f"{label_noise_table(levels)}",
        "`flipped`: share of the ends that hope and fear learned from with flipped labels: harm "
        "for none, and the negative reward. AUROC of fear is for harm within 10 steps while the "
        "episode goes on, at the end that of fear less hope at terminal observations, both on "
        "episodes of the frozen agent on the dev shifts.",
        "## Width, weight and severity, dev shifts\n\n"
        f"{variant_table(parts, design.dev, [TESTED, *extra])}",
        f"{severity_table(parts, design.dev, design.severities)}",
        f"Learners with non-finite numbers: {study.non_finite}. {audit.looks_sentence(study.out)}.",
        *([PILOT] if design.suite.name == "Drive" else []),
        f"`{command}`\n\n{machine}",
    ]
    return "\n\n".join(body) + "\n"


def step_size_text(design: RewardFreeDesign) -> str:
    """Text with the most common step size, and the arms that have another."""
    usual = max(design.rates.values(), key=list(design.rates.values()).count)
    others = [
        f"{design.rates[arm.name]:g} of {arm.name}"
        for arm in design.arms
        if arm.learns and design.rates[arm.name] != usual
    ]
    return ", ".join([f"{usual:g}", *others])
