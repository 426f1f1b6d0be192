"""Heads of control arms: potential differences, learned reward, frozen critic, wrong outcomes.

`SignalDifference` turns a head into a reward. A potential that is 0 beyond the end of an episode
(`affect.Potential`) sums to -phi(first obs) over any episode, whatever the actions: beside a task
reward that is its merit, alone it teaches nothing. So here the last step is treated like any other,
and an episode sums to gamma^T phi(last obs) - phi(first obs): the head's value of its end.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Blend, BlendState, Head, HeadFactory, Potential, Spec, Transition
from affect.head import State
from affect.predict import Predictor, harm
from affect.shaping import before_first_step
from affect.wrappers import Wrapper
from agents.body import observation_hash
from agents.nets import Critic


class SignalDifference(Potential):
    """gamma phi(next_obs) - phi(obs), the last step included (Ng, Harada & Russell, 1999).

    Only for heads that carry no state from step to step, as evaluating `obs` must not change them.
    """

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The difference of potentials, [T, B]."""
        last, inner = state
        at_obs, _ = self.inner(inner, before_first_step(batch))
        ahead, inner = self.inner(inner, batch)
        at_obs, ahead = self.phi(at_obs), self.phi(ahead)
        potential = jnp.where(batch.first, at_obs, jnp.concatenate([last[None], ahead[:-1]]))
        return self.gamma * ahead - potential, (ahead[-1], inner)


class WithoutAnchors(Wrapper):
    """A head of `affect.predict` without the terminal loss: it learns by TD alone.

    The targets of the steps before an end stay the same; the signal at a terminal observation is
    extrapolation.
    """

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The signal of the inner head, [T, B]."""
        return self.inner(state, batch)

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of the temporal differences, without that of terminal steps."""
        _, metrics = self.inner.loss(state, batch)
        return metrics["error"], metrics


class WithLabelNoise(Wrapper):
    """A head trained with flipped outcomes (harm, reward) at a share of all terminal steps.

    The same end is always flipped in the same way, and an end that is flipped at one share is
    flipped at any larger one: the draw is a hash of the observation's bits.

    Args:
        head: that is trained, a factory.
        share: of the ends, in [0, 1].
    """

    def __init__(self, spec: Spec, head: HeadFactory, share: float, *, rngs: nnx.Rngs):
        super().__init__(spec, head, rngs=rngs)
        self.share = share

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The signal of the inner head, [T, B]."""
        return self.inner(state, batch)

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of the inner head on the batch with flipped outcomes."""
        return self.inner.loss(state, flip_outcomes(batch, self.share))


def flip_outcomes(batch: Transition, share: float) -> Transition:
    """Flip harm and reward at a share of the terminal steps of a batch [T, B]."""
    draw = jax.vmap(jax.vmap(lambda seed: jax.random.uniform(jax.random.key(seed))))
    flipped = batch.terminated & (draw(observation_hash(batch.next_obs)) < share)
    harmed = jnp.where(flipped, ~harm(batch), harm(batch)).astype(batch.reward.dtype)
    reward = jnp.where(flipped, -batch.reward, batch.reward)
    return batch._replace(reward=reward, info={**batch.info, "harm": harmed})


class LearnedReward(Head):
    """Predict the task reward, clipped to +-1, from the next observation with a small network.

    The plain substitute for a missing reward: a learned model of it. Terminal steps weigh as much
    as all other steps together, so that a network of rare rewards does not predict 0 everywhere.

    Args:
        spec: of the environment.
        width: hidden units.
        ends: learn from terminal steps alone, and emit at terminal steps alone: a classifier of
            outcomes.
        rngs: for the initial weights.
    """

    def __init__(self, spec: Spec, width: int = 16, ends: bool = False, *, rngs: nnx.Rngs):
        self.predictor, self.ends = Predictor(spec, 1, width, low=-1.0, rngs=rngs), ends

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The predicted reward, [T, B]; 0 before the end if `ends` is set."""
        reward = jax.lax.stop_gradient(self.predictor(batch.next_obs))
        return jnp.where(batch.terminated | (not self.ends), reward, 0.0), state

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross-entropy of the reward: mean over terminal steps plus mean over the rest."""
        errors = self.predictor.error(batch.next_obs, jnp.clip(batch.reward, -1.0, 1.0))
        error = _mean(errors, batch.terminated)
        if not self.ends:
            error = error + _mean(errors, ~batch.terminated)
        return error, {"error": error}


class ParentCritic(Head):
    """The agent's critic from training at home, frozen, as a head; `insert_critic` fills it in.

    Args:
        spec: of the environment.
        width: of the agent's networks.
        rngs: for weights that `insert_critic` replaces.
    """

    def __init__(self, spec: Spec, width: int = 64, *, rngs: nnx.Rngs):
        self.critic = Critic(spec, width, 0, rngs=rngs)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The value [T, B] of the task at `next_obs`."""
        return jax.lax.stop_gradient(self.critic(batch.next_obs)[..., 0]), state


def insert_critic(blend_state: BlendState, blend: Blend, critic: Critic) -> BlendState:
    """Replace the critic of every `ParentCritic` of a blend; leaves of any leading axes.

    Of the critic's channels as many are used as the `ParentCritic` has, the task's first.
    """
    heads = {
        name: jax.tree.map(lambda leaf: leaf, head) for name, head in blend_state.heads.items()
    }
    for name in blend.names:
        for net in (heads[name].net, heads[name].trained.net):  # as read and as trained
            inner = net.alone()
            if isinstance(inner, ParentCritic):
                inner.critic = _first_channels(critic, inner.critic)
    return blend_state._replace(heads=heads)


def _mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask, x, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def _first_channels(critic: Critic, like: Critic) -> Critic:
    """The critic with only as many of its first channels as `like` has."""
    own, structure = jax.tree.flatten(like)
    leaves = zip(jax.tree.leaves(critic), own, strict=True)
    return jax.tree.unflatten(structure, [leaf[..., : x.shape[-1]] for leaf, x in leaves])
