"""Presets of training sizes: by name of the environment, by package, and on the host."""

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
def test_the_preset_follows_from_the_environment(env, jitted, expected):
    assert preset(env, jitted) == expected


@pytest.mark.parametrize("name", ["CLASSIC", "DRIVE", "ADAPTED", "HOSTED"])
def test_heads_take_800_to_2000_gradient_steps(name):
    sizes = getattr(presets, name)
    updates = sizes.steps // (sizes.num_envs * sizes.num_steps)
    assert 800 <= updates * Blend().epochs * sizes.parts <= 2_000
    assert sizes.num_envs % sizes.parts == 0
