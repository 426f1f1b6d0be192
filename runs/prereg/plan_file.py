"""Preregistered plan of a study (`plan.toml`): arms, contrasts and sizes, fixed before training.

Its hash depends on its content, not on the layout of the file. The first plan stands; deviations of
a later run from it are listed field by field.
"""

import hashlib
import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import tomli_w

from runs.errors import UserError
from runs.names import checked_choice, closest_name
from runs.prereg.splits import HOME, RANDOM, Splits, families

PLAN_FILE = "plan.toml"
VERSION = 1
CONSTANT_ARM = "constant_plus"  # reference arm of the arms with a head and a constant


@dataclass(frozen=True)
class Plan:
    """Preregistered plan of a study.

    Attributes:
        version: of the file format.
        env: name of the suite.
        suite: hash of the suite.
        arms: that are trained.
        without: arms left out on request.
        primary: the one confirmatory contrast, (arm, reference arm).
        secondary: contrasts that share Holm's correction with the primary one.
        seeds: training runs an arm.
        base: seed of all seeds.
        steps: environment steps a seed.
        episodes: scored at each point.
        severities: at which each shift is scored.
        sealed: families that are held out.
        shifts: name -> family.
        worlds: training worlds, name -> the families that it varies.
        sizes: of training, by name.
        agent: its settings, by name.
    """

    env: str
    suite: str
    arms: tuple[str, ...]
    without: tuple[str, ...]
    primary: tuple[str, ...]
    secondary: tuple[tuple[str, ...], ...]
    seeds: int
    base: int
    steps: int
    episodes: int
    severities: tuple[float, ...]
    sealed: tuple[str, ...]
    shifts: dict[str, str]
    worlds: dict[str, str]
    sizes: dict[str, Any]
    agent: dict[str, Any]
    version: int = VERSION

    def __post_init__(self):
        """Raise a UserError if the fields are inconsistent."""
        from envs.shift import FAMILIES

        alone = len(self.arms) == 1 and not self.primary  # one arm has no contrast
        pair = len(self.primary) == 2 and all(isinstance(arm, str) for arm in self.primary)
        if not (alone or pair):
            raise UserError(
                f"primary = {_json(self.primary)}: declare one primary contrast, [arm, less arm]; "
                "others are secondary"
            )
        for contrast in () if alone else (self.primary, *self.secondary):
            if len(contrast) != 2:
                raise UserError(f"contrast {_json(contrast)}: name two arms")
            for arm in contrast:
                checked_choice("arm", arm, self.arms)
            if contrast[0] == contrast[1]:
                raise UserError(f"contrast {_json(contrast)}: compare two different arms")
        if len(set(self.arms)) < len(self.arms):
            raise UserError(f"arms {', '.join(self.arms)}: name each arm once")
        if not isinstance(self.seeds, int) or self.seeds < 3:
            raise UserError(f"seeds = {self.seeds}: an interval needs at least 3 seeds")
        for family in families(self.shifts):
            checked_choice("family", family, FAMILIES)
        for family in self.sealed:
            checked_choice("sealed family", family, families(self.shifts))

    @property
    def hash(self) -> str:
        """Hash (sha256) of the plan's fields in the order of their names."""
        return _json_hash(asdict(self))

    @property
    def splits(self) -> Splits:
        """Splits of the suite into training, public and sealed worlds."""
        return Splits(self.shifts, self.worlds, self.sealed)


def make_plan(
    suite: Any,
    run_config: Any,
    arms: Sequence[str],
    primary: Sequence[str] | None = None,
    sealed: Iterable[str] = (),
    without: Iterable[str] = (),
) -> Plan:
    """Build the plan of a study that is about to run.

    Args:
        suite: an `envs.suite.Suite`.
        run_config: its sizes, a `runs.engine.config.RunConfig`.
        arms: names of those that are trained.
        primary: the confirmatory contrast; by default constant + head against constant of the first
            head, with those of the other heads as secondary contrasts; without these the first arm
            against `none`, or the second arm against the first.
        sealed: families to hold out.
        without: arms left out on request.

    Raises:
        UserError: if the plan is inconsistent.
    """
    contrasts = [
        (arm, CONSTANT_ARM) for arm in arms if arm.endswith("_constant") and CONSTANT_ARM in arms
    ]
    if not contrasts:
        reference = "none" if "none" in arms else next(iter(arms), None)
        contrasts = [(arm, reference) for arm in arms if arm != reference][:1]
    first = tuple(primary) if primary is not None else contrasts[0] if contrasts else ()
    worlds = {HOME: HOME}
    if RANDOM in arms and suite.randomised is not None:
        worlds[RANDOM] = suite.randomised.family
    agent = run_config.agent
    return Plan(
        env=suite.name,
        suite=suite_hash(suite),
        arms=tuple(arms),
        without=tuple(without),
        primary=first,
        secondary=tuple(contrast for contrast in contrasts if contrast != first),
        seeds=run_config.seeds,
        base=run_config.base,
        steps=run_config.steps,
        episodes=run_config.episodes,
        severities=tuple(map(float, suite.severities)),
        sealed=tuple(sealed),
        shifts={shift.name: shift.family for shift in suite.shifts},
        worlds=worlds,
        sizes={k: getattr(run_config, k) for k in ("chunks", "updates", "num_envs", "num_steps")},
        agent=_agent_settings(agent),
    )


def _agent_settings(agent: Any) -> dict[str, Any]:
    """Kind and settings of an agent, and of one inside it, as types that TOML can hold."""
    settings: dict[str, Any] = {"kind": type(agent).__name__}
    for name in (field.name for field in fields(agent)) if is_dataclass(agent) else ():
        x = getattr(agent, name)
        if is_dataclass(x) and not isinstance(x, type):
            settings |= {f"{name}.{key}": value for key, value in _agent_settings(x).items()}
        else:
            is_plain = isinstance(x, bool | int | float | str)
            settings[name] = x if is_plain else getattr(x, "__qualname__", str(x))
    return settings


def suite_hash(suite: Any) -> str:
    """Hash (sha256) of a suite: its name, shifts, severities and all parameters of its world.

    The code of the shifts is not included; the ledger records its commit.
    """
    import jax
    import numpy as np

    leaves = jax.tree_util.tree_leaves_with_path(suite.world)
    world = {jax.tree_util.keystr(path): np.asarray(leaf).tolist() for path, leaf in leaves}
    points = [list(point) for point in suite.points()]
    return _json_hash({"name": suite.name, "points": points, "world": world})


def read_plan(path: Path) -> Plan:
    """Read and check a plan file.

    Raises:
        UserError: for invalid TOML, a missing or unknown field, another format version, or an
            inconsistent plan: an undeclared arm, an unknown family, two primary contrasts.
    """
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:  # of tomllib, numbers or text
        raise UserError(f"{path} is not TOML: {error}") from None
    if data.get("version") != VERSION:
        raise UserError(
            f"{path} is of version {data.get('version')}, not {VERSION}: verify it with the code "
            "that wrote it, or run the study again"
        )
    names = [field.name for field in fields(Plan)]
    for key in sorted(data.keys() - set(names)):
        raise UserError(f"{path}: unknown field {key}{closest_name(key, names)}")
    for key in sorted(set(names) - data.keys()):
        raise UserError(f"{path} lacks the field {key}: declare it")
    try:
        return Plan(**{key: _tuples(value) for key, value in data.items()})
    except (
        UserError,
        AttributeError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:  # a value of the wrong type
        raise UserError(f"{path}: {error}") from None


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def plan_text(plan: Plan) -> str:
    """Plan as TOML text."""
    return f"# Declared before training; see python -m runs.verify.\n{tomli_w.dumps(asdict(plan))}"


def plan_changes(plan: Plan, run: Plan) -> list[str]:
    """Differences between the plan of a study and the study as run, one line per field."""
    return _differences(_flat(plan), _flat(run), "run")


def score_departures(
    plan: Plan, rows: Sequence[dict], split: str = "dev", stopped: Iterable = ()
) -> list[str]:
    """Differences between the plan and the score rows of a study, one line each.

    Args:
        plan: written before training.
        rows: of a score file.
        split: of the rows, "dev" or "sealed"; without a sealed family the sealed worlds are new
            draws of the public shifts.
        stopped: (arm, seed) of training runs that stopped early and have no rows.
    """
    splits, stopped = plan.splits, set(stopped)
    expected = splits.names(split) or (tuple(plan.shifts) if split == "sealed" else ())
    shifted = [row for row in rows if row["shift"] != HOME]
    scored = dict.fromkeys(row["shift"] for row in shifted)
    planned = {"env": plan.env, "episodes": plan.episodes}
    observed = {name: _only({row[name] for row in rows}) for name in planned}
    planned["severities"] = tuple(sorted(plan.severities))
    observed["severities"] = tuple(sorted({row["severity"] for row in shifted}))
    differences = _differences(planned, observed, "scored")
    differences += [
        f"shift {name}: declared, not scored" for name in expected if name not in scored
    ]
    for name in (name for name in scored if name not in expected):
        declared_split = splits.of(name) if name in plan.shifts else "not at all"
        differences.append(f"shift {name}: scored as {split}, declared {declared_split}")
    counts = Counter((row["arm"], row["seed"]) for row in rows)
    home = bool(splits.names("dev")) or len(shifted) < len(rows)  # also scored, with public shifts
    points = home + len(scored) * len(plan.severities)
    for arm in plan.arms:
        declared = {(arm, seed) for seed in range(plan.seeds)} - stopped
        seeds = {pair for pair in counts if pair[0] == arm}
        if seeds != declared:
            differences.append(
                f"seeds of {arm}: {len(declared)} were declared, {len(seeds)} scored"
            )
        elif any(counts[pair] != points for pair in declared):
            differences.append(f"points of {arm}: some seeds lack a point or have one twice")
    undeclared = {row["arm"] for row in rows} - set(plan.arms)
    return differences + [f"arm {arm}: scored, not declared" for arm in sorted(undeclared)]


def _differences(planned: Mapping, actual: Mapping, verb: str) -> list[str]:
    return [
        f"{key}: {_json(planned.get(key, 'nothing'))} was declared, "
        f"{_json(actual.get(key, 'nothing'))} {verb}"
        for key in {**planned, **actual}
        if planned.get(key) != actual.get(key)
    ]


def _only(values: set) -> Any:
    """The single element of a set; a sorted tuple of all elements if there are several."""
    return next(iter(values)) if len(values) == 1 else tuple(sorted(values))


def _flat(plan: Plan) -> dict[str, Any]:
    """Fields by name, entries of tables as `table.name`."""
    flat = {}
    for key, value in asdict(plan).items():
        table = isinstance(value, dict)
        flat |= {f"{key}.{name}": x for name, x in value.items()} if table else {key: value}
    return flat


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json_hash(content: Mapping) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
