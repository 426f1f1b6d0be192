"""Settings of studies, those that all share among them, read from flags and a YAML file.

Imports nothing heavy, so that `--help` is fast.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import shlex
import signal
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from runs.errors import UserError
from runs.names import LARGEST, checked_choice, closest_name

T = TypeVar("T")
SCIENTIFIC = r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"  # YAML 1.1 reads 3e-4 and 1.5e3 as text
COUNTS = ("steps", "further", "episodes", "base", "seed")  # settings that are 0 or more
MOST_YAML, DEEPEST = 1_000_000, 20  # bytes and levels of a YAML file


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """Settings that every study has.

    Attributes:
        out: folder of the study; by default runs/logs/STUDY/, named by all settings.
        config: a YAML file of these settings; flags override it.
        smoke: a small run to test the code, most of it compiling; its numbers mean nothing.
        record: also write page, tables and figures to runs/results/.
    """

    narrowed_by: ClassVar[tuple[str, ...]] = ()  # settings with which a study is not recorded
    known: ClassVar[Mapping[str, tuple[str, Iterable[str]]]] = {}  # setting -> (of what, its names)
    least: ClassVar[Mapping[str, tuple[int, str]]] = {}  # setting -> (least number, what is wrong)
    out: Path | None = None
    config: Path | None = None
    smoke: bool = False
    record: bool = False


@dataclasses.dataclass(frozen=True)
class TrainingSettings(StudySettings):
    """Settings of studies that train agents in worlds of their own.

    Attributes:
        seeds: training runs an arm, at least 3.
        steps: environment steps of a training; 0 for those that the study has by default.
        base: seed of all seeds: a claim and its pilots have different ones.
    """

    seeds: int = 20
    steps: int = 0
    base: int = 0


@dataclasses.dataclass(frozen=True)
class EnvSettings(StudySettings):
    """Settings of studies that take any environment.

    Attributes:
        env: an environment of this project, such as CartPole; another jitted one, such as
            gymnax:CartPole-v1; any gymnasium id, such as LunarLander-v3; or a class or function of
            yours, path/to/file.py:Name.
        env_kwargs: arguments with which the environment is made, as JSON: {"size": 8}.
        not_reproducible: accept a gymnasium environment that a seed and actions do not determine;
            a stopped study then goes on with new episodes, and not bit for bit.
        workers: processes that step a gymnasium environment, 0 for the study's own; by default
            chosen by its speed. It changes no result.
        env_timeout: seconds that one call of a gymnasium environment may take, its import and its
            constructor included. It changes no result.
        image: what an image of a gymnasium environment is taken for, pixels, symbols or numbers;
            by default decided by its shape, dtype and bounds.
    """

    env: str = "Drive"
    env_kwargs: str = ""
    not_reproducible: bool = False
    workers: int | None = None
    env_timeout: float = 60.0
    image: str = ""

    def env_options(self) -> dict[str, Any]:
        """Options of `envs.load_suite`, read from the flags; UserError for invalid ones."""
        if self.workers is not None and self.workers < 0:
            raise UserError(f"--workers {self.workers}: must not be negative")
        if not self.env_timeout > 0:
            raise UserError(f"--env-timeout {self.env_timeout:g}: must be more than 0 seconds")
        return {
            "kwargs": json_object(self, "env_kwargs"),
            "reproducible": not self.not_reproducible,
            "workers": self.workers,
            "timeout": self.env_timeout,
            "image": self.image or None,
        }


def parse_settings(
    settings: type[T], argv: list[str], description: str, prog: str | None = None
) -> T:
    """Read settings: flags override a `--config file.yaml`, which overrides the defaults.

    Args:
        settings: a frozen dataclass, every field with a default.
        argv: the flags.
        description: of the command, shown by `--help`.
        prog: how the command is called, such as `python -m runs.compare`.

    Raises:
        UserError: naming the flag or key that is invalid.
    """
    import tyro

    for flag, value in zip(argv, [*argv[1:], None], strict=False):
        if flag in ("--out=", "--config=") or (flag in ("--out", "--config") and value == ""):
            raise UserError(f"{flag.rstrip('=')} is empty: give a path, or leave it out")
    config = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    config.add_argument("--config", type=Path)
    try:
        path = config.parse_known_args(argv)[0].config
    except argparse.ArgumentError:
        raise UserError("--config needs a value") from None
    default = settings() if path is None else from_yaml(settings, path)
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            parsed = tyro.cli(
                settings, prog=prog, args=argv, default=default, description=description
            )
    except SystemExit as stop:
        if stop.code:
            raise UserError(_one_line(stderr.getvalue())) from None
        raise
    for field in dataclasses.fields(settings):
        _check_size(f"--{field.name.replace('_', '-')}", getattr(parsed, field.name))
    return parsed


def _check_size(flag: str, value: Any) -> None:
    """Check that numbers are finite and no larger than LARGEST, and texts no longer than a path.

    Raises:
        UserError: naming the flag.
    """
    if isinstance(value, tuple):
        for member in value:
            _check_size(flag, member)
    elif isinstance(value, int | float) and not abs(value) <= LARGEST:
        shown = str(value) if isinstance(value, float) or abs(value) < 10**30 else "a larger one"
        raise UserError(f"{flag} {shown}: expected a finite number, at most {LARGEST:,}")
    elif isinstance(value, str | Path) and (len(str(value)) > 4000 or "\0" in str(value)):
        raise UserError(f"{flag} {str(value)[:40]!r}...: expected at most 4,000 characters, no \\0")


def check(settings: Any) -> None:
    """Check, without jax, what the settings of studies have in common.

    A study with further conditions has a `check` of its own, which calls this one.

    Raises:
        UserError: for a name that is not `known`, a number below its `least`, fewer than 3 seeds, a
            negative number of COUNTS, or `record` with `smoke` or a setting that narrows the study.
    """
    for name, (kind, choices) in settings.known.items():
        given = getattr(settings, name)
        for choice in [given] if isinstance(given, str) else given:
            checked_choice(kind, choice, choices)
    for name, (least, wrong) in settings.least.items():
        if (number := getattr(settings, name)) < least:
            raise UserError(f"--{name.replace('_', '-')} {number}: {wrong}")
    if getattr(settings, "seeds", 3) < 3:
        raise UserError(f"--seeds {settings.seeds}: an interval needs at least 3 seeds")
    check_not_negative(settings, *(name for name in COUNTS if hasattr(settings, name)))
    for name in ("smoke", *settings.narrowed_by) if settings.record else ():
        if getattr(settings, name) != getattr(type(settings), name):
            raise UserError(f"--record: only a complete study can be recorded; leave --{name} out")


def check_jitted(settings: Any) -> None:
    """`check`, and that the environment is a suite of this project or another jitted one."""
    from envs import SUITES, is_jitted

    if not is_jitted(settings.env):
        checked_choice("suite", settings.env, SUITES)
    check(settings)


def check_env(settings: EnvSettings) -> None:
    """`check`, and that the environment is known, without jax; raises UserError."""
    from envs.host import known

    settings.env_options()
    try:
        known.check_env(settings.env)
    except ValueError as error:
        raise UserError(str(error)) from None
    check(settings)


def json_object(settings: Any, name: str) -> dict[str, Any]:
    """The JSON object of a setting, empty if that is; raises UserError if it is none."""
    text, flag = getattr(settings, name), f"--{name.replace('_', '-')}"
    form = f"""write a JSON object in quotes, such as {flag} '{{"size": 8}}'"""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{flag} {text:.80}: {error}; {form}") from None
    if not isinstance(value, dict):
        raise UserError(f"{flag} {text:.80}: {form}")
    return value


def check_not_negative(settings: Any, *names: str) -> None:
    """Check that none of these settings is negative, or NaN; raises UserError."""
    for name in names:
        if not getattr(settings, name) >= 0:
            raise UserError(f"--{name} {getattr(settings, name)}: must not be negative")


def shared_settings(kind: type[T], settings: Any, **changes: Any) -> T:
    """Settings of another command: those that it has in common with `settings`, and `changes`."""
    own, others = ({field.name for field in dataclasses.fields(x)} for x in (kind, settings))
    shared = {name: getattr(settings, name) for name in (own & others) - {"config", "record"}}
    return kind(**shared | changes)


def shell_command(command: str, argv: Sequence[str]) -> str:
    """Quote a command and its flags for a shell."""
    return f"{command} {shlex.join(argv)}".strip()


def from_yaml(settings: type[T], path: Path) -> T:
    """Read a dataclass from a YAML mapping, safely: no tags, no code.

    Raises:
        UserError: for a missing file, broken YAML, a tag, an unknown key or a wrong type.
    """
    data = read_yaml(path, "config ")
    if not isinstance(data, dict):
        raise UserError(f"config {path}: write one `key: value` a line")
    hints = typing.get_type_hints(settings)
    field_types = {field.name: hints[field.name] for field in dataclasses.fields(settings)}
    for key in data:
        if key not in field_types or key == "config":
            raise UserError(
                f"config {path}: unknown key {key}{closest_name(str(key), field_types)}"
            )
    for key, value in data.items():
        if isinstance(value, dict) and field_types[key] is str:  # such as env_kwargs
            data[key] = json.dumps(value)
    values = {
        key: typed_value(value, field_types[key], f"config {path}: {key}")
        for key, value in data.items()
    }
    return settings(**values)


def read_yaml(path: Path, kind: str = "") -> Any:
    """Content of a YAML file: plain values, no tags, aliases or key that occurs twice.

    Raises:
        UserError: for a file that is missing, too large or not such YAML; `kind` precedes its path.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_YAML + 1)
    except OSError as error:
        raise UserError(f"{kind}{path}: {str(error.strerror).lower()}") from None
    if len(content) > MOST_YAML:
        raise UserError(f"{kind}{path} is larger than {MOST_YAML:,} bytes: it is no such file")
    return parse_yaml(content, f"{kind}{path}")


def parse_yaml(content: str | bytes, where: str) -> Any:
    """Value of YAML text, as `read_yaml`; errors begin with `where` it stands."""
    import yaml

    try:
        depth = 0
        for event in yaml.parse(content, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if getattr(event, "tag", None) or isinstance(event, yaml.AliasEvent):
                raise yaml.YAMLError(f"a tag or an alias in line {event.start_mark.line + 1}")
            if depth > DEEPEST:
                raise yaml.YAMLError(f"more than {DEEPEST} levels")
        node = yaml.compose(content, yaml.SafeLoader)
        _check_keys(node)
        return None if node is None else yaml.SafeLoader("").construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 99
        cause = " ".join(str(error).split())[:200]
        raise UserError(f"{where} is not YAML: {cause}; use plain values, no tags") from None


def _check_keys(node: Any) -> None:
    """Raise a ValueError for a mapping with a key that occurs twice, anywhere in a YAML node."""
    children = node.value if getattr(node, "id", "scalar") != "scalar" else ()
    if children and node.id == "mapping":
        names = [key.value for key, _ in children if key.id == "scalar"]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"the key {twice[0]} occurs twice")
        children = [value for _, value in children]
    for child in children:
        _check_keys(child)


def fingerprint(settings: Any, leave_out: Iterable[str] = (), also: tuple[str, ...] = ()) -> str:
    """Hash all settings except `leave_out`, plus `also`, to 8 hex digits."""
    fields = {k: v for k, v in dataclasses.asdict(settings).items() if k not in set(leave_out)}
    fields |= {"also": also} if also else {}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:8]


def run_main(main: Callable[[list[str]], int | None]) -> None:
    """Run a command and exit; bad input or a missing package prints one line, exit code 2.

    So does a file that cannot be read or written. A reader of the output that ends first, such as
    `head -1`, ends the command without a word.
    """
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {plain_line(error)}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        code = 128 + signal.SIGPIPE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        cause = f"{place}{error.strerror or error}; mend this and repeat the command"
        print(f"error: {plain_line(cause)}", file=sys.stderr)
        code = 2
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in ("affect", "agents", "envs", "runs"):
            raise
        print(f"error: {package} is missing: pip install -e '.[lab]'", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:  # in an interactive session; others end in `runs.__init__`
        code = 130
    sys.exit(code or 0)


def plain_line(text: Any) -> str:
    """A text in one line, without characters that a terminal would obey, of at most 1,000."""
    line = "".join(x if x.isprintable() else "?" for x in " ".join(str(text).split()))
    return line if len(line) <= 1000 else f"{line[:900]} ... {line[-90:]}"


def typed_value(value: Any, kind: Any, where: str) -> Any:
    """Check a YAML value against the type `kind`, converting ints, 3e-4, lists and paths.

    Raises:
        UserError: for a value of another type or size, beginning with `where` it stands.
    """
    _check_size(where, value)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if value is None:
            return None
        kind = next(member for member in typing.get_args(kind) if member is not type(None))
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where} must be a list, not {value!r:.80}")
        return tuple(typed_value(member, typing.get_args(kind)[0], where) for member in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str) and re.fullmatch(SCIENTIFIC, value):
        return float(value)
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{where} must be {kind.__name__}, not {value!r:.80}")
    return value


def _one_line(text: str) -> str:
    """Reduce tyro's boxed error message to one line, without heading and help text."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip(" │") for line in plain.splitlines() if not line.startswith(("╭", "╰"))]
    body = re.sub("Argument helptext:.*(?=For full helptext)", "", " ".join(lines))
    return " ".join(body.replace("─", " ").split()) or "invalid flags; see --help"
