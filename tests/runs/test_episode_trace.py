"""An episode kept for the report: what is a blunder, how it ended, and that it comes back."""

import numpy as np
import pytest

from runs.report import episode_trace
from runs.report.episode_trace import EpisodeTrace, describe_ending, largest_drop


def test_a_blunder_is_the_greatest_disappointment_before_the_outcome():
    surprise = np.array([0.1, -0.3, 0.2, -0.9])
    assert largest_drop(surprise, success=False) == 1
    assert largest_drop(surprise, success=True) is None
    assert largest_drop(surprise[:1], success=False) is None


@pytest.mark.parametrize(
    ("success", "terminated", "said"),
    [
        (1.0, True, "success"),
        (1.0, False, "success"),
        (0.0, True, "failure"),
        (0.0, False, "out of time"),
        (np.nan, True, "ended"),
        (np.nan, False, "out of time"),
    ],
)
def test_how_it_ended(success, terminated, said):
    assert describe_ending(success, terminated) == said


@pytest.mark.parametrize("step", [None, 2])
def test_what_is_kept_comes_back_smaller(tmp_path, step):
    frames = np.arange(4 * 8 * 640 * 3, dtype=np.uint8).reshape(4, 8, 640, 3)
    episode = EpisodeTrace(frames, {"fear": np.arange(4.0), "critic": np.ones(4)}, step, "failure")
    path = tmp_path / "timelines" / "home.npz"
    episode_trace.save_trace(path, episode, "fear at home")
    title, found = episode_trace.load_trace(path)
    assert (title, found.blunder, found.ended) == ("fear at home", step, "failure")
    assert found.frames.shape == (4, 4, 320, 3) and (found.frames == frames[:, ::2, ::2]).all()
    assert {k: v.tolist() for k, v in found.signals.items()} == {
        "fear": [0.0, 1.0, 2.0, 3.0],
        "critic": [1.0] * 4,
    }
    assert not list(path.parent.glob("*.part*"))


def test_what_cannot_be_read_is_none(tmp_path):
    (tmp_path / "home.npz").write_text("no episode")
    assert episode_trace.load_trace(tmp_path / "home.npz") is None
    assert episode_trace.load_trace(tmp_path / "away.npz") is None
