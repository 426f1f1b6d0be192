"""TensorBoard event files, read back by TensorBoard's own readers."""

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.util import tensor_util

from runs.report.tb_writer import EventWriter

ROOT = Path(__file__).parents[2]


def read(logdir: Path) -> EventAccumulator:
    """Load the event files of one run."""
    reader = EventAccumulator(str(logdir), size_guidance={"scalars": 0, "tensors": 0})
    return reader.Reload()


def tensor(reader: EventAccumulator, tag: str) -> np.ndarray:
    """Return the last tensor of a tag."""
    return tensor_util.make_ndarray(reader.Tensors(tag)[-1].tensor_proto)


def test_scalars_keep_tag_step_and_value(tmp_path):
    with EventWriter(tmp_path) as events:
        events.scalar("train/return", 0.5, 10)
        events.scalars({"train/return": np.float32(1.5), "train/length": 7}, np.int64(2**40))
    reader = read(tmp_path)
    points = [(e.step, e.value) for e in reader.Scalars("train/return")]
    assert points == [(10, 0.5), (2**40, 1.5)]
    assert [e.value for e in reader.Scalars("train/length")] == [7.0]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -np.inf])
def test_non_finite_values_leave_a_gap(tmp_path, value):
    with EventWriter(tmp_path) as events:
        for step, point in enumerate([1.0, value, 3.0]):
            events.scalars({"dying": point, "living": 1.0}, step)
    reader = read(tmp_path)
    assert [e.step for e in reader.Scalars("dying")] == [0, 2]
    assert [e.step for e in reader.Scalars("living")] == [0, 1, 2]


def test_histogram_counts_the_finite_values(tmp_path):
    with EventWriter(tmp_path) as events:
        events.histogram("signal", np.array([[0.0, 1.0], [1.0, np.nan]]), step=3, bins=2)
        events.histogram("nothing", np.array([np.nan]), step=3)
    reader = read(tmp_path)
    np.testing.assert_allclose(tensor(reader, "signal"), [[0, 0.5, 1], [0.5, 1, 2]])
    assert "nothing" not in reader.Tags()["tensors"]


def test_text_is_utf8(tmp_path):
    with EventWriter(tmp_path) as events:
        events.text("settings", "**γ** = 0.99", step=0)
    assert tensor(read(tmp_path), "settings").item().decode() == "**γ** = 0.99"


def test_image_is_a_lossless_png(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    with EventWriter(tmp_path) as events:
        events.image("world", rgb, step=0)
    width, height, png = tensor(read(tmp_path), "world")
    assert (int(width), int(height)) == (7, 5)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), rgb)


@pytest.mark.parametrize(("fps", "delay"), [(25, 40), (30, 30), (1000, 20), (4, 250)])
def test_a_gif_has_every_frame_at_the_given_rate(tmp_path, fps, delay):
    frames = np.zeros((4, 6, 8, 3), np.uint8)
    frames[np.arange(4), :, np.arange(4)] = 255
    with EventWriter(tmp_path) as events:
        events.gif("rollout", frames, step=0, fps=fps)
    gif = Image.open(io.BytesIO(tensor(read(tmp_path), "rollout")[2]))
    assert (gif.format, gif.n_frames, gif.info["loop"]) == ("GIF", 4, 0)
    for i in range(4):
        gif.seek(i)
        assert gif.info["duration"] == (delay if i < 3 else 1000)
        np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), frames[i])


def test_hparams_is_a_finished_session_with_typed_columns(tmp_path):
    values = {"arm": "constant+0.01", "lr": np.float32(0.5), "seeds": 3, "norm": True, "k": None}
    with EventWriter(tmp_path) as events:
        events.hparams(values, ["score/mean"], group="CartPole-v1|fear")
    content = {
        tag: read(tmp_path).SummaryMetadata(tag).plugin_data.content
        for tag in read(tmp_path).Tags()["tensors"]
    }
    start = hparams_metadata.parse_session_start_info_plugin_data(
        content[hparams_metadata.SESSION_START_INFO_TAG]
    )
    assert start.group_name == "CartPole-v1|fear"
    assert start.hparams["arm"].string_value == "constant+0.01"
    assert start.hparams["lr"].number_value == 0.5
    assert start.hparams["seeds"].number_value == 3
    assert start.hparams["norm"].bool_value is True
    assert start.hparams["k"].string_value == "None"
    experiment = hparams_metadata.parse_experiment_plugin_data(
        content[hparams_metadata.EXPERIMENT_TAG]
    )
    assert [info.name for info in experiment.hparam_infos] == list(values)
    assert [info.name.tag for info in experiment.metric_infos] == ["score/mean"]
    assert hparams_metadata.SESSION_END_INFO_TAG in content


def test_margin_charts_are_stored_in_reverse_of_the_order_shown(tmp_path):
    charts = {"ice": ("ice/mean", "ice/lo", "ice/hi"), "fog": ("fog/mean", "fog/lo", "fog/hi")}
    with EventWriter(tmp_path) as events:
        events.margin_charts(charts, "shifts")
    layout = layout_pb2.Layout.FromString(tensor(read(tmp_path), "custom_scalars__config__").item())
    (category,) = layout.category
    assert category.title == "shifts"
    assert [chart.title for chart in category.chart] == ["fog", "ice"]
    (series,) = category.chart[1].margin.series
    assert (series.value, series.lower, series.upper) == charts["ice"]


def test_two_files_of_one_run_are_one_run(tmp_path):
    for step in (0, 1):
        with EventWriter(tmp_path, f".{step}") as events:
            events.scalar("x", step, step)
    assert len(list(tmp_path.glob("events.out.tfevents.*.0"))) == 1
    assert [e.step for e in read(tmp_path).Scalars("x")] == [0, 1]


def test_nothing_is_on_disk_before_a_flush_and_nothing_is_added_after_close(tmp_path):
    events = EventWriter(tmp_path / "run")
    events.scalar("x", 1.0, 0)
    assert not (tmp_path / "run").exists()
    events.flush()
    events.scalar("x", 2.0, 1)
    events.close()
    size = sum(path.stat().st_size for path in (tmp_path / "run").iterdir())
    events.scalar("x", 3.0, 2)
    events.flush()
    assert sum(path.stat().st_size for path in (tmp_path / "run").iterdir()) == size
    assert [e.value for e in read(tmp_path / "run").Scalars("x")] == [1.0, 2.0]


def test_an_exception_inside_the_context_keeps_what_was_added(tmp_path):
    with pytest.raises(ZeroDivisionError), EventWriter(tmp_path) as events:
        events.scalar("x", 1.0, 0)
        _ = 1 / 0
    assert len(read(tmp_path).Scalars("x")) == 1


def test_an_unwritable_directory_gives_one_warning_and_no_error(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    events = EventWriter(tmp_path / "file" / "run")
    events.scalar("x", 1.0, 0)
    with pytest.warns(RuntimeWarning, match="metrics.jsonl"):
        events.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        events.scalar("x", 1.0, 1)
        events.close()


WRITE_ALL_KINDS = """
import sys
import numpy as np
from pathlib import Path
from runs.report.tb_writer import EventWriter
assert "tensorboard" not in sys.modules, "tensorboard is imported too early"
with EventWriter(Path(sys.argv[1])) as events:
    events.scalar("a", 1.0, 0)
    events.histogram("b", np.arange(3), 0)
    events.text("c", "text", 0)
    events.image("d", np.zeros((2, 2, 3), np.uint8), 0)
    events.gif("e", np.zeros((2, 2, 2, 3), np.uint8), 0)
    events.hparams({"x": 1}, ["a"], "group")
    events.margin_charts({"f": ("a", "a", "a")})
print(sorted({"tensorflow", "torch", "tensorboardX"} & set(sys.modules)))
"""


def test_the_writer_does_not_import_tensorflow_or_torch(tmp_path):
    for name in ("tensorflow", "torch", "tensorboardX"):
        (tmp_path / f"{name}.py").write_text("")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-c", WRITE_ALL_KINDS, str(tmp_path / "run")]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


FILL_DISK = """
import resource, sys
from pathlib import Path
from runs.report.tb_writer import EventWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
with EventWriter(Path(sys.argv[1])) as events:
    for step in range(2000):
        events.scalar("x", step, step)
        events.flush()
print("went on")
"""


def test_a_full_disk_gives_one_warning_and_the_run_continues(tmp_path):
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", FILL_DISK, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "went on", done.stderr
    assert done.stderr.count("TensorBoard output stopped") == 1
    written = [e.step for e in read(tmp_path).Scalars("x")]
    assert 10 < len(written) < 2000
    assert written == list(range(len(written)))
