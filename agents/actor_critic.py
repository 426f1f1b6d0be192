"""Base of PPO and A2C: actor and critic, advantages, and a critic channel per signal."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from affect import Spec, TrainState, Transition
from affect.moments import NEARLY_CONSTANT, Moments, empty_moments, running_moments, whiten
from agents.convolution import Encoder, check_convolution
from agents.gae import gae
from agents.nets import ActorCritic, padded_channels

RANGES = {
    "width": (Integral, 0, math.inf),
    "gamma": (Real, 0, 1),
    "signal_gamma": (Real, 0, 1),
    "lam": (Real, 0, 1),
    "lr": (Real, 0, 1e6),
    "anneal": (Integral, 0, math.inf),
    "entropy": (Real, -1e6, 1e6),
    "critic": (Real, 0, 1e6),
    "max_norm": (Real, 0, math.inf),
    "epochs": (Integral, 1, math.inf),
    "minibatches": (Integral, 1, math.inf),
    "clip": (Real, 0, math.inf),
    "decay": (Real, 0, 1),
    "noise": (Real, 0, 1e6),
}
"""Setting of PPO, A2C or a body -> (kind of number, least, most)."""
OPTIONAL = ("signal_gamma", "anneal")  # settings that may be None


class ReturnSize(NamedTuple):
    """Number [] of returns so far, and the mean of their squares in each channel [C]."""

    number: jax.Array
    square: jax.Array


class AgentState(NamedTuple):
    """Networks and optimiser; moments of observations and size of returns, None if unused."""

    train_state: TrainState
    moments: Moments | None
    return_size: ReturnSize | None = None


class Guide(NamedTuple):
    """A teacher's policy on a batch, which an agent is to imitate (Schmitt et al., 2018).

    Attributes:
        policy: (logits or means, log deviations) of the teacher at `obs`, [T, B, A] each.
        weight: [T, B] of the cross-entropy with it in the loss (their eq. 3).
    """

    policy: tuple[jax.Array, jax.Array]
    weight: jax.Array


class Samples(NamedTuple):
    """Inputs of the loss, flattened to N = T B samples.

    Attributes:
        obs: [N, D], whitened if the agent normalises; in the loss, what the networks get of it.
        action: [N, ...] taken at `obs`.
        log_prob: [N] of `action` under the policy that took it.
        advantage: [N], summed over the channels.
        target: [N, C] of the critic, in units of its scale.
        guide: policy of a teacher; None without one.
    """

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    target: jax.Array
    guide: Guide | None


@dataclass(frozen=True)
class ActorCriticAgent:
    """Configuration and methods of an actor-critic agent; subclasses add `tx` and `update`.

    Attributes:
        width: units in each of two hidden layers; 0 for none, with which policy and values are
            linear in the observation.
        gamma: discount of the task reward.
        signal_gamma: discount of each signal's channel; None for `gamma`, as a potential needs.
        lam: trace of the advantage estimate.
        lr: step size at the start.
        anneal: updates over which it falls to 0 linearly; 0 keeps it, and so does None unless a
            training loop fills in the length of the training.
        entropy: weight of the entropy bonus.
        critic: weight of the critic's loss.
        max_norm: global norm at which a gradient is clipped.
        normalise: whiten observations by their running moments; not those with an image, whose
            brightness is divided by 255.
        convolution: layers that see the image of an observation: None for small ones that are
            chosen by its size, "nature" for those of Mnih et al. (2015), or (filters, kernel,
            stride) of each and the units of a last one, as in ((16, 8, 4), (32, 4, 2), 128).
        scale_values: let the critic predict values in units of the root mean square of the returns
            so far, a unit a channel. Then a factor on all rewards changes nothing but rounding in
            PPO, which normalises advantages.
    """

    width: int = 64
    gamma: float = 0.99
    signal_gamma: float | None = None
    lam: float = 0.95
    lr: float = 2.5e-4
    anneal: int | None = None
    entropy: float = 0.01
    critic: float = 0.5
    max_norm: float = 0.5
    normalise: bool = False
    scale_values: bool = False
    convolution: Any = None

    def __post_init__(self):
        """Checks settings; ValueError for one that is not in its range."""
        check_convolution(type(self).__name__, self.convolution)
        for name in RANGES.keys() & vars(self).keys():
            check_setting(type(self).__name__, name, getattr(self, name))

    def init(self, key: jax.Array, spec: Spec, num_signals: int = 0) -> AgentState:
        """Untrained agent for a world of shapes `spec` and K = `num_signals` signals."""
        rngs = nnx.Rngs(key)
        encoder = None if spec.image is None else Encoder(spec, self.convolution, rngs=rngs)
        net = ActorCritic(spec, self.width, num_signals, encoder, rngs=rngs)
        whitens = self.normalise and encoder is None
        moments = empty_moments((spec.obs_dim,)) if whitens else None
        channels = padded_channels(1 + num_signals)
        size = ReturnSize(jnp.zeros(()), jnp.zeros(channels)) if self.scale_values else None
        return AgentState(TrainState.create(net, self.tx()), moments, size)

    def padded_signals(self, count: int) -> int:
        """Number of signals with which the agent computes where it gets `count`, the others 0."""
        return padded_channels(1 + count) - 1

    def act(self, state: AgentState, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Samples actions [...] at obs [..., D]; the mode if `key` is None."""
        return state.train_state.net.actor.sample(key, self._features(state, obs))

    def value(self, state: AgentState, obs: jax.Array) -> jax.Array:
        """Values [..., padded_channels(1 + K)] at obs [..., D], the task's first."""
        value = state.train_state.net.critic(self._features(state, obs))
        return value * value_unit(state, value.shape)

    def tx(self) -> optax.GradientTransformation:
        """Optimiser of the networks; defined by the subclass."""
        raise NotImplementedError(f"{type(self).__name__} must implement tx(), its optimiser")

    def update_moments(self, state: AgentState, batch: Transition) -> AgentState:
        """Adds the observations of a batch [T, B] to the running moments, if normalising."""
        if state.moments is None:
            return state
        numbers, _ = _without_mask(state.moments, batch.obs)
        return state._replace(moments=running_moments(state.moments, numbers)[1])

    def policy(self, state: AgentState, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Policy at obs [..., D]: logits or means [..., A], and log deviations [..., A]."""
        return state.train_state.net.actor.policy(self._features(state, obs))

    def samples(
        self, state: AgentState, batch: Transition, signals: jax.Array, guide: Guide | None = None
    ) -> tuple[AgentState, Samples]:
        """Computes advantages and targets of a batch [T, B] with signals [T, B, K], flattened.

        The size of returns in the state that is returned with them includes this batch.
        """
        obs, next_obs = self._whiten(state, batch.obs), self._whiten(state, batch.next_obs)
        net = state.train_state.net
        features, next_features = net.encode(obs), net.encode(next_obs)
        channels = jnp.concatenate([batch.reward[..., None], signals], -1)
        unused = padded_channels(channels.shape[-1]) - channels.shape[-1]
        reward = jnp.pad(channels, ((0, 0), (0, 0), (0, unused)))
        gamma = self.gamma if self.signal_gamma is None else self.signal_gamma
        gammas = jnp.array([self.gamma] + [gamma] * (reward.shape[-1] - 1))
        ends = batch.terminated, batch.truncated
        if self.scale_values:
            zero = jnp.zeros_like(reward)
            returns = gae(reward, zero, zero, *ends, gammas, 1.0)
            state = state._replace(return_size=_add_returns(state.return_size, returns))
        unit = value_unit(state, reward.shape)
        value, next_value = net.critic(features) * unit, net.critic(next_features) * unit
        advantage = gae(reward, value, next_value, *ends, gammas, self.lam)
        log_prob, _ = net.actor.log_prob(features, batch.action)
        target = (advantage + value) / unit
        samples = Samples(obs, batch.action, log_prob, advantage.sum(-1), target, guide)
        return state, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), samples)

    def total_loss(
        self, net: ActorCritic, samples: Samples, policy: jax.Array, entropy: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Weighted sum of the losses of policy [], critic and entropy [N] -> (scalar, metrics).

        `samples.obs` is what the networks get: `net.encode` of those of `samples`.
        """
        critic = 0.5 * jnp.square(net.critic(samples.obs) - samples.target).sum(-1).mean()
        loss = policy + self.critic * critic - self.entropy * entropy.mean()
        metrics = {"critic": critic, "entropy": entropy.mean()}
        if samples.guide is not None:
            imitation = net.actor.cross_entropy(samples.obs, samples.guide.policy)
            loss = loss + (samples.guide.weight * imitation).mean()
            metrics["imitation"] = imitation.mean()
        return loss, {"loss": loss} | metrics

    def _whiten(self, state: AgentState, obs: jax.Array) -> jax.Array:
        if state.moments is None:
            return obs
        numbers, mask = _without_mask(state.moments, obs)
        whitened = whiten(state.moments, numbers, 10.0, NEARLY_CONSTANT)
        return whitened if mask is None else jnp.concatenate([whitened, mask], -1)

    def _features(self, state: AgentState, obs: jax.Array) -> jax.Array:
        return state.train_state.net.encode(self._whiten(state, obs))


def check_setting(agent: str, name: str, value: Any) -> None:
    """Checks a setting of RANGES, unless it is traced by JAX, or a schedule of the step size.

    Raises:
        ValueError: for another type or a value outside the range.
    """
    if (value is None and name in OPTIONAL) or isinstance(value, jax.Array) or callable(value):
        return
    kind, least, most = RANGES[name]
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        number = "whole number" if kind is Integral else "number"
        raise ValueError(
            f"{agent}: {name}={value!r}, expected a {number} from {least:g} to {most:g}"
        )


def _without_mask(moments: Moments, obs: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """The numbers of observations, of which there are moments, and the mask after them, or None."""
    count = moments.mean.shape[-1]
    return (obs, None) if count == obs.shape[-1] else (obs[..., :count], obs[..., count:])


def _add_returns(size: ReturnSize, returns: jax.Array) -> ReturnSize:
    """Size of the returns so far with those of a batch, [T, B, C]."""
    added = returns.shape[0] * returns.shape[1]
    number = size.number + added
    square = size.square + (jnp.square(returns).mean((0, 1)) - size.square) * (added / number)
    return ReturnSize(number, square)


def value_unit(state: AgentState, shape: tuple[int, ...]) -> jax.Array | float:
    """Unit of each channel of the critic, as [..., C]; 1 where all returns were 0, or if unused."""
    if state.return_size is None:
        return 1.0
    square = state.return_size.square
    return jnp.broadcast_to(jnp.where(square > 0, jnp.sqrt(square), 1.0), shape)
