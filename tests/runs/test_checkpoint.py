"""Checkpoints restore exactly, refuse other configurations, skip damage and survive kill -9."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from runs.engine import checkpoint
from runs.engine.checkpoint import Checkpoints
from runs.errors import UserError

ROOT = Path(__file__).parents[2]


class Net(nnx.Module):
    def __init__(self, key):
        rngs = nnx.Rngs(key)
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)])

    def __call__(self, x):
        return self.layers[1](jax.nn.tanh(self.layers[0](x)))


class State(NamedTuple):
    net: Net
    opt: optax.OptState
    key: jax.Array


@jax.jit
def trained_state(key) -> State:
    """Make a network after one Adam step, so that the moments are not zero, and a key."""
    net_key, key = jax.random.split(key)
    net, adam = Net(net_key), optax.adam(1e-2)
    gradient = jax.grad(lambda net: jnp.sum(net(jnp.ones((5, 3))) ** 2))(net)
    updates, opt = adam.update(gradient, adam.init(net), net)
    return State(optax.apply_updates(net, updates), opt, key)


def tree_of_all_kinds(seed: int) -> dict:
    """Make a tree with leaves of every kind that a checkpoint can hold."""
    rng = np.random.default_rng(seed)
    return {
        "state": trained_state(jax.random.key(seed)),
        "seeds": jax.vmap(trained_state)(jax.random.split(jax.random.key(seed + 1), 3)),
        "rbg": jax.random.key(seed, impl="rbg"),
        "jax": (
            jnp.asarray(rng.standard_normal((4, 5)), jnp.float32),
            jnp.asarray(rng.standard_normal(3), jnp.bfloat16),
            jnp.asarray(rng.random(6) > 0.5),
            jnp.asarray(seed, jnp.int32),
            jnp.asarray(rng.integers(0, 2**32, 7), jnp.uint32),
            jnp.zeros((0, 3)),
            jnp.asarray([-0.0, jnp.nan, -jnp.inf, 1e-45]),
        ),
        "numpy": [
            rng.standard_normal((2, 3)),
            rng.integers(-(2**62), 2**62, 4),
            np.asarray(2.5 + seed),
            np.zeros((3, 0), np.int16),
            np.asfortranarray(rng.standard_normal((3, 4))),
            np.int64(2**60 + seed),
            np.float32(0.1),
            np.bool_(True),
        ],
        "python": {"int": 2**53 + 1 + seed, "float": 0.1, "bool": False, "a/b": 1, "": 2},
    }


def assert_same(actual, expected):
    """Assert that two trees have the same structure, leaf types, dtypes, shardings and bits."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert type(x) is type(y)
        if isinstance(y, jax.Array):
            assert x.dtype == y.dtype and x.sharding == y.sharding and x.committed == y.committed
            if jax.dtypes.issubdtype(y.dtype, jax.dtypes.prng_key):
                x, y = jax.random.key_data(x), jax.random.key_data(y)
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def small_tree(step: int) -> dict:
    """Make a tree that depends on the step alone and is cheap to store."""
    rng = np.random.default_rng(step)
    return {
        "w": rng.standard_normal((30, 20)).astype(np.float32),
        "zeros": np.zeros(500),
        "step": np.int64(step),
        "mask": rng.random(9) > 0.5,
    }


def fail_on_warning(line: str):
    raise AssertionError(f"unexpected warning: {line}")


def checkpoint_dirs(directory: Path) -> list[Path]:
    return sorted(directory.glob("[0-9]*-step-*"))


@pytest.fixture
def two_saves(tmp_path) -> Path:
    """A directory with the checkpoints of steps 1 and 2."""
    checkpoints = Checkpoints(tmp_path, warn=fail_on_warning)
    checkpoints.save(1, small_tree(1))
    checkpoints.save(2, small_tree(2))
    return tmp_path


def restore(directory: Path) -> tuple[int, list[str]]:
    """Restore and assert that the tree is exactly that of its step -> (step, warnings)."""
    warnings = []
    step, tree = Checkpoints(directory, warn=warnings.append).restore(small_tree(0))
    assert_same(tree, small_tree(step))
    return step, warnings


# Round trips.


def test_round_trip_is_exact_for_every_kind_of_leaf(tmp_path):
    expected = tree_of_all_kinds(0)
    Checkpoints(tmp_path, warn=fail_on_warning).save(7, expected)
    step, actual = Checkpoints(tmp_path, warn=fail_on_warning).restore(tree_of_all_kinds(5))
    assert step == 7
    assert_same(actual, expected)
    x = jnp.ones((2, 3))
    assert jnp.array_equal(actual["state"].net(x), expected["state"].net(x))
    assert jax.random.uniform(actual["state"].key) == jax.random.uniform(expected["state"].key)


def test_manifest_names_every_leaf_with_its_shape(tmp_path):
    Checkpoints(tmp_path).save(1, trained_state(jax.random.key(0)))
    manifest = json.loads((checkpoint_dirs(tmp_path)[0] / "manifest.json").read_text())
    assert {
        ".net.layers[0].kernel.value": [3, 4],
        ".opt[0].mu.layers[1].bias.value": [2],
        ".opt[0].count": [],
        ".key": [2],
    }.items() <= {name: leaf["shape"] for name, leaf in manifest["leaves"].items()}.items()
    assert manifest["leaves"][".key"]["dtype"] == "key<fry>"


@pytest.mark.slow
def test_leaves_are_restored_with_their_shardings(tmp_path):
    script = """
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from runs.engine.checkpoint import Checkpoints

mesh = jax.make_mesh((2,), ("seed",))
sharded, replicated = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("seed",), ()))
tree = {
    "w": jax.device_put(jnp.arange(12.0).reshape(4, 3), sharded),
    "all": jax.device_put(jnp.arange(3), replicated),
    "keys": jax.device_put(jax.random.split(jax.random.key(3), 4), sharded),
    "second": jax.device_put(jnp.ones(2), jax.devices()[1]),
    "free": jnp.arange(3.0),
}
Checkpoints(Path(sys.argv[1])).save(1, tree)
blank = {name: leaf * 0 if name == "free" else leaf for name, leaf in tree.items()}
blank["w"] = jax.device_put(jnp.zeros((4, 3)), sharded)
_, restored = Checkpoints(Path(sys.argv[1])).restore(blank)
for name, leaf in tree.items():
    assert restored[name].sharding == leaf.sharding, name
    assert restored[name].committed == leaf.committed, name
    assert (restored[name] == leaf).all(), name
print(jax.jit(lambda t: t["w"].sum() + 4 * (t["free"] + t["all"]).sum())(restored))

# Saved on two devices, restored on one.
on_one_device = {name: jax.device_put(leaf, jax.devices()[0]) for name, leaf in tree.items()}
_, restored = Checkpoints(Path(sys.argv[1])).restore(on_one_device)
assert all(restored[name].sharding == leaf.sharding for name, leaf in on_one_device.items())
assert all((np.asarray(restored[n]) == np.asarray(tree[n])).all() for n in tree if n != "keys")
"""
    flags = "--xla_force_host_platform_device_count=2"
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == "90.0"


def test_run_continued_from_a_checkpoint_is_bit_identical(tmp_path):
    def update(state, _):
        key, sample = jax.random.split(state.key)
        x = jax.random.normal(sample, (5, 3))
        gradient = jax.grad(lambda net: jnp.mean(net(x) ** 2))(state.net)
        updates, opt = optax.adam(1e-2).update(gradient, state.opt, state.net)
        return State(optax.apply_updates(state.net, updates), opt, key), None

    chunk = jax.jit(lambda state: jax.lax.scan(update, state, length=5)[0], donate_argnums=0)
    state = chunk(trained_state(jax.random.key(0)))
    Checkpoints(tmp_path).save(1, state)
    _, restored = Checkpoints(tmp_path).restore(state)
    assert_same(chunk(restored), chunk(state))


def test_restore_without_checkpoints_returns_none_and_creates_nothing(tmp_path):
    assert Checkpoints(tmp_path / "absent", warn=fail_on_warning).restore(small_tree(0)) is None
    assert not (tmp_path / "absent").exists()


def test_the_newest_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, warn=fail_on_warning)
    for step in (5, 10, 15, 20):
        checkpoints.save(step, small_tree(step))
    assert [path.name.split("-step-")[1] for path in checkpoint_dirs(tmp_path)] == ["15", "20"]
    assert len(list(tmp_path.iterdir())) == 2
    assert restore(tmp_path) == (20, [])


def test_relative_directory_is_resolved_at_construction(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints(Path("out/checkpoints"), warn=fail_on_warning)
    monkeypatch.chdir("/")
    checkpoints.save(3, small_tree(3))
    assert restore(tmp_path / "out" / "checkpoints") == (3, [])


@pytest.mark.parametrize("leaf", ["text", np.array([None]), np.array(["a"]), 2**70, object()])
def test_leaf_that_cannot_be_stored_is_named(tmp_path, leaf):
    with pytest.raises(TypeError, match=r"\['bad'\]"):
        Checkpoints(tmp_path).save(1, {"bad": leaf, "good": 1})
    assert not checkpoint_dirs(tmp_path)


def test_keep_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep"):
        Checkpoints(tmp_path, keep=0)


# Another configuration.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w": np.zeros((30, 21), np.float32)}, ["['w']", "[30, 20]", "[30, 21]"]),
        ({"w": np.zeros((30, 20))}, ["['w']", "float32", "float64"]),
        ({"extra": np.zeros(1)}, ["['extra']", "missing"]),
        ({"step": 1}, ["['step']", "int64", "int["]),
        ({"w": 1, "zeros": 1, "step": 1, "mask": 1, "more": 1}, ["['mask']", "2 more leaves"]),
    ],
)
def test_other_configuration_is_refused_naming_the_leaves(two_saves, change, words):
    with pytest.raises(UserError) as caught:
        Checkpoints(two_saves, warn=fail_on_warning).restore({**small_tree(0), **change})
    message = str(caught.value)
    assert all(word in message for word in [*words, str(two_saves), "--out", "delete"]), message
    assert "\n" not in message


def test_missing_leaf_and_other_key_type_are_refused(tmp_path):
    Checkpoints(tmp_path).save(1, {"key": jax.random.key(0), "other": jnp.ones(2)})
    for like in ({"key": jax.random.key(0)}, {"key": jax.random.key(0, impl="rbg"), "other": 0}):
        with pytest.raises(UserError, match="another configuration"):
            Checkpoints(tmp_path).restore(like)


# Damage.


def test_random_bit_flips_never_restore_wrong_values(two_saves):
    rng = random.Random(0)
    files = [file for file in checkpoint_dirs(two_saves)[-1].rglob("*") if file.is_file()]
    for n in range(40):
        file = files[n % len(files)]
        intact = file.read_bytes()
        flipped = bytearray(intact)
        flipped[rng.randrange(len(intact))] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        step, warnings = restore(two_saves)
        assert (step, len(warnings)) in [(2, 0), (1, 1)], file
        if file.parent.name == "d":
            assert step == 1, file
        file.write_bytes(intact)
    assert restore(two_saves) == (2, [])


def test_every_missing_or_truncated_file_is_detected(two_saves, capfd):
    newest = checkpoint_dirs(two_saves)[-1]
    files = [file for file in newest.rglob("*") if file.is_file()]
    assert len(files) > 5
    for file in files:
        intact = file.read_bytes()
        for damage in (None, b"", intact[: len(intact) // 2]):
            file.unlink()
            if damage is not None:
                file.write_bytes(damage)
            step, (warning,) = restore(two_saves)
            assert step == 1 and str(newest) in warning and "\n" not in warning
            file.write_bytes(intact)
    assert capfd.readouterr() == ("", "")  # nothing else is printed


@pytest.mark.parametrize(
    ("old", "new"), [('"step": 2', '"step": 3'), ("float32", "float64"), ('"format": 1', "{}")]
)
def test_edited_manifest_counts_as_damage(two_saves, old, new):
    manifest = checkpoint_dirs(two_saves)[-1] / "manifest.json"
    assert old in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(old, new))
    step, (warning,) = restore(two_saves)
    assert step == 1 and str(manifest.parent) in warning


def test_checkpoint_of_another_format_is_refused(two_saves, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(UserError, match="format.*--out"):
        Checkpoints(two_saves).restore(small_tree(0))


def test_wrong_values_in_intact_files_are_detected(two_saves):
    """A leaf that fails its checksum is damage even if the checksums of all files agree."""
    newest = checkpoint_dirs(two_saves)[-1]
    tree = {f"['{name}']": np.asarray(leaf) for name, leaf in small_tree(3).items()}
    shutil.rmtree(newest / "arrays")
    ocp.PyTreeCheckpointer().save(newest / "arrays", tree)
    manifest = json.loads((newest / "manifest.json").read_text())
    files = [file for file in (newest / "arrays").rglob("*") if file.is_file()]
    manifest["files"] = {
        str(file.relative_to(newest)): checkpoint._sha(file.read_bytes()) for file in files
    }
    del manifest["sha256"]
    manifest["sha256"] = checkpoint._manifest_sha(manifest)
    (newest / "manifest.json").write_text(json.dumps(manifest))
    step, (warning,) = restore(two_saves)
    assert step == 1 and "leaf ['" in warning


def test_restore_without_an_intact_checkpoint_returns_none_with_a_warning_each(two_saves):
    for path in checkpoint_dirs(two_saves):
        shutil.rmtree(path / "arrays")
    warnings = []
    assert Checkpoints(two_saves, warn=warnings.append).restore(small_tree(0)) is None
    assert len(warnings) == 2


def test_saving_continues_after_a_fallback(two_saves):
    (checkpoint_dirs(two_saves)[-1] / "manifest.json").unlink()
    checkpoints = Checkpoints(two_saves, warn=lambda line: None)
    assert checkpoints.restore(small_tree(0))[0] == 1
    checkpoints.save(2, small_tree(2))
    assert restore(two_saves) == (2, [])
    # still the only fallback
    assert [path.name for path in checkpoint_dirs(two_saves)][0] == "000001-step-1"
    checkpoints.save(3, small_tree(3))
    assert restore(two_saves) == (3, [])
    assert [path.name for path in checkpoint_dirs(two_saves)] == ["000003-step-2", "000004-step-3"]


# Full disks and kills.


def test_remains_of_a_killed_save_are_deleted(two_saves):
    partial_dir = two_saves / f".partial-{os.getpid()}" / "arrays.orbax-checkpoint-tmp"
    partial_dir.mkdir(parents=True)
    (partial_dir / "data").write_text("half")
    assert restore(two_saves) == (2, [])
    Checkpoints(two_saves).save(3, small_tree(3))
    assert restore(two_saves) == (3, [])
    assert not list(two_saves.glob(".partial-*"))


def test_checkpoint_being_deleted_is_not_listed(two_saves, monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: None)
    Checkpoints(two_saves).save(3, small_tree(3))
    assert [path.name for path in checkpoint_dirs(two_saves)] == ["000002-step-2", "000003-step-3"]


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space_in_orbax(*args, **kwargs):
    raise ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device [28]")


@pytest.mark.parametrize(
    ("owner", "name", "failure"),
    [
        (shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 0)),
        (ocp.PyTreeCheckpointer, "save", no_space_in_orbax),
        (Path, "write_text", no_space),
        (os, "fsync", no_space),
        (os, "rename", no_space),
    ],
)
def test_full_disk_error_names_the_disk_and_keeps_old_checkpoints(
    two_saves, monkeypatch, owner, name, failure
):
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failure)
        with pytest.raises(UserError) as caught:
            Checkpoints(two_saves).save(3, small_tree(3))
    message = str(caught.value)
    mount = next(path for path in two_saves.parents if path.is_mount())
    assert f"disk mounted at {mount}," in message and "full" in message and "\n" not in message
    assert not list(two_saves.glob(".partial-*"))
    assert restore(two_saves) == (2, [])
    Checkpoints(two_saves).save(3, small_tree(3))
    assert restore(two_saves) == (3, [])


def test_save_that_reads_back_differently_is_not_kept(two_saves, monkeypatch):
    real_save = ocp.PyTreeCheckpointer.save
    with monkeypatch.context() as patch:
        other_tree = {f"['{name}']": np.asarray(leaf) for name, leaf in small_tree(9).items()}
        patch.setattr(
            ocp.PyTreeCheckpointer, "save", lambda self, path, _: real_save(self, path, other_tree)
        )
        with pytest.raises(UserError, match="does not match its checksum"):
            Checkpoints(two_saves).save(3, small_tree(3))
    assert restore(two_saves) == (2, [])


def test_saving_works_outside_the_main_thread(two_saves):
    thread = threading.Thread(target=Checkpoints(two_saves).save, args=(3, small_tree(3)))
    thread.start()
    thread.join()
    assert restore(two_saves) == (3, [])


def test_directory_that_cannot_be_created_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        Checkpoints(tmp_path / "file").save(1, small_tree(1))


# The parent starts no JAX threads, so it can fork a child with everything imported per kill.
KILLER = """
import os, random, signal, sys, time, warnings
from pathlib import Path

import jax, orbax.checkpoint

sys.path.insert(0, "tests/runs")
from test_checkpoint import restore, small_tree
from runs.engine.checkpoint import Checkpoints

warnings.simplefilter("ignore")
directory, kills, point = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = random.Random(int(sys.argv[4]))


def kill_at_call(count):
    "Make the process kill itself at its count-th call that changes the disk."
    import shutil
    calls_left = [count]
    def wrap(owner, name):
        real = getattr(owner, name)
        def call(*args, **kwargs):
            calls_left[0] -= 1
            if calls_left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        setattr(owner, name, call)
    for owner, name in [(os, "fsync"), (os, "rename"), (os, "mkdir"), (shutil, "rmtree"),
                        (os, "unlink"), (os, "rmdir"), (Path, "write_text"), (Path, "read_bytes")]:
        wrap(owner, name)


def child(report, number):
    step = 0
    if list(directory.glob("*-step-*")):
        step, messages = restore(directory)
        assert not messages, messages
    report(step)
    checkpoints = Checkpoints(directory)
    if point == "each" and step:
        kill_at_call(number)
        checkpoints.save(step + 1, small_tree(step + 1))
        report(step + 1, "done")
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        step += 1
        checkpoints.save(step, small_tree(step))
        report(step)
        if point == "each" and step == 2:
            os.kill(os.getpid(), signal.SIGKILL)


last_saved = 0
for number in range(kills):
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            child(lambda *words: os.write(writer, f"{' '.join(map(str, words))} ".encode()), number)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        output = pipe.read(99)  # It has restored.
        while point == "random" and len(output.split()) < 2 and not last_saved:
            output += pipe.read(99)  # It has saved once.
        if point == "random":
            time.sleep(rng.uniform(0, 0.25))
            os.kill(pid, signal.SIGKILL)
        output += pipe.readall()
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), (number, output)
    steps = [int(word) for word in output.split() if word != b"done"]
    # The save in flight may or may not be finished; a finished one is never lost.
    assert last_saved <= steps[0] <= last_saved + 1, (last_saved, steps)
    last_saved = steps[-1]
    if output.endswith(b"done "):
        break
print(last_saved, number)
"""


def run_killer(directory: Path, kills: int, point: str) -> tuple[int, int]:
    command = [sys.executable, "-c", KILLER, str(directory), str(kills), point, "0"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr[-3000:]
    last_saved, number = map(int, process.stdout.split())
    step, warnings = restore(directory)
    assert last_saved <= step <= last_saved + 1 and not warnings
    return step, number


def test_kill_9_at_random_moments_loses_no_finished_save(tmp_path):
    step, _ = run_killer(tmp_path, 5, "random")
    assert step > 0


@pytest.mark.slow
def test_fifty_kills_at_random_moments_lose_no_finished_save(tmp_path):
    run_killer(tmp_path, 50, "random")


@pytest.mark.slow
def test_kill_9_at_every_disk_call_loses_no_finished_save(tmp_path):
    """One save is killed at its first disk call, then at its second, ..., until it succeeds."""
    _, number = run_killer(tmp_path, 200, "each")
    assert 20 < number < 200
