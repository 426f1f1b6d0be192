"""Algorithms of other libraries as agents: training a seed at a time, controls, scores, refusals.

On a stub of Stable-Baselines3; with the libraries themselves in `test_foreign_libraries.py`.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from affect import Blend, Image, Lesion, Potential
from agents import Foreign
from envs import load_suite
from runs.cli.settings import from_yaml, json_object
from runs.compare import Settings, check, main
from runs.engine.arms import Arm
from runs.engine.backend import make_backend
from runs.engine.custom_head import is_custom, load_callable
from runs.engine.foreign_policies import ForeignPolicies
from runs.engine.phases import RewardMix
from runs.engine.presets import foreign_agent
from runs.engine.resources import check_resources
from runs.errors import Interrupted, UserError
from tests.affect.bridges import stub_sb3
from tests.affect.bridges.loop_envs import Slope
from tests.refusal import refused
from tests.runs import small_study

no_key_check = pytest.fixture(scope="module", autouse=True)(
    small_study.without_key_check_in_threads
)
AGENT = Foreign("sb3:PPO", {"gamma": 0.5})
PLAIN = "sb3:PPO", {}
CONFIG = small_study.replace(small_study.CONFIG, agent=AGENT, rows=2)
ARMS = {
    "none": Blend(),
    "slope": Blend(slope=(0.5, Slope)),
    "lesion": Blend(slope=(0.5, Lesion(Slope))),
}


@pytest.fixture(scope="module")
def stub():
    """The library, stubbed."""
    with pytest.MonkeyPatch.context() as patch:
        stub_sb3.install(patch)
        yield patch


@pytest.fixture(scope="module")
def suite():
    """CartPole-v1 with a shift of its physics and one of its sensors."""
    full = load_suite("CartPole-v1")
    shifts = tuple(shift for shift in full.shifts if shift.name in ("force", "noise"))
    return replace(full, shifts=shifts, severities=(1.0,))


def study_of(arm, suite):
    return small_study.make_study(Arm(arm, ARMS[arm]), CONFIG, suite)


def train(study, out):
    """The learner of a study that is trained and scored in a folder without a stop."""
    rows, _ = small_study.run(study, out)
    assert len(rows) == 3 * CONFIG.seeds
    return small_study.final(study, out)[1][0].learner


@pytest.fixture(scope="module")
def whole(stub, suite, tmp_path_factory):
    """Folder in which `slope` was trained, its learner, and the backend that keeps its programs."""
    out, study = tmp_path_factory.mktemp("whole"), study_of("slope", suite)
    yield out, train(study, out), study.backend
    study.backend.close()


@pytest.mark.slow
def test_a_head_changes_what_is_learned_and_its_lesion_does_not(whole, suite, tmp_path):
    _, trained, backend = whole
    controls = (study_of(arm, suite)._replace(backend=backend) for arm in ("none", "lesion"))
    none, lesion = (train(control, tmp_path).agent[0] for control in controls)
    (slope,) = trained.agent
    np.testing.assert_array_equal(lesion, none)
    assert (slope != none).any(1).all() and (none[0] != none[1]).any()
    weight = trained.blend_state.heads["slope"].net.weight[...]
    assert np.isfinite(weight).all() and weight[0] != weight[1]


def test_each_chunk_has_metrics_of_every_seed(whole):
    lines = [line for line in small_study.metrics(whole[0]) if line["arm"] == "slope"]
    assert [line["step"] for line in lines] == [32, 64, 96, 128]
    for line in lines:
        assert {"return", "length", "episodes", "slope/error"} <= set(line["metrics"])
        assert all(error >= 0 for error in line["metrics"]["slope/error"])
        for total, length in zip(*(line["metrics"][x] for x in ("return", "length")), strict=True):
            assert total == length  # the task's reward, 1 a step, without what heads pay


class StoppedInTheSecondSeed(small_study.Watch):
    """Progress that requests a stop some steps after the first seed is trained."""

    steps = 0

    def stopped(self):
        self.steps += any("1 of 2 seeds" in label for label in self.labels)
        return self.steps > 5

    def advance(self, arm, done, fresh):
        self.labels.append(arm)
        super().advance(arm, done, fresh)

    def __init__(self):
        super().__init__()
        self.labels = []


def test_a_stopped_training_goes_on_with_the_first_seed_that_is_not_trained(
    whole, suite, stub, tmp_path
):
    study, seeds = study_of("slope", suite), []
    learn = stub_sb3.Model.learn

    def counted(self, *inputs, **options):
        seeds.append(self.env.signals.seed)
        return learn(self, *inputs, **options)

    stub.setattr(stub_sb3.Model, "learn", counted)
    with pytest.raises(Interrupted):
        study.runner(tmp_path, StoppedInTheSecondSeed()).train(study.arm, study.phase)
    study.runner(tmp_path, small_study.Watch()).train(study.arm, study.phase)
    assert seeds[0] != seeds[1] and seeds[1:] == [seeds[1]] * 2
    assert (
        small_study.leaf_checksums(tmp_path)["slope"]
        == (small_study.leaf_checksums(whole[0])["slope"])
    )
    lines = [line for line in small_study.metrics(whole[0]) if line["arm"] == "slope"]
    assert small_study.metrics(tmp_path) == lines


def test_policies_of_several_points_side_by_side_act_on_their_own_observations():
    policies = ForeignPolicies(lambda: stub_sb3.Policy(2), 2)
    act = policies.acting([np.float32([[1, 0], [0, 1]] * 3)])  # S = 2 at 3 points
    obs = np.random.default_rng(0).normal(size=(6, 4, 2)).astype(np.float32)
    expected = np.stack([obs[i, :, i % 2] > 0 for i in range(6)])
    np.testing.assert_array_equal(act(obs), expected)
    one = policies.acting([np.float32([[0, 1]])])  # as an episode is filmed
    np.testing.assert_array_equal(one(obs[:1]), obs[:1, :, 1] > 0)


def test_the_examples_are_settings_of_the_command(monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    files = sorted((root / "examples" / "bridges").glob("*.yaml"))
    for path in files:
        settings = from_yaml(Settings, path)
        check(settings)
        assert settings.agent.startswith("sb3:") and json_object(settings, "agent_kwargs")
        for name in settings.heads:
            assert not is_custom(name) or load_callable(name).cls is Potential
    assert len(files) == 4


# --- bad input --------------------------------------------------------------------------------

PPO = "CartPole-v1", "--agent", "sb3:PPO", "--agent-kwargs"
COMMANDS = [
    (("CartPole-v1", "--agent", "sb3:PP0"), "stable_baselines3 has no 'PP0'; did you mean PPO?"),
    (("CartPole", "--agent", "sb3:PPO"), "gymnasium, not in CartPole: choose affect/CartPole-v0"),
    (("CartPole-v1", "--agent-kwargs", "{}"), "name the algorithm too"),
    ((*PPO, "3"), "write a JSON object"),
]
AGENTS = [
    (("PPO",), "write it as sb3:PPO"),
    (("sbx:SAC",), "pip install 'sbx-rl"),
    (("sb3:PPO", {"n_step": 8}), "no setting 'n_step'; did you mean n_steps?"),
    (("sb3:PPO", {"gamma": 2}), "gamma=2, expected a number in [0, 1]"),
    (("sb3:PPO", 3), "a mapping of settings"),
]


@pytest.mark.parametrize(("argv", "words"), COMMANDS, ids=[words for _, words in COMMANDS])
def test_a_command_that_cannot_be_run_is_refused_in_one_line(argv, words, stub, tmp_path):
    with refused(UserError, words):
        main(["--env", *argv, "--out", str(tmp_path)])


@pytest.mark.parametrize(("given", "words"), AGENTS, ids=[words for _, words in AGENTS])
def test_an_agent_that_there_is_not_is_refused_in_one_line(given, words, stub):
    stub.setitem(sys.modules, "sbx", None)
    with refused(ValueError, words):
        Foreign(*given).algorithm()


def test_memory_is_estimated_of_the_heads_alone(suite, stub, tmp_path, monkeypatch):
    phases = [study_of(arm, suite).phase for arm in ARMS]
    check_resources(phases, suite, CONFIG, tmp_path)
    monkeypatch.setattr("runs.engine.resources.free_memory", lambda: 0)
    with pytest.raises(UserError, match="2 seeds need at least .* and 0 bytes are free"):
        check_resources(phases, suite, CONFIG, tmp_path)


def test_what_is_not_supported_is_refused_in_one_line(suite, stub):
    study = study_of("none", suite)
    mixed = replace(study.phase, mix=RewardMix(task=0.5))
    again = study.backend.init(study.phase)
    spec = suite.env.spec
    masked, seeing = (
        replace(suite, env=replace(suite.env, spec=replace(spec, **changes)))
        for changes in ({"masked": True}, {"image": Image(7, 7, 3, unit=1.0)})
    )
    calls = {
        "reads no action masks, which CartPole-v1 has": lambda: foreign_agent(*PLAIN, masked),
        "take the image for numbers": lambda: foreign_agent(*PLAIN, seeing),
        "give a reward mix": lambda: study.backend.init(mixed),
        "give it one phase": lambda: study.backend.enter(again.learner, study.phase),
        "`n_steps` must be at least 1": lambda: begin({"n_steps": 0}),
    }

    def begin(settings):
        config = replace(CONFIG, agent=Foreign("sb3:PPO", settings))
        phase = replace(study.phase, agent=config.agent)
        make_backend(suite.env, config).init(phase)

    for words, call in calls.items():
        with refused(UserError, words):
            call()


@pytest.mark.slow
def test_the_command_reports_as_for_our_agents(stub, tmp_path, capsys):
    argv = "--smoke", "--env", "CartPole-v1", "--agent", "sb3:PPO", "--shifts", "noise"
    assert main([*argv, "--heads", "hope", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "sb3:PPO trains seeds one after another" in printed.err
    assert (tmp_path / "report.html").exists() and (tmp_path / "films" / "hope.done").exists()
    assert "hope_untrained" in printed.out
