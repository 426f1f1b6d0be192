"""One episode of a world that is played key by key, with the signals of frozen heads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import affect
from affect import Blend, Inherited
from affect.bridges.gymnasium import AffectReward
from envs.adapters.gymnasium_env import WorldEnv
from envs.host.suite import HostEnv
from envs.suite import Suite
from runs.engine.presets import find_suite
from runs.errors import UserError
from runs.names import checked_choice
from runs.playing.keys import action_of
from runs.report.episode_trace import EpisodeTrace
from runs.report.html import write_replay
from runs.report.player import png_data_url

ZOO = "zoo:"


class Game:
    """An episode in progress.

    Args:
        title: of its page.
        env: an `AffectReward` whose signals are not paid.
        spec: shapes of its world.
        seed: of the episode.

    Attributes:
        frames: uint8 [H, W, 3] before each step.
        signals: of each head after each step.
        ended: how the episode ended, in a word or two; empty while it goes on.
    """

    def __init__(self, title: str, env: Any, spec: Any, seed: int):
        self.title, self.env, self.spec = title, env, spec
        self.frames: list[np.ndarray] = []
        self.signals: dict[str, list[float]] = {name: [] for name in env.signals.names}
        self.ended, self.total = "", 0.0
        env.reset(seed=seed)
        self.view = env.render()

    def step(self, pressed: Iterable[str]) -> None:
        """Take one step with these keys."""
        self.frames.append(self.view)
        action = np.asarray(
            action_of(pressed, self.spec), np.float32 if self.spec.action_dim else int
        )
        _, reward, terminated, truncated, info = self.env.step(action)
        for name, value in info["affect"].items():
            self.signals[name].append(float(value))
        self.total += float(reward)
        self.view = self.env.render()
        if terminated or truncated:
            self.ended = "ended" if terminated else "out of time"

    def shown(self) -> dict[str, Any]:
        """What the page shows of this moment, as JSON takes it."""
        latest = {name: values[-1] if values else None for name, values in self.signals.items()}
        return {
            "frame": png_data_url(self.view),
            "step": len(self.frames),
            "total": self.total,
            "signals": [float(f"{x:.4g}") if x is not None else None for x in latest.values()],
            "ended": self.ended,
        }

    def save(self, path: Path) -> Path:
        """Write the page that replays the episode so far -> its path."""
        signals = {name: np.asarray(values) for name, values in self.signals.items()}
        trace = EpisodeTrace(np.stack(self.frames), signals, None, self.ended)
        return write_replay(path, self.title, [(self.title, trace)])

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def make_game(settings: Any) -> Game:
    """The game of some settings of `runs.play`.

    Raises:
        UserError: for an unknown world, shift or head, a head of other observations, or a world
            that is not drawn.
    """
    suite = find_suite(settings.env)
    shifts = {shift.name: shift for shift in suite.shifts}
    shift = shifts[checked_choice("shift", settings.shift, shifts)] if settings.shift else None
    title = f"{suite.name}, played by hand" + (f", under {settings.shift}" if shift else "")
    try:
        blend = Blend(**{name: (1.0, Inherited(path)) for name, path in named(settings.heads)})
        env = drawn_env(suite, shift, settings.severity)
        watched = AffectReward(env, blend, paid="info", learn=False, seed=settings.seed)
        return Game(title, watched, suite.env.spec, settings.seed)
    except (ValueError, OSError) as error:
        raise UserError(" ".join(str(error).split())) from None


def named(heads: Iterable[str]) -> Iterable[tuple[str, Path]]:
    """(Name, file) of each head: zoo:NAME, or a path."""
    for head in heads:
        if head.startswith(ZOO):
            name = head.removeprefix(ZOO)
            yield name.replace("-", "_"), affect.zoo.path(name)
        else:
            yield Path(head).stem.replace("-", "_"), Path(head)


def drawn_env(suite: Suite, shift: Any, severity: float) -> Any:
    """A gymnasium environment of a suite's world, shifted or not, that draws frames."""
    if not isinstance(suite.env, HostEnv):
        return WorldEnv(suite.env, suite.world, shift, severity, render_mode="rgb_array")
    world = suite.world if shift is None else shift(suite.world, severity, jax.random.key(0))
    return suite.env.maker(world, render_mode="rgb_array")()
