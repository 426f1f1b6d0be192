"""The three code examples of CONTRIBUTING.md, executed."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from affect import Blend, Potential
from envs import load_suite
from envs.world import World
from runs.engine.train import TrainConfig, init_runner, train

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
RECIPES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
SUITE = load_suite("CartPole")


@pytest.fixture(scope="module")
def recipes() -> dict:
    """All names that the recipes define."""
    assert len(RECIPES) == 3
    names = {"__name__": "recipe"}
    for number, recipe in enumerate(RECIPES):
        exec(compile(recipe, f"CONTRIBUTING.md, recipe {number}", "exec"), names)
    return names


def train_two_updates(agent, blend):
    """Runs before and after two updates, and metrics."""
    config, worlds = TrainConfig(agent, blend, num_envs=4, num_steps=8), lambda key: SUITE.world
    run = init_runner(jax.random.key(0), config, SUITE.env, worlds)
    step = jax.jit(lambda run: train(run, config, SUITE.env, worlds, num_updates=2))
    after, metrics, finite = step(run)
    assert finite.all()
    return run, after, metrics


def test_an_agent_trains_with_the_head(recipes):
    head = recipes["HEAD"]
    blend = Blend(boredom=(0.1, head), drive=(1.0, Potential(head)))
    *_, metrics = train_two_updates(recipes["AGENT"], blend)
    assert -0.1 <= metrics["boredom/signal"] < 0


def test_the_agent_trains_its_network(recipes):
    before, after, metrics = train_two_updates(recipes["AGENT"], Blend())
    assert jnp.isfinite(metrics["loss"])
    changed = jax.tree.map(lambda a, b: (a != b).any(), before.learner.agent, after.learner.agent)
    assert all(jax.tree.leaves(changed.net.trunk))


@pytest.mark.parametrize("number", [0, 1])
def test_the_shifts_change_their_parameters_at_severity_1_and_none_at_0(number, recipes):
    shift = recipes["SHIFTS"][number]
    unshifted, shifted = (shift(SUITE.world, s, jax.random.key(0)) for s in (0.0, 1.0))
    assert isinstance(shifted, World)
    assert float(unshifted.params.gravity) == 9.8
    assert float(shifted.params.gravity) == pytest.approx(19.6)
    assert float(shifted.channel.noise) == pytest.approx(0.1 * number)
