"""Monitor: an alarm where a trained head's signal is above a conformal threshold, fitted at home.

The threshold is a conformal quantile of successful episodes (Vovk, Gammerman & Shafer, 2005): it
needs no model of the signal, and how often the alarm is raised in another world is a finding, not a
choice.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from affect.fear import Fear
from affect.genome import Distilled
from affect.head import Head
from affect.hope import Hope
from affect.inheritance import load
from affect.inherited import Inherited
from affect.moments import NEARLY_CONSTANT
from affect.transition import is_a, is_number, one_line
from affect.value import CLIP, Value
from affect.wrappers import Wrapper

Danger = Callable[[np.ndarray], np.ndarray]  # observations [..., D] -> [...], high where it is bad
MEASURES = ("alarm_threshold", "alarm_quantile", "alarm_episodes")  # of a card, which a file keeps


class Monitor:
    """Alarm at each step of a deployed agent, in NumPy, without a batch, a state or a compiler.

    The danger at an observation is minus the head's signal: the probability of harm of `Fear`,
    minus the value of `Hope`, `Value` or `Distilled`. `fit` takes the highest danger of each
    successful episode at home, N of them, and sets the threshold to the k-th lowest, k =
    ceil((N + 1) quantile). Then a new successful episode at home, exchangeable with these, has an
    alarm with probability at most 1 - quantile, and at least that less 1 / (N + 1) without ties.

    >>> import jax, numpy as np
    >>> from affect import Monitor, zoo
    >>> monitor = Monitor(zoo.load("drive-fear"), quantile=0.9)
    >>> rng = np.random.default_rng(0)
    >>> home = [rng.uniform(0, 0.3, (75, 37)) for _ in range(50)]  # your successful episodes
    >>> monitor = monitor.fit(home)
    >>> alarms = [monitor.alarm(obs) for obs in home[0]]  # at each step: brake, or ask a human
    >>> sum(any(monitor.alarm(episode)) for episode in home) <= 5  # at most a tenth of them
    True

    Args:
        head: a trained `Fear`, `Hope`, `Value` or `Distilled`, in wrappers or not; or a function of
            observations [..., D] to the danger [...], high where it is bad.
        quantile: share of successful episodes at home without an alarm, in (0, 1).

    Attributes:
        danger: the function of observations.
        threshold: above which a danger is an alarm; None until `fit`.
        episodes: N, to which it was fitted.

    Raises:
        ValueError: a quantile out of range, or a head that is no network of the observation alone.
    """

    def __init__(self, head: Head | Danger, quantile: float = 0.95):
        if not is_number(quantile) or not 0 < quantile < 1:
            raise ValueError(f"quantile is a share between 0 and 1, not {quantile!r}")
        if not is_a(head, Head) and (isinstance(head, type) or not callable(head)):
            raise ValueError(f"Monitor needs a trained head, not {one_line(head)}: build it first")
        self.head, self.quantile = head, float(quantile)
        self.danger: Danger = numpy_danger(head) if isinstance(head, Head) else head
        self.threshold: float | None = None
        self.episodes = 0

    def fit(self, episodes: Iterable[np.ndarray]) -> "Monitor":
        """Sets the threshold by successful episodes at home -> this monitor.

        Args:
            episodes: observations [T, D] of each, T of its own.

        Raises:
            ValueError: too few episodes for the quantile, an empty one, or a danger that is no
                number.
        """
        highest = []
        for episode in map(np.asarray, episodes):
            if episode.ndim != 2 or not len(episode):
                raise ValueError(f"an episode is observations [T, D], not {one_line(episode)}")
            highest.append(np.max(self.danger(episode)))
        self.threshold = conformal_threshold(np.array(highest), self.quantile)
        self.episodes = len(highest)
        return self

    def alarm(self, obs: np.ndarray) -> Any:
        """Whether the danger at obs [D] is above the threshold; [...] for obs [..., D].

        A danger that is not a number is an alarm.

        Raises:
            ValueError: the monitor was not fitted.
        """
        if self.threshold is None:
            raise ValueError("this monitor has no threshold: call monitor.fit(episodes) first")
        return ~(self.danger(obs) <= self.threshold)

    def save(self, path: str | Path, **card: Any) -> None:
        """Saves head and threshold in one file, which `affect.load` reads as the head alone.

        Args:
            path: of the file.
            **card: as of `Head.save`.

        Raises:
            ValueError: not fitted, or a function instead of a head.
        """
        if self.threshold is None or not isinstance(self.head, Head):
            raise ValueError("a monitor that is saved has a head and was fitted: it is none yet")
        values = self.threshold, self.quantile, float(self.episodes)
        known = self.head.alone().origin.facts.get("measures", {})
        measures = {**known, **card.pop("measures", {}), **dict(zip(MEASURES, values, strict=True))}
        self.head.save(path, measures=measures, **card)

    @classmethod
    def load(cls, path: str | Path) -> "Monitor":
        """The monitor of a file that `save` wrote.

        Raises:
            ValueError: no such file, a damaged one, or one without a threshold.
        """
        head = load(path)
        measures = head.origin.facts.get("measures", {})
        if missing := [name for name in MEASURES if name not in measures]:
            raise ValueError(f"{path} has no {missing[0]}: it is a head; Monitor(head).fit(...) it")
        monitor = cls(head, measures["alarm_quantile"])
        monitor.threshold = measures["alarm_threshold"]
        monitor.episodes = int(measures["alarm_episodes"])
        return monitor


def conformal_threshold(scores: np.ndarray, quantile: float) -> float:
    """Threshold that a new score, exchangeable with scores [N], exceeds with at most 1 - quantile.

    The k-th lowest score, k = ceil((N + 1) quantile) (split conformal prediction, Vovk et al.,
    2005).

    Raises:
        ValueError: fewer than quantile / (1 - quantile) scores, or one that is not a number.
    """
    scores = np.asarray(scores, float)
    if np.isnan(scores).any():
        raise ValueError("the danger of an episode is not a number: leave it out, or mend the head")
    rank = math.ceil((scores.size + 1) * quantile - 1e-9)
    if rank > scores.size:
        least = math.ceil(quantile / (1 - quantile) - 1e-9)
        raise ValueError(
            f"{scores.size} episodes are too few for quantile={quantile:g}: give at least {least}"
        )
    return float(np.sort(scores.ravel())[max(rank, 1) - 1])


def numpy_danger(head: Head) -> Danger:
    """Minus the signal of a head as a NumPy function of observations [..., D] -> [...].

    Raises:
        ValueError: a head that is no network of the observation alone.
    """
    inner: Any = head
    while is_a(inner, Wrapper):
        if is_a(inner, Inherited) and inner.obs is not None:
            raise ValueError(
                "this head reads a part of the observation: monitor the head of the file, and give "
                "it that part, as in monitor.alarm(obs[:8])"
            )
        inner = inner.alone() if is_a(inner, Inherited) else inner.inner
    kind: type = type(inner)
    whitening = None
    if kind in (Fear, Hope):
        layers = [inner.predictor.hidden, inner.predictor.out]
    elif kind in (Value, Distilled):
        layers = [*inner.net.hidden, inner.net.out]
        whitening = _whitening(inner) if getattr(inner, "whitened", False) else None
    else:
        raise ValueError(
            f"{kind.__name__} is no network of the observation alone: monitor Fear, Hope, Value or "
            "Distilled, or a function of observations"
        )
    *hidden, (last, level) = [
        (np.asarray(x.kernel[...], np.float32), np.asarray(x.bias[...], np.float32)) for x in layers
    ]
    low = inner.predictor.low if kind in (Fear, Hope) else None
    sign = 1.0 if kind is Fear else -1.0  # the signal of Fear is minus its probability

    def danger(obs: np.ndarray) -> np.ndarray:
        x = np.asarray(obs, np.float32)
        if whitening is not None:
            x = np.clip((x - whitening[0]) / whitening[1], -CLIP, CLIP)
        for kernel, bias in hidden:
            x = np.tanh(x @ kernel + bias)
        out = (x @ last + level)[..., 0]
        if low is not None:
            out = low + (1 - low) * 0.5 * (1 + np.tanh(0.5 * out))
        return sign * out

    return danger


def _whitening(head: Value) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale [D] by which a value whitens observations (`affect.moments.whiten`)."""
    mean, variance = np.asarray(head.mean[...]), np.asarray(head.variance[...])
    constant = variance < np.square(NEARLY_CONSTANT * (1 + np.abs(mean)))
    enlarged = variance + 1e-8
    return mean, np.sqrt(np.where(constant, np.maximum(enlarged, 1.0), enlarged))
