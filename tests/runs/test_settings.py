"""Settings from flags and YAML: valid values are read exactly, others are refused in one line."""

import importlib
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from runs.cli.settings import (
    EnvSettings,
    fingerprint,
    from_yaml,
    parse_settings,
    run_main,
    shell_command,
)
from runs.errors import UserError
from runs.names import checked_choice, closest_name


@dataclass(frozen=True)
class Knobs:
    """Settings with a field of every supported type.

    Attributes:
        lr: a float.
        count: a whole number.
        name: a word.
        heads: some words.
        sizes: some numbers.
        out: a path, or nothing.
        config: a YAML file.
        fast: yes or no.
    """

    lr: float = 0.1
    count: int = 3
    name: str = "a"
    heads: tuple[str, ...] = ("fear",)
    sizes: tuple[float, ...] = ()
    out: Path | None = None
    config: Path | None = None
    fast: bool = False


def refusal(call, *args) -> str:
    """Call that must raise a UserError -> its message as one line."""
    with pytest.raises(UserError) as caught:
        call(*args)
    return " ".join(str(caught.value).split())


def yaml(tmp_path, text: str | bytes) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def parse_knobs(*argv: str) -> Knobs:
    return parse_settings(Knobs, list(argv), "A description.", prog="python -m some.thing")


def test_values_of_every_type_are_read_floats_in_any_notation(tmp_path):
    text = "lr: 3e-4\ncount: 5\nname: b\nheads: [hope, fear]\nout: some/where\nfast: true\n"
    knobs = from_yaml(Knobs, yaml(tmp_path, text + "sizes: [1, 2.5, .5, 1.5e3, -2E5, 3.e-4]"))
    sizes = (1.0, 2.5, 0.5, 1500.0, -2e5, 3e-4)
    assert knobs == Knobs(3e-4, 5, "b", ("hope", "fear"), sizes, Path("some/where"), fast=True)
    assert all(type(size) is float for size in knobs.sizes)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('lr: "3e5x"', "lr must be float, not '3e5x'"),
        ("lr: [1.0]", "lr must be float, not [1.0]"),
        ("lr: yes", "lr must be float, not True"),
        ("lr:", "lr must be float, not None"),
        ("count: 2.5", "count must be int, not 2.5"),
        ("count: no", "count must be int, not False"),
        ("count: 1e3", "count must be int, not '1e3'"),
        ("name: no", "name must be str, not False"),
        ("name: 3", "name must be str, not 3"),
        ("heads: fear", "heads must be a list, not 'fear'"),
        ("heads: [fear, no]", "heads must be str, not False"),
        ("out: 3", "out must be Path, not 3"),
        ("fast: 1", "fast must be bool, not 1"),
        ("cuont: 3", "unknown key cuont; did you mean count?"),
        ("least: {}", "unknown key least"),
        ("3: 3", "unknown key 3; there are lr, count,"),
        ("config: other.yaml", "unknown key config"),
        ("- lr", "write one `key: value` a line"),
        ("", "write one `key: value` a line"),
        ("lr: [1", "is not YAML: "),
        ("lr: 1\n seeds: 3", "mapping values are not allowed here in"),
        ("a: 1\n--- \nb: 2", "is not YAML: "),
        (b"name: \xff\xfe", "is not YAML: "),
        (b"name: \x00", "is not YAML: "),
        ("name: !mine 3", "a tag or an alias in line 1"),
        ("name: !!python/name:os.system", "in line 1; use plain values, no tags"),
        ("name: !!int x", "a tag or an alias in line 1"),
        ("name: &a x\nheads: [*a]", "a tag or an alias in line 2"),
        ("lr: 1.0\ncount: 2\nlr: 2.0", "the key lr occurs twice"),
        ("heads: [{a: 1, a: 2}]", "the key a occurs twice"),
        ("count: " + "[" * 3000 + "]" * 3000, "is not YAML: more than 20 levels"),
        ("name: 2020-99-99", "is not YAML: "),
        ("count: 99999999999999999999", "count 99999999999999999999: expected a finite number"),
        ("lr: .inf", "lr inf: expected a finite number"),
        ("lr: .nan", "lr nan: expected a finite number"),
        ("lr: 1" + "0" * 400, "lr a larger one: expected a finite number"),
        ("count: 1" + "0" * 5000, "is not YAML: "),
        ('out: ""', "out must be Path, not ''"),
        ("name: " + "x" * 5000, "expected at most 4,000 characters"),
        ("#" * 10**6 + "\nlr: 1.0", "is larger than 1,000,000 bytes"),
    ],
)
def test_an_invalid_file_is_refused_by_its_name_key_or_position(text, complaint, tmp_path):
    path = yaml(tmp_path, text)
    line = refusal(from_yaml, Knobs, path)
    assert line.startswith(f"config {path}")
    assert complaint in line


def test_flags_override_the_file_and_the_file_overrides_defaults(tmp_path):
    path = yaml(tmp_path, "lr: 3e-4\ncount: 5\nheads: [hope, fear]")
    assert parse_knobs() == Knobs()
    expected = Knobs(lr=3e-4, count=7, heads=("hope", "fear"), config=path, fast=True)
    assert parse_knobs("--config", str(path), "--count", "7", "--fast") == expected
    assert parse_knobs(f"--config={path}", "--count=7", "--fast") == expected
    assert parse_knobs("--config", str(path), "--heads", "fear").heads == ("fear",)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("--cuont 3", "Unrecognized options: --cuont, 3 Perhaps you meant: --count INT"),
        ("--cuont 3", "For full helptext, run python -m some.thing --help"),
        ("--count 2.5", "--count: invalid literal for int() with base 10: '2.5'"),
        ("--lr 3e5x", "--lr: could not convert string to float: '3e5x'"),
        ("--count", "Missing value for argument '--count'"),
        ("stray", "Unrecognized options: stray"),
        ("--fast maybe", "Unrecognized options: maybe"),
        ("--count 99999999999999999999", "--count 99999999999999999999: expected a finite"),
        ("--lr nan", "--lr nan: expected a finite number, at most 100,000,000,000"),
        ("--lr=-inf", "--lr -inf: expected a finite number"),
        ("--sizes 1 inf", "--sizes inf: expected a finite number"),
        ("--out=", "--out is empty: give a path"),
        ("--config", "--config needs a value"),
        ("--config --fast", "--config needs a value"),
        ("--config nowhere.yaml", "config nowhere.yaml: no such file"),
        ("--config /", "config /: is a directory"),
    ],
)
def test_invalid_flags_are_refused(argv, complaint):
    line = refusal(parse_knobs, *argv.split())
    assert complaint in line
    assert not set(line) & set("╭│╰─\x1b")
    assert len(line) < 300


def test_help_shows_every_setting_and_exits(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_knobs("--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for word in ("A description.", "--lr", "--heads", "--fast", "a whole number"):
        assert word in text


def test_a_shell_command_is_quoted():
    assert shell_command("python -m runs.compare", []) == "python -m runs.compare"
    argv = ["--out", "a study", "--heads", "fear"]
    assert shlex.split(shell_command("python -m it", argv)) == ["python", "-m", "it", *argv]


def test_an_unknown_name_suggests_the_nearest_one():
    assert checked_choice("head", "fear", ("fear", "hope")) == "fear"
    for name, hint in (
        ("feer", "; did you mean fear?"),
        ("FEAR", "; did you mean fear?"),
        ("xyz", "; there are fear, hope"),
    ):
        line = refusal(checked_choice, "head", name, ("fear", "hope"))
        assert line == f"unknown head {name!r}{hint}"
    assert closest_name("xyz", map(str, range(100))) == ""


def test_a_fingerprint_changes_with_all_fields_but_those_left_out():
    expected = fingerprint(Knobs(), leave_out=("out", "config"))
    assert expected == fingerprint(Knobs(out=Path("x"), config=Path("y")), ("out", "config"))
    for other in (Knobs(count=21), Knobs(heads=("hope", "fear")), Knobs(fast=True)):
        assert fingerprint(other, ("out", "config")) != expected
    assert fingerprint(Knobs(), ("out", "config"), also=("digest",)) != expected
    assert len(expected) == 8 and int(expected, 16) >= 0


def test_arguments_of_the_environment_are_json():
    settings = EnvSettings(env_kwargs='{"size": 8, "kind": null}', not_reproducible=True, workers=2)
    options = {"kwargs": {"size": 8, "kind": None}, "reproducible": False, "workers": 2}
    assert settings.env_options() == options | {"timeout": 60.0, "image": None}
    default = {"kwargs": {}, "reproducible": True, "workers": None, "timeout": 60.0}
    default["image"] = None
    assert EnvSettings().env_options() == default
    with pytest.raises(UserError, match="--env-timeout 0: must be more than 0 seconds"):
        EnvSettings(env_timeout=0).env_options()
    with pytest.raises(UserError, match="--workers -1: must not be negative"):
        EnvSettings(workers=-1).env_options()
    for text in ("{size: 8}", "[8]", "8", "[" * 10**5, "1" * 5000):
        with pytest.raises(UserError, match="^--env-kwargs .*write a JSON object in quotes"):
            EnvSettings(env_kwargs=text).env_options()


def test_a_file_gives_arguments_of_the_environment_as_a_mapping_or_as_json(tmp_path):
    for text in ("env_kwargs: {size: 8, kind: null}", "env_kwargs:\n  size: 8\n  kind: null\n"):
        settings = from_yaml(EnvSettings, yaml(tmp_path, text))
        assert settings.env_options()["kwargs"] == {"size": 8, "kind": None}
    assert from_yaml(EnvSettings, yaml(tmp_path, "env_kwargs: '{\"size\": 8}'")).env_kwargs
    line = refusal(from_yaml, EnvSettings, yaml(tmp_path, "env_kwargs: [8]"))
    assert "env_kwargs" in line and "[8]" in line


@pytest.mark.parametrize(
    ("result", "code", "stderr"),
    [
        (0, 0, ""),
        (None, 0, ""),
        (130, 130, ""),
        (UserError("two\n  lines"), 2, "error: two lines\n"),
        (KeyboardInterrupt(), 130, ""),
        (UserError("\x1b[2Jgone"), 2, "error: ?[2Jgone\n"),
        (
            OSError(28, "No space left", "a"),
            2,
            "error: a: No space left; mend this and repeat the command\n",
        ),
        (
            ModuleNotFoundError("No module named 'scipy'", name="scipy"),
            2,
            "error: scipy is missing: pip install -e '.[lab]'\n",
        ),
    ],
)
def test_a_command_exits_with_a_code_and_at_most_one_line(result, code, stderr, capsys):
    def main(argv):
        if isinstance(result, BaseException):
            raise result
        return result

    with pytest.raises(SystemExit) as stopped:
        run_main(main)
    assert stopped.value.code == code
    assert capsys.readouterr().err == stderr


def test_a_missing_module_of_this_repository_shows_its_traceback():
    with pytest.raises(ModuleNotFoundError):
        run_main(lambda argv: importlib.import_module("runs.nowhere"))


def test_bad_settings_are_refused_in_one_line_without_importing_jax(tmp_path):
    """The command runs in a process, up to where its settings are read; a tag executes nothing."""
    path = yaml(tmp_path, f"env: !!python/object/apply:os.system ['touch {tmp_path}/marker']")
    code = (
        "import runpy, sys; sys.argv[1:] = ['--config', sys.argv[1]]\n"
        "try: runpy.run_module('runs.compare', run_name='__main__', alter_sys=True)\n"
        "finally: print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"COLUMNS": "40"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: config {path} is not YAML: a tag or an alias")
    assert not (tmp_path / "marker").exists()
