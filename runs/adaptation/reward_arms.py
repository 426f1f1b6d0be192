"""Arms of `runs.reward_free` and `runs.continual`: reward mixes over one blend of all heads."""

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
FLIP_RATES = (0.1, 0.2, 0.3, 0.4, 0.5)  # shares of terminal steps with flipped labels
WIDTHS = (4, 64)  # hidden units of a head, beside its usual 16
WEIGHTS = (0.1, 10.0)  # of the signal, beside 1
LOOMING = ("Drive", "Timid")  # the innate signal there: looming, from the ray sensors


@dataclass(frozen=True)
class RewardArm:
    """One reward mix: weights of the task reward and of the signals, and what is kept of the agent.

    Attributes:
        name: of the arm.
        signal_weights: of the signals, by name of the head.
        task_weight: of the task reward.
        sham: use the signals of the neighbouring environment.
        critic_kept: keep the critic instead of initialising a new one.
        learns: False for the frozen agent.
    """

    name: str
    signal_weights: Mapping[str, float] = field(default_factory=dict)
    task_weight: float = 0.0
    sham: bool = False
    critic_kept: bool = False
    learns: bool = True


FROZEN = RewardArm("frozen", learns=False)


def hope_and_fear(suffix: str = "", weight: float = 1.0) -> dict[str, float]:
    """Signal weights of hope - fear, as a sum: fear's signal is never positive."""
    return {f"hope{suffix}": weight, f"fear{suffix}": weight}


def available_heads(suite: Suite, heads: Sequence[str]) -> tuple[str, ...]:
    """The requested heads; of the default ones without `innate` where the suite has none."""
    has_innate = suite.innate is not None or suite.name in LOOMING
    skip_innate = tuple(heads) == HEADS and not has_innate
    return tuple(name for name in heads if name != "innate" or not skip_innate)


def reward_blend(heads: Iterable[str], suite: Suite, agent: Any, varied: bool = False) -> Blend:
    """Blend of all heads that any arm uses as reward; each head learns by itself.

    Args:
        heads: names as in `runs.engine.arms.weighted_head`; hope and fear are always added.
        suite: defines the innate signal.
        agent: its critic becomes a signal, unless the agent normalises observations.
        varied: also add hope and fear as `variants` need them.

    Raises:
        UserError: for an unknown head, or two of one name.
    """
    difference = partial(SignalDifference, gamma=agent.gamma)
    entries = {"fear": (1.0, difference(Fear)), "hope": (1.0, difference(Hope))}
    for name in heads:
        short = custom_head.short_name(name)
        if short in entries and name not in ("fear", "hope"):
            raise UserError(f"heads {' '.join(heads)}: two heads have the same name; rename one")
        entries[short] = entries.get(short) or reward_head(name, suite, agent.gamma)
    entries |= {
        "constant": (1.0, partial(Constant, value=1.0)),
        "reward_model": (1.0, LearnedReward),
        "classifier": (1.0, partial(LearnedReward, ends=True)),
        "fear_unanchored": (1.0, difference(WithoutAnchors(Fear))),
        "hope_unanchored": (1.0, difference(WithoutAnchors(Hope))),
        "fear_scrambled": (1.0, difference(Untrained(Fear))),
        "hope_scrambled": (1.0, difference(Untrained(Hope))),
    }
    if not agent.normalise:
        entries["critic"] = (1.0, difference(partial(ParentCritic, width=agent.width)))
    for share in FLIP_RATES if varied else ():
        entries[f"fear_wrong_{share}"] = (1.0, difference(WithLabelNoise(Fear, share=share)))
        entries[f"hope_wrong_{share}"] = (1.0, difference(WithLabelNoise(Hope, share=share)))
    for width in WIDTHS if varied else ():
        entries[f"fear_width_{width}"] = (1.0, difference(partial(Fear, width=width)))
        entries[f"hope_width_{width}"] = (1.0, difference(partial(Hope, width=width)))
    return Blend(epochs=1, **entries)


def reward_head(name: str, suite: Suite, gamma: float) -> tuple[float, Factory]:
    """(weight, factory) of a command-line head: a potential as its difference, others as is."""
    if name == "innate" and suite.innate is None and suite.name in LOOMING:
        looming_head = partial(Innate, fn=lambda batch: -looming(batch.next_obs))
        return 1.0, SignalDifference(looming_head, gamma=gamma)
    weight, factory = weighted_head(name, gamma, suite)
    if getattr(factory, "func", None) is Potential.__wrapped__:
        return weight, SignalDifference(**factory.keywords)
    return weight, factory


def signal_arms(
    heads: Iterable[str], blend: Blend, gamma: float, weight: float = 1.0
) -> tuple[RewardArm, ...]:
    """Every arm with a signal as reward: each head alone, hope - fear, and all signal controls.

    Args:
        heads: that get an arm each.
        blend: of `reward_blend`.
        gamma: +-(1 - gamma) are the constants.
        weight: of all signals.
    """
    names = [custom_head.short_name(name) for name in heads]
    critic = [RewardArm("critic", {"critic": weight})] if "critic" in blend.names else []
    return (
        RewardArm("constant_plus", {"constant": 1 - gamma}),
        RewardArm("constant_minus", {"constant": gamma - 1}),
        RewardArm("sham", hope_and_fear(weight=weight), sham=True),
        RewardArm("untrained", hope_and_fear("_scrambled", weight)),
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
    """Arms of `runs.reward_free`: `signal_arms`, no reward at all, and the task reward."""
    return (
        FROZEN,
        RewardArm("zero"),
        RewardArm("zero_critic_kept", critic_kept=True),
        *signal_arms(heads, blend, gamma, weight),
        RewardArm("true", task_weight=1.0),
    )


def continual_arms(heads: Iterable[str], blend: Blend, gamma: float) -> tuple[RewardArm, ...]:
    """Arms of `runs.continual`: `signal_arms` on top of the task reward, and the task reward alone.

    Alone with a new critic (`plain`: with the schedule `never` the same as `zero` of
    `runs.reward_free`, with `always` the same as its `true`) or with the critic trained at home.
    """
    return (FROZEN, RewardArm("plain"), RewardArm("old_critic", critic_kept=True)) + signal_arms(
        heads, blend, gamma
    )


SIGNAL_CONTROLS = (
    "constant_plus",
    "constant_minus",
    "sham",
    "untrained",
    "critic",
    "reward_model",
    "classifier",
)
CONTROLS = ("frozen", "zero", "zero_critic_kept", *SIGNAL_CONTROLS)
"""Arms that hope - fear must beat, each and all: no signal, a constant, or an uninformed one."""
CONTINUAL_CONTROLS = ("frozen", "plain", "old_critic", *SIGNAL_CONTROLS)
"""Controls of `runs.continual`: as CONTROLS, under the names of `continual_arms`."""


def variants(weight: float = 1.0) -> tuple[RewardArm, ...]:
    """Hope - fear with flipped labels, other widths and other weights; for dev shifts only."""
    return (
        *(
            RewardArm(f"wrong_{rate}", hope_and_fear(f"_wrong_{rate}", weight))
            for rate in FLIP_RATES
        ),
        *(
            RewardArm(f"width_{width}", hope_and_fear(f"_width_{width}", weight))
            for width in WIDTHS
        ),
        *(
            RewardArm(f"weight_{times:g}", hope_and_fear(weight=times * weight))
            for times in WEIGHTS
        ),
    )
