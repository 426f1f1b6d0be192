"""Bodies of newborns: other actions, sizes, learners and discounts, and other senses."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import factorial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents.a2c import A2C
from agents.body import Body
from agents.qlearning import QLearning
from envs.suite import Suite
from envs.worlds.drive.sensors import AHEAD, ANGLES
from runs.scale.grid import Axes, Range

PERMUTATIONS = 5  # of the actions; a pair has one of them
FINE_LEVELS = 5  # positions of pedal and wheel: 25 actions
MIRRORED = (2, 1, 0, 5, 4, 3, 8, 7, 6)  # the wheel turned the other way
LEFT, RIGHT = ((np.sign(ANGLES) == s) & (np.abs(np.sin(ANGLES)) > 0.7) for s in (1, -1))
ROWS = 4 * 3 * 4 * 4 * 2 * 2  # of `drive_row`
CLOSE = 0.9  # proximity of a box beside the car: within 6 m
TABLE: Axes = {"alpha": Range(0.01, 0.5, log=True), "epsilon": Range(0.01, 0.3, log=True)}
LEARNER: Axes = {"lr": Range(1e-4, 1e-2, log=True), "entropy": Range(1e-4, 0.05, log=True)}


def unchanged(part: Any) -> Any:
    """The parents' own agent, or environment."""
    return part


@dataclass(frozen=True)
class BodyKind:
    """How a newborn differs from its parent.

    Attributes:
        agent: the parents' agent -> the newborns'.
        env: the environment -> one with other actions.
        knobs: numbers of the agent by name, tuned with those of each carrier.
        orders: permutations of the actions; pair i has number i modulo their count.
        extra: whether heads sense what the newborn does not: extra information.
    """

    agent: Callable[[Any], Any] = unchanged
    env: Callable[[Any], Any] = unchanged
    knobs: Axes = field(default_factory=dict)
    orders: tuple[tuple[int, ...], ...] = ()
    extra: bool = False


EXTRA_NOTE = (
    "Extra information: values read observations without the noise or the gaps of the newborn's."
)


def body_label(body: str, kind: BodyKind) -> str:
    """Name of a body, and whether heads sense what the newborn does not."""
    return f"{body} (extra information)" if kind.extra else body


def bodies(suite: Suite) -> dict[str, BodyKind]:
    """Name -> body that newborns in a suite can have; the first is the parents' own."""
    kinds = {
        "own": BodyKind(),
        "16 units": BodyKind(partial(replace, width=16)),
        "256 units": BodyKind(partial(replace, width=256)),
        "A2C": BodyKind(as_a2c, knobs=LEARNER),
        "linear": BodyKind(partial(replace, width=0)),
        "discount .97": BodyKind(partial(replace, gamma=0.97)),
        "noisy": BodyKind(partial(Body, noise=0.3), extra=True),
    }
    actions = suite.env.spec.num_actions
    if actions >= 2:
        orders = permutations(actions, min(PERMUTATIONS, factorial(actions) - 1))
        kinds["permuted"] = BodyKind(partial(Body, actions=orders[0]), orders=orders)
    if suite.name == "Drive":
        senses = tuple(range(21))  # own motion, progress, time and proximities
        kinds["25 actions"] = BodyKind(env=finer)
        kinds["mirrored"] = BodyKind(partial(Body, actions=MIRRORED))
        kinds["table"] = BodyKind(as_table, knobs=TABLE)
        kinds["no closing speeds"] = BodyKind(partial(Body, senses=senses), extra=True)
    return kinds


def as_a2c(agent: Any) -> A2C:
    """A2C with the size and the discount of an agent."""
    shared = ("width", "gamma", "signal_gamma", "normalise", "scale_values")
    return A2C(**{name: getattr(agent, name) for name in shared})


def as_table(agent: Any) -> QLearning:
    """A table of `drive_row` that learns by Q-learning with the discount of an agent."""
    return QLearning(ROWS, drive_row, gamma=agent.gamma)


def drive_row(obs: jax.Array) -> jax.Array:
    """Row of a table [...] of Drive's observations [..., 37]: a coarse view of car and traffic.

    Speed in four parts, position across the road in three, progress in four; the nearest box ahead
    in four; whether there is one beside, to the left and to the right.
    """
    near = obs[..., 5:21]
    ahead = near[..., AHEAD].max(-1)
    left, right = (near[..., beside].max(-1) for beside in (LEFT, RIGHT))
    parts = (
        (jnp.clip(obs[..., 0], 0.0, 0.999) * 4, 4),
        ((jnp.clip(obs[..., 1], -0.999, 0.999) + 1) * 1.5, 3),
        (jnp.clip(obs[..., 3], 0.0, 0.999) * 4, 4),
        (jnp.clip(ahead, 0.0, 0.999) * 4, 4),
        (left > CLOSE, 2),
        (right > CLOSE, 2),
    )
    row = jnp.zeros(obs.shape[:-1], jnp.int32)
    for part, size in parts:
        row = row * size + part.astype(jnp.int32)
    return row


def finer(env: Any) -> Any:
    """The environment of Drive with 25 actions."""
    return type(env)(env.horizon, levels=FINE_LEVELS)


def permutations(actions: int, count: int) -> tuple[tuple[int, ...], ...]:
    """Different permutations of the actions, none of which keeps all of them in place."""
    rng, orders = np.random.default_rng(0), {}
    while len(orders) < count:
        order = tuple(int(i) for i in rng.permutation(actions))
        if order != tuple(range(actions)):
            orders[order] = None
    return tuple(orders)
