"""Interrupted studies end bit for bit like others; a NaN stops one seed and no other."""

import json
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from affect import Blend, Head
from runs.analysis.scores import read_scores, seed_means
from runs.engine import training_loop
from runs.engine.arms import Arm
from runs.engine.checkpoint import Checkpoints
from runs.engine.jax_backend import JaxBackend
from runs.engine.train import select_leaves
from runs.errors import Interrupted, UserError
from runs.names import REPORTED_SCORES, SCORES
from tests.runs import small_study
from tests.runs.small_study import CONFIG, Killed, Study, Watch, make_study, replace
from tests.tiers import slow

no_key_check = pytest.fixture(scope="module", autouse=True)(small_study.without_key_check)
NUM_POINTS = 5  # of small_study.suite()


class Finished(NamedTuple):
    """A study that was never interrupted, its folder and its score rows."""

    study: Study
    out: Path
    rows: list[dict]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    study, out = make_study(), tmp_path_factory.mktemp("finished")
    rows, watch = small_study.run(study, out)
    assert watch.done == watch.fresh == CONFIG.chunks + NUM_POINTS
    return Finished(study, out, rows)


def same_rows(rows: list[dict], others: list[dict]) -> bool:
    """Whether score rows are equal, NaN counting as equal to NaN."""
    return list(map(str, rows)) == list(map(str, others))


# --- files written ----------------------------------------------------------------------------


def test_scores_hold_one_row_per_point_and_seed(finished):
    rows = read_scores(finished.out / "scores.csv")
    assert {type(row[name]) for row in rows for name in SCORES} == {float}
    cells = [(row["shift"], row["severity"], row["seed"]) for row in rows]
    points = [(point.shift, point.severity) for point in finished.study.suite.points()]
    assert cells == [(*point, seed) for point in points for seed in range(CONFIG.seeds)]
    assert all(np.isfinite(row["score"]) and row["score"] == row["success"] for row in rows)
    assert all(row["terminated"] + row["truncated"] == 1 for row in rows)
    assert all(0 < row["length"] <= 20 and row["return"] == row["length"] for row in rows)
    assert all(row["harm"] == row["terminated"] for row in rows)  # the pole fell
    assert all(np.isnan(row[name]) for row in rows for name in ("hidden", "other_goal"))
    assert same_rows([{k: row[k] for k in rows[0]} for row in finished.rows], rows)


def test_metrics_hold_one_line_per_chunk(finished):
    lines = small_study.metrics(finished.out)
    assert [line["step"] for line in lines] == [CONFIG.chunk_steps * i for i in range(1, 5)]
    assert all(len(v) == CONFIG.seeds for line in lines for v in line["metrics"].values())
    assert {"return", "length", "loss", "fear/signal"} <= set(lines[0]["metrics"])


def test_a_failing_renderer_is_reported(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(JaxBackend, "film", lambda *args: 1 / 0)
    watch = Watch()
    finished.study.runner(tmp_path, watch).film(finished.study.arm, finished.study.phase, None)
    cause = "ZeroDivisionError: division by zero"
    assert watch.messages == [f"CartPole, arm fear: not filmed ({cause})"]


def test_finished_study_computes_nothing_again(finished, monkeypatch):
    before = {path: path.read_bytes() for path in finished.out.glob("*.*")}
    for name in ("train", "evaluate"):
        monkeypatch.setattr(JaxBackend, name, lambda *args: pytest.fail("computed again"))
    rows, watch = small_study.run(finished.study, finished.out)
    assert watch.fresh == 0
    assert same_rows(rows, read_scores(finished.out / "scores.csv"))
    assert {path: path.read_bytes() for path in finished.out.glob("*.*")} == before


def test_score_file_without_new_columns_is_refused_and_kept(finished, tmp_path):
    path = tmp_path / "scores.csv"
    lines = (finished.out / "scores.csv").read_text().splitlines()
    old = [line.rsplit(",", len(REPORTED_SCORES))[0] for line in lines]
    path.write_text("\n".join([*old, ""]))
    with pytest.raises(UserError, match="has no column harm, hidden, other_goal: .* another --out"):
        small_study.run(finished.study, tmp_path)
    assert path.read_text().splitlines() == old


# --- interruption -----------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [0, 2])
def test_study_stopped_and_resumed_equals_an_uninterrupted_one(finished, chunks, tmp_path):
    with pytest.raises(Interrupted):
        small_study.run(finished.study, tmp_path, stop_at=chunks)
    assert small_study.final(finished.study, tmp_path)[0] == chunks
    with pytest.raises(UserError, match="arm fear is not fully trained; resume its training first"):
        finished.study.runner(tmp_path, Watch()).load(finished.study.arm, finished.study.phase)
    _, watch = small_study.run(finished.study, tmp_path)
    assert watch.fresh == CONFIG.chunks - chunks + NUM_POINTS
    small_study.assert_same_files(finished.out, tmp_path)


@pytest.mark.parametrize("done", [slow(1), 3, slow(CONFIG.chunks), CONFIG.chunks + 2])
def test_study_killed_and_resumed_equals_an_uninterrupted_one(
    finished, done, tmp_path, monkeypatch
):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 1e9)  # only the first and the last
    with pytest.raises(Killed):
        small_study.run(finished.study, tmp_path, kill_at=done)
    small_study.run(finished.study, tmp_path)
    small_study.assert_same_files(finished.out, tmp_path)


@pytest.mark.parametrize("bytes_left", [slow(1), -1])
@pytest.mark.parametrize(("name", "done"), [("metrics.jsonl", 3), ("scores.csv", 7)])
def test_truncated_last_line_is_recomputed(finished, name, done, bytes_left, tmp_path):
    """Of a score row that lacks its last digit, the last number would still be a number."""
    with pytest.raises(Killed):
        small_study.run(finished.study, tmp_path, kill_at=done)
    path = tmp_path / name
    *lines, last_line = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines) + last_line[:bytes_left])
    small_study.run(finished.study, tmp_path)
    small_study.assert_same_files(finished.out, tmp_path)


def test_resuming_keeps_the_scores_of_other_arms(finished, tmp_path):
    text = (finished.out / "scores.csv").read_text()
    header, _, own = text.partition("\n")
    others = own.replace("CartPole,fear,", "CartPole,hope,")
    (tmp_path / "scores.csv").write_text(f"{header}\n{others}")
    with pytest.raises(Killed):
        small_study.run(finished.study, tmp_path, kill_at=CONFIG.chunks + 2)
    small_study.run(finished.study, tmp_path)
    assert (tmp_path / "scores.csv").read_text() == f"{header}\n{others}{own}"


def test_damaged_checkpoint_falls_back_to_the_previous_with_a_message(
    finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Killed):
        small_study.run(finished.study, tmp_path, kill_at=CONFIG.chunks + 1)
    newest = max((tmp_path / "checkpoints" / "fear").iterdir())
    for path in filter(Path.is_file, (newest / "arrays").rglob("*")):
        path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    _, watch = small_study.run(finished.study, tmp_path)
    [message] = watch.messages
    assert "is damaged and skipped" in message and newest.name in message
    small_study.assert_same_files(finished.out, tmp_path)


def test_checkpoint_of_other_sizes_is_refused_naming_the_leaves(finished):
    wider = replace(CONFIG, agent=replace(CONFIG.agent, width=16))
    with pytest.raises(UserError) as caught:
        small_study.run(make_study(run_config=wider), finished.out)
    message = str(caught.value)
    assert "is of another configuration: " in message and "kernel" in message
    assert "float32[2, 4, 8], expected float32[2, 4, 16]" in message
    assert "choose another --out" in message


# --- NaN --------------------------------------------------------------------------------------

FOUR_SEEDS = replace(CONFIG, seeds=4, rows=4, chunks=3)
FAULT_STEP = 2 * FOUR_SEEDS.updates * FOUR_SEEDS.num_steps - 3  # first step with a NaN signal
LARGE = 1e9


class FaultyHead(Head):
    """Signal 1; NaN from FAULT_STEP on in the seeds whose random number exceeds the limit."""

    def __init__(self, spec, limit, *, rngs):
        self.drawn = nnx.Param(jax.random.uniform(rngs.params(), ()))
        self.limit = nnx.Param(jnp.asarray(limit, jnp.float32))

    def initial_state(self, num_envs):
        return jnp.zeros((num_envs,))

    def __call__(self, state, batch):
        steps = state[None] + 1.0 + jnp.arange(batch.reward.shape[0])[:, None]
        faulty = (self.drawn[...] > self.limit[...]) & (steps >= FAULT_STEP)
        return jax.lax.stop_gradient(jnp.where(faulty, jnp.nan, 1.0)), steps[-1]


def faulty_study(limit: float, run_config=FOUR_SEEDS) -> Study:
    blend = Blend(unsteady=(1.0, partial(FaultyHead, limit=limit)))
    return make_study(Arm("unsteady", blend), run_config)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The finished study of the same arm without a NaN signal."""
    study, out = faulty_study(LARGE), tmp_path_factory.mktemp("reference")
    rows, watch = small_study.run(study, out)
    assert watch.messages == [] and len(rows) == 4 * NUM_POINTS
    return Finished(study, out, rows)


@pytest.fixture(scope="module")
def draws(reference) -> np.ndarray:
    """Random number of each seed's head."""
    _, (state, _) = small_study.final(reference.study, reference.out)
    return np.asarray(state.learner.blend_state.heads["unsteady"].net.drawn[...])


def poison(study: Study, monkeypatch, where: str, seed: int = 2, at_chunk: int = 1) -> None:
    """Make the environment state of one seed infinite, or its agent NaN, before one chunk."""
    train = study.backend.train

    def poisoned_train(state, phase, first, stopped):
        if first == at_chunk * phase.updates and where == "world":
            values = state.env_states.state.at[seed].set(jnp.inf)
            state = state._replace(env_states=state.env_states._replace(state=values))
        elif first == at_chunk * phase.updates:
            agent = state.learner.agent
            net = jax.tree.map(lambda leaf: leaf.at[seed].set(jnp.nan), agent.train_state.net)
            agent = agent._replace(train_state=agent.train_state._replace(net=net))
            state = state._replace(learner=state.learner._replace(agent=agent))
        return train(state, phase, first, stopped)

    monkeypatch.setattr(study.backend, "train", poisoned_train)


def without_limit(tree) -> dict[str, bytes]:
    return {name: leaf for name, leaf in small_study.bits(tree).items() if "limit" not in name}


def assert_one_seed_stopped(study, reference, out, seed, source) -> int:
    """Assert that one seed stopped in chunk 1 and the others equal the reference bit for bit.

    Returns:
        The step that the message names.
    """
    rows, watch = small_study.run(study, out)
    state_dir, steps = out / "stopped" / f"unsteady-s{seed}", FOUR_SEEDS.chunk_steps
    [message] = watch.messages
    assert message.startswith(f"CartPole, arm unsteady, seed {seed}: {source} produced a value")
    assert f"its state at step {steps} is in {state_dir}" in message
    by_step = int(message.partition("by step ")[2].partition(";")[0])
    assert steps < by_step <= 2 * steps

    done, (state, alive) = small_study.final(study, out)
    _, (expected, _) = small_study.final(reference.study, reference.out)
    assert (done, alive.tolist()) == (3, [s != seed for s in range(4)])
    last_state = state.one_seed(seed)  # where the seed stopped
    saved = Checkpoints(state_dir).restore(last_state)
    assert small_study.bits(saved) == small_study.bits((1, last_state))
    for s in set(range(4)) - {seed}:
        assert without_limit(state.one_seed(s)) == without_limit(expected.one_seed(s))
    assert same_rows(rows, [row for row in reference.rows if row["seed"] != seed])
    for line, other in zip(
        small_study.metrics(out), small_study.metrics(reference.out), strict=True
    ):
        for name, values in line["metrics"].items():
            if line["step"] > steps:
                other["metrics"][name][seed] = None
            assert values == other["metrics"][name]
    return by_step


def test_nan_signal_stops_only_its_seed(reference, draws, tmp_path):
    study = faulty_study(limit=float(np.sort(draws)[-2:].mean()))
    study = study._replace(backend=reference.study.backend)  # which has most of its programs
    by_step = assert_one_seed_stopped(study, reference, tmp_path, int(draws.argmax()), "a head")
    end_of_update = -(-FAULT_STEP // FOUR_SEEDS.num_steps) * FOUR_SEEDS.batch_steps
    assert by_step == end_of_update


@pytest.mark.parametrize(
    ("where", "source"),
    [
        pytest.param("world", "the environment", marks=pytest.mark.slow),
        ("net", "the agent"),
    ],
)
def test_message_names_the_source_of_the_nan(reference, where, source, tmp_path, monkeypatch):
    poison(reference.study, monkeypatch, where)
    assert_one_seed_stopped(reference.study, reference, tmp_path, 2, source)


@pytest.mark.slow
def test_saved_state_of_a_stopped_seed_reproduces_the_nan(reference, draws, tmp_path):
    study, seed = faulty_study(float(np.sort(draws)[-2:].mean())), int(draws.argmax())
    with pytest.raises(Interrupted):
        small_study.run(study, tmp_path, stop_at=2)
    checkpoints = Checkpoints(tmp_path / "stopped" / f"unsteady-s{seed}")
    done, state = checkpoints.restore(study.backend.init(study.phase).one_seed(seed))
    four = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 4), state)
    _, _, finite = study.backend.train(four, study.phase, done * FOUR_SEEDS.updates, lambda: False)
    assert np.asarray(finite).tolist() == [[[True, True, True], [True, False, False]]] * 4
    # Resumed, the study prints no second message and scores only the other seeds.
    rows, watch = small_study.run(study, tmp_path)
    assert watch.messages == []
    assert {row["seed"] for row in rows} == set(range(4)) - {seed}


@pytest.mark.slow
def test_an_arm_without_a_remaining_seed_has_no_rows_and_padding_is_never_reported(tmp_path):
    rows, watch = small_study.run(faulty_study(-1.0, replace(FOUR_SEEDS, seeds=3)), tmp_path)
    assert rows == [] and len(watch.messages) == 3
    assert not (tmp_path / "stopped" / "unsteady-s3").exists()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(len(values) == 3 for line in lines for values in line["metrics"].values())


def test_infinite_score_is_reported_and_its_seed_left_out(reference, tmp_path, monkeypatch):
    evaluate = reference.study.backend.evaluate

    def faulty_evaluate(*args):
        for i, scores in enumerate(evaluate(*args)):
            if reference.study.suite.points()[i] == ("force", "dynamics", 1.0):
                scores["success"] = np.where(np.arange(4) == 2, np.inf, scores["success"])
            yield scores

    monkeypatch.setattr(reference.study.backend, "evaluate", faulty_evaluate)
    rows, watch = small_study.run(reference.study, tmp_path)
    assert watch.messages == [
        "CartPole, arm unsteady, seed 2: the reward is not a number under "
        "force 1.0; the seed is left out of the results"
    ]
    assert len(seed_means(rows)["unsteady"]) == 3


def test_select_leaves_takes_each_seed_from_the_marked_tree():
    def tree(value: int) -> dict:
        keys = jax.random.split(jax.random.key(value), 3)
        return {"x": jnp.full((3, 2), value), "n": value + jnp.arange(3), "key": keys}

    old, new = tree(0), tree(10)
    selected = select_leaves(np.array([True, False, True]), new, old)
    for i, source in enumerate((new, old, new)):
        actual, expected = (jax.tree.map(lambda leaf: leaf[i], t) for t in (selected, source))  # noqa: B023
        assert small_study.bits(actual) == small_study.bits(expected)
