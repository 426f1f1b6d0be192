"""Settings of a study from flags and a YAML file, strictly typed, and its one-line refusals.

Imports nothing heavy, so that `--help` answers at once.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import io
import json
import re
import shlex
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from runs.errors import UserError

T = TypeVar("T")
SCIENTIFIC = r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"  # YAML 1.1 reads 3e-4 and 1.5e3 as text


def parse_settings(
    settings: type[T], argv: list[str], description: str, prog: str | None = None
) -> T:
    """Reads settings from flags, over a `--config file.yaml`, over the defaults.

    Args:
        settings: a frozen dataclass, every field with a default.
        argv: the flags.
        description: of the command, shown by `--help`.
        prog: how the command is called, such as `python -m runs.compare`.

    Raises:
        UserError: for anything that does not fit, naming it.
    """
    import tyro

    path = _value_of("--config", argv)
    default = settings() if path is None else from_yaml(settings, Path(path))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                settings, prog=prog, args=argv, default=default, description=description
            )
    except SystemExit as stop:
        if stop.code:
            raise UserError(_one_line(said.getvalue())) from None
        raise


def check_seeds(settings: Any) -> None:
    """Raises a UserError where there are too few seeds for an interval."""
    if settings.seeds < 3:
        raise UserError(f"--seeds {settings.seeds}: an interval needs at least 3 seeds")


def check_not_negative(settings: Any, *names: str) -> None:
    """Raises a UserError where one of these settings is below 0."""
    for name in names:
        if getattr(settings, name) < 0:
            raise UserError(f"--{name} {getattr(settings, name)}: must not be negative")


def check_recordable(settings: Any, *parts: str) -> None:
    """Refuses to record a smoke run, or one of which the flags `parts` leave something out.

    Raises:
        UserError: naming the flag.
    """
    for name in ("smoke", *parts) if settings.record else ():
        if getattr(settings, name):
            raise UserError(f"--record: a part of a study is no result; leave --{name} out")


def shell_command(command: str, argv: Sequence[str]) -> str:
    """A command and its flags as one would type them again, such as in a shell."""
    return f"{command} {shlex.join(argv)}".strip()


def from_yaml(settings: type[T], path: Path) -> T:
    """Reads a dataclass from a YAML mapping without running anything it says.

    Raises:
        UserError: for a missing file, broken YAML, a tag, an unknown key or a wrong type.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"config {path}: no such file") from None
    except OSError as error:
        raise UserError(f"config {path}: {error.strerror}") from None
    except yaml.constructor.ConstructorError as error:
        raise UserError(f"config {path}: {error.problem}; use plain values, no tags") from None
    except yaml.MarkedYAMLError as error:
        raise UserError(f"config {path} is not YAML: {error.problem}{_place(error)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"config {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UserError(f"config {path}: write one `key: value` a line")
    kinds = typing.get_type_hints(settings)
    for key in data:
        if key not in kinds or key == "config":
            raise UserError(f"config {path}: unknown key {key}{closest_name(str(key), kinds)}")
    values = {key: _typed(value, kinds[key], f"{path}: {key}") for key, value in data.items()}
    return settings(**values)


def _place(error: Any) -> str:
    mark = error.problem_mark
    return "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"


def closest_name(name: str, known: Iterable[str]) -> str:
    """The hint of an error message: the nearest known name, or all of a few, or nothing."""
    known = [str(one) for one in known]
    by_case = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), by_case, 1)
    if close:
        return f"; did you mean {by_case[close[0]]}?"
    return f"; there are {', '.join(known)}" if len(known) <= 20 else ""


def checked_choice(kind: str, name: str, known: Iterable[str]) -> str:
    """The name, if it is known.

    Raises:
        UserError: naming the nearest one if it is not.
    """
    known = list(known)
    if name not in known:
        raise UserError(f"unknown {kind} {name!r}{closest_name(name, known)}")
    return name


def fingerprint(settings: Any, leave_out: Iterable[str] = (), also: tuple[str, ...] = ()) -> str:
    """Eight hexadecimal digits that change with any setting but those left out, and with `also`."""
    fields = {k: v for k, v in dataclasses.asdict(settings).items() if k not in set(leave_out)}
    fields |= {"also": also} if also else {}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:8]


def run_main(main: Callable[[list[str]], int | None]) -> None:
    """Runs a command; bad input, or a package that is missing, is one line and exit code 2."""
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ("affect", "agents", "envs", "runs"):
            raise
        print(f"error: {error.name} is missing: pip install -e '.[lab]'", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:  # before the work began
        code = 130
    sys.exit(code or 0)


def _value_of(flag: str, argv: list[str]) -> str | None:
    for i, word in enumerate(argv):
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
        if word == flag:
            if not argv[i + 1 :] or argv[i + 1].startswith("--"):
                raise UserError(f"{flag} needs a value")
            return argv[i + 1]
    return None


def _typed(value: Any, kind: Any, where: str) -> Any:
    """The value as `kind`, or a refusal: no text is taken for a number, no `no` for a word."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if value is None:
            return None
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise UserError(f"config {where} must be a list, not {value!r}")
        return tuple(_typed(one, typing.get_args(kind)[0], where) for one in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str) and re.fullmatch(SCIENTIFIC, value):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"config {where} must be {kind.__name__}, not {value!r}")
    return value


def _one_line(said: str) -> str:
    """What a boxed message says, in one line: without its heading and what repeats `--help`."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    lines = [line.strip(" │") for line in plain.splitlines() if not line.startswith(("╭", "╰"))]
    body = re.sub("Argument helptext:.*(?=For full helptext)", "", " ".join(lines))
    return " ".join(body.replace("─", " ").split()) or "these flags do not fit; see --help"
