"""Random and hostile input of a command: a study folder, a configuration, flags, a saved head."""

import json
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import affect
from runs.analysis.scores import read_scores
from runs.cli.settings import parse_settings, plain_line
from runs.compare import Settings, check
from runs.errors import UserError
from runs.prereg.plan_file import read_plan
from runs.report.episode_trace import load_trace
from runs.tree_io import read_npz
from tests.faults.bench import FAULTS, report

FIELDS = tuple(Settings.__dataclass_fields__)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=40),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
PLAIN = {"smoke": True, "seeds": 3, "heads": ["hope"]}


def refused_or_valid(argv: list[str]) -> bool:
    """Whether flags are accepted; asserts that they are refused in one line otherwise."""
    try:
        parsed = parse_settings(Settings, argv, "", prog="python -m runs.compare")
        check(parsed)
    except UserError as error:
        assert "\n" not in plain_line(error) and plain_line(error).isprintable()
        return False
    except SystemExit as stop:  # --help
        assert not stop.code
        return False
    assert parsed.seeds >= 3 and parsed.steps >= 0 and parsed.heads and str(parsed.out) != ""
    return True


def fuzzed(count: int):
    """Runs a test with `count` random examples."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=count, deadline=None, derandomize=True, suppress_health_check=quiet
    )


def check_config(content: bytes, folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_bytes(content)
    refused_or_valid(["--config", str(path)])


CONFIGS = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4).map(
        lambda content: yaml.safe_dump(PLAIN | content).encode()
    ),
)
FLAGS = st.lists(
    st.one_of(
        st.sampled_from([f"--{name.replace('_', '-')}" for name in FIELDS]),
        st.text(
            st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20
        ),
        st.integers(-(10**30), 10**30).map(str),
    ),
    max_size=5,
)


@fuzzed(25)
@given(CONFIGS)
@example(b"seeds: 3\nseeds: 4\n")
@example(b"steps: !!timestamp x\n")
@example(b"env: !!bool x\n")
@example(b"a: " + b"[" * 3000)
def test_a_random_configuration_is_valid_or_refused_in_one_line(tmp_path, content):
    check_config(content, tmp_path)


@fuzzed(10)
@given(FLAGS)
@example(["--out", ""])
@example(["--seeds", "1" + "0" * 12])
@example(["--steps", "9" * 5000])
@example(["--episodes", "1000000000000"])
@example(["--env", "x" * 5000])
@example(["--env", "x" * 3000 + ".py:X"])
@example(["--heads", "x" * 3000 + ".py:X"])
def test_random_flags_are_valid_or_refused_in_one_line(argv):
    refused_or_valid(argv)


@pytest.mark.slow
def test_many_random_configurations_and_flags(tmp_path, record_property):
    fuzzed(FAULTS)(given(CONFIGS)(lambda content: check_config(content, tmp_path)))()
    fuzzed(FAULTS)(given(FLAGS)(refused_or_valid_only))()
    report(record_property, "fuzzed configurations and flags", 2 * FAULTS)


def refused_or_valid_only(argv: list[str]) -> None:
    refused_or_valid(argv)


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
    with pytest.raises(ValueError) as caught:
        affect.load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


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
