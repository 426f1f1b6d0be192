"""The arms of a comparison, and what is refused before anything is compiled."""

from dataclasses import replace
from functools import partial

import jax
import pytest
from flax import nnx

from affect import Innate
from envs import load_suite
from runs.engine.arms import HEADS, POTENTIALS, check_arms, comparison_arms, weighted_head
from runs.errors import UserError

SUITE = load_suite("CartPole")
KINDS = ("", "_sham", "_scrambled", "_constant")
LEVELS = ("constant_plus", "constant_minus")


def names(heads: tuple[str, ...], suite=SUITE) -> list[str]:
    return [arm.name for arm in comparison_arms(heads, 0.99, suite)]


def test_the_controls_come_without_asking():
    felt = [f"{name}{kind}" for name in ("mood", "hope") for kind in KINDS]
    assert names(("mood", "hope")) == ["none", "random", *LEVELS, *felt, "lesion"]
    assert "random" not in names(("mood",), replace(SUITE, randomised=None))


def test_every_head_of_the_comparison_can_be_felt_somewhere():
    lean = partial(Innate, fn=lambda batch: -batch.next_obs[..., 0])
    spec = replace(SUITE.env.spec, info=("harm", "body", "other"))
    for name in HEADS:
        weight, factory = weighted_head(name, 0.99, replace(SUITE, innate=lean))
        built = jax.eval_shape(lambda f=factory: f(spec, rngs=nnx.Rngs(0)))
        assert weight > 0
        assert (type(built).__name__ == "Potential") == (name in POTENTIALS)


@pytest.mark.parametrize("name", ["homeostasis", "care"])
def test_a_head_that_cannot_be_felt_is_refused_naming_the_worlds(name):
    found = comparison_arms((name,), 0.99, SUITE)
    with pytest.raises(UserError, match=rf"{name} in CartPole: .*reads info.*FoodShare.*choose"):
        check_arms(found, SUITE, 4)


def test_nothing_is_innate_where_the_suite_has_nothing():
    with pytest.raises(UserError, match="nothing is innate in CartPole"):
        comparison_arms(("innate",), 0.99, SUITE)


def test_a_sham_of_one_environment_is_refused():
    with pytest.raises(UserError, match="fear_sham in CartPole: .*at least 2 environments"):
        check_arms(comparison_arms(("fear",), 0.99, SUITE), SUITE, 1)
    check_arms(comparison_arms(("fear",), 0.99, SUITE), SUITE, 2)
