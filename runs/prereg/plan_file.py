"""Preregistered plan of a study (`plan.toml`): arms, contrasts and sizes, fixed before training.

Its hash depends on its content, not on the layout of the file. The first plan stands; deviations of
a later run from it are listed field by field.
"""

import dataclasses
import hashlib
import json
import os
import re
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs.errors import UserError
from runs.names import checked_choice, closest_name
from runs.prereg.splits import HOME, RANDOM, Splits, families, split

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
        _check(self)

    @property
    def hash(self) -> str:
        """Hash (sha256) of the plan's fields in the order of their names."""
        return hashlib.sha256(_canonical(dataclasses.asdict(self)).encode()).hexdigest()

    @property
    def splits(self) -> Splits:
        """Splits of the suite into training, public and sealed worlds."""
        return split(self.shifts, self.worlds, self.sealed)


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
        run_config: its sizes, a `runs.engine.run_config.RunConfig`.
        arms: names of those that are trained.
        primary: the confirmatory contrast; by default constant + head against constant of the first
            head, with those of the other heads as secondary contrasts.
        sealed: families to hold out.
        without: arms left out on request.

    Raises:
        UserError: if the plan is inconsistent.
    """
    contrasts = [
        (arm, CONSTANT_ARM) for arm in arms if arm.endswith("_constant") and CONSTANT_ARM in arms
    ]
    if not contrasts and "none" in arms:
        contrasts = [(arm, "none") for arm in arms if arm != "none"][:1]
    first = tuple(primary) if primary is not None else contrasts[0] if contrasts else ()
    worlds = {HOME: HOME}
    if RANDOM in arms and suite.randomised is not None:
        worlds[RANDOM] = suite.randomised.family
    return Plan(
        env=suite.name,
        suite=suite_hash(suite),
        arms=tuple(arms),
        without=tuple(without),
        primary=first,
        secondary=tuple(contrast for contrast in contrasts if contrast != first),
        seeds=run_config.seeds,
        base=run_config.base,
        steps=run_config.chunks * run_config.chunk_steps,
        episodes=run_config.episodes,
        severities=tuple(map(float, suite.severities)),
        sealed=tuple(sealed),
        shifts={shift.name: shift.family for shift in suite.shifts},
        worlds=worlds,
        sizes={k: getattr(run_config, k) for k in ("chunks", "updates", "num_envs", "num_steps")},
        agent={"kind": type(run_config.agent).__name__} | _plain(run_config.agent),
    )


def suite_hash(suite: Any) -> str:
    """Hash (sha256) of a suite: its name, shifts, severities and all parameters of its world.

    The code of the shifts is not included; the ledger records its commit.
    """
    import jax
    import numpy as np

    leaves = jax.tree_util.tree_leaves_with_path(suite.world)
    world = {jax.tree_util.keystr(path): np.asarray(leaf).tolist() for path, leaf in leaves}
    points = [list(point) for point in suite.points()]
    content = _canonical({"name": suite.name, "points": points, "world": world})
    return hashlib.sha256(content.encode()).hexdigest()


def freeze_plan(folder: Path, plan: Plan) -> Plan:
    """Write the plan to a study's folder, unless a plan is there -> the plan that is in the folder.

    Raises:
        UserError: for a plan file that cannot be read.
    """
    path = Path(folder) / PLAN_FILE
    if path.exists():
        return read_plan(path)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w") as file:
        file.write(plan_text(plan))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    return plan


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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    if data.get("version") != VERSION:
        raise UserError(
            f"{path} is of version {data.get('version')}, not {VERSION}: verify it with the code "
            "that wrote it, or run the study again"
        )
    kinds = typing.get_type_hints(Plan)
    for key in [key for key in data if key not in kinds]:
        raise UserError(f"{path}: unknown field {key}{closest_name(key, kinds)}")
    for key in [key for key in kinds if key not in data]:
        raise UserError(f"{path} lacks the field {key}: declare it")
    try:
        return Plan(**{key: _tuples(value) for key, value in data.items()})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def plan_text(plan: Plan) -> str:
    """Plan as TOML text: its fields, then its tables."""
    fields = dataclasses.asdict(plan)
    tables = {key: value for key, value in fields.items() if isinstance(value, dict)}
    lines = ["# Declared before training; see python -m runs.verify."]
    lines += [f"{key} = {_toml(value)}" for key, value in fields.items() if key not in tables]
    for key, table in tables.items():
        lines += ["", f"[{key}]", *(f"{_name(k)} = {_toml(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


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
    scored = dict.fromkeys(row["shift"] for row in rows if row["shift"] != HOME)
    planned = {name: getattr(plan, name) for name in ("env", "episodes")}
    planned["severities"] = tuple(sorted(plan.severities))
    observed = {
        "env": _only({row["env"] for row in rows}),
        "episodes": _only({row["episodes"] for row in rows}),
        "severities": tuple(sorted({row["severity"] for row in rows if row["shift"] != HOME})),
    }
    differences = _differences(planned, observed, "scored")
    differences += [
        f"shift {name}: declared, not scored" for name in expected if name not in scored
    ]
    for name in (name for name in scored if name not in expected):
        declared_split = splits.of(name) if name in plan.shifts else "not at all"
        differences.append(f"shift {name}: scored as {split}, declared {declared_split}")
    points = 1 + len(scored) * len(plan.severities)
    for arm in plan.arms:
        seeds = [row["seed"] for row in rows if row["arm"] == arm]
        expected_seeds = set(range(plan.seeds)) - {seed for name, seed in stopped if name == arm}
        if set(seeds) != expected_seeds:
            differences.append(
                f"seeds of {arm}: {len(expected_seeds)} were declared, {len(set(seeds))} scored"
            )
        elif any(seeds.count(seed) != points for seed in expected_seeds):
            differences.append(f"points of {arm}: some seeds lack a point or have one twice")
    undeclared = {row["arm"] for row in rows} - set(plan.arms)
    return differences + [f"arm {arm}: scored, not declared" for arm in sorted(undeclared)]


def _check(plan: Plan) -> None:
    """Raise a UserError for an inconsistent plan."""
    from envs.shift import FAMILIES

    if len(plan.primary) != 2 or not all(isinstance(arm, str) for arm in plan.primary):
        raise UserError(
            f"primary = {_toml(plan.primary)}: declare one primary contrast, [arm, less arm]; "
            "others are secondary"
        )
    for contrast in (plan.primary, *plan.secondary):
        if len(contrast) != 2:
            raise UserError(f"contrast {_toml(contrast)}: name two arms")
        for arm in contrast:
            checked_choice("arm", arm, plan.arms)
        if contrast[0] == contrast[1]:
            raise UserError(f"contrast {_toml(contrast)}: compare two different arms")
    if len(set(plan.arms)) < len(plan.arms):
        raise UserError(f"arms {', '.join(plan.arms)}: name each arm once")
    if not isinstance(plan.seeds, int) or plan.seeds < 3:
        raise UserError(f"seeds = {plan.seeds}: an interval needs at least 3 seeds")
    for family in families(plan.shifts):
        checked_choice("family", family, FAMILIES)
    for family in plan.sealed:
        checked_choice("sealed family", family, families(plan.shifts))


def _differences(planned: Mapping, actual: Mapping, verb: str) -> list[str]:
    return [
        f"{key}: {_toml(planned.get(key, 'nothing'))} was declared, "
        f"{_toml(actual.get(key, 'nothing'))} {verb}"
        for key in {**planned, **actual}
        if planned.get(key) != actual.get(key)
    ]


def _only(values: set) -> Any:
    """The single element of a set; a sorted tuple of all elements if there are several."""
    return next(iter(values)) if len(values) == 1 else tuple(sorted(values))


def _flat(plan: Plan) -> dict[str, Any]:
    """Fields by name, entries of tables as `table.name`."""
    flat = {}
    for key, value in dataclasses.asdict(plan).items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {}
        flat |= {} if isinstance(value, dict) else {key: value}
    return flat


def _plain(agent: Any) -> dict[str, Any]:
    """Settings of an agent, converted to types that TOML can hold."""
    fields = dataclasses.asdict(agent) if dataclasses.is_dataclass(agent) else {}
    kinds = (bool, int, float, str)
    return {
        k: v if isinstance(v, kinds) else getattr(v, "__qualname__", str(v))
        for k, v in fields.items()
    }


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _toml(value: Any) -> str:
    """Value in TOML syntax; strings, numbers and lists are written as in JSON."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _name(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
