"""Search spaces of `runs.evolve`: 8 numbers of a value and of rewards, or a value of 40 bytes.

A genome is one number for each knob of a carrier, within its interval; a search sees it as a point
of the unit cube. The middle of every interval pays nothing: there all searches begin.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from affect import Curiosity, Satiation
from affect.wrappers import Normalised
from runs.errors import UserError
from runs.genomes.page import formula as network_formula
from runs.genomes.page import term
from runs.inheritance.carrier import Carrier, Numbers, Range
from runs.inheritance.carriers import HORIZONS
from runs.inheritance.parent import Parent

Genome = dict[str, float]
CRITIC = 100.0  # horizon of the parents' critic, whose discount is .99
LEVELS = 7  # of a weight of 4 bits, on either side of 0
INNER, OUTER = 2.0, 4.0  # largest weight of a unit, and of the output

FEELINGS: Mapping[str, Range] = {
    "scale": Range(-10.0, 10.0),
    "shift": Range(-4.0, 4.0),
    "horizon": Range(HORIZONS[0], CRITIC, log=True),
    "fear": Range(-4.0, 4.0),
    "innate": Range(-4.0, 4.0),
    "curiosity": Range(-0.05, 0.05),
    "satiation": Range(-1.0, 1.0),
    "reward": Range(-0.03, 0.03),
}


@dataclass(frozen=True)
class Feelings(Carrier):
    """Eight numbers. The potential is scale V + shift + fear F + innate I.

    V is the parents' value of a horizon, F their head Fear, I a function of observations. The
    newborn's own curiosity and satiation, and a constant, are rewards beside that of the task.

    Attributes:
        innate: obs [..., D] -> [...]; None where there is none, and no number for it.
    """

    innate: Callable[[jax.Array], jax.Array] | None = None
    pays: ClassVar[str] = "potential"
    knows: ClassVar[str] = "value"
    beside: ClassVar = {"curiosity": Normalised(Curiosity), "satiation": Satiation()}

    @property
    def knobs(self) -> dict[str, Range]:
        """Interval of each number."""
        return {k: v for k, v in FEELINGS.items() if k != "innate" or self.innate is not None}

    def phi(self, inherited: Parent, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """The potential [...] at obs [..., D]."""
        phi = numbers["scale"] * value(inherited, numbers["horizon"], obs) + numbers["shift"]
        phi = phi + numbers["fear"] * inherited.signal("fear", obs)
        return phi if self.innate is None else phi + numbers["innate"] * self.innate(obs)

    def reward(self, numbers: Numbers) -> jax.Array:
        """The constant reward."""
        return numbers["reward"]

    def formula(self, genome: Genome, senses: Sequence[str]) -> str:
        """The genome as two formulas: of the potential, and of the reward."""
        names = ("fear", "innate") if self.innate is not None else ("fear",)
        inherited = [term(genome[name], name) for name in names]
        own = [term(genome[name], name) for name in self.beside]
        v = f"{genome['scale']:.3g} V({genome['horizon']:.0f} steps)"
        phi = f"phi = {v} {term(genome['shift'], '').strip()} {' '.join(inherited)}"
        return f"{phi}\nr'  = r + F(phi) {term(genome['reward'], '').strip()} {' '.join(own)}"


def value(parent: Parent, horizon: jax.Array, obs: jax.Array) -> jax.Array:
    """A parent's value [...] of a horizon [], in steps, at obs [..., D].

    Between the horizons of its heads Hope and of its critic it is interpolated linearly in the
    logarithm of the horizon.
    """
    signals = [parent.signal(f"hope_{n}", obs) for n in HORIZONS] + [parent.value(obs)]
    at = jnp.log(jnp.array([*HORIZONS, CRITIC]))
    shares = [jnp.interp(jnp.log(horizon), at, unit) for unit in np.eye(len(signals))]
    return sum(share * signal for share, signal in zip(shares, signals, strict=True))


@dataclass(frozen=True)
class TwoUnits(Carrier):
    """A value of two tanh units with weights of 4 bits, as a potential: nobody has learned it.

    Attributes:
        senses: D, numbers of an observation.
    """

    senses: int = 1
    pays: ClassVar[str] = "potential"

    @property
    def knobs(self) -> dict[str, Range]:
        """Interval of each of 2 (D + 1) + 3 weights, in units of the largest of its layer."""
        return {f"w{i}": Range(-1.0, 1.0) for i in range(2 * self.senses + 5)}

    def weights(self, numbers: Numbers) -> tuple[jax.Array, ...]:
        """Kernel [D, 2] and bias [2] of the units, kernel [2, 1] and bias [1] of the output."""
        flat = jnp.stack([jnp.asarray(numbers[name]) for name in self.knobs])
        flat = jnp.round(LEVELS * flat) / LEVELS
        inner, outer = INNER * flat[:-3].reshape(-1, 2), OUTER * flat[-3:]
        return inner[:-1], inner[-1], outer[:2, None], outer[2:]

    def phi(self, inherited: Any, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """The value [...] at obs [..., D]."""
        del inherited
        kernel, bias, last, level = self.weights(numbers)
        inner = obs @ kernel
        units = jnp.tanh(inner + jnp.broadcast_to(bias, inner.shape))
        return (units @ last)[..., 0] + level[0]

    def formula(self, genome: Genome, senses: Sequence[str]) -> str:
        """The value as a formula of the senses; weights that are 0 are left out."""
        kernel, bias, last, level = map(np.asarray, self.weights(genome))
        return network_formula([kernel, last], [bias, level], senses)


# --- genomes --------------------------------------------------------------------------------------


def middle(knobs: Mapping[str, Range]) -> Genome:
    """The genome in the middle of all intervals, which pays nothing."""
    return {name: axis.at(0.5) for name, axis in knobs.items()}


def genome_at(point: np.ndarray, start: Genome, free: Mapping[str, Range]) -> Genome:
    """The genome at a point [n] of the unit cube of its n free numbers; others are of the start."""
    shares = zip(free.items(), point, strict=True)
    return start | {name: float(axis.at(float(share))) for (name, axis), share in shares}


def point_of(genome: Genome, free: Mapping[str, Range]) -> np.ndarray:
    """The point [n] of the unit cube of its free numbers at which a genome is."""
    return np.array([share_of(axis, genome[name]) for name, axis in free.items()])


def share_of(axis: Range, number: float) -> float:
    """Share of an interval at which a number is: the inverse of `Range.at`."""
    low, high, x = map(math.log, (*axis[:2], number)) if axis.log else (*axis[:2], number)
    return (x - low) / (high - low)


def checked(genome: Mapping[str, float], knobs: Mapping[str, Range], where: str) -> Genome:
    """The genome, if every number is known, finite and in its interval.

    Raises:
        UserError: beginning with `where` it is from.
    """
    for name, number in genome.items():
        if name not in knobs:
            raise UserError(f"{where}: unknown number {name}; there are {', '.join(knobs)}")
        low, high, _ = knobs[name]
        slack = 1e-6 * (high - low)
        if not low - slack <= number <= high + slack:  # NaN is in no interval
            raise UserError(f"{where}: {name} = {number:g}, expected {low:g} to {high:g}")
    return {name: float(number) for name, number in genome.items()}


def read_start(text: str, knobs: Mapping[str, Range]) -> Genome:
    """The genome at which searches begin, from a text such as scale=2,shift=-1.

    Raises:
        UserError: for text of another form, an unknown number, or one out of its interval.
    """
    genome = {}
    for word in filter(None, text.split(",")):
        name, _, number = word.partition("=")
        try:
            genome[name.strip()] = float(number)
        except ValueError:
            raise UserError(f"--start {word}: write it as scale=2,shift=-1") from None
    return middle(knobs) | checked(genome, knobs, f"--start {text}")
