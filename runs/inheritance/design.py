"""Design of `runs.inherit`: worlds, bodies, carriers and sizes, from the command's settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from affect import Blend, Hope
from envs.suite import Suite
from runs.engine import custom_head
from runs.engine.config import RunConfig, head_epochs, make_run_config, whole_number
from runs.engine.control_heads import LearnedReward
from runs.engine.evaluate import EvalPoints, draw_points, select_points
from runs.engine.jax_backend import DRAWS
from runs.engine.presets import DRIVE
from runs.errors import UserError
from runs.inheritance.bodies import BodyKind, bodies
from runs.inheritance.carrier import Carrier
from runs.inheritance.carriers import CARRIERS, HORIZONS, FilePotential, HeadPotential
from runs.inheritance.controls import KNOWLEDGE_FREE, rules
from runs.inheritance.homes import HOMES, Home, Place

CHUNKS = 13  # points of a learning curve
BLOCK = 8  # newborns that are trained at once, or more: two a device
SMOKE = {"num_envs": 4, "num_steps": 32, "episodes": 4, "steps": 4 * 32 * 2}
SMOKE_BODIES = ("own", "permuted")


BODIES = ("permuted", "25 actions", "16 units", "256 units")  # of the second claim, in Drive
VALUE, CONSTANT, SMALL = "value", "constant potential", "small value"
SIX = ("none", "constant potential", "value", "teacher", "trunk + critic", "trunk + critic + value")
"""Carriers that are raised in every body."""
MISLED = ("mirrored", "table")  # bodies in which what was inherited may mislead
BESIDE = ("policy", "fading value", "hope", "learning hope")  # carriers that are raised there too
SMOKE_CARRIERS = (*SIX[:3], *SIX[4:], SMALL, "trunk + critic + constant")


@dataclass(frozen=True)
class InheritDesign:
    """Everything that the study runs.

    Attributes:
        suites: name -> suite of public worlds; the first one is the parents'.
        config: sizes of the training of a parent; its seeds are of no meaning.
        newborn_config: sizes of the training of a block of newborns.
        home: worlds of newborns.
        carriers: name -> carrier, controls included.
        bodies: name -> body; the first one is the parents' own.
        claimed: names of the bodies of the second claim.
        pairs: of parents and newborns of the claims.
        dev_parents: other parents, with which numbers are chosen.
        trials: for each carrier in the parents' own body.
        body_trials: for each carrier in another body.
        blend: heads that learn beside the parents.
        stops: shares of the training after which parents of the exploratory part were stopped.
        tested: carrier of the claims: the parents' value, or one of a user.
    """

    suites: Mapping[str, Suite]
    config: RunConfig
    newborn_config: RunConfig
    home: Home
    carriers: Mapping[str, Carrier]
    bodies: Mapping[str, BodyKind]
    claimed: tuple[str, ...]
    pairs: int
    dev_parents: int
    trials: int
    body_trials: int
    blend: Blend
    stops: tuple[float, ...]
    tested: str = VALUE

    @property
    def suite(self) -> Suite:
        """The suite in which the parents learn."""
        return next(iter(self.suites.values()))

    @property
    def dev(self) -> tuple[Place, ...]:
        """Worlds in which numbers are chosen."""
        return self.home.dev

    @property
    def shown(self) -> tuple[Place, ...]:
        """Further worlds, of the exploratory part."""
        return self.home.shown

    @property
    def parents(self) -> int:
        """Number of parents: first those with which numbers are chosen, then the claims'."""
        return self.dev_parents + self.pairs

    def carriers_in(self, body: str) -> list[str]:
        """Carriers that are raised in a body: all in the own, SIX and few more in others."""
        if body == next(iter(self.bodies)):
            return list(self.carriers)
        weights = [name for name, carrier in self.carriers.items() if carrier.knows == "weights"]
        beside = BESIDE if body in MISLED else ()
        rivals = weights if body in self.claimed else ()
        names = dict.fromkeys([*SIX, self.tested, *beside, *rivals])
        return [name for name in names if name in self.carriers]

    @property
    def dev_newborns(self) -> list[tuple[int, Place]]:
        """(parent, world) of the newborns of a trial: one of each parent, the worlds in turn."""
        return [(i, self.dev[i % len(self.dev)]) for i in range(self.dev_parents)]


def make_design(settings: Any) -> InheritDesign:
    """The design that the settings of the command define.

    Raises:
        UserError: for a suite without development worlds, or a number of environments below 1.
    """
    if settings.env not in HOMES:
        raise UserError(f"--env {settings.env}: expected one of {', '.join(HOMES)}")
    home = HOMES[settings.env]
    suites = home.suites()
    suite = suites[settings.env]
    config, newborn_config = training_sizes(settings, home)
    carriers, tested = {**KNOWLEDGE_FREE, **rules(suite), **CARRIERS}, VALUE
    own = own_carriers(settings, suite)
    kinds = bodies(suite)
    if settings.smoke:
        carriers = {name: carriers[name] for name in SMOKE_CARRIERS}
        kinds = {name: kinds[name] for name in SMOKE_BODIES}
    if own:
        tested = next(iter(own))
        carriers = with_own(carriers, own)
    return InheritDesign(
        suites=suites,
        config=config,
        newborn_config=newborn_config,
        home=home,
        carriers=carriers,
        bodies=kinds,
        claimed=tuple(name for name in BODIES if name in kinds),
        pairs=settings.seeds,
        dev_parents=2 if settings.smoke else 8,
        trials=2 if settings.smoke else home.trials,
        body_trials=1 if settings.smoke else home.trials // 3,
        blend=parents_blend(settings.heads, suite).with_epochs(head_epochs(config)),
        stops=(0.5,) if settings.smoke else (0.1, 0.25, 0.5),
        tested=tested,
    )


def training_sizes(settings: Any, home: Home) -> tuple[RunConfig, RunConfig]:
    """Sizes of the training of a parent and of a block of newborns, in as many updates."""
    envs = whole_number("newborn_envs", settings.newborn_envs)
    chosen = {name: getattr(DRIVE, name) for name in SMOKE}
    newborn = {"num_envs": envs, "steps": chosen["steps"] * envs // chosen["num_envs"]}
    parent = {"steps": round(home.longer * chosen["steps"])}
    if settings.smoke:
        chosen, parent, newborn = SMOKE, {}, {}
    block = max(BLOCK, 2 * len(jax.devices()))
    common = {"chunks": CHUNKS, "draws": DRAWS, "base": settings.base}
    common["optimise"] = not settings.smoke
    return (
        make_run_config(DRIVE.agent, seeds=2, **common, **(chosen | parent)),
        make_run_config(DRIVE.agent, seeds=block, **common, **(chosen | newborn)),
    )


def load_carrier(name: str) -> Carrier:
    """The carrier of a user, FILE.py:NAME.

    Raises:
        UserError: for a missing or broken file, or what is no carrier.
    """
    kind = custom_head.load_callable(name, "carrier", "mine.py:Mine")
    if not (isinstance(kind, type) and issubclass(kind, Carrier)):
        raise UserError(f"carrier {name}: expected a class of runs.inheritance.carrier.Carrier")
    try:
        return kind()
    except TypeError as error:
        raise UserError(f"carrier {name}: {error}; give every field a default") from None


def own_carriers(settings: Any, suite: Suite) -> dict[str, Carrier]:
    """Name -> carrier that the settings name: of a class, of heads beside the parents, of a file.

    Raises:
        UserError: for a missing or broken file, or a head for other observations.
    """
    own: dict[str, Carrier] = {}
    if settings.carrier:
        own[custom_head.short_name(settings.carrier)] = load_carrier(settings.carrier)
    for name in settings.heads:
        short = head_name(name)
        own[short] = HeadPotential(short)
    if settings.from_file:
        own[Path(settings.from_file.removeprefix("zoo:")).stem] = FilePotential(settings.from_file)
        try:
            own_file = FilePotential(settings.from_file)
            own_file.init(None, np.zeros((1, suite.env.spec.obs_dim)))
        except (ValueError, OSError) as error:
            raise UserError(f"--from {settings.from_file}: {error}") from None
    return own


def head_name(name: str) -> str:
    """Name of a head of `--heads` among those beside the parents."""
    return custom_head.short_name(name).replace("-", "_")


def with_own(carriers: Mapping[str, Carrier], own: Mapping[str, Carrier]) -> dict[str, Carrier]:
    """The carriers with those of a user, without other values than the parents' critic.

    Raises:
        UserError: for a name that is taken.
    """
    for name in own:
        if name in carriers:
            raise UserError(f"carrier {name}: this name is taken; rename it")
    kept = {k: v for k, v in carriers.items() if v.knows != "value" or k == VALUE}
    return {**kept, **own}


def parents_blend(names: Sequence[str], suite: Suite) -> Blend:
    """Heads beside parents, which pay nothing: Hope, a classifier, a model of the reward, `names`.

    Raises:
        UserError: for an unknown head.
    """
    from runs.parents import head_beside

    own = {head_name(name): (1.0, head_beside(name, suite)) for name in names}
    hopes = {f"hope_{n}": (1.0, Hope(horizon=n)) for n in HORIZONS}
    wide = {f"wide_hope_{n}": (1.0, Hope(horizon=n, width=64)) for n in HORIZONS}
    models = {"classifier": (1.0, LearnedReward(ends=True)), "reward_model": (1.0, LearnedReward)}
    return Blend(**hopes, **wide, **models, **own)


def place_points(suite: Suite, place: Place, source: int | jax.Array) -> EvalPoints:
    """Worlds of a place as one point, worlds [1, DRAWS], drawn from a base seed or a key."""
    shifts = tuple(shift for shift in suite.shifts if shift.name == place.shift)
    alone = replace(suite, shifts=shifts, severities=(place.severity,))
    return select_points(draw_points(alone, DRAWS, source), [-1])
