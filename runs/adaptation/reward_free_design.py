"""Design of the reward-free study: shifts, sizes, arms, step sizes and the registered plan."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from envs import is_jitted
from envs.suite import Suite
from runs.adaptation.jax_learners import JaxLearners, LearnerSizes
from runs.adaptation.reward_arms import (
    CONTROLS,
    TESTED,
    RewardArm,
    available_heads,
    reward_blend,
    reward_free_arms,
    variants,
)
from runs.adaptation.suite_lookup import find_suite, make_learners, shortened
from runs.engine.jax_backend import DRAWS
from runs.engine.presets import preset
from runs.engine.run_config import RunConfig
from runs.errors import UserError
from runs.names import checked_choice, safe_name
from runs.prereg import plan_file

STEP_SIZES = (1e-3, 3e-4)  # each arm gets the one with the higher score on dev shifts
RIVAL = "reward_model"  # control of the primary contrast, unless `--tune` has chosen another
RESULTS = Path("runs/results")
SHIFTED_SHARE = 0.48  # steps in a shifted world, as a share of those at home
DEFAULT_SHIFTS = {"Drive": (("cones", "delay"), ("aggressive", "ice", "fog"))}  # dev, sealed
HOME_CHUNKS = 8  # of the training at home
MILDER_SEVERITIES = 0.5  # second severity of the dev shifts


class RewardFreeDesign(NamedTuple):
    """Everything that the study runs.

    Attributes:
        suite: with the dev and the sealed shifts, at severity 1.
        dev, sealed: names of the shifts.
        home: the learners at home.
        away: learners with the optimiser of the shifted worlds, by step size.
        rates: step size of each arm there.
        arms: of the registered comparison.
        extra: variants of hope - fear, on the dev shifts alone.
        updates: (at home, in a shifted world).
        severities: of the dev shifts; 1 alone where the suite has no others.
        plan: the registered plan.
    """

    suite: Suite
    dev: tuple[str, ...]
    sealed: tuple[str, ...]
    home: JaxLearners
    away: Mapping[float, JaxLearners]
    rates: Mapping[str, float]
    arms: tuple[RewardArm, ...]
    extra: tuple[RewardArm, ...]
    updates: tuple[int, int]
    severities: tuple[float, ...]
    plan: Any


def make_design(settings: Any) -> RewardFreeDesign:
    """The design that these settings define.

    Raises:
        UserError: for an unknown environment, head, shift or rival, or a public shift of a sealed
            family.
    """
    suite, jitted = find_suite(settings.env), is_jitted(settings.env)
    severities = (MILDER_SEVERITIES, 1.0) if min(suite.severities) < 1 else (1.0,)
    dev, sealed = choose_shifts(suite, settings.dev, settings.sealed)
    names = (*dev, *sealed)
    shifts = tuple(shift for shift in suite.shifts if shift.name in names)
    suite = replace(suite, shifts=shifts, severities=(1.0,))
    defaults, seeds, heads = (
        preset(settings.env, jitted),
        settings.seeds,
        available_heads(suite, settings.heads),
    )
    home_steps = settings.steps or defaults.steps
    away_steps = settings.further or round(SHIFTED_SHARE * home_steps)
    episodes, num_envs, num_steps = settings.episodes or defaults.episodes, defaults.num_envs, 128
    if settings.smoke:
        suite = shortened(suite)
        num_envs, num_steps, seeds, episodes = 4, 32, 3, 4
        home_steps, away_steps = 8 * num_envs * num_steps, 2 * num_envs * num_steps
    batch = num_envs * num_steps
    if jitted:
        episodes -= episodes % min(DRAWS, episodes)  # the same number in each sampled world
    updates = max(home_steps // batch // HOME_CHUNKS, 1) * HOME_CHUNKS, max(away_steps // batch, 1)
    agent = defaults.agent
    if suite.env.spec.action_dim:
        agent = replace(agent, entropy=0.0)
    home_agent, away_agent = (replace(agent, anneal=number) for number in updates)
    rows = -(-seeds // len(jax.devices())) * len(jax.devices())
    sizes = LearnerSizes(
        seeds, rows, num_envs, num_steps, episodes, settings.base, optimise=not settings.smoke
    )
    blend = reward_blend(heads, suite, agent, varied=True)
    arms = reward_free_arms(heads, blend, agent.gamma, settings.weight)
    controls = [arm.name for arm in arms if arm.name in CONTROLS]
    choices = {} if settings.smoke else read_choices(suite.name)
    rival = checked_choice("control", settings.rival or choices.get("rival", RIVAL), controls)
    extra = variants(settings.weight)
    rates = {
        arm.name: settings.lr or choices.get("rates", {}).get(arm.name, agent.lr) for arm in arms
    }
    rates |= {arm.name: rates[TESTED] for arm in extra}
    run_config = RunConfig(
        away_agent, seeds, rows, 1, updates[1], num_envs, num_steps, episodes, settings.base
    )
    families = {shift.name: shift.family for shift in suite.shifts}
    plan = plan_file.make_plan(
        suite,
        run_config,
        [arm.name for arm in arms],
        primary=(TESTED, rival),
        sealed=dict.fromkeys(family for name in sealed for family in families[name].split("|")),
    )
    secondary = [name for name in controls if name != rival]
    extra_sizes = {"home_updates": updates[0], "weight": settings.weight}
    extra_sizes |= {f"lr_{arm.name}": rates[arm.name] for arm in arms if arm.learns}
    plan = replace(
        plan,
        secondary=tuple((TESTED, name) for name in secondary),
        sizes=plan.sizes | extra_sizes,
    )
    home = make_learners(suite.env, home_agent, blend, sizes)
    away = {
        rate: home.with_agent(replace(away_agent, lr=rate))
        for rate in dict.fromkeys(rates.values())
    }
    lengths = updates, severities
    return RewardFreeDesign(suite, dev, sealed, home, away, rates, arms, extra, *lengths, plan)


def read_choices(env: str, folder: Path = RESULTS) -> dict:
    """Choices that `--tune --record` saved: `rates` by arm and `rival`; {} if there are none."""
    try:
        return json.loads(choices_path(env, folder).read_text())
    except FileNotFoundError:
        return {}


def choices_path(env: str, folder: Path) -> Path:
    """Path of the JSON file of `read_choices`."""
    return folder / (
        "reward_free-chosen.json" if env == "Drive" else f"reward_free-chosen-{safe_name(env)}.json"
    )


def choices_digest(env: str, folder: Path = RESULTS) -> str:
    """First eight hexadecimal digits of the sha256 of `read_choices`."""
    text = json.dumps(read_choices(env, folder), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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
    first_shifts = {
        family: name for name, family in reversed(families.items()) if "|" not in family
    }
    candidates = [
        first_shifts[family]
        for family in dict.fromkeys(families.values())
        if family in first_shifts
    ]
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
