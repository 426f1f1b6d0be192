"""The arms of a comparison, and the errors raised before anything is compiled."""

from dataclasses import replace
from functools import partial

import jax
import pytest
from flax import nnx

from affect import Innate
from envs import load_suite
from runs.engine.arms import HEADS, POTENTIALS, check_arms, comparison_arms, weighted_head
from runs.errors import UserError
from tests.runs.small_study import CONFIG

SUITE = load_suite("CartPole")
KINDS = ("", "_sham", "_untrained", "_constant")
LEVELS = ("-2", "-1", "-0.5", "+0.5")
POTENTIAL_ARMS = [f"potential_{k}{end}" for k in LEVELS for end in ("", "_constant")]
CONSTANTS = ("constant_plus", "constant_minus")


def arm_names(heads: tuple[str, ...], suite=SUITE) -> list[str]:
    return [arm.name for arm in comparison_arms(heads, 0.99, suite)]


def test_controls_are_added_to_every_head():
    head_arms = [f"{name}{kind}" for name in ("mood", "hope") for kind in KINDS]
    before = ["none", "random", *CONSTANTS, *head_arms]
    assert arm_names(("mood", "hope")) == [*before, *POTENTIAL_ARMS, "lesion"]
    assert arm_names(("mood",)) == [*before[:8], "lesion"]  # no potential
    assert "random" not in arm_names(("mood",), replace(SUITE, randomised=None))


def test_every_named_head_can_be_built():
    innate = partial(Innate, fn=lambda batch: -batch.next_obs[..., 0])
    spec = replace(SUITE.env.spec, info=("harm", "body", "other"), discount=0.99)
    for name in HEADS:
        weight, factory = weighted_head(name, replace(SUITE, innate=innate))
        built = jax.eval_shape(lambda f=factory: f(spec, rngs=nnx.Rngs(0)))
        assert weight > 0
        assert (type(built).__name__ == "Potential") == (name in POTENTIALS)


@pytest.mark.parametrize("name", ["homeostasis", "care"])
def test_head_that_the_suite_cannot_feed_is_refused_naming_suites_that_can(name):
    arms = comparison_arms((name,), 0.99, SUITE)
    with pytest.raises(UserError, match=rf"{name} in CartPole: .*reads info.*FoodShare.*choose"):
        check_arms(arms, SUITE, CONFIG)


def test_innate_head_is_refused_where_the_suite_has_none():
    with pytest.raises(UserError, match="CartPole has no innate head"):
        comparison_arms(("innate",), 0.99, SUITE)


def test_sham_with_one_environment_is_refused():
    with pytest.raises(UserError, match="fear_sham in CartPole: .*at least 2 environments"):
        check_arms(comparison_arms(("fear",), 0.99, SUITE), SUITE, replace(CONFIG, num_envs=1))
    check_arms(comparison_arms(("fear",), 0.99, SUITE), SUITE, CONFIG)
