"""Learning where nobody pays: its heads, its arms, its arithmetic, its words, and the command."""

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
    """Episodes of `every` steps; those of even environments end well, the others in harm."""
    obs = jax.random.normal(jax.random.key(0), (steps + 1, envs, 3))
    ends = jnp.broadcast_to((jnp.arange(steps) % every == every - 1)[:, None], (steps, envs))
    good = jnp.broadcast_to((jnp.arange(envs) % 2 == 0)[None], (steps, envs))
    reward = jnp.where(ends, jnp.where(good, 1.0, -1.0), 0.0)
    first = jnp.roll(ends, 1, 0)
    no = jnp.zeros((steps, envs), bool)
    return Transition(obs[:-1], no.astype(int), obs[1:], reward, ends, no, first)


def discounted(signal, every=4, gamma=0.9):
    """The discounted sum of each episode, [episodes, B]."""
    rows = signal.reshape(-1, every, signal.shape[-1])
    return np.einsum("etb,t->eb", np.asarray(rows), gamma ** np.arange(every))


def test_a_change_pays_the_end_and_an_invariant_potential_takes_it_back():
    eyes = partial(Innate, fn=lambda batch: batch.next_obs[..., 0])
    seen = batch()
    felt = {}
    for name, kind in (("change", SignalDifference), ("potential", Potential)):
        head = build(kind(eyes, gamma=0.9), SPEC, jax.random.key(0))
        felt[name] = discounted(head(head.initial_state(4), seen)[0])
    start, end = np.asarray(seen.obs[::4, :, 0]), np.asarray(seen.next_obs[3::4, :, 0])
    np.testing.assert_allclose(felt["change"], 0.9**4 * end - start, atol=1e-5)
    np.testing.assert_allclose(felt["potential"], -start, atol=1e-5)  # whatever was done


def test_an_unanchored_head_never_learns_from_an_end_itself():
    seen = batch()
    far = seen._replace(
        next_obs=jnp.where(seen.terminated[..., None], 50.0 + 0 * seen.next_obs, seen.next_obs)
    )
    for factory in (Fear, Hope):
        plain = build(factory, SPEC, jax.random.key(1))
        free = build(WithoutAnchors(factory), SPEC, jax.random.key(1))
        assert float(free.loss((), seen)[0]) == float(free.loss((), far)[0])
        assert float(plain.loss((), seen)[0]) != float(plain.loss((), far)[0])
        np.testing.assert_array_equal(free((), seen)[0], plain((), seen)[0])


def test_ends_are_told_wrong_by_the_share_the_same_ones_first():
    seen = batch(steps=400, envs=8)
    told = {share: flip_outcomes(seen, share) for share in (0.0, 0.2, 0.5, 1.0)}
    ends, wrong = np.asarray(seen.terminated), {}
    for share, one in told.items():
        flipped = np.asarray(one.reward != seen.reward)
        assert not flipped[~ends].any()
        was_harm = ends & (np.asarray(seen.reward) <= 0)
        np.testing.assert_array_equal(np.asarray(one.info["harm"] > 0), was_harm ^ flipped)
        wrong[share] = flipped
        assert flipped[ends].mean() == pytest.approx(share, abs=0.05)
    assert (wrong[0.5] | ~wrong[0.2]).all()
    np.testing.assert_array_equal(flip_outcomes(seen, 0.2).reward, told[0.2].reward)
    head = build(WithLabelNoise(Fear, share=1.0), SPEC, jax.random.key(1))
    plain = build(Fear, SPEC, jax.random.key(1))
    assert float(head.loss((), seen)[0]) == float(plain.loss((), told[1.0])[0])


def test_a_classifier_pays_at_ends_alone_and_a_reward_model_at_every_step():
    seen, key = batch(), jax.random.key(2)
    ends = build(partial(LearnedReward, ends=True), SPEC, key)
    every = build(LearnedReward, SPEC, key)
    paid, always = (np.asarray(head((), seen)[0]) for head in (ends, every))
    over = np.asarray(seen.terminated)
    assert not paid[~over].any() and (always != 0).all()
    np.testing.assert_array_equal(paid[over], always[over])
    other = seen._replace(reward=jnp.where(seen.terminated, seen.reward, 0.5))
    assert float(ends.loss((), seen)[0]) == float(ends.loss((), other)[0])
    assert float(every.loss((), seen)[0]) != float(every.loss((), other)[0])


def test_the_old_critic_is_remembered():
    felt = reward_blend(("fear", "hope"), load_suite("CartPole"), AGENT)
    spec = Spec(obs_dim=3, num_actions=2, info=())
    blend_state = felt.init(jax.random.key(0), spec, 4)
    agent = AGENT.init(jax.random.key(7), spec)
    after = insert_critic(blend_state, felt, agent.trained.net.critic)
    inner = after.heads["critic"].net.inner
    assert isinstance(inner, ParentCritic) and isinstance(inner.critic, Critic)
    seen = batch()
    value = AGENT.value(agent, seen.next_obs)[..., 0]
    np.testing.assert_allclose(inner((), seen)[0], value, rtol=1e-6)
    before = blend_state.heads["critic"].net.inner
    assert not np.allclose(before((), seen)[0], value)


def test_every_arm_is_paid_by_what_is_in_the_blend():
    suite = load_suite("Drive")
    felt = reward_blend(HEADS, suite, AGENT, varied=True)
    found = reward_free_arms(HEADS, felt, AGENT.gamma)
    names = [arm.name for arm in found]
    assert set(CONTROLS) | {TESTED, "true", "unanchored", *HEADS} == set(names)
    for arm in (*found, *variants()):
        assert set(arm.weights) <= set(felt.names), arm.name
        assert (arm.pay > 0) == (arm.name == "true")
    by_name = {arm.name: arm for arm in found}
    assert not by_name["frozen"].learns and by_name["zero_critic_kept"].critic_kept
    assert by_name["sham"].sham and by_name["sham"].weights == by_name[TESTED].weights
    assert by_name["constant_plus"].weights["constant"] == pytest.approx(0.01)
    with pytest.raises(UserError, match="nothing is innate in CartPole"):
        reward_blend(HEADS, load_suite("CartPole"), AGENT)


def test_shifts_are_public_or_sealed_by_family():
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


def test_what_was_chosen_on_dev_shifts_is_what_the_plan_declares(tmp_path, monkeypatch):
    assert reward_free_design.read_choices("Drive", tmp_path) == {}
    before = reward_free_design.choices_digest("Drive", tmp_path)
    said = {"rates": {"classifier": 3e-4, TESTED: 3e-4}, "rival": "classifier"}
    tune.write_choices(tmp_path, "Drive", "a table", json.dumps(said))
    assert reward_free_design.read_choices("Drive", tmp_path) == said
    assert reward_free_design.choices_digest("Drive", tmp_path) != before
    monkeypatch.setattr(reward_free_design, "read_choices", lambda env: said)
    what = reward_free_design.make_design(Settings(seeds=3))
    assert what.plan.primary == (TESTED, "classifier")
    assert {less for _, less in what.plan.secondary} == set(CONTROLS) - {"classifier"}
    assert set(what.plan.sealed) == {"social", "dynamics", "sensor"}
    assert what.plan.splits.names("dev") == ("cones", "delay")
    assert set(what.away) == {1e-3, 3e-4} and what.rates["wrong_0.1"] == 3e-4
    assert what.plan.sizes["lr_zero"] == 1e-3 and what.plan.sizes["lr_classifier"] == 3e-4
    assert "3e-04" in step_size_text(what).replace(
        "0.0003", "3e-04"
    ) and "of hope_fear" in step_size_text(what)
    all_alike = reward_free_design.make_design(Settings(seeds=3, lr=5e-4))
    assert set(all_alike.away) == {5e-4}


# --- what was found -------------------------------------------------------------------------------


def part(away, home=0.9, harm=0.1) -> dict:
    away = np.asarray(away, float)

    def scores(x):
        x = np.asarray(x, float)
        return {"success": x, "return": x, "harm": harm + 0 * x}

    curve = {"success": np.ones((len(away), 6)).tolist()}
    curve["episodes"] = (2 * np.ones((len(away), 6))).tolist()
    return {"away": scores(away), "home": scores(home + 0 * away), "curve": curve}


def study(feeling=0.6, rival=0.5) -> dict:
    """Ten seeds, two shifts; what the seeds share is subtracted when they are paired."""
    noise, small = np.linspace(-0.1, 0.1, 10), 0.01 * (-1) ** np.arange(10)
    level = {name: 0.4 for name in CONTROLS} | {"frozen": 0.4, "classifier": rival}
    level |= {TESTED: feeling, "true": 0.8}
    found = {}
    for shift, harder in (("ice", 0.0), ("fog", 0.1)):
        for i, (arm, score) in enumerate(level.items()):
            found[shift, 1.0, arm] = part(score - harder + noise + small * (i % 3))
    return found


@pytest.mark.parametrize(
    ("feeling", "rival", "words"),
    [
        (0.6, 0.5, "hope - fear beats classifier"),
        (0.6, 0.7, "hope - fear falls below classifier"),
        (0.6, 0.6, "hope - fear is not told apart from classifier"),
    ],
)
def test_the_finding_is_what_the_scores_say(feeling, rival, words):
    names = [*CONTROLS, TESTED, "true"]
    lines = report.summarise(study(feeling, rival), ("ice", "fog"), names)
    said = report.finding(lines, (TESTED, "classifier"), ("ice", "fog"))
    assert words in said and "over ice, fog" in said and "50%" in said
    assert ("not above classifier" in said) == (rival >= feeling)
    by_name = {line.arm: line for line in lines}
    assert by_name[TESTED].gain.value == pytest.approx(0.2, abs=0.02)
    assert by_name["true"].share.value == pytest.approx(1.0)
    assert by_name["zero"].p_value < 0.01 and by_name["true"].p_value is None
    assert by_name[TESTED].less is None and by_name["frozen"].gain is None
    assert by_name["zero"].late == pytest.approx(1 - 0.35 - 0.1, abs=0.02)
    assert report.arm_table(lines).count("\n") == len(names) + 1


def test_the_share_is_of_the_ceiling_and_seeds_go_together():
    frozen = np.linspace(0.1, 0.9, 12)
    share = report.share_of_ceiling(frozen + 0.1, frozen, frozen + 0.4)
    assert share.value == pytest.approx(0.25) and share.high - share.low < 1e-6


def test_where_a_feeling_begins_to_mislead():
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


def test_a_world_without_success_is_scored_by_its_return():
    found = study()
    for one in found.values():
        one["away"] |= {"success": np.full(10, np.nan), "return": 7 + np.zeros(10)}
    np.testing.assert_array_equal(report.seed_scores(found, ["ice"], "zero"), 7 + np.zeros(10))


def test_figures(tmp_path):
    found, names = study(), [*CONTROLS, TESTED, "true"]
    figures.share_bars(found, {"sealed": ["ice"], "dev": ["fog"]}, names, tmp_path / "bars.png")
    figures.learning_curves(found, ["ice", "fog"], ["zero", TESTED], 1000, tmp_path / "curves.png")
    gain = np.linspace(-0.1, 0.1, 10)
    levels = [
        {"share": s, "soon": 0.9 - s + gain, "end": 0.9 - s + gain, "gain": 0.2 - s + gain}
        for s in (0.0, 0.2, 0.5)
    ]
    figures.label_noise_curve(levels, gain, ["ice"], tmp_path / "wrong.png")
    for name in ("bars", "curves", "wrong"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    np.testing.assert_allclose(figures.success_by_stretch(found["ice", 1.0, "zero"]), 0.5)


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (Settings(env="LunarLander-v9"), "did you mean LunarLander-v3"),
        (Settings(env="Drives"), "did you mean Drive"),
        (Settings(seeds=2), "at least 3 seeds"),
        (Settings(steps=-1), "--steps -1: must not be negative"),
        (Settings(weight=0.0), "a weight above 0"),
        (Settings(smoke=True, record=True), "leave --smoke out"),
    ],
)
def test_bad_input_is_named(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        check(settings)


@pytest.mark.slow
def test_the_study_runs_goes_on_and_is_verified(tmp_path, monkeypatch, capsys):
    from runs.verify import main as verify

    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    out = tmp_path / "study"
    assert main(["--smoke", "--out", str(out)]) == 0
    assert "Where nobody pays, hope - fear" in capsys.readouterr().out
    assert verify([str(out)]) == 0
    assert "FAILS" not in capsys.readouterr().out
    text, scores = (out / "unpaid.md").read_text(), (out / "sealed.csv").read_bytes()
    one = next((out / "parts").glob("ice-1-true.json"))
    before = json.loads(one.read_text())
    one.unlink()
    assert main(["--smoke", "--out", str(out)]) == 0
    assert json.loads(one.read_text()) == before  # the sealed worlds are drawn again, the same
    assert (out / "sealed.csv").read_bytes() == scores
    assert (out / "unpaid.md").read_text() == text
    assert "sealed looks 1" in text


OWN = """
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
def test_a_head_of_ones_own_is_paid_in_worlds_jitted_and_hosted(env, tmp_path, monkeypatch, capsys):
    from runs.verify import main as verify

    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_head.py").write_text(OWN)
    words = ["--smoke", "--env", env, "--heads", "my_head.py:Dread", "--out", "here"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "\ndread | " in said.out and "Where nobody pays, hope - fear" in said.out
    assert ("steps a second just now" in said.err) == (env == "CartPole-v1")
    assert verify(["here"]) == 0
    assert "FAILS" not in capsys.readouterr().out
    one = next((tmp_path / "here" / "parts").glob("*-1-dread.json"))
    before = one.read_text()
    one.unlink()
    assert main(words) == 0  # goes on, in other worker processes
    assert one.read_text() == before


@pytest.mark.slow
def test_the_usual_heads_serve_a_host(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    out = tmp_path / "here"
    assert main(["--smoke", "--env", "CartPole-v1", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "\ncuriosity | " in said and "\ninnate | " not in said
    made = {file.name for file in out.glob("unpaid*")}
    stem = "unpaid-CartPole-v1"
    assert made == {f"{stem}.md", f"{stem}.png", f"{stem}-curves.png", f"{stem}-wrong.png"}
