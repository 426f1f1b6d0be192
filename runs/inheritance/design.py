"""Design of `runs.inherit`: worlds, bodies, carriers and sizes, from the command's settings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, Hope
from envs.suite import Suite
from envs.worlds.drive.any_drive import any_suite
from runs.engine import custom_head
from runs.engine.config import RunConfig, head_epochs, make_run_config, whole_number
from runs.engine.control_heads import LearnedReward
from runs.engine.evaluate import EvalPoints, draw_points
from runs.engine.jax_backend import DRAWS
from runs.engine.presets import preset
from runs.errors import UserError
from runs.inheritance.bodies import BodyKind, bodies
from runs.inheritance.carrier import Carrier
from runs.inheritance.carriers import CARRIERS, HORIZONS, FilePotential, HeadPotential
from runs.inheritance.controls import KNOWLEDGE_FREE, rules

CHUNKS = 13  # points of a learning curve
BLOCK = 8  # newborns that are trained at once, or more: two a device
SMOKE = {"num_envs": 4, "num_steps": 32, "episodes": 4, "steps": 4 * 32 * 2}
SMOKE_BODIES = ("own", "permuted")


class Place(NamedTuple):
    """A world in which newborns are raised: of a suite, under a shift; its home without one."""

    suite: str
    shift: str = "none"
    severity: float = 1.0

    @property
    def name(self) -> str:
        """As in tables, such as cross or cross .5; home worlds go by the name of their suite."""
        if self.shift == "none":
            return self.suite
        return self.shift + ("" if self.severity == 1 else f" {self.severity:g}")


PLACES = {
    "Drive": (
        (Place("Timid"), Place("Drive", "cross")),
        (Place("Drive"), Place("Drive", "cones", 0.75)),
    )
}
"""Suite -> worlds in which numbers are chosen, and further ones of the exploratory part."""

BODIES = ("permuted", "25 actions", "16 units", "256 units")  # of the second claim, in Drive
VALUE, CONSTANT, SMALL = "value", "constant potential", "small value"
VALUE, CONSTANT, SMALL = "value", "constant potential", "small value"
SIX = ("none", "constant potential", "value", "teacher", "trunk + critic", "trunk + critic + value")
"""Carriers that are raised in every body."""
SMOKE_CARRIERS = (*SIX[:3], *SIX[4:], SMALL, "trunk + critic + constant")


@dataclass(frozen=True)
class InheritDesign:
    """Everything that the study runs.

    Attributes:
        suites: name -> suite of public worlds; the first one is the parents'.
        config: sizes of the training of a parent; its seeds are of no meaning.
        dev: worlds in which numbers are chosen.
        shown: further worlds, of the exploratory part.
        carriers: name -> carrier, controls included.
        bodies: name -> body; the first one is the parents' own.
        claimed: names of the bodies of the second claim.
        pairs: of parents and newborns of the claims.
        dev_parents: other parents, with which numbers are chosen.
        trials: for each carrier in the parents' own body.
        body_trials: for each carrier in another body.
        newborn_envs: environments of a newborn.
        block: newborns that are trained at once.
        blend: heads that learn beside the parents.
        stops: shares of the training after which parents of the exploratory part were stopped.
        tested: carrier of the claims: the parents' value, or one of a user.
    """

    suites: Mapping[str, Suite]
    config: RunConfig
    dev: tuple[Place, ...]
    shown: tuple[Place, ...]
    carriers: Mapping[str, Carrier]
    bodies: Mapping[str, BodyKind]
    claimed: tuple[str, ...]
    pairs: int
    dev_parents: int
    trials: int
    body_trials: int
    newborn_envs: int
    block: int
    blend: Blend
    stops: tuple[float, ...]
    tested: str = VALUE

    @property
    def suite(self) -> Suite:
        """The suite in which the parents learn."""
        return next(iter(self.suites.values()))

    @property
    def newborn_config(self) -> RunConfig:
        """Sizes of the training of a block of newborns."""
        changes = {"seeds": self.block, "rows": self.block, "num_envs": self.newborn_envs}
        return replace(self.config, **changes)

    @property
    def parents(self) -> int:
        """Number of parents: first those with which numbers are chosen, then the claims'."""
        return self.dev_parents + self.pairs

    def carriers_in(self, body: str) -> list[str]:
        """Carriers that are raised in a body: all in the own, SIX in one without claims."""
        if body == next(iter(self.bodies)):
            return list(self.carriers)
        weights = [name for name, carrier in self.carriers.items() if carrier.knows == "weights"]
        names = dict.fromkeys([*SIX, self.tested, *(weights if body in self.claimed else ())])
        return [name for name in names if name in self.carriers]

    @property
    def dev_newborns(self) -> list[tuple[int, Place]]:
        """(parent, world) of the newborns of a trial: one of each parent, the worlds in turn."""
        return [(i, self.dev[i % len(self.dev)]) for i in range(self.dev_parents)]


def make_design(settings: Any) -> InheritDesign:
    """The design that the settings of the command define.

    Raises:
        UserError: for a suite without development worlds.
    """
    if settings.env not in PLACES:
        raise UserError(f"--env {settings.env}: expected one of {', '.join(PLACES)}")
    dev, shown = PLACES[settings.env]
    whole_number("newborn_envs", settings.newborn_envs)
    names = dict.fromkeys([settings.env, *(place.suite for place in (*dev, *shown))])
    suites = {name: any_suite(name) for name in names}
    suite = suites[settings.env]
    sizes = preset(suite)
    chosen = {name: getattr(sizes, name) for name in SMOKE} | (SMOKE if settings.smoke else {})
    config = make_run_config(
        sizes.agent,
        seeds=2,
        chunks=CHUNKS,
        draws=DRAWS,
        base=settings.base,
        optimise=not settings.smoke,
        **chosen,
    )
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
        dev=dev,
        shown=shown,
        carriers=carriers,
        bodies=kinds,
        claimed=tuple(name for name in BODIES if name in kinds),
        pairs=settings.seeds,
        dev_parents=2 if settings.smoke else 8,
        trials=2 if settings.smoke else 24,
        body_trials=1 if settings.smoke else 8,
        newborn_envs=SMOKE["num_envs"] if settings.smoke else settings.newborn_envs,
        block=max(BLOCK, 2 * len(jax.devices())),
        blend=parents_blend(settings.heads, suite).with_epochs(head_epochs(config)),
        stops=(0.5,) if settings.smoke else (0.1, 0.25, 0.5),
        tested=tested,
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


def place_points(suite: Suite, places: Iterable[Place], source: int | jax.Array) -> EvalPoints:
    """Worlds of a suite as points, worlds [W, DRAWS], drawn from a base seed or a key.

    The worlds of a place do not depend on the other places.
    """
    parts = []
    for place in places:
        shifts = tuple(shift for shift in suite.shifts if shift.name == place.shift)
        points = draw_points(
            replace(suite, shifts=shifts, severities=(place.severity,)), DRAWS, source
        )
        worlds = jax.tree.map(lambda leaf: leaf[-1:], points.worlds)
        parts.append(points._replace(points=points.points[-1:], worlds=worlds))
    worlds = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(p.worlds for p in parts))
    return parts[0]._replace(points=tuple(p.points[0] for p in parts), worlds=worlds)
