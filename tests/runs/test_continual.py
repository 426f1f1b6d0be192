"""Continual study: schedules, design, a small study with its page, tables by hand, the command."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from envs import load_suite
from runs import continual_page as page
from runs import continual_stream
from runs.analysis.transfer_metrics import transfer_metrics
from runs.continual import Settings, main
from runs.continual_stream import StreamRun, make_design, task_weights
from runs.engine.training_loop import Trained
from runs.errors import Interrupted, UserError
from runs.signal_arms import TESTED
from tests.runs.small_study import CUSTOM_HEAD, without_key_check_in_threads
from tests.runs.study_job import files, make_job, small_world, table_rows, with_arms

unchecked = pytest.fixture(autouse=True, scope="module")(without_key_check_in_threads)


# --- schedules and design ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "envs", "count"),
    [("always", 16, 16), ("rare", 16, 2), ("rare", 4, 1), ("never", 16, 0)],
)
def test_task_weights_of_each_schedule(schedule, envs, count):
    weights = task_weights(schedule, envs)
    assert weights.shape == (1, envs) and weights.sum() == count and set(weights[0]) <= {0, 1}


def test_design_has_the_requested_sizes_and_a_constant_step_size_in_the_stream():
    design = make_design(Settings(steps=30_000, episodes=40))
    home, stage = design.home, design.further
    assert home.agent.anneal == home.chunks * home.updates and stage.agent.anneal == 0
    assert stage.agent.lr == home.agent.lr
    assert (stage.chunks, stage.updates, home.episodes) == (3, 2, 32)
    assert [design.names[w] for w in design.stages] == ["cones", "ice", "cross", "cones"]
    assert [arm.name for arm in design.arms[:3]] == ["frozen", "plain", "old_critic"]
    assert set(page.CONTROLS) < {arm.name for arm in design.arms}
    assert {"innate", "curiosity", TESTED} < {arm.name for arm in design.arms}


@pytest.mark.parametrize(
    ("env", "names", "evals"),
    [
        ("CartPole", ("interpolation", "extrapolation", "force"), 3),
        ("CartPole-v1", ("force", "length", "mass"), 1),
    ],
)
def test_default_stream_is_of_the_first_shifts(env, names, evals):
    design = make_design(Settings(env=env))
    assert (design.names, design.stages) == (("home", *names), (1, 2, 3, 1))
    assert design.further.chunks == evals
    assert "innate" not in {arm.name for arm in design.arms}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(stream=("cones", "ice")), "--stream cones ice: one world must come back"),
        (Settings(stream=("cones", "snow")), "unknown shift 'snow'"),
        (Settings(heads=("joy",)), "unknown head 'joy'"),
        (Settings(heads=("nowhere.py:Dread",)), "no such file nowhere.py"),
    ],
)
def test_impossible_designs_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        make_design(settings)


def test_suite_of_one_shift_is_refused(monkeypatch):
    suite = load_suite("CartPole")
    few = replace(suite, shifts=suite.shifts[:1])
    monkeypatch.setattr(continual_stream, "find_suite", lambda env, **options: few)
    with pytest.raises(UserError, match="needs two shifts, and the suite has interpolation"):
        make_design(Settings(env="CartPole"))


# --- a small study ----------------------------------------------------------------------------

ARMS = ("frozen", "plain", "old_critic", "sham", "critic", TESTED)
SETTINGS = Settings(
    env="CartPole",
    heads=("fear",),
    pay=("rare", "never"),
    stream=("force", "flip", "force"),
    smoke=True,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of some arms, two evaluations a stage: its design, job and results."""
    job = make_job(SETTINGS, tmp_path_factory.mktemp("continual"))
    with small_world(continual_stream):
        design = with_arms(make_design(SETTINGS), ARMS, ("fear", "hope", "critic"))
        design = replace(design, further=replace(design.further, chunks=2))
        return design, job, StreamRun(design, job).run()


@pytest.fixture
def small(study):
    """The design, in the small world."""
    with small_world(continual_stream):
        yield study[0]


@pytest.fixture
def finished(study, small):
    """Job and results of the finished study, in the small world."""
    return study[1:]


@pytest.mark.slow
def test_every_arm_is_evaluated_in_every_world_at_every_time(small, finished):
    job, results = finished
    assert job.progress.done == job.progress.total
    by_run = results.groupby(["schedule", "arm"])
    assert len(by_run) == 2 * len(small.arms)
    assert (by_run.size() == 3 * (1 + 3 * 2) * 3).all()  # seeds, times, worlds
    assert results["alive"].all() and np.isfinite(results["return"]).all()
    array = page.score_arrays(results, "return", small)["rare"]["plain"]
    row = results[(results["schedule"] == "rare") & (results["arm"] == "plain")]
    row = row[(row["seed"] == 1) & (row["time"] == 4) & (row["world"] == "flip")]
    assert array[1, 4, small.names.index("flip")] == row["return"].item()


@pytest.mark.slow
def test_frozen_agent_does_not_learn_and_all_arms_start_alike(finished):
    _, results = finished
    returns = results.set_index(["arm", "schedule", "time", "seed", "world"])["return"]
    frozen = returns["frozen"].groupby(["seed", "world"])
    assert (frozen.nunique() == 1).all()
    at_start = returns.xs(0, level="time").groupby(["seed", "world"])
    assert (at_start.nunique() == 1).all()
    plain = returns["plain"].groupby(["schedule", "seed", "world"])
    assert (plain.nunique() > 1).any()


@pytest.mark.slow
def test_interrupted_study_resumes_byte_for_byte(small, finished, tmp_path):
    job, results = finished
    for stop_at, parts in ((2, 0), (6 + 2 + 6 + 2, 2)):  # at home, and inside the second stream
        with pytest.raises(Interrupted):
            StreamRun(small, make_job(SETTINGS, tmp_path, stop_at)).run()
        assert len(files(tmp_path)) == parts
    resumed = StreamRun(small, make_job(SETTINGS, tmp_path)).run()
    pd.testing.assert_frame_equal(resumed, results)
    assert files(tmp_path) == files(job.out)
    again = make_job(SETTINGS, tmp_path)
    StreamRun(small, again).run()
    assert again.progress.fresh == 0


@pytest.mark.slow
def test_worlds_of_the_stream_are_at_full_severity(small, tmp_path):
    run = StreamRun(small, make_job(SETTINGS, tmp_path))
    home, force, flip = run.pools
    assert small.names == ("home", "force", "flip") and small.stages == (1, 2, 1)
    assert set(np.asarray(home.params.force).tolist()) == {10.0}
    assert not np.isin(np.asarray(force.params.force), 10.0).any()
    assert np.asarray(flip.channel.flip).min() > np.asarray(home.channel.flip).max() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "schedule", "task", "heads", "renew"),
    [
        ("plain", "always", [1, 1, 1, 1], "learn", ("critic", "optimiser")),
        ("old_critic", "rare", [1, 0, 0, 0], "frozen", ("optimiser",)),
        (TESTED, "never", [0, 0, 0, 0], "frozen", ("critic", "optimiser")),
    ],
)
def test_learner_is_renewed_once_and_goes_on_along_the_stream(
    small, tmp_path, monkeypatch, name, schedule, task, heads, renew
):
    run, phases, states = StreamRun(small, make_job(SETTINGS, tmp_path)), [], []
    monkeypatch.setattr(
        run, "score", lambda learner: {x: np.zeros((3, 3)) for x in continual_stream.SCORES}
    )
    monkeypatch.setattr(run.backend, "enter", lambda learner, phase, keys: f"entered {learner}")

    def record(name, phase, start):
        phases.append(phase)
        states.append(start() if callable(start) else start)
        state = SimpleNamespace(learner=len(phases))
        return Trained(state, np.arange(small.further.rows) != len(phases))

    monkeypatch.setattr(run, "train", record)
    (arm,) = (arm for arm in small.arms if arm.name == name)
    columns = run.run_stream("home", arm, schedule)
    assert [phase.renew for phase in phases] == [renew] * 2 + [()] * 4
    assert {phase.heads for phase in phases} == {heads} and not small.further.agent.anneal
    assert all(phase.mix.task.tolist() == [task] for phase in phases)
    worlds = [[pool is phase.worlds.args[0] for pool in run.pools].index(True) for phase in phases]
    assert worlds == [1, 1, 2, 2, 1, 1]
    assert [state for state in states if isinstance(state, str)] == [
        "entered home",
        "entered 2",
        "entered 4",
    ]
    alive = dict(zip(columns["seed"], columns["alive"], strict=True))
    assert alive == {0: True, 1: False, 2: False}, "False after any stage: dead to the end"


@pytest.mark.slow
def test_page_of_a_study(small, finished, tmp_path):
    job, results = finished
    result = page.continual_page(small, results, job)
    result.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "continual-CartPole.md",
        "continual-CartPole.png",
    }
    assert (tmp_path / "continual-CartPole.png").stat().st_size > 10_000
    text = result.text
    assert text.startswith(
        "# Continual learning in changing worlds\n\nAfter the second visit to force"
    )
    assert "## Task reward: rare" in text and "## Task reward: never" in text
    for arm in small.arms:
        assert text.count(f"\n| {arm.name} ") == 2
    assert "Stream: force, flip, force" in text and "non-finite numbers: 0." in text
    dead = results.assign(alive=(results["seed"] != 1) | (results["arm"] != "sham"))
    with pytest.raises(UserError, match="2 of 3 seeds have finite numbers in every arm"):
        page.continual_page(small, dead, job)


# --- tables by hand ---------------------------------------------------------------------------

LEVELS = {"always": 0.6, "rare": 0.2, "never": 0.4}  # of hope - fear; the best control has .4


def made_scores(tested: float, **others: float) -> dict[str, np.ndarray]:
    """Scores [S, 4, W] of each arm in home, ice and fog: .5, at the second visit to ice a level."""
    levels = {"frozen": 0.3, "plain": 0.4, "constant_plus": 0.35, "sham": 0.2} | others
    seed = np.arange(5.0)
    scores = {arm: np.full((5, 4, 3), 0.5) + 0.02 * seed[:, None, None]
              for arm in (*levels, TESTED)}  # fmt: skip
    for arm, level in (levels | {TESTED: tested}).items():
        scores[arm][:, -1, 1] += level - 0.5
    return scores


def made_metrics(**levels: float) -> dict:
    """Transfer metrics by schedule and arm."""
    return {
        schedule: {arm: transfer_metrics(x, (1, 2, 1)) for arm, x in made_scores(level).items()}
        for schedule, level in levels.items()
    }


def test_finding_is_the_paired_contrast_with_the_best_control_of_each_schedule():
    rows = page.schedule_contrasts(made_metrics(**LEVELS))
    assert list(rows["control"]) == ["plain"] * 3
    gains = [contrast.estimate for contrast in rows["second"]]
    np.testing.assert_allclose([gain.value for gain in gains], [0.2, -0.2, 0.0], atol=1e-9)
    assert all(gain.high - gain.low < 1e-6 for gain in gains), "the level of a seed cancels"
    sentence = page.finding(rows, "ice", 5)
    assert "always on it gains over plain (+0.200 [+0.200, +0.200]; first visit: +0.000" in sentence
    assert "one environment of eight it loses to plain (-0.200" in sentence
    assert "with it off it is not told apart from plain (+0.000" in sentence
    assert sentence.count("over frozen)") == 3 and sentence.endswith("5 seeds, paired.")
    assert table_rows(page.contrast_table(rows))[2][:4] == ["rare", f"{gains[1]}", "plain", "0.000"]


def test_single_heads_are_no_controls():
    better = made_scores(0.6, reward_model=0.7, old_critic=0.5, fear=0.9)
    metrics = {arm: transfer_metrics(x, (1, 2, 1)) for arm, x in better.items()}
    row = page.schedule_contrasts({"never": metrics}).loc[0]
    assert row["control"] == "reward_model"
    assert row["second"].estimate.value == pytest.approx(-0.1)


def test_p_values_are_adjusted_over_the_schedules():
    metrics = made_metrics(**dict.fromkeys(LEVELS, 0.5))
    noise = np.array([0.1, -0.1, 0.3, -0.2, 0.1])
    for arms in metrics.values():
        arms[TESTED] = arms[TESTED]._replace(second=arms[TESTED].second + noise)
    single = page.schedule_contrasts({"rare": metrics["rare"]})["second"].item().p_holm
    assert 0.05 < single < 0.3
    adjusted = page.schedule_contrasts(metrics)["second"]
    assert [contrast.p_holm for contrast in adjusted] == pytest.approx([3 * single] * 3)


def test_table_of_arms_by_hand():
    scores = made_scores(0.6)
    scores["sham"][:, 1, 1] = [0.6, 0.7, 0.8, 0.7, 0.7]  # after the first visit
    metrics = {arm: transfer_metrics(x, (1, 2, 1)) for arm, x in scores.items()}
    outcomes = pd.DataFrame(
        {"arm": arm, "time": time, "harm": 0.1 * time, "success": 0.5}
        for arm in scores
        for time in range(4)
    )
    rows = {arm: cells for arm, *cells in table_rows(page.arm_table(scores, metrics, outcomes))}
    # seeds .50 to .58: sd .0316, half width 2.776 x .0316 / sqrt(5) = .039
    assert rows[TESTED][1] == "0.540 ±0.039"
    assert rows["sham"][2:6] == ["0.540 ±0.039", "0.700 ±0.088", "0.540 ±0.039", "0.240 ±0.039"]
    assert rows["sham"][7:10] == ["+0.400 [+0.400, +0.400]", "0.30", "0.20"]
    assert rows[TESTED][7] == "-" and rows[TESTED][5:7] == ["0.640 ±0.039", "+0.100 ±0.000"]


# --- the command ------------------------------------------------------------------------------


@pytest.mark.slow
def test_command_in_a_host_world_with_a_custom_head(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    (tmp_path / "mine.py").write_text(CUSTOM_HEAD)
    monkeypatch.chdir(tmp_path)
    args = ["--smoke", "--env", "CartPole-v1", "--heads", "fear", "mine.py:Dread"]
    args += ["--pay", "rare", "--out", "out"]
    assert main(args) == 0
    before = files(Path("out"))
    Path("out/parts/dread-rare.json").unlink()
    assert main(args) == 0  # in new worker processes
    assert files(Path("out")) == before
    text = Path("out/continual-CartPole-v1.md").read_text()
    assert "\n| dread " in text and text in capsys.readouterr().out
    assert Path("out/continual-CartPole-v1.png").exists()
