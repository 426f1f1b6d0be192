"""Summaries of a validity probe: per-seed means, contrasts of a head with baselines, a finding."""

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
    "innate": "the innate signal",
    "{head}_untrained": "the head untrained",
    "disagreement": "the disagreement of five heads",
    "fear_linear": "a linear fear",
    "fear_256_256": "a fear of 256-256",
    "{head}_offline": "the head trained offline",
    "{head}_random": "the head trained in randomised worlds",
}
"""Declared contrasts, the primary one first; those without a probed baseline are left out."""

PILOT_SHIFTS = ("cones", "aggressive", "cross", "ice", "fog", "noise")  # at severity 1
FEWEST = 3  # seeds with a finite value, for an interval


class BaselineContrast(NamedTuple):
    """Difference in AUROC between the head and a baseline, mean over shifts, paired by seed.

    Attributes:
        baseline: its name.
        gain: with its t interval.
        p_value: of the paired t test, Holm-adjusted over the family.
    """

    baseline: str
    gain: Estimate
    p_value: float


class ValidityResult(NamedTuple):
    """Readouts of all seeds at all points of a validity probe.

    Attributes:
        head: name of the head.
        points: P of them, home first.
        readouts: name -> [S, P]; `memory` [S, sizes, 2] and reliability [S, 2, BINS, 3].
    """

    head: str
    points: tuple[Point, ...]
    readouts: Mapping[str, np.ndarray]

    @property
    def signals(self) -> list[str]:
        """Names of all signals, the head first."""
        names = [key.removesuffix("/auroc") for key in self.readouts if key.endswith("/auroc")]
        return [self.head, *(name for name in names if name != self.head)]

    @property
    def shifts(self) -> list[str]:
        """Names of the shifts, in order."""
        return list(dict.fromkeys(point.shift for point in self.points[1:]))

    def at_home(self, signal: str, metric: str = "auroc") -> np.ndarray:
        """Metric of a signal in the unshifted world, [S]."""
        return self.values(signal, metric)[:, 0]

    def under_shift(
        self, shift: str, signal: str, metric: str = "auroc", severity: float | None = None
    ):
        """Metric under a shift, [S]: mean over severities or one of them; NaN if undefined."""
        indices = [
            i
            for i, point in enumerate(self.points)
            if point.shift == shift and severity in (None, point.severity)
        ]
        return _mean(self.values(signal, metric)[:, indices])

    def over_shifts(self, signal: str, metric: str = "auroc") -> np.ndarray:
        """Metric of a signal, mean over severities, then over shifts, [S]."""
        by_shift = [self.under_shift(shift, signal, metric) for shift in self.shifts]
        return _mean(np.stack(by_shift, 1))

    def values(self, signal: str, metric: str) -> np.ndarray:
        """Metric of a signal at every point, [S, P]; without a signal, a metric common to all."""
        return np.asarray(self.readouts[f"{signal}/{metric}" if signal else metric], float)


def estimate(x: np.ndarray) -> Estimate:
    """Mean over the finite seeds of x [S] with its t interval; NaN if fewer than FEWEST."""
    x = x[np.isfinite(x)]
    return stats.mean(x) if len(x) >= FEWEST else Estimate(np.nan, np.nan, np.nan)


def contrast(x: np.ndarray, y: np.ndarray) -> tuple[Estimate, float]:
    """Paired difference x - y over seeds [S] -> (mean with t interval, p of the paired t test)."""
    from scipy import stats as tests

    differences = (x - y)[np.isfinite(x - y)]
    if len(differences) < FEWEST:
        return Estimate(np.nan, np.nan, np.nan), np.nan
    if np.ptp(differences) == 0:
        return estimate(differences), float(differences[0] == 0)
    return estimate(differences), float(tests.ttest_1samp(differences, 0.0).pvalue)


def contrasts(result: ValidityResult) -> list[BaselineContrast]:
    """Contrasts of the declared family for which the baseline was probed, Holm-adjusted."""
    head, results = result.over_shifts(result.head), {}
    for pattern in FAMILY:
        baseline = pattern.format(head=result.head)
        if baseline in result.signals and baseline != result.head:
            results[baseline] = contrast(head, result.over_shifts(baseline))
    p_values = {baseline: p for baseline, (_, p) in results.items() if np.isfinite(p)}
    adjusted = stats.holm(p_values) if p_values else {}
    return [
        BaselineContrast(name, gain, adjusted.get(name, np.nan))
        for name, (gain, _) in results.items()
    ]


def finding(env: str, result: ValidityResult, family: Sequence[BaselineContrast]) -> str:
    """Two sentences: the primary contrast, and which baselines rank harm worse, better or alike."""
    primary, *others = family
    if not np.isfinite(primary.gain.value):
        return f"{env}: harm was too rare for a contrast."
    seeds = int(
        np.isfinite(result.over_shifts(result.head) - result.over_shifts(primary.baseline)).sum()
    )
    verb = "ranks harm better than"
    if primary.p_value >= 0.05:
        verb = "does not differ significantly from"
    elif primary.gain.value < 0:
        verb = "ranks harm worse than"
    home, shifted = (estimate(mean(result.head)) for mean in (result.at_home, result.over_shifts))
    home_text = f"at home {home.value:.3f}" if np.isfinite(home.value) else "no harm at home"
    sentence = (
        f"{env}, {seeds} seeds: under shift {result.head} {verb} the agent's critic: AUROC "
        f"{shifted:.3f} ({home_text}), {primary.gain:+.3f} beyond minus the critic "
        f"(Holm p {_p(primary.p_value)})."
    )
    kinds: dict[str, list[str]] = {"Better than": [], "Worse than": [], "Not significant:": []}
    for other in others:
        if not np.isfinite(other.gain.value):
            continue
        significant = other.p_value < 0.05
        kind = (
            ("Better than" if other.gain.value > 0 else "Worse than")
            if significant
            else "Not significant:"
        )
        label = next(
            text for key, text in FAMILY.items() if key.format(head=result.head) == other.baseline
        )
        kinds[kind].append(f"{label} {other.gain:+.3f}")
    return " ".join(
        [sentence, *(f"{kind} {'; '.join(items)}." for kind, items in kinds.items() if items)]
    )


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}"


def _mean(x: np.ndarray) -> np.ndarray:
    """Mean of the finite entries over the last axis; NaN if there are none."""
    finite = np.isfinite(x)
    total = np.where(finite, x, 0.0).sum(-1)
    with np.errstate(invalid="ignore"):
        return total / finite.sum(-1)
