"""Presets of training sizes: by name of the suite, by package, and on the host."""

from dataclasses import replace

import pytest

from envs import load_suite
from runs.engine import presets
from runs.engine.config import head_epochs, make_run_config
from runs.engine.presets import find_suite, preset
from runs.errors import UserError
from tests.tiers import slow

CARTPOLE = load_suite("CartPole")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CartPole", presets.CLASSIC),
        ("Drive", presets.DRIVE),
        ("Timid", presets.DRIVE),
        ("gymnax:CartPole-v1", presets.ADAPTED),
        ("craftax:Craftax-Classic-Symbolic-v1", presets.CRAFTAX),
        ("MyWorld", presets.ADAPTED),
    ],
)
def test_the_preset_of_a_jitted_suite_follows_from_its_name(name, expected):
    assert preset(replace(CARTPOLE, name=name)) == expected


@pytest.mark.parametrize("id", ["CartPole-v1", slow("envs:affect/Drive-v0")])
def test_environments_on_the_host_have_a_preset_of_their_own(id):
    assert preset(load_suite(id, workers=0)) == presets.HOSTED


def test_agents_with_continuous_actions_get_no_entropy_bonus():
    assert preset(load_suite("Pendulum")).agent.entropy == 0
    assert preset(CARTPOLE).agent.entropy > 0


@pytest.mark.parametrize("name", ["CLASSIC", "DRIVE", "ADAPTED", "HOSTED"])
def test_heads_take_about_600_gradient_steps_or_two_a_batch(name):
    sizes = getattr(presets, name)
    options = {"num_envs": sizes.num_envs, "num_steps": sizes.num_steps, "episodes": 16}
    config = make_run_config(
        sizes.agent, seeds=3, steps=sizes.steps, chunks=sizes.chunks, **options
    )
    steps = head_epochs(config) * config.chunks * config.updates
    assert 500 <= steps <= 700 or head_epochs(config) == 2


def test_smoke_suites_shorten_the_episodes_of_hosts_alone():
    assert presets.smoke_suite(CARTPOLE) == CARTPOLE
    host = presets.smoke_suite(load_suite("CartPole-v1", workers=0))
    assert host.env.horizon == presets.SMOKE_HORIZON


def test_unknown_environments_and_shifts_are_refused():
    with pytest.raises(UserError, match="unknown environment 'CartPol'; did you mean CartPole"):
        find_suite("CartPol")
    with pytest.raises(UserError, match="unknown shift 'forze'; did you mean force"):
        find_suite("CartPole", ("forze",))
    assert [shift.name for shift in find_suite("CartPole", ("flip",)).shifts] == ["flip"]
