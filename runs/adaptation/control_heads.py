"""What a feeling is up against where nobody pays: heads that learn beside it from the same batches.

`SignalDifference` is how a feeling is paid there. A potential that is 0 beyond the end (`affect.Potential`)
adds up to -phi(first obs) over any episode, whatever is done in it: beside a task reward that is
its merit, alone it teaches nothing. So here the end is felt like any other step, and an episode
adds up to gamma^T phi(last obs) - phi(first obs): what the feeling says of how it ended.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Blend, BlendState, Factory, Head, Potential, Spec, Transition
from affect.head import State
from affect.predict import Predictor, harm
from affect.shaping import before_first_step
from affect.wrappers import Wrapper, wrapper
from agents.nets import Critic


@wrapper
class SignalDifference(Potential.__wrapped__):
    """gamma phi(next_obs) - phi(obs), the last step included (Ng, Harada & Russell, 1999).

    For heads that carry nothing from step to step, as reading `obs` must not change them.
    """

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The difference, [T, B]."""
        emitted, inner = state
        at_obs, _ = self.inner(inner, before_first_step(batch))
        ahead, inner = self.inner(inner, batch)
        here = jnp.where(batch.first, at_obs, jnp.concatenate([emitted[None], ahead[:-1]]))
        return self.gamma * ahead - here, (ahead[-1], inner)


@wrapper
class WithoutAnchors(Wrapper):
    """A head of `affect.predict` that learns as an ordinary value does: never at an end itself.

    The targets of the steps before an end are the same; what it says of the terminal observation
    is whatever its weights make of it.
    """

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The signal of the inner head, [T, B]."""
        return self.inner(state, batch)

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The error of the temporal difference, without that of the ends."""
        _, metrics = self.inner.loss(state, batch)
        return metrics["error"], metrics


@wrapper
class WithLabelNoise(Wrapper):
    """A head that is told the opposite of a share of all ends: harm for none, -reward for reward.

    The same end is always told in the same way, and what is told wrong at a share is told wrong at
    any larger one: whether it is follows from the observation's bits.

    Args:
        head: that learns from it, a factory.
        share: of the ends, in [0, 1].
    """

    def __init__(self, spec: Spec, head: Factory, share: float, *, rngs: nnx.Rngs):
        super().__init__(spec, head, rngs=rngs)
        self.share = share

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The signal of the inner head, [T, B]."""
        return self.inner(state, batch)

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What the inner head learns from what it is told."""
        return self.inner.loss(state, flip_outcomes(batch, self.share))


def flip_outcomes(batch: Transition, share: float) -> Transition:
    """The batch with the outcome of a share of its terminal steps turned into its opposite."""
    bits = jax.lax.bitcast_convert_type(batch.next_obs, jnp.uint32)
    odd = 2 * jnp.arange(bits.shape[-1], dtype=jnp.uint32) + jnp.uint32(2654435769)
    seeds = (bits * jnp.broadcast_to(odd, bits.shape)).sum(-1)
    draw = jax.vmap(jax.vmap(lambda seed: jax.random.uniform(jax.random.key(seed))))
    wrong = batch.terminated & (draw(seeds) < share)
    harmed = jnp.where(wrong, ~harm(batch), harm(batch)).astype(batch.reward.dtype)
    reward = jnp.where(wrong, -batch.reward, batch.reward)
    return batch._replace(reward=reward, info={**batch.info, "harm": harmed})


class LearnedReward(Head):
    """The task's reward, clipped to +-1, as a small network reads it from the next observation.

    The plain way to go on without a reward: learn what was paid, and pay it yourself. Ends weigh as
    much as all other steps together, lest a network of rare rewards learn that there are none.

    Args:
        spec: of the world.
        width: hidden units.
        ends: learn from ends alone, and pay at ends alone: a classifier of outcomes.
        rngs: for the initial weights.
    """

    def __init__(self, spec: Spec, width: int = 16, ends: bool = False, *, rngs: nnx.Rngs):
        self.predictor, self.ends = Predictor(spec, 1, width, low=-1.0, rngs=rngs), ends

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The reward that it expects, [T, B]; 0 before the end if it knows ends alone."""
        said = jax.lax.stop_gradient(self.predictor(batch.next_obs))
        return jnp.where(batch.terminated | (not self.ends), said, 0.0), state

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross-entropy of the reward, the mean over ends and the mean over the rest."""
        each = self.predictor.error(batch.next_obs, jnp.clip(batch.reward, -1.0, 1.0))
        error = _mean(each, batch.terminated)
        if not self.ends:
            error = error + _mean(each, ~batch.terminated)
        return error, {"error": error}


class ParentCritic(Head):
    """The agent's own critic as it was, to be a potential: `insert_critic` fills it in.

    Args:
        spec: of the world.
        width: of the agent's networks.
        rngs: for weights that `insert_critic` replaces.
    """

    def __init__(self, spec: Spec, width: int = 64, *, rngs: nnx.Rngs):
        self.critic = Critic(spec, width, 0, rngs=rngs)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The value [T, B] of the task at `next_obs`."""
        return jax.lax.stop_gradient(self.critic(batch.next_obs)[..., 0]), state


def insert_critic(blend_state: BlendState, blend: Blend, critic: Critic) -> BlendState:
    """The feelings with a critic in the place of every `ParentCritic`; leaves of any leading axes."""
    heads = {name: jax.tree.map(lambda leaf: leaf, one) for name, one in blend_state.heads.items()}
    for name in blend.names:
        net = heads[name].net
        while isinstance(net, Wrapper):
            net = net.inner
        if isinstance(net, ParentCritic):
            net.critic = jax.tree.map(lambda leaf: leaf, critic)
    return blend_state._replace(heads=heads)


def _mean(x: jax.Array, counted: jax.Array) -> jax.Array:
    return jnp.where(counted, x, 0.0).sum() / jnp.maximum(counted.sum(), 1)
