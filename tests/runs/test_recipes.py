"""What is usual where: by name, by package, and on the host."""

import pytest

from affect import Blend
from runs.harness import recipes
from runs.harness.recipes import recipe


@pytest.mark.parametrize(
    ("env", "jitted", "expected"),
    [
        ("CartPole", True, recipes.CLASSIC),
        ("Drive", True, recipes.DRIVE),
        ("Timid", True, recipes.DRIVE),
        ("gymnax:CartPole-v1", True, recipes.ADAPTED),
        ("craftax:Craftax-Classic-Symbolic-v1", True, recipes.CRAFT),
        ("CartPole-v1", False, recipes.HOSTED),
        ("envs:affect/Drive-v0", False, recipes.HOSTED),
    ],
)
def test_what_is_usual(env, jitted, expected):
    assert recipe(env, jitted) == expected


@pytest.mark.parametrize("name", ["CLASSIC", "DRIVE", "ADAPTED", "HOSTED"])
def test_heads_take_about_a_thousand_steps_and_more(name):
    one = getattr(recipes, name)
    updates = one.steps // (one.num_envs * one.num_steps)
    assert 800 <= updates * Blend().epochs * one.parts <= 2_000
    assert one.num_envs % one.parts == 0
