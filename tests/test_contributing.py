"""The three code examples of CONTRIBUTING.md, executed."""

import re
from functools import partial
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


def run_recipe(number: int) -> dict:
    names = {"__name__": "recipe"}
    exec(compile(RECIPES[number], f"CONTRIBUTING.md, recipe {number}", "exec"), names)
    return names


def train_two_updates(agent, blend):
    suite = load_suite("CartPole")
    config = TrainConfig(agent, blend, num_envs=4, num_steps=8)
    worlds = partial(lambda world, key: world, suite.world)
    run = init_runner(jax.random.key(0), config, suite.env, worlds)
    step = jax.jit(lambda run: train(run, config, suite.env, worlds, num_updates=2))
    return run, *step(run)


def test_there_are_three_recipes():
    assert len(RECIPES) == 3


def test_an_agent_trains_with_the_head():
    head, agent = run_recipe(0)["HEAD"], run_recipe(2)["AGENT"]
    _, run, metrics, finite = train_two_updates(
        agent, Blend(boredom=(0.1, head), drive=(1.0, Potential(head)))
    )
    assert finite.all()
    assert -0.1 <= metrics["boredom/signal"] < 0


def test_the_agent_trains_its_network():
    agent = run_recipe(2)["AGENT"]
    before, after, metrics, finite = train_two_updates(agent, Blend())
    assert finite.all() and jnp.isfinite(metrics["loss"])
    changed = jax.tree.map(lambda a, b: (a != b).any(), before.learner.agent, after.learner.agent)
    assert all(jax.tree.leaves(changed.net.trunk))


@pytest.mark.parametrize("number", [0, 1])
def test_the_shifts_change_their_parameters_at_severity_1_and_none_at_0(number):
    shift, suite = run_recipe(1)["SHIFTS"][number], load_suite("CartPole")
    unshifted, shifted = (shift(suite.world, s, jax.random.key(0)) for s in (0.0, 1.0))
    assert isinstance(shifted, World)
    assert float(unshifted.params.gravity) == 9.8
    assert float(shifted.params.gravity) == pytest.approx(19.6)
    assert float(shifted.channel.noise) == pytest.approx(0.1 * number)
