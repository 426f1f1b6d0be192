"""Controls of inheritance: carriers that know nothing of the task, and rules made by hand."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from agents.actor_critic import AgentState
from envs.suite import Suite
from envs.worlds.drive.sensors import looming
from runs.inheritance.carrier import Carrier, Numbers, Range
from runs.inheritance.carriers import SCALE, SHIFT, TrunkAndCritic, ValuePotential


class Nothing(Carrier):
    """A newborn with the task's reward alone."""


class ConstantReward(Carrier):
    """A constant reward at every step."""

    knobs = {"level": Range(-0.03, 0.03)}

    def reward(self, numbers: Numbers) -> jax.Array:
        """The constant."""
        return numbers["level"]


class ConstantPotential(Carrier):
    """A constant potential k (`affect.ConstantPotential`)."""

    knobs = {"k": SHIFT}
    pays: ClassVar[str] = "potential"

    def phi(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """K everywhere."""
        return jax.numpy.broadcast_to(numbers["k"], obs.shape[:-1])


class CriticBias(Carrier):
    """An output bias k of the newborn's critic, which a constant potential is in a table.

    With a potential k a table learns as one whose initial values are k (Wiewiora, 2003).
    """

    knobs = {"k": SHIFT}

    def hand_over(self, newborn: AgentState, inherited: Any, numbers: Numbers) -> AgentState:
        """Add k to the task's channel."""
        net = jax.tree.map(lambda leaf: leaf, newborn.train_state.net)
        bias = net.critic.out.bias
        net.critic.out.bias = bias.replace(bias[...].at[..., 0].add(numbers["k"]))
        return newborn._replace(train_state=newborn.train_state._replace(net=net))


class UntrainedValue(ValuePotential):
    """The critic of an untrained twin of the parent as a potential."""

    source: ClassVar[str] = "untrained"
    knows: ClassVar[str] = "nothing"


class ShuffledValue(ValuePotential):
    """The critic of a parent whose rewards were shuffled in training as a potential."""

    source: ClassVar[str] = "shuffled"
    knows: ClassVar[str] = "nothing"


class YokedValue(ValuePotential):
    """The signal of the parent's critic as a potential in another environment."""

    yoked: ClassVar[bool] = True
    knows: ClassVar[str] = "nothing"


class TrunkCriticAndConstant(ConstantPotential):
    """Hidden layers of the policy and the critic, copied, and a constant potential."""

    knows: ClassVar[str] = "weights"
    copies = TrunkAndCritic.copies


@dataclass(frozen=True)
class RulePotential(Carrier):
    """A function of observations, made by hand, as a potential.

    Attributes:
        rule: obs [..., D] -> f [...].
    """

    rule: Any = None
    knobs: ClassVar = {"scale": SCALE, "shift": SHIFT}
    pays: ClassVar[str] = "potential"
    knows: ClassVar[str] = "rule"

    def phi(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """Scale times the rule, plus shift."""
        return numbers["scale"] * self.rule(obs) + numbers["shift"]


@dataclass(frozen=True)
class ProgressPotential(RulePotential):
    """Progress along the way, at one of four scales, as a potential."""

    knobs: ClassVar = {"scale": (0.5, 1.0, 2.0, 4.0), "shift": SHIFT}


KNOWLEDGE_FREE: dict[str, Carrier] = {
    "none": Nothing(),
    "constant reward": ConstantReward(),
    "constant potential": ConstantPotential(),
    "critic bias": CriticBias(),
    "untrained value": UntrainedValue(),
    "shuffled value": ShuffledValue(),
    "yoked value": YokedValue(),
    "trunk + critic + constant": TrunkCriticAndConstant(),
}
"""Name -> a carrier that can know nothing of the task, or pays nothing that does."""


def rules(suite: Suite) -> dict[str, Carrier]:
    """Rules made by hand for the worlds of a suite; {} where there are none."""
    if suite.name not in ("Drive", "Timid"):
        return {}
    return {"looming": RulePotential(_minus_looming), "progress": ProgressPotential(_progress)}


def _minus_looming(obs: jax.Array) -> jax.Array:
    """Minus the looming of obs [..., 37] (Lee, 1976), in [-1, 0]."""
    return -looming(obs)


def _progress(obs: jax.Array) -> jax.Array:
    """Share of the road behind the driver, of obs [..., 37]."""
    return obs[..., 3]
