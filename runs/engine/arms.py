"""The arms of a comparison: heads, and the controls without which a head proves nothing."""

import functools
from dataclasses import dataclass

import jax

from affect import (
    Blend,
    Care,
    Constant,
    Curiosity,
    Factory,
    Fear,
    Homeostasis,
    Hope,
    Lesion,
    MissingInfo,
    Mood,
    Normalised,
    Potential,
    Satiation,
    Sham,
    Untrained,
)
from envs import SUITES, load_suite
from envs.suite import Suite
from runs.cli.settings import checked_choice
from runs.engine import custom_head
from runs.errors import UserError

HEADS = ("fear", "hope", "curiosity", "mood", "satiation", "homeostasis", "care", "innate")
POTENTIALS = ("fear", "hope", "homeostasis", "care", "innate")


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: of the arm, and of its folders.
        blend: what it feels.
        randomised: trained in the suite's training distribution and not in its one world.
        control: there to be compared with; nobody wants to see it drive.
    """

    name: str
    blend: Blend
    randomised: bool = False
    control: bool = False


def weighted_head(name: str, gamma: float, suite: Suite) -> tuple[float, Factory]:
    """A head as the comparison uses it: (weight, factory). Weights were set once, never tuned.

    Args:
        name: of HEADS, or `FILE.py:NAME` of one's own, which is paid as it is.
        gamma: the critic's discount, which a potential needs.
        suite: says where the body should be, and what is innate.

    Raises:
        UserError: for an unknown head, or `innate` where nothing is.
    """
    if custom_head.is_custom(name):
        return 1.0, custom_head.load_head(name)
    if name == "innate" and suite.innate is None:
        raise UserError(f"nothing is innate in {suite.name}: leave out the head innate")
    body = functools.partial(Homeostasis, setpoint=suite.setpoint)
    weight, factory = {
        "fear": (1.0, Fear),
        "hope": (1.0, Hope),
        "curiosity": (0.1, Normalised(Curiosity)),
        "mood": (0.1, Mood),
        "satiation": (0.1, Satiation),
        "homeostasis": (1.0, body),
        "care": (1.0, Care(body)),
        "innate": (1.0, suite.innate),
    }[checked_choice("head", name, HEADS)]
    return weight, Potential(factory, gamma=gamma) if name in POTENTIALS else factory


def comparison_arms(
    heads: tuple[str, ...], gamma: float, suite: Suite, parts: int = 1
) -> tuple[Arm, ...]:
    """Every arm of a comparison of `heads`; the controls come without asking.

    `random` is domain randomisation, `lesion` has all heads, cut from the agent. Each head comes by
    itself, from the neighbouring environment (`_sham`), with random frozen weights (`_scrambled`)
    and beside the constant +(1 - gamma) (`_constant`), which its merit is to be measured against.
    Inside a blend they all go by the head's own name, so that they start from the same weights.

    Args:
        heads: names (see `weighted_head`).
        gamma: the critic's discount.
        suite: of the worlds.
        parts: of a batch that heads learn from, a gradient step each.

    Raises:
        UserError: for an unknown head, or two of one name.
    """
    level, feel = 1 - gamma, functools.partial(Blend, parts=parts)
    plus, minus = (functools.partial(Constant, value=value) for value in (level, -level))
    felt = {custom_head.short_name(name): weighted_head(name, gamma, suite) for name in heads}
    if len(felt) < len(heads):
        raise UserError(f"heads {' '.join(heads)}: two of them go by one name; rename one")
    cut = {name: (weight, Lesion(factory)) for name, (weight, factory) in felt.items()}
    found = [Arm("none", feel())]
    if suite.randomised is not None:
        found.append(Arm("random", feel(), randomised=True, control=True))
    control = functools.partial(Arm, control=True)
    found += [
        control("constant_plus", feel(constant=(1.0, plus))),
        control("constant_minus", feel(constant=(1.0, minus))),
    ]
    for name, (weight, factory) in felt.items():
        sham = Sham(factory, centred=name in POTENTIALS)
        found += [
            Arm(name, feel(**{name: (weight, factory)})),
            control(f"{name}_sham", feel(**{name: (weight, sham)})),
            control(f"{name}_scrambled", feel(**{name: (weight, Untrained(factory))})),
            control(f"{name}_constant", feel(**{name: (weight, factory)}, constant=(1.0, plus))),
        ]
    return (*found, control("lesion", feel(**cut)))


def check_arms(arms: tuple[Arm, ...], suite: Suite, num_envs: int) -> None:
    """Refuses what cannot be felt in these worlds, before anything is compiled.

    Raises:
        UserError: naming the arm, and the worlds that report what its head reads.
    """
    for arm in arms:
        build = functools.partial(arm.blend.init, spec=suite.env.spec, num_envs=num_envs)
        try:
            jax.eval_shape(build, jax.random.key(0))
        except MissingInfo as error:
            there = [name for name in SUITES if error.key in load_suite(name).env.spec.info]
            raise UserError(
                f"{arm.name} in {suite.name}: {error.head} reads info[{error.key!r}], reported by "
                f"{', '.join(there) or 'no world of ours'}: choose another --env or head"
            ) from None
        except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
            raise UserError(f"{arm.name} in {suite.name}: {error}") from None
