"""Writer of TensorBoard event files; no package writes GIFs, hparams and margin charts at once.

Uses TensorBoard's own protobufs and `RecordWriter`, but not its `EventFileWriter`: that keeps a
thread per file (180 for nine arms of twenty seeds), prints a traceback from that thread when the
disk is full, and imports TensorFlow wherever it is installed. tensorboardX blocks for ever on a
full disk and needs moviepy for an animation. Here records are buffered in memory and `flush`
appends them to the file in one synchronous write, so a full disk is an ordinary `OSError`; the data
are in `metrics.jsonl`, from which a repeated command rewrites the file.
"""

import io
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runs.lock import append_file

RUN_FILES = "events.out.tfevents.*"


class EventWriter:
    """Writes summaries of one run; a context manager that flushes and closes.

    Args:
        logdir: the run's directory, made when missing; its path below TensorBoard's `--logdir` is
            the name of the run.
        suffix: end of the file name, by which a rewrite finds and deletes its own files.
    """

    def __init__(self, logdir: Path, suffix: str = ""):
        """Makes nothing on disk before the first `flush`."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        name = RUN_FILES.replace("*", f"{time.time_ns()}.{os.getpid()}{suffix}")
        self._path, self._open = Path(logdir) / name, True
        self._pending = io.BytesIO()
        self._records = RecordWriter(self._pending)
        first = Event(wall_time=time.time(), file_version="brain.Event:2")
        self._records.write(first.SerializeToString())

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """Adds one point to each curve of `{tag: value}` at `step`, as one record.

        None, NaN and infinities leave a gap, because TensorBoard marks them at an arbitrary height;
        the curve of a stopped seed ends.
        """
        finite = {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}
        if finite:
            self._add(step, *({"tag": k, "simple_value": v} for k, v in finite.items()))

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Adds a text; TensorBoard renders it as Markdown and removes unsafe HTML."""
        from tensorboard.plugins.text import metadata

        content = np.array(markdown.encode(), object)
        self._tensor(tag, content, metadata.create_summary_metadata("", ""), step)

    def gif(self, tag: str, frames: np.ndarray, step: int, fps: float = 25.0) -> None:
        """Adds an animation, `frames` uint8 [T, H, W, 3], as a looping GIF that pauses at its end.

        GIF counts time in hundredths of a second and browsers slow down anything under two, so
        the rate is rounded and at most 50 frames a second.
        """
        from PIL import Image
        from tensorboard.plugins.image import metadata

        delay = max(20, 10 * round(100 / fps))
        durations = [delay] * (len(frames) - 1) + [max(delay, 1000)]
        first, *others = [Image.fromarray(np.asarray(frame, np.uint8)) for frame in frames]
        file = io.BytesIO()
        options = {"save_all": True, "loop": 0, "duration": durations, "append_images": others}
        first.save(file, format="GIF", **options)
        content = [str(first.width).encode(), str(first.height).encode(), file.getvalue()]
        summary_metadata = metadata.create_summary_metadata("", "")
        self._tensor(tag, np.array(content, object), summary_metadata, step)

    def hparams(
        self,
        columns: Mapping[str, Any],
        metrics: Sequence[str],
        group: str,
        kinds: Mapping[str, type] | None = None,
    ) -> None:
        """Records this run as a finished session of the HPARAMS tab.

        Args:
            columns: a value per column; one that is no number is shown as text.
            metrics: tags of scalars of this same run, in the order of the table's columns.
            group: sessions of one group are one row, the average of their metrics.
            kinds: `column_kinds` of all sessions, as TensorBoard reads the columns of all from any
                one; None if this one has them all.
        """
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        now, kinds = time.time(), column_kinds([columns]) if kinds is None else kinds
        types = {str: api_pb2.DATA_TYPE_STRING, float: api_pb2.DATA_TYPE_FLOAT64}
        experiment = api_pb2.Experiment(time_created_secs=now)
        start = plugin_data_pb2.SessionStartInfo(group_name=group, start_time_secs=now)
        end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=now)
        for tag in metrics:
            experiment.metric_infos.add(name=api_pb2.MetricName(tag=tag))
        for name, kind in kinds.items():
            experiment.hparam_infos.add(name=name, type=types[kind])
        for name, value in columns.items():
            if kinds[name] is float:
                start.hparams[name].number_value = value
            else:
                start.hparams[name].string_value = str(value)
        for tag, content in (
            (metadata.EXPERIMENT_TAG, {"experiment": experiment}),
            (metadata.SESSION_START_INFO_TAG, {"session_start_info": start}),
            (metadata.SESSION_END_INFO_TAG, {"session_end_info": end}),
        ):
            data = plugin_data_pb2.HParamsPluginData(**content)
            summary_metadata = metadata.create_summary_metadata(data)
            self._add(0, {"tag": tag, "metadata": summary_metadata, "tensor": metadata.NULL_TENSOR})

    def margin_charts(self, charts: Mapping[str, tuple[str, str, str]], category: str) -> None:
        """Lays out the CUSTOM SCALARS tab: a chart per title, with a line and a band for each run.

        Args:
            charts: title to exact tags `(mean, lo, hi)`; charts are shown in this order.
            category: heading over the charts; TensorBoard merges equal headings of several runs.
        """
        from tensorboard.plugins.custom_scalar import layout_pb2, metadata

        section = layout_pb2.Category(title=category)
        for title, (mean, lo, hi) in reversed(charts.items()):  # the tab shows the last one first
            section.chart.add(title=title).margin.series.add(value=mean, lower=lo, upper=hi)
        layout = layout_pb2.Layout(category=[section]).SerializeToString()
        summary_metadata = metadata.create_summary_metadata()
        self._tensor(metadata.CONFIG_SUMMARY_TAG, np.array(layout, object), summary_metadata, 0)

    def flush(self) -> None:
        """Appends pending records to the file; raises OSError, such as for a full disk."""
        if self._open and self._pending.tell():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_file(self._path, self._pending.getvalue(), flush=False)
        self._pending.seek(0)
        self._pending.truncate()

    def close(self) -> None:
        """Flushes; records that are added later are dropped."""
        self.flush()
        self._open = False

    def __enter__(self) -> "EventWriter":
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def _tensor(self, tag: str, array: np.ndarray, metadata: Any, step: int) -> None:
        from tensorboard.util import tensor_util

        tensor = tensor_util.make_tensor_proto(array)
        self._add(step, {"tag": tag, "metadata": metadata, "tensor": tensor})

    def _add(self, step: int, *values: dict) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._open:
            summary = Summary(value=[Summary.Value(**value) for value in values])
            event = Event(wall_time=time.time(), step=int(step), summary=summary)
            self._records.write(event.SerializeToString())
            if self._pending.tell() > 1 << 20:
                self.flush()


def column_kinds(sessions: Iterable[Mapping[str, Any]]) -> dict[str, type]:
    """Type of each column of the HPARAMS tab: float if it is a number in all sessions, else str."""
    kinds: dict[str, type] = {}
    for columns in sessions:
        for name, value in columns.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            kinds[name] = float if number and kinds.get(name, float) is float else str
    return kinds
