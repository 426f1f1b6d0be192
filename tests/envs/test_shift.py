"""Constructors of shifts, and the contract: shifts that break it are detected."""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Spec
from envs.channel import Channel
from envs.contract import MAY_TOUCH, violations
from envs.schedule import Schedule
from envs.shift import FAMILIES, Shift, box, edit, ramp, scale, swap, with_channel
from envs.world import Env, World
from envs.worlds.classic.cartpole import PACKER_E, PACKER_R, Params

HOME = World(Params())


def apply_shift(shift, severity, world=HOME, seed=0):
    return shift(world, severity, jax.random.key(seed))


def draws(shift, path, severity=1.0, num=4000):
    """Values [num] of the field `path` of params under a shift, over keys."""
    keys = jax.random.split(jax.random.key(1), num)
    worlds = jax.jit(jax.vmap(lambda key: shift(HOME, severity, key)))(keys)
    return np.asarray(getattr(worlds.params, path))


# --- constructors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "force", "noise"), [(0.0, 10.0, 0.1), (0.5, 6.0, 0.3), (1.0, 2.0, 0.5)]
)
def test_scale_multiplies_and_ramp_moves_one_field(severity, force, noise):
    shifted = apply_shift(scale("force", "dynamics", "params.force", to=0.2), severity)
    assert shifted.params.force == pytest.approx(force)
    assert shifted.params._replace(force=10.0) == HOME.params and shifted.channel == Channel()
    world = World(Params(), Channel(noise=0.1, gain=0.9))
    shifted = apply_shift(ramp("noise", "sensor", "channel.noise", to=0.5), severity, world)
    assert shifted.channel.noise == pytest.approx(noise)
    assert shifted.channel.gain == 0.9 and shifted.params == HOME.params


def test_box_draws_uniformly_from_its_interval():
    force = draws(box("R", "dynamics", "params", PACKER_R), "force")
    assert force.min() >= 5 and force.max() <= 15
    np.testing.assert_allclose(np.histogram(force, 10, (5, 15))[0] / len(force), 0.1, atol=0.02)


@pytest.mark.parametrize("field", PACKER_R)
def test_box_draws_from_outside_the_inner_interval(field):
    drawn = draws(box("E", "dynamics", "params", PACKER_E, PACKER_R), field)
    (low, high), (gap_low, gap_high) = PACKER_E[field], PACKER_R[field]
    assert (drawn >= low).all() and (drawn <= high).all()
    assert not ((drawn > gap_low) & (drawn < gap_high)).any()
    below = (gap_low - low) / (gap_low - low + high - gap_high)
    assert (drawn <= gap_low).mean() == pytest.approx(below, abs=0.03)
    for ends in ((low, gap_low), (gap_high, high)):  # uniform on either side
        counts = np.histogram(drawn, 4, ends)[0]
        np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=2 / counts.sum() ** 0.5)


def test_box_draws_fields_independently_and_scales_with_severity():
    shift = box("R", "dynamics", "params", PACKER_R)
    force, mass = draws(shift, "force"), draws(shift, "pole_mass")
    assert abs(np.corrcoef(force, mass)[0, 1]) < 0.05
    np.testing.assert_allclose(draws(shift, "force", 0.25), 10 + 0.25 * (force - 10), rtol=1e-5)


def test_box_with_an_inner_interval_of_one_field_leaves_the_others():
    shift = box("E", "dynamics", "params", PACKER_E, {"force": PACKER_R["force"]})
    mass = draws(shift, "pole_mass")
    assert ((mass > 0.05) & (mass < 0.5)).mean() == pytest.approx(0.45 / 0.99, abs=0.03)


@pytest.mark.parametrize("severity", [0.0, 0.3, 1.0])
def test_swap_replaces_with_probability_severity(severity):
    moons = swap("moons", "dynamics", "params.gravity", (1.6, 3.7, 24.8))
    swapped = draws(moons, "gravity", severity)
    assert (swapped != np.float32(9.8)).mean() == pytest.approx(severity, abs=0.03)
    for choice in (1.6, 3.7, 24.8):
        share = (swapped == np.float32(choice)).mean()
        assert share == pytest.approx(severity / 3, abs=0.03)


def test_swap_takes_arrays():
    world = World({"layout": jnp.zeros((2, 3), jnp.int32)})
    choices = np.arange(12, dtype=np.int32).reshape(2, 2, 3)
    shifted = apply_shift(swap("maze", "layout", "params.layout", choices), 1.0, world)
    assert any((shifted.params["layout"] == choice).all() for choice in choices)
    assert shifted.params["layout"].dtype == jnp.int32


def test_composition_applies_all_with_different_keys():
    first = box("a", "dynamics", "params", {"force": (5.0, 15.0)})
    second = box("b", "dynamics", "params", {"gravity": (5.0, 15.0)})
    composed = first | second | ramp("noise", "sensor", "channel.noise", to=0.5)
    assert (composed.name, composed.family) == ("a|b|noise", "dynamics|dynamics|sensor")
    shifted = apply_shift(composed, 1.0)
    assert shifted.params.force != shifted.params.gravity
    assert shifted.channel.noise == 0.5
    doubled = scale("x", "dynamics", "params.force", to=2.0)
    three = ramp("y", "dynamics", "params.force", 3.0)
    assert apply_shift(doubled | three, 1.0).params.force == pytest.approx(3.0)


def test_with_channel_adds_a_channel_only_if_there_is_none():
    assert with_channel(HOME) == World(Params(), Channel())
    world = World(Params(), Channel(noise=0.3))
    assert with_channel(world) is world


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("params.friction", "no field 'friction'; it has gravity, cart_mass"),
        ("chanel.noise", "no field 'chanel'; it has params, channel"),
        ("params.force.left", "no field 'left'; it has none"),
    ],
)
def test_a_missing_field_is_named_with_the_available_ones(path, complaint):
    with pytest.raises(ValueError, match=complaint):
        apply_shift(scale("s", "dynamics", path, to=2.0), 1.0)


def test_edit_reaches_through_mappings():
    tree = {"a": {"b": 1, "c": 2}}
    assert edit(tree, "a.b", lambda value: value + 5) == {"a": {"b": 6, "c": 2}}
    assert tree == {"a": {"b": 1, "c": 2}}
    with pytest.raises(ValueError, match="no field 'd'; it has b, c"):
        edit(tree, "a.d", abs)


@pytest.mark.parametrize("severity", [-0.01, 1.01, 2, float("nan")])
def test_a_severity_outside_its_range_is_refused(severity):
    with pytest.raises(ValueError, match="outside"):
        apply_shift(scale("s", "dynamics", "params.force", to=2.0), severity)


@pytest.mark.parametrize("family", ["weather", "dynamics|weather", ""])
def test_an_unknown_family_is_refused(family):
    with pytest.raises(ValueError, match="is no family"):
        scale("s", family, "params.force", to=2.0)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ({"force": (15.0, 5.0)}, None),
        ({"force": (5.0, 15.0)}, {"gravity": (9.0, 10.0)}),
        ({"force": (5.0, 15.0)}, {"force": (4.0, 10.0)}),
        ({"force": (5.0, 15.0)}, {"force": (10.0, 16.0)}),
        ({"force": (5.0, 15.0)}, {"force": (12.0, 8.0)}),
    ],
)
def test_a_box_of_impossible_intervals_is_refused(outer, inner):
    with pytest.raises(ValueError, match="shift b: .* is no interval of (force|gravity)"):
        box("b", "dynamics", "params", outer, inner)


# --- the contract -----------------------------------------------------------------------------


class ArrowParams(NamedTuple):
    push: jax.Array | float = 1.0
    start: jax.Array | float = 0.0
    glare: jax.Array | float = 0.0
    pay: jax.Array | float = 1.0
    limit: jax.Array | float = 100.0
    unused: jax.Array | float = 1.0
    count: jax.Array | int = 3


class Arrow(Env):
    """A point pushed along a line, with one parameter for each thing that a shift may change."""

    spec = Spec(obs_dim=1, action_dim=1)
    obs_scale = (1.0,)
    horizon = 40

    def get_default_params(self, **kwargs):
        return ArrowParams(**kwargs)

    def initial(self, rng, params):
        return jax.random.normal(rng, (1,)) + params.start

    def transition(self, state, action, rng, params):
        return state + params.push * action

    def observation(self, state, rng, params):
        return state + params.glare

    def reward(self, state, action, next_state, rng, params):
        return params.pay * next_state[0]

    def terminal(self, state, rng, params):
        return jnp.abs(state[0]) > params.limit


ARROW, LINE = Arrow(), World(ArrowParams())


def add_to(family, path, by=0.5, name="s"):
    def fn(world, severity, key):
        return edit(world, path, lambda value: value + severity * by)

    return Shift(name, family, fn)


def unseeded(world, severity, key):
    noise = np.random.default_rng().random()
    return edit(world, "params.push", lambda value: value * (1 + severity * noise))


def unjittable(world, severity, key):
    factor = 2.0 if isinstance(severity, float) and severity > 0 else 1.0
    return edit(world, "params.push", lambda value: value * factor)


def reshaped(world, severity, key):
    return edit(world, "params.push", lambda value: value * (1 + severity * jnp.ones((1,))))


def inverse(world, severity, key):
    return edit(world, "params.push", lambda value: value / jnp.float32(1 - severity))


def restructured(world, severity, key):
    return world._replace(params=world.params._asdict())


def constant_offset(world, severity, key):
    return edit(world, "params.push", lambda value: value + 0.1)


def only_if_traced(world, severity, key):
    """Identity at severity 0 unless severity is traced."""
    if isinstance(severity, float):
        return edit(world, "params.push", lambda value: value + severity)
    return edit(world, "params.push", lambda value: value + severity + 1e-3)


PUSH, NOISE = add_to("dynamics", "params.push"), add_to("sensor", "channel.noise")
BROKEN = [
    (Shift("s", "dynamics", constant_offset), "severity 0 changes params.push"),
    (Shift("s", "dynamics", only_if_traced), "severity 0 changes params.push"),
    (Shift("s", "dynamics", unseeded), "the same key gives different worlds"),
    (Shift("s", "dynamics", unjittable), "under vmap"),
    (Shift("s", "dynamics", reshaped), r"params.push was float32\[\] and becomes float32\[1\]"),
    (Shift("s", "dynamics", inverse), "severity 1.0 makes params.push inf"),
    (Shift("s", "dynamics", restructured), "another tree structure"),
    (scale("s", "dynamics", "params.count", to=2.0), "params.count was int32.* becomes float32"),
    (Shift("s", "dynamics", lambda world, severity, key: world), "changes nothing in the world"),
    (add_to("dynamics", "params.unused"), "but nothing in a rollout"),
    (add_to("actuator", "channel.flip", by=0.0), "changes nothing in the world"),
    (add_to("dynamics", "params.glare"), "dynamics must not touch first"),
    (add_to("dynamics", "params.start"), "dynamics must not touch first"),
    (add_to("dynamics", "channel.noise"), "dynamics must not touch channel"),
    (add_to("layout", "channel.noise"), "layout must not touch channel"),
    (add_to("sensor", "params.push"), "sensor must not touch states"),
    (add_to("sensor", "params.start"), "sensor must not touch states"),
    (add_to("sensor", "params.pay"), "sensor must not touch reward"),
    (add_to("sensor", "params.limit", by=-99.0), "sensor must not touch ends"),
    (add_to("actuator", "params.start"), "actuator must not touch first"),
    (add_to("actuator", "channel.noise"), "actuator must not touch first"),
    (add_to("reward", "params.push"), "reward must not touch states"),
    (add_to("reward", "channel.gain"), "reward must not touch first"),
    (add_to("sensor|reward", "params.push"), "must not touch states"),
    # scheduled shifts
    (Schedule(400)(add_to("dynamics", "params.push")), "but nothing in a rollout"),
    (Schedule(2)(Shift("s", "dynamics", lambda w, s, k: w)), "but nothing in a rollout"),
    (Schedule(2)(add_to("sensor", "params.push")), "sensor must not touch states"),
    (Shift("s", "dynamics", Schedule(2)(PUSH).fn), "dynamics must not touch scheduled"),
    (Shift("s", "time", PUSH.fn), "a shift of family time must not touch params"),
]
CHANNEL = {  # field of every channel -> family
    **dict.fromkeys(("noise", "gain", "dropout"), "sensor"),
    **dict.fromkeys(("action_noise", "flip", "delay"), "actuator"),
    "reward_noise": "reward",
}
SOUND = [
    add_to("dynamics", "params.push"),
    add_to("dynamics", "params.limit", by=-99.0),
    add_to("layout", "params.start"),
    add_to("social", "params.push"),
    add_to("sensor", "params.glare"),
    add_to("reward", "params.pay"),
    *(add_to(CHANNEL[field], f"channel.{field}", by=2.0) for field in CHANNEL),
    NOISE | PUSH,
    swap("s", "dynamics", "params.push", (2.0, 3.0)),
    Schedule(10)(PUSH),
    Schedule(10, ramp=5)(NOISE),
    Schedule(3)(PUSH | NOISE),
    Schedule(0)(swap("s", "dynamics", "params.push", (2.0, 3.0))),
    Schedule(2)(PUSH) | NOISE,
    NOISE | Schedule(2)(PUSH),
]


@pytest.mark.parametrize(("shift", "complaint"), BROKEN)
def test_a_shift_that_breaks_the_contract_is_detected(shift, complaint):
    messages = violations(shift, ARROW, LINE)
    assert any(re.search(complaint, line) for line in messages), messages
    assert all(line.startswith(f"{shift.name}: ") for line in messages)


@pytest.mark.parametrize("shift", SOUND, ids=lambda shift: f"{shift.name}-{shift.family}")
def test_a_shift_that_keeps_the_contract_has_no_violation(shift):
    assert violations(shift, ARROW, LINE) == []


def test_every_family_is_in_may_touch_and_tested():
    assert set(MAY_TOUCH) == set(FAMILIES)
    tested = {family for shift in SOUND for family in shift.family.split("|")}
    assert tested == set(FAMILIES)
