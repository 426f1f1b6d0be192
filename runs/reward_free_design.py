"""Design of the reward-free study: shifts, sizes, arms, step sizes and the registered plan."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envs.suite import Suite
from runs.engine.config import head_epochs
from runs.engine.presets import find_suite, preset, smoke_suite
from runs.errors import UserError
from runs.names import RESULTS, checked_choice
from runs.prereg.plan_file import Plan, make_plan
from runs.signal_arms import (
    FROZEN,
    SIGNAL_CONTROLS,
    TESTED,
    SignalArm,
    available_heads,
    signal_arms,
    signal_blend,
    variants,
)
from runs.study_run import StudyDesign, page_name, run_configs

RIVAL = "reward_model"  # control of the primary contrast, unless `--tune` has chosen another
CONTROLS = ("frozen", "zero", "zero_critic_kept", *SIGNAL_CONTROLS)
"""Arms that hope - fear must beat, each and all: no signal, a constant, or an uninformed one."""
SHIFTED_SHARE = 0.48  # steps in a shifted world, as a share of those at home
DEFAULT_SHIFTS = {"Drive": (("cones", "delay"), ("aggressive", "ice", "fog"))}  # dev, sealed
HOME_CHUNKS, CURVE_CHUNKS = 8, 5  # of the training at home, and in a shifted world
MILDER = 0.5  # second severity of the dev shifts


@dataclass(frozen=True)
class RewardFreeDesign(StudyDesign):
    """Everything that the study runs; `further` is in a shifted world, with the usual step size.

    Attributes:
        dev, sealed: names of the shifts.
        severities: of the dev shifts; 1 alone where the suite has no others.
        rates: step size in a shifted world, by arm.
        arms: of the registered comparison.
        extra: variants of hope - fear, on the dev shifts alone.
        plan: the registered plan.
    """

    dev: tuple[str, ...]
    sealed: tuple[str, ...]
    severities: tuple[float, ...]
    rates: Mapping[str, float]
    arms: tuple[SignalArm, ...]
    extra: tuple[SignalArm, ...]
    plan: Plan


def make_design(settings: Any) -> RewardFreeDesign:
    """The design that these settings define.

    Raises:
        UserError: for an unknown environment, head, shift or rival, or a public shift of a sealed
            family.
    """
    suite = find_suite(settings.env, **settings.env_options())
    severities = (MILDER, 1.0) if min(suite.severities) < 1 else (1.0,)
    dev, sealed = choose_shifts(suite, settings.dev, settings.sealed)
    families = {shift.name: shift.family for shift in suite.shifts}
    shifts = tuple(shift for shift in suite.shifts if shift.name in (*dev, *sealed))
    suite = replace(suite, shifts=shifts, severities=(1.0,))
    suite = smoke_suite(suite) if settings.smoke else suite
    sizes, weight = preset(suite), settings.weight
    home_steps, episodes = settings.steps or sizes.steps, settings.episodes or sizes.episodes
    steps = home_steps, settings.further or round(SHIFTED_SHARE * home_steps)
    chunks = HOME_CHUNKS, CURVE_CHUNKS
    home, away = run_configs(settings, suite, steps, chunks, episodes, smoke_updates=(8, 2))
    heads = available_heads(suite, settings.heads)
    blend = signal_blend(heads, suite, home.agent, varied=True).with_epochs(head_epochs(home))
    zero = SignalArm("zero"), SignalArm("zero_critic_kept", critic_kept=True)
    signals = signal_arms(heads, blend, home.agent.gamma, weight)
    arms = (FROZEN, *zero, *signals, SignalArm("true", task_weight=1.0))
    controls = [arm.name for arm in arms if arm.name in CONTROLS]
    choices = {} if settings.smoke else read_choices(suite.name)
    rival = checked_choice("control", settings.rival or choices.get("rival", RIVAL), controls)
    extra, usual = variants(weight), choices.get("rates", {})
    rates = {arm.name: settings.lr or usual.get(arm.name, home.agent.lr) for arm in arms}
    rates |= {arm.name: rates[TESTED] for arm in extra}
    kept_back = dict.fromkeys(part for name in sealed for part in families[name].split("|"))
    names, primary = [arm.name for arm in arms], (TESTED, rival)
    plan = make_plan(suite, away, names, primary=primary, sealed=kept_back)
    own_sizes = {"home_updates": home.chunks * home.updates, "weight": weight}
    own_sizes |= {f"lr_{arm.name}": rates[arm.name] for arm in arms if arm.learns}
    secondary = tuple((TESTED, name) for name in controls if name != rival)
    plan = replace(plan, secondary=secondary, sizes=plan.sizes | own_sizes)
    return RewardFreeDesign(
        suite, home, away, blend, dev, sealed, severities, rates, arms, extra, plan
    )


def choices_path(env: str, folder: Path = RESULTS) -> Path:
    """Path of the JSON file of `read_choices`."""
    return folder / f"{page_name('reward_free-chosen', env)}.json"


def read_choices(env: str, folder: Path = RESULTS) -> dict:
    """Choices that `--tune --record` saved: `rates` by arm and `rival`; {} if there are none."""
    try:
        return json.loads(choices_path(env, folder).read_text())
    except FileNotFoundError:
        return {}


def choose_shifts(
    suite: Suite, dev: Sequence[str], sealed: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Public (dev) and sealed shifts: those named, the default ones, or one of each family.

    Of a suite without defaults the first shift of each family is taken, and the first half of the
    families is public: of CartPole-v1 force, then noise and flip sealed. Every host-stepped
    environment has at least noise (sensor) and flip or slip (actuator).

    Raises:
        UserError: for an unknown shift, one that is both, or a public one of a sealed family.
    """
    families = {shift.name: shift.family for shift in suite.shifts}
    first = {family: name for name, family in reversed(families.items()) if "|" not in family}
    candidates = [first[family] for family in dict.fromkeys(families.values()) if family in first]
    half = max(len(candidates) // 2, 1)
    defaults = DEFAULT_SHIFTS.get(suite.name, (tuple(candidates[:half]), tuple(candidates[half:])))
    if bool(dev) != bool(sealed):
        raise UserError("--dev and --sealed go together: name both or neither")
    dev, sealed = (tuple(dev), tuple(sealed)) if dev else defaults
    for name in (*dev, *sealed):
        checked_choice("shift", name, families)
    sealed_families = {family for name in sealed for family in families[name].split("|")}
    for name in dev:
        if sealed_families & set(families[name].split("|")):
            raise UserError(f"--dev {name}: its family {families[name]} is sealed; choose another")
    if not sealed:
        available = f"of {families[dev[0]]} alone" if dev else "none"
        raise UserError(
            f"{suite.name}: training without reward needs shifts of two families, one public and "
            f"one sealed, and there are {available}: declare more, or choose another --env"
        )
    return dev, sealed
