"""Settings from flags and YAML: valid values are read exactly, others are refused in one line."""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from runs.cli.settings import fingerprint, from_yaml, parse_settings, run_main, shell_command
from runs.compare import Settings
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


def yaml(tmp_path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


# --- YAML -------------------------------------------------------------------------------------


def test_values_of_every_type_are_read(tmp_path):
    text = "lr: 3e-4\ncount: 5\nname: b\nheads: [hope, fear]\nsizes: [1, 2.5, 1e3]\n"
    path = yaml(tmp_path, text + "out: some/where\nfast: true\n")
    expected = Knobs(3e-4, 5, "b", ("hope", "fear"), (1.0, 2.5, 1000.0), Path("some/where"))
    assert from_yaml(Knobs, path) == replace(expected, fast=True)
    assert all(type(size) is float for size in from_yaml(Knobs, path).sizes)


@pytest.mark.parametrize(
    ("text", "lr"),
    [("3e-4", 3e-4), ("1.5e3", 1500.0), ("-2E5", -2e5), ("1", 1.0), (".5", 0.5), ("3.e-4", 3e-4)],
)
def test_a_float_may_be_written_in_any_notation(text, lr, tmp_path):
    value = from_yaml(Knobs, yaml(tmp_path, f"lr: {text}")).lr
    assert value == lr
    assert type(value) is float


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
        ("count: '3'", "count must be int, not '3'"),
        ("name: no", "name must be str, not False"),
        ("name: 3", "name must be str, not 3"),
        ("heads: fear", "heads must be a list, not 'fear'"),
        ("heads: [fear, no]", "heads must be str, not False"),
        ("heads: {fear: 1}", "heads must be a list, not {'fear': 1}"),
        ("out: 3", "out must be Path, not 3"),
        ("fast: 1", "fast must be bool, not 1"),
        ("fast: 'yes'", "fast must be bool, not 'yes'"),
        ("cuont: 3", "unknown key cuont; did you mean count?"),
        ("Count: 3", "unknown key Count; did you mean count?"),
        ("3: 3", "unknown key 3; there are lr, count,"),
        ("config: other.yaml", "unknown key config"),
        ("- lr", "write one `key: value` a line"),
        ("", "write one `key: value` a line"),
        ("lr", "write one `key: value` a line"),
        ("lr: [1", "is not YAML: "),
        ("lr: 1\n seeds: 3", "mapping values are not allowed here, line 2, column 7"),
        ("lr: 1\n\tcount: 2", "is not YAML: "),
        ("a: 1\n--- \nb: 2", "is not YAML: "),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_key(text, complaint, tmp_path):
    path = yaml(tmp_path, text)
    line = refusal(from_yaml, Knobs, path)
    assert line.startswith(f"config {path}")
    assert complaint in line


@pytest.mark.parametrize(
    "text",
    [
        "name: !!python/object/apply:os.system ['touch {marker}']",
        "!!python/object/apply:os.system ['touch {marker}']",
        "name: !!python/name:os.system",
        "name: !mine 3",
    ],
)
def test_a_yaml_tag_is_refused_and_executes_nothing(text, tmp_path):
    marker = tmp_path / "marker"
    line = refusal(from_yaml, Knobs, yaml(tmp_path, text.format(marker=marker)))
    assert "could not determine a constructor for the tag" in line
    assert "use plain values, no tags" in line
    assert not marker.exists()


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert refusal(from_yaml, Knobs, tmp_path / "none.yaml").endswith("none.yaml: no such file")
    assert "Is a directory" in refusal(from_yaml, Knobs, tmp_path)
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"name: \xff\xfe")
    assert "is not YAML" in refusal(from_yaml, Knobs, path)
    path.write_bytes(b"name: \x00")
    assert "is not YAML" in refusal(from_yaml, Knobs, path)


# --- flags ------------------------------------------------------------------------------------


def parse_knobs(*argv: str) -> Knobs:
    return parse_settings(Knobs, list(argv), "A description.", prog="python -m some.thing")


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
        (["--cuont", "3"], "Unrecognized options: --cuont"),
        (["--count", "2.5"], "--count: invalid literal for int() with base 10: '2.5'"),
        (["--count", "no"], "--count: invalid literal"),
        (["--lr", "3e5x"], "--lr: could not convert string to float: '3e5x'"),
        (["--count"], "Missing value for argument '--count'"),
        (["stray"], "Unrecognized options: stray"),
        (["--fast", "maybe"], "Unrecognized options: maybe"),
        (["--config"], "--config needs a value"),
        (["--config", "--fast"], "--config needs a value"),
        (["--config", "nowhere.yaml"], "config nowhere.yaml: no such file"),
    ],
)
def test_invalid_flags_are_refused(argv, complaint):
    line = refusal(lambda: parse_knobs(*argv))
    assert complaint in line
    assert not set(line) & set("╭│╰─\x1b")
    assert len(line) < 300


def test_a_shell_command_is_quoted():
    assert shell_command("python -m runs.compare", []) == "python -m runs.compare"
    argv = ["--out", "a study", "--heads", "fear"]
    assert shlex.split(shell_command("python -m it", argv)) == ["python", "-m", "it", *argv]


def test_a_mistyped_flag_suggests_the_nearest_one():
    line = refusal(lambda: parse_knobs("--cuont", "3"))
    assert line.startswith("Unrecognized options: --cuont, 3 Perhaps you meant: --count INT")
    assert line.endswith("For full helptext, run python -m some.thing --help")


def test_help_shows_every_setting_and_exits(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_knobs("--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for word in ("A description.", "--lr", "--heads", "--fast", "a whole number"):
        assert word in text


# --- names ------------------------------------------------------------------------------------


def test_an_unknown_name_suggests_the_nearest_one():
    assert checked_choice("head", "fear", ("fear", "hope")) == "fear"
    assert refusal(checked_choice, "head", "feer", ("fear", "hope")) == (
        "unknown head 'feer'; did you mean fear?"
    )
    assert refusal(checked_choice, "head", "FEAR", ("fear", "hope")) == (
        "unknown head 'FEAR'; did you mean fear?"
    )
    assert refusal(checked_choice, "head", "xyz", ("fear", "hope")).endswith(
        "; there are fear, hope"
    )
    assert closest_name("xyz", map(str, range(100))) == ""


def test_a_fingerprint_changes_with_all_fields_but_those_left_out():
    expected = fingerprint(Settings(), leave_out=("out", "config"))
    assert expected == fingerprint(Settings(out=Path("x"), config=Path("y")), ("out", "config"))
    for other in (
        Settings(seeds=21),
        Settings(heads=("hope", "fear")),
        Settings(shifts=("noise",)),
        Settings(smoke=True),
    ):
        assert fingerprint(other, ("out", "config")) != expected
    assert len(expected) == 8 and int(expected, 16) >= 0


# --- leaving ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "code", "stderr"),
    [
        (0, 0, ""),
        (None, 0, ""),
        (130, 130, ""),
        (UserError("two\n  lines"), 2, "error: two lines\n"),
        (KeyboardInterrupt(), 130, ""),
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
    def main(argv):
        raise ModuleNotFoundError("No module named 'runs.nowhere'", name="runs.nowhere")

    with pytest.raises(ModuleNotFoundError):
        run_main(main)


def test_bad_settings_are_refused_in_one_line_without_importing_jax(tmp_path):
    """The command runs in a process, up to where its settings are read."""
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
    assert done.returncode == 2
    assert done.stdout == "False\n"
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: config {path}: could not determine a constructor")
    assert not (tmp_path / "marker").exists()
