"""Feelings that read what only some worlds report, and what they say where it is missing."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import (
    Blend,
    Care,
    Curiosity,
    Fear,
    Homeostasis,
    Innate,
    MissingInfo,
    Mood,
    Potential,
    Spec,
    build,
)
from affect.care import other_perspective
from tests.affect.cases import SPEC, B, T, assert_close, experience, feel, same_bits

KEY = jax.random.key(0)
SILENT = Spec(obs_dim=3, num_actions=2, info=("harm", "cost"))


@pytest.fixture(scope="module")
def batch():
    return experience(seed=8)


def homeostatic(setpoint):
    return lambda spec, *, rngs: Homeostasis(spec, setpoint=setpoint, rngs=rngs)


def instinct(fn, **knobs):
    return lambda spec, *, rngs: Innate(spec, fn=fn, rngs=rngs, **knobs)


def felt(factory, batch, state=None):
    head = build(factory, SPEC, KEY)
    return feel(head, head.initial_state(B) if state is None else state, batch)[0]


# --- what is not reported ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "name", "key"),
    [
        (homeostatic(0.0), "Homeostasis", "body"),
        (Care(Fear), "Care", "other"),
        (Potential(Care(Fear)), "Care", "other"),
        (Care(homeostatic(0.0)), "Homeostasis", "body"),
        (instinct(lambda batch: batch.reward, reads=("harm", "foregone")), "Innate", "foregone"),
    ],
)
def test_what_a_world_does_not_report_is_named(factory, name, key):
    with pytest.raises(MissingInfo) as caught:
        Blend(it=(1.0, factory)).init(KEY, SILENT, B)
    error = caught.value
    assert (error.head, error.key, error.reported) == (name, key, ("harm", "cost"))
    assert isinstance(error, ValueError)
    assert str(error) == (
        f'{name} reads info["{key}"] and this world reports harm, cost: '
        f"choose a world whose spec.info has '{key}', or leave {name} out"
    )
    build(factory, SPEC, KEY)


def test_a_world_that_reports_nothing_is_said_to():
    with pytest.raises(MissingInfo, match="this world reports nothing: choose"):
        build(Care(Fear), Spec(obs_dim=3, num_actions=2), KEY)


# --- homeostasis ------------------------------------------------------------------------------


def test_homeostasis_is_minus_the_distance_to_the_setpoint(batch):
    body = jnp.zeros((T, B, 2)).at[..., 0].set(4.0).at[0, 0].set(jnp.array([1.0, 1.0]))
    signal = felt(homeostatic((1.0, -4.0)), batch._replace(info={"body": body}))
    assert signal[0, 0] == -5.0
    np.testing.assert_allclose(jnp.delete(signal.ravel(), 0), -5.0)
    assert (felt(homeostatic(1.0), batch._replace(info={"body": body}))[0, 0] == 0).all()


def test_a_potential_of_homeostasis_is_the_drive_reduction(batch):
    """D(H) - D(H') = potential + (1 - gamma)(-D(H')), wherever the body before is known (T4)."""
    gamma = 0.9
    drive = -felt(homeostatic(0.5), batch)
    shaped = felt(Potential(homeostatic(0.5), gamma=gamma), batch)
    reduction = shaped - (1 - gamma) * drive
    inside = ~np.asarray(batch.first[1:] | batch.terminated[1:])
    expected = (drive[:-1] - drive[1:])[inside]
    np.testing.assert_allclose(reduction[1:][inside], expected, atol=1e-6)


@pytest.mark.parametrize("setpoint", [(1.0, 2.0, 3.0), [[1.0]]])
def test_a_setpoint_that_fits_no_body_is_refused(setpoint, batch):
    with pytest.raises(ValueError, match="a setpoint"):
        felt(homeostatic(setpoint), batch)


def test_a_body_is_a_vector(batch):
    flat = batch._replace(info={"body": batch.reward})
    with pytest.raises(ValueError, match=re.escape("a body is [T, B, n]")):
        felt(homeostatic(0.0), flat)


# --- innate -----------------------------------------------------------------------------------


def test_innate_is_what_its_function_says(batch):
    signal = felt(instinct(lambda now: now.next_obs[..., 0] * now.info["harm"]), batch)
    np.testing.assert_allclose(signal, batch.next_obs[..., 0] * batch.info["harm"])
    assert jax.tree.leaves(build(instinct(jnp.sum), SPEC, KEY)) == []


def test_innate_gives_one_number_a_step(batch):
    with pytest.raises(ValueError, match=r"shape \(6, 4, 3\): its fn must give one number a step"):
        felt(instinct(lambda now: now.next_obs), batch)


# --- care -------------------------------------------------------------------------------------


def test_care_is_ones_own_feeling_in_the_others_seat(batch):
    """The other's next observation, read by the very parameters that fear for oneself."""
    care, fear = build(Care(Fear), SPEC, KEY), build(Fear, SPEC, KEY)
    assert same_bits(jax.tree.leaves(care), jax.tree.leaves(fear))
    theirs = batch._replace(next_obs=batch.info["other"]["next_obs"])
    signal, _ = feel(care, care.initial_state(B), batch)
    assert_close(signal, feel(fear, (), theirs)[0])
    assert np.abs(signal - feel(fear, (), batch)[0]).max() > 0.01


def test_care_of_a_body_reads_the_others_body(batch):
    swapped = batch._replace(info={"body": batch.info["other"]["body"]})
    np.testing.assert_allclose(
        felt(Care(homeostatic(0.0)), batch), felt(homeostatic(0.0), swapped), rtol=1e-6
    )


def test_care_learns_in_its_own_seat_alone(batch):
    """Neither what is learned nor what learning needs is touched by the other."""
    care, curiosity = build(Care(Curiosity), SPEC, KEY), build(Curiosity, SPEC, KEY)
    others = jax.tree.map(lambda leaf: leaf + 3, batch.info["other"])
    elsewhere = batch._replace(info=batch.info | {"other": others})
    losses = []
    for seen in (batch, elsewhere):
        _, state = feel(care, care.initial_state(B), seen)
        losses.append(care.loss(state, seen)[0])
    _, own = feel(curiosity, curiosity.initial_state(B), batch)
    assert losses[0] == losses[1] == curiosity.loss(own, batch)[0]


def test_what_is_carried_belongs_to_a_seat(batch):
    """Care's mood is the other's: of its rewards, through all of its past."""
    care, mood = build(Care(Mood), SPEC, KEY), build(Mood, SPEC, KEY)
    theirs = batch._replace(reward=batch.info["other"]["reward"])
    signal, (carried, own) = feel(care, care.initial_state(B), batch)
    assert_close((signal, carried), feel(mood, mood.initial_state(B), theirs))
    assert_close(own, feel(mood, mood.initial_state(B), batch)[1])


def test_the_other_seat_has_what_it_shows_and_keeps_the_rest(batch):
    seat, other = other_perspective(batch), batch.info["other"]
    assert set(other) == {"obs", "next_obs", "reward", "body"}
    assert all(seat._asdict()[key] is other[key] for key in ("obs", "next_obs", "reward"))
    assert seat.info["body"] is other["body"]
    assert seat.action is batch.action
    assert seat.info["harm"] is batch.info["harm"]


def test_another_swap_needs_no_other(batch):
    mirrored = Care(Fear, swap=lambda batch: batch._replace(next_obs=-batch.next_obs))
    head = build(mirrored, SILENT, KEY)
    signal, _ = feel(head, head.initial_state(B), batch)
    assert_close(signal, feel(head.inner, (), batch._replace(next_obs=-batch.next_obs))[0])


@pytest.mark.parametrize(
    ("swap", "complaint"),
    [
        (
            lambda b: b._replace(next_obs=b.next_obs[..., :2]),
            "turned next_obs from float32[6, 4, 3] into float32[6, 4, 2]: keep both",
        ),
        (
            lambda b: b._replace(reward=b.reward > 0),
            "turned reward from float32[6, 4] into bool[6, 4]: keep both",
        ),
        (
            lambda b: b._replace(info=b.info | {"body": b.info["body"][0]}),
            "turned info['body'] from float32[6, 4, 2] into float32[4, 2]: keep both",
        ),
        (lambda b: b._replace(info={}), "lost info['body']: it must keep every field"),
    ],
)
def test_a_swap_that_changes_shapes_is_named(swap, complaint, batch):
    with pytest.raises(ValueError, match=re.escape(f"the swap of Care {complaint}")):
        felt(Care(Fear, swap=swap), batch)
