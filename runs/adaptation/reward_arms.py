"""The arms of `runs.reward_free` and `runs.continual`: what each is paid, of one blend with all heads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from affect import Blend, Constant, Factory, Fear, Hope, Innate, Potential, Untrained
from envs.suite import Suite
from envs.worlds.drive.sensors import looming
from runs.adaptation.control_heads import (
    LearnedReward,
    ParentCritic,
    SignalDifference,
    WithLabelNoise,
    WithoutAnchors,
)
from runs.adaptation.suite_lookup import HEADS
from runs.engine import custom_head
from runs.engine.arms import weighted_head
from runs.errors import UserError

TESTED = "hope_fear"
WRONG = (0.1, 0.2, 0.3, 0.4, 0.5)  # shares of ends that a head was told the opposite of
WIDTHS = (4, 64)  # hidden units of a head, beside its usual 16
WEIGHTS = (0.1, 10.0)  # of the feeling, beside 1
LOOMING = ("Drive", "Timid")  # where how soon one's eyes say that one will crash is innate


@dataclass(frozen=True)
class RewardArm:
    """What a learner is paid where nobody pays.

    Attributes:
        name: of the arm.
        weights: of the signals, by name.
        pay: weight of the task's reward.
        sham: the feelings are those of the environment next door.
        critic_kept: the critic is not made anew.
        learns: False for the one that stays as it was.
    """

    name: str
    weights: Mapping[str, float] = field(default_factory=dict)
    pay: float = 0.0
    sham: bool = False
    critic_kept: bool = False
    learns: bool = True


FROZEN = RewardArm("frozen", learns=False)


def hope_and_fear(suffix: str = "", weight: float = 1.0) -> dict[str, float]:
    """Hope - fear: a fear's signal is never positive, so the two are added."""
    return {f"hope{suffix}": weight, f"fear{suffix}": weight}


def available_heads(suite: Suite, heads: Sequence[str]) -> tuple[str, ...]:
    """The heads that were asked for; of the usual ones those that there are in this suite."""
    there = suite.innate is not None or suite.name in LOOMING
    usual = tuple(heads) == HEADS and not there
    return tuple(name for name in heads if name != "innate" or not usual)


def reward_blend(heads: Iterable[str], suite: Suite, agent: Any, varied: bool = False) -> Blend:
    """All heads that any arm is paid by, each of which learns by itself.

    Args:
        heads: of `runs.engine.arms.weighted_head`; hope and fear are always there.
        suite: says what is innate.
        agent: whose critic becomes a signal, unless it whitens what it sees.
        varied: also hope and fear as `variants` have them.

    Raises:
        UserError: for an unknown head, or two of one name.
    """
    change = partial(SignalDifference, gamma=agent.gamma)
    found = {"fear": (1.0, change(Fear)), "hope": (1.0, change(Hope))}
    for name in heads:
        short = custom_head.short_name(name)
        if short in found and name not in ("fear", "hope"):
            raise UserError(f"heads {' '.join(heads)}: two of them go by one name; rename one")
        found[short] = found.get(short) or reward_head(name, suite, agent.gamma)
    found |= {
        "constant": (1.0, partial(Constant, value=1.0)),
        "reward_model": (1.0, LearnedReward),
        "classifier": (1.0, partial(LearnedReward, ends=True)),
        "fear_unanchored": (1.0, change(WithoutAnchors(Fear))),
        "hope_unanchored": (1.0, change(WithoutAnchors(Hope))),
        "fear_scrambled": (1.0, change(Untrained(Fear))),
        "hope_scrambled": (1.0, change(Untrained(Hope))),
    }
    if not agent.normalise:
        found["critic"] = (1.0, change(partial(ParentCritic, width=agent.width)))
    for share in WRONG if varied else ():
        found[f"fear_wrong_{share}"] = (1.0, change(WithLabelNoise(Fear, share=share)))
        found[f"hope_wrong_{share}"] = (1.0, change(WithLabelNoise(Hope, share=share)))
    for width in WIDTHS if varied else ():
        found[f"fear_width_{width}"] = (1.0, change(partial(Fear, width=width)))
        found[f"hope_width_{width}"] = (1.0, change(partial(Hope, width=width)))
    return Blend(epochs=1, **found)


def reward_head(name: str, suite: Suite, gamma: float) -> tuple[float, Factory]:
    """A head of the command line as it is paid here: a potential as its change, all else as is."""
    if name == "innate" and suite.innate is None and suite.name in LOOMING:
        eyes = partial(Innate, fn=lambda batch: -looming(batch.next_obs))
        return 1.0, SignalDifference(eyes, gamma=gamma)
    weight, factory = weighted_head(name, gamma, suite)
    if getattr(factory, "func", None) is Potential.__wrapped__:
        return weight, SignalDifference(**factory.keywords)
    return weight, factory


def signal_arms(
    heads: Iterable[str], blend: Blend, gamma: float, weight: float = 1.0
) -> tuple[RewardArm, ...]:
    """Every arm that is paid by a signal; the controls come without asking.

    Args:
        heads: that are paid alone.
        blend: of `reward_blend`.
        gamma: +-(1 - gamma) are the constants.
        weight: of all feelings.
    """
    names = [custom_head.short_name(name) for name in heads]
    critic = [RewardArm("critic", {"critic": weight})] if "critic" in blend.names else []
    return (
        RewardArm("constant_plus", {"constant": 1 - gamma}),
        RewardArm("constant_minus", {"constant": gamma - 1}),
        RewardArm("sham", hope_and_fear(weight=weight), sham=True),
        RewardArm("scrambled", hope_and_fear("_scrambled", weight)),
        *critic,
        RewardArm("reward_model", {"reward_model": weight}),
        RewardArm("classifier", {"classifier": weight}),
        RewardArm("unanchored", hope_and_fear("_unanchored", weight)),
        *(RewardArm(name, {name: weight}) for name in names),
        RewardArm(TESTED, hope_and_fear(weight=weight)),
    )


def reward_free_arms(
    heads: Iterable[str], blend: Blend, gamma: float, weight: float = 1.0
) -> tuple[RewardArm, ...]:
    """Every arm where nobody pays: `signal_arms`, and those that live on nothing or on the task."""
    return (
        FROZEN,
        RewardArm("zero"),
        RewardArm("zero_critic_kept", critic_kept=True),
        *signal_arms(heads, blend, gamma, weight),
        RewardArm("true", pay=1.0),
    )


def continual_arms(heads: Iterable[str], blend: Blend, gamma: float) -> tuple[RewardArm, ...]:
    """Every life on any terms: `signal_arms` on top of what the task pays, and that alone.

    Alone with a new critic, which where nobody pays is unpaid's `zero` and where the task always
    does its `true`, and with the critic of school.
    """
    return (FROZEN, RewardArm("plain"), RewardArm("old_critic", critic_kept=True)) + signal_arms(
        heads, blend, gamma
    )


SIGNAL_CONTROLS = (
    "constant_plus",
    "constant_minus",
    "sham",
    "scrambled",
    "critic",
    "reward_model",
    "classifier",
)
CONTROLS = ("frozen", "zero", "zero_critic_kept", *SIGNAL_CONTROLS)
"""What hope - fear must beat, each and all: what needs no feeling, or none that knows anything."""
CONTINUAL_CONTROLS = ("frozen", "plain", "old_critic", *SIGNAL_CONTROLS)
"""The same in a life."""


def variants(weight: float = 1.0) -> tuple[RewardArm, ...]:
    """Hope - fear otherwise: told wrong, of other sizes, at other weights. On dev shifts alone."""
    return (
        *(RewardArm(f"wrong_{share}", hope_and_fear(f"_wrong_{share}", weight)) for share in WRONG),
        *(
            RewardArm(f"width_{width}", hope_and_fear(f"_width_{width}", weight))
            for width in WIDTHS
        ),
        *(
            RewardArm(f"weight_{times:g}", hope_and_fear(weight=times * weight))
            for times in WEIGHTS
        ),
    )
