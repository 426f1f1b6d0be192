"""The critic of a trained agent as a head, `affect.Value`."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Spec, Value, build
from agents.actor_critic import ActorCriticAgent, value_unit
from agents.body import Body
from agents.wrapper import AgentWrapper
from runs.errors import UserError


def critic_head(agent: Any, state: Any, spec: Spec) -> Value:
    """The task's channel of a critic, in units of the reward, whitening as the agent does.

    Args:
        agent: static description, an `agents.actor_critic.ActorCriticAgent` or a wrapper of one.
        state: of one seed.
        spec: of the world.

    Raises:
        UserError: for an agent with another critic, or with none, for one whose body does not
            perceive observations as they are, and for one that sees images.
    """
    if isinstance(agent, Body) and not agent.has_all_senses:
        raise UserError(
            "this critic values what its body perceives, not observations: take the one of the "
            "agent inside, and read it with affect.Inherited(head, obs=body.perceive)"
        )
    if isinstance(agent, AgentWrapper):
        return critic_head(agent.agent, state, spec)
    if not isinstance(agent, ActorCriticAgent):
        raise UserError(
            f"{type(agent).__name__} has no critic network: distil a function that values "
            "observations instead, as in affect.distil(f, on=observations)"
        )
    if spec.image is not None:
        raise UserError("the critic of an agent that sees images values features of its own")
    critic, whitened = state.train_state.net.critic, agent.normalise
    layers = (agent.width,) * len(critic.trunk.hidden)
    factory = Value(layers=layers, gamma=agent.gamma, whitened=whitened)
    head = build(factory, spec, jax.random.key(0))
    for layer, trained in zip(head.net.hidden, critic.trunk.hidden, strict=True):
        layer.kernel, layer.bias = nnx.Param(trained.kernel[...]), nnx.Param(trained.bias[...])
    scale = jnp.broadcast_to(value_unit(state, critic.out.bias.shape), critic.out.bias.shape)[0]
    head.net.out.kernel = nnx.Param(critic.out.kernel[...][:, :1] * scale)
    head.net.out.bias = nnx.Param(critic.out.bias[...][:1] * scale)
    if whitened:
        head.mean = nnx.Param(state.moments.mean)
        head.variance = nnx.Param(state.moments.variance)
    return head
