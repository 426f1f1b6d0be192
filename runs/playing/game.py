"""One episode of a world that is played key by key, with the signals of frozen heads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import affect
from affect import Blend, Inherited
from affect.blend import BlendState
from affect.observation import split
from envs.channel import is_allowed
from runs.engine.presets import find_suite
from runs.errors import UserError
from runs.names import checked_choice
from runs.playing.episodes import make_episode
from runs.playing.keys import action_of, allowed_numbers, has_meaning, keys_text
from runs.report.episode_trace import EpisodeTrace
from runs.report.html import write_replay
from runs.report.player import png_data_url, shrunk

ZOO = "zoo:"


class Game:
    """An episode in progress.

    Args:
        title: of its page.
        episode: of `runs.playing.episodes`.
        spec: shapes of its world.
        blend: of the heads, which are not trained.
        blend_state: of them.

    Attributes:
        names: of the heads.
        steps: (picture before, signals [K] after) of each step.
        ended: how the episode ended, in a word or two; empty while it goes on.
        fault: what the environment did wrong, which ended the episode; else empty.
    """

    def __init__(self, title: str, episode: Any, spec: Any, blend: Blend, blend_state: BlendState):
        self.title, self.episode, self.spec, self.names = title, episode, spec, blend.names
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []
        self.ended, self.fault, self.total = "", "", 0.0
        self._state, self._feel = blend_state, jax.jit(blend.feel)
        self._view = self._picture()

    def step(self, pressed: Iterable[str]) -> None:
        """Take one step with these keys.

        Raises:
            UserError: a key has no meaning here, or its action is forbidden now; no step is taken.
        """
        action = self._action(frozenset(pressed))
        try:
            transition = self.episode.step(action)
            view = self._picture()
        except ValueError as error:
            self.ended = self.fault = str(error)
            return
        signals, self._state = self._feel(self._state, transition)
        self.steps.append((self._view, np.asarray(signals)[0, 0]))  # at once: Ctrl-C may come
        self._view = view
        self.total += float(transition.reward[0, 0])
        if transition.terminated.any() or transition.truncated.any():
            self.ended = "ended" if transition.terminated.any() else "out of time"

    def _action(self, pressed: frozenset[str]) -> np.ndarray:
        """Action of these keys; raises as `step` does."""
        spec, place = self.spec, f"step {len(self.steps)}"
        if unknown := [key for key in sorted(pressed) if not has_meaning(key, spec)]:
            raise UserError(f"{place}: {unknown[0]} is no key here: press {keys_text(spec)}")
        action = np.asarray(action_of(pressed, spec), np.float32 if spec.action_dim else np.int32)
        mask = split(spec, self.episode.obs).mask
        if mask is not None and not is_allowed(spec, mask, action):
            number = np.ravel_multi_index(tuple(np.atleast_1d(action)), spec.choices)
            allowed = ", ".join(map(str, allowed_numbers(spec, np.asarray(mask))))
            raise UserError(f"{place}: action {number} is forbidden now: press one of {allowed}")
        return action

    def _picture(self) -> np.ndarray:
        """Picture [H, W, 3] of the present state, shrunk as the page shows it."""
        return np.asarray(shrunk(self.episode.frame()))

    def shown(self) -> dict[str, Any]:
        """What the page shows of this moment, as JSON takes it."""
        signals = self.steps[-1][1] if self.steps else [None] * len(self.names)
        return {
            "frame": png_data_url(self._view),
            "step": len(self.steps),
            "total": f"{self.total:.2f}",
            "signals": [None if x is None else float(f"{x:.4g}") for x in signals],
            "ended": self.ended,
        }

    def save(self, path: Path) -> Path:
        """Write the page that replays the episode so far -> its path."""
        frames, signals = map(np.stack, zip(*self.steps, strict=True))
        by_name = dict(zip(self.names, signals.T, strict=True))
        trace = EpisodeTrace(frames, by_name, None, self.ended)
        return write_replay(path, self.title, [(self.title, trace)])

    def close(self) -> None:
        """Close the environment."""
        self.episode.close()


def make_game(settings: Any) -> Game:
    """The game of some settings of `runs.play`.

    Raises:
        UserError: for an unknown world, shift or head, a head that does not fit the world, or a
            world that is not drawn.
    """
    suite = find_suite(settings.env)
    shifts = {shift.name: shift for shift in suite.shifts}
    shift = shifts[checked_choice("shift", settings.shift, shifts)] if settings.shift else None
    title = f"{suite.name}, played by hand" + (f", under {settings.shift}" if shift else "")
    blend, spec = watching(settings.heads), suite.env.spec
    try:
        blend_state = blend.init(jax.random.key(settings.seed), spec, 1)
    except ValueError as error:
        ours = [f"{ZOO}{name}" for name in affect.zoo.names() if trained_in(name, suite.name)]
        heads = " or ".join(ours) or "heads trained there"
        raise UserError(f"{error}; in {suite.name} take {heads}, or none: --heads") from None
    try:
        episode = make_episode(suite, shift, settings.severity, settings.seed)
        return Game(title, episode, spec, blend, blend_state)
    except (ValueError, NotImplementedError) as error:  # the second of a world that is not drawn
        raise UserError(str(error)) from None


def watching(heads: Iterable[str]) -> Blend:
    """Blend of heads that are frozen: zoo:NAME, or a file; each is named as its file.

    Raises:
        UserError: for an unknown or broken one, or two of one name.
    """
    factories: dict[str, Any] = {}
    for head in heads:
        try:
            path = affect.zoo.path(head.removeprefix(ZOO)) if head.startswith(ZOO) else Path(head)
            name, factory = path.stem.replace("-", "_"), Inherited(path)
        except (ValueError, OSError) as error:
            raise UserError(f"--heads {head}: {error}") from None
        if name in factories:
            raise UserError(f"--heads {head}: two are called {name}; rename one of the files")
        factories[name] = (1.0, factory)
    try:
        return Blend(**factories)
    except ValueError as error:
        raise UserError(f"--heads: {error}") from None


def trained_in(name: str, world: str) -> bool:
    """Whether a head of the zoo was trained in a world of this name."""
    return affect.read_card(affect.zoo.path(name)).world == world
