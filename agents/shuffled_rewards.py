"""Shuffled rewards: an agent that learns from the rewards of other steps, as a control."""

from dataclasses import dataclass
from typing import Any

import jax

from affect import Transition
from agents.ppo import random_permutation
from agents.wrapper import AgentWrapper


@dataclass(frozen=True)
class ShuffledRewards(AgentWrapper):
    """Agent that is trained on the task's rewards of a batch in random order.

    The rewards are the same, but come at other steps than those that earned them. Signals stay as
    they are.
    """

    def update(
        self, state: Any, key: jax.Array, batch: Transition, *inputs: Any
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Trains the agent inside on a batch [T, B] with permuted rewards -> (state, metrics)."""
        k_order, key = jax.random.split(key)
        order = random_permutation(k_order, batch.reward.size)
        reward = batch.reward.reshape(-1)[order].reshape(batch.reward.shape)
        return self.agent.update(state, key, batch._replace(reward=reward), *inputs)
