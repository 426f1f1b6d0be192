"""The arms of a comparison: one per head, and the control arms each head is compared with."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from affect import (
    Blend,
    Care,
    Constant,
    ConstantPotential,
    Curiosity,
    Fear,
    HeadFactory,
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
from envs.host.user_code import cause_of
from envs.suite import Suite
from runs.describe import PROJECT
from runs.engine import custom_head
from runs.engine.config import RunConfig, head_spec
from runs.engine.knobs import chain_of
from runs.errors import UserError
from runs.names import CONSTANT_POTENTIAL, checked_choice, safe_name

HEADS = ("fear", "hope", "curiosity", "mood", "satiation", "homeostasis", "care", "innate")
POTENTIALS = ("fear", "hope", "homeostasis", "care", "innate")
LEVELS = {f"{CONSTANT_POTENTIAL}{k:+g}": k for k in (-2.0, -1.0, -0.5, 0.5)}
"""Arms of the constant potentials -> level."""
TAKEN = {"self", "tx", "epochs", "constant", "potential", "none", "random", "lesion", *LEVELS}
TAKEN |= {"constant_plus", "constant_minus"}
LONGEST_NAME = 200  # characters of an arm, whose folders add a few to it
CONSTANT_POTENTIALS = tuple(name + end for name in LEVELS for end in ("", "_constant"))


@dataclass(frozen=True)
class Arm:
    """One training condition of a comparison: which heads pay the agent, and in which worlds.

    Attributes:
        name: of the arm, and of its folders.
        blend: its heads with their weights.
        randomised: trained under domain randomisation instead of in the suite's one world.
        control: only compared with; not recorded as an animation.
    """

    name: str
    blend: Blend
    randomised: bool = False
    control: bool = False


def weighted_head(name: str, suite: Suite) -> tuple[float, HeadFactory]:
    """Weight and factory of a head as used in comparisons; weights were set once, never tuned.

    Heads in POTENTIALS are wrapped as potential-based shaping rewards.

    Args:
        name: of HEADS, or `FILE.py:NAME` of a user's head, which gets weight 1 and no wrapper.
        suite: supplies the body's setpoint and the innate head.

    Raises:
        UserError: for an unknown head, or `innate` in a suite without an innate head.
    """
    if custom_head.is_custom(name):
        return 1.0, custom_head.load_callable(name)
    if name == "innate" and suite.innate is None:
        raise UserError(f"{suite.name} has no innate head: leave out innate")
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
    return weight, Potential(factory) if name in POTENTIALS else factory


def comparison_arms(heads: tuple[str, ...], gamma: float, suite: Suite) -> tuple[Arm, ...]:
    """Build all arms of a comparison of `heads`, including every control arm.

    Without a head: `none`, `random` (domain randomisation), `constant_plus` and `constant_minus`
    (constant reward +-(1 - gamma)). For each head: alone, with the signal of the neighbouring
    environment (`_sham`), with random frozen weights (`_untrained`), and with the constant reward
    added (`_constant`). If a head is a potential: a constant potential at each of LEVELS
    (`potential_-1`), alone and with the constant reward added (`potential_-1_constant`). `lesion`
    has all heads, which run and pay nothing. In every blend a head keeps its own name, so that all
    variants start from the same weights.

    Args:
        heads: names (see `weighted_head`).
        gamma: the critic's discount, which the constants are made of.
        suite: of the worlds.

    Raises:
        UserError: for an unknown head, or two heads with the same name.
    """
    level = 1 - gamma
    plus, minus = (functools.partial(Constant, value=value) for value in (level, -level))
    weighted = {custom_head.short_name(name): weighted_head(name, suite) for name in heads}
    if len(weighted) < len(heads):
        raise UserError(f"heads {' '.join(heads)}: two of them go by one name; rename one")
    if taken := [name for name in weighted if name in TAKEN or not name.isidentifier()]:
        raise UserError(
            f"head {taken[0]!r}: an arm, a head or a setting of every comparison has this name; "
            "rename the class"
        )
    lesioned = {name: (weight, Lesion(factory)) for name, (weight, factory) in weighted.items()}
    shaped = any(getattr(factory, "cls", None) is Potential for _, factory in weighted.values())
    arms = [Arm("none", Blend())]
    if suite.randomised is not None:
        arms.append(Arm("random", Blend(), randomised=True, control=True))
    control = functools.partial(Arm, control=True)
    arms += [
        control("constant_plus", Blend(constant=(1.0, plus))),
        control("constant_minus", Blend(constant=(1.0, minus))),
    ]
    for name, (weight, factory) in weighted.items():
        sham = Sham(factory, centred=name in POTENTIALS)
        arms += [
            Arm(name, Blend(**{name: (weight, factory)})),
            control(f"{name}_sham", Blend(**{name: (weight, sham)})),
            control(f"{name}_untrained", Blend(**{name: (weight, Untrained(factory))})),
            control(f"{name}_constant", Blend(**{name: (weight, factory)}, constant=(1.0, plus))),
        ]
    for name, k in LEVELS.items() if shaped else ():
        potential = 1.0, ConstantPotential(k)
        arms += [
            control(name, Blend(potential=potential)),
            control(f"{name}_constant", Blend(potential=potential, constant=(1.0, plus))),
        ]
    return (*arms, control("lesion", Blend(**lesioned)))


def named_arms(arms: Mapping[str, Blend] | Iterable[Arm]) -> tuple[Arm, ...]:
    """The arms in their order, each with a name that its folder can have.

    Raises:
        UserError: for no arms, what is no arm, a name that is empty, longer than LONGEST_NAME or
            not printable, or two arms with one folder.
    """
    if isinstance(arms, Mapping):
        arms = [Arm(name, blend) for name, blend in arms.items()]
    arms = tuple(arms) if isinstance(arms, Iterable) else ()
    if not (arms and all(isinstance(arm, Arm) for arm in arms)):
        raise UserError("arms: expected at least one, as {name: Blend(...)} or Arm(name, Blend())")
    folders: dict[str, str] = {}
    for name, blend in ((arm.name, arm.blend) for arm in arms):
        if not (isinstance(name, str) and name.isprintable() and 1 <= len(name) <= LONGEST_NAME):
            expected = f"expected 1 to {LONGEST_NAME} printable characters; rename it"
            raise UserError(f"arm {name!r:.60}: {expected}")
        if not isinstance(blend, Blend):
            raise UserError(f"arm {name!r}: expected a Blend of its heads, got {blend!r:.60}")
        if (folder := safe_name(name)) in folders:
            raise UserError(
                f"arms {folders[folder]!r} and {name!r} share the folder {folder}: rename one"
            )
        folders[folder] = name
    return arms


def check_arms(arms: tuple[Arm, ...], suite: Suite, run_config: RunConfig) -> None:
    """Check, before compiling, that every head can be initialised for the suite's observations.

    Raises:
        UserError: naming the arm, and the worlds that report the `info` entry its head reads.
    """
    spec = head_spec(suite.env.spec, run_config.agent)
    for arm in arms:
        init_blend = functools.partial(arm.blend.init, spec=spec, num_envs=run_config.num_envs)
        try:
            jax.eval_shape(init_blend, jax.random.key(0))
        except MissingInfo as error:
            reporting = [name for name in SUITES if error.key in load_suite(name).env.spec.info]
            raise UserError(
                f"{arm.name} in {suite.name}: {error.head} reads info[{error.key!r}], reported by "
                f"{', '.join(reporting) or 'no built-in world'}: choose another --env or head"
            ) from None
        except (Exception, SystemExit) as error:
            own = any(is_own(factory) for _, factory in arm.blend.heads.values())
            known = ValueError, TypeError, AttributeError, NotImplementedError
            if not (own or isinstance(error, known)):
                raise
            cause = cause_of(error) if own else error
            raise UserError(f"{arm.name} in {suite.name}: {cause}") from None


def is_own(factory: Any) -> bool:
    """Whether a factory of heads, or one inside it, is a class or function of a user's."""
    return any(cls.__module__.partition(".")[0] not in PROJECT for cls, _ in chain_of(factory))
