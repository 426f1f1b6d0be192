"""Heads that read keys of `info`, and their errors where a key is missing."""

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
from tests.affect.cases import SPEC, B, T, apply_head, assert_close, experience, same_bits

KEY = jax.random.key(0)
SILENT = Spec(obs_dim=3, num_actions=2, info=("harm", "cost"))


@pytest.fixture(scope="module")
def batch():
    return experience(seed=8)


def homeostasis(setpoint):
    return lambda spec, *, rngs: Homeostasis(spec, setpoint=setpoint, rngs=rngs)


def innate(fn, **options):
    return lambda spec, *, rngs: Innate(spec, fn=fn, rngs=rngs, **options)


def signal_of(factory, batch, state=None):
    head = build(factory, SPEC, KEY)
    return apply_head(head, head.initial_state(B) if state is None else state, batch)[0]


# --- missing keys -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "name", "key"),
    [
        (homeostasis(0.0), "Homeostasis", "body"),
        (Care(Fear), "Care", "other"),
        (Potential(Care(Fear)), "Care", "other"),
        (Care(homeostasis(0.0)), "Homeostasis", "body"),
        (innate(lambda batch: batch.reward, reads=("harm", "foregone")), "Innate", "foregone"),
    ],
)
def test_missing_info_names_the_head_the_key_and_the_reported_keys(factory, name, key):
    with pytest.raises(MissingInfo) as raised:
        Blend(it=(1.0, factory)).init(KEY, SILENT, B)
    error = raised.value
    assert (error.head, error.key, error.reported) == (name, key, ("harm", "cost"))
    assert isinstance(error, ValueError)
    assert str(error) == (
        f'{name} reads info["{key}"] and this world reports harm, cost: '
        f"choose a world whose spec.info has '{key}', or leave {name} out"
    )
    build(factory, SPEC, KEY)


def test_missing_info_says_so_where_the_world_reports_nothing():
    with pytest.raises(MissingInfo, match="this world reports nothing: choose"):
        build(Care(Fear), Spec(obs_dim=3, num_actions=2), KEY)


# --- homeostasis ------------------------------------------------------------------------------


def test_homeostasis_is_minus_the_distance_to_the_setpoint(batch):
    body = jnp.zeros((T, B, 2)).at[..., 0].set(4.0).at[0, 0].set(jnp.array([1.0, 1.0]))
    signal = signal_of(homeostasis((1.0, -4.0)), batch._replace(info={"body": body}))
    assert signal[0, 0] == -5.0
    np.testing.assert_allclose(jnp.delete(signal.ravel(), 0), -5.0)
    assert (signal_of(homeostasis(1.0), batch._replace(info={"body": body}))[0, 0] == 0).all()


def test_a_potential_of_homeostasis_is_the_drive_reduction(batch):
    """D(H) - D(H') = potential + (1 - gamma)(-D(H')) where the last body is known (target T4)."""
    gamma = 0.9
    drive = -signal_of(homeostasis(0.5), batch)
    shaped = signal_of(Potential(homeostasis(0.5), gamma=gamma), batch)
    reduction = shaped - (1 - gamma) * drive
    inside = ~np.asarray(batch.first[1:] | batch.terminated[1:])
    expected = (drive[:-1] - drive[1:])[inside]
    np.testing.assert_allclose(reduction[1:][inside], expected, atol=1e-6)


@pytest.mark.parametrize("setpoint", [(1.0, 2.0, 3.0), [[1.0]]])
def test_a_setpoint_of_another_shape_than_the_body_is_refused(setpoint, batch):
    with pytest.raises(ValueError, match="a setpoint"):
        signal_of(homeostasis(setpoint), batch)


def test_a_body_that_is_no_vector_is_refused(batch):
    flat = batch._replace(info={"body": batch.reward})
    with pytest.raises(ValueError, match=re.escape("a body is [T, B, n]")):
        signal_of(homeostasis(0.0), flat)


# --- innate -----------------------------------------------------------------------------------


def test_innate_returns_the_output_of_its_function(batch):
    signal = signal_of(innate(lambda step: step.next_obs[..., 0] * step.info["harm"]), batch)
    np.testing.assert_allclose(signal, batch.next_obs[..., 0] * batch.info["harm"])
    assert jax.tree.leaves(build(innate(jnp.sum), SPEC, KEY)) == []


def test_innate_refuses_more_than_one_number_a_step(batch):
    with pytest.raises(ValueError, match=r"shape \(6, 4, 3\): its fn must give one number a step"):
        signal_of(innate(lambda step: step.next_obs), batch)


# --- care -------------------------------------------------------------------------------------


def test_care_is_the_own_head_evaluated_on_the_others_experience(batch):
    """Fear with the same parameters at the other's next observation."""
    care, fear = build(Care(Fear), SPEC, KEY), build(Fear, SPEC, KEY)
    assert same_bits(jax.tree.leaves(care), jax.tree.leaves(fear))
    other_batch = batch._replace(next_obs=batch.info["other"]["next_obs"])
    signal, _ = apply_head(care, care.initial_state(B), batch)
    assert_close(signal, apply_head(fear, (), other_batch)[0])
    assert np.abs(signal - apply_head(fear, (), batch)[0]).max() > 0.01


def test_care_of_homeostasis_reads_the_others_body(batch):
    swapped = batch._replace(info={"body": batch.info["other"]["body"]})
    np.testing.assert_allclose(
        signal_of(Care(homeostasis(0.0)), batch), signal_of(homeostasis(0.0), swapped), rtol=1e-6
    )


def test_care_is_trained_on_the_own_experience_only(batch):
    """Neither the loss nor the state that it uses depends on the other."""
    care, curiosity = build(Care(Curiosity), SPEC, KEY), build(Curiosity, SPEC, KEY)
    changed = jax.tree.map(lambda leaf: leaf + 3, batch.info["other"])
    other_batch = batch._replace(info=batch.info | {"other": changed})
    losses = []
    for experienced in (batch, other_batch):
        _, state = apply_head(care, care.initial_state(B), experienced)
        losses.append(care.loss(state, experienced)[0])
    _, own = apply_head(curiosity, curiosity.initial_state(B), batch)
    assert losses[0] == losses[1] == curiosity.loss(own, batch)[0]


def test_care_carries_a_state_for_each_perspective(batch):
    """The signal is the mood of the other's rewards, the second state that of the own rewards."""
    care, mood = build(Care(Mood), SPEC, KEY), build(Mood, SPEC, KEY)
    other_batch = batch._replace(reward=batch.info["other"]["reward"])
    signal, (other_state, own_state) = apply_head(care, care.initial_state(B), batch)
    assert_close((signal, other_state), apply_head(mood, mood.initial_state(B), other_batch))
    assert_close(own_state, apply_head(mood, mood.initial_state(B), batch)[1])


def test_the_other_perspective_replaces_reported_fields_and_keeps_the_rest(batch):
    swapped, other = other_perspective(batch), batch.info["other"]
    assert set(other) == {"obs", "next_obs", "reward", "body"}
    assert all(swapped._asdict()[key] is other[key] for key in ("obs", "next_obs", "reward"))
    assert swapped.info["body"] is other["body"]
    assert swapped.action is batch.action
    assert swapped.info["harm"] is batch.info["harm"]


def test_a_custom_swap_does_not_require_other(batch):
    factory = Care(Fear, swap=lambda batch: batch._replace(next_obs=-batch.next_obs))
    head = build(factory, SILENT, KEY)
    signal, _ = apply_head(head, head.initial_state(B), batch)
    assert_close(signal, apply_head(head.inner, (), batch._replace(next_obs=-batch.next_obs))[0])


@pytest.mark.parametrize(
    ("swap", "message"),
    [
        (
            lambda b: b._replace(next_obs=b.next_obs[..., :2]),
            "changed next_obs from float32[6, 4, 3] to float32[6, 4, 2]: keep both",
        ),
        (
            lambda b: b._replace(reward=b.reward > 0),
            "changed reward from float32[6, 4] to bool[6, 4]: keep both",
        ),
        (
            lambda b: b._replace(info=b.info | {"body": b.info["body"][0]}),
            "changed info['body'] from float32[6, 4, 2] to float32[4, 2]: keep both",
        ),
        (lambda b: b._replace(info={}), "lost info['body']: it must keep every field"),
    ],
)
def test_a_swap_that_changes_shape_or_dtype_is_refused(swap, message, batch):
    with pytest.raises(ValueError, match=re.escape(f"the swap of Care {message}")):
        signal_of(Care(Fear, swap=swap), batch)
