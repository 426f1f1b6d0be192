"""A study: whatever interrupts it, whatever goes wrong in one seed, the rest stays bit for bit."""

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
from runs.cli.interrupt import Interrupted
from runs.engine import arm_runner
from runs.engine.arm_runner import one_seed, select_seeds
from runs.engine.arms import Arm
from runs.engine.checkpoint import Checkpoints
from runs.engine.evaluate import REPORTED_SCORES, SCORES
from runs.engine.jax_backend import JaxBackend
from runs.errors import UserError
from runs.report.tables import summarise_arms
from tests.runs import small_study

over_seeds = pytest.fixture(scope="module", autouse=True)(small_study.without_key_check)
POINTS = 5  # of small.suite()
CHUNKS = small_study.CONFIG.chunks


class Whole(NamedTuple):
    """A study that nothing interrupted."""

    trainer: JaxBackend
    out: Path
    rows: list[dict]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    trainer = JaxBackend(small_study.suite(), small_study.ARMS["fear"], small_study.CONFIG)
    rows, watch = small_study.run(trainer, out)
    assert watch.done == watch.fresh == CHUNKS + POINTS
    return Whole(trainer, out, rows)


def same(rows: list[dict], others: list[dict]) -> bool:
    """Whether they say the same, where no number is one too."""
    return list(map(str, rows)) == list(map(str, others))


# --- what it writes ---------------------------------------------------------------------------


def test_scores_are_complete_and_tidy(whole):
    rows = read_scores(whole.out / "scores.csv")
    assert {type(row[name]) for row in rows for name in SCORES} == {float}
    cells = [(row["shift"], row["severity"], row["seed"]) for row in rows]
    points = [(point.shift, point.severity) for point in whole.trainer.suite.points()]
    assert cells == [(*point, seed) for point in points for seed in range(small_study.CONFIG.seeds)]
    assert all(np.isfinite(row["score"]) and row["score"] == row["success"] for row in rows)
    assert all(row["terminated"] + row["truncated"] == 1 for row in rows)
    assert all(0 < row["length"] <= 20 and row["return"] == row["length"] for row in rows)
    assert all(row["harm"] == row["terminated"] for row in rows)  # the pole fell
    assert all(np.isnan(row[name]) for row in rows for name in ("hidden", "other_goal"))
    assert same([{k: row[k] for k in rows[0]} for row in whole.rows], rows)


def test_metrics_have_a_line_a_chunk(whole):
    lines = small_study.metrics(whole.out)
    steps = whole.trainer.run_config.chunk_steps
    assert [line["step"] for line in lines] == [steps * (i + 1) for i in range(CHUNKS)]
    assert all(
        len(v) == small_study.CONFIG.seeds for line in lines for v in line["metrics"].values()
    )
    assert {"return", "length", "loss", "fear/signal"} <= set(lines[0]["metrics"])


def test_a_film_is_made_once(whole, monkeypatch):
    small_study.run(whole.trainer, whole.out, film=True)
    assert list(whole.out.glob("tb/compare/CartPole/fear/*.rollout"))
    monkeypatch.setattr(whole.trainer, "film", lambda run: pytest.fail("filmed again"))
    small_study.run(whole.trainer, whole.out, film=True)


def test_what_cannot_be_filmed_is_scored_all_the_same(whole, monkeypatch, tmp_path):
    def film(run):
        raise RuntimeError("no\nscreen")

    monkeypatch.setattr(whole.trainer, "film", film)
    rows, watch = small_study.run(whole.trainer, tmp_path, film=True)
    assert same(rows, whole.rows)
    assert watch.said == ["CartPole, arm fear: not filmed (RuntimeError: no screen)"]


def test_a_finished_study_computes_nothing_again(whole, monkeypatch):
    before = (whole.out / "scores.csv").read_bytes(), small_study.metrics(whole.out)
    for name in ("chunk", "score"):
        monkeypatch.setattr(whole.trainer, name, lambda *args: pytest.fail("computed again"))
    rows, watch = small_study.run(whole.trainer, whole.out)
    assert watch.fresh == 0
    assert same(rows, read_scores(whole.out / "scores.csv"))
    assert ((whole.out / "scores.csv").read_bytes(), small_study.metrics(whole.out)) == before


def test_scores_of_another_version_are_refused_and_kept(whole, tmp_path):
    path = tmp_path / "scores.csv"
    lines = (whole.out / "scores.csv").read_text().splitlines()
    old = [line.rsplit(",", len(REPORTED_SCORES))[0] for line in lines]
    path.write_text("\n".join([*old, ""]))
    with pytest.raises(UserError, match="has no column harm, hidden, other_goal: .* another --out"):
        small_study.run(whole.trainer, tmp_path)
    assert path.read_text().splitlines() == old


# --- interruption -----------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [0, 2])
def test_stopped_and_gone_on_with_is_uninterrupted(whole, chunks, tmp_path):
    with pytest.raises(Interrupted):
        small_study.run(whole.trainer, tmp_path, stop_at=chunks)
    assert small_study.final(whole.trainer, tmp_path)[0] == chunks
    _, watch = small_study.run(whole.trainer, tmp_path)
    assert watch.fresh == CHUNKS - chunks + POINTS
    small_study.assert_same_study(whole.trainer, whole.out, tmp_path)


@pytest.mark.parametrize("done", [1, 3, CHUNKS, CHUNKS + 2, CHUNKS + POINTS])
def test_killed_anywhere_and_gone_on_with_is_uninterrupted(whole, done, tmp_path, monkeypatch):
    monkeypatch.setattr(arm_runner, "CHECKPOINT_SECONDS", 1e9)  # only the first chunk and the last
    with pytest.raises(small_study.Killed):
        small_study.run(whole.trainer, tmp_path, kill_at=done)
    small_study.run(whole.trainer, tmp_path)
    small_study.assert_same_study(whole.trainer, whole.out, tmp_path)


@pytest.mark.parametrize("bytes_left", [1, -1])
@pytest.mark.parametrize(("name", "done"), [("metrics.jsonl", 3), ("scores.csv", CHUNKS + 3)])
def test_what_a_crash_cut_is_left_out(whole, name, done, bytes_left, tmp_path):
    with pytest.raises(small_study.Killed):
        small_study.run(whole.trainer, tmp_path, kill_at=done)
    path = tmp_path / name
    *lines, last = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines) + last[:bytes_left])
    small_study.run(whole.trainer, tmp_path)
    small_study.assert_same_study(whole.trainer, whole.out, tmp_path)


def test_a_number_cut_in_half_is_no_score(whole, tmp_path):
    path = tmp_path / "scores.csv"
    text = (whole.out / "scores.csv").read_text()
    path.write_text(text[:-2])  # the last number lacks its last digit and still is one
    assert len(read_scores(path)) == len(whole.rows) - 1


def test_the_scores_of_other_arms_stay(whole, tmp_path):
    none = JaxBackend(small_study.suite(), small_study.ARMS["none"], small_study.CONFIG)
    small_study.run(none, tmp_path)
    first = (tmp_path / "scores.csv").read_text()
    with pytest.raises(small_study.Killed):
        small_study.run(whole.trainer, tmp_path, kill_at=CHUNKS + 2)
    small_study.run(whole.trainer, tmp_path)
    both = (tmp_path / "scores.csv").read_text()
    assert both.startswith(first)
    alone = (whole.out / "scores.csv").read_text()
    assert both.removeprefix(first) == alone.partition("\n")[2]


# --- checkpoints that are damaged or do not fit -----------------------------------------------


def test_a_damaged_checkpoint_falls_back_and_says_so(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(arm_runner, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(small_study.Killed):
        small_study.run(whole.trainer, tmp_path, kill_at=CHUNKS + 1)
    newest = max((tmp_path / "checkpoints" / "fear").iterdir())
    for path in (newest / "arrays").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    _, watch = small_study.run(whole.trainer, tmp_path)
    assert len(watch.said) == 1
    assert "is damaged and passed over" in watch.said[0]
    assert newest.name in watch.said[0]
    small_study.assert_same_study(whole.trainer, whole.out, tmp_path)


def test_a_checkpoint_of_other_sizes_is_refused_by_its_leaves(whole):
    wider = small_study.replace(
        small_study.CONFIG, agent=small_study.replace(small_study.CONFIG.agent, width=16)
    )
    with pytest.raises(UserError) as caught:
        small_study.run(JaxBackend(small_study.suite(), small_study.ARMS["fear"], wider), whole.out)
    message = str(caught.value)
    assert "is of another configuration: " in message
    assert "kernel" in message
    assert "float32[2, 4, 8], expected float32[2, 4, 16]" in message
    assert "choose another --out" in message


# --- not a number -----------------------------------------------------------------------------

SEEDS = small_study.replace(small_study.CONFIG, seeds=4, rows=4, chunks=3)
FROM = 2 * SEEDS.updates * SEEDS.num_steps - 3  # the step from which the head is at fault
LARGE = 1e9


class Unsteady(Head):
    """Feels 1, and nothing that is a number from a step on in the seeds that drew a high number."""

    def __init__(self, spec, limit, *, rngs):
        self.drawn = nnx.Param(jax.random.uniform(rngs.params(), ()))
        self.limit = nnx.Param(jnp.asarray(limit, jnp.float32))

    def initial_state(self, num_envs):
        return jnp.zeros((num_envs,))

    def __call__(self, state, batch):
        steps = state[None] + 1.0 + jnp.arange(batch.reward.shape[0])[:, None]
        faulty = (self.drawn[...] > self.limit[...]) & (steps >= FROM)
        return jax.lax.stop_gradient(jnp.where(faulty, jnp.nan, 1.0)), steps[-1]


def unsteady(limit: float) -> JaxBackend:
    arm = Arm("unsteady", Blend(unsteady=(1.0, partial(Unsteady, limit=limit))))
    return JaxBackend(small_study.suite(), arm, SEEDS)


@pytest.fixture(scope="module")
def finite(tmp_path_factory):
    """The arm without its fault."""
    out = tmp_path_factory.mktemp("sound")
    trainer = unsteady(LARGE)
    rows, watch = small_study.run(trainer, out)
    assert watch.said == []
    assert len(rows) == 4 * POINTS
    return Whole(trainer, out, rows)


def drawn(trainer: JaxBackend) -> np.ndarray:
    return np.asarray(trainer.start().learner.blend_state.heads["unsteady"].net.drawn[...])


def poison(trainer: JaxBackend, seed: int, where: str, at_chunk: int) -> JaxBackend:
    """Makes one seed's world, or its agent, something that is not a number in one chunk."""
    chunk, calls = trainer.chunk, []

    def poisoned(run, stopped):
        calls.append(run)
        if len(calls) == at_chunk + 1:
            if where == "world":
                state = run.env_states.state.at[seed].set(jnp.inf)
                run = run._replace(env_states=run.env_states._replace(state=state))
            else:
                agent = run.learner.agent
                net = jax.tree.map(lambda leaf: leaf.at[seed].set(jnp.nan), agent.trained.net)
                agent = agent._replace(trained=agent.trained._replace(net=net))
                run = run._replace(learner=run.learner._replace(agent=agent))
        return chunk(run, stopped)

    trainer.chunk = poisoned
    return trainer


def assert_one_seed_stopped(trainer, finite, out, seed, chunk, source):
    """One seed stopped in a chunk; the others are those of the sound study, bit for bit."""
    rows, watch = small_study.run(trainer, out)
    kept = out / "stopped" / f"unsteady-s{seed}"
    steps = trainer.run_config.chunk_steps
    said = [line for line in watch.said if "not a number" in line]
    assert len(said) == len(watch.said) == 1
    assert said[0].startswith(f"CartPole, arm unsteady, seed {seed}: {source} made something")
    assert f"its state at step {chunk * steps} is in {kept}" in said[0]
    by_step = int(said[0].partition("by step ")[2].partition(";")[0])
    assert chunk * steps < by_step <= (chunk + 1) * steps

    others = [s for s in range(4) if s != seed]
    done, (run, alive) = small_study.final(trainer, out)
    _, (healthy, _) = small_study.final(finite.trainer, finite.out)
    assert (done, alive.tolist()) == (3, [s != seed for s in range(4)])
    before = jax.tree.map(lambda leaf: leaf[seed : seed + 1], run)  # where it was left
    assert small_study.bits(Checkpoints(kept).restore(before)) == small_study.bits((chunk, before))
    for s in others:
        mine, theirs = (small_study.bits(one_seed(r, s, SEEDS.num_envs)) for r in (run, healthy))
        assert {k: v for k, v in mine.items() if "limit" not in k} == {
            k: v for k, v in theirs.items() if "limit" not in k
        }
    assert same(rows, [row for row in finite.rows if row["seed"] != seed])
    for mine, theirs in zip(small_study.metrics(out), small_study.metrics(finite.out), strict=True):
        for name, values in mine["metrics"].items():
            expected = list(theirs["metrics"][name])
            if mine["step"] > chunk * steps:
                expected[seed] = None
            assert values == expected

    [line] = summarise_arms(rows, ["unsteady"])
    assert line.seeds == 3
    return rows, kept, by_step


def test_a_head_that_is_not_a_number_stops_its_seed_alone(finite, tmp_path):
    draws = drawn(finite.trainer)
    seed = int(draws.argmax())
    trainer = unsteady(limit=float(np.sort(draws)[-2:].mean()))
    *_, by_step = assert_one_seed_stopped(trainer, finite, tmp_path, seed, 1, "a head")
    steps = SEEDS.num_envs * SEEDS.num_steps
    assert by_step == -(-FROM // SEEDS.num_steps) * steps  # the end of the update it happened in


@pytest.mark.parametrize(("where", "source"), [("world", "the environment"), ("net", "the agent")])
def test_trouble_is_laid_where_it_began(finite, where, source, tmp_path):
    trainer = poison(unsteady(LARGE), seed=2, where=where, at_chunk=1)
    assert_one_seed_stopped(trainer, finite, tmp_path, 2, 1, source)


def test_a_stopped_seed_stays_stopped_and_its_state_can_be_replayed(finite, tmp_path):
    draws = drawn(finite.trainer)
    seed = int(draws.argmax())
    trainer = unsteady(limit=float(np.sort(draws)[-2:].mean()))
    with pytest.raises(Interrupted):
        small_study.run(trainer, tmp_path, stop_at=2)
    kept = Checkpoints(tmp_path / "stopped" / f"unsteady-s{seed}")
    alone = JaxBackend(
        small_study.suite(), trainer.arm, small_study.replace(SEEDS, seeds=1, rows=1)
    )
    done, state = kept.restore(alone.start())
    assert done == 1
    # The whole study's state after the same chunk is where that seed was left.
    with pytest.raises(Interrupted):
        small_study.run(trainer, tmp_path / "again", stop_at=1)
    _, (run, _) = small_study.final(trainer, tmp_path / "again")
    assert small_study.bits(state) == small_study.bits(one_seed(run, seed, SEEDS.num_envs))
    # Played again it goes wrong again, at the same place.
    _, _, numbers = alone.chunk(state, lambda: False)
    assert np.asarray(numbers)[0].tolist() == [[True, True, True], [True, False, False]]
    # Gone on with, nothing is said a second time, and the scores are those of the others.
    rows, watch = small_study.run(trainer, tmp_path)
    assert watch.said == []
    assert {row["seed"] for row in rows} == set(range(4)) - {seed}


def test_an_arm_without_a_seed_left_is_in_the_table(finite, tmp_path):
    rows, watch = small_study.run(unsteady(limit=-1.0), tmp_path)
    assert rows == []
    assert len(watch.said) == 4
    [line] = summarise_arms(rows, ["unsteady"])
    assert (line.seeds, line.worst, line.gain) == (0, None, None)


def test_seeds_computed_for_the_devices_alone_are_never_named(tmp_path):
    run_config = small_study.replace(SEEDS, seeds=3)
    limit = -1.0
    arm = Arm("unsteady", Blend(unsteady=(1.0, partial(Unsteady, limit=limit))))
    _, watch = small_study.run(JaxBackend(small_study.suite(), arm, run_config), tmp_path)
    assert len(watch.said) == 3
    assert not (tmp_path / "stopped" / "unsteady-s3").exists()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(len(values) == 3 for line in lines for values in line["metrics"].values())


def test_a_score_that_is_not_a_number_is_said(finite, tmp_path, monkeypatch):
    trainer = unsteady(LARGE)
    score = trainer.score

    def faulty(*args):
        for point, scores in score(*args):
            if point == ("force", "dynamics", 1.0):
                scores["success"] = scores["success"].copy()
                scores["success"][2] = np.inf
            yield point, scores

    monkeypatch.setattr(trainer, "score", faulty)
    rows, watch = small_study.run(trainer, tmp_path)
    assert watch.said == [
        "CartPole, arm unsteady, seed 2: the environment paid something that is not a number under "
        "force 1.0; the seed is left out"
    ]
    [line] = summarise_arms(rows, ["unsteady"])
    assert line.seeds == 3


def test_keep_takes_each_seed_from_its_side():
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
    kept = select_seeds(np.array([True, False, True]), new, old)
    assert kept["x"].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert kept["n"].tolist() == [10, 1, 12]
    for i, source in enumerate((new, old, new)):
        assert small_study.bits(kept["key"][i]) == small_study.bits(source["key"][i])
