"""`run_config.toml`: what a study will run and compare, declared before anything is trained.

Its hash is of what it says, not of how it is laid out. What was declared stands; whatever is run
otherwise is listed, field by field.
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

from runs.cli.settings import checked_choice, closest_name
from runs.errors import UserError
from runs.prereg.splits import HOME, RANDOM, Splits, families, split

PLAN_FILE = "plan.toml"
VERSION = 1
PLUS = "constant_plus"  # what a head beside a constant is measured against


@dataclass(frozen=True)
class Plan:
    """A study, declared.

    Attributes:
        version: of this file's form.
        env: name of the suite.
        suite: hash of it.
        arms: that are trained.
        without: arms left out on request.
        primary: the one contrast that decides, (arm, less arm).
        secondary: the contrasts that Holm's correction takes together with it.
        seeds: training runs an arm.
        base: seed of all seeds.
        steps: environment steps a seed.
        episodes: scored at each point.
        severities: at which each shift is scored.
        sealed: families kept back.
        shifts: name -> family.
        worlds: that are trained in, name -> the families that it varies.
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
        """Of what it says: sha256 of its fields in the order of their names."""
        return hashlib.sha256(_canonical(dataclasses.asdict(self)).encode()).hexdigest()

    @property
    def splits(self) -> Splits:
        """Which worlds are for what."""
        return split(self.shifts, self.worlds, self.sealed)


def make_plan(
    suite: Any,
    run_config: Any,
    arms: Sequence[str],
    primary: Sequence[str] | None = None,
    sealed: Iterable[str] = (),
    without: Iterable[str] = (),
) -> Plan:
    """What is about to be run, as a declaration.

    Args:
        suite: an `envs.suite.Suite`.
        run_config: its sizes, a `runs.engine.run_config.RunConfig`.
        arms: names of those that are trained.
        primary: the contrast that decides; by default constant + head less constant of the first
            head, then those of the others are secondary.
        sealed: families kept back.
        without: arms left out on request.

    Raises:
        UserError: if it does not hang together.
    """
    contrasts = [(arm, PLUS) for arm in arms if arm.endswith("_constant") and PLUS in arms]
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
        secondary=tuple(one for one in contrasts if one != first),
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
    """Of its name, its shifts and severities, and every number of the world one trains in.

    What a shift does is code, which the ledger records by its commit.
    """
    import jax
    import numpy as np

    leaves = jax.tree_util.tree_leaves_with_path(suite.world)
    world = {jax.tree_util.keystr(path): np.asarray(leaf).tolist() for path, leaf in leaves}
    points = [list(point) for point in suite.points()]
    said = _canonical({"name": suite.name, "points": points, "world": world})
    return hashlib.sha256(said.encode()).hexdigest()


def freeze_plan(folder: Path, plan: Plan) -> Plan:
    """Writes the declaration into a study's folder, unless there is one -> the one that stands.

    Raises:
        UserError: for one that cannot be read.
    """
    path = Path(folder) / PLAN_FILE
    if path.exists():
        return read_plan(path)
    folder.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    with beside.open("w") as file:
        file.write(plan_text(plan))
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    return plan


def read_plan(path: Path) -> Plan:
    """A declaration from its file.

    Raises:
        UserError: for what is no TOML, lacks a field or has one too many, another version's, or
            what does not hang together: an undeclared arm, an unknown family, two primary
            contrasts.
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
    """The declaration as TOML: its fields, then its tables."""
    fields = dataclasses.asdict(plan)
    tables = {key: value for key, value in fields.items() if isinstance(value, dict)}
    lines = ["# Declared before training; see python -m runs.verify."]
    lines += [f"{key} = {_toml(value)}" for key, value in fields.items() if key not in tables]
    for key, table in tables.items():
        lines += ["", f"[{key}]", *(f"{_name(k)} = {_toml(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def plan_changes(plan: Plan, run: Plan) -> list[str]:
    """What differs between the study as declared and as run, field by field; none if nothing."""
    return _differences(_flat(plan), _flat(run), "run")


def score_departures(
    plan: Plan, rows: Sequence[dict], split: str = "dev", stopped: Iterable = ()
) -> list[str]:
    """What differs between the study as declared and its score rows, field by field.

    Args:
        plan: before training.
        rows: of a score file.
        split: that they are of, "dev" or "sealed"; where no family is kept back, the sealed worlds
            are new draws of the public shifts.
        stopped: (arm, seed) of training runs that broke, which have no rows.
    """
    splits, stopped = plan.splits, set(stopped)
    due = splits.names(split) or (tuple(plan.shifts) if split == "sealed" else ())
    scored = dict.fromkeys(row["shift"] for row in rows if row["shift"] != HOME)
    planned = {name: getattr(plan, name) for name in ("env", "episodes")}
    planned["severities"] = tuple(sorted(plan.severities))
    found = {
        "env": _only({row["env"] for row in rows}),
        "episodes": _only({row["episodes"] for row in rows}),
        "severities": tuple(sorted({row["severity"] for row in rows if row["shift"] != HOME})),
    }
    said = _differences(planned, found, "scored")
    said += [f"shift {name}: declared, not scored" for name in due if name not in scored]
    for name in (name for name in scored if name not in due):
        which = splits.of(name) if name in plan.shifts else "not at all"
        said.append(f"shift {name}: scored as {split}, declared {which}")
    points = 1 + len(scored) * len(plan.severities)
    for arm in plan.arms:
        own = [row["seed"] for row in rows if row["arm"] == arm]
        whole = set(range(plan.seeds)) - {seed for name, seed in stopped if name == arm}
        if set(own) != whole:
            said.append(f"seeds of {arm}: {len(whole)} were declared, {len(set(own))} scored")
        elif any(own.count(seed) != points for seed in whole):
            said.append(f"points of {arm}: some seeds lack a point or have one twice")
    undeclared = {row["arm"] for row in rows} - set(plan.arms)
    return said + [f"arm {arm}: scored, not declared" for arm in sorted(undeclared)]


def _check(one: Plan) -> None:
    """Refuses a declaration that does not hang together."""
    from envs.shift import FAMILIES

    if len(one.primary) != 2 or not all(isinstance(arm, str) for arm in one.primary):
        raise UserError(
            f"primary = {_toml(one.primary)}: declare one primary contrast, [arm, less arm]; "
            "others are secondary"
        )
    for contrast in (one.primary, *one.secondary):
        if len(contrast) != 2:
            raise UserError(f"contrast {_toml(contrast)}: name two arms")
        for arm in contrast:
            checked_choice("arm", arm, one.arms)
        if contrast[0] == contrast[1]:
            raise UserError(f"contrast {_toml(contrast)}: an arm is not to be told from itself")
    if len(set(one.arms)) < len(one.arms):
        raise UserError(f"arms {', '.join(one.arms)}: name each arm once")
    if not isinstance(one.seeds, int) or one.seeds < 3:
        raise UserError(f"seeds = {one.seeds}: an interval needs at least 3 seeds")
    for family in families(one.shifts):
        checked_choice("family", family, FAMILIES)
    for family in one.sealed:
        checked_choice("sealed family", family, families(one.shifts))


def _differences(planned: Mapping, found: Mapping, verb: str) -> list[str]:
    return [
        f"{key}: {_toml(planned.get(key, 'nothing'))} was declared, "
        f"{_toml(found.get(key, 'nothing'))} {verb}"
        for key in {**planned, **found}
        if planned.get(key) != found.get(key)
    ]


def _only(values: set) -> Any:
    """The one value that there is; all of them where there are several."""
    return next(iter(values)) if len(values) == 1 else tuple(sorted(values))


def _flat(plan: Plan) -> dict[str, Any]:
    """Fields by name, those of tables by `table.name`."""
    flat = {}
    for key, value in dataclasses.asdict(plan).items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {}
        flat |= {} if isinstance(value, dict) else {key: value}
    return flat


def _plain(agent: Any) -> dict[str, Any]:
    """The settings of an agent as what TOML can hold."""
    fields = dataclasses.asdict(agent) if dataclasses.is_dataclass(agent) else {}
    kinds = (bool, int, float, str)
    return {
        k: v if isinstance(v, kinds) else getattr(v, "__qualname__", str(v))
        for k, v in fields.items()
    }


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _toml(value: Any) -> str:
    """A value as TOML writes it: its strings, numbers and lists are JSON's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _name(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
