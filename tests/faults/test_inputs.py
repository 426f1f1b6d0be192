"""Random and hostile input of commands: a study folder, a configuration, flags, a saved head."""

import dataclasses
import json
import os
import struct
import zipfile
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import affect
from runs.analysis.scores import read_scores
from runs.cli.settings import TrainingSettings, parse_settings, plain_line
from runs.cli.settings import check as check_shared
from runs.errors import UserError
from runs.names import LARGEST
from runs.prereg.plan_file import read_plan
from runs.report.episode_trace import load_trace
from runs.tree_io import read_npz
from tests.faults.bench import ROOT, report, tries
from tests.refusal import refused

STUDIES = sorted(
    path.stem for path in (ROOT / "runs").glob("*.py") if "(run_study, COMMAND" in path.read_text()
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.integers(-2, 9),
    st.floats(),
    st.text(max_size=40),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
PLAIN = {"smoke": True, "seeds": 3, "heads": ["hope"]}


def settings_of(study: str) -> tuple[type, Callable]:
    """Settings of a study, and what checks them."""
    module = import_module(f"runs.{study}")
    return (
        getattr(module, "Settings", TrainingSettings),
        getattr(module, "check", check_shared),
    )


def refused_or_valid(study: str, argv: list[str]) -> None:
    """Asserts that flags of a study are refused in one line, or are such as it can have."""
    kind, check = settings_of(study)
    try:
        parsed = parse_settings(kind, argv, "", prog=f"python -m runs.{study}")
        check(parsed)
    except UserError as error:
        assert "\n" not in plain_line(error) and plain_line(error).isprintable()
        return
    except SystemExit as stop:  # --help
        assert not stop.code
        return
    values = dataclasses.asdict(parsed)
    numbers = [x for x in values.values() if isinstance(x, int | float)]
    assert all(0 <= x <= LARGEST for x in numbers), parsed
    assert values.get("seeds", 3) >= 3 and str(parsed.out) != ""
    assert study != "compare" or parsed.heads
    assert not (parsed.record and parsed.smoke)


def fuzzed(count: int):
    """Runs a test with `count` random examples."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=count,
        deadline=timedelta(minutes=2),
        derandomize=True,
        suppress_health_check=quiet,
    )


def check_config(study: str, content: bytes, folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_bytes(content)
    refused_or_valid(study, ["--config", str(path)])


def configs(study: str) -> st.SearchStrategy:
    """Strategy of a study and a configuration file of it."""
    fields = tuple(settings_of(study)[0].__dataclass_fields__)
    plain = {name: value for name, value in PLAIN.items() if name in fields}
    content = st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
        st.dictionaries(st.sampled_from(fields), VALUES, max_size=4).map(
            lambda content: yaml.safe_dump(plain | content).encode()
        ),
    )
    return st.tuples(st.just(study), content)


def flags(study: str) -> st.SearchStrategy:
    """Strategy of a study and flags of it."""
    text = st.characters(blacklist_categories=("Cs",), blacklist_characters="\0")
    names = [f"--{name.replace('_', '-')}" for name in settings_of(study)[0].__dataclass_fields__]
    values = st.text(text, max_size=20), st.integers(-(10**30), 10**30).map(str)
    argv = st.lists(st.one_of(st.sampled_from(names), *values), max_size=5)
    return st.tuples(st.just(study), argv)


CONFIGS = st.sampled_from(STUDIES).flatmap(configs)
FLAGS = st.sampled_from(STUDIES).flatmap(flags)


@fuzzed(25)
@given(configs("compare"))
@example(("compare", b"seeds: 3\nseeds: 4\n"))
@example(("compare", b"steps: !!timestamp x\n"))
@example(("compare", b"env: !!bool x\n"))
@example(("compare", b"a: " + b"[" * 3000))
def test_a_random_configuration_is_valid_or_refused_in_one_line(tmp_path, config):
    check_config(*config, tmp_path)


@fuzzed(10)
@given(flags("compare"))
@example(("compare", ["--out", ""]))
@example(("compare", ["--seeds", "1" + "0" * 12]))
@example(("compare", ["--steps", "9" * 5000]))
@example(("compare", ["--episodes", "1000000000000"]))
@example(("compare", ["--env", "x" * 5000]))
@example(("compare", ["--env", "x" * 3000 + ".py:X"]))
@example(("compare", ["--heads", "x" * 3000 + ".py:X"]))
def test_random_flags_are_valid_or_refused_in_one_line(given_flags):
    refused_or_valid(*given_flags)


@pytest.mark.slow
def test_many_random_configurations_and_flags_of_all_studies(tmp_path, record_property):
    fuzzed(tries(250))(given(CONFIGS)(lambda config: check_config(*config, tmp_path)))()
    fuzzed(tries(250))(given(FLAGS)(lambda given_flags: refused_or_valid(*given_flags)))()
    report(record_property, "fuzzed configurations and flags", 2 * tries(250))


@pytest.mark.parametrize("study", STUDIES)
def test_a_number_that_is_negative_is_refused(study):
    kind, check = settings_of(study)
    for field in dataclasses.fields(kind):
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            with pytest.raises(UserError, match=field.name.replace("_", "[_-]")):
                check(parse_settings(kind, [f"--{field.name.replace('_', '-')}=-1"], ""))


# --- files of others ----------------------------------------------------------------------------


def safetensors(header: bytes, size: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def tensors(*offsets: list[int]) -> bytes:
    entries = {
        f"x{i}": {"dtype": "F32", "shape": [1], "data_offsets": o} for i, o in enumerate(offsets)
    }
    return json.dumps(entries).encode()


HEADS = {
    "a header of 10^9 bytes": safetensors(b"{}", 10**9),
    "a header of 2^63 bytes": safetensors(b"{}", 2**63),
    "overlapping tensors": safetensors(tensors([0, 4], [0, 4]), None, b"0000"),
    "a negative offset": safetensors(tensors([-4, 0]), None, b"0000"),
    "an offset beyond the file": safetensors(tensors([0, 10**12]), None, b"0000"),
    "a header nested deep": safetensors(b"[" * 10**5),
    "a card nested deep": safetensors(
        json.dumps(
            {"__metadata__": {"affect": '{"checksum": "0", "head": ' + "[" * 10**5}}
        ).encode()
    ),
    "an empty file": b"",
    "a pickle": b"\x80\x04K\x01.",
}


@pytest.mark.parametrize("what", HEADS)
def test_a_hostile_file_of_a_head_is_refused_in_one_line(what, tmp_path):
    path = tmp_path / "head.safetensors"
    path.write_bytes(HEADS[what])
    with refused(ValueError, str(path)):
        affect.load(path)


def test_a_pipe_a_device_and_a_card_with_control_characters_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="is no ordinary file"):
            affect.load(path)
    with pytest.raises(ValueError, match="licence of a card is a text"):
        affect.store.Card("Hope", licence="MIT\x1b[2J")


def test_a_zip_bomb_and_damaged_arrays_are_refused(tmp_path):
    bomb, damaged, objects = (
        tmp_path / name for name in ("bomb.npz", "damaged.npz", "objects.npz")
    )
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", bytes(10**6))
        file.filelist[0].file_size = 2**40
    np.savez(damaged, x=np.arange(100.0))
    content = bytearray(damaged.read_bytes())
    content[300] ^= 1
    damaged.write_bytes(content)
    np.savez(objects, x=np.array([{}], object))
    for path in (bomb, damaged, objects, tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_npz(path)
        assert load_trace(path) is None


@pytest.mark.parametrize(
    "content",
    [b"env,arm\n", b"\xff\xfe\n\x00\n", b"a\n" + b"x" * 10**6 + b"\n", b'"' * 10**6 + b"\n"],
)
def test_a_damaged_table_and_plan_are_refused_in_one_line(content, tmp_path):
    for name, read in (("scores.csv", read_scores), ("plan.toml", read_plan)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as caught:
            read(tmp_path / name)
        assert len(plain_line(caught.value)) <= 1000
    (tmp_path / "plan.toml").write_text("a = " + "[" * 10**4)
    with pytest.raises(UserError, match="is not TOML"):
        read_plan(tmp_path / "plan.toml")
