"""Reward-free study: arms, design, a small study with its page, tables by hand, the command."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from affect import Blend, Innate, Spec, Transition
from agents.ppo import PPO
from envs import load_suite
from runs import reward_free_design, reward_free_run, reward_free_tune
from runs import reward_free_page as page
from runs.engine.presets import find_suite
from runs.engine.training_loop import Trained
from runs.errors import Interrupted, UserError
from runs.prereg import audit, ledger
from runs.reward_free import Settings, main
from runs.reward_free_design import CONTROLS, choose_shifts, make_design
from runs.reward_free_run import RewardFreeRun
from runs.signal_arms import HEADS, TESTED, SignalArm, available_heads, signal_blend
from runs.study_run import finite_seeds
from tests.runs.small_study import CUSTOM_HEAD, bits, without_key_check_in_threads
from tests.runs.study_job import files, make_job, small_world, table_rows, with_arms

unchecked = pytest.fixture(autouse=True, scope="module")(without_key_check_in_threads)


# --- arms and design --------------------------------------------------------------------------


def test_every_arm_is_a_reward_mix_of_heads_of_the_blend():
    design = make_design(Settings(seeds=3))
    arms = {arm.name: arm for arm in design.arms}
    assert set(arms) == {*CONTROLS, TESTED, "true", "unanchored", *HEADS}
    for arm in (*design.arms, *design.extra):
        assert set(arm.weights) <= set(design.blend.names), arm.name
        assert (arm.task_weight > 0) == (arm.name == "true")
        assert arm.learns == (arm.name != "frozen")
        assert arm.critic_kept == (arm.name == "zero_critic_kept")
        assert arm.yoked == (arm.name == "sham")
    assert arms["zero"].weights == arms["zero_critic_kept"].weights == {}
    assert arms["sham"].weights == arms[TESTED].weights == {"hope": 1.0, "fear": 1.0}
    assert arms["constant_plus"].weights == {"constant": pytest.approx(0.01)}
    assert arms["constant_minus"].weights == {"constant": pytest.approx(-0.01)}
    learning = [(*sorted(arm.weights.items()), arm.yoked, arm.critic_kept, arm.task_weight)
                for arm in (*design.arms, *design.extra) if arm.learns]  # fmt: skip
    assert len(set(learning)) == len(learning), "two arms are the same"
    normalising = signal_blend(HEADS, load_suite("Drive"), PPO(normalise=True))
    assert "critic" not in normalising.names and "fear_flipped_0.1" not in normalising.names


def test_mix_of_an_arm_has_its_weights_and_no_others():
    blend = signal_blend(("fear", "hope"), load_suite("CartPole"), PPO())
    zero, sham = (
        SignalArm("zero").mix(blend),
        SignalArm("sham", {"fear": 2.0}, yoked=True).mix(blend),
    )
    assert not np.any(zero.signals) and zero.task == 0 and zero.yoked == 0
    assert dict(zip(blend.names, sham.signals.tolist(), strict=True)) == dict.fromkeys(
        blend.names, 0.0
    ) | {"fear": 2.0}
    assert sham.yoked == 1 and SignalArm("true", task_weight=1.0).mix(blend).task == 1
    assert SignalArm("kept", critic_kept=True).renew == ("optimiser",)
    assert SignalArm("new").renew == ("critic", "optimiser")


def test_only_the_default_heads_leave_out_innate(tmp_path):
    drive, cartpole = load_suite("Drive"), load_suite("CartPole")
    assert available_heads(drive, HEADS) == HEADS == Settings.heads
    assert available_heads(cartpole, HEADS) == HEADS[:-1]
    with pytest.raises(UserError, match="CartPole has no innate head"):
        signal_blend(available_heads(cartpole, ("fear", "innate")), cartpole, PPO())
    file = tmp_path / "mine.py"
    file.write_text("from affect import Mood, Curiosity\n")
    with pytest.raises(UserError, match="two heads have the same name"):
        signal_blend(("mood", f"{file}:Mood"), drive, PPO())


@pytest.mark.parametrize(
    ("env", "dev", "sealed"),
    [
        ("Drive", ("cones", "delay"), ("aggressive", "ice", "fog")),
        ("CartPole-v1", ("force",), ("noise", "flip")),
        ("Acrobot-v1", ("noise",), ("flip",)),
    ],
)
def test_default_shifts_are_public_and_sealed_families(env, dev, sealed):
    suite = find_suite(env)
    assert choose_shifts(suite, (), ()) == (dev, sealed)
    family = {shift.name: shift.family for shift in suite.shifts}
    assert not {family[name] for name in dev} & {family[name] for name in sealed}


@pytest.mark.parametrize(
    ("dev", "sealed", "message"),
    [
        (("cones",), ("mirror",), "its family layout is sealed"),
        (("cone",), ("ice",), "unknown shift 'cone'; did you mean cones"),
        (("cones",), (), "name both or neither"),
    ],
)
def test_bad_shifts_are_refused(dev, sealed, message):
    with pytest.raises(UserError, match=message):
        choose_shifts(load_suite("Drive"), dev, sealed)


@pytest.mark.parametrize(("count", "message"), [(1, "are of sensor alone"), (0, "there are none")])
def test_suite_with_less_than_two_families_is_refused(count, message):
    suite = find_suite("Acrobot-v1")
    with pytest.raises(UserError, match=f"needs shifts of two families.*{message}: declare"):
        choose_shifts(replace(suite, shifts=suite.shifts[:count]), (), ())


def test_choices_on_dev_shifts_enter_the_plan(tmp_path, monkeypatch):
    assert reward_free_design.read_choices("Drive", tmp_path) == {}
    choices = {"rates": {"classifier": 3e-4, TESTED: 3e-4}, "rival": "classifier"}
    reward_free_design.choices_path("Drive", tmp_path).write_text(json.dumps(choices))
    assert reward_free_design.read_choices("Drive", tmp_path) == choices
    monkeypatch.setattr(reward_free_design, "read_choices", lambda env: choices)
    design = make_design(Settings(seeds=3))
    assert design.plan.primary == (TESTED, "classifier")
    assert {control for _, control in design.plan.secondary} == set(CONTROLS) - {"classifier"}
    assert set(design.plan.sealed) == {"social", "dynamics", "sensor"}
    assert design.plan.splits.names("dev") == ("cones", "delay")
    assert design.rates["flipped_0.1"] == 3e-4 and design.rates["true"] == 1e-3
    assert design.plan.sizes["lr_zero"] == 1e-3 and design.plan.sizes["lr_classifier"] == 3e-4
    text = page.sizes_text(design, Settings(lr=0.1))
    assert "step size 0.001, 0.0003 of classifier, 0.0003 of hope_fear);" in text
    assert set(make_design(Settings(seeds=3, lr=5e-4)).rates.values()) == {5e-4}
    with pytest.raises(UserError, match="unknown control 'hope'"):
        make_design(Settings(seeds=3, rival="hope"))


def test_design_of_a_host_environment():
    design = make_design(Settings(env="CartPole-v1", seeds=3, episodes=10))
    home = design.home
    assert (home.num_envs, home.num_steps, home.episodes) == (8, 128, 10)
    assert design.severities == (0.5, 1.0) and design.further.steps < home.steps
    assert {"innate", "critic"}.isdisjoint(arm.name for arm in design.arms)
    smoke = make_design(Settings(env="MiniGrid-DistShift1-v0", seeds=3, smoke=True))
    assert smoke.severities == (1.0,) and smoke.dev == ("DistShift2",)  # no half of a layout
    assert smoke.suite.env.horizon == 32


# --- a small study ----------------------------------------------------------------------------

SETTINGS = Settings(env="CartPole", heads=("fear",), rival="sham", smoke=True)
ARMS = ("frozen", "zero", "zero_critic_kept", "sham", "critic", TESTED, "true")
STUDY_HEADS = ("fear", "hope", "critic", "fear_flipped_0.5", "hope_flipped_0.5")


FEWER = {"FLIP_RATES": (0.5,), "WIDTHS": (), "WEIGHTS": ()}  # variants


@pytest.fixture
def small():
    """CartPole of 20 steps: force is public, flip sealed; few variants."""
    with small_world(reward_free_design, **FEWER):
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of some arms: its design, job, results and label noise."""
    job = make_job(SETTINGS, tmp_path_factory.mktemp("study") / "own")
    with small_world(reward_free_design, **FEWER):
        design = with_arms(make_design(SETTINGS), ARMS, STUDY_HEADS)
        secondary = tuple(pair for pair in design.plan.secondary if pair[1] in ARMS)
        design = replace(design, plan=replace(design.plan, arms=ARMS, secondary=secondary))
        with RewardFreeRun(design, job) as run:
            return (design, job, *run.run())


@pytest.fixture
def finished(study, small):
    """The finished study, in the small world."""
    return study


@pytest.mark.slow
def test_results_have_every_arm_in_every_shift(finished):
    design, job, results, noise = finished
    assert job.progress.done == job.progress.total
    names = {arm.name for arm in design.arms}
    assert (design.dev, design.sealed) == (("force",), ("flip",))
    cells = results.groupby(["shift", "severity"])["arm"].unique()
    assert set(cells["flip", 1.0]) == names
    assert set(cells["force", 1.0]) == names | {arm.name for arm in design.extra}
    assert set(cells["force", 0.5]) == {"frozen", "zero", TESTED, "true"}
    assert (results.groupby(["shift", "severity", "arm"])["seed"].nunique() == 3).all()
    assert results["alive"].all() and np.isfinite(results["score_away"]).all()
    assert sorted(set(noise["share"])) == [0.0, 0.5] and set(noise["seed"]) == {0, 1, 2}
    away = results[(results["shift"] == "force") & (results["severity"] == 1.0)]
    away = away.pivot(index="seed", columns="arm", values="score_away")
    gain = noise[noise["share"] == 0.5].set_index("seed")["gain"]
    np.testing.assert_array_equal(gain, away["flipped_0.5"] - away["frozen"])


@pytest.mark.slow
def test_frozen_agent_does_not_learn_and_the_others_do(finished):
    _, _, results, _ = finished
    curves = results.set_index("arm")["curve_0"]
    assert curves["frozen"].isna().all() and curves.drop("frozen").notna().any()
    at_home = results[results["shift"] == "force"].groupby(["arm", "seed"])["return_home"]
    assert (at_home.nunique().xs("frozen") == 1).all()  # whatever the shift and its severity


@pytest.mark.slow
def test_nothing_sealed_is_drawn_before_all_arms_are_frozen(finished):
    design, job, _, _ = finished
    entries = ledger.read_entries(job.out / ledger.NAME)
    assert [entry.split for entry in entries] == ["train", "train", "dev", "sealed", "sealed"]
    assert [bool(entry.result) for entry in entries] == [False, False, True, False, True]
    assert not entries[0].checkpoints
    assert set(entries[1].checkpoints) == {arm.name for arm in design.arms}
    assert audit.watermark(job.out) is None


@pytest.mark.slow
def test_interrupted_study_resumes_byte_for_byte_and_draws_nothing_sealed_before(
    finished, tmp_path
):
    design, job, results, _ = finished
    for stop_at, parts in ((3, 0), (15, 3)):  # at home, and in an arm on the dev shift
        with pytest.raises(Interrupted):
            RewardFreeRun(design, make_job(SETTINGS, tmp_path, stop_at)).run()
        written = files(tmp_path)
        assert sum(name.startswith("parts/") for name in written) == parts
        assert not any("flip" in name or "csv" in name for name in written)
        splits = {entry.split for entry in ledger.read_entries(tmp_path / ledger.NAME)}
        assert splits == {"train"}
    resumed, _ = RewardFreeRun(design, make_job(SETTINGS, tmp_path)).run()
    pd.testing.assert_frame_equal(resumed, results)
    assert files(tmp_path) == files(job.out)


@pytest.mark.slow
def test_finished_study_is_loaded(finished):
    design, job, results, noise = finished
    again = make_job(SETTINGS, job.out)
    resumed, noise_again = RewardFreeRun(design, again).run()
    pd.testing.assert_frame_equal(resumed, results)
    pd.testing.assert_frame_equal(noise_again, noise)
    assert again.progress.fresh == 0


@pytest.mark.slow
def test_folder_with_another_plan_is_refused(finished):
    design, job, _, _ = finished
    other = replace(design, plan=replace(design.plan, primary=(TESTED, "zero")))
    with pytest.raises(UserError, match="differs from the plan .*primary.*choose another --out"):
        RewardFreeRun(other, job).run()


@pytest.mark.slow
def test_parent_critic_is_the_critic_from_home(finished):
    design, job, _, _ = finished
    learner, _ = RewardFreeRun(design, job).train_parents()
    own = learner.blend_state.heads["critic"].net.inner.critic
    critic = learner.agent.train_state.net.critic
    assert bits(own.trunk) == bits(critic.trunk)
    np.testing.assert_array_equal(
        own.out.kernel, critic.out.kernel[..., : own.out.kernel.shape[-1]]
    )


@pytest.mark.slow
def test_arms_are_trained_on_their_mix_with_frozen_heads_and_what_they_renew(finished, monkeypatch):
    design, job, _, _ = finished
    run, phases = RewardFreeRun(replace(design, rates=design.rates | {"zero": 0.5}), job), {}
    learner, _ = run.train_parents()

    def record(name, phase, start, on_chunk):
        phases[name] = phase
        return Trained(SimpleNamespace(learner=learner), np.ones(design.further.rows, bool))

    monkeypatch.setattr(run, "train", record)
    split = run.make_split(jax.random.key(0), design.dev, (1.0,))
    pool = jax.tree.map(lambda leaf: leaf[1], split.train_worlds)
    for arm in design.arms:
        run.train_arm(learner, arm, pool, split.points, split.k_train)
    assert set(phases) == {arm.name for arm in design.arms} - {"frozen"}
    assert {phase.heads for phase in phases.values()} == {"frozen"}
    assert {name for name, phase in phases.items() if phase.mix.task == 1} == {"true"}
    assert {name for name, phase in phases.items() if phase.mix.yoked == 1} == {"sham"}
    silent = {name for name, phase in phases.items() if not np.any(phase.mix.signals)}
    assert silent == {"zero", "zero_critic_kept", "true"}
    kept = {name for name, phase in phases.items() if phase.renew == ("optimiser",)}
    assert kept == {"zero_critic_kept"} and phases["zero"].renew == ("critic", "optimiser")
    assert phases["zero"].agent.lr == 0.5 and phases["true"].agent.lr == design.home.agent.lr


@pytest.mark.slow
def test_page_of_a_study(finished, tmp_path):
    design, job, results, noise = finished
    result = page.reward_free_page(design, results, noise, job)
    result.write(tmp_path)
    stem = "reward_free-CartPole"
    names = [f"{stem}.md", f"{stem}.png", f"{stem}-curves.png", f"{stem}-flipped.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert min((tmp_path / name).stat().st_size for name in names[1:]) > 5000
    text = (tmp_path / names[0]).read_text()
    assert text.startswith("# CartPole: training without task reward\n\nWithout task reward, hope")
    for arm in (*design.arms, *(arm for arm in design.extra if "flipped" not in arm.name)):
        assert f"\n| {arm.name} " in text
    assert not re.search(r"\bnan\b", text) and "unverified" not in text
    assert "non-finite numbers: 0. dev looks 1, sealed looks 1." in text
    dead = results.assign(alive=results["seed"] != 1)
    with pytest.raises(UserError, match="2 of 3 seeds have finite numbers in every arm"):
        page.reward_free_page(design, dead, noise, job)


@pytest.mark.slow
def test_page_of_a_study_whose_scores_were_changed_says_so(finished, tmp_path):
    design, job, results, noise = finished
    out = shutil.copytree(job.out, tmp_path / "copy")
    with (out / "sealed.csv").open("a") as file:
        file.write("\n")
    text = page.reward_free_page(design, results, noise, job._replace(out=out)).text
    assert "**unverified: scores: sealed.csv was changed after it was entered" in text


@pytest.mark.slow
def test_tuning_runs_every_arm_at_each_step_size_from_one_training_at_home(small, tmp_path):
    settings = replace(SETTINGS, tune=True)
    job = make_job(settings, tmp_path)
    first = reward_free_tune.tune(job)
    assert job.progress.done == job.progress.total
    assert first.name == "reward_free-chosen-CartPole" and "chosen on force" in first.text
    folders = [tmp_path / "lr-0.001", tmp_path / "lr-0.0003"]
    assert [len(files(folder)) for folder in folders] == [len(make_design(settings).arms)] * 2
    assert (tmp_path / "checkpoints").exists()
    assert not any((folder / "checkpoints").exists() for folder in folders)
    assert reward_free_design.read_choices("CartPole", tmp_path)["rival"] in CONTROLS
    again = make_job(settings, tmp_path)
    assert reward_free_tune.tune(again).text == first.text and again.progress.fresh == 0


@pytest.mark.slow
def test_aurocs_are_the_shares_of_pairs_in_the_right_order():
    """Four episodes: harm at step 15, a good end at 18, and two cut off at 20."""
    steps, ends = np.arange(20)[:, None], np.array([15, 18, 19, 19])
    obs = jax.random.normal(jax.random.key(0), (20, 4, 2))
    at_end, alive = steps == ends, jnp.asarray(steps <= ends)
    terminated, truncated = at_end & (ends < 19), at_end & (ends == 19)
    reward = np.where(terminated, np.where(ends == 15, -1.0, 1.0), 0.0)
    batch = Transition(obs, obs, obs, *map(jnp.asarray, (reward, terminated, truncated)), alive)
    blend = Blend(
        fear=(1.0, partial(Innate, fn=lambda batch: batch.next_obs[..., 0])),
        hope=(1.0, partial(Innate, fn=lambda batch: batch.next_obs[..., 1])),
    )
    blend_state = blend.init(jax.random.key(1), Spec(obs_dim=2, num_actions=2), 4)
    aurocs = reward_free_run.head_aurocs(blend_state, batch, alive, blend=blend, suffixes=("",))
    fear = np.asarray(obs[..., 0])
    soon = [fear[t, 0] for t in range(5, 15)]  # within ten steps of the harm
    later = [*fear[:5, 0], *fear[:18, 1], *fear[:10, 2], *fear[:10, 3]]  # and known not to be
    pairs = np.greater.outer(soon, later)
    assert float(aurocs["soon"]) == pytest.approx(pairs.mean(), abs=1e-6)
    at_ends = obs[15, 0, 0] - obs[15, 0, 1] > obs[18, 1, 0] - obs[18, 1, 1]
    assert float(aurocs["end"]) == float(at_ends)


# --- tables by hand ---------------------------------------------------------------------------

FROZEN = np.array([0.2, 0.4, 0.6])


def made_results(scores: dict[str, np.ndarray], shifts=("ice", "fog")) -> pd.DataFrame:
    """Results [S] of each arm; in the second shift all are .1 lower, in the first .1 higher."""
    tables = []
    for shift, offset in zip(shifts, (0.1, -0.1), strict=True):
        for arm, score in scores.items():
            away = {f"{name}_away": score + offset for name in ("score", "success")}
            columns = away | {"seed": range(len(score)), "score_home": 0.9, "harm_away": 0.1}
            table = pd.DataFrame(columns | {"alive": True})
            tables.append(table.assign(shift=shift, severity=1.0, arm=arm))
    return pd.concat(tables, ignore_index=True)


def made_scores(tested: float, rival: float) -> dict[str, np.ndarray]:
    """Scores [S] of the arms, as gains over the frozen agent; seeds differ by a common level."""
    small = np.array([0.01, -0.02, 0.01])
    gains = dict.fromkeys(CONTROLS, -0.1) | {"reward_model": rival, "frozen": 0.0, "true": 0.4}
    scores = {arm: FROZEN + gain for arm, gain in gains.items()}
    return scores | {TESTED: FROZEN + tested, "zero": FROZEN - 0.1 + small}


def test_table_of_arms_by_hand():
    summary = page.summarise(
        made_results(made_scores(0.1, 0.3)), ("ice", "fog"), [*CONTROLS, TESTED, "true"]
    )
    rows = {arm: cells for arm, *cells in table_rows(page.arm_table(summary))}
    # sd .2 of 3 seeds: half width 4.303 x .2 / sqrt(3) = .497
    assert rows["frozen"][:6] == ["0.400 [-0.097, 0.897]", "0.100", "0.500", "0.900", "-", "-"]
    assert rows["frozen"][6:] == ["+0.100 [+0.100, +0.100]", "0.000"]
    assert rows[TESTED][4:] == ["+0.100 [+0.100, +0.100]", "25% [25%, 25%]", "-", "-"]
    assert rows["true"][4:] == ["+0.400 [+0.400, +0.400]", "100% [100%, 100%]",
                                "-0.300 [-0.300, -0.300]", "-"]  # fmt: skip
    assert rows["reward_model"][6] == "-0.200 [-0.200, -0.200]"
    # differences .19, .22, .19: t = .2 / (.01732 / sqrt(3)) = 20, p = .0025, and Holm's factor 1
    assert rows["zero"][6:] == ["+0.200 [+0.157, +0.243]", "0.002"]
    by_shift = page.shift_table(made_results({"frozen": FROZEN}), ("ice", "fog"), ["frozen"])
    assert "| 0.500 [0.003, 0.997] | 0.300 [-0.197, 0.797] |" in by_shift


@pytest.mark.parametrize(
    ("tested", "rival", "words"),
    [
        (0.2, 0.1, "hope - fear beats reward_model"),
        (0.2, 0.3, "hope - fear falls below reward_model"),
        (0.2, 0.2, "hope - fear is not told apart from reward_model"),
    ],
)
def test_finding_follows_the_scores(tested, rival, words):
    results = made_results(made_scores(tested, rival))
    summary = page.summarise(results, ("ice", "fog"), [*CONTROLS, TESTED, "true"])
    sentence = page.finding(summary, "reward_model", ("ice", "fog"))
    assert words in sentence and "over ice, fog" in sentence and "50% [50%, 50%]" in sentence
    others = "above each of them" if rival < tested else "not above reward_model."
    assert f"of 10 controls it is {others}" in sentence
    assert sentence.endswith("Its score at home is 0.900, 0.900 before.")


def test_share_of_the_ceiling_resamples_seeds_together():
    frozen = np.linspace(0.1, 0.9, 12)
    share = page.share_of_ceiling(frozen + 0.1, frozen, frozen + 0.4)
    assert share == pytest.approx((0.25, 0.25, 0.25))
    assert np.isnan(page.share_of_ceiling(frozen + 0.1, frozen, frozen)).all()


def test_label_noise_at_which_the_gain_turns_to_loss():
    shares = {0.0: (0.9, 0.2), 0.2: (0.7, 0.1), 0.5: (0.5, -0.1)}  # AUROC, gain
    noise = pd.DataFrame(
        {"share": share, "seed": seed, "home": 0.95, "soon": auroc, "end": auroc, "gain": gain}
        for share, (auroc, gain) in shares.items()
        for seed in range(4)
    )
    crossing = page.auroc_at_zero_gain(
        page.noise_levels(noise, "soon"), page.noise_levels(noise, "gain")
    )
    assert crossing == pytest.approx((0.6, 0.6, 0.6))
    assert "at an AUROC of 0.60 [0.60, 0.60] for harm" in page.zero_gain_sentence(noise)
    better = noise.assign(gain=noise["gain"] + 1)
    assert "never turns from gain to loss" in page.zero_gain_sentence(better)
    assert "all gain" in page.zero_gain_sentence(better)
    table = page.label_noise_table(noise)
    assert "| 0.5       | 0.950           | 0.500        | 0.500 " in table
    assert table.endswith("| -0.100 [-0.100, -0.100] |")


def test_seed_with_a_non_finite_number_is_left_out_of_every_arm():
    results = made_results({arm: np.arange(4.0) for arm in ("zero", TESTED)})
    died = (results["seed"] == 2) & (results["arm"] == "zero") & (results["shift"] == "fog")
    left = finite_seeds(results.assign(alive=~died))
    assert set(left["seed"]) == {0, 1, 3} and len(left) == 12
    with pytest.raises(UserError, match="1 of 4 seeds.*interval needs 3: run more --seeds"):
        finite_seeds(results.assign(alive=results["seed"] == 0))


def test_each_arm_gets_its_better_step_size_and_the_best_control_is_the_rival(
    tmp_path, monkeypatch
):
    settings = Settings(env="CartPole", heads=("fear",), seeds=3)
    names = [arm.name for arm in make_design(settings).arms]
    high = dict.fromkeys(names, 0.5) | {"classifier": 0.8, TESTED: 0.2, "true": 0.9}
    low = dict.fromkeys(names, 0.4) | {TESTED: 0.6, "sham": 0.7}
    results = {
        rate: made_results(
            {arm: level + FROZEN - 0.4 for arm, level in levels.items()}, ("length", "mass")
        )
        for rate, levels in ((1e-3, high), (3e-4, low))
    }
    monkeypatch.setattr(reward_free_tune, "train_at_step_sizes", lambda job: results)
    monkeypatch.setattr(
        reward_free_tune,
        "make_design",
        lambda settings: replace(make_design(settings), dev=("length", "mass")),
    )
    result = reward_free_tune.tune(make_job(settings, tmp_path))
    choices = reward_free_design.read_choices("CartPole", tmp_path)
    assert choices["rival"] == "classifier"
    assert {arm for arm, rate in choices["rates"].items() if rate == 3e-4} == {TESTED, "sham"}
    (cells,) = (cells for arm, *cells in table_rows(result.text) if arm == TESTED)
    assert cells == ["0.200 [-0.297, 0.697]", "0.600 [0.103, 1.097]", "0.900", "0.900", "0.0003"]


# --- the command ------------------------------------------------------------------------------


@pytest.mark.slow
def test_command_in_a_host_world_with_a_custom_head(tmp_path, monkeypatch, capsys):
    from runs.verify import main as verify

    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_head.py").write_text(CUSTOM_HEAD)
    args = ["--smoke", "--env", "CartPole-v1", "--heads", "my_head.py:Dread", "--out", "here"]
    assert main(args) == 0
    printed = capsys.readouterr().out
    assert "\n| dread " in printed and "Without task reward, hope - fear" in printed
    assert verify(["here"]) == 0
    assert "FAILS" not in capsys.readouterr().out
    before = files(tmp_path / "here")
    next((tmp_path / "here" / "parts").glob("noise-1-dread.json")).unlink()
    assert main(args) == 0  # in new worker processes
    assert files(tmp_path / "here") == before
