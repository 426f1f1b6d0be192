"""Your own head, which likes the middle of the track, and your own agent, a strict PPO."""

from dataclasses import dataclass

import jax.numpy as jnp

from affect import Blend, Head
from agents import PPO
from envs import load_suite
from runs import Experiment


class Middle(Head):
    def __call__(self, state, batch):
        return 0.5 - jnp.abs(batch.next_obs[..., 0]), state  # a signal for each step [T, B]


@dataclass(frozen=True)
class Strict(PPO):
    def update(self, state, key, batch, signals):
        return super().update(state, key, batch, jnp.minimum(signals, 0.0))


arms = {"none": Blend(), "middle": Blend(middle=(0.1, Middle))}
experiment = Experiment(load_suite("CartPole"), arms, Strict(), seeds=3, steps=8_000)
result = experiment.run()
print(result.scores.groupby(["arm", "shift"])["return"].mean().unstack("arm"))
