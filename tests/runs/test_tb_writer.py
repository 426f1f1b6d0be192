"""TensorBoard event files, read back by TensorBoard's own readers."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from runs.report.tb_writer import EventWriter

ROOT = Path(__file__).parents[2]


def read(logdir: Path) -> EventAccumulator:
    """Load the event files of one run."""
    reader = EventAccumulator(str(logdir), size_guidance={"scalars": 0, "tensors": 0})
    return reader.Reload()


def test_scalars_keep_tag_step_and_value(tmp_path):
    with EventWriter(tmp_path) as events:
        events.scalars({"train/return": 0.5}, 10)
        events.scalars({"train/return": np.float32(1.5), "train/length": 7}, np.int64(2**40))
    reader = read(tmp_path)
    points = [(e.step, e.value) for e in reader.Scalars("train/return")]
    assert points == [(10, 0.5), (2**40, 1.5)]
    assert [e.value for e in reader.Scalars("train/length")] == [7.0]


def test_non_finite_values_leave_a_gap(tmp_path):
    with EventWriter(tmp_path) as events:
        for step, point in enumerate([1.0, None, float("nan"), float("inf"), -np.inf, 3.0]):
            events.scalars({"dying": point, "living": 1.0}, step)
    reader = read(tmp_path)
    assert [e.step for e in reader.Scalars("dying")] == [0, 5]
    assert [e.step for e in reader.Scalars("living")] == list(range(6))


@pytest.mark.parametrize(("fps", "delay"), [(25, 40), (30, 30), (1000, 20), (4, 250)])
def test_a_gif_has_every_frame_at_the_given_rate(tmp_path, fps, delay):
    frames = np.zeros((4, 6, 8, 3), np.uint8)
    frames[np.arange(4), :, np.arange(4)] = 255
    with EventWriter(tmp_path) as events:
        events.gif("rollout", frames, step=0, fps=fps)
    [event] = read(tmp_path).Tensors("rollout")
    gif = Image.open(io.BytesIO(tensor_util.make_ndarray(event.tensor_proto)[2]))
    assert (gif.format, gif.n_frames, gif.info["loop"]) == ("GIF", 4, 0)
    for i in range(4):
        gif.seek(i)
        assert gif.info["duration"] == (delay if i < 3 else 1000)
        np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), frames[i])


def test_nothing_is_on_disk_before_a_flush_and_nothing_is_added_after_close(tmp_path):
    events = EventWriter(tmp_path / "run")
    events.scalars({"x": 1.0}, 0)
    assert not (tmp_path / "run").exists()
    events.flush()
    assert [e.value for e in read(tmp_path / "run").Scalars("x")] == [1.0]
    events.close()
    events.scalars({"x": 3.0}, 2)
    events.flush()
    assert [e.value for e in read(tmp_path / "run").Scalars("x")] == [1.0]


def test_an_exception_inside_the_context_keeps_what_was_added(tmp_path):
    with pytest.raises(ZeroDivisionError), EventWriter(tmp_path) as events:
        events.scalars({"x": 1.0}, 0)
        _ = 1 / 0
    assert len(read(tmp_path).Scalars("x")) == 1


WRITE_ALL_KINDS = """
import sys
import numpy as np
from pathlib import Path
from runs.report.tb_writer import EventWriter
assert "tensorboard" not in sys.modules, "tensorboard is imported too early"
with EventWriter(Path(sys.argv[1])) as events:
    events.scalars({"a": 1.0}, 0)
    events.text("c", "text", 0)
    events.gif("e", np.zeros((2, 2, 2, 3), np.uint8), 0)
    events.hparams({"x": "1"}, ["a"], "group")
    events.margin_charts({"f": ("a", "a", "a")}, "category")
print(sorted({"tensorflow", "torch", "tensorboardX"} & set(sys.modules)))
"""


def test_the_writer_does_not_import_tensorflow_or_torch(tmp_path):
    for name in ("tensorflow", "torch", "tensorboardX"):
        (tmp_path / f"{name}.py").write_text("")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-c", WRITE_ALL_KINDS, str(tmp_path / "run")]
    options = {"env": {**os.environ, "PYTHONPATH": paths}, "timeout": 60}
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
