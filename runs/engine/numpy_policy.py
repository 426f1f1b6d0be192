"""Policies of actor-critic agents as NumPy arrays, which act where host environments are stepped.

Their actions are those of the compiled policy, drawn with the same random numbers, up to the
rounding of the logits or means. Which of the two acts is decided by `acts_in_numpy`, from sizes
alone, and is part of an experiment's identity.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Spec
from affect.moments import NEARLY_CONSTANT, Moments
from agents.actor_critic import ActorCriticAgent, AgentState
from agents.distributions import FORBIDDEN, Factored
from envs.host.policy import TanhPolicy, is_small
from envs.host.suite import HostEnv
from runs.engine.seeds import Stream, stream_key


def acts_in_numpy(agent: Any, host: HostEnv, num_envs: int) -> bool:
    """Whether an agent acts in NumPy in B = `num_envs` environments a seed, channel undisturbed.

    It does if it has the networks of `ActorCriticAgent`, if they are small and see no image, and if
    the environments are reproducible, as whole rollouts in worker processes require.
    """
    kind, spec = type(agent), host.spec
    if not (host.reproducible and issubclass(kind, ActorCriticAgent)) or spec.image is not None:
        return False
    if any(getattr(kind, name) is not getattr(ActorCriticAgent, name) for name in ("init", "act")):
        return False
    outputs = sum(spec.choices) or spec.action_dim
    return is_small(spec.obs_dim, agent.width or outputs, outputs, num_envs)


def numpy_policy(agent: ActorCriticAgent, state: AgentState) -> TanhPolicy:
    """The policies of an agent's state, whose leaves are [S, ...]."""
    actor = state.train_state.net.actor
    layers = [*actor.trunk.hidden, actor.out]
    arrays = [(np.asarray(x.kernel[...]), np.asarray(x.bias[...])[:, None]) for x in layers]
    mean, scale = _mean_and_scale(state.moments) if agent.normalise else (None, None)
    sizes = actor.actions.sizes if isinstance(actor.actions, Factored) else ()
    forbidden = FORBIDDEN if actor.mask_dim else None
    return TanhPolicy(tuple(arrays), actor.discrete, mean, scale, sizes, forbidden)


def policy_noise(state: AgentState, drawn: jax.Array) -> np.ndarray:
    """Noise [T, S, B, A] with which `TanhPolicy.act` samples as the agent's `act` does.

    Args:
        state: of the agent, leaves [S, ...].
        drawn: `drawn_noise` of all seeds, [S, T, B, A].
    """
    noise, actor = np.asarray(drawn), state.train_state.net.actor
    if not actor.discrete:
        noise = noise * np.exp(np.asarray(actor.log_std[...]))[:, None, None]
    return np.ascontiguousarray(np.moveaxis(noise, 1, 0))


def drawn_noise(key: jax.Array, *, spec: Spec, num_envs: int, steps: int) -> jax.Array:
    """What one seed's policy adds in T steps, [T, B, A]: Gumbel for logits, normal for means."""
    sample = jax.random.gumbel if spec.choices else jax.random.normal
    shape = num_envs, sum(spec.choices) or spec.action_dim

    def draw(time: jax.Array) -> jax.Array:
        return sample(action_keys(key, time)[0], shape)

    return jax.vmap(draw)(jnp.arange(steps))


def action_keys(key: jax.Array, time: jax.Array) -> jax.Array:
    """Keys of the policy and of the channel's disturbances of actions at a time, [2]."""
    return jax.random.split(jax.random.fold_in(stream_key(key, Stream.ACTION), time))


def _mean_and_scale(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation [S, 1, D] by which observations are whitened (`affect.moments.whiten`)."""
    number, mean, m2 = map(np.asarray, moments)
    variance = m2 / np.maximum(number, 1)[:, None]
    bound = np.square(np.float32(NEARLY_CONSTANT) * (1 + np.abs(mean)))
    enlarged = variance + np.float32(1e-8)
    constant = (variance < bound) & (number[:, None] > 0)
    scale = np.sqrt(np.where(constant, np.maximum(enlarged, 1), enlarged))
    return mean[:, None], scale[:, None]
