"""An episode and what was felt in it, step by step: the showpiece of a report."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from runs.engine.train import Learner, TrainConfig
from runs.probes import signals
from runs.report.film import WIDTH


class EpisodeTrace(NamedTuple):
    """One episode of one agent.

    Attributes:
        frames: uint8 [T, H, W, 3].
        signals: what each head said, {name: float [T]}.
        blunder: the step after which the agent's own critic fell most; None in a success, and
            where the episode has one step.
        ended: how, in a word or two.
    """

    frames: np.ndarray
    signals: dict[str, np.ndarray]
    blunder: int | None
    ended: str


def largest_drop(surprise: np.ndarray, success: bool) -> int | None:
    """The step of the greatest disappointment, the last one left out, which is its outcome.

    Args:
        surprise: float [T], temporal-difference errors of the critic.
        success: whether the episode was one.
    """
    return None if success or len(surprise) < 2 else int(np.argmin(surprise[:-1]))


def describe_ending(success: float, terminated: bool) -> str:
    """How an episode ended, in a word or two; success is NaN where none is defined."""
    if success == 1:
        return "success"
    return ("failure" if success == 0 else "ended") if terminated else "out of time"


def save_trace(path: Path, episode: EpisodeTrace, title: str) -> None:
    """Writes an episode with its pictures shrunk to about `WIDTH` pixels, all of it or nothing.

    Args:
        path: of the file, which ends in .npz.
        episode: to keep.
        title: where it took place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shrink = max(1, round(episode.frames.shape[2] / WIDTH))
    beside = path.with_suffix(".part.npz")
    blundered = -1 if episode.blunder is None else episode.blunder
    said = {"title": title, "ended": episode.ended, "blunder": blundered}
    signals = {f"signal/{name}": values for name, values in episode.signals.items()}
    np.savez_compressed(beside, frames=episode.frames[:, ::shrink, ::shrink], **said, **signals)
    os.replace(beside, path)


def load_trace(path: Path) -> tuple[str, EpisodeTrace] | None:
    """An episode that was kept, and its title; None where there is none that can be read."""
    try:
        with np.load(path) as file:
            signals = {key[7:]: file[key] for key in file.files if key.startswith("signal/")}
            blunder = int(file["blunder"])
            ended = str(file["ended"])
            blundered = None if blunder < 0 else blunder
            return str(file["title"]), EpisodeTrace(file["frames"], signals, blundered, ended)
    except (OSError, ValueError, KeyError, EOFError):
        return None


def episode_length(batch: Transition) -> int:
    """Steps of the first episode of the first environment in a batch [T, B]."""
    return int(np.asarray(batch.terminated | batch.truncated)[:, 0].argmax()) + 1


def trace_episode(
    config: TrainConfig, learner: Learner, batch: Transition, frames: np.ndarray, success: Callable
) -> EpisodeTrace:
    """The first episode of a batch [T, B], with what heads and critic say of it by themselves."""
    length, agent = episode_length(batch), config.agent
    batch = jax.tree.map(lambda leaf: leaf[:length], batch)
    said = signals.predictions(config.blend, learner.blend_state)
    said["critic"] = signals.critic_signals(agent, learner.agent)["critic"]
    values = {name: np.asarray(predict(batch))[:, 0] for name, predict in said.items()}
    here = np.asarray(agent.value(learner.agent, batch.obs)[..., 0])[:, 0]
    reward, ends = np.asarray(batch.reward)[:, 0], np.asarray(batch.terminated)[:, 0]
    surprise = reward + agent.gamma * values["critic"] * ~ends - here
    well = float(success(jnp.asarray(reward.sum()), jnp.asarray(length)))
    if "success" in batch.info:
        well *= float(batch.info["success"][-1, 0] > 0)
    blundered = largest_drop(surprise, well == 1)
    return EpisodeTrace(frames, values, blundered, describe_ending(well, bool(ends[-1])))
