"""Heads that read keys of `info`, and their errors where a key is missing."""

import re
from functools import partial

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
from affect.examples.icm import ICM
from tests.affect.cases import (
    KEY,
    SPEC,
    B,
    T,
    apply_head,
    assert_close,
    experience,
    run_head,
    same_bits,
)

SILENT = Spec(obs_dim=3, num_actions=2, info=("harm", "cost"))
HUNGER = partial(Homeostasis, setpoint=0.0)


@pytest.fixture(scope="module")
def batch():
    return experience(seed=8)


def signal_of(factory, batch):
    return run_head(factory, batch)[1]


# --- missing keys -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "name", "key"),
    [
        (HUNGER, "Homeostasis", "body"),
        (Care(Fear), "Care", "other"),
        (Potential(Care(Fear)), "Care", "other"),
        (Care(HUNGER), "Homeostasis", "body"),
        (partial(Innate, fn=jnp.sum, reads=("harm", "foregone")), "Innate", "foregone"),
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
    body = jnp.zeros((T, B, 2)).at[..., 0].set(4.0).at[0, 0].set(1.0)
    reported = batch._replace(info={"body": body})
    assert (signal_of(partial(Homeostasis, setpoint=(1.0, -4.0)), reported) == -5.0).all()
    assert signal_of(partial(Homeostasis, setpoint=1.0), reported)[0, 0] == 0


@pytest.mark.parametrize(
    ("setpoint", "info", "message"),
    [
        ((1.0, 2.0, 3.0), {}, "a setpoint (3,) for a body (6, 4, 2)"),
        ([[1.0]], {}, "a setpoint is a number or a list of numbers, not [[1.0]]"),
        (0.0, {"body": jnp.zeros((T, B))}, "for a body (6, 4): a body is [T, B, n]"),
    ],
)
def test_a_setpoint_that_does_not_fit_the_body_is_refused(setpoint, info, message, batch):
    with pytest.raises(ValueError, match=re.escape(message)):
        signal_of(partial(Homeostasis, setpoint=setpoint), batch._replace(info=batch.info | info))


# --- innate -----------------------------------------------------------------------------------


def test_innate_returns_the_output_of_its_function(batch):
    factory = partial(Innate, fn=lambda step: step.next_obs[..., 0] * step.info["harm"])
    head, signal, _ = run_head(factory, batch)
    np.testing.assert_allclose(signal, batch.next_obs[..., 0] * batch.info["harm"])
    assert jax.tree.leaves(head) == []


def test_innate_refuses_more_than_one_number_a_step(batch):
    with pytest.raises(ValueError, match=r"gave float32\[6, 4, 3\]: it must give one number"):
        signal_of(partial(Innate, fn=lambda step: step.next_obs), batch)


# --- care -------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [Fear, HUNGER, Mood, Curiosity, ICM])
def test_care_is_the_own_head_on_the_others_experience_with_a_state_for_each(factory, batch):
    other = batch.info["other"]
    assert set(other) == {"obs", "next_obs", "reward", "body"}
    fields = {key: other[key] for key in ("obs", "next_obs", "reward")}
    other_batch = batch._replace(**fields, info=batch.info | {"body": other["body"]})
    care, signal, (other_state, own_state) = run_head(Care(factory), batch)
    head, *expected = run_head(factory, other_batch)
    _, own_signal, expected_own_state = run_head(factory, batch)
    assert same_bits(care.inner, head)
    assert_close([signal, other_state], expected)
    assert_close(own_state, expected_own_state)
    assert np.abs(signal - own_signal).max() > 0.01


def test_care_is_trained_on_the_own_experience_only(batch):
    """Neither the loss nor the state that it uses depends on the other."""
    changed = jax.tree.map(lambda leaf: leaf + 3, batch.info["other"])
    other_batch = batch._replace(info=batch.info | {"other": changed})
    losses = []
    for factory, experienced in (
        (Curiosity, batch),
        (Care(Curiosity), batch),
        (Care(Curiosity), other_batch),
    ):
        head, _, state = run_head(factory, experienced)
        losses.append(head.loss(state, experienced)[0])
    assert losses[0] == losses[1] == losses[2]


def test_a_custom_swap_does_not_require_other(batch):
    def swap(batch):
        return batch._replace(next_obs=-batch.next_obs)

    head = build(Care(Fear, swap=swap), SILENT, KEY)
    signal, _ = apply_head(head, head.initial_state(B), batch)
    assert_close(signal, signal_of(Fear, swap(batch)))


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
