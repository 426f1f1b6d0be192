"""Blend: named, weighted heads; computes their signals and trains them by `affect.learn`."""

import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from affect.checks import (
    Shapes,
    check_batch,
    check_finite,
    check_key,
    check_returned,
    check_spec,
    finite_batch,
    only_finite,
)
from affect.head import Head, HeadFactory, build, check_factory
from affect.learn import HeadState
from affect.observation import read, read_spec
from affect.transition import Spec, Transition, is_a, is_whole, one_line

HEAD_OPTIMISER = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(1e-2))
EPOCHS = 2  # where nobody gives another number


class BlendState(NamedTuple):
    """State of a blend of K heads, in the blend's order.

    Attributes:
        heads: name -> the head as it is read and as it is trained.
        carry: name -> the state that the head carries across steps.
        weights: [K], each multiplies a signal.
        shapes: what the heads were built for; no leaves.
    """

    heads: dict[str, HeadState]
    carry: dict[str, Any]
    weights: jax.Array
    shapes: Shapes


class Blend:
    """Named, weighted heads; an empty blend is the control, as if there were no affect code.

    Each head has its own optimiser state and a key derived from its name, so a head is
    initialised and trained alike whatever else is in the blend.

    >>> from affect import Fear, Hope, Potential
    >>> Blend(fear=(0.5, Fear), hope=(1.0, Potential(Hope))).names
    ('fear', 'hope')

    Args:
        tx: the heads' optimiser (each head clips its own gradient).
        epochs: gradient steps of each head on each batch. A head needs about a thousand of them
            before it predicts anything, so few large batches need many. None: 2, or as many as a
            training loop sets (`with_epochs`).
        **heads: name=(weight, factory).

    Raises:
        ValueError: for a head that is not a (weight, factory) pair, a weight that is no finite
            number, or settings of another type.
    """

    def __init__(
        self,
        tx: optax.GradientTransformation = HEAD_OPTIMISER,
        epochs: int | None = None,
        **heads: tuple[float, HeadFactory],
    ):
        if not isinstance(tx, optax.GradientTransformation):
            raise ValueError(
                f"tx is an optax optimiser, not {one_line(tx)}: heads are named, as in "
                "fear=(0.5, Fear), and have other names than tx and epochs"
            )
        if epochs is not None and not (is_whole(epochs) and epochs >= 0):
            raise ValueError(f"epochs is a number of gradient steps, at least 0, not {epochs!r}")
        for name, term in heads.items():
            check_term(name, term)
        self.tx, self.epochs, self.heads = tx, epochs, heads

    def __reduce__(self) -> tuple:
        tx = {} if self.tx == HEAD_OPTIMISER else {"tx": self.tx}  # its functions have no names
        return partial(type(self), epochs=self.epochs, **tx, **self.heads), ()

    def with_epochs(self, epochs: int) -> "Blend":
        """The same heads with this number of epochs, unless one was given."""
        return self if self.epochs is not None else Blend(self.tx, epochs, **self.heads)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the signals, in order."""
        return tuple(self.heads)

    @property
    def rule(self) -> tuple[Any, ...]:
        """All that `update` depends on beside the state: names, optimiser and epochs.

        Blends of one rule share a compiled program where their states have one structure, as do
        those that differ in weights, in `Constant` or in the scale and shift of a `Potential`.
        """
        return self.names, self.tx, self.epochs

    def init(self, key: jax.Array, spec: Spec, num_envs: int) -> BlendState:
        """Builds the heads and their initial states for `num_envs` = B environments.

        Raises:
            ValueError: a head of known sign has a negative weight, there is no environment, or
                key or spec is none.
            MissingInfo: a head reads an `info` key that the world does not report.
        """
        if not is_whole(num_envs) or num_envs < 1:
            raise ValueError(f"a blend needs at least 1 environment, not num_envs={num_envs!r}")
        check_spec(spec)
        check_key(key)
        inner = read_spec(spec)
        nets = {name: build(head, inner, _head_key(key, name)) for name, _, head in self._terms()}
        for name, weight, _ in self._terms():
            if nets[name].sign and weight < 0:
                never = "positive" if nets[name].sign < 0 else "negative"
                raise ValueError(
                    f"{name} is never {never} and a weight of {weight} would turn it into its "
                    f"opposite: give it a weight of at least 0"
                )
        carry = {name: net.initial_state(num_envs) for name, net in nets.items()}
        weights = jnp.array([float(weight) for _, weight, _ in self._terms()], jnp.float32)
        heads = {name: HeadState.create(net, self.tx) for name, net in nets.items()}
        return BlendState(heads, carry, weights, Shapes(spec, num_envs, self.names))

    def feel(
        self, blend_state: BlendState, batch: Transition, active: jax.Array | None = None
    ) -> tuple[jax.Array, BlendState]:
        """Computes the weighted signals of a batch -> (signals [T, B, K], blend state).

        Args:
            blend_state: of the heads.
            batch: experience [T, B]. What is not finite in it counts as 0
                (`affect.checks.finite_batch`).
            active: [K]; a head whose entry is 0 is not computed: its signal is 0 and the state it
                carries stays as it is. None computes all.

        A signal that is not finite counts as 0.

        Raises:
            ValueError: a batch of other shapes or dtypes than those of `init`, the state of
                another blend, or a head that does not return (signal [T, B], state).
        """
        expected = (len(self.names),)
        if active is not None and jnp.shape(active) != expected:
            raise ValueError(f"active has the shape {jnp.shape(active)}, expected {expected}")
        return self._feel(blend_state, self._checked(blend_state, batch)[0], active)[:2]

    def learn(self, blend_state: BlendState, batch: Transition) -> tuple[BlendState, dict]:
        """Trains each head on a batch -> (blend state, metrics).

        `blend_state` must be the one from *before* `feel` was called on the batch.

        Raises:
            ValueError: a batch of other shapes or dtypes than those of `init`.
        """
        batch, skipped = self._checked(blend_state, batch)
        blend_state, head_metrics = self._learn(blend_state, batch)
        return blend_state, _share(skipped) | head_metrics

    def update(
        self, blend_state: BlendState, batch: Transition
    ) -> tuple[jax.Array, BlendState, dict]:
        """Computes signals, then trains the heads -> (signals [T, B, K], blend state, metrics).

        The signals come from the heads as they were before training on this batch. Metrics are, by
        head, the mean `signal` and those of its loss, and `heads/skipped`, the share of steps with
        a number that is not finite or beyond `affect.checks.LIMIT`, or a signal that is not finite:
        that counts as 0, and the mean `signal` of its head is not finite, so that it is noticed.

        Raises:
            ValueError: a batch of other shapes or dtypes than those of `init`.
        """
        batch, skipped = self._checked(blend_state, batch)
        signals, after_batch, as_given = self._feel(blend_state, batch)
        after_training, head_metrics = self._learn(blend_state, batch)
        wrong = ~jnp.isfinite(as_given).all(-1)
        metrics = _share(skipped if skipped is None else skipped | wrong)
        for k, name in enumerate(self.names):
            metrics[f"{name}/signal"] = as_given[..., k].mean()
        after = after_training._replace(carry=after_batch.carry)
        return signals, after, metrics | head_metrics

    def _checked(
        self, blend_state: BlendState, batch: Transition
    ) -> tuple[Transition, jax.Array | None]:
        """Checks state and batch, removes what is not finite -> (batch, such steps [T, B]).

        Its observations are then those that heads read (`affect.observation.read`). With no heads
        the batch stays as it is, and the steps are None.
        """
        if not self.heads:
            return batch, None
        if not is_a(blend_state, BlendState) or blend_state.shapes.names != self.names:
            got = one_line(getattr(getattr(blend_state, "shapes", None), "names", blend_state))
            raise ValueError(
                f"the state is of {got}, expected the state of a blend of the heads {self.names}, "
                "in this order, as its init gives it: (state, batch)"
            )
        shapes = blend_state.shapes
        return finite_batch(read(shapes.spec, check_batch(batch, shapes)))

    def _feel(
        self, blend_state: BlendState, batch: Transition, active: jax.Array | None = None
    ) -> tuple[jax.Array, BlendState, jax.Array]:
        """Computes the weighted signals of a checked batch.

        Returns:
            (signals [T, B, K], blend state, the signals before what is not finite was set to 0).
        """
        signals, carry = [], {}
        for k, name in enumerate(self.names):
            compute = partial(_signal, name, blend_state, batch)
            if active is None:
                signal, carry[name] = compute()
            else:
                skip = partial(_no_signal, batch, blend_state.carry[name])
                signal, carry[name] = jax.lax.cond(active[k] != 0, compute, skip)
            signals.append(signal)
        if not signals:
            none = jnp.zeros((*batch.reward.shape, 0))
            return none, blend_state, none
        stacked = jax.lax.stop_gradient(jnp.stack(signals, -1))
        weights = jnp.broadcast_to(blend_state.weights, stacked.shape)
        weighted = stacked * weights
        return only_finite(weighted), blend_state._replace(carry=carry), weighted

    def _learn(self, blend_state: BlendState, batch: Transition) -> tuple[BlendState, dict]:
        """Trains each head on a checked batch -> (blend state, metrics)."""
        heads: dict[str, HeadState] = {}
        metrics: dict[str, jax.Array] = {}
        for name in self.names:
            heads[name], head_metrics = self._train_head(
                name, blend_state.heads[name], blend_state.carry[name], batch
            )
            metrics |= {f"{name}/{key}": value for key, value in head_metrics.items()}
        return blend_state._replace(heads=heads), metrics

    def _train_head(
        self, name: str, head: HeadState, carry: Any, batch: Transition
    ) -> tuple[HeadState, dict[str, jax.Array]]:
        """Takes `epochs` gradient steps on a head's loss; none if it has no parameters."""

        def loss(net: Head) -> tuple[jax.Array, dict[str, jax.Array]]:
            return check_returned(f"the loss of {name}", net.loss(carry, batch), (), dict)

        def step(head: HeadState, _: None) -> tuple[HeadState, dict[str, jax.Array]]:
            return head.step(self.tx, loss)

        epochs = EPOCHS if self.epochs is None else self.epochs
        if epochs and not jax.tree.leaves(head.trained.net):
            jax.eval_shape(loss, head.trained.net)  # checks what it returns
            epochs = 0
        if epochs == 0:
            return head, {}
        head, metrics = jax.lax.scan(step, head, length=epochs)
        return head, jax.tree.map(lambda metric: metric[-1], metrics)

    def _terms(self) -> Iterator[tuple[str, float, HeadFactory]]:
        return ((name, weight, head) for name, (weight, head) in self.heads.items())


def check_term(name: str, term: Any) -> None:
    """Checks that a head of a blend is given as (weight, factory).

    Raises:
        ValueError: naming the head and what is wrong with it.
    """
    if not (isinstance(term, tuple) and len(term) == 2 and callable(term[1])):
        raise ValueError(f"{name} must be (weight, head), as in {name}=(0.5, Fear)")
    weight, factory = term
    check_finite(f"{name} has a weight", weight)
    check_factory(factory, f"{name}=({weight}, ...)")


def _head_key(key: jax.Array, name: str) -> jax.Array:
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _share(skipped: jax.Array | None) -> dict[str, jax.Array]:
    """Metrics of the steps [T, B] that are left out."""
    return {} if skipped is None else {"heads/skipped": skipped.mean()}


def _signal(name: str, blend_state: BlendState, batch: Transition) -> tuple[jax.Array, Any]:
    """Signal [T, B] of one head, not weighted, and the state it carries."""
    output = blend_state.heads[name].net(blend_state.carry[name], batch)
    return check_returned(name, output, batch.reward.shape)


def _no_signal(batch: Transition, carry: Any) -> tuple[jax.Array, Any]:
    return jnp.zeros_like(batch.reward), carry
