"""A life in changing worlds: on what terms, through which worlds, and what its page says."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from affect import Transition
from agents.ppo import PPO
from envs import load_suite
from runs import continual as study
from runs.adaptation import continual_report
from runs.adaptation.continual_report import contrasts, figure, finding, markdown, sound_scores
from runs.adaptation.continual_stream import (
    CHUNKS,
    StreamResult,
    StreamRunner,
    StreamSizes,
    StreamWorlds,
    make_stream_worlds,
    paid_envs,
)
from runs.adaptation.jax_learners import LearnerSizes
from runs.adaptation.reward_arms import (
    CONTINUAL_CONTROLS,
    CONTROLS,
    TESTED,
    continual_arms,
    reward_blend,
    reward_free_arms,
)
from runs.adaptation.reward_mix import mixed_reward
from runs.continual import Settings, check, design
from runs.engine.checkpoint import Checkpoints
from runs.errors import UserError
from tests.runs import small_study
from tests.runs.small_study import without_key_check_in_threads

unchecked = pytest.fixture(autouse=True, scope="module")(without_key_check_in_threads)
STREAM = ("force", "flip", "force")
HEADS = ("fear", "curiosity")
AGENT = PPO(width=8, epochs=1, minibatches=2, lr=0.01)


# --- terms --------------------------------------------------------------------------------------


def test_a_life_has_the_arms_of_learning_unpaid():
    felt = reward_blend(HEADS, load_suite("CartPole"), AGENT)
    unpaid = {arm.name: arm for arm in reward_free_arms(HEADS, felt, AGENT.gamma)}
    life = {arm.name: arm for arm in continual_arms(HEADS, felt, AGENT.gamma)}
    elsewhere = {"plain": "zero", "old_critic": "zero_critic_kept"}
    same = [replace(unpaid[elsewhere.get(name, name)], name=name) for name in life]
    assert same == list(life.values())
    assert set(unpaid) - {elsewhere.get(name, name) for name in life} == {"true"}
    assert {elsewhere.get(name, name) for name in CONTINUAL_CONTROLS} == set(CONTROLS)
    assert not life["frozen"].learns and life["old_critic"].critic_kept


@pytest.mark.parametrize(
    ("pay", "envs", "paid"), [("always", 16, 16), ("rare", 16, 2), ("rare", 4, 1), ("never", 16, 0)]
)
def test_so_many_environments_are_paid(pay, envs, paid):
    pays = paid_envs(pay, envs)
    assert pays.shape == (1, envs) and pays.sum() == paid


def test_whoever_is_not_paid_sees_no_reward(lives):
    reward = np.arange(8.0).reshape(2, 4) + 1
    batch = Transition(*[None] * 3, reward, *[None] * 3, {})
    terms = lives.terms(ARMS[1], "rare")._replace(pay=paid_envs("rare", 4))
    signals = np.zeros((2, 4, len(lives.learners.blend.names)))
    np.testing.assert_array_equal(mixed_reward(terms, batch, signals)[:, 0], reward[:, 0])
    np.testing.assert_array_equal(mixed_reward(terms, batch, signals)[:, 1:], 0)


def test_a_stream_has_its_worlds_at_full_severity():
    suite = load_suite("Drive")
    found = make_stream_worlds(suite, ("ice", "cones", "ice"), episodes=4, base=0)
    assert found.names == ("home", "ice", "cones") and found.stages == (1, 2, 1)
    home, ice, cones = found.pools
    np.testing.assert_allclose(ice.params.grip, 0.06, rtol=1e-5)
    np.testing.assert_allclose(cones.params.closed, 0.42, rtol=1e-5)
    np.testing.assert_array_equal(cones.params.grip, home.params.grip)
    assert found.tests.params.grip.shape == (3, 4)


def test_a_blend_refuses_two_of_one_name(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from affect import Mood, Curiosity\n")
    both = ("mood", f"{file}:Mood")
    with pytest.raises(UserError, match="two of them go by one name"):
        reward_blend(both, load_suite("Drive"), AGENT)


# --- lives, of the smallest kind ----------------------------------------------------------------


FELT = reward_blend(HEADS, small_study.suite(), AGENT)
ARMS = continual_arms(HEADS, FELT, AGENT.gamma)


@pytest.fixture(scope="module")
def lives():
    """CartPole, 20 steps, under two shifts, one of which comes back."""
    suite = small_study.suite()
    sizes = LearnerSizes(seeds=3, rows=4, num_envs=4, num_steps=8, episodes=2, optimise=False)
    ground = make_stream_worlds(suite, STREAM, sizes.episodes, sizes.base)
    plan = StreamSizes(school=CHUNKS, stage=2, looks=2, sizes=sizes)
    return StreamRunner(
        suite, AGENT, AGENT, FELT, plan, ground
    )  # alike, so that programs are shared


class Seen:
    """In the place of progress: what was said, and how far it was; asks to stop somewhere."""

    def __init__(self, stop_at: int | None = None):
        self.stop_at, self.total, self.done, self.fresh = stop_at, 0, 0, 0

    def say(self, line: str) -> None:
        pass

    def advance(self, what: str, done: int, fresh: bool = True) -> None:
        self.done, self.fresh = done, self.fresh + fresh

    def stopped(self) -> bool:
        return self.stop_at is not None and self.done >= self.stop_at


SETTINGS = Settings(env="CartPole", heads=HEADS, pay=("always", "never"))


@pytest.fixture(scope="module")
def found(lives, tmp_path_factory):
    """All of them, lived once -> (folder, terms -> arm -> what it came to)."""
    out, seen = tmp_path_factory.mktemp("life"), Seen()
    lived = study.run_arms(lives, ARMS, SETTINGS, out, seen, seen.stopped)
    assert seen.done == seen.total
    return out, lived


def test_a_life_is_scored_in_every_world_all_along(found):
    _, lived = found
    assert list(lived["never"]) == list(lived["always"]) == [arm.name for arm in ARMS]
    for arms_of in lived.values():
        for name, one in arms_of.items():
            moments = 1 + len(STREAM) * 2
            assert one.scores["success"].shape == one.scores["return"].shape == (3, moments, 3)
            assert one.success.shape == (3, 0 if name == "frozen" else moments - 1)
            assert one.finite.all() and np.isfinite(one.scores["return"]).all()


def test_whoever_does_not_learn_stays_and_all_begin_alike(found):
    _, lived = found
    still = lived["never"]["frozen"].scores["return"]
    assert (still == still[:, :1]).all()
    for arms_of in lived.values():
        for name, one in arms_of.items():
            np.testing.assert_array_equal(one.scores["return"][:, 0], still[:, 0], err_msg=name)


def test_what_one_is_paid_changes_a_life(found):
    """But for classifiers: whoever has never failed expects the 1 of CartPole everywhere."""
    _, lived = found
    ends = {name: one.scores["return"].tobytes() for name, one in lived["never"].items()}
    ends["paid"] = lived["always"]["plain"].scores["return"].tobytes()
    alike = [(a, b) for a in ends for b in ends if a < b and ends[a] == ends[b]]
    assert not alike, f"lived one life: {alike}"


def test_an_interrupted_study_goes_on_to_the_same_end(lives, found, tmp_path):
    whole, lived = found
    seen = Seen(stop_at=20)
    assert study.run_arms(lives, ARMS, SETTINGS, tmp_path, seen, seen.stopped) is None
    made = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert 0 < len(made) < len(list((whole / "parts").iterdir()))
    seen = Seen()
    again = study.run_arms(lives, ARMS, SETTINGS, tmp_path, seen, seen.stopped)
    assert seen.done == seen.total and seen.fresh < seen.total - 5 * len(made)
    for pay, arms_of in lived.items():
        for name, one in arms_of.items():
            np.testing.assert_array_equal(
                again[pay][name].scores["return"], one.scores["return"], err_msg=f"{pay} {name}"
            )


def test_a_part_of_other_worlds_is_lived_anew(lives, found, tmp_path):
    whole, _ = found
    seen, parts = Seen(), tmp_path / "parts"
    parts.mkdir()
    for path in (whole / "parts").iterdir():
        old = json.loads(path.read_text()) | {"recipe": "other"}
        (parts / path.name).write_text(json.dumps(old))
    learner, _ = lives.schooled(Checkpoints(whole / "school", keep=1), seen.stopped)
    Checkpoints(tmp_path / "school", keep=1).save(CHUNKS, learner)
    study.run_arms(lives, ARMS, SETTINGS, tmp_path, seen, seen.stopped)
    assert seen.fresh > len(list(parts.iterdir()))


# --- the page -----------------------------------------------------------------------------------

GROUND = StreamWorlds(("home", "ice", "fog"), (1, 2, 1), (), None)


def life(
    second: float, seeds: int = 5, spread: float = 0.02, non_finite: tuple = ()
) -> StreamResult:
    """A made-up life that ends its second visit at a level, give or take what a seed is worth."""
    r = np.full((seeds, 7, 3), 0.5) + spread * np.arange(seeds)[:, None, None]
    r[:, -1, 1] += second - 0.5 + 0.001 * np.arange(seeds) ** 2
    r[list(non_finite)] = np.nan
    harm = np.full_like(r, 0.1)
    finite = ~np.isin(np.arange(seeds), non_finite)
    return StreamResult({"success": r, "return": r, "harm": harm}, r[:, 1:, 0], finite)


def lived(feeling: float, **others: float) -> dict[str, StreamResult]:
    levels = {"frozen": 0.3, "plain": 0.4, "constant_plus": 0.35, "sham": 0.2} | others
    return {name: life(level) for name, level in (levels | {TESTED: feeling}).items()}


def test_the_contrast_is_with_the_best_control_and_paired():
    found = {pay: sound_scores(lived(level), "success", 2) for pay, level in PAYS.items()}
    rows = contrasts(found, GROUND.stages)
    assert [row.control for row in rows] == ["plain"] * 3
    np.testing.assert_allclose([row.gain.value for row in rows], [0.2, -0.2, 0.0], atol=1e-9)
    assert rows[0].gain.high - rows[0].gain.low < 1e-6, "seeds' own level cancels"
    assert rows[0].p_value < 0.05 and rows[1].p_value < 0.05 and rows[2].p_value == 1
    better = sound_scores(lived(0.6, reward_model=0.7, old_critic=0.5, fear=0.9), "success", 2)
    (row,) = contrasts({"never": better}, GROUND.stages)
    assert row.control == "reward_model", "the best of the controls; a single head is none"
    assert row.gain.value == pytest.approx(-0.1)


PAYS = {"always": 0.6, "rare": 0.2, "never": 0.4}


def test_the_finding_is_said_whichever_way_it_falls():
    found = {pay: sound_scores(lived(level), "success", 2) for pay, level in PAYS.items()}
    said = finding(contrasts(found, GROUND.stages), "ice", 5)
    assert "where the task pays it gains over plain (+0.200" in said
    assert said.count("the first time +0.000") == 3 and said.count("to frozen)") == 3
    assert "where it pays one in eight it loses to plain (-0.200" in said
    assert "where nobody pays it is not told apart from plain (+0.000" in said
    assert "5 seeds" in said


def test_p_values_are_adjusted_over_the_terms(monkeypatch):
    monkeypatch.setattr(continual_report, "_p_value", lambda gains: 0.03)
    found = {pay: sound_scores(lived(0.5), "success", 2) for pay in PAYS}
    assert [row.p_value for row in contrasts(found, GROUND.stages)] == pytest.approx([0.09] * 3)


def test_a_seed_that_stopped_is_left_out_of_every_arm():
    lives = lived(0.6) | {"sham": life(0.2, non_finite=(1, 3))}
    found = sound_scores(lives, "success", 2)
    assert {r.shape for r in found.values()} == {(3, 4, 3)}
    assert all(np.isfinite(r).all() for r in found.values())


def test_the_page_and_the_figure_have_every_arm_and_world(tmp_path):
    lives = {"never": lived(0.6, reward_model=0.7, hope=0.5), "always": lived(0.6)}
    text = markdown(lives, GROUND, "success", 2, ("About it.",))
    assert text.startswith("# A life in changing worlds\n\nBack in ice for the second time")
    assert "## Paid never" in text and "## Paid always" in text
    assert "\nreward_model | " in text and "| -0.100 [-0.100, -0.100] |" in text
    for arm in lives["never"]:
        assert f"\n{arm} | " in text
    assert "Stream: ice, fog, ice" in text and "stopped being numbers: 0." in text
    assert text.endswith("About it.\n") and not re.search(r"\bnan\b", text)
    path = tmp_path / "life.png"
    figure(lives, GROUND, "success", 2, 100, path)
    assert path.stat().st_size > 10_000


def test_a_life_is_kept_as_it_was():
    one = life(0.6)
    again = StreamResult.of(json.loads(json.dumps(one.plain())))
    for name, score in one.scores.items():
        np.testing.assert_array_equal(again.scores[name], score)
    np.testing.assert_array_equal(again.finite, one.finite)


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (Settings(env="Drvie"), "did you mean Drive"),
        (Settings(env="LunarLander-v9"), "did you mean LunarLander-v3"),
        (Settings(pay=()), "--pay : name at least one"),
        (Settings(heads=("fear", "fear")), "name at least one, and each once"),
        (Settings(pay=("sometimes",)), "unknown terms 'sometimes'"),
        (Settings(seeds=2), "at least 3 seeds"),
        (Settings(steps=-1), "must not be negative"),
        (Settings(record=True, smoke=True), "leave --smoke out"),
    ],
)
def test_bad_settings_are_refused_at_once(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        check(settings)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (Settings(stream=("cones", "ice")), "--stream cones ice: leave a world and come back"),
        (Settings(stream=("cones", "snow")), "unknown shift 'snow'"),
        (Settings(heads=("joy",)), "unknown head 'joy'"),
        (Settings(heads=("nowhere.py:Dread",)), "no such file nowhere.py"),
    ],
)
def test_a_design_that_cannot_be_is_refused(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        design(settings)


def test_a_design_has_the_sizes_that_were_asked_for():
    suite, found, (school, agent, felt, plan, ground) = design(Settings(steps=30_000, episodes=40))
    assert suite.name == "Drive" and {"innate", "curiosity"} < {arm.name for arm in found}
    assert {name for arm in found for name in arm.weights} == set(felt.names)
    assert plan.school % CHUNKS == 0 and school.anneal == plan.school and agent.anneal == 0
    assert (plan.stage, plan.looks, plan.sizes.episodes) == (6, 3, 32)
    assert [ground.names[w] for w in ground.stages] == ["cones", "ice", "cross", "cones"]
    _, found, (*_, ground) = design(Settings(env="CartPole"))
    assert "innate" not in {arm.name for arm in found}
    assert ground.stages == (1, 2, 3, 1)


def test_a_folder_is_named_by_what_changes_a_result(tmp_path):
    base = study.folder(Settings(), "Drive")
    assert study.folder(Settings(record=True), "Drive") == base
    assert study.folder(Settings(pay=("never",)), "Drive") != base
    assert study.folder(Settings(out=tmp_path), "Drive") == tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("env", ["CartPole", "CartPole-v1"])
def test_the_command_lives_from_a_head_in_a_file_to_its_page(env, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    file = tmp_path / "mine.py"
    file.write_text("from affect import Hope\n\n\nclass Dread(Hope):\n    '''One of my own.'''\n")
    monkeypatch.chdir(tmp_path)
    args = ["--smoke", "--env", env, "--heads", "fear", "mine.py:Dread", "--out", "out"]
    assert study.main(args) == 0
    one = Path("out/parts/dread-never.json")
    before = one.read_text()
    one.unlink()
    assert study.main(args) == 0, "done twice is done once"
    assert one.read_text() == before
    text = Path(f"out/life-{env}.md").read_text()
    said = capsys.readouterr()
    assert "\ndread | " in text and text in said.out
    assert ("steps a second just now" in said.err) == (env == "CartPole-v1")
    assert Path(f"out/life-{env}.png").exists()
