"""What an examination came to: means a seed first, contrasts with the head's rivals, words."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from envs.suite import Point
from runs.analysis import stats
from runs.analysis.stats import Estimate

FAMILY = {
    "minus_critic": "the agent's critic",
    "minus_short_critic": "a critic with the head's horizon",
    "minus_critic_residual": "the critic with progress regressed out",
    "innate": "what is innate",
    "{head}_untrained": "the head untrained",
    "disagreement": "the disagreement of five heads",
    "fear_linear": "a linear fear",
    "fear_256_256": "a fear of 256-256",
    "{head}_offline": "the head trained afterwards",
    "{head}_random": "the head trained in randomised worlds",
}
"""The declared contrasts, the primary one first; those whose rival is not there are left out."""

PILOT_SHIFTS = ("cones", "aggressive", "cross", "ice", "fog", "noise")  # at severity 1
FEWEST = 3  # seeds with a number


class BaselineContrast(NamedTuple):
    """The head less a rival: AUROC, mean over shifts, seed by seed.

    Attributes:
        rival: its name.
        gain: with its t interval.
        p_value: of the paired t test, Holm-adjusted over the family.
    """

    rival: str
    gain: Estimate
    p_value: float


class ValidityResult(NamedTuple):
    """What was told, and of what.

    Attributes:
        head: name of the head.
        points: P of them, home first.
        told: name -> [S, P]; `memory` [S, sizes, 2] and reliability [S, 2, BINS, 3].
    """

    head: str
    points: tuple[Point, ...]
    told: Mapping[str, np.ndarray]

    @property
    def signals(self) -> list[str]:
        """All signals, the head first."""
        names = [key.removesuffix("/auroc") for key in self.told if key.endswith("/auroc")]
        return [self.head, *(name for name in names if name != self.head)]

    @property
    def shifts(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(point.shift for point in self.points[1:]))

    def at_home(self, signal: str, question: str = "auroc") -> np.ndarray:
        """[S] in distribution."""
        return self.of(signal, question)[:, 0]

    def under(
        self, shift: str, signal: str, question: str = "auroc", severity: float | None = None
    ):
        """[S] mean over the severities of a shift, or at one of them; NaN where none tells."""
        here = [
            i
            for i, point in enumerate(self.points)
            if point.shift == shift and severity in (None, point.severity)
        ]
        return _mean(self.of(signal, question)[:, here])

    def away(self, signal: str, question: str = "auroc") -> np.ndarray:
        """[S] mean over severities, then over shifts."""
        each = [self.under(shift, signal, question) for shift in self.shifts]
        return _mean(np.stack(each, 1))

    def of(self, signal: str, question: str) -> np.ndarray:
        """[S, P]."""
        return np.asarray(self.told[f"{signal}/{question}" if signal else question], float)


def estimate(x: np.ndarray) -> Estimate:
    """The mean of seeds [S] with its t interval, of those that can tell; NaN if too few can."""
    x = x[np.isfinite(x)]
    return stats.mean(x) if len(x) >= FEWEST else Estimate(np.nan, np.nan, np.nan)


def contrast(x: np.ndarray, y: np.ndarray) -> tuple[Estimate, float]:
    """How far x is above y, seed by seed [S] -> (mean with t interval, p, paired t test)."""
    from scipy import stats as tests

    apart = (x - y)[np.isfinite(x - y)]
    if len(apart) < FEWEST:
        return Estimate(np.nan, np.nan, np.nan), np.nan
    if np.ptp(apart) == 0:
        return estimate(apart), float(apart[0] == 0)
    return estimate(apart), float(tests.ttest_1samp(apart, 0.0).pvalue)


def contrasts(told: ValidityResult) -> list[BaselineContrast]:
    """The declared family, as far as the rivals are there and can be compared."""
    head, found = told.away(told.head), {}
    for pattern in FAMILY:
        rival = pattern.format(head=told.head)
        if rival in told.signals and rival != told.head:
            found[rival] = contrast(head, told.away(rival))
    finite = {rival: p for rival, (_, p) in found.items() if np.isfinite(p)}
    adjusted = stats.holm(finite) if finite else {}
    return [BaselineContrast(r, gain, adjusted.get(r, np.nan)) for r, (gain, _) in found.items()]


def finding(env: str, told: ValidityResult, family: Sequence[BaselineContrast]) -> str:
    """Two sentences: the primary contrast, and who among the rivals knows more, less or as much."""
    primary, *others = family
    if not np.isfinite(primary.gain.value):
        return f"{env}: harm was too rare to tell anything."
    seeds = int(np.isfinite(told.away(told.head) - told.away(primary.rival)).sum())
    verb = "knows more of harm than"
    if primary.p_value >= 0.05:
        verb = "cannot be told apart from"
    elif primary.gain.value < 0:
        verb = "knows less of harm than"
    home, away = (estimate(x(told.head)) for x in (told.at_home, told.away))
    own = f"at home {home.value:.3f}" if np.isfinite(home.value) else "at home nobody was harmed"
    said = (
        f"{env}, {seeds} seeds: under shift {told.head} {verb} the agent's critic: AUROC "
        f"{away:.3f} ({own}), {primary.gain:+.3f} beyond minus the critic "
        f"(Holm p {_p(primary.p_value)})."
    )
    kinds: dict[str, list[str]] = {"It beats": [], "It loses to": [], "Not told apart:": []}
    for one in others:
        if not np.isfinite(one.gain.value):
            continue
        apart = one.p_value < 0.05
        kind = ("It beats" if one.gain.value > 0 else "It loses to") if apart else "Not told apart:"
        label = next(
            words for key, words in FAMILY.items() if key.format(head=told.head) == one.rival
        )
        kinds[kind].append(f"{label} {one.gain:+.3f}")
    return " ".join([said, *(f"{kind} {'; '.join(some)}." for kind, some in kinds.items() if some)])


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}"


def _mean(x: np.ndarray) -> np.ndarray:
    """Over the last axis, of what is a number; NaN if nothing is."""
    there = np.isfinite(x)
    total = np.where(there, x, 0.0).sum(-1)
    with np.errstate(invalid="ignore"):
        return total / there.sum(-1)
