"""The arms of `runs.unpaid` and `runs.life`: what each is paid, of one blend with all heads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from affect import Blend, Constant, Factory, Fear, Hope, Innate, Potential, Scrambled
from envs.drive_sight import looming
from envs.suite import Suite
from runs.adapting.anywhere import HEADS
from runs.adapting.heads import Change, Mislabelled, OldCritic, RewardModel, Unanchored
from runs.harness import own_head
from runs.harness.arms import head
from runs.harness.errors import UserError

FEELING = "hope_fear"
WRONG = (0.1, 0.2, 0.3, 0.4, 0.5)  # shares of ends that a head was told the opposite of
WIDTHS = (4, 64)  # hidden units of a head, beside its usual 16
WEIGHTS = (0.1, 10.0)  # of the feeling, beside 1
LOOMING = ("Drive", "Timid")  # where how soon one's eyes say that one will crash is innate


@dataclass(frozen=True)
class Arm:
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


FROZEN = Arm("frozen", learns=False)


def both(suffix: str = "", weight: float = 1.0) -> dict[str, float]:
    """Hope - fear: a fear's signal is never positive, so the two are added."""
    return {f"hope{suffix}": weight, f"fear{suffix}": weight}


def felt_in(suite: Suite, heads: Sequence[str]) -> tuple[str, ...]:
    """The heads that were asked for; of the usual ones those that there are in this suite."""
    there = suite.innate is not None or suite.name in LOOMING
    usual = tuple(heads) == HEADS and not there
    return tuple(name for name in heads if name != "innate" or not usual)


def blend(heads: Iterable[str], suite: Suite, agent: Any, varied: bool = False) -> Blend:
    """All heads that any arm is paid by, each of which learns by itself.

    Args:
        heads: of `runs.harness.arms.head`; hope and fear are always there.
        suite: says what is innate.
        agent: whose critic becomes a signal, unless it whitens what it sees.
        varied: also hope and fear as `variants` have them.

    Raises:
        UserError: for an unknown head, or two of one name.
    """
    change = partial(Change, gamma=agent.gamma)
    found = {"fear": (1.0, change(Fear)), "hope": (1.0, change(Hope))}
    for name in heads:
        short = own_head.short(name)
        if short in found and name not in ("fear", "hope"):
            raise UserError(f"heads {' '.join(heads)}: two of them go by one name; rename one")
        found[short] = found.get(short) or paid(name, suite, agent.gamma)
    found |= {
        "constant": (1.0, partial(Constant, value=1.0)),
        "reward_model": (1.0, RewardModel),
        "classifier": (1.0, partial(RewardModel, ends=True)),
        "fear_unanchored": (1.0, change(Unanchored(Fear))),
        "hope_unanchored": (1.0, change(Unanchored(Hope))),
        "fear_scrambled": (1.0, change(Scrambled(Fear))),
        "hope_scrambled": (1.0, change(Scrambled(Hope))),
    }
    if not agent.normalise:
        found["critic"] = (1.0, change(partial(OldCritic, width=agent.width)))
    for share in WRONG if varied else ():
        found[f"fear_wrong_{share}"] = (1.0, change(Mislabelled(Fear, share=share)))
        found[f"hope_wrong_{share}"] = (1.0, change(Mislabelled(Hope, share=share)))
    for width in WIDTHS if varied else ():
        found[f"fear_width_{width}"] = (1.0, change(partial(Fear, width=width)))
        found[f"hope_width_{width}"] = (1.0, change(partial(Hope, width=width)))
    return Blend(epochs=1, **found)


def paid(name: str, suite: Suite, gamma: float) -> tuple[float, Factory]:
    """A head of the command line as it is paid here: a potential as its change, all else as is."""
    if name == "innate" and suite.innate is None and suite.name in LOOMING:
        eyes = partial(Innate, fn=lambda batch: -looming(batch.next_obs))
        return 1.0, Change(eyes, gamma=gamma)
    weight, factory = head(name, gamma, suite)
    if getattr(factory, "func", None) is Potential.__wrapped__:
        return weight, Change(**factory.keywords)
    return weight, factory


def paid_arms(
    heads: Iterable[str], blend: Blend, gamma: float, weight: float = 1.0
) -> tuple[Arm, ...]:
    """Every arm that is paid by a signal; the controls come without asking.

    Args:
        heads: that are paid alone.
        blend: of `blend`.
        gamma: +-(1 - gamma) are the constants.
        weight: of all feelings.
    """
    names = [own_head.short(name) for name in heads]
    critic = [Arm("critic", {"critic": weight})] if "critic" in blend.names else []
    return (
        Arm("constant_plus", {"constant": 1 - gamma}),
        Arm("constant_minus", {"constant": gamma - 1}),
        Arm("sham", both(weight=weight), sham=True),
        Arm("scrambled", both("_scrambled", weight)),
        *critic,
        Arm("reward_model", {"reward_model": weight}),
        Arm("classifier", {"classifier": weight}),
        Arm("unanchored", both("_unanchored", weight)),
        *(Arm(name, {name: weight}) for name in names),
        Arm(FEELING, both(weight=weight)),
    )


def arms(heads: Iterable[str], blend: Blend, gamma: float, weight: float = 1.0) -> tuple[Arm, ...]:
    """Every arm where nobody pays: `paid_arms`, and those that live on nothing or on the task."""
    return (
        FROZEN,
        Arm("zero"),
        Arm("zero_critic_kept", critic_kept=True),
        *paid_arms(heads, blend, gamma, weight),
        Arm("true", pay=1.0),
    )


def life_arms(heads: Iterable[str], blend: Blend, gamma: float) -> tuple[Arm, ...]:
    """Every life on any terms: `paid_arms` on top of what the task pays, and that alone.

    Alone with a new critic, which where nobody pays is unpaid's `zero` and where the task always
    does its `true`, and with the critic of school.
    """
    return (FROZEN, Arm("plain"), Arm("old_critic", critic_kept=True)) + paid_arms(
        heads, blend, gamma
    )


RIVALS = (
    "constant_plus",
    "constant_minus",
    "sham",
    "scrambled",
    "critic",
    "reward_model",
    "classifier",
)
CONTROLS = ("frozen", "zero", "zero_critic_kept", *RIVALS)
"""What hope - fear must beat, each and all: what needs no feeling, or none that knows anything."""
LIFE_CONTROLS = ("frozen", "plain", "old_critic", *RIVALS)
"""The same in a life."""


def variants(weight: float = 1.0) -> tuple[Arm, ...]:
    """Hope - fear otherwise: told wrong, of other sizes, at other weights. On dev shifts alone."""
    return (
        *(Arm(f"wrong_{share}", both(f"_wrong_{share}", weight)) for share in WRONG),
        *(Arm(f"width_{width}", both(f"_width_{width}", weight)) for width in WIDTHS),
        *(Arm(f"weight_{times:g}", both(weight=times * weight)) for times in WEIGHTS),
    )
