"""What is usual where: by name, by package, and on the host."""

import pytest

from affect import Blend
from runs.engine import presets
from runs.engine.presets import preset


@pytest.mark.parametrize(
    ("env", "jitted", "expected"),
    [
        ("CartPole", True, presets.CLASSIC),
        ("Drive", True, presets.DRIVE),
        ("Timid", True, presets.DRIVE),
        ("gymnax:CartPole-v1", True, presets.ADAPTED),
        ("craftax:Craftax-Classic-Symbolic-v1", True, presets.CRAFTAX),
        ("CartPole-v1", False, presets.HOSTED),
        ("envs:affect/Drive-v0", False, presets.HOSTED),
    ],
)
def test_what_is_usual(env, jitted, expected):
    assert preset(env, jitted) == expected


@pytest.mark.parametrize("name", ["CLASSIC", "DRIVE", "ADAPTED", "HOSTED"])
def test_heads_take_about_a_thousand_steps_and_more(name):
    one = getattr(presets, name)
    updates = one.steps // (one.num_envs * one.num_steps)
    assert 800 <= updates * Blend().epochs * one.parts <= 2_000
    assert one.num_envs % one.parts == 0
