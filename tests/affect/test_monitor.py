"""Monitors: the conformal rate of false alarms, the head in NumPy, files, and bad input."""

import jax.numpy as jnp
import numpy as np
import pytest

from affect import (
    Curiosity,
    Distilled,
    Fear,
    Hope,
    Inherited,
    Monitor,
    Potential,
    Value,
    build,
    load,
)
from affect.monitor import conformal_threshold
from tests.affect.cases import KEY, SPEC, apply_head, experience


def episodes(count: int, seed: int = 0) -> list[np.ndarray]:
    """Observations [T, 3] of random episodes of 1 to 9 steps."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rng.integers(1, 10), SPEC.obs_dim)) for _ in range(count)]


@pytest.mark.parametrize(("count", "quantile"), [(20, 0.9), (40, 0.75), (10, 0.5), (29, 0.95)])
def test_left_out_in_turn_exactly_the_promised_share_of_episodes_has_an_alarm(count, quantile):
    given, head = episodes(count), build(Fear, SPEC, KEY)
    alarms = 0
    for i in range(count):
        monitor = Monitor(head, quantile).fit(given[:i] + given[i + 1 :])
        alarms += monitor.alarm(given[i]).any()
    rank = np.ceil(count * quantile - 1e-9)  # of the count - 1 that are left, and the new one
    assert alarms == count - rank <= count * (1 - quantile) + 1e-9


@pytest.mark.parametrize("wrong", [18, 0])
def test_too_few_episodes_are_refused(wrong):
    with pytest.raises(ValueError, match="too few for quantile=0.95: give at least 19"):
        conformal_threshold(np.arange(wrong), 0.95)
    assert conformal_threshold(np.arange(19), 0.95) == 18


WHITENED = Value(layers=(4, 4), gamma=0.9, whitened=True)


@pytest.mark.parametrize(
    "factory", [Fear, Hope, Potential(Fear), WHITENED, Distilled(layers=(2,), bits=4)], ids=repr
)
def test_danger_is_minus_the_signal_of_the_head(factory):
    head, batch = build(factory, SPEC, KEY).alone(), experience()
    if factory is WHITENED:
        head.mean[...], head.variance[...] = jnp.array([1.0, 0, 2]), jnp.array([4.0, 0, 1e-3])
    batch = batch._replace(terminated=jnp.zeros_like(batch.terminated))
    signal, _ = apply_head(head, head.initial_state(4), batch)
    danger = Monitor(head).danger(np.asarray(batch.next_obs))
    np.testing.assert_allclose(danger, -np.asarray(signal), rtol=1e-4, atol=1e-5)


def test_a_file_holds_the_head_and_its_threshold(tmp_path):
    path, given = tmp_path / "fear.safetensors", episodes(40)
    monitor = Monitor(build(Potential(Fear), SPEC, KEY), 0.75).fit(given)
    monitor.save(path, world="a garden", measures={"auroc_home": 0.8})
    again, new = Monitor.load(path), np.concatenate(episodes(9, seed=1))
    assert (again.threshold, again.quantile, again.episodes) == (monitor.threshold, 0.75, 40)
    np.testing.assert_array_equal(again.alarm(new), monitor.alarm(new))
    assert load(path).origin.facts["measures"]["auroc_home"] == 0.8
    again.save(path)
    assert load(path).origin.facts["measures"]["auroc_home"] == 0.8
    build(Fear, SPEC, KEY).save(path)
    with pytest.raises(ValueError, match="has no alarm_threshold: it is a head"):
        Monitor.load(path)


def test_what_is_not_a_number_is_an_alarm_and_no_threshold():
    monitor = Monitor(build(Fear, SPEC, KEY), 0.5).fit(episodes(9))
    assert monitor.alarm(np.full(3, np.nan)) and monitor.alarm(np.zeros((2, 3))).shape == (2,)
    with pytest.raises(ValueError, match="not a number"):
        monitor.fit([*episodes(9), np.full((2, 3), np.nan)])


def test_a_function_is_monitored_as_well_but_not_saved(tmp_path):
    monitor = Monitor(lambda obs: np.abs(obs).max(-1), 0.5).fit(
        [np.full((2, 3), i) for i in (1, 2)]
    )
    assert (
        monitor.threshold == 2 and monitor.alarm(np.full(3, -3)) and not monitor.alarm(np.ones(3))
    )
    with pytest.raises(ValueError, match="has a head"):
        monitor.save(tmp_path / "it.safetensors")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Monitor(Fear), "a trained head, not"),
        (lambda: Monitor(build(Fear, SPEC, KEY), 1), "between 0 and 1, not 1"),
        (lambda: Monitor(build(Curiosity, SPEC, KEY)), "Curiosity is no network"),
        (
            lambda: Monitor(build(Inherited(build(Fear, SPEC, KEY), obs=(2, 1, 0)), SPEC, KEY)),
            "a part of the observation",
        ),
        (lambda: Monitor(build(Fear, SPEC, KEY)).alarm(np.zeros(3)), "call monitor.fit"),
        (lambda: Monitor(build(Fear, SPEC, KEY)).fit([np.zeros(3)]), r"\[T, D\], not float64"),
    ],
)
def test_bad_input_is_refused_in_one_line(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()
