"""What is usual where: by name, by package, and on the host."""

import pytest

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
