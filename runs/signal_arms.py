"""Arms of `runs.reward_free` and `runs.continual`: mixes of task reward and signals of one blend.

All heads that any arm uses are in one blend, trained at home, and an arm is a reward mix: weights
of the task reward and of each signal. So all arms share one compiled program.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from affect import Blend, Constant, Fear, HeadFactory, Hope, Innate, Potential, Untrained
from envs.suite import Suite
from envs.worlds.drive.sensors import looming
from runs.engine import custom_head
from runs.engine.arms import weighted_head
from runs.engine.control_heads import (
    LearnedReward,
    ParentCritic,
    SignalDifference,
    WithLabelNoise,
    WithoutAnchors,
    insert_critic,
)
from runs.engine.phases import RewardMix, signal_weights
from runs.engine.train import Learner
from runs.errors import UserError

HEADS = ("fear", "hope", "curiosity", "innate")  # the default of `--heads`
TESTED = "hope_fear"
FLIP_RATES = (0.1, 0.2, 0.3, 0.4, 0.5)  # shares of terminal steps with flipped labels
WIDTHS = (4, 64)  # hidden units of a head, beside its usual 16
WEIGHTS = (0.1, 10.0)  # of the signal, beside 1
LOOMING = ("Drive", "Timid")  # the innate signal there: looming, from the ray sensors


@dataclass(frozen=True)
class SignalArm:
    """One reward mix: weights of the task reward and of the signals, and what is kept of the agent.

    Attributes:
        name: of the arm.
        weights: of the signals, by name of the head.
        task_weight: of the task reward.
        yoked: use the signals of the neighbouring environment.
        critic_kept: keep the critic instead of initialising a new one.
        learns: False for the frozen agent.
    """

    name: str
    weights: Mapping[str, float] = field(default_factory=dict)
    task_weight: float = 0.0
    yoked: bool = False
    critic_kept: bool = False
    learns: bool = True

    def mix(self, blend: Blend, task_weight: Any = None) -> RewardMix:
        """Reward mix of the arm; `task_weight` replaces that of the arm."""
        task = self.task_weight if task_weight is None else task_weight
        return RewardMix(task, signal_weights(blend, self.weights), float(self.yoked))

    @property
    def renew(self) -> tuple[str, ...]:
        """Parts of the learner that begin anew (`runs.engine.phases.Phase`)."""
        return ("optimiser",) if self.critic_kept else ("critic", "optimiser")


FROZEN = SignalArm("frozen", learns=False)
AT_HOME = SignalArm("home", task_weight=1.0)


def hope_and_fear(suffix: str = "", weight: float = 1.0) -> dict[str, float]:
    """Signal weights of hope - fear, as a sum: fear's signal is never positive."""
    return {f"hope{suffix}": weight, f"fear{suffix}": weight}


def available_heads(suite: Suite, heads: Sequence[str]) -> tuple[str, ...]:
    """The requested heads; of the default ones without `innate` where the suite has none."""
    has_innate = suite.innate is not None or suite.name in LOOMING
    skip_innate = tuple(heads) == HEADS and not has_innate
    return tuple(name for name in heads if name != "innate" or not skip_innate)


def signal_blend(heads: Iterable[str], suite: Suite, agent: Any, varied: bool = False) -> Blend:
    """Blend of all heads that any arm uses as reward; each head learns by itself.

    Args:
        heads: names as in `runs.engine.arms.weighted_head`; hope and fear are always added.
        suite: defines the innate signal.
        agent: its critic becomes a signal, unless the agent normalises observations.
        varied: also add hope and fear as `variants` need them.

    Raises:
        UserError: for an unknown head, or two of one name.
    """
    entries = {"fear": (1.0, SignalDifference(Fear)), "hope": (1.0, SignalDifference(Hope))}
    for name in heads:
        short = custom_head.short_name(name)
        if short in entries and name not in ("fear", "hope"):
            raise UserError(f"heads {' '.join(heads)}: two heads have the same name; rename one")
        entries[short] = entries.get(short) or _reward_head(name, suite)
    entries |= {
        "constant": (1.0, partial(Constant, value=1.0)),
        "reward_model": (1.0, LearnedReward),
        "classifier": (1.0, partial(LearnedReward, ends=True)),
    }
    if not agent.normalise:
        entries["critic"] = (1.0, SignalDifference(partial(ParentCritic, width=agent.width)))
    pairs = {
        "unanchored": (WithoutAnchors(Fear), WithoutAnchors(Hope)),
        "untrained": (Untrained(Fear), Untrained(Hope)),
    }
    for rate in FLIP_RATES if varied else ():
        pairs[f"flipped_{rate}"] = tuple(WithLabelNoise(head, share=rate) for head in (Fear, Hope))
    for width in WIDTHS if varied else ():
        pairs[f"width_{width}"] = partial(Fear, width=width), partial(Hope, width=width)
    for suffix, (fear, hope) in pairs.items():
        entries[f"fear_{suffix}"] = 1.0, SignalDifference(fear)
        entries[f"hope_{suffix}"] = 1.0, SignalDifference(hope)
    return Blend(**entries)


def _reward_head(name: str, suite: Suite) -> tuple[float, HeadFactory]:
    """(weight, factory) of a command-line head: a potential as its difference, others as is."""
    if name == "innate" and suite.innate is None and suite.name in LOOMING:
        return 1.0, SignalDifference(partial(Innate, fn=lambda batch: -looming(batch.next_obs)))
    weight, factory = weighted_head(name, suite)
    if getattr(factory, "cls", None) is Potential:
        return weight, SignalDifference(**factory.settings)
    return weight, factory


def with_parent_critic(learner: Learner, blend: Blend) -> Learner:
    """The learners with their present critic in every `ParentCritic` of the blend."""
    net = getattr(learner.agent.train_state, "net", None)
    return learner._replace(blend_state=insert_critic(learner.blend_state, blend, net.critic))


def signal_arms(
    heads: Iterable[str], blend: Blend, gamma: float, weight: float = 1.0
) -> tuple[SignalArm, ...]:
    """Every arm with a signal as reward: each head alone, hope - fear, and all signal controls.

    Args:
        heads: that get an arm each.
        blend: of `signal_blend`.
        gamma: +-(1 - gamma) are the constants.
        weight: of all signals.
    """
    names = [custom_head.short_name(name) for name in heads]
    critic = [SignalArm("critic", {"critic": weight})] if "critic" in blend.names else []
    return (
        SignalArm("constant_plus", {"constant": 1 - gamma}),
        SignalArm("constant_minus", {"constant": gamma - 1}),
        SignalArm("sham", hope_and_fear(weight=weight), yoked=True),
        SignalArm("untrained", hope_and_fear("_untrained", weight)),
        *critic,
        SignalArm("reward_model", {"reward_model": weight}),
        SignalArm("classifier", {"classifier": weight}),
        SignalArm("unanchored", hope_and_fear("_unanchored", weight)),
        *(SignalArm(name, {name: weight}) for name in names),
        SignalArm(TESTED, hope_and_fear(weight=weight)),
    )


SIGNAL_CONTROLS = (
    *("constant_plus", "constant_minus", "sham", "untrained"),
    *("critic", "reward_model", "classifier"),
)
"""Arms of `signal_arms` that hope - fear must beat: a constant, or an uninformed signal."""


def variants(weight: float = 1.0) -> tuple[SignalArm, ...]:
    """Hope - fear with flipped labels, other widths and other weights; for dev shifts only."""
    suffixes = [f"flipped_{rate}" for rate in FLIP_RATES] + [f"width_{width}" for width in WIDTHS]
    return (
        *(SignalArm(name, hope_and_fear(f"_{name}", weight)) for name in suffixes),
        *(SignalArm(f"weight_{x:g}", hope_and_fear(weight=x * weight)) for x in WEIGHTS),
    )
