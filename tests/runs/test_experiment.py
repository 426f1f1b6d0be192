"""Experiments from Python: results, sealed order, resumption, own environments and agents."""

import gc
import os
import signal
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import nbformat
import numpy as np
import optax
import pandas as pd
import pytest
from gymnasium import spaces
from nbclient import NotebookClient
from scipy import stats

from affect import Blend, Constant, Fear, Hope, Inherited, Lesion, Potential, Spec, load, read_card
from affect.blend import HEAD_OPTIMISER
from agents import A2C, PPO, Body
from agents.actor_critic import ReturnSize
from agents.shuffled_rewards import ShuffledRewards
from envs import load_suite
from envs.shift import Shift, ramp
from envs.world import Env
from envs.worlds.classic.cartpole import CartPole
from runs.analysis.scores import COLUMNS, read_scores, rows_as_csv
from runs.cli import interrupt
from runs.cli.interrupt import Progress
from runs.engine import devices
from runs.engine.arms import Arm
from runs.engine.critic_head import critic_head
from runs.engine.jax_backend import JaxBackend
from runs.engine.train import TrainConfig, init_learner
from runs.experiment import Experiment
from runs.prereg import audit, ledger, plan_file, seal
from runs.result import Result
from tests.refusal import refusal
from tests.runs import small_study

no_key_check = pytest.fixture(scope="module", autouse=True)(
    small_study.without_key_check_in_threads
)
FEAR, HOPE = Potential(Fear), Potential(Hope)
ARMS = (
    Arm("none", Blend()),
    Arm("fear", Blend(epochs=2, fear=(1.0, FEAR))),
    Arm("unpaid", Blend(epochs=2, fear=(1.0, Lesion(FEAR)), hope=(0.0, HOPE)), control=True),
)
HALF = partial(Constant, value=0.5)
AGENT = PPO(width=8, epochs=1, minibatches=2)
SIZES = {"seeds": 3, "steps": 48, "num_envs": 2, "num_steps": 8, "episodes": 2, "optimise": False}
SEALED = {"sealed": ("actuator",), "probe_signals": False}
MORE_SLIP = [ramp("slip", "actuator", "channel.action_noise", to=0.6)]
SLIP = [ramp("slip", "actuator", "channel.action_noise", to=0.5)]
CARTPOLE = replace(small_study.suite(), severities=(1.0,))
SEEDS, CHUNKS, POINTS = 3, 3, 2  # points: unshifted and the force; the other shift is sealed


def make(arms=ARMS, suite=CARTPOLE, agent=AGENT, **options) -> Experiment:
    return Experiment(suite, arms, agent, **(SIZES | options))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Result of a finished experiment with a sealed family, and what was frozen at the draw."""
    out, frozen = tmp_path_factory.mktemp("finished") / "study", []

    def draw_sealed(folder):
        hashes = seal.frozen_checkpoints(folder)
        assert hashes == seal.checkpoint_hashes(folder)
        assert len(read_scores(folder / "scores.csv")) == len(ARMS) * SEEDS * POINTS
        frozen.append((hashes, (folder / "sealed.csv").exists()))
        return original(folder)

    original = seal.draw_sealed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seal, "draw_sealed", draw_sealed)
        result = make(out=out, **SEALED).run()
    return SimpleNamespace(result=result, out=out, frozen=frozen)


# --- results ----------------------------------------------------------------------------------


def test_scores_have_a_row_per_arm_seed_and_point(finished):
    scores = finished.result.scores
    assert list(scores.columns) == list(COLUMNS)
    assert scores["score"].dtype == float and scores["seed"].dtype == int
    cells = scores[["arm", "shift", "severity", "seed"]].itertuples(index=False, name=None)
    assert list(cells) == [
        (arm.name, *point, seed)
        for arm in ARMS
        for point in (("none", 0.0), ("force", 1.0))
        for seed in range(SEEDS)
    ]
    assert set(finished.result.sealed_scores["shift"]) == {"none", "flip"}


def test_curves_have_a_row_per_arm_chunk_and_seed(finished):
    curves = finished.result.curves
    assert len(curves) == len(ARMS) * CHUNKS * SEEDS
    assert set(curves["step"]) == {16, 32, 48}
    assert {"return", "length", "success", "loss", "fear/error", "fear/signal"} <= {*curves.columns}
    by_arm = curves.groupby("arm")["fear/signal"].count()
    assert by_arm.to_dict() == {"none": 0, "fear": 9, "unpaid": 9}


def test_contrasts_are_those_of_scipy(finished, tmp_path):
    rows = read_scores(finished.out / "scores.csv")
    scores = np.random.default_rng(0).random(len(rows))
    made_up = [row | {"score": x} for row, x in zip(rows, scores, strict=True)]
    (tmp_path / "scores.csv").write_text(rows_as_csv(made_up, header=True))
    result = Result(finished.result.experiment, tmp_path)
    away = result.scores.query("shift != 'none'").groupby(["arm", "seed"])["score"].mean()
    x, y = away["fear"].to_numpy(), away["none"].to_numpy()
    welch, paired = stats.ttest_ind(x, y, equal_var=False), stats.ttest_rel(x, y)
    for is_paired, test in ((False, welch), (True, paired)):
        row, interval = result.contrast("fear", "none", is_paired), test.confidence_interval()
        assert row.estimate.value == pytest.approx(np.mean(x) - np.mean(y))
        assert (row.estimate.low, row.estimate.high) == pytest.approx(tuple(interval))
        assert row.p_value == pytest.approx(test.pvalue)


def test_head_and_agent_are_those_of_the_checkpoint(finished):
    result, folder = finished.result, finished.out / "checkpoints" / "fear"
    store = small_study.Checkpoints(folder)
    backend, phase = result.experiment.make_backend(), result.experiment.phases["fear"]
    like = backend.init(phase), np.ones(backend.run_config.rows, bool)
    _, (state, _) = store.restore(like)
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for seed in range(SEEDS):
        learner = jax.tree.map(lambda leaf, seed=seed: leaf[seed], state.learner)
        head, net = result.head("fear", "fear", seed), learner.blend_state.heads["fear"].net
        assert type(head) is Fear
        assert small_study.bits(head) == small_study.bits(net.inner)
        agent, trained = result.experiment.run_config.agent, result.agent("fear", seed)
        action, value = trained.act(obs), trained.value(obs)
        assert type(action) is type(value) is np.ndarray and value.shape == (5,)
        np.testing.assert_array_equal(action, agent.act(learner.agent, None, obs))
        np.testing.assert_allclose(value, agent.value(learner.agent, obs)[:, 0], rtol=1e-5)
        assert trained.act(obs[0]).shape == trained.value(obs[0]).shape == ()


def test_a_trained_head_and_a_critic_become_files_that_say_where_they_come_from(finished, tmp_path):
    result, obs = finished.result, np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for seed in range(SEEDS):
        value = result.value("none", seed)
        np.testing.assert_allclose(
            value.value(obs), result.agent("none", seed).value(obs), rtol=1e-5
        )
    assert value.gamma == AGENT.gamma
    files = [tmp_path / "value.safetensors", tmp_path / "fear.safetensors"]
    value.save(files[0])
    result.head("fear", "fear", 1).save(files[1], licence="MIT")
    cards = [read_card(file) for file in files]
    assert [card.head for card in cards] == ["affect.Value", "affect.Fear"]
    assert [card.seeds for card in cards] == [(2,), (1,)] and cards[1].licence == "MIT"
    assert {(card.world, card.steps) for card in cards} == {("CartPole", 48)}
    np.testing.assert_array_equal(load(files[0]).value(obs), value.value(obs))
    paid = Experiment(
        CARTPOLE, {"value": Blend(value=(1.0, Potential(Inherited(files[0]))))}, AGENT
    )
    same = Experiment(CARTPOLE, {"value": Blend(value=(1.0, Potential(Inherited(value))))}, AGENT)
    other = Experiment(
        CARTPOLE, {"value": Blend(value=(1.0, Potential(Inherited(files[1]))))}, AGENT
    )
    assert paid.identity == same.identity != other.identity


@pytest.mark.parametrize(
    "agent",
    [
        replace(AGENT, normalise=True, scale_values=True),
        ShuffledRewards(A2C(width=8)),
        Body(A2C(width=0), actions=(1, 0)),
    ],
)
def test_the_critic_as_a_head_values_as_the_agent(agent):
    """Whitened observations, returns in their own units: as `agent.value`."""
    spec, rng = CARTPOLE.env.spec, np.random.default_rng(0)
    state = agent.init(jax.random.key(0), spec, 2)
    if agent.normalise:
        obs = jnp.asarray(rng.normal(1, [1, 2, 3, 0], size=(50, 4, 4)), jnp.float32)
        batch = SimpleNamespace(obs=obs)
        state = agent.update_moments(state, batch)
        square = 49 * jnp.ones_like(state.return_size.square)
        state = state._replace(return_size=ReturnSize(jnp.ones(()), square))
    obs = rng.normal(size=(6, 4)).astype(np.float32)
    head = critic_head(agent, state, spec)
    np.testing.assert_allclose(head.value(obs), agent.value(state, obs)[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_an_agent_in_a_body_is_trained_scored_and_recorded_as_one_without(tmp_path):
    results = [
        make(ARMS[:2], agent=agent, out=tmp_path / f"{i}").run()
        for i, agent in enumerate((AGENT, Body(AGENT, actions=(0, 1), senses=(0, 1, 2, 3))))
    ]
    plain, in_body = (result.scores for result in results)
    pd.testing.assert_frame_equal(in_body, plain, check_exact=True)
    assert (tmp_path / "1" / "readouts.csv").read_bytes() == (
        tmp_path / "0" / "readouts.csv"
    ).read_bytes()


def test_the_critic_of_an_agent_without_one_is_refused():
    assert "has no critic network: distil" in refusal(critic_head, object(), None, None)
    assert "values what its body perceives" in refusal(critic_head, Body(AGENT, noise=0.1), 0, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda result: result.contrast("feer", "none"), "unknown arm 'feer'; did you mean fear?"),
        (lambda result: result.agent("hope"), "unknown arm 'hope'; there are none, fear, unpaid"),
        (lambda result: result.head("fear", "hope"), "unknown head 'hope'; there are fear"),
        (lambda result: result.agent("fear", 3), "seed 3: the experiment has seeds 0 to 2"),
    ],
)
def test_unknown_names_and_seeds_are_refused(finished, call, message):
    assert refusal(call, finished.result).startswith(message)


def test_report_and_board_are_written_and_films_of_arms_that_are_no_controls(finished):
    assert finished.result.report() == finished.out / "report.html"
    html = finished.result._repr_html_()
    assert "<table" in html and html.startswith("<p>In CartPole, fear ")
    assert finished.result.verdict.startswith("In CartPole, fear ")
    films = finished.result.tensorboard().glob("compare/CartPole/*/*.rollout")
    assert {path.parent.name for path in films} == {"none", "fear"}
    assert {path.name for path in (finished.out / "timelines").iterdir()} == {
        "home.npz",
        "away.npz",
    }


@pytest.mark.slow
def test_episodes_in_a_gymnasium_environment_are_recorded_under_the_same_keys(tmp_path):
    """An agent whose head pays nothing acts as one without a head, so its episode is the same."""
    suite = load_suite("CartPole-v1")
    suite = replace(suite, shifts=suite.shifts[:1], severities=(1.0,))
    arms = {"none": Blend(), "unpaid": Blend(epochs=2, fear=(1.0, Lesion(FEAR)))}
    result = make(arms, suite, out=tmp_path / "study", probe_signals=False).run()
    (title, plain), (_, unpaid) = (result.episode(arm) for arm in arms)
    np.testing.assert_array_equal(plain.frames, unpaid.frames)
    assert title == "none at home in CartPole-v1" and np.ptp(plain.frames) > 0
    assert set(unpaid.signals) - set(plain.signals) == {"fear"}
    assert {len(values) for values in unpaid.signals.values()} == {len(plain.frames)}
    title, _ = result.episode("none", suite.shifts[0].name, 1.0)
    assert title == f"none under {suite.shifts[0].name}, 1"


# --- controls and the sealed order ------------------------------------------------------------


def test_lesion_and_weight_0_equal_no_head_bit_for_bit(finished):
    def rows(table: pd.DataFrame, arm: str) -> pd.DataFrame:
        return table[table["arm"] == arm].drop(columns="arm").reset_index(drop=True)

    curves = finished.result.curves[["arm", "step", "seed", "return", "length", "loss"]]
    for table in (finished.result.scores, finished.result.sealed_scores, curves):
        pd.testing.assert_frame_equal(rows(table, "unpaid"), rows(table, "none"), check_exact=True)
    assert (rows(curves, "fear")["loss"] != rows(curves, "none")["loss"]).any()


def test_sealed_worlds_are_drawn_once_after_all_agents_are_frozen(finished):
    [(hashes, scored_before)] = finished.frozen
    assert set(hashes) == {arm.name for arm in ARMS} and not scored_before
    entries = ledger.read_entries(finished.out / ledger.NAME)
    events = [(e.split, bool(e.checkpoints), e.result) for e in entries if e.split != "files"]
    scores = [seal.file_hash(finished.out / name) for name in ("scores.csv", "sealed.csv")]
    assert events == [
        ("train", False, None),
        ("train", True, None),
        ("dev", True, scores[0]),
        ("sealed", True, None),
        ("sealed", True, scores[1]),
    ]
    assert audit.watermark(finished.out) is None
    assert audit.looks_sentence(finished.out) == "dev looks 1, sealed looks 1"


@pytest.mark.slow
def test_running_again_computes_nothing_and_changes_no_result(finished, monkeypatch):
    before = {path: path.read_bytes() for path in finished.out.glob("*.*") if path.is_file()}
    for name in ("train", "evaluate", "film", "record"):
        monkeypatch.setattr(JaxBackend, name, lambda *args: pytest.fail("computed again"))
    result = make(out=finished.out, **SEALED).run()
    pd.testing.assert_frame_equal(result.scores, finished.result.scores)
    after = {path: path.read_bytes() for path in finished.out.glob("*.*") if path.is_file()}
    assert {path.name for path in before if before[path] != after[path]} <= {
        "report.html",  # written anew, as event files are, and entered again
        *("manifest.json", "ledger.jsonl", "ledger.head"),
    }


def test_a_plan_changed_after_training_is_refused_and_nothing_sealed_is_drawn(
    finished, monkeypatch
):
    path = finished.out / plan_file.PLAN_FILE
    before = path.read_text()
    monkeypatch.setattr(seal, "draw_sealed", lambda out: pytest.fail("drawn"))
    try:
        path.write_text(before.replace("seeds = 3", "seeds = 4"))
        message = refusal(make(out=finished.out, **SEALED).run)
        assert "plan.toml was changed after it was entered" in message
        assert "was changed after it was entered" in audit.watermark(finished.out)
    finally:
        path.write_text(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sealed": ("sensory",)}, "unknown sealed family 'sensory'; there are "),
        ({"sealed": ("actuator", "dynamics")}, "sealed: no public shift is left to score"),
        ({"seeds": 2}, "seeds = 2: an interval needs at least 3 seeds"),
        ({"seeds": 10**10, "steps": 48}, "CartPole: 10,000,000,000 seeds need at least "),
        ({"primary": ("hope", "none")}, "unknown arm 'hope'; there are none, fear, unpaid"),
        (
            {"arms": {"none": Blend(), "fear": Blend(fear=(-1.0, Fear))}},
            "fear in CartPole: fear is",
        ),
    ],
)
def test_experiments_that_do_not_fit_are_refused_before_training(options, message, tmp_path):
    assert refusal(make(out=tmp_path / "out", **options).run).startswith(message)
    assert not list(tmp_path.glob("out/checkpoints"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"suite": "CartPole"}, "suite='CartPole': expected a suite of envs.load_suite"),
        (
            {"suite": replace(CARTPOLE, shifts=())},
            "CartPole has no shifts: give one to score under",
        ),
        ({"agent": PPO}, "agent=<class 'agents.ppo.PPO'>: expected an agent, such as PPO()"),
        ({"agent": "PPO"}, "agent='PPO': expected an agent"),
        ({"agent": PPO(minibatches=3)}, "num_envs=2 times num_steps=8 samples do not divide into "),
        *(
            ({name: value}, f"{name}={value!r}: expected a whole number of at least 1")
            for name in ("seeds", "steps", "num_envs", "num_steps", "episodes")
            for value in ("3", 1.5, True, 0)
        ),
        ({"seeds": None}, "seeds=None: expected a whole number of at least 1"),
        *(
            ({"base": x}, f"base={x!r}: expected a whole number")
            for x in ("3", None, 1.5, True, -1)
        ),
        *(({"steps": 10**n}, f"steps={10**n}: expected a whole number up to") for n in (12, 20)),
        ({"episodes": 10**5000}, "episodes=a larger one: expected a whole number up to"),
        ({"sealed": "physics"}, "sealed='physics': expected families in a tuple, such as ("),
        ({"sealed": 3}, "sealed=3: expected families in a tuple"),
        ({"without": 3}, "without=3: expected arms in a tuple"),
        ({"primary": "none"}, "primary='none': expected two arms, or None"),
        ({"out": 3}, "out=3: expected a folder, or None"),
        ({"out": "a\0"}, "out='a\\x00': expected a folder, or None"),
        ({"arms": {}}, "arms: expected at least one, as {name: Blend(...)} or Arm(name, Blend())"),
        ({"arms": None}, "arms: expected at least one"),
        ({"arms": [Blend()]}, "arms: expected at least one"),
        ({"arms": {"h": Hope}}, "arm 'h': expected a Blend of its heads, got <class 'affect"),
        *(
            ({"arms": {name: Blend()}}, f"arm {name!r:.60}: expected 1 to 200 printable characters")
            for name in (1, "", "a\0", "a\nb", "a" * 201)
        ),
        ({"arms": {"k/1": Blend(), "k_1": Blend()}}, "arms 'k/1' and 'k_1' share the folder k_1: "),
        ({"arms": [Arm("a", Blend()), Arm("a", Blend())]}, "arms 'a' and 'a' share the folder a"),
    ],
)
def test_fields_of_a_wrong_type_are_refused_before_anything_is_computed(fields, message):
    assert refusal(lambda: make(**fields).plan).startswith(message)


def test_whole_numbers_of_numpy_are_those_of_python():
    sizes = {name: np.int64(SIZES[name]) for name in ("seeds", "steps", "num_envs", "episodes")}
    assert make(**sizes, base=np.int32(0)).identity == make().identity


def test_an_arm_that_trains_in_a_sealed_family_is_refused():
    randomised = Arm("random", Blend(), randomised=True)
    message = refusal(make((*ARMS, randomised), sealed=("dynamics",)).run)
    assert "random is sealed" in message and "or leave its arm out" in message


# --- folders ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_interrupted_experiment_is_resumed_bit_for_bit(finished, tmp_path, monkeypatch):
    def advance(progress, label, done, fresh=True):
        if done == CHUNKS + POINTS + 4:  # in the training of the second arm
            os.kill(os.getpid(), signal.SIGINT)

    experiment = make(out=tmp_path, **SEALED)
    with monkeypatch.context() as patch:
        patch.setattr(interrupt, "PATIENCE", 600)  # a busy machine must not end this process
        patch.setattr(Progress, "advance", advance)
        with pytest.raises(KeyboardInterrupt):
            experiment.run()
    assert not (tmp_path / "sealed.csv").exists() and (tmp_path / "scores.csv").exists()
    experiment.run()
    small_study.assert_same_files(finished.out, tmp_path)
    sealed = [(out / "sealed.csv").read_bytes() for out in (finished.out, tmp_path)]
    assert sealed[0] == sealed[1]


def test_another_experiment_in_the_same_folder_is_refused(finished):
    message = refusal(make(out=finished.out).run)
    assert message.startswith(f"{finished.out} holds a study with other settings; choose another")


@pytest.mark.slow
def test_identity_depends_on_all_that_changes_a_result(monkeypatch):
    def identity(head=FEAR, weight=1.0, epochs=2, tx=HEAD_OPTIMISER, **options):
        fear = Blend(tx, epochs, fear=(weight, head))
        return make({"none": Blend(), "fear": fear}, **options).identity

    same = {identity(), identity(Potential(Fear))}
    others = [
        identity(weight=0.5),
        identity(epochs=3),
        identity(Fear),
        identity(HOPE),
        identity(Lesion(FEAR)),
        identity(Potential(partial(Fear, horizon=20))),
        identity(Potential(Fear, gamma=0.5)),
        identity(partial(Constant, value=0.1)),
        identity(partial(Constant, value=0.2)),
        identity(seeds=4),
        identity(base=1),
        identity(agent=replace(AGENT, lr=1.0)),
        identity(suite=replace(CARTPOLE, env=CartPole(horizon=30))),
        identity(suite=load_suite(Target, SLIP)),
        identity(suite=replace(CARTPOLE, shifts=(*CARTPOLE.shifts[:1], *SLIP))),
        identity(suite=replace(CARTPOLE, shifts=(*CARTPOLE.shifts[:1], *MORE_SLIP))),
        identity(tx=optax.sgd(0.1)),
        identity(tx=optax.sgd(0.2)),
        *(identity(suite=load_suite(Corridor(length), SLIP, workers=0)) for length in (8, 9)),
    ]
    monkeypatch.setattr(jax, "devices", lambda: [None] * 3)
    others.append(identity())
    assert len(same) == 1 and len({*same, *others}) == 1 + len(others)


# --- discounts --------------------------------------------------------------------------------


def test_potentials_get_the_discount_of_the_agent_unless_they_have_their_own():
    blend = Blend(fear=(1.0, FEAR), hope=(1.0, Potential(Hope, gamma=0.5)))
    config = TrainConfig(replace(AGENT, gamma=0.9), blend, 2, 8)
    heads = init_learner(jax.random.key(0), config, CARTPOLE.env.spec).blend_state.heads
    assert (heads["fear"].net.gamma, heads["hope"].net.gamma) == (0.9, 0.5)


@dataclass(frozen=True)
class Fixed:
    """An agent without discount and value: it prefers one action, and counts its updates."""

    action: int = 1

    def init(self, key, spec, num_signals):
        return jnp.zeros(())

    def act(self, state, key, obs):
        return jnp.full(obs.shape[:-1], self.action, jnp.int32)

    def update(self, state, key, batch, signals):
        return state + 1, {"signal": signals.sum()}


def test_a_potential_without_a_discount_is_refused():
    message = refusal(make(agent=Fixed()).run)
    assert message.startswith(
        "fear in CartPole: Potential of Fear needs the discount of the critic"
    )


# --- own environments and agents --------------------------------------------------------------


class Corridor(gymnasium.Env):
    """Walk to the end of a corridor against the wind; its position is the observation."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int = 8, wind: float = 0.0):
        self.length, self.wind = length, wind

    def reset(self, *, seed=None, options=None):
        self.position, self.time = 0.0, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.position += 0.25 * (action - self.wind)
        self.time += 1
        obs = np.float32([np.clip(self.position, -1, 1)])
        return obs, float(self.position >= 1), self.position >= 1, self.time >= self.length, {}


@pytest.mark.slow
def test_own_class_and_agent_in_memory_leave_nothing_behind():
    suite = load_suite(Corridor, [ramp("wind", "dynamics", "params.wind", to=0.9)], workers=0)
    suite = replace(suite, severities=(1.0,))
    arms = {"none": Blend(), "constant": Blend(constant=(1.0, HALF))}
    result = make(arms, suite, Fixed(), steps=32).run()
    assert result.scores["env"].unique() == ["Corridor"]
    returns = result.scores.groupby(["shift"])["return"].mean()
    assert returns.to_dict() == {"none": 1.0, "wind": 0.0}
    signals = result.curves.groupby("arm")["signal"].mean()
    assert signals.to_dict() == {"none": 0.0, "constant": 0.5 * 16}
    agent = result.agent("none")
    assert agent.act(np.zeros(1)) == 1 and agent.state == 2
    with pytest.raises(TypeError, match="Fixed has no critic: it defines no value"):
        agent.value(np.zeros(1))
    out = result.out
    assert result.report().is_relative_to(out)
    del result, agent
    gc.collect()
    assert not out.exists()


class Target(Env):
    """Jitted: hit a target with a discrete action; the reward is a parameter."""

    class Params(NamedTuple):
        reward: jax.Array | float = 1.0

    spec, obs_scale, horizon = Spec(obs_dim=1, num_actions=2), (1.0,), 4

    def get_default_params(self, **kwargs):
        return self.Params(**kwargs)

    def initial(self, rng, params):
        return jnp.zeros((1,))

    def transition(self, state, action, rng, params):
        return state + action

    def observation(self, state, rng, params):
        return state

    def reward(self, state, action, next_state, rng, params):
        return params.reward * action

    def terminal(self, state, rng, params):
        return jnp.zeros((), bool)

    def success(self, total, length):
        return total > 2


@pytest.mark.slow
def test_own_jitted_world_runs_on_the_devices_of_a_jax_used_before(monkeypatch, capfd):
    def halve(world, severity, key):
        return world._replace(params=Target.Params(world.params.reward * (1 - severity / 2)))

    monkeypatch.setattr(devices, "cores", lambda: len(jax.devices()) + 3)
    suite = replace(load_suite(Target, [Shift("half", "reward", halve)]), severities=(1.0,))
    arms = {"none": Blend(), "constant": Blend(constant=(1.0, HALF))}
    result = make(arms, suite, Fixed(), recordings=True).run()
    assert result.scores.groupby("shift")["return"].mean().to_dict() == {"none": 4.0, "half": 2.0}
    assert result.scores.groupby("shift")["score"].mean().to_dict() == {"none": 1.0, "half": 0.0}
    messages = capfd.readouterr().err
    assert "jax was used before: 3 cores are idle; import runs first" in messages
    assert "arm none: not filmed" in messages  # Target draws nothing


# --- notebooks --------------------------------------------------------------------------------

CELL = """
from dataclasses import replace

from affect import Blend, Fear, Potential
from agents import PPO
from envs import load_suite
from envs.worlds.classic.cartpole import CartPole
from runs import Experiment

suite = load_suite("CartPole")
suite = replace(suite, env=CartPole(horizon=20), shifts=suite.shifts[:1], severities=(1.0,))
arms = {"none": Blend(), "fear": Blend(epochs=2, fear=(1.0, Potential(Fear)))}
agent = PPO(width=8, epochs=1, minibatches=2)
sizes = {"steps": 48, "num_envs": 2, "num_steps": 8, "episodes": 2, "optimise": False}
result = Experiment(suite, arms, agent, seeds=3, probe_signals=False, **sizes).run()
result
"""


@pytest.mark.slow
def test_a_notebook_cell_shows_the_verdict(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    where = {"metadata": {"path": tmp_path}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=where).execute()
    outputs = notebook.cells[0].outputs
    [shown] = [out.data["text/html"] for out in outputs if out.output_type == "execute_result"]
    assert "<p>In CartPole, fear " in shown and "<table" in shown
    assert not list(tmp_path.iterdir())
