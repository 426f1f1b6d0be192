"""A blend: named, weighted feelings, and what happens to them when experience arrives."""

import math
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from affect.head import Factory, build, per_env
from affect.learn import TrainState, gradient_step
from affect.transition import Spec, Transition

HEAD_OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))


class BlendState(NamedTuple):
    """Everything of a blend that changes; K heads, in the blend's order.

    Attributes:
        heads: name -> the head and its optimiser's state.
        carry: name -> what the head carries across steps.
        weights: [K], each multiplies a signal.
    """

    heads: dict[str, TrainState]
    carry: dict[str, Any]
    weights: jax.Array


class Blend:
    """A vector of named signals. An empty blend is the control: as if there were no affect code.

    Each head has its own optimiser state, and its own key by name, so a head is initialised and
    trained alike whatever else is in the blend.

    >>> from affect import Fear, Hope, Potential
    >>> Blend(fear=(0.5, Fear), hope=(1.0, Potential(Hope))).names
    ('fear', 'hope')

    Args:
        tx: the heads' optimiser (each head clips its own gradient).
        epochs: passes of each head over each batch.
        parts: into which a pass divides the environments, a gradient step each; fewer where they
            do not divide so. Few large batches want many parts: a head needs about a thousand
            steps before it knows anything.
        **heads: name=(weight, factory).

    Raises:
        ValueError: for a head that is not a (weight, factory) pair.
    """

    def __init__(
        self,
        tx: optax.GradientTransformation = HEAD_OPTIMISER,
        epochs: int = 2,
        parts: int = 1,
        **heads: tuple[float, Factory],
    ):
        for name, term in heads.items():
            if not (isinstance(term, tuple) and len(term) == 2 and callable(term[1])):
                raise ValueError(f"{name} must be (weight, head), as in {name}=(0.5, Fear)")
        self.tx, self.epochs, self.parts, self.heads = tx, epochs, parts, heads

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the signals, in order."""
        return tuple(self.heads)

    def init(self, key: jax.Array, spec: Spec, num_envs: int) -> BlendState:
        """Builds the heads for a world with `num_envs` = B environments.

        Raises:
            ValueError: a head of known sign has a negative weight.
            MissingInfo: a head reads what the world does not report.
        """
        nets = {name: build(head, spec, _head_key(key, name)) for name, _, head in self._terms()}
        for name, weight, _ in self._terms():
            if nets[name].sign and weight < 0:
                never = "positive" if nets[name].sign < 0 else "negative"
                raise ValueError(
                    f"{name} is never {never} and a weight of {weight} would turn it into its "
                    f"opposite: give it a weight of at least 0"
                )
        carry = {name: net.initial_state(num_envs) for name, net in nets.items()}
        weights = jnp.array([weight for _, weight, _ in self._terms()], jnp.float32)
        return BlendState(
            {n: TrainState.create(net, self.tx) for n, net in nets.items()}, carry, weights
        )

    def feel(self, blend_state: BlendState, batch: Transition) -> tuple[jax.Array, BlendState]:
        """What a batch feels like -> (signals [T, B, K], feelings); nothing is learned."""
        felt = {n: blend_state.heads[n].net(blend_state.carry[n], batch) for n in self.names}
        if not felt:
            return jnp.zeros((*batch.reward.shape, 0)), blend_state
        signals = jnp.stack([signal for signal, _ in felt.values()], -1)
        carry = {name: state for name, (_, state) in felt.items()}
        weights = jnp.broadcast_to(blend_state.weights, signals.shape)
        return jax.lax.stop_gradient(signals) * weights, blend_state._replace(carry=carry)

    def learn(self, blend_state: BlendState, batch: Transition) -> tuple[BlendState, dict]:
        """Each head takes its gradient steps on a batch -> (feelings, metrics).

        Give it the feelings as they were *before* they felt the batch.
        """
        heads: dict[str, TrainState] = {}
        metrics: dict[str, jax.Array] = {}
        for name in self.names:
            heads[name], learned = self._learn_one(
                blend_state.heads[name], blend_state.carry[name], batch
            )
            metrics |= {f"{name}/{key}": value for key, value in learned.items()}
        return blend_state._replace(heads=heads), metrics

    def update(
        self, blend_state: BlendState, batch: Transition
    ) -> tuple[jax.Array, BlendState, dict]:
        """Feels, then learns -> (signals [T, B, K], feelings, metrics).

        A feeling answers to what happened before it learns from it.
        """
        signals, felt = self.feel(blend_state, batch)
        learned, metrics = self.learn(blend_state, batch)
        for k, name in enumerate(self.names):
            metrics[f"{name}/signal"] = signals[..., k].mean()
        return signals, learned._replace(carry=felt.carry), metrics

    def _learn_one(
        self, trained: TrainState, carry: Any, batch: Transition
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Gradient steps on one part of the environments after another."""
        count = batch.reward.shape[1]
        parts = math.gcd(self.parts, count)
        own = per_env(trained.net)

        def cut(leaf: jax.Array, axis: int, index: jax.Array) -> jax.Array:
            size = count // parts
            return jax.lax.dynamic_slice_in_dim(leaf, index * size, size, axis)

        def step(trained: TrainState, index: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
            some = jax.tree.map(lambda leaf: cut(leaf, 1, index), batch)
            held = jax.tree.map(lambda own, x: cut(x, 0, index) if own else x, own, carry)
            return gradient_step(trained, self.tx, lambda net: net.loss(held, some))

        order = jnp.tile(jnp.arange(parts), self.epochs)
        trained, metrics = jax.lax.scan(step, trained, order)
        return trained, jax.tree.map(lambda metric: metric[-1], metrics)

    def _terms(self) -> Iterator[tuple[str, float, Factory]]:
        return ((name, weight, head) for name, (weight, head) in self.heads.items())


def _head_key(key: jax.Array, name: str) -> jax.Array:
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
