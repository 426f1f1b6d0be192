"""Carrier, the base class of all: what a parent hands to a newborn, and how the newborn uses it.

A subclass overrides what it needs, in the field's words, and knows nothing of the engine:

    class WarmCritic(Carrier):
        copies = ("critic",)

    class CriticPotential(Carrier):
        knobs = {"scale": Range(0.25, 8.0, log=True), "shift": Range(-3.0, 3.0)}
        pays = "potential"

        def phi(self, inherited, numbers, obs):
            return numbers["scale"] * inherited.value(obs) + numbers["shift"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from affect import HeadFactory
from agents.actor_critic import AgentState
from runs.errors import UserError
from runs.inheritance.parent import Parent
from runs.scale.grid import Range

Numbers = Mapping[str, jax.Array]  # the free numbers of a newborn by name, [] each
__all__ = ["Carrier", "Numbers", "Range", "copied", "softened"]


@dataclass(frozen=True)
class Carrier:
    """Hands nothing on; the base class.

    All methods but `init` are pure, written in jax, and called for one newborn.

    Attributes:
        knobs: free numbers by name, with the interval or the values among which they are tuned.
        source: whose knowledge is handed on: "trained"; "untrained", a twin with random weights;
            "shuffled", a parent that was trained on rewards of other steps.
        copies: parts of the parents' networks that the newborn begins with (see `copied`).
        pays: "potential" if phi is paid as gamma (1 - terminated) phi(s') - phi(s); "reward" if phi
            of the successor is paid as it is, 0 at an end; "" if nothing is paid.
        yoked: whether the newborn gets the signal of another environment, less its mean.
        teaches: whether the newborn imitates the policy `teacher`, with the weight of `schedule`.
        beside: heads of the newborn's own by name, which learn during its life; their signals are
            rewards, and the numbers of the same names their weights.
        begins: name of such a head -> name of the parents' head whose weights it begins with.
        knows: "nothing" of the task; a "value" of the parents; their "weights", and no value that
            is paid; a "rule" that is made by hand.
    """

    knobs: ClassVar[Mapping[str, Range | Sequence[float]]] = {}
    source: ClassVar[str] = "trained"
    copies: ClassVar[tuple[str, ...]] = ()
    pays: ClassVar[str] = ""
    yoked: ClassVar[bool] = False
    teaches: ClassVar[bool] = False
    beside: ClassVar[Mapping[str, HeadFactory]] = {}
    begins: ClassVar[Mapping[str, str]] = {}
    knows: ClassVar[str] = "nothing"

    def init(self, parent: Parent, obs: np.ndarray) -> Any:
        """What is handed on, a pytree, from a parent and observations [N, D] that it met at home.

        Called once a parent and not traced, so that anything may be fitted to the parent.
        """
        del obs
        return parent

    def hand_over(self, newborn: AgentState, inherited: Any, numbers: Numbers) -> AgentState:
        """The newborn agent with what it inherits, from the untrained one: by default `copies`.

        Raises:
            UserError: for copies of what `init` returns, where that is no parent.
        """
        del numbers
        if self.copies and not isinstance(inherited, Parent):
            raise UserError(
                f"{type(self).__name__} copies networks of a parent, and its init returns a "
                f"{type(inherited).__name__}: return the parent, or write hand_over"
            )
        return copied(newborn, inherited, *self.copies) if self.copies else newborn

    def phi(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """What is paid [...], a function of observations [..., D]; used if `pays` is set."""
        raise NotImplementedError(f"{type(self).__name__} pays a signal and must implement phi")

    def schedule(self, numbers: Numbers, progress: jax.Array) -> dict[str, jax.Array]:
        """Weights at a share `progress` [] of the training, in [0, 1).

        Of the `signal`, by default 1; of the imitation of the `teacher`; and a factor on the
        newborn's `discount`.
        """
        del numbers, progress
        return {}

    def teacher(self, parent: Parent, inherited: Any) -> tuple[Any, Any]:
        """What is imitated if `teaches` is set: by default the parent's policy.

        Returns:
            (static description with `policy(state, obs)` as of `Parent`, its state).
        """
        del inherited
        return parent.design, parent.agent

    def reward(self, numbers: Numbers) -> jax.Array | float:
        """Constant reward [], on top of that which all newborns get."""
        del numbers
        return 0.0


def copied(newborn: AgentState, parent: Parent, *parts: str) -> AgentState:
    """The newborn with copies of parts of the parent's networks.

    Moments of observations and the size of returns, by which networks are scaled, are copied too.

    Args:
        newborn: untrained.
        parent: of networks of the same shapes.
        *parts: "actor", "critic", "actor.trunk", "critic.trunk". Of a critic the task's channel is
            copied; those of the newborn's signals keep their initial 0.
    """
    net = jax.tree.map(lambda leaf: leaf, newborn.train_state.net)  # a copy, to be changed
    for part in parts:
        name, _, child = part.partition(".")
        own, inherited = getattr(net, name), getattr(parent.net, name)
        if name == "critic" and not child:
            own.trunk, own.out = inherited.trunk, _with_task_channel(own.out, inherited.out)
        elif child:
            setattr(own, child, getattr(inherited, child))
        else:
            setattr(net, name, inherited)
    size = newborn.return_size
    if size is not None:
        size = _with_task_channel(size, parent.agent.return_size)
    train_state = newborn.train_state._replace(net=net)
    return newborn._replace(train_state=train_state, moments=parent.agent.moments, return_size=size)


def softened(newborn: AgentState, factor: jax.Array) -> AgentState:
    """The newborn with the outputs of its policy (logits or means) multiplied by a factor []."""
    net = jax.tree.map(lambda leaf: leaf, newborn.train_state.net)
    net.actor.out = jax.tree.map(lambda leaf: factor * leaf, net.actor.out)
    return newborn._replace(train_state=newborn.train_state._replace(net=net))


def _with_task_channel(own: Any, inherited: Any) -> Any:
    """A tree of leaves [..., C], or [], with the first channel of another one."""
    leaves, structure = jax.tree.flatten(own)
    results = []
    for old, new in zip(leaves, jax.tree.leaves(inherited), strict=True):
        if old.shape[:-1] != new.shape[:-1]:
            raise ValueError(f"a critic's output is {new.shape} in the parent and {old.shape} here")
        results.append(old.at[..., 0].set(new[..., 0]) if old.ndim else new)
    return jax.tree.unflatten(structure, results)
