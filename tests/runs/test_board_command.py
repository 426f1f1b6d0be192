"""The board command: serves all runs at its links, finds studies, stops on signals."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

from runs import board
from runs.errors import UserError
from runs.report.film import write_film
from runs.report.tb_export import CORE, POINTS, TrainingCurves, export_comparison
from tests.refusal import refused_command

ROOT = Path(__file__).resolve().parents[2]
SHIFTS = ("ice", "fog|cones", "grip+.5")


def study(
    out: Path, arms: int, seeds: int, lines: int, film: bool = False, metric: str = "return"
) -> Path:
    """Write a study of random numbers with the files of a comparison; `lines` chunks per arm."""
    out.mkdir(parents=True)
    names, rng = [f"arm{i}" for i in range(arms)], np.random.default_rng(0)
    with (out / "metrics.jsonl").open("w") as file:
        for arm in names:
            for step in range(1, lines + 1):
                metrics = {metric: rng.normal(size=seeds).tolist()}
                line = {"arm": arm, "step": step, "seconds": 0.1, "metrics": metrics}
                file.write(json.dumps(line) + "\n")
    curves = TrainingCurves(out, "Drive")
    for arm in names:
        curves.restart(arm, lines)
        if film:
            frames = np.zeros((3, 8, 8, 3), np.uint8)
            write_film(out, "Drive", arm, frames, {"fear": np.arange(3)})
    curves.close()
    columns = ("env", "arm", "seed", "shift", "family", "severity", "score")
    points = [("none", "none", 0.0), *((shift, "dynamics", 1.0) for shift in SHIFTS)]
    rows = [
        dict(zip(columns, ("Drive", arm, seed, *point, rng.random()), strict=True))
        for arm in names
        for seed in range(seeds)
        for point in points
    ]
    export_comparison(out, "Drive", rows, {"seeds": seeds, "steps": 12345})
    table = [",".join(columns), *(",".join(map(str, row.values())) for row in rows)]
    (out / "scores.csv").write_text("\n".join(table) + "\n")
    return out


class BoardProcess:
    """`python -m runs.board` in a subprocess; `links` are those it prints, by title."""

    def __init__(self, *folders: Path):
        command = [sys.executable, "-m", "runs.board", *map(str, folders), "--port", "0"]
        self.start_time = time.monotonic()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("Ctrl-C"):
                break
        self.links = dict(line.rsplit(None, 1) for line in self.lines if "http" in line)
        self.links = {title.strip(): link for title, link in self.links.items()}

    def get(self, path: str, body: dict | None = None) -> bytes:
        """Get a path of its HTTP API; POST if a body is given."""
        url = "http://" + urlsplit(next(iter(self.links.values()))).netloc
        data = json.dumps(body).encode() if body else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/data/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read()

    def get_json(self, path: str, body: dict | None = None):
        """Get JSON from a path of its HTTP API; POST if a body is given."""
        return json.loads(self.get(path, body))

    def seconds_until(self, runs: int) -> float:
        """Seconds from its start until it lists the given number of runs."""
        while time.monotonic() - self.start_time < 60:
            if len(self.get_json("runs")) >= runs:
                return time.monotonic() - self.start_time
            time.sleep(0.1)
        raise AssertionError(f"{len(self.get_json('runs'))} of {runs} runs after a minute")

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str, float]:
        """Send a signal -> (exit code, stderr, seconds until it ended)."""
        begin = time.monotonic()
        self.process.send_signal(number)
        try:
            stderr = self.process.communicate(timeout=20)[1]
        finally:
            self.process.kill()
        return self.process.returncode, stderr, time.monotonic() - begin


def assert_clean_stop(process: BoardProcess, number: int) -> None:
    """Assert that a signal ends the process within 5 s, with exit code 0 and no traceback."""
    code, stderr, seconds = process.stop(number)
    assert code == 0
    assert "Traceback" not in stderr
    assert seconds < 5


# --- served pages -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Board process that serves a study of 3 arms and 2 seeds."""
    process = BoardProcess(study(tmp_path_factory.mktemp("logs") / "mine", 3, 2, 3, film=True))
    process.seconds_until(9)
    yield process
    assert_clean_stop(process, signal.SIGINT)


def test_board_lists_every_arm_and_every_seed(served):
    arms = {f"compare/Drive/arm{i}" for i in range(3)}
    seeds = {f"runs/Drive/arm{i}/s{seed}" for i in range(3) for seed in range(2)}
    assert set(served.get_json("runs")) == arms | seeds


def test_every_margin_chart_has_its_tags_in_every_arm(served):
    (category,) = served.get_json("plugin/custom_scalars/layout")["category"]
    titles = [chart["title"] for chart in category["chart"]]  # the tab shows the last one first
    shown = ["training return", *(f"score under {shift}" for shift in SHIFTS)]
    assert titles == shown[::-1]
    series = [s for chart in category["chart"] for s in chart["margin"]["series"]]
    expected = {tag for three in series for tag in three.values()}
    assert len(expected) == 12
    tags = served.get_json("plugin/scalars/tags")
    assert "train/return" in tags["runs/Drive/arm0/s1"]
    for arm in range(3):
        assert expected == set(tags[f"compare/Drive/arm{arm}"])
    for tag, steps in (("train/return/mean", [1, 2, 3]), ("shift/fog_cones/hi", [0, 100])):
        query = f"run=compare/Drive/arm1&tag=%5E{tag}$"
        response = served.get_json(f"plugin/custom_scalars/scalars?{query}")
        assert [point[1] for point in response["tag_to_events"][tag]] == steps


def test_hparams_rows_are_arms_averaged_over_seeds(served):
    body = {"allowedStatuses": ["STATUS_SUCCESS"], "aggregationType": "AGGREGATION_AVG"}
    body |= {"colParams": [], "startIndex": 0, "sliceSize": 100}
    experiment = served.get_json("plugin/hparams/experiment", {"includeMetrics": True})
    assert {info["name"] for info in experiment["hparamInfos"]} == {"study", "env", "arm"}
    metrics = [info["name"]["tag"] for info in experiment["metricInfos"]]
    assert metrics == [*CORE, "score/ice", "score/fog_cones", "score/grip+.5"]
    groups = served.get_json("plugin/hparams/session_groups", body)["sessionGroups"]
    assert {group["name"] for group in groups} == {f"Drive|arm{i}|mine" for i in range(3)}
    for group in groups:
        average, *seeds = (
            {metric["name"]["tag"]: metric["value"] for metric in values}
            for values in (group["metricValues"], *(s["metricValues"] for s in group["sessions"]))
        )
        for tag in metrics:
            assert average[tag] == pytest.approx(np.mean([seed[tag] for seed in seeds]))


def test_films_and_settings_are_served(served):
    [image] = served.get_json("plugin/images/images?run=compare/Drive/arm1&tag=rollout&sample=0")
    content = served.get("plugin/images/individualImage?" + image["query"])
    assert content.startswith(b"GIF89a")
    [text] = served.get_json("plugin/text/text?run=compare/Drive/arm1&tag=settings")
    assert "12345" in text["text"] and "<table>" in text["text"]


def test_no_other_site_and_no_file_outside_the_folder_is_served(served):
    url = next(iter(served.links.values()))
    host, port = urlsplit(url).hostname, urlsplit(url).port
    assert host == board.HOST == "127.0.0.1"
    for path, allowed in (
        ("/data/runs", True),
        ("/../../../../../../etc/passwd", False),
        ("/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", False),
        ("/data/plugin/projector/bookmarks?run=/etc&name=passwd", False),
    ):
        connection = http.client.HTTPConnection(host, port, timeout=10)
        connection.request("GET", path, headers={"Origin": "http://elsewhere.example"})
        response = connection.getresponse()
        assert (response.status == 200) == allowed, path
        assert response.getheader("Access-Control-Allow-Origin") is None
        assert b"root:" not in response.read()
        connection.close()


def test_every_link_selects_the_runs_and_tags_it_names(served):
    titles = ["every shift, arm by arm", *SHIFTS, "training, seed by seed"]
    titles += ["films of one episode", "settings against scores"]
    assert list(served.links) == titles
    views = views_of(served)
    assert views.pop("every shift, arm by arm")["regexInput"] == "^compare/"
    for title, view in views.items():
        assert len(view["runs"]) <= 6 and len(view["tags"]) == 1, title
        assert set(view["colours"]) == {("Drive/arm0",), ("Drive/arm1",), ("Drive/arm2",)}, title


def views_of(served: BoardProcess) -> dict[str, dict]:
    """Title of each link to series -> its query, and the runs, tags and colours that it selects."""
    runs, tags = served.get_json("runs"), served.get_json("plugin/scalars/tags")
    views = {}
    for title, link in served.links.items():
        address = urlsplit(link)
        assert address.hostname == "127.0.0.1"
        view, _, rest = address.fragment.partition("&")
        if view == "hparams":
            continue
        query = dict(parse_qsl(address.query)) | dict(parse_qsl(rest))
        pattern = query.get("runFilter") or query["regexInput"]
        selected = [run for run in runs if re.search(pattern, run)]
        assert selected, title
        if view == "timeseries":
            known = {"rollout", *(tag for run in selected for tag in tags[run])}
            query["tags"] = {tag for tag in known if re.search(query["tagFilter"], tag)}
            colour = query["runColorGroup"].removeprefix("regex:")
            query["colours"] = {}
            for run in selected:
                query["colours"].setdefault(re.search(colour, run).groups(), []).append(run)
        views[title] = query | {"runs": selected}
    return views


def test_several_studies_are_served_together_and_arms_of_one_name_are_one_colour(
    tmp_path, monkeypatch
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    first = study(tmp_path / "one" / "same", 3, 2, 2)
    second = study(tmp_path / "two" / "same", 2, 1, 2, film=True)
    process = BoardProcess(first, second)
    try:
        process.seconds_until(3 * 3 + 2 * 2)
        runs, views = set(process.get_json("runs")), views_of(process)
    finally:
        assert_clean_stop(process, signal.SIGTERM)  # the fixture tests SIGINT
    assert [line.split() for line in process.lines[:2]] == [
        ["1-same", str(first)],
        ["2-same", str(second)],
    ]
    assert {"1-same/compare/Drive/arm2", "2-same/runs/Drive/arm1/s0"} <= runs
    titles = ["every shift, arm by arm", *SHIFTS, "training, seed by seed", "films of one episode"]
    assert list(views) == titles
    assert len(views["every shift, arm by arm"]["tags"]) == len(SHIFTS)
    for title in titles[:-2]:
        assert views[title]["colours"] == {
            ("arm0",): ["1-same/compare/Drive/arm0", "2-same/compare/Drive/arm0"],
            ("arm1",): ["1-same/compare/Drive/arm1", "2-same/compare/Drive/arm1"],
            ("arm2",): ["1-same/compare/Drive/arm2"],
        }
    colours = views["training, seed by seed"]["colours"]
    assert colours[("arm1",)] == [f"1-same/runs/Drive/arm1/s{i}" for i in (0, 1)] + [
        "2-same/runs/Drive/arm1/s0"
    ]
    assert not list((tmp_path / "temporary").iterdir())


def test_seeds_of_several_studies_are_left_out_where_runs_are_too_many(tmp_path, monkeypatch):
    studies = {name: study(tmp_path / name, 2, 3, 1) for name in ("a", "b")}
    for most, seeds in ((16, True), (15, False)):
        monkeypatch.setattr(board, "MOST_RUNS", most)
        with board.served_folder(studies) as (folder, with_seeds):
            assert with_seeds == seeds
            for name in studies:
                assert bool([*folder.glob(f"{name}/runs/Drive/arm1/s2/*")]) == seeds
                assert [*folder.glob(f"{name}/compare/Drive/arm1/events*")]
        titles = [title for title, _ in board.board_links([*studies.values()], "", with_seeds)]
        assert ("training, seed by seed" in titles) == seeds
        assert ("training, arm by arm" in titles) != seeds


@pytest.mark.slow
def test_four_hundred_runs_load_in_seconds(tmp_path):
    """20 arms of 20 seeds with twice as many chunks as a curve keeps points."""
    served = BoardProcess(study(tmp_path / "large", 20, 20, 2 * POINTS))
    try:
        seconds = served.seconds_until(420)
        tags = served.get_json("plugin/scalars/tags")
        points = served.get_json("plugin/scalars/scalars?run=runs/Drive/arm3/s7&tag=train/return")
    finally:
        served.stop()
    print(f"420 runs listed after {seconds:.1f} s")
    assert seconds < 10
    assert len(tags) == 420
    assert POINTS // 2 < len(points) <= POINTS


@pytest.mark.slow
def test_three_studies_of_unequal_tags_in_one_folder_load_in_seconds(tmp_path):
    """3 studies x 8 arms x 20 seeds, the logging directory being the folder above them."""
    metrics = ("return", "return", "loss")
    for i, metric in enumerate(metrics):
        study(tmp_path / f"study{i}", 8, 20, POINTS, metric=metric)
    url, started = board.serve(tmp_path, 0).rstrip("/"), time.monotonic()

    def get_json(path):
        with urllib.request.urlopen(f"{url}/data/{path}", timeout=10) as response:
            return json.loads(response.read())

    while len(get_json("runs")) < 3 * 8 * 21 and time.monotonic() < started + 60:
        time.sleep(0.1)
    print(f"{len(get_json('runs'))} runs listed after {time.monotonic() - started:.1f} s")
    assert time.monotonic() < started + 20
    tags = get_json("plugin/scalars/tags")
    for i, metric in enumerate(metrics):
        found = tags[f"study{i}/tb/runs/Drive/arm3/s7"]
        assert [tag for tag in found if tag.startswith("train/")] == [f"train/{metric}"]


# --- choice of the study and errors -------------------------------------------------------------


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """Make folders of studies, `compare/b` the newest."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("compare/a", "compare/b", "first/a", "compare/c")):
        home = Path("runs/logs") / name / "tb" / "runs"
        home.mkdir(parents=True)
        (home / "events").write_text("")
        os.utime(home / "events", (1000 - i, 1000 - i + 5 * (i == 1)))
    Path("runs/logs/compare/no_board").mkdir()
    return Path("runs/logs")


@pytest.mark.parametrize(
    ("name", "folder"),
    [("", "compare/b"), ("b", "compare/b"), ("first/a", "first/a")]
    + [("runs/logs/compare/a", "compare/a")],
)
def test_find_study_by_name_or_path(logs, name, folder):
    assert board.find_study(name) == logs / folder


def test_find_studies_labels_them_by_folder_and_numbers_equal_names(logs):
    newest = {"b": logs / "compare/b"}
    assert board.find_studies(()) == board.find_studies(("b",)) == newest
    a, b = logs / "first/a", logs / "compare/b"
    assert board.find_studies(("first/a", "b")) == {"a": a, "b": b}
    assert board.find_studies(("first/a", "b", "compare/a")) == {
        "1-a": a,
        "2-b": b,
        "3-a": logs / "compare/a",
    }


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (("b", "compare/b"), "compare/b: this study is given twice"),
        (("b", "nope"), "no study nope with anything to show"),
        (("b", ""), "compare/b: this study is given twice"),
    ],
)
def test_find_studies_refuses_what_is_unknown_or_given_twice(logs, names, complaint):
    with pytest.raises(UserError, match=complaint):
        board.find_studies(names)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("a", "a is runs/logs/compare/a and runs/logs/first/a: name one"), ("B", "did you mean b")]
    + [("no_board", "no study no_board with anything to show"), ("/nowhere", "no study /nowhere")],
)
def test_find_study_refuses_ambiguous_and_unknown_names(logs, name, complaint):
    with pytest.raises(UserError, match=complaint):
        board.find_study(name)


def test_without_any_study_the_error_names_a_command_that_makes_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="python -m runs.compare --quick"):
        board.find_study("")


def test_study_without_scores_has_links_to_its_training(tmp_path):
    titles = [title for title, _ in board.board_links([tmp_path], "http://127.0.0.1:1/")]
    expected = ["every shift, arm by arm", "training, seed by seed", "settings against scores"]
    assert titles == expected


def test_a_port_that_is_invalid_or_taken_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    (tmp_path / "tb").mkdir()
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        taken = str(occupied.getsockname()[1])
        for port, words in (("70000", "must be 0"), (taken, "--port 0 takes any that is free")):
            with pytest.raises(UserError, match=words):
                board.main([str(tmp_path), "--port", port])


def test_errors_are_one_line_with_exit_code_2(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setitem(sys.modules, "tensorboard.program", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    (tmp_path / "tb").mkdir()
    errors = {
        (tmp_path,): "tensorboard is missing: pip install -e '.[lab]'",
        (tmp_path, tmp_path): f"{tmp_path}: this study is given twice; name each study once",
    }
    for folders, error in errors.items():
        line = refused_command(board.main, *folders, capsys=capsys, monkeypatch=monkeypatch)
        assert line == f"error: {error}\n"
