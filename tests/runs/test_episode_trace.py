"""Episode traces: the largest drop of the value, the ending, saving and loading."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Transition
from runs.report import episode_trace
from runs.report.episode_trace import EpisodeTrace, describe_ending, largest_drop


def test_largest_drop_is_the_lowest_td_error_before_the_last_step_of_a_failure():
    td_errors = np.array([0.1, -0.3, 0.2, -0.9])
    assert largest_drop(td_errors, success=False) == 1
    assert largest_drop(td_errors, success=True) is None
    assert largest_drop(td_errors[:1], success=False) is None


@pytest.mark.parametrize(
    ("success", "terminated", "ending"),
    [
        (1.0, True, "success"),
        (1.0, False, "success"),
        (0.0, True, "failure"),
        (0.0, False, "out of time"),
        (np.nan, True, "ended"),
        (np.nan, False, "out of time"),
    ],
)
def test_describe_ending(success, terminated, ending):
    assert describe_ending(success, terminated) == ending


@pytest.mark.parametrize("step", [None, 2])
def test_trace_round_trip_halves_the_resolution(tmp_path, step):
    frames = np.arange(4 * 8 * 640 * 3, dtype=np.uint8).reshape(4, 8, 640, 3)
    episode = EpisodeTrace(frames, {"fear": np.arange(4.0), "critic": np.ones(4)}, step, "failure")
    path = tmp_path / "timelines" / "home.npz"
    episode_trace.save_trace(path, episode, "fear at home")
    title, loaded = episode_trace.load_trace(path)
    assert (title, loaded.blunder, loaded.ended) == ("fear at home", step, "failure")
    assert loaded.frames.shape == (4, 4, 320, 3) and (loaded.frames == frames[:, ::2, ::2]).all()
    assert {k: v.tolist() for k, v in loaded.signals.items()} == {
        "fear": [0.0, 1.0, 2.0, 3.0],
        "critic": [1.0] * 4,
    }
    assert not list(path.parent.glob("*.part*"))


def test_an_agent_without_a_critic_has_neither_its_signal_nor_a_blunder():
    zeros = jnp.zeros((3, 1))
    ends, obs = zeros.astype(bool).at[-1].set(True), jnp.zeros((3, 1, 2))
    batch = Transition(obs, zeros.astype(int), obs, zeros, ends, ends & False, ends & False)
    config = SimpleNamespace(agent=object(), blend=Blend())
    learner = SimpleNamespace(agent=None, blend_state=None)
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    trace = episode_trace.trace_episode(
        config, learner, batch, frames, lambda total, length: total > 1
    )
    assert (trace.signals, trace.blunder, trace.ended) == ({}, None, "failure")


def test_unreadable_or_missing_trace_is_none(tmp_path):
    (tmp_path / "home.npz").write_text("no episode")
    assert episode_trace.load_trace(tmp_path / "home.npz") is None
    assert episode_trace.load_trace(tmp_path / "away.npz") is None
