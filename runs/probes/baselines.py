"""Rivals of a head: whatever else might know what it knows, so that the cause is not guessed.

Each is a head beside it, cut from the agent, or a `Prediction` beside it in one dictionary. All of
them learn from the same experience with the same optimiser, and all are asked at the same steps.

How many gradient steps they take is what a comparison's heads take (`runs.engine.presets`). That
matters: in a look at four seeds of Drive, where two whole-batch steps an update made 104 in all,
the fear of 16 units ranked harm below chance at home (.30) and larger ones did not (.81), so that
size would have meant nothing but speed of learning.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from affect import (
    Blend,
    Factory,
    Fear,
    Head,
    Hope,
    Lesion,
    Spec,
    Transition,
    build,
)
from affect.head import State
from affect.predict import GVFTargets, Predictor, lambda_returns
from agents.nets import Trunk, dense
from envs.suite import Suite
from runs.probes.signals import Prediction, fixed_head

SIZES: dict[str, tuple[int, ...]] = {
    "fear_linear": (),
    "fear_16": (16,),
    "fear_64_64": (64, 64),
    "fear_256_256": (256, 256),
}
"""Fears by their hidden layers; the second has the form of `affect.Fear`."""

MEMBERS = 5  # of the ensemble whose disagreement is a signal, each with 16 units
ENSEMBLE = tuple(f"member_{i}" for i in range(MEMBERS))
PROGRESS = {"Drive": (3, 4), "Timid": (3, 4)}
"""Suites whose observation says how far one is: the numbers that do, progress and time in Drive.
Everywhere else it is the steps that were taken."""


class DeepPredictor(Predictor):
    """A predictor with any number of hidden layers of tanh.

    Args:
        spec: of the world.
        horizon: in steps, at least 1.
        hidden: units of each hidden layer; none for a linear one.
        rngs: for the initial weights.
    """

    def __init__(self, spec: Spec, horizon: float, hidden: tuple[int, ...], *, rngs: nnx.Rngs):
        self.gamma, self.low = 1 - 1 / horizon, 0.0
        sizes = (spec.obs_dim, *hidden)
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        self.hidden = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairs])
        self.out = nnx.Linear(sizes[-1], 1, rngs=rngs)

    def logit(self, obs: jax.Array) -> jax.Array:
        """[..., D] -> [...]."""
        for hidden in self.hidden:
            obs = jnp.tanh(hidden(obs))
        return self.out(obs)[..., 0]


class SizedFear(Fear):
    """`Fear` with another network; its loss, anchors and horizon are the same."""

    def __init__(self, spec: Spec, hidden: tuple[int, ...], horizon: float = 10, *, rngs: nnx.Rngs):
        self.predictor = DeepPredictor(spec, horizon, hidden, rngs=rngs)


class ValueHead(Head):
    """A critic of the task's reward with a horizon of its own: V(next_obs), in reward.

    TD(lambda) of squared error, worth nothing beyond an end and not anchored there, as a critic is:
    beside `Fear` of the same horizon it lacks the event, and nothing else.

    Args:
        spec: of the world.
        horizon: in steps; the discount is 1 - 1 / horizon.
        width: units in each of two hidden layers, as the agent's critic has, or in one.
        deep: whether there are two.
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
        """[..., D] -> [...]."""
        seen = self.trunk(obs)
        return self.out(seen if self.deep else jnp.tanh(seen))[..., 0]

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """V [T, B] at `next_obs`."""
        return jax.lax.stop_gradient(self.value(batch.next_obs)), state

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Squared TD(lambda) error of the reward."""
        nothing = jnp.zeros_like(batch.reward)
        question = GVFTargets(
            batch.reward, batch.terminated, nothing, batch.terminated | batch.truncated
        )
        ahead = jnp.where(batch.terminated, 0.0, self.value(batch.next_obs))
        target = jax.lax.stop_gradient(lambda_returns(question, ahead, self.gamma))
        error = 0.5 * jnp.square(self.value(batch.obs) - target).mean()
        return error, {"error": error}


def baseline_blend(name: str, head: Factory, horizon: int, parts: int = 1) -> Blend:
    """The head and its rivals in one blend, each of them cut from the agent.

    Args:
        name: of the head.
        head: its factory, couplings off.
        horizon: of its event, in steps.
        parts: of each batch that they learn from, a gradient step each.
    """
    sized = {size: partial(SizedFear, hidden=hidden) for size, hidden in SIZES.items()}
    fears = sized | {member: Fear for member in ENSEMBLE}
    heads = {name: head} | {key: partial(fear, horizon=horizon) for key, fear in fears.items()}
    heads["short_critic"] = partial(ValueHead, horizon=horizon)
    heads["short_critic_16"] = partial(ValueHead, horizon=horizon, width=16, deep=False)
    heads |= {"hope": Hope} if name != "hope" else {}
    cut = {key: (1.0, Lesion(factory)) for key, factory in heads.items()}
    return Blend(parts=parts, **cut)


def sub_blend(blend: Blend, names: tuple[str, ...]) -> Blend:
    """The blend of some of its heads, which start from the same weights as they do there."""
    some = {name: blend.heads[name] for name in names}
    return Blend(blend.tx, blend.epochs, blend.parts, **some)


def as_alarm(head: Head, said: Prediction) -> Prediction:
    """A signal as an alarm: high where harm is expected.

    A feeling is pay, so that it is bad where it is low; only one that is never negative, such as
    curiosity, is a surprise and is taken as it is. Of a head that is never positive
    `runs.probes.signals` has turned the sign already.
    """
    return said if head.sign else lambda batch: -said(batch)


def innate_alarm(suite: Suite) -> Prediction | None:
    """What needs no learning there, as an alarm: the suite's own, or what one would hard-wire.

    Looming in Drive (`envs.worlds.drive.sensors.looming`), the pole's lean, by how fast it grows, in any
    CartPole, none elsewhere.
    """
    if suite.innate is not None:
        head = build(suite.innate, suite.env.spec, jax.random.key(0))
        return as_alarm(head, fixed_head(suite.innate, suite.env.spec))
    if suite.name in PROGRESS:
        from envs.worlds.drive.sensors import looming

        return lambda batch: looming(batch.next_obs)
    if "CartPole" in suite.name:
        return lambda batch: jnp.abs(batch.next_obs[..., 2] + 0.2 * batch.next_obs[..., 3])
    return None


def disagreement(said: Mapping[str, Prediction]) -> Prediction:
    """How far the members of the ensemble are apart: their standard deviation."""
    return lambda batch: jnp.stack([said[name](batch) for name in ENSEMBLE]).std(0)


def progress(suite: Suite) -> Prediction:
    """How far one is, [T, B, n]: what PROGRESS names of the observation, or steps over horizon."""
    if suite.name in PROGRESS:
        chosen = jnp.array(PROGRESS[suite.name])
        return lambda batch: batch.next_obs[..., chosen]

    def steps(batch):
        taken = jax.lax.scan(_counted, jnp.zeros(batch.first.shape[1]), batch.first)[1]
        return (taken / suite.env.horizon)[..., None]

    return steps


def _counted(steps: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Steps of an episode [B], this one included."""
    steps = jnp.where(first, 0.0, steps) + 1.0
    return steps, steps


def fit_line(signal: jax.Array, progress: jax.Array, counted: jax.Array) -> jax.Array:
    """Least squares [n + 1] of a signal [T, B] on progress [T, B, n] and 1, where it counts.

    By elimination, without LAPACK, whose batches stall on two cores (see `agents.nets`).
    """
    columns = [*jnp.moveaxis(progress, -1, 0), jnp.ones_like(signal), signal]
    columns = jnp.where(counted[None], jnp.stack(columns), 0.0).reshape(len(columns), -1)
    table = columns[:-1] @ columns.T / jnp.maximum(counted.sum(), 1)
    table = table + 1e-6 * jnp.eye(*table.shape)
    for k in range(table.shape[0]):
        row = table[k] / table[k, k]
        table = (table - table[:, k, None] * row[None]).at[k].set(row)
    return table[:, -1]


def residual(signal: Prediction, progress: Prediction, slopes: jax.Array) -> Prediction:
    """A signal less what `fit_line` says of it at this progress."""

    def said(batch):
        return signal(batch) - progress(batch) @ slopes[:-1] - slopes[-1]

    return said
