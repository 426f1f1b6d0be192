"""Suites: points, worlds and registry; and the contract of every registered shift."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.channel import Channel
from envs.contract import violations
from envs.shift import box, ramp, scale
from envs.suite import Point, Suite
from envs.world import Env, World
from envs.worlds.classic.cartpole import CartPole, Params
from runs.prereg.plan_file import suite_hash
from runs.prereg.seal import seal_digest
from tests.refusal import refused
from tests.tiers import representative

SUITES = [suite for suite in map(envs.load_suite, envs.SUITES) if isinstance(suite.env, Env)]
SEALED = [envs.import_entry(entry)() for entry in envs.SEALED.values()]
SHIFTS = representative(
    [
        (suite, shift)
        for suite in (*SUITES, *SEALED)
        for shift in dict.fromkeys((*suite.shifts, *filter(None, [suite.randomised])))
    ],
    kind=lambda pair: type(pair[0].env).__module__,  # Coin, Keys, Lava; Drive, Timid
    name=lambda pair: f"{pair[0].name}-{pair[1].name}",
)
DRIVE_HASH = "034799ba60814c983dbbb5f2cd1634c728a296be2fe548a3caac469196bcabda"
FORCE = scale("force", "dynamics", "params.force", to=0.5)
NOISE = ramp("noise", "sensor", "channel.noise", to=0.5)
BOX = box("box", "dynamics", "params", {"half_length": (0.25, 0.75)})


def small_suite(**changes):
    suite = Suite(
        "small", CartPole(20), World(Params()), (FORCE, NOISE, BOX), severities=(0.5, 1.0)
    )
    return replace(suite, **changes)


@pytest.mark.parametrize("registered", SHIFTS)
def test_every_registered_shift_keeps_the_contract(registered):
    suite, shift = registered
    assert violations(shift, suite.env, suite.world) == []


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_registered_suite_has_its_name_and_defines_success(suite):
    success = suite.env.success(jnp.zeros((3,)), jnp.zeros((3,)))
    assert success.shape == (3,) and success.dtype == bool
    assert envs.load_suite(suite.name).name == suite.name


def test_sealed_shifts_are_in_no_registered_suite():
    registered = {shift.name for suite in SUITES for shift in suite.shifts}
    assert SEALED and not envs.SEALED.items() & envs.SUITES.items()
    for suite in SEALED:
        assert suite.shifts and registered.isdisjoint(shift.name for shift in suite.shifts)
    assert suite_hash(envs.load_suite("Drive")) == DRIVE_HASH


@pytest.mark.parametrize(
    ("name", "digest", "complaint"),
    [
        *(("Drive", text, "draw the seal first") for text in ("", "f" * 63, "F" * 64, "g" * 64)),
        *(
            ("Drive", value, "draw the seal first")
            for value in (None, 0, b"f" * 64, "f" * 64 + "\n")
        ),
        ("Drve", "f" * 64, "did you mean Drive"),
        (None, "f" * 64, "there are Drive"),
    ],
)
def test_a_sealed_suite_is_refused_without_the_digest_of_a_draw(name, digest, complaint):
    with refused(ValueError, match=complaint):
        envs.load_sealed_suite(name, digest)


def test_a_sealed_suite_is_loaded_with_the_digest_of_a_draw():
    suite = envs.load_sealed_suite("Drive", seal_digest("plan", ["frozen"]))
    assert [shift.name for shift in suite.shifts] == ["gusts", "heavy", "narrowing"]


def test_points_are_unshifted_first_and_then_shifts_by_severity():
    assert small_suite().points() == (
        Point("none", "none", 0.0),
        Point("force", "dynamics", 0.5),
        Point("force", "dynamics", 1.0),
        Point("noise", "sensor", 0.5),
        Point("noise", "sensor", 1.0),
        Point("box", "dynamics", 0.5),
        Point("box", "dynamics", 1.0),
    )


def test_worlds_are_stacked_in_the_order_of_the_points():
    worlds = small_suite().worlds(jax.random.key(0), draws=3)
    assert {leaf.shape for leaf in jax.tree.leaves(worlds)} == {(7, 3)}
    assert {leaf.dtype for leaf in jax.tree.leaves(worlds)} == {jnp.float32.dtype}
    force = [10.0, 7.5, 5.0, 10.0, 10.0, 10.0, 10.0]
    np.testing.assert_allclose(worlds.params.force, np.tile(force, (3, 1)).T)
    noise = [0.0, 0.0, 0.0, 0.25, 0.5, 0.0, 0.0]
    np.testing.assert_allclose(worlds.channel.noise, np.tile(noise, (3, 1)).T)
    length = np.asarray(worlds.params.half_length)
    np.testing.assert_array_equal(length[:5], np.full((5, 3), 0.5))
    assert len(np.unique(length[6])) == 3  # each draw differs
    np.testing.assert_allclose(length[5] - 0.5, (length[6] - 0.5) / 2, atol=1e-6)  # same draw


def test_worlds_depend_on_the_key_alone():
    lengths = [
        np.asarray(small_suite().worlds(jax.random.key(seed), draws=4).params.half_length)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(lengths[0], lengths[1])
    assert (lengths[0][5:] != lengths[2][5:]).all()


def test_shifts_draw_independently_of_each_other():
    other = box("other", "dynamics", "params", {"half_length": (0.25, 0.75)})
    length = small_suite(shifts=(BOX, other)).worlds(jax.random.key(0), draws=4).params.half_length
    assert (length[2] != length[4]).all()  # both at severity 1


def test_worlds_keep_the_channel_of_the_suite():
    suite = small_suite(world=World(Params(), Channel(gain=0.9)))
    worlds = suite.worlds(jax.random.key(0), draws=1)
    np.testing.assert_allclose(worlds.channel.gain, np.full((7, 1), 0.9))


def test_two_shifts_of_the_same_name_are_refused():
    with pytest.raises(ValueError, match="two shifts of one name"):
        small_suite(shifts=(FORCE, NOISE, FORCE))


@pytest.mark.parametrize("severities", [(0.0, 1.0), (0.5, 1.1), (-0.5,)])
def test_severities_outside_their_range_are_refused(severities):
    with pytest.raises(ValueError, match="severities"):
        small_suite(severities=severities)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        *((name, "did you mean CartPole") for name in ("cartpole", "CartPol", "Cart-Pole")),
        ("zzz", "there are .*CartPole"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_or_all_names(name, hint):
    with pytest.raises(ValueError, match=f"unknown environment {name!r}; {hint}"):
        envs.load_suite(name)


def test_importing_the_package_does_not_import_jax():
    script = "import sys, envs; print('jax' in sys.modules, *envs.SUITES)"
    command, folder = [sys.executable, "-c", script], Path(envs.__file__).parents[1]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", *envs.SUITES]
