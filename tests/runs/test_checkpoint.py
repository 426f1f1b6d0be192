"""Checkpoints: exact, refused when they do not fit, passed over when damaged, safe from kill -9."""

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
def state_of(key) -> State:
    """A trained state, so that the moments of Adam are not zero."""
    net_key, key = jax.random.split(key)
    net, adam = Net(net_key), optax.adam(1e-2)
    gradient = jax.grad(lambda net: jnp.sum(net(jnp.ones((5, 3))) ** 2))(net)
    updates, opt = adam.update(gradient, adam.init(net), net)
    return State(optax.apply_updates(net, updates), opt, key)


def tree_of(seed: int) -> dict:
    """One leaf or more of every kind that a checkpoint can hold."""
    rng = np.random.default_rng(seed)
    return {
        "state": state_of(jax.random.key(seed)),
        "seeds": jax.vmap(state_of)(jax.random.split(jax.random.key(seed + 1), 3)),
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


def assert_same(got, expected):
    """The same structure, kinds of leaf, dtypes and bits."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert type(a) is type(b)
        if isinstance(b, jax.Array):
            assert a.dtype == b.dtype and a.sharding == b.sharding and a.committed == b.committed
            if jax.dtypes.issubdtype(b.dtype, jax.dtypes.prng_key):
                a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def small(step: int) -> dict:
    """A tree that is a function of its step and is cheap to store."""
    rng = np.random.default_rng(step)
    return {
        "w": rng.standard_normal((30, 20)).astype(np.float32),
        "zeros": np.zeros(500),
        "step": np.int64(step),
        "mask": rng.random(9) > 0.5,
    }


def refuse(line: str):
    raise AssertionError(f"unexpected warning: {line}")


def saved(directory: Path) -> list[Path]:
    return sorted(directory.glob("[0-9]*-step-*"))


@pytest.fixture
def two(tmp_path) -> Path:
    """A directory with the checkpoints of steps 1 and 2."""
    checkpoints = Checkpoints(tmp_path, warn=refuse)
    checkpoints.save(1, small(1))
    checkpoints.save(2, small(2))
    return tmp_path


def restore(directory: Path) -> tuple[int, list[str]]:
    """Restore, check that the tree is exactly that of its step, give step and warnings."""
    warnings = []
    step, tree = Checkpoints(directory, warn=warnings.append).restore(small(0))
    assert_same(tree, small(step))
    return step, warnings


# What comes back.


def test_round_trip_is_exact_for_every_kind_of_leaf(tmp_path):
    expected = tree_of(0)
    Checkpoints(tmp_path, warn=refuse).save(7, expected)
    step, got = Checkpoints(tmp_path, warn=refuse).restore(tree_of(5))
    assert step == 7
    assert_same(got, expected)
    x = jnp.ones((2, 3))
    assert jnp.array_equal(got["state"].net(x), expected["state"].net(x))
    assert jax.random.uniform(got["state"].key) == jax.random.uniform(expected["state"].key)


def test_names_of_leaves_can_be_read(tmp_path):
    Checkpoints(tmp_path).save(1, state_of(jax.random.key(0)))
    manifest = json.loads((saved(tmp_path)[0] / "manifest.json").read_text())
    assert {
        ".net.layers[0].kernel.value": [3, 4],
        ".opt[0].mu.layers[1].bias.value": [2],
        ".opt[0].count": [],
        ".key": [2],
    }.items() <= {name: leaf["shape"] for name, leaf in manifest["leaves"].items()}.items()
    assert manifest["leaves"][".key"]["dtype"] == "key<fry>"


def test_sharded_leaves_come_back_on_their_shardings(tmp_path):
    script = """
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from runs.engine.checkpoint import Checkpoints

mesh = jax.make_mesh((2,), ("seed",))
over, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("seed",), ()))
tree = {
    "w": jax.device_put(jnp.arange(12.0).reshape(4, 3), over),
    "all": jax.device_put(jnp.arange(3), everywhere),
    "keys": jax.device_put(jax.random.split(jax.random.key(3), 4), over),
    "second": jax.device_put(jnp.ones(2), jax.devices()[1]),
    "free": jnp.arange(3.0),
}
Checkpoints(Path(sys.argv[1])).save(1, tree)
blank = {name: leaf * 0 if name == "free" else leaf for name, leaf in tree.items()}
blank["w"] = jax.device_put(jnp.zeros((4, 3)), over)
_, got = Checkpoints(Path(sys.argv[1])).restore(blank)
for name, leaf in tree.items():
    assert got[name].sharding == leaf.sharding, name
    assert got[name].committed == leaf.committed, name
    assert (got[name] == leaf).all(), name
print(jax.jit(lambda t: t["w"].sum() + 4 * (t["free"] + t["all"]).sum())(got))

# Made on two devices, continued on one, and back again.
one = {name: jax.device_put(leaf, jax.devices()[0]) for name, leaf in tree.items()}
_, got = Checkpoints(Path(sys.argv[1])).restore(one)
assert all(got[name].sharding == leaf.sharding for name, leaf in one.items())
assert all((np.asarray(got[n]) == np.asarray(tree[n])).all() for n in tree if n != "keys")
"""
    flags = "--xla_force_host_platform_device_count=2"
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "90.0"


def test_a_run_continued_from_a_checkpoint_is_bit_identical(tmp_path):
    def update(state, _):
        key, sample = jax.random.split(state.key)
        x = jax.random.normal(sample, (5, 3))
        gradient = jax.grad(lambda net: jnp.mean(net(x) ** 2))(state.net)
        updates, opt = optax.adam(1e-2).update(gradient, state.opt, state.net)
        return State(optax.apply_updates(state.net, updates), opt, key), None

    chunk = jax.jit(lambda state: jax.lax.scan(update, state, length=5)[0], donate_argnums=0)
    state = chunk(state_of(jax.random.key(0)))
    Checkpoints(tmp_path).save(1, state)
    _, restored = Checkpoints(tmp_path).restore(state)
    assert_same(chunk(restored), chunk(state))


def test_nothing_saved_gives_none_and_touches_nothing(tmp_path):
    assert Checkpoints(tmp_path / "absent", warn=refuse).restore(small(0)) is None
    assert not (tmp_path / "absent").exists()


def test_the_newest_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, warn=refuse)
    for step in (5, 10, 15, 20):
        checkpoints.save(step, small(step))
    assert [path.name.split("-step-")[1] for path in saved(tmp_path)] == ["15", "20"]
    assert len(list(tmp_path.iterdir())) == 2
    assert restore(tmp_path) == (20, [])


def test_relative_directory_is_fixed_when_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints(Path("out/checkpoints"), warn=refuse)
    monkeypatch.chdir("/")
    checkpoints.save(3, small(3))
    assert restore(tmp_path / "out" / "checkpoints") == (3, [])


@pytest.mark.parametrize("leaf", ["text", np.array([None]), np.array(["a"]), 2**70, object()])
def test_a_leaf_that_cannot_be_stored_is_named(tmp_path, leaf):
    with pytest.raises(TypeError, match=r"\['bad'\]"):
        Checkpoints(tmp_path).save(1, {"bad": leaf, "good": 1})
    assert not saved(tmp_path)


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
def test_another_configuration_is_refused_naming_the_leaves(two, change, words):
    with pytest.raises(UserError) as caught:
        Checkpoints(two, warn=refuse).restore({**small(0), **change})
    message = str(caught.value)
    assert all(word in message for word in [*words, str(two), "--out", "delete"]), message
    assert "\n" not in message


def test_a_leaf_too_few_and_another_kind_of_key_are_refused(tmp_path):
    Checkpoints(tmp_path).save(1, {"key": jax.random.key(0), "other": jnp.ones(2)})
    for like in ({"key": jax.random.key(0)}, {"key": jax.random.key(0, impl="rbg"), "other": 0}):
        with pytest.raises(UserError, match="another configuration"):
            Checkpoints(tmp_path).restore(like)


# Damage.


def test_random_bit_flips_never_load_wrong(two):
    rng = random.Random(0)
    files = [file for file in saved(two)[-1].rglob("*") if file.is_file()]
    for n in range(40):
        file = files[n % len(files)]
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        step, warnings = restore(two)
        assert (step, len(warnings)) in [(2, 0), (1, 1)], file
        if file.parent.name == "d":
            assert step == 1, file
        file.write_bytes(whole)
    assert restore(two) == (2, [])


def test_every_file_missing_or_cut_short_is_noticed(two, capfd):
    newest = saved(two)[-1]
    files = [file for file in newest.rglob("*") if file.is_file()]
    assert len(files) > 5
    for file in files:
        whole = file.read_bytes()
        for damage in (None, b"", whole[: len(whole) // 2]):
            file.unlink()
            if damage is not None:
                file.write_bytes(damage)
            step, (warning,) = restore(two)
            assert step == 1 and str(newest) in warning and "\n" not in warning
            file.write_bytes(whole)
    assert capfd.readouterr() == ("", "")  # Nothing but our warning.


@pytest.mark.parametrize(
    ("old", "new"), [('"step": 2', '"step": 3'), ("float32", "float64"), ('"format": 1', "{}")]
)
def test_a_changed_manifest_is_damage_and_not_another_configuration(two, old, new):
    manifest = saved(two)[-1] / "manifest.json"
    assert old in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(old, new))
    step, (warning,) = restore(two)
    assert step == 1 and str(manifest.parent) in warning


def test_a_checkpoint_of_another_format_is_refused(two, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(UserError, match="format.*--out"):
        Checkpoints(two).restore(small(0))


def test_wrong_data_under_right_files_is_noticed(two):
    """The checksums of leaves hold even where those of the files agree."""
    newest = saved(two)[-1]
    tree = {f"['{name}']": np.asarray(leaf) for name, leaf in small(3).items()}
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
    step, (warning,) = restore(two)
    assert step == 1 and "leaf ['" in warning


def test_nothing_intact_gives_none_and_a_warning_each(two):
    for path in saved(two):
        shutil.rmtree(path / "arrays")
    warnings = []
    assert Checkpoints(two, warn=warnings.append).restore(small(0)) is None
    assert len(warnings) == 2


def test_a_run_goes_on_after_a_fallback(two):
    (saved(two)[-1] / "manifest.json").unlink()
    checkpoints = Checkpoints(two, warn=lambda line: None)
    assert checkpoints.restore(small(0))[0] == 1
    checkpoints.save(2, small(2))
    assert restore(two) == (2, [])
    assert [path.name for path in saved(two)][0] == "000001-step-1"  # Still the only fallback.
    checkpoints.save(3, small(3))
    assert restore(two) == (3, [])
    assert [path.name for path in saved(two)] == ["000003-step-2", "000004-step-3"]


# Disks and kills.


def test_what_a_killed_save_left_is_deleted(two):
    left = two / f".partial-{os.getpid()}" / "arrays.orbax-checkpoint-tmp"
    left.mkdir(parents=True)
    (left / "data").write_text("half")
    assert restore(two) == (2, [])
    Checkpoints(two).save(3, small(3))
    assert restore(two) == (3, [])
    assert not list(two.glob(".partial-*"))


def test_a_checkpoint_that_is_being_deleted_is_no_longer_one(two, monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: None)
    Checkpoints(two).save(3, small(3))
    assert [path.name for path in saved(two)] == ["000002-step-2", "000003-step-3"]


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
def test_a_full_disk_names_the_disk_and_leaves_the_rest(two, monkeypatch, owner, name, failure):
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failure)
        with pytest.raises(UserError) as caught:
            Checkpoints(two).save(3, small(3))
    message = str(caught.value)
    mount = next(path for path in two.parents if path.is_mount())
    assert f"disk mounted at {mount}," in message and "full" in message and "\n" not in message
    assert not list(two.glob(".partial-*"))
    assert restore(two) == (2, [])
    Checkpoints(two).save(3, small(3))
    assert restore(two) == (3, [])


def test_a_save_that_does_not_read_back_is_not_kept(two, monkeypatch):
    real = ocp.PyTreeCheckpointer.save
    with monkeypatch.context() as patch:
        wrong = {f"['{name}']": np.asarray(leaf) for name, leaf in small(9).items()}
        patch.setattr(ocp.PyTreeCheckpointer, "save", lambda self, path, _: real(self, path, wrong))
        with pytest.raises(UserError, match="does not match its checksum"):
            Checkpoints(two).save(3, small(3))
    assert restore(two) == (2, [])


def test_a_save_outside_the_main_thread(two):
    thread = threading.Thread(target=Checkpoints(two).save, args=(3, small(3)))
    thread.start()
    thread.join()
    assert restore(two) == (3, [])


def test_a_directory_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        Checkpoints(tmp_path / "file").save(1, small(1))


# The parent never starts the threads of jax, so it can fork a warm child for each kill.
KILLER = """
import os, random, signal, sys, time, warnings
from pathlib import Path

import jax, orbax.checkpoint

sys.path.insert(0, "tests/runs")
from test_checkpoint import restore, small
from runs.engine.checkpoint import Checkpoints

warnings.simplefilter("ignore")
directory, kills, point = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = random.Random(int(sys.argv[4]))


def arm(count):
    "Let the process kill itself at its count-th call that changes the disk."
    import shutil
    left = [count]
    def wrap(owner, name):
        real = getattr(owner, name)
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        setattr(owner, name, call)
    for owner, name in [(os, "fsync"), (os, "rename"), (os, "mkdir"), (shutil, "rmtree"),
                        (os, "unlink"), (os, "rmdir"), (Path, "write_text"), (Path, "read_bytes")]:
        wrap(owner, name)


def child(say, number):
    step = 0
    if list(directory.glob("*-step-*")):
        step, warned = restore(directory)
        assert not warned, warned
    say(step)
    checkpoints = Checkpoints(directory)
    if point == "each" and step:
        arm(number)
        checkpoints.save(step + 1, small(step + 1))
        say(step + 1, "done")
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        step += 1
        checkpoints.save(step, small(step))
        say(step)
        if point == "each" and step == 2:
            os.kill(os.getpid(), signal.SIGKILL)


known = 0
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
        said = pipe.read(99)  # It has restored.
        while point == "random" and len(said.split()) < 2 and not known:
            said += pipe.read(99)  # It has saved once.
        if point == "random":
            time.sleep(rng.uniform(0, 0.25))
            os.kill(pid, signal.SIGKILL)
        said += pipe.readall()
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), (number, said)
    steps = [int(word) for word in said.split() if word != b"done"]
    # The save in flight may or may not have been finished; a finished one is never lost.
    assert known <= steps[0] <= known + 1, (known, steps)
    known = steps[-1]
    if said.endswith(b"done "):
        break
print(known, number)
"""


def run_killer(directory: Path, kills: int, point: str) -> tuple[int, int]:
    command = [sys.executable, "-c", KILLER, str(directory), str(kills), point, "0"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    known, number = map(int, run.stdout.split())
    step, warnings = restore(directory)
    assert known <= step <= known + 1 and not warnings
    return step, number


def test_kill_9_at_random_moments_loses_no_finished_save(tmp_path):
    step, _ = run_killer(tmp_path, 5, "random")
    assert step > 0


@pytest.mark.slow
def test_fifty_kills_at_random_moments_lose_no_finished_save(tmp_path):
    run_killer(tmp_path, 50, "random")


@pytest.mark.slow
def test_kill_9_at_every_call_that_touches_the_disk(tmp_path):
    """Walks through one save, dying one call later each time, until a save gets through."""
    _, number = run_killer(tmp_path, 200, "each")
    assert 20 < number < 200
