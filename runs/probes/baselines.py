"""Baseline signals that a head is compared with: critics, other sizes, ensembles, innate features.

Each baseline is a head in the same blend, without effect on the agent, or a `Prediction`. All heads
learn from the same experience with the same optimiser, and all signals are evaluated at the same
steps.

The number of gradient steps is that of the heads in a comparison. It matters: in a run of four
seeds of Drive with two whole-batch steps an update, 104 in all, the fear head of 16 units ranked
harm below chance at home (AUROC .30) and larger ones did not (.81), so that size would only have
measured speed of learning.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Blend, Fear, Head, HeadFactory, Hope, Lesion, Spec, Transition, build
from affect.head import State
from affect.predict import GVFTargets, Predictor, lambda_returns
from agents.nets import Trunk, dense
from envs.suite import Suite
from runs.probes.signals import Prediction, read_signal

SIZES: dict[str, tuple[int, ...]] = {
    "fear_linear": (),
    "fear_16": (16,),
    "fear_64_64": (64, 64),
    "fear_256_256": (256, 256),
}
"""Hidden layers of each fear head; the second has the architecture of `affect.Fear`."""

MEMBERS = 5  # heads in the ensemble, each with 16 units
ENSEMBLE = tuple(f"member_{i}" for i in range(MEMBERS))
PROGRESS = {"Drive": (3, 4), "Timid": (3, 4)}
"""Observation indices of progress and time in suites that have them; else steps are counted."""


class DeepPredictor(Predictor):
    """Predictor (sigmoid output) with any number of tanh hidden layers.

    Args:
        spec: of the world.
        horizon: in steps, at least 1.
        hidden: units of each hidden layer; empty for a linear predictor.
        rngs: for the initial weights.
    """

    def __init__(self, spec: Spec, horizon: float, hidden: tuple[int, ...], *, rngs: nnx.Rngs):
        self.gamma, self.low = 1 - 1 / horizon, 0.0
        sizes = (spec.obs_dim, *hidden)
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        self.hidden = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairs])
        self.out = nnx.Linear(sizes[-1], 1, rngs=rngs)

    def logit(self, obs: jax.Array) -> jax.Array:
        """Logit of the prediction, [..., D] -> [...]."""
        for hidden in self.hidden:
            obs = jnp.tanh(hidden(obs))
        return self.out(obs)[..., 0]


class SizedFear(Fear):
    """`Fear` head with other hidden layers; loss, anchors and horizon are unchanged."""

    def __init__(self, spec: Spec, hidden: tuple[int, ...], horizon: float = 10, *, rngs: nnx.Rngs):
        self.predictor = DeepPredictor(spec, horizon, hidden, rngs=rngs)


class ValueHead(Head):
    """Critic of the task's reward with its own horizon; its signal is V(next_obs), in reward.

    Trained by TD(lambda) on squared error, with value 0 after termination and no anchor at terminal
    observations, as a critic. It differs from `Fear` of the same horizon in what it predicts.

    Args:
        spec: of the world.
        horizon: in steps; the discount is 1 - 1 / horizon.
        width: units in each hidden layer.
        deep: two hidden layers, as the agent's critic has; otherwise one.
        rngs: for the initial weights.
    """

    def __init__(
        self, spec: Spec, horizon: float = 10, width: int = 64, deep: bool = True, *, rngs: nnx.Rngs
    ):
        self.gamma = 1 - 1 / horizon
        self.trunk = (
            Trunk(spec.obs_dim, width, rngs=rngs) if deep else dense(spec.obs_dim, width, 1.0, rngs)
        )
        self.deep = deep
        self.out = dense(width, 1, 1.0, rngs)

    def value(self, obs: jax.Array) -> jax.Array:
        """Value estimate of observations, [..., D] -> [...]."""
        features = self.trunk(obs)
        return self.out(features if self.deep else jnp.tanh(features))[..., 0]

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Value estimate [T, B] at `next_obs`, without gradient, and the unchanged state."""
        return jax.lax.stop_gradient(self.value(batch.next_obs)), state

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean squared TD(lambda) error of the reward -> (scalar, metrics)."""
        zeros = jnp.zeros_like(batch.reward)
        targets = GVFTargets(
            batch.reward, batch.terminated, zeros, batch.terminated | batch.truncated
        )
        ahead = jnp.where(batch.terminated, 0.0, self.value(batch.next_obs))
        target = jax.lax.stop_gradient(lambda_returns(targets, ahead, self.gamma))
        error = 0.5 * jnp.square(self.value(batch.obs) - target).mean()
        return error, {"error": error}


def baseline_blend(name: str, head: HeadFactory, horizon: int) -> Blend:
    """Blend of a head and its baselines, none of which pays the agent (each is in a `Lesion`).

    Args:
        name: of the head.
        head: its factory, without wrappers.
        horizon: of the predicted event, in steps.
    """
    sized = {size: partial(SizedFear, hidden=hidden) for size, hidden in SIZES.items()}
    fears = sized | {member: Fear for member in ENSEMBLE}
    heads = {name: head} | {key: partial(fear, horizon=horizon) for key, fear in fears.items()}
    heads["short_critic"] = partial(ValueHead, horizon=horizon)
    heads["short_critic_16"] = partial(ValueHead, horizon=horizon, width=16, deep=False)
    heads |= {"hope": Hope} if name != "hope" else {}
    return Blend(**{key: (1.0, Lesion(factory)) for key, factory in heads.items()})


def sub_blend(blend: Blend, names: tuple[str, ...]) -> Blend:
    """Blend of some heads of another blend; they start from the same weights as in it."""
    heads = {name: blend.heads[name] for name in names}
    return Blend(blend.tx, blend.epochs, **heads)


def as_alarm(head: Head, signal: Prediction) -> Prediction:
    """Orient a signal so that it is high where harm is expected.

    The signal of a head is pay, so low values are bad and the sign is turned. Signals of one sign
    are not turned: one that is never negative, such as curiosity, measures surprise, and
    `runs.probes.signals` has already turned one that is never positive.
    """
    return signal if head.sign else lambda batch: -signal(batch)


def innate_alarm(suite: Suite) -> Prediction | None:
    """Alarm without learning: the suite's innate head or a hand-written feature; None if neither.

    Features: looming in Drive (`envs.worlds.drive.sensors.looming`); in any CartPole the pole's
    angle plus 0.2 times its angular velocity, as an absolute value, unless it is an image.
    """
    if suite.innate is not None:
        head = build(suite.innate, suite.env.spec, jax.random.key(0))
        return as_alarm(head, partial(read_signal, head, head.initial_state(2)))
    if suite.name in PROGRESS:
        from envs.worlds.drive.sensors import looming

        return lambda batch: looming(batch.next_obs)
    if "CartPole" in suite.name and suite.env.spec.plain:
        return lambda batch: jnp.abs(batch.next_obs[..., 2] + 0.2 * batch.next_obs[..., 3])
    return None


def disagreement(signals: Mapping[str, Prediction]) -> Prediction:
    """Disagreement of the ensemble: the standard deviation over its members' predictions."""
    return lambda batch: jnp.stack([signals[name](batch) for name in ENSEMBLE]).std(0)


def progress(suite: Suite) -> Prediction:
    """Features of progress through an episode, [T, B, n].

    The observation entries listed in PROGRESS, otherwise steps taken over the horizon (n = 1).
    """
    if suite.name in PROGRESS:
        indices = jnp.array(PROGRESS[suite.name])
        return lambda batch: batch.next_obs[..., indices]

    def count_steps(batch):
        time = jnp.arange(len(batch.first))[:, None]
        began = jax.lax.cummax(jnp.where(batch.first, time, 0))
        return ((time - began + 1.0) / suite.env.horizon)[..., None]

    return count_steps


def fit_line(signal: jax.Array, progress: jax.Array, counted: jax.Array) -> jax.Array:
    """Least-squares fit [n + 1] of a signal [T, B] to progress [T, B, n] and 1, on counted steps.

    By elimination, without LAPACK, whose batches stall on two cores (see `agents.nets`).
    """
    columns = [*jnp.moveaxis(progress, -1, 0), jnp.ones_like(signal), signal]
    columns = jnp.where(counted[None], jnp.stack(columns), 0.0).reshape(len(columns), -1)
    system = columns[:-1] @ columns.T / jnp.maximum(counted.sum(), 1)
    system = system + 1e-6 * jnp.eye(*system.shape)
    for k in range(system.shape[0]):
        row = system[k] / system[k, k]
        system = (system - system[:, k, None] * row[None]).at[k].set(row)
    return system[:, -1]


def residual(signal: Prediction, progress: Prediction, coefficients: jax.Array) -> Prediction:
    """Prediction that subtracts from a signal its linear fit on progress (`fit_line`)."""

    def subtract_fit(batch):
        return signal(batch) - progress(batch) @ coefficients[:-1] - coefficients[-1]

    return subtract_fit
