"""Parent: a trained agent with the heads beside it, as carriers read it; functions of observations.

A parent is a pytree, so that all parents are stacked and each newborn's program reads its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from affect import Head, Transition
from agents.actor_critic import ActorCriticAgent, AgentState
from agents.nets import ActorCritic
from runs.engine.seeds import take_seeds


@partial(
    jax.tree_util.register_dataclass, data_fields=("agent", "heads"), meta_fields=("design", "info")
)
@dataclass(frozen=True)
class Parent:
    """Networks of a trained agent, and the heads that learned beside it.

    Attributes:
        agent: its networks and moments, without the optimiser.
        heads: name -> the head that was trained beside it.
        design: static description of the agent.
        info: keys of `Transition.info` of its world, which heads may expect.
    """

    agent: AgentState
    heads: Mapping[str, Head]
    design: ActorCriticAgent = field(metadata={"static": True})
    info: tuple[str, ...] = field(default=(), metadata={"static": True})

    @property
    def net(self) -> ActorCritic:
        """Its actor and critic."""
        return self.agent.train_state.net

    def value(self, obs: jax.Array) -> jax.Array:
        """Value [...] of the task by its critic at obs [..., D], in units of the reward."""
        return self.design.value(self.agent, obs)[..., 0]

    def policy(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Logits or means [..., A], and log deviations [..., A], at obs [..., D]."""
        return self.design.policy(self.agent, obs)

    def signal(self, head: str, obs: jax.Array) -> jax.Array:
        """Signal [...] of one of its heads where obs [..., D] is the next observation."""
        return head_signal(self.heads[head], obs, self.info)


def head_signal(head: Head, obs: jax.Array, info: tuple[str, ...] = ()) -> jax.Array:
    """Signal [...] of a head without a state at obs [..., D], which nothing ends."""
    flat = obs.reshape(1, -1, obs.shape[-1])
    zero, no = jnp.zeros(flat.shape[:2]), jnp.zeros(flat.shape[:2], bool)
    action = zero.astype(jnp.int32)
    batch = Transition(flat, action, flat, zero, no, no, no, dict.fromkeys(info, zero))
    return head(head.initial_state(flat.shape[1]), batch)[0].reshape(obs.shape[:-1])


def make_parent(design: ActorCriticAgent, learner: Any, info: tuple[str, ...] = ()) -> Parent:
    """The parent in a trained `runs.engine.train.Learner` of any leading axes."""
    agent = learner.agent
    agent = agent._replace(train_state=agent.train_state._replace(opt_state=()))
    heads = {name: state.net.alone() for name, state in learner.blend_state.heads.items()}
    return Parent(agent, heads, design, info)


def one_parent(parents: Any, index: int) -> Any:
    """The parent at an index of parents with leaves [P, ...]."""
    return take_seeds(parents, index)


def stack(trees: list[Any]) -> Any:
    """Stack trees of one structure along a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
