"""The page of learning where nobody pays: its words, its tables and its figures in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs.adaptation.reward_arms import TESTED
from runs.adaptation.reward_free_design import RewardFreeDesign
from runs.adaptation.reward_free_figures import label_noise_curve, learning_curves, share_bars
from runs.adaptation.reward_free_report import (
    Found,
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
from runs.prereg import audit

DRAWN = ("zero", "sham", "critic", "reward_model", TESTED, "true")  # as curves
PILOT = (
    "The pilot (16 agents, another implementation, aggressive and cones) had hope - fear "
    "+.115 [.050, .180] over frozen, +.208 over zero, +.097 over sham, -.141 to the true reward."
)


def write_page(folder: Path, ran: Any, found: Found, levels: Sequence[dict], command: str) -> str:
    """Writes `unpaid.md` and its figures -> the text; a suite other than Drive adds its name."""
    from runs.report.tb_export import safe_name

    what: RewardFreeDesign = ran.what
    stem = "unpaid" if what.suite.name == "Drive" else f"unpaid-{safe_name(what.suite.name)}"
    names = [arm.name for arm in what.arms]
    batch = what.home.sizes.num_envs * what.home.sizes.num_steps
    shifts = {"sealed": what.sealed, "dev": what.dev}
    share_bars(found, shifts, names, folder / f"{stem}.png")
    drawn = [name for name in DRAWN if name in names]
    steps = what.updates[1] * batch
    learning_curves(found, (*what.sealed, *what.dev), drawn, steps, folder / f"{stem}-curves.png")
    zero = seed_scores(found, what.dev, "zero") - seed_scores(found, what.dev, "frozen")
    label_noise_curve(levels, zero, what.dev, folder / f"{stem}-wrong.png")
    text = markdown(ran, found, levels, command, stem)
    (folder / f"{stem}.md").write_text(text)
    return text


def markdown(ran: Any, found: Found, levels: Sequence[dict], command: str, stem: str) -> str:
    """The finding, the tables, and what made them."""
    what: RewardFreeDesign = ran.what
    names = [arm.name for arm in what.arms]
    sealed = summarise(found, what.sealed, names)
    dev = summarise(found, what.dev, names)
    home, away = (u * what.home.sizes.num_envs * what.home.sizes.num_steps for u in what.updates)
    sizes = what.home.sizes
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    a_a = (
        stats.split_half_difference(seed_scores(found, what.sealed, TESTED))
        if sizes.seeds >= 6
        else None
    )
    extra = [arm.name for arm in what.extra if not arm.name.startswith("wrong")]
    watermark = audit.watermark(ran.out)
    body = [
        f"# {what.suite.name}: learning where nobody pays",
        finding(sealed, what.plan.primary, what.sealed),
        zero_gain_sentence(levels),
        *([f"**{watermark}**"] if watermark else []),
        f"![Share of the ceiling's gain, by arm]({stem}.png)",
        f"## Sealed: {', '.join(what.sealed)}\n\n{arm_table(sealed)}",
        f"{shift_table(found, what.sealed, names)}",
        f"{sizes.seeds} seeds: {home:,} steps at home, then {away:,} in a shift at severity 1 with "
        "the task reward off, heads frozen, critic and optimiser new "
        f"(feelings at weight {what.plan.sizes['weight']:g}, step size {step_size_text(what)}, each "
        "arm's the better of two on the dev shifts, with other seeds: `--tune`); "
        f"{sizes.episodes} episodes a point. Away and home are scored by the task's reward after "
        "learning. Shifts are averaged inside a seed; differences are paired by seed, t intervals "
        "at 95 %; shares of the ceiling's gain have a bootstrap over seeds. The primary contrast "
        f"is {' less '.join(what.plan.primary)}; Holm over hope - fear less each control. "
        "`zero_critic_kept` has no reward either, but the critic it came with: what it gains is "
        "that critic's doing, so every other arm's is new. `critic` is that critic as a potential. "
        "`reward_model` predicts the reward from the observation and pays that at every step, "
        "`classifier` only at the end, which alone it has learned. `unanchored` are hope and fear "
        "that never learned from a terminal observation. `neither`: ran out of time.",
        *([f"A-A control, even seeds of hope - fear less odd ones: {a_a}."] if a_a else []),
        f"![Learning curves]({stem}-curves.png)",
        f"## Dev: {', '.join(what.dev)}\n\n{arm_table(dev)}",
        f"## How wrong may a feeling be?\n\n![Gain by AUROC]({stem}-wrong.png)\n\n"
        f"{label_noise_table(levels)}",
        "A share of the ends that hope and fear learned from was told the other way round: harm "
        "for none and a reward's opposite. AUROC of fear is for harm within 10 steps while the "
        "episode goes on, at the end that of fear less hope at terminal observations, both on "
        "episodes of the frozen agent on the dev shifts.",
        f"## What it depends on, dev shifts\n\n{variant_table(found, what.dev, [TESTED, *extra])}",
        f"{severity_table(found, what.dev, what.severities)}",
        f"Learners that stopped being numbers: {ran.non_finite}. {audit.looks_sentence(ran.out)}.",
        *([PILOT] if what.suite.name == "Drive" else []),
        f"`{command}`\n\n{machine}",
    ]
    return "\n\n".join(body) + "\n"


def step_size_text(what: RewardFreeDesign) -> str:
    """The step sizes and whose they are."""
    usual = max(what.rates.values(), key=list(what.rates.values()).count)
    others = [
        f"{what.rates[arm.name]:g} of {arm.name}"
        for arm in what.arms
        if arm.learns and what.rates[arm.name] != usual
    ]
    return ", ".join([f"{usual:g}", *others])
