"""TensorBoard export, rewritten from the study's files and read back by TensorBoard's reader."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.api_pb2 import DATA_TYPE_FLOAT64, DATA_TYPE_STRING
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util

from runs.names import safe_name
from runs.report.film import STRIP, write_film
from runs.report.tb_export import (
    CORE,
    POINTS,
    TrainingCurves,
    export_comparison,
    read_metrics,
    thinning_stride,
)

ENV = "CartPole-v1"


def line(arm: str, step: int, *returns: float | None) -> dict:
    """Return one line of `metrics.jsonl` with one return per seed."""
    metrics = {"return": list(returns), "fear/loss": [0.5] * len(returns)}
    return {"arm": arm, "step": step, "seconds": 0.1, "metrics": metrics}


def record(out, lines, tail=""):
    """Append lines to `metrics.jsonl`, and an incomplete line as a crash leaves it."""
    with (out / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines) + tail)


def curve(run, tag="train/return"):
    """Return the points [(step, value)] of one tag of a run, [] without it."""
    reader = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    exists = tag in reader.Tags()["scalars"]
    return [(e.step, round(e.value, 4)) for e in reader.Scalars(tag)] if exists else []


def seed_run(out, arm, seed):
    """Return the directory of a seed's run."""
    return out / "tb" / "runs" / ENV / safe_name(arm) / f"s{seed}"


def score(arm, seed, shift, severity, value):
    """Return one row of the score table."""
    names = ("env", "arm", "seed", "shift", "family", "severity", "score")
    return dict(zip(names, (ENV, arm, seed, shift, "family", severity, value), strict=True))


# --- names, thinning, intervals -------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["constant+0.01", "constant-0.01", "ALE/Pong-v5", "envs:affect/Drive-v0", "..", "", "a b"],
)
def test_a_safe_name_is_one_path_component(tmp_path, name):
    assert re.fullmatch(r"[A-Za-z0-9_+=,-][A-Za-z0-9_.+=,-]*", safe_name(name))
    assert (tmp_path / safe_name(name)).resolve().parent == tmp_path.resolve()
    assert safe_name("constant+0.01") == "constant+0.01"


@pytest.mark.parametrize("count", [0, 1, 500, 501, 1000, 1001, 123_456])
def test_the_stride_is_the_smallest_sufficient_power_of_two(count):
    stride = thinning_stride(count)
    assert stride & (stride - 1) == 0
    assert count // stride <= POINTS
    assert stride == 1 or count / (stride / 2) > POINTS


# --- the per-seed runs ----------------------------------------------------------------------


def test_a_broken_line_is_skipped_and_the_last_of_a_step_counts(tmp_path):
    lines = [line("fear", 2, 1.0), line("hope", 2, 9.0), line("fear", 1, 0.0), line("fear", 2, 2.0)]
    record(tmp_path, lines, tail='{"arm": "fear", "step": 3, "metr')
    read = [(line["step"], line["metrics"]["return"]) for line in read_metrics(tmp_path, "fear")]
    assert read == [(1, [0.0]), (2, [2.0])]
    assert read_metrics(tmp_path / "nowhere", "fear") == []


def test_append_writes_a_curve_per_metric_and_seed_with_gaps(tmp_path):
    training_curves = TrainingCurves(tmp_path, ENV)
    training_curves.restart("constant+0.01", 0)
    for step, second in ((1, 5.0), (2, None), (3, 7.0)):
        record(tmp_path, [line("constant+0.01", step, 1.0 * step, second)])
        training_curves.append(read_metrics(tmp_path, "constant+0.01")[-1])
    assert curve(seed_run(tmp_path, "constant+0.01", 0)) == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert curve(seed_run(tmp_path, "constant+0.01", 1)) == [(1, 5.0), (3, 7.0)]
    assert len(curve(seed_run(tmp_path, "constant+0.01", 1), "train/fear/loss")) == 3
    training_curves.close()


def test_restart_cuts_to_the_checkpoint_and_leaves_other_arms_alone(tmp_path):
    for arm in ("fear", "hope"):
        record(tmp_path, [line(arm, step, 0.1 * step) for step in range(1, 11)])
        TrainingCurves(tmp_path, ENV).restart(arm, 10)
    resumed = TrainingCurves(tmp_path, ENV)
    resumed.restart("fear", 6)
    assert [step for step, _ in curve(seed_run(tmp_path, "fear", 0))] == list(range(1, 7))
    resumed.append(line("fear", 7, 42.0))
    assert curve(seed_run(tmp_path, "fear", 0))[-1] == (7, 42.0)
    assert len(list(seed_run(tmp_path, "fear", 0).iterdir())) == 1
    assert len(curve(seed_run(tmp_path, "hope", 0))) == 10


def test_a_resumed_curve_equals_an_uninterrupted_one_and_stays_short(tmp_path):
    lines = [line("fear", 10 * step, float(step)) for step in range(1, 1204)]
    curves = []
    for name, resume_at in (("whole", None), ("resumed", 700)):
        out = tmp_path / name
        out.mkdir()
        training_curves = TrainingCurves(out, ENV)
        training_curves.restart("fear", 0)
        for i, row in enumerate(lines):
            record(out, [row])
            if i == resume_at:
                training_curves = TrainingCurves(out, ENV)
                training_curves.restart("fear", lines[i - 1]["step"])
            training_curves.append(row)
        curves.append(curve(seed_run(out, "fear", 0)))
    assert curves[0] == curves[1]
    assert [step for step, _ in curves[0]] == list(range(40, 12001, 40))
    assert len(curves[0]) <= POINTS


def test_a_restart_at_step_0_removes_the_curves_of_the_arm(tmp_path):
    record(tmp_path, [line("fear", step, 1.0, 2.0) for step in (1, 2)])
    TrainingCurves(tmp_path, ENV).restart("fear", 2)
    training_curves = TrainingCurves(tmp_path, ENV)
    training_curves.restart("fear", 0)
    assert not list((tmp_path / "tb").rglob("*.train"))
    training_curves.append(line("fear", 1, 3.0))
    assert curve(seed_run(tmp_path, "fear", 0)) == [(1, 3.0)]


# --- the comparison -------------------------------------------------------------------------


def test_the_unit_is_the_seed(tmp_path):
    """The draws of a seed are averaged first, however many draws each seed has."""
    rows = [score("fear", seed, "none", 0.0, 1.0) for seed in (0, 1, 2)]
    rows += [score("fear", 0, "ice", 0.5, value) for value in (0.0, 0.2, 0.4, 0.6, 0.3)]
    rows += [score("fear", 1, "ice", 0.5, 0.6), score("fear", 2, "ice", 0.5, 0.9)]
    export_comparison(tmp_path, ENV, rows, {})
    run = tmp_path / "tb" / "compare" / ENV / "fear"
    half = 4.302653 * 0.3 / np.sqrt(3)
    assert curve(run, "shift/ice/mean") == [(0, 1.0), (50, 0.6)]
    assert curve(run, "shift/ice/lo") == [(0, 1.0), (50, round(0.6 - half, 4))]
    assert curve(run, "shift/ice/hi") == [(0, 1.0), (50, round(0.6 + half, 4))]


def test_sessions_hold_core_scores_and_shifts_with_the_seed_as_step(tmp_path):
    rows = []
    for seed in (0, 7):
        rows.append(score("fear", seed, "none", 0.0, 0.9))
        rows.append(score("fear", seed, "noise", 0.0, 0.9))
        for severity in (0.5, 1.0):
            rows.append(score("fear", seed, "ice|fog", severity, 0.8 - 0.4 * severity))
            rows.append(score("fear", seed, "noise", severity, 0.1))
    export_comparison(tmp_path, ENV, rows, {"seeds": 2})
    tags = (*CORE, "score/ice_fog", "score/noise")
    curves = [curve(seed_run(tmp_path, "fear", 7), tag) for tag in tags]
    assert curves == [[(7, value)] for value in (0.9, 0.3, 0.1, 0.5, 0.1)]


def test_sessions_have_the_settings_of_agent_and_heads_of_all_arms_as_columns(tmp_path):
    rows = [score(arm, 0, "none", 0.0, 0.5) for arm in ("none", "hope")]
    rows += [score(arm, 0, "ice", 1.0, 0.5) for arm in ("none", "hope")]
    knobs = {"none": {"agent.lr": 1e-3}, "hope": {"agent.lr": 1e-3, "heads.hope.horizon": 20.0}}
    export_comparison(tmp_path, ENV, rows, {}, knobs)
    for arm in knobs:
        reader = EventAccumulator(str(seed_run(tmp_path, arm, 0))).Reload()
        experiment, start = (
            HParamsPluginData.FromString(reader.summary_metadata[tag].plugin_data.content)
            for tag in ("_hparams_/experiment", "_hparams_/session_start_info")
        )
        kinds = {info.name: info.type for info in experiment.experiment.hparam_infos}
        text, number = DATA_TYPE_STRING, DATA_TYPE_FLOAT64
        fixed = {"study": text, "env": text, "arm": text}
        assert kinds == fixed | {"agent.lr": number, "heads.hope.horizon": number}
        values = start.session_start_info.hparams
        assert {name: values[name].number_value for name in knobs[arm]} == knobs[arm]
        assert len(values) == 3 + len(knobs[arm]) and values["arm"].string_value == arm


def test_seeds_and_arms_without_finite_scores_are_left_out(tmp_path):
    rows = []
    for arm, values in {"fear": (0.5, None), "hope": (None, float("nan"))}.items():
        for seed, value in enumerate(values):
            rows += [score(arm, seed, "none", 0.0, value), score(arm, seed, "ice", 1.0, value)]
    export_comparison(tmp_path, ENV, rows, {})
    compare = tmp_path / "tb" / "compare" / ENV
    assert curve(compare / "fear", "shift/ice/mean") == [(0, 0.5), (100, 0.5)]
    assert curve(compare / "fear", "shift/ice/hi") == [(0, 0.5), (100, 0.5)]
    assert curve(compare / "hope", "shift/ice/mean") == []
    assert seed_run(tmp_path, "fear", 0).exists()
    assert not seed_run(tmp_path, "fear", 1).exists()


def test_writing_twice_replaces_the_first_and_keeps_training_and_rollout(tmp_path):
    record(tmp_path, [line("fear", 1, 1.0)])
    TrainingCurves(tmp_path, ENV).restart("fear", 1)
    write_film(tmp_path, ENV, "fear", np.zeros((2, 8, 8, 3), np.uint8), {})
    for value in (0.1, 0.7):
        rows = [score("fear", 0, "none", 0.0, value), score("fear", 0, "ice", 1.0, value)]
        export_comparison(tmp_path, ENV, rows, {})
    run = tmp_path / "tb" / "compare" / ENV / "fear"
    assert curve(run, "shift/ice/mean") == [(0, 0.7), (100, 0.7)]
    assert len(list(run.iterdir())) == 2
    assert curve(seed_run(tmp_path, "fear", 0)) == [(1, 1.0)]


# --- the rollout ----------------------------------------------------------------------------


def gif(out, arm):
    """Open the rollout GIF of an arm."""
    run = str(out / "tb" / "compare" / ENV / safe_name(arm))
    event = EventAccumulator(run, size_guidance={"tensors": 0}).Reload().Tensors("rollout")[-1]
    return Image.open(io.BytesIO(tensor_util.make_ndarray(event.tensor_proto)[2]))


@pytest.mark.parametrize(
    ("shape", "count", "size"), [((400, 40, 600), 134, (300, 20)), ((3, 10, 100), 3, (300, 30))]
)
def test_a_rollout_is_thinned_resized_and_set_above_its_signals(tmp_path, shape, count, size):
    frames = np.full((*shape, 3), 255, np.uint8)
    signals = {"fear": np.linspace(0, 1, shape[0]), "dead": np.full(shape[0], np.nan)}
    write_film(tmp_path, ENV, "constant+0.01", frames, signals)
    animation = gif(tmp_path, "constant+0.01")
    assert animation.n_frames == count
    assert animation.size == (size[0], size[1] + 2 * STRIP)
    columns = []
    for i in (0, count // 2, count - 1):
        animation.seek(i)
        below = np.asarray(animation.convert("RGB"), int)[size[1] :]
        red = (below[..., 0] > 150) & (below[..., 1] < 80)
        columns.append(np.flatnonzero(red.all(axis=0)).item())
    assert columns[0] == 0
    assert columns == sorted(set(columns))


def test_a_signal_of_another_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'fear' has shape"):
        write_film(tmp_path, ENV, "a", np.zeros((4, 8, 8, 3)), {"fear": np.zeros(3)})
    with pytest.raises(ValueError, match="without a frame"):
        write_film(tmp_path, ENV, "a", np.zeros((0, 8, 8, 3)), {})
