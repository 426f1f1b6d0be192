"""The three recipes of CONTRIBUTING.md, run as they stand."""

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


def recipe(number: int) -> dict:
    names = {"__name__": "recipe"}
    exec(compile(RECIPES[number], f"CONTRIBUTING.md, recipe {number}", "exec"), names)
    return names


def trained(agent, blend):
    suite = load_suite("CartPole")
    config = TrainConfig(agent, blend, num_envs=4, num_steps=8)
    worlds = partial(lambda world, key: world, suite.world)
    run = init_runner(jax.random.key(0), config, suite.env, worlds)
    step = jax.jit(lambda run: train(run, config, suite.env, worlds, num_updates=2))
    return run, *step(run)


def test_there_are_three_recipes():
    assert len(RECIPES) == 3


def test_the_head_trains_an_agent():
    head, agent = recipe(0)["HEAD"], recipe(2)["AGENT"]
    _, run, metrics, sound = trained(
        agent, Blend(boredom=(0.1, head), drive=(1.0, Potential(head)))
    )
    assert sound.all()
    assert -0.1 <= metrics["boredom/signal"] < 0


def test_the_agent_learns_from_reward_and_signals():
    agent = recipe(2)["AGENT"]
    before, after, metrics, sound = trained(agent, Blend())
    assert sound.all() and jnp.isfinite(metrics["loss"])
    moved = jax.tree.map(lambda a, b: (a != b).any(), before.learner.agent, after.learner.agent)
    assert all(jax.tree.leaves(moved.net.trunk))


@pytest.mark.parametrize("number", [0, 1])
def test_the_shifts_are_shifts(number):
    shift, suite = recipe(1)["SHIFTS"][number], load_suite("CartPole")
    same, other = (shift(suite.world, s, jax.random.key(0)) for s in (0.0, 1.0))
    assert isinstance(other, World)
    assert float(same.params.gravity) == 9.8
    assert float(other.params.gravity) == pytest.approx(19.6)
    assert float(other.channel.noise) == pytest.approx(0.1 * number)
