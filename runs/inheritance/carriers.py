"""Carriers that hand on what parents have learned: weights, a teacher, a value as a potential."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

import affect
from affect import distil
from agents.actor_critic import AgentState
from runs.inheritance.carrier import Carrier, Numbers, Range, softened
from runs.inheritance.parent import Parent, head_signal

SCALE = Range(0.25, 8.0, log=True)  # of f in phi = scale f + shift
SHIFT = Range(-4.0, 4.0)  # also of a constant potential
SOFTNESS = Range(0.05, 1.0, log=True)  # factor on the outputs of a policy
HORIZONS = (10, 20, 50)  # steps, of the heads Hope of parents
MOST_SAMPLES = 60_000  # observations on which a value is distilled


# --- weights --------------------------------------------------------------------------------------


class CopiedPolicy(Carrier):
    """The parent's policy network."""

    copies = ("actor",)
    knows: ClassVar[str] = "weights"


class SoftenedPolicy(CopiedPolicy):
    """The parent's policy network, its outputs made smaller so that it explores."""

    knobs = {"softness": SOFTNESS}

    def hand_over(self, newborn: AgentState, inherited: Parent, numbers: Numbers) -> AgentState:
        """Copy the networks and soften the actor."""
        return softened(super().hand_over(newborn, inherited, numbers), numbers["softness"])


class PolicyAndCritic(CopiedPolicy):
    """The parent's policy and critic networks."""

    copies = ("actor", "critic")


class SoftenedPolicyAndCritic(SoftenedPolicy):
    """The parent's policy, softened, and its critic."""

    copies = ("actor", "critic")


class TrunkAndCritic(CopiedPolicy):
    """The hidden layers of the parent's policy, with a new output layer, and its critic."""

    copies = ("actor.trunk", "critic")


class WarmCritic(CopiedPolicy):
    """The parent's critic network, beside a new policy."""

    copies = ("critic",)


class PolicyTeacher(Carrier):
    """The parent's policy as a teacher, imitated ever less (Schmitt et al., 2018, eq. 3)."""

    knobs = {"weight": Range(0.03, 3.0, log=True), "fade": Range(0.05, 1.0)}
    knows: ClassVar[str] = "weights"
    teaches: ClassVar[bool] = True

    def schedule(self, numbers: Numbers, progress: jax.Array) -> dict[str, jax.Array]:
        """Weight of the imitation, which falls linearly to 0 at the share `fade` of training."""
        left = jnp.maximum(1 - progress / numbers["fade"], 0.0)
        return {"teacher": numbers["weight"] * left}


# --- a value as a potential -----------------------------------------------------------------------


class ValuePotential(Carrier):
    """The parent's critic as a potential, phi = scale V + shift."""

    knobs = {"scale": SCALE, "shift": SHIFT}
    pays: ClassVar[str] = "potential"
    knows: ClassVar[str] = "value"

    def phi(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """Scale times the value, plus shift."""
        return numbers["scale"] * self.value(inherited, numbers, obs) + numbers["shift"]

    def value(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """The value f [...] at obs [..., D]."""
        return inherited.value(obs)


class FadingValuePotential(ValuePotential):
    """The parent's critic as a potential whose weight falls linearly to 0.

    The weight is the same for all steps of an update, so that in each of them the potential changes
    no optimal policy.
    """

    knobs = {"scale": SCALE, "shift": SHIFT, "end": Range(0.1, 1.0)}  # as a share of training

    def schedule(self, numbers: Numbers, progress: jax.Array) -> dict[str, jax.Array]:
        """Weight of the potential."""
        return {"signal": jnp.maximum(1 - progress / numbers["end"], 0.0)}


class SmallValuePotential(ValuePotential):
    """The parent's critic, distilled to two tanh units of 4 bits, as a potential."""

    def init(self, parent: Parent, obs: np.ndarray) -> Any:
        """Fit the small head."""
        every = -(-len(obs) // MOST_SAMPLES)
        return distil(parent.value, units=2, bits=4, on=obs[::every]).head

    def value(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """Signal of the small head."""
        return head_signal(inherited, obs)


class HopePotential(ValuePotential):
    """The parent's head Hope of 16 units, of a horizon that is tuned, as a potential."""

    knobs = {"scale": SCALE, "shift": SHIFT, "horizon": HORIZONS}
    kind: ClassVar[str] = "hope"

    def value(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """Signal of the head of the chosen horizon."""
        signals = [inherited.signal(f"{self.kind}_{horizon}", obs) for horizon in HORIZONS]
        chosen = jnp.array(HORIZONS) == numbers["horizon"]
        return sum(jnp.where(one, signal, 0.0) for one, signal in zip(chosen, signals, strict=True))


class LearningHopePotential(Carrier):
    """The parent's head Hope of horizon 20 as a potential; it goes on learning in the newborn.

    phi = hope H + shift, where H begins with the parent's weights.
    """

    knobs = {"hope": SCALE, "shift": SHIFT}
    pays: ClassVar[str] = "potential"
    beside: ClassVar = {"hope": affect.Potential(affect.Hope(horizon=20))}
    begins: ClassVar = {"hope": "hope_20"}
    knows: ClassVar[str] = "value"

    def phi(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """The shift alone: the head is paid beside it."""
        return jnp.broadcast_to(numbers["shift"], obs.shape[:-1])


class WideHopePotential(HopePotential):
    """The parent's head Hope of 64 units, of a horizon that is tuned, as a potential."""

    kind: ClassVar[str] = "wide_hope"


class ClassifierPotential(ValuePotential):
    """The parent's classifier of successful ends, read at every observation, as a potential."""

    kind: ClassVar[str] = "classifier"

    def value(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """Prediction of the classifier."""
        return inherited.heads[self.kind].predictor(obs)


class RewardPotential(ClassifierPotential):
    """The parent's learned model of the reward as a potential."""

    kind: ClassVar[str] = "reward_model"


class HeuristicGuided(Carrier):
    """The parent's critic as the heuristic of HuRL (Cheng et al., 2021, eq. 4).

    The reward is r + (1 - lambda) gamma V(s') and the discount lambda gamma; lambda grows from
    `start` to 1 with the share p of training as tanh(speed p) / tanh(speed).
    """

    knobs = {
        "scale": Range(0.25, 4.0, log=True),
        "start": Range(0.7, 1.0),
        "speed": Range(0.3, 10.0, log=True),
    }
    pays: ClassVar[str] = "reward"
    knows: ClassVar[str] = "value"

    def phi(self, inherited: Parent, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """The heuristic, scale times the value."""
        return numbers["scale"] * inherited.value(obs)

    def schedule(self, numbers: Numbers, progress: jax.Array) -> dict[str, jax.Array]:
        """1 - lambda for the heuristic, lambda for the discount."""
        grown = jnp.tanh(numbers["speed"] * progress) / jnp.tanh(numbers["speed"])
        mixed = numbers["start"] + (1 - numbers["start"]) * grown
        return {"signal": 1 - mixed, "discount": mixed}


@dataclass(frozen=True)
class HeadPotential(ValuePotential):
    """A head that learned beside the parent as a potential.

    Attributes:
        head: its name.
    """

    head: str = ""

    def value(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """Signal of the head."""
        return inherited.signal(self.head, obs)


@dataclass(frozen=True)
class FilePotential(ValuePotential):
    """A trained head from a file, or of `affect.zoo`, as a potential; the same for all newborns.

    Attributes:
        file: its path, or zoo:NAME.
    """

    file: str = ""

    def init(self, parent: Parent, obs: np.ndarray) -> Any:
        """Load the head.

        Raises:
            ValueError: no such head or file, a damaged one, or one for other observations.
        """
        in_zoo = self.file.startswith("zoo:")
        load = affect.zoo.load if in_zoo else affect.load
        head = load(self.file.removeprefix("zoo:"))
        if (reads := head.origin.spec.obs_dim) != obs.shape[-1]:
            raise ValueError(f"{self.file} reads {reads} numbers, and here are {obs.shape[-1]}")
        return head

    def value(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """Signal of the head."""
        return head_signal(inherited, obs)


class TrunkCriticAndValue(ValuePotential):
    """Hidden layers of the policy and the critic, copied, and the critic also as a potential."""

    copies = TrunkAndCritic.copies


CARRIERS: dict[str, Carrier] = {
    "policy": CopiedPolicy(),
    "softened policy": SoftenedPolicy(),
    "teacher": PolicyTeacher(),
    "policy + critic": PolicyAndCritic(),
    "softened policy + critic": SoftenedPolicyAndCritic(),
    "trunk + critic": TrunkAndCritic(),
    "critic": WarmCritic(),
    "value": ValuePotential(),
    "fading value": FadingValuePotential(),
    "small value": SmallValuePotential(),
    "hope": HopePotential(),
    "wide hope": WideHopePotential(),
    "learning hope": LearningHopePotential(),
    "HuRL": HeuristicGuided(),
    "classifier": ClassifierPotential(),
    "reward model": RewardPotential(),
    "trunk + critic + value": TrunkCriticAndValue(),
}
"""Name -> a carrier of what parents have learned."""
