"""Reward-free study: control heads, arms, design, report, figures and the command."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Fear, Hope, Innate, Potential, Spec, Transition, build
from agents.nets import Critic
from agents.ppo import PPO
from envs import load_suite
from runs.adaptation import reward_free_design, tune
from runs.adaptation import reward_free_figures as figures
from runs.adaptation import reward_free_report as report
from runs.adaptation.control_heads import (
    LearnedReward,
    ParentCritic,
    SignalDifference,
    WithLabelNoise,
    WithoutAnchors,
    flip_outcomes,
    insert_critic,
)
from runs.adaptation.reward_arms import CONTROLS, TESTED, reward_blend, reward_free_arms, variants
from runs.adaptation.reward_free_design import choose_shifts
from runs.adaptation.reward_free_page import step_size_text
from runs.errors import UserError
from runs.reward_free import Settings, check, main
from tests.runs.small_study import without_key_check_in_threads

unchecked = pytest.fixture(autouse=True)(without_key_check_in_threads)
SPEC = Spec(obs_dim=3, num_actions=2)
AGENT = PPO(width=8)
HEADS = ("fear", "hope", "curiosity", "innate")


def batch(steps=12, envs=4, every=4) -> Transition:
    """Episodes of `every` steps; in even environments they end in reward 1, in others in harm."""
    obs = jax.random.normal(jax.random.key(0), (steps + 1, envs, 3))
    ends = jnp.broadcast_to((jnp.arange(steps) % every == every - 1)[:, None], (steps, envs))
    good = jnp.broadcast_to((jnp.arange(envs) % 2 == 0)[None], (steps, envs))
    reward = jnp.where(ends, jnp.where(good, 1.0, -1.0), 0.0)
    first = jnp.roll(ends, 1, 0)
    false = jnp.zeros((steps, envs), bool)
    return Transition(obs[:-1], false.astype(int), obs[1:], reward, ends, false, first)


def discounted(signal, every=4, gamma=0.9):
    """Discounted sum of each episode, [episodes, B]."""
    rows = signal.reshape(-1, every, signal.shape[-1])
    return np.einsum("etb,t->eb", np.asarray(rows), gamma ** np.arange(every))


def test_signal_difference_keeps_the_last_potential_and_potential_cancels_it():
    observed = partial(Innate, fn=lambda batch: batch.next_obs[..., 0])
    transitions = batch()
    sums = {}
    for name, kind in (("change", SignalDifference), ("potential", Potential)):
        head = build(kind(observed, gamma=0.9), SPEC, jax.random.key(0))
        sums[name] = discounted(head(head.initial_state(4), transitions)[0])
    start, end = (
        np.asarray(transitions.obs[::4, :, 0]),
        np.asarray(transitions.next_obs[3::4, :, 0]),
    )
    np.testing.assert_allclose(sums["change"], 0.9**4 * end - start, atol=1e-5)
    np.testing.assert_allclose(sums["potential"], -start, atol=1e-5)  # for any actions


def test_without_anchors_has_no_loss_at_terminal_observations():
    transitions = batch()
    far_ends = transitions._replace(
        next_obs=jnp.where(
            transitions.terminated[..., None], 50.0 + 0 * transitions.next_obs, transitions.next_obs
        )
    )
    for factory in (Fear, Hope):
        plain = build(factory, SPEC, jax.random.key(1))
        unanchored = build(WithoutAnchors(factory), SPEC, jax.random.key(1))
        assert float(unanchored.loss((), transitions)[0]) == float(unanchored.loss((), far_ends)[0])
        assert float(plain.loss((), transitions)[0]) != float(plain.loss((), far_ends)[0])
        np.testing.assert_array_equal(unanchored((), transitions)[0], plain((), transitions)[0])


def test_flip_outcomes_flips_the_share_and_larger_shares_include_smaller():
    transitions = batch(steps=400, envs=8)
    flipped_batches = {share: flip_outcomes(transitions, share) for share in (0.0, 0.2, 0.5, 1.0)}
    ends, masks = np.asarray(transitions.terminated), {}
    for share, flipped_batch in flipped_batches.items():
        flipped = np.asarray(flipped_batch.reward != transitions.reward)
        assert not flipped[~ends].any()
        was_harm = ends & (np.asarray(transitions.reward) <= 0)
        np.testing.assert_array_equal(
            np.asarray(flipped_batch.info["harm"] > 0), was_harm ^ flipped
        )
        masks[share] = flipped
        assert flipped[ends].mean() == pytest.approx(share, abs=0.05)
    assert (masks[0.5] | ~masks[0.2]).all()
    np.testing.assert_array_equal(
        flip_outcomes(transitions, 0.2).reward, flipped_batches[0.2].reward
    )
    head = build(WithLabelNoise(Fear, share=1.0), SPEC, jax.random.key(1))
    plain = build(Fear, SPEC, jax.random.key(1))
    assert float(head.loss((), transitions)[0]) == float(plain.loss((), flipped_batches[1.0])[0])


def test_classifier_emits_at_ends_alone_and_reward_model_at_every_step():
    transitions, key = batch(), jax.random.key(2)
    classifier = build(partial(LearnedReward, ends=True), SPEC, key)
    reward_model = build(LearnedReward, SPEC, key)
    at_ends, at_all = (np.asarray(head((), transitions)[0]) for head in (classifier, reward_model))
    terminated = np.asarray(transitions.terminated)
    assert not at_ends[~terminated].any() and (at_all != 0).all()
    np.testing.assert_array_equal(at_ends[terminated], at_all[terminated])
    other = transitions._replace(reward=jnp.where(transitions.terminated, transitions.reward, 0.5))
    assert float(classifier.loss((), transitions)[0]) == float(classifier.loss((), other)[0])
    assert float(reward_model.loss((), transitions)[0]) != float(reward_model.loss((), other)[0])


def test_insert_critic_puts_the_agents_critic_into_the_blend():
    blend = reward_blend(("fear", "hope"), load_suite("CartPole"), AGENT)
    spec = Spec(obs_dim=3, num_actions=2, info=())
    blend_state = blend.init(jax.random.key(0), spec, 4)
    agent = AGENT.init(jax.random.key(7), spec)
    after = insert_critic(blend_state, blend, agent.train_state.net.critic)
    inner = after.heads["critic"].net.inner
    assert isinstance(inner, ParentCritic) and isinstance(inner.critic, Critic)
    transitions = batch()
    value = AGENT.value(agent, transitions.next_obs)[..., 0]
    np.testing.assert_allclose(inner((), transitions)[0], value, rtol=1e-6)
    before = blend_state.heads["critic"].net.inner
    assert not np.allclose(before((), transitions)[0], value)


def test_every_arm_uses_heads_of_the_blend():
    suite = load_suite("Drive")
    blend = reward_blend(HEADS, suite, AGENT, varied=True)
    arms = reward_free_arms(HEADS, blend, AGENT.gamma)
    names = [arm.name for arm in arms]
    assert set(CONTROLS) | {TESTED, "true", "unanchored", *HEADS} == set(names)
    for arm in (*arms, *variants()):
        assert set(arm.signal_weights) <= set(blend.names), arm.name
        assert (arm.task_weight > 0) == (arm.name == "true")
    by_name = {arm.name: arm for arm in arms}
    assert not by_name["frozen"].learns and by_name["zero_critic_kept"].critic_kept
    assert by_name["sham"].sham and by_name["sham"].signal_weights == by_name[TESTED].signal_weights
    assert by_name["constant_plus"].signal_weights["constant"] == pytest.approx(0.01)
    with pytest.raises(UserError, match="CartPole has no innate head"):
        reward_blend(HEADS, load_suite("CartPole"), AGENT)


def test_choose_shifts_separates_public_and_sealed_families():
    drive = load_suite("Drive")
    dev, sealed = choose_shifts(drive, (), ())
    family = {shift.name: shift.family for shift in drive.shifts}
    assert not {family[name] for name in dev} & {family[name] for name in sealed}
    assert choose_shifts(load_suite("CartPole"), (), ())[1]
    with pytest.raises(UserError, match="its family layout is sealed"):
        choose_shifts(drive, ("cones",), ("mirror",))
    with pytest.raises(UserError, match="unknown shift 'cone'; did you mean cones"):
        choose_shifts(drive, ("cone",), ("ice",))
    with pytest.raises(UserError, match="name both or neither"):
        choose_shifts(drive, ("cones",), ())


def test_choices_on_dev_shifts_enter_the_plan(tmp_path, monkeypatch):
    assert reward_free_design.read_choices("Drive", tmp_path) == {}
    before = reward_free_design.choices_digest("Drive", tmp_path)
    choices = {"rates": {"classifier": 3e-4, TESTED: 3e-4}, "rival": "classifier"}
    tune.write_choices(tmp_path, "Drive", "a table", json.dumps(choices))
    assert reward_free_design.read_choices("Drive", tmp_path) == choices
    assert reward_free_design.choices_digest("Drive", tmp_path) != before
    monkeypatch.setattr(reward_free_design, "read_choices", lambda env: choices)
    design = reward_free_design.make_design(Settings(seeds=3))
    assert design.plan.primary == (TESTED, "classifier")
    assert {control for _, control in design.plan.secondary} == set(CONTROLS) - {"classifier"}
    assert set(design.plan.sealed) == {"social", "dynamics", "sensor"}
    assert design.plan.splits.names("dev") == ("cones", "delay")
    assert set(design.away) == {1e-3, 3e-4} and design.rates["wrong_0.1"] == 3e-4
    assert design.plan.sizes["lr_zero"] == 1e-3 and design.plan.sizes["lr_classifier"] == 3e-4
    assert "3e-04" in step_size_text(design).replace(
        "0.0003", "3e-04"
    ) and "of hope_fear" in step_size_text(design)
    one_rate = reward_free_design.make_design(Settings(seeds=3, lr=5e-4))
    assert set(one_rate.away) == {5e-4}


# --- report and figures ---------------------------------------------------------------------------


def part(away, home=0.9, harm=0.1) -> dict:
    away = np.asarray(away, float)

    def scores(x):
        x = np.asarray(x, float)
        return {"success": x, "return": x, "harm": harm + 0 * x}

    curve = {"success": np.ones((len(away), 6)).tolist()}
    curve["episodes"] = (2 * np.ones((len(away), 6))).tolist()
    return {"away": scores(away), "home": scores(home + 0 * away), "curve": curve}


def study(tested=0.6, rival=0.5) -> dict:
    """Parts of ten seeds and two shifts; a level shared by the seeds cancels in pairs."""
    noise, small = np.linspace(-0.1, 0.1, 10), 0.01 * (-1) ** np.arange(10)
    level = {name: 0.4 for name in CONTROLS} | {"frozen": 0.4, "classifier": rival}
    level |= {TESTED: tested, "true": 0.8}
    parts = {}
    for shift, harder in (("ice", 0.0), ("fog", 0.1)):
        for i, (arm, score) in enumerate(level.items()):
            parts[shift, 1.0, arm] = part(score - harder + noise + small * (i % 3))
    return parts


@pytest.mark.parametrize(
    ("tested", "rival", "words"),
    [
        (0.6, 0.5, "hope - fear beats classifier"),
        (0.6, 0.7, "hope - fear falls below classifier"),
        (0.6, 0.6, "hope - fear is not told apart from classifier"),
    ],
)
def test_finding_and_summary_follow_the_scores(tested, rival, words):
    names = [*CONTROLS, TESTED, "true"]
    lines = report.summarise(study(tested, rival), ("ice", "fog"), names)
    sentence = report.finding(lines, (TESTED, "classifier"), ("ice", "fog"))
    assert words in sentence and "over ice, fog" in sentence and "50%" in sentence
    assert ("not above classifier" in sentence) == (rival >= tested)
    by_name = {line.arm: line for line in lines}
    assert by_name[TESTED].gain.value == pytest.approx(0.2, abs=0.02)
    assert by_name["true"].share.value == pytest.approx(1.0)
    assert by_name["zero"].p_value < 0.01 and by_name["true"].p_value is None
    assert by_name[TESTED].less is None and by_name["frozen"].gain is None
    assert by_name["zero"].late == pytest.approx(1 - 0.35 - 0.1, abs=0.02)
    assert report.arm_table(lines).count("\n") == len(names) + 1


def test_share_of_ceiling_resamples_seeds_together():
    frozen = np.linspace(0.1, 0.9, 12)
    share = report.share_of_ceiling(frozen + 0.1, frozen, frozen + 0.4)
    assert share.value == pytest.approx(0.25) and share.high - share.low < 1e-6


def test_auroc_at_zero_gain():
    auroc = np.repeat(np.array([0.9, 0.7, 0.5])[:, None], 8, 1)
    gain = np.repeat(np.array([0.2, 0.1, -0.1])[:, None], 8, 1)
    assert report.auroc_at_zero_gain(auroc, gain).value == pytest.approx(0.6)
    assert np.isnan(report.auroc_at_zero_gain(auroc, gain + 1).value)
    levels = [
        {"share": s, "home": a, "soon": a, "end": a, "gain": g}
        for s, a, g in zip((0.0, 0.2, 0.5), auroc, gain, strict=True)
    ]
    assert "harmful at an AUROC of 0.60" in report.zero_gain_sentence(levels)
    up = [level | {"gain": level["gain"] + 1} for level in levels]
    assert "all gain" in report.zero_gain_sentence(up)
    assert report.label_noise_table(levels).count("\n") == 4


def test_scores_fall_back_to_the_return_without_success():
    parts = study()
    for arm_part in parts.values():
        arm_part["away"] |= {"success": np.full(10, np.nan), "return": 7 + np.zeros(10)}
    np.testing.assert_array_equal(report.seed_scores(parts, ["ice"], "zero"), 7 + np.zeros(10))


def test_figures(tmp_path):
    parts, names = study(), [*CONTROLS, TESTED, "true"]
    figures.share_bars(parts, {"sealed": ["ice"], "dev": ["fog"]}, names, tmp_path / "bars.png")
    figures.learning_curves(parts, ["ice", "fog"], ["zero", TESTED], 1000, tmp_path / "curves.png")
    gain = np.linspace(-0.1, 0.1, 10)
    levels = [
        {"share": s, "soon": 0.9 - s + gain, "end": 0.9 - s + gain, "gain": 0.2 - s + gain}
        for s in (0.0, 0.2, 0.5)
    ]
    figures.label_noise_curve(levels, gain, ["ice"], tmp_path / "wrong.png")
    for name in ("bars", "curves", "wrong"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    np.testing.assert_allclose(figures.success_by_stretch(parts["ice", 1.0, "zero"]), 0.5)


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(env="LunarLander-v9"), "did you mean LunarLander-v3"),
        (Settings(env="Drives"), "did you mean Drive"),
        (Settings(seeds=2), "at least 3 seeds"),
        (Settings(steps=-1), "--steps -1: must not be negative"),
        (Settings(weight=0.0), "a weight above 0"),
        (Settings(smoke=True, record=True), "leave --smoke out"),
    ],
)
def test_bad_settings_raise(settings, message):
    with pytest.raises(UserError, match=message):
        check(settings)


@pytest.mark.slow
def test_study_runs_resumes_and_verifies(tmp_path, monkeypatch, capsys):
    from runs.verify import main as verify

    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    out = tmp_path / "study"
    assert main(["--smoke", "--out", str(out)]) == 0
    assert "Without task reward, hope - fear" in capsys.readouterr().out
    assert verify([str(out)]) == 0
    assert "FAILS" not in capsys.readouterr().out
    text, scores = (out / "reward_free.md").read_text(), (out / "sealed.csv").read_bytes()
    part_path = next((out / "parts").glob("ice-1-true.json"))
    before = json.loads(part_path.read_text())
    part_path.unlink()
    assert main(["--smoke", "--out", str(out)]) == 0
    assert (
        json.loads(part_path.read_text()) == before
    )  # the sealed worlds are drawn again and are the same
    assert (out / "sealed.csv").read_bytes() == scores
    assert (out / "reward_free.md").read_text() == text
    assert "sealed looks 1" in text


CUSTOM_HEAD = """
from affect import Head
import jax.numpy as jnp

class Dread(Head):
    sign = -1

    def __init__(self, spec, *, rngs):
        pass

    def __call__(self, state, batch):
        return -jnp.abs(batch.next_obs[..., 2]), state
"""


@pytest.mark.slow
@pytest.mark.parametrize("env", ["CartPole", "CartPole-v1"])
def test_study_with_a_custom_head_in_jitted_and_host_worlds(env, tmp_path, monkeypatch, capsys):
    from runs.verify import main as verify

    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_head.py").write_text(CUSTOM_HEAD)
    args = ["--smoke", "--env", env, "--heads", "my_head.py:Dread", "--out", "here"]
    assert main(args) == 0
    captured = capsys.readouterr()
    assert "\ndread | " in captured.out and "Without task reward, hope - fear" in captured.out
    assert ("steps a second just now" in captured.err) == (env == "CartPole-v1")
    assert verify(["here"]) == 0
    assert "FAILS" not in capsys.readouterr().out
    part_path = next((tmp_path / "here" / "parts").glob("*-1-dread.json"))
    before = part_path.read_text()
    part_path.unlink()
    assert main(args) == 0  # resumes in new worker processes
    assert part_path.read_text() == before


@pytest.mark.slow
def test_study_with_default_heads_in_a_host_world(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    out = tmp_path / "here"
    assert main(["--smoke", "--env", "CartPole-v1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "\ncuriosity | " in printed and "\ninnate | " not in printed
    files = {file.name for file in out.glob("reward_free*")}
    stem = "reward_free-CartPole-v1"
    assert files == {f"{stem}.md", f"{stem}.png", f"{stem}-curves.png", f"{stem}-wrong.png"}
