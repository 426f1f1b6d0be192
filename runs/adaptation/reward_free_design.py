"""What learning where nobody pays asks for: which shifts, which sizes, which plan."""

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
from runs.cli.settings import checked_choice
from runs.engine.jax_backend import DRAWS
from runs.engine.presets import preset
from runs.engine.run_config import RunConfig
from runs.errors import UserError
from runs.prereg import plan_file

STEP_SIZES = (1e-3, 3e-4)  # step sizes; each arm gets the one that served it better on dev shifts
RIVAL = "reward_model"  # the control to beat, unless the dev shifts have named another
RESULTS = Path("runs/results")
FURTHER = 0.48  # of the home training
USUAL = {"Drive": (("cones", "delay"), ("aggressive", "ice", "fog"))}  # dev, sealed
HOME_CHUNKS = 8  # of the home training
MILDER_SEVERITIES = 0.5  # the other severity at which the dev shifts are learned in


class RewardFreeDesign(NamedTuple):
    """What is run.

    Attributes:
        suite: with the dev and the sealed shifts, at severity 1.
        dev, sealed: names of the shifts.
        home: the learners at home.
        away: the same, with the optimiser that they get in a shifted world, by its step size.
        rates: step size of each arm there.
        arms: of the claim.
        extra: variants of hope - fear, on the dev shifts alone.
        updates: at home and away.
        severities: of the dev shifts: the full one alone where a suite knows no other.
        plan: the plan.
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
    """What these settings ask for.

    Raises:
        UserError: for an unknown environment, head, shift or rival, or a shift of no sealed family.
    """
    suite, ours = find_suite(settings.env), is_jitted(settings.env)
    severities = (MILDER_SEVERITIES, 1.0) if min(suite.severities) < 1 else (1.0,)
    dev, sealed = choose_shifts(suite, settings.dev, settings.sealed)
    names = (*dev, *sealed)
    shifts = tuple(shift for shift in suite.shifts if shift.name in names)
    suite = replace(suite, shifts=shifts, severities=(1.0,))
    usual, seeds, heads = (
        preset(settings.env, ours),
        settings.seeds,
        available_heads(suite, settings.heads),
    )
    steps = settings.steps or usual.steps
    further = settings.further or round(FURTHER * steps)
    episodes, num_envs, num_steps = settings.episodes or usual.episodes, usual.num_envs, 128
    if settings.smoke:
        suite = shortened(suite)
        num_envs, num_steps, seeds, episodes = 4, 32, 3, 4
        steps, further = 8 * num_envs * num_steps, 2 * num_envs * num_steps
    batch = num_envs * num_steps
    if ours:
        episodes -= episodes % min(DRAWS, episodes)  # as many in each world that is drawn
    updates = max(steps // batch // HOME_CHUNKS, 1) * HOME_CHUNKS, max(further // batch, 1)
    agent = usual.agent
    if suite.env.spec.action_dim:
        agent = replace(agent, entropy=0.0)
    at_home, there = (replace(agent, anneal=number) for number in updates)
    rows = -(-seeds // len(jax.devices())) * len(jax.devices())
    sizes = LearnerSizes(
        seeds, rows, num_envs, num_steps, episodes, settings.base, optimise=not settings.smoke
    )
    felt = reward_blend(heads, suite, agent, varied=True)
    found = reward_free_arms(heads, felt, agent.gamma, settings.weight)
    controls = [arm.name for arm in found if arm.name in CONTROLS]
    tuned = {} if settings.smoke else read_choices(suite.name)
    rival = checked_choice("control", settings.rival or tuned.get("rival", RIVAL), controls)
    extra = variants(settings.weight)
    rates = {
        arm.name: settings.lr or tuned.get("rates", {}).get(arm.name, agent.lr) for arm in found
    }
    rates |= {arm.name: rates[TESTED] for arm in extra}
    run_config = RunConfig(
        there, seeds, rows, 1, updates[1], num_envs, num_steps, episodes, settings.base
    )
    families = {shift.name: shift.family for shift in suite.shifts}
    plan = plan_file.make_plan(
        suite,
        run_config,
        [arm.name for arm in found],
        primary=(TESTED, rival),
        sealed=dict.fromkeys(f for name in sealed for f in families[name].split("|")),
    )
    others = [name for name in controls if name != rival]
    more = {"home_updates": updates[0], "weight": settings.weight}
    more |= {f"lr_{arm.name}": rates[arm.name] for arm in found if arm.learns}
    plan = replace(
        plan,
        secondary=tuple((TESTED, name) for name in others),
        sizes=plan.sizes | more,
    )
    home = make_learners(suite.env, at_home, felt, sizes)
    away = {rate: home.other(replace(there, lr=rate)) for rate in dict.fromkeys(rates.values())}
    sized = updates, severities
    return RewardFreeDesign(suite, dev, sealed, home, away, rates, found, extra, *sized, plan)


def read_choices(env: str, folder: Path = RESULTS) -> dict:
    """What `--tune --record` chose on the dev shifts: `rates` by arm and `rival`; or nothing."""
    try:
        return json.loads(choices_path(env, folder).read_text())
    except FileNotFoundError:
        return {}


def choices_path(env: str, folder: Path) -> Path:
    """The file of `read_choices`."""
    from runs.report.tb_export import safe_name

    return folder / (
        "unpaid-chosen.json" if env == "Drive" else f"unpaid-chosen-{safe_name(env)}.json"
    )


def choices_digest(env: str, folder: Path = RESULTS) -> str:
    """Eight hexadecimal digits of `read_choices`."""
    said = json.dumps(read_choices(env, folder), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def choose_shifts(
    suite: Suite, dev: Sequence[str], sealed: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The public and the sealed shifts: those named, the usual ones, or one of each family.

    Of a suite that has no usual ones the first shift of each family is taken, and the first half of
    the families is public: of CartPole-v1 force, then noise and flip sealed. Every host-stepped
    environment has at least noise (sensor) and flip or slip (actuator).

    Raises:
        UserError: for an unknown shift, one that is both, or a public one of a sealed family.
    """
    known = {shift.name: shift.family for shift in suite.shifts}
    first = {family: name for name, family in reversed(known.items()) if "|" not in family}
    ordered = [first[family] for family in dict.fromkeys(known.values()) if family in first]
    half = max(len(ordered) // 2, 1)
    usual = USUAL.get(suite.name, (tuple(ordered[:half]), tuple(ordered[half:])))
    if bool(dev) != bool(sealed):
        raise UserError("--dev and --sealed go together: name both or neither")
    dev, sealed = (tuple(dev), tuple(sealed)) if dev else usual
    for name in (*dev, *sealed):
        checked_choice("shift", name, known)
    kept_back = {family for name in sealed for family in known[name].split("|")}
    for name in dev:
        if kept_back & set(known[name].split("|")):
            raise UserError(f"--dev {name}: its family {known[name]} is sealed; choose another")
    if not sealed:
        there = f"of {known[dev[0]]} alone" if dev else "none"
        raise UserError(
            f"{suite.name}: learning unpaid needs shifts of two families, one to look at and one "
            f"to be sealed, and there are {there}: declare more, or choose another --env"
        )
    return dev, sealed
