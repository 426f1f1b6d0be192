"""Settings of studies, those that all share among them, read from flags and a YAML file.

Imports nothing heavy, so that `--help` is fast.
"""

import argparse
import contextlib
import dataclasses
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
from runs.names import closest_name

T = TypeVar("T")
SCIENTIFIC = r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"  # YAML 1.1 reads 3e-4 and 1.5e3 as text


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """Settings that every study has.

    Attributes:
        out: folder of the study; by default runs/logs/STUDY/, named by all settings.
        config: a YAML file of these settings; flags override it.
        smoke: a run of at most a minute to test the code; its numbers mean nothing.
        record: also write page, tables and figures to runs/results/.
    """

    out: Path | None = None
    config: Path | None = None
    smoke: bool = False
    record: bool = False


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
        image: what an image of a gymnasium environment is taken for, pixels, symbols or numbers;
            by default decided by its shape, dtype and bounds.
    """

    env: str = "Drive"
    env_kwargs: str = ""
    not_reproducible: bool = False
    workers: int | None = None
    image: str = ""

    def env_options(self) -> dict[str, Any]:
        """Options of `envs.load_suite`, read from the flags; UserError for invalid ones."""
        kwargs = json_object(self, "env_kwargs")
        if self.workers is not None and self.workers < 0:
            raise UserError(f"--workers {self.workers}: must not be negative")
        reproducible = not self.not_reproducible
        options = {"kwargs": kwargs, "reproducible": reproducible, "workers": self.workers}
        return options | {"image": self.image or None}


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
            return tyro.cli(
                settings, prog=prog, args=argv, default=default, description=description
            )
    except SystemExit as stop:
        if stop.code:
            raise UserError(_one_line(stderr.getvalue())) from None
        raise


def check_seeds(settings: Any) -> None:
    """Check that there are at least 3 seeds, as confidence intervals need; raises UserError."""
    if settings.seeds < 3:
        raise UserError(f"--seeds {settings.seeds}: an interval needs at least 3 seeds")


def check_env(settings: EnvSettings) -> None:
    """Check, without jax, that the environment is known; raises UserError."""
    from envs.host import known

    settings.env_options()
    try:
        known.check_env(settings.env)
    except ValueError as error:
        raise UserError(str(error)) from None


def json_object(settings: Any, name: str) -> dict[str, Any]:
    """The JSON object of a setting, empty if that is; raises UserError if it is none."""
    text, flag = getattr(settings, name), f"--{name.replace('_', '-')}"
    form = f"""write a JSON object in quotes, such as {flag} '{{"size": 8}}'"""
    try:
        value = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise UserError(f"{flag} {text}: {error}; {form}") from None
    if not isinstance(value, dict):
        raise UserError(f"{flag} {text}: {form}")
    return value


def check_not_negative(settings: Any, *names: str) -> None:
    """Check that none of these settings is negative, or NaN; raises UserError."""
    for name in names:
        if not getattr(settings, name) >= 0:
            raise UserError(f"--{name} {getattr(settings, name)}: must not be negative")


def check_recordable(settings: Any, *parts: str) -> None:
    """Check that `--record` is not combined with `--smoke` or a flag of `parts`.

    Raises:
        UserError: naming the flag.
    """
    for name in ("smoke", *parts) if settings.record else ():
        if getattr(settings, name):
            raise UserError(f"--record: only a complete study can be recorded; leave --{name} out")


def shell_command(command: str, argv: Sequence[str]) -> str:
    """Quote a command and its flags for a shell."""
    return f"{command} {shlex.join(argv)}".strip()


def from_yaml(settings: type[T], path: Path) -> T:
    """Read a dataclass from a YAML mapping, safely: no tags, no code.

    Raises:
        UserError: for a missing file, broken YAML, a tag, an unknown key or a wrong type.
    """
    import yaml

    try:
        with path.open("rb") as file:
            data = yaml.safe_load(file)
    except OSError as error:
        raise UserError(f"config {path}: {str(error.strerror).lower()}") from None
    except yaml.YAMLError as error:
        cause = " ".join(str(error).split())
        raise UserError(f"config {path} is not YAML: {cause}; use plain values, no tags") from None
    if not isinstance(data, dict):
        raise UserError(f"config {path}: write one `key: value` a line")
    field_types = typing.get_type_hints(settings)
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


def fingerprint(settings: Any, leave_out: Iterable[str] = (), also: tuple[str, ...] = ()) -> str:
    """Hash all settings except `leave_out`, plus `also`, to 8 hex digits."""
    fields = {k: v for k, v in dataclasses.asdict(settings).items() if k not in set(leave_out)}
    fields |= {"also": also} if also else {}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:8]


def run_main(main: Callable[[list[str]], int | None]) -> None:
    """Run a command and exit; bad input or a missing package prints one line, exit code 2."""
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in ("affect", "agents", "envs", "runs"):
            raise
        print(f"error: {package} is missing: pip install -e '.[lab]'", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:  # before the work started
        code = 130
    sys.exit(code or 0)


def typed_value(value: Any, kind: Any, where: str) -> Any:
    """Check a YAML value against the type `kind`, converting ints, 3e-4, lists and paths.

    Raises:
        UserError: for a value of another type, beginning with `where` it stands.
    """
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if value is None:
            return None
        kind = next(member for member in typing.get_args(kind) if member is not type(None))
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where} must be a list, not {value!r}")
        return tuple(typed_value(member, typing.get_args(kind)[0], where) for member in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str) and re.fullmatch(SCIENTIFIC, value):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{where} must be {kind.__name__}, not {value!r}")
    return value


def _one_line(text: str) -> str:
    """Reduce tyro's boxed error message to one line, without heading and help text."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip(" │") for line in plain.splitlines() if not line.startswith(("╭", "╰"))]
    body = re.sub("Argument helptext:.*(?=For full helptext)", "", " ".join(lines))
    return " ".join(body.replace("─", " ").split()) or "invalid flags; see --help"
