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
from runs.analysis.scores import read_scores
from runs.engine import arm_runner
from runs.engine.arm_runner import one_seed, select_seeds
from runs.engine.arms import Arm
from runs.engine.checkpoint import Checkpoints
from runs.engine.evaluate import REPORTED_SCORES, SCORES
from runs.engine.jax_backend import JaxBackend
from runs.errors import Interrupted, UserError
from runs.report.tables import summarise_arms
from tests.runs import small_study

no_key_check = pytest.fixture(scope="module", autouse=True)(small_study.without_key_check)
NUM_POINTS = 5  # of small_study.suite()
CHUNKS = small_study.CONFIG.chunks


class FinishedStudy(NamedTuple):
    """A study that was never interrupted: its trainer, folder and score rows."""

    trainer: JaxBackend
    out: Path
    rows: list[dict]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    trainer = JaxBackend(small_study.suite(), small_study.ARMS["fear"], small_study.CONFIG)
    rows, watch = small_study.run(trainer, out)
    assert watch.done == watch.fresh == CHUNKS + NUM_POINTS
    return FinishedStudy(trainer, out, rows)


def same_rows(rows: list[dict], others: list[dict]) -> bool:
    """Whether score rows are equal, NaN counting as equal to NaN."""
    return list(map(str, rows)) == list(map(str, others))


# --- files written ----------------------------------------------------------------------------


def test_scores_hold_one_row_per_point_and_seed(finished):
    rows = read_scores(finished.out / "scores.csv")
    assert {type(row[name]) for row in rows for name in SCORES} == {float}
    cells = [(row["shift"], row["severity"], row["seed"]) for row in rows]
    points = [(point.shift, point.severity) for point in finished.trainer.suite.points()]
    assert cells == [(*point, seed) for point in points for seed in range(small_study.CONFIG.seeds)]
    assert all(np.isfinite(row["score"]) and row["score"] == row["success"] for row in rows)
    assert all(row["terminated"] + row["truncated"] == 1 for row in rows)
    assert all(0 < row["length"] <= 20 and row["return"] == row["length"] for row in rows)
    assert all(row["harm"] == row["terminated"] for row in rows)  # the pole fell
    assert all(np.isnan(row[name]) for row in rows for name in ("hidden", "other_goal"))
    assert same_rows([{k: row[k] for k in rows[0]} for row in finished.rows], rows)


def test_metrics_hold_one_line_per_chunk(finished):
    lines = small_study.metrics(finished.out)
    steps = finished.trainer.run_config.chunk_steps
    assert [line["step"] for line in lines] == [steps * (i + 1) for i in range(CHUNKS)]
    assert all(
        len(v) == small_study.CONFIG.seeds for line in lines for v in line["metrics"].values()
    )
    assert {"return", "length", "loss", "fear/signal"} <= set(lines[0]["metrics"])


def test_rollout_is_filmed_once(finished, monkeypatch):
    small_study.run(finished.trainer, finished.out, film=True)
    assert list(finished.out.glob("tb/compare/CartPole/fear/*.rollout"))
    monkeypatch.setattr(finished.trainer, "film", lambda run: pytest.fail("filmed again"))
    small_study.run(finished.trainer, finished.out, film=True)


def test_arm_is_scored_even_if_filming_fails(finished, monkeypatch, tmp_path):
    def film(run):
        raise RuntimeError("no\nscreen")

    monkeypatch.setattr(finished.trainer, "film", film)
    rows, watch = small_study.run(finished.trainer, tmp_path, film=True)
    assert same_rows(rows, finished.rows)
    assert watch.messages == ["CartPole, arm fear: not filmed (RuntimeError: no screen)"]


def test_finished_study_computes_nothing_again(finished, monkeypatch):
    before = (finished.out / "scores.csv").read_bytes(), small_study.metrics(finished.out)
    for name in ("chunk", "score"):
        monkeypatch.setattr(finished.trainer, name, lambda *args: pytest.fail("computed again"))
    rows, watch = small_study.run(finished.trainer, finished.out)
    assert watch.fresh == 0
    assert same_rows(rows, read_scores(finished.out / "scores.csv"))
    assert ((finished.out / "scores.csv").read_bytes(), small_study.metrics(finished.out)) == before


def test_score_file_without_new_columns_is_refused_and_kept(finished, tmp_path):
    path = tmp_path / "scores.csv"
    lines = (finished.out / "scores.csv").read_text().splitlines()
    old = [line.rsplit(",", len(REPORTED_SCORES))[0] for line in lines]
    path.write_text("\n".join([*old, ""]))
    with pytest.raises(UserError, match="has no column harm, hidden, other_goal: .* another --out"):
        small_study.run(finished.trainer, tmp_path)
    assert path.read_text().splitlines() == old


# --- interruption -----------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [0, 2])
def test_study_stopped_and_resumed_equals_an_uninterrupted_one(finished, chunks, tmp_path):
    with pytest.raises(Interrupted):
        small_study.run(finished.trainer, tmp_path, stop_at=chunks)
    assert small_study.final(finished.trainer, tmp_path)[0] == chunks
    _, watch = small_study.run(finished.trainer, tmp_path)
    assert watch.fresh == CHUNKS - chunks + NUM_POINTS
    small_study.assert_same_study(finished.trainer, finished.out, tmp_path)


@pytest.mark.parametrize("done", [1, 3, CHUNKS, CHUNKS + 2, CHUNKS + NUM_POINTS])
def test_study_killed_and_resumed_equals_an_uninterrupted_one(
    finished, done, tmp_path, monkeypatch
):
    monkeypatch.setattr(arm_runner, "CHECKPOINT_SECONDS", 1e9)  # only the first chunk and the last
    with pytest.raises(small_study.Killed):
        small_study.run(finished.trainer, tmp_path, kill_at=done)
    small_study.run(finished.trainer, tmp_path)
    small_study.assert_same_study(finished.trainer, finished.out, tmp_path)


@pytest.mark.parametrize("bytes_left", [1, -1])
@pytest.mark.parametrize(("name", "done"), [("metrics.jsonl", 3), ("scores.csv", CHUNKS + 3)])
def test_truncated_last_line_is_recomputed(finished, name, done, bytes_left, tmp_path):
    with pytest.raises(small_study.Killed):
        small_study.run(finished.trainer, tmp_path, kill_at=done)
    path = tmp_path / name
    *lines, last_line = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines) + last_line[:bytes_left])
    small_study.run(finished.trainer, tmp_path)
    small_study.assert_same_study(finished.trainer, finished.out, tmp_path)


def test_truncated_score_row_is_not_read(finished, tmp_path):
    path = tmp_path / "scores.csv"
    text = (finished.out / "scores.csv").read_text()
    path.write_text(text[:-2])  # the last number lacks its last digit and is still a number
    assert len(read_scores(path)) == len(finished.rows) - 1


def test_resuming_keeps_the_scores_of_other_arms(finished, tmp_path):
    none = JaxBackend(small_study.suite(), small_study.ARMS["none"], small_study.CONFIG)
    small_study.run(none, tmp_path)
    first = (tmp_path / "scores.csv").read_text()
    with pytest.raises(small_study.Killed):
        small_study.run(finished.trainer, tmp_path, kill_at=CHUNKS + 2)
    small_study.run(finished.trainer, tmp_path)
    text = (tmp_path / "scores.csv").read_text()
    assert text.startswith(first)
    own_text = (finished.out / "scores.csv").read_text()
    assert text.removeprefix(first) == own_text.partition("\n")[2]


# --- checkpoints that are damaged or do not fit -----------------------------------------------


def test_damaged_checkpoint_falls_back_to_the_previous_with_a_message(
    finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(arm_runner, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(small_study.Killed):
        small_study.run(finished.trainer, tmp_path, kill_at=CHUNKS + 1)
    newest = max((tmp_path / "checkpoints" / "fear").iterdir())
    for path in (newest / "arrays").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    _, watch = small_study.run(finished.trainer, tmp_path)
    assert len(watch.messages) == 1
    assert "is damaged and skipped" in watch.messages[0]
    assert newest.name in watch.messages[0]
    small_study.assert_same_study(finished.trainer, finished.out, tmp_path)


def test_checkpoint_of_other_sizes_is_refused_naming_the_leaves(finished):
    wider = small_study.replace(
        small_study.CONFIG, agent=small_study.replace(small_study.CONFIG.agent, width=16)
    )
    with pytest.raises(UserError) as caught:
        small_study.run(
            JaxBackend(small_study.suite(), small_study.ARMS["fear"], wider), finished.out
        )
    message = str(caught.value)
    assert "is of another configuration: " in message
    assert "kernel" in message
    assert "float32[2, 4, 8], expected float32[2, 4, 16]" in message
    assert "choose another --out" in message


# --- NaN --------------------------------------------------------------------------------------

FOUR_SEEDS = small_study.replace(small_study.CONFIG, seeds=4, rows=4, chunks=3)
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


def faulty_backend(limit: float) -> JaxBackend:
    arm = Arm("unsteady", Blend(unsteady=(1.0, partial(FaultyHead, limit=limit))))
    return JaxBackend(small_study.suite(), arm, FOUR_SEEDS)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The finished study of the same arm without a NaN signal."""
    out = tmp_path_factory.mktemp("reference")
    trainer = faulty_backend(LARGE)
    rows, watch = small_study.run(trainer, out)
    assert watch.messages == []
    assert len(rows) == 4 * NUM_POINTS
    return FinishedStudy(trainer, out, rows)


def drawn_numbers(trainer: JaxBackend) -> np.ndarray:
    return np.asarray(trainer.start().learner.blend_state.heads["unsteady"].net.drawn[...])


def poison(trainer: JaxBackend, seed: int, where: str, at_chunk: int) -> JaxBackend:
    """Make the environment state of one seed infinite, or its agent NaN, before one chunk."""
    chunk, calls = trainer.chunk, []

    def poisoned_chunk(run, stopped):
        calls.append(run)
        if len(calls) == at_chunk + 1:
            if where == "world":
                state = run.env_states.state.at[seed].set(jnp.inf)
                run = run._replace(env_states=run.env_states._replace(state=state))
            else:
                agent = run.learner.agent
                net = jax.tree.map(lambda leaf: leaf.at[seed].set(jnp.nan), agent.train_state.net)
                agent = agent._replace(train_state=agent.train_state._replace(net=net))
                run = run._replace(learner=run.learner._replace(agent=agent))
        return chunk(run, stopped)

    trainer.chunk = poisoned_chunk
    return trainer


def assert_one_seed_stopped(trainer, reference, out, seed, chunk, source):
    """Assert that one seed stopped in a chunk and the others equal the reference bit for bit."""
    rows, watch = small_study.run(trainer, out)
    state_dir = out / "stopped" / f"unsteady-s{seed}"
    steps = trainer.run_config.chunk_steps
    messages = [line for line in watch.messages if "not a number" in line]
    assert len(messages) == len(watch.messages) == 1
    assert messages[0].startswith(f"CartPole, arm unsteady, seed {seed}: {source} produced a value")
    assert f"its state at step {chunk * steps} is in {state_dir}" in messages[0]
    by_step = int(messages[0].partition("by step ")[2].partition(";")[0])
    assert chunk * steps < by_step <= (chunk + 1) * steps

    others = [s for s in range(4) if s != seed]
    done, (run, alive) = small_study.final(trainer, out)
    _, (reference_run, _) = small_study.final(reference.trainer, reference.out)
    assert (done, alive.tolist()) == (3, [s != seed for s in range(4)])
    last_state = jax.tree.map(lambda leaf: leaf[seed : seed + 1], run)  # where the seed stopped
    assert small_study.bits(Checkpoints(state_dir).restore(last_state)) == small_study.bits(
        (chunk, last_state)
    )
    for s in others:
        actual, expected = (
            small_study.bits(one_seed(r, s, FOUR_SEEDS.num_envs)) for r in (run, reference_run)
        )
        assert {k: v for k, v in actual.items() if "limit" not in k} == {
            k: v for k, v in expected.items() if "limit" not in k
        }
    assert same_rows(rows, [row for row in reference.rows if row["seed"] != seed])
    for actual, expected in zip(
        small_study.metrics(out), small_study.metrics(reference.out), strict=True
    ):
        for name, values in actual["metrics"].items():
            expected_values = list(expected["metrics"][name])
            if actual["step"] > chunk * steps:
                expected_values[seed] = None
            assert values == expected_values

    [line] = summarise_arms(rows, ["unsteady"])
    assert line.seeds == 3
    return rows, state_dir, by_step


def test_nan_signal_stops_only_its_seed(reference, tmp_path):
    draws = drawn_numbers(reference.trainer)
    seed = int(draws.argmax())
    trainer = faulty_backend(limit=float(np.sort(draws)[-2:].mean()))
    *_, by_step = assert_one_seed_stopped(trainer, reference, tmp_path, seed, 1, "a head")
    steps = FOUR_SEEDS.num_envs * FOUR_SEEDS.num_steps
    # the end of the update with the NaN
    assert by_step == -(-FAULT_STEP // FOUR_SEEDS.num_steps) * steps


@pytest.mark.parametrize(("where", "source"), [("world", "the environment"), ("net", "the agent")])
def test_message_names_the_source_of_the_nan(reference, where, source, tmp_path):
    trainer = poison(faulty_backend(LARGE), seed=2, where=where, at_chunk=1)
    assert_one_seed_stopped(trainer, reference, tmp_path, 2, 1, source)


def test_stopped_seed_stays_stopped_and_its_saved_state_reproduces_the_nan(reference, tmp_path):
    draws = drawn_numbers(reference.trainer)
    seed = int(draws.argmax())
    trainer = faulty_backend(limit=float(np.sort(draws)[-2:].mean()))
    with pytest.raises(Interrupted):
        small_study.run(trainer, tmp_path, stop_at=2)
    checkpoints = Checkpoints(tmp_path / "stopped" / f"unsteady-s{seed}")
    one_seed_backend = JaxBackend(
        small_study.suite(), trainer.arm, small_study.replace(FOUR_SEEDS, seeds=1, rows=1)
    )
    done, state = checkpoints.restore(one_seed_backend.start())
    assert done == 1
    # It equals the state of the whole study after the same chunk.
    with pytest.raises(Interrupted):
        small_study.run(trainer, tmp_path / "again", stop_at=1)
    _, (run, _) = small_study.final(trainer, tmp_path / "again")
    assert small_study.bits(state) == small_study.bits(one_seed(run, seed, FOUR_SEEDS.num_envs))
    # Run again, the NaN appears at the same place.
    _, _, numbers = one_seed_backend.chunk(state, lambda: False)
    assert np.asarray(numbers)[0].tolist() == [[True, True, True], [True, False, False]]
    # Resumed, the study prints no second message and scores only the other seeds.
    rows, watch = small_study.run(trainer, tmp_path)
    assert watch.messages == []
    assert {row["seed"] for row in rows} == set(range(4)) - {seed}


def test_arm_without_a_remaining_seed_has_a_row_in_the_table(reference, tmp_path):
    rows, watch = small_study.run(faulty_backend(limit=-1.0), tmp_path)
    assert rows == []
    assert len(watch.messages) == 4
    [line] = summarise_arms(rows, ["unsteady"])
    assert (line.seeds, line.worst, line.gain) == (0, None, None)


def test_padding_seeds_are_never_reported(tmp_path):
    run_config = small_study.replace(FOUR_SEEDS, seeds=3)
    limit = -1.0
    arm = Arm("unsteady", Blend(unsteady=(1.0, partial(FaultyHead, limit=limit))))
    _, watch = small_study.run(JaxBackend(small_study.suite(), arm, run_config), tmp_path)
    assert len(watch.messages) == 3
    assert not (tmp_path / "stopped" / "unsteady-s3").exists()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(len(values) == 3 for line in lines for values in line["metrics"].values())


def test_infinite_score_is_reported_and_its_seed_left_out(reference, tmp_path, monkeypatch):
    trainer = faulty_backend(LARGE)
    score = trainer.score

    def faulty_score(*args):
        for point, scores in score(*args):
            if point == ("force", "dynamics", 1.0):
                scores["success"] = scores["success"].copy()
                scores["success"][2] = np.inf
            yield point, scores

    monkeypatch.setattr(trainer, "score", faulty_score)
    rows, watch = small_study.run(trainer, tmp_path)
    assert watch.messages == [
        "CartPole, arm unsteady, seed 2: the reward is not a number under "
        "force 1.0; the seed is left out of the results"
    ]
    [line] = summarise_arms(rows, ["unsteady"])
    assert line.seeds == 3


def test_select_seeds_takes_each_seed_from_the_marked_tree():
    old = {
        "x": jnp.zeros((3, 2)),
        "n": jnp.arange(3),
        "key": jax.random.split(jax.random.key(0), 3),
    }
    new = {
        "x": jnp.ones((3, 2)),
        "n": 10 + jnp.arange(3),
        "key": jax.random.split(jax.random.key(1), 3),
    }
    selected = select_seeds(np.array([True, False, True]), new, old)
    assert selected["x"].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert selected["n"].tolist() == [10, 1, 12]
    for i, source in enumerate((new, old, new)):
        assert small_study.bits(selected["key"][i]) == small_study.bits(source["key"][i])
