"""Recording of one episode with the signal of every head at each step, saved as .npz."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from runs.engine.episodes import episode_length
from runs.engine.train import Learner, TrainConfig
from runs.errors import UserError
from runs.lock import replacing
from runs.probes import signals
from runs.report.film import WIDTH
from runs.tree_io import read_npz


class EpisodeTrace(NamedTuple):
    """Frames and signals of one episode of one agent."""

    frames: np.ndarray  # uint8 [T, H, W, 3]
    signals: dict[str, np.ndarray]  # of each head and of the critic, {name: float [T]}
    blunder: int | None  # index of the `largest_drop` of the critic's value
    ended: str  # how the episode ended, in a word or two


def largest_drop(td_errors: np.ndarray, success: bool) -> int | None:
    """Index of the critic's lowest TD error [T] before the last step; None after a success.

    The last step is the outcome; None also in an episode of one step.
    """
    return None if success or len(td_errors) < 2 else int(np.argmin(td_errors[:-1]))


def describe_ending(success: float, terminated: bool) -> str:
    """Ending of an episode in a word or two; `success` is NaN where it is not defined."""
    if success == 1:
        return "success"
    return ("failure" if success == 0 else "ended") if terminated else "out of time"


def save_trace(path: Path, episode: EpisodeTrace, title: str) -> None:
    """Writes an episode to a .npz file atomically, its frames shrunk to about `WIDTH` pixels.

    The title is a heading in the report, such as the arm and where it acted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shrink = max(1, round(episode.frames.shape[2] / WIDTH))
    blunder = -1 if episode.blunder is None else episode.blunder
    metadata = {"title": title, "ended": episode.ended, "blunder": blunder}
    signals = {f"signal/{name}": values for name, values in episode.signals.items()}
    frames = episode.frames[:, ::shrink, ::shrink]
    with replacing(path) as part:
        np.savez_compressed(part, frames=frames, **metadata, **signals)


def load_trace(path: Path) -> tuple[str, EpisodeTrace] | None:
    """Title and trace of a saved episode; None if the file is missing or unreadable."""
    try:
        file = read_npz(path)
        signals = {key[7:]: file[key] for key in file if key.startswith("signal/")}
        step, ended = int(file["blunder"]), str(file["ended"])
        blunder = None if step < 0 else step
        return str(file["title"]), EpisodeTrace(file["frames"], signals, blunder, ended)
    except (UserError, KeyError, TypeError, ValueError):
        return None


def trace_episode(
    config: TrainConfig, learner: Learner, batch: Transition, frames: np.ndarray, success: Callable
) -> EpisodeTrace:
    """Trace of the first episode of a batch [T, B]: signals of the bare heads and of the critic.

    An agent without a critic has neither its signal nor a blunder.
    """
    length, agent = episode_length(batch), config.agent
    batch = jax.tree.map(lambda leaf: leaf[:length], batch)
    predictors = signals.predictions(config.blend, learner.blend_state)
    has_critic = hasattr(agent, "value") and hasattr(agent, "gamma")
    if has_critic:
        predictors["critic"] = signals.critic_signals(agent, learner.agent)["critic"]
    values = {name: np.asarray(predict(batch))[:, 0] for name, predict in predictors.items()}
    reward, terminated = np.asarray(batch.reward)[:, 0], np.asarray(batch.terminated)[:, 0]
    succeeded = float(success(jnp.asarray(reward.sum()), jnp.asarray(length)))
    if "success" in batch.info:
        succeeded *= float(batch.info["success"][-1, 0] > 0)
    blunder = None
    if has_critic:
        value = np.asarray(agent.value(learner.agent, batch.obs)[..., 0])[:, 0]
        td_errors = reward + agent.gamma * values["critic"] * ~terminated - value
        blunder = largest_drop(td_errors, succeeded == 1)
    return EpisodeTrace(frames, values, blunder, describe_ending(succeeded, bool(terminated[-1])))
