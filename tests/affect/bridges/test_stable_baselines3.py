"""Signals as reward in Stable-Baselines3, on a stub of its interface."""

import pickle
from types import SimpleNamespace

import jax
import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium import spaces  # noqa: E402

from affect import (  # noqa: E402
    GRM,
    Blend,
    Constant,
    Curiosity,
    Fear,
    Inherited,
    Innate,
    Mood,
    Normalised,
    Potential,
    Satiation,
    Spec,
    Untrained,
    Value,
    build,
)
from affect.bridges.recompute import is_recomputable  # noqa: E402
from tests.affect.bridges import stub_sb3  # noqa: E402
from tests.affect.bridges.loop_envs import (  # noqa: E402
    GAMMA,
    SIMPLE,
    TINY,
    Line,
    Slope,
    actions,
    position,
    same,
    transition,
    updates,
)
from tests.affect.bridges.stub_sb3 import (  # noqa: E402
    DummyVecEnv,
    Model,
    VecEnvWrapper,
    VecMonitor,
    VecNormalize,
)
from tests.affect.cases import KEY  # noqa: E402
from tests.refusal import refused  # noqa: E402

SPEC = Spec(2, 2, discount=GAMMA)
PHI = Blend(phi=(1.0, Potential(Innate(position))))
FROZEN = {"learn": False, "gamma": GAMMA}


@pytest.fixture(scope="module")
def sb3():
    """The bridge, on the stub."""
    with pytest.MonkeyPatch.context() as patch:
        stub_sb3.install(patch)
        import affect.bridges.stable_baselines3 as bridge

        yield bridge


def venv(lengths=(3, 2), end="terminated", **options):
    return DummyVecEnv([lambda n=n: Line(n, end, **options) for n in lengths])


def play(env, steps, seed=3):
    """Results of steps, and the first observations."""
    inside = env
    while hasattr(inside, "venv"):
        inside = inside.venv
    inside.seed(seed)
    obs = env.reset()
    return [env.step(action) for action in actions(steps, env.num_envs)], obs


def given(results, name):
    """Signals [T, B] of a head."""
    return np.float32([[info["affect"][name] for info in infos] for *_, infos in results])


def test_signals_are_those_of_update(sb3):
    blend = Blend(**TINY)
    env = sb3.VecAffectReward(venv(), blend, learn_every=2, gamma=GAMMA)
    results, obs = play(env, 8)
    first, steps = np.ones(2, bool), []
    for (after, rewards, dones, infos), action in zip(results, actions(8, 2), strict=True):
        successor = after.copy()
        for i in np.flatnonzero(dones):
            successor[i] = infos[i]["terminal_observation"]
        task = [info["task_reward"] for info in infos]
        steps.append(transition(obs, action, successor, task, dones, dones & False, first))
        obs, first = after, dones
        signals = np.float32([list(info["affect"].values()) for info in infos])
        same(rewards, np.float32(task) + signals.sum(-1))
    expected, _ = updates(blend, SPEC, steps)
    same(np.stack([given(results, name) for name in blend.names], -1), expected)
    assert env.signals.program._cache_size() == 1


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_a_potential_is_0_beyond_a_terminal_state_and_kept_at_a_time_limit(end, sb3):
    results, obs = play(sb3.VecAffectReward(venv((3,), end), PHI, **FROZEN), 6)
    for after, _, dones, infos in results:
        last = infos[0]["terminal_observation"] if dones[0] else after[0]
        ahead = 0.0 if dones[0] and end == "terminated" else GAMMA * last[0]
        assert infos[0]["affect"]["phi"] == pytest.approx(ahead - obs[0, 0], abs=1e-6)
        obs = after


SILENT = {"weights": {"mood": 0.0, "phi": 0.0}}


@pytest.mark.parametrize(
    "options", [SILENT, pytest.param({"paid": "info"}, marks=pytest.mark.slow)], ids=str
)
def test_without_pay_training_is_as_without_the_wrapper(options, sb3):
    plain = Model("MlpPolicy", venv()).learn(16)
    env = sb3.VecAffectReward(venv(), Blend(**SIMPLE), learn=False, **options)
    wrapped = Model("MlpPolicy", env).learn(16, callback=sb3.AffectCallback())
    assert wrapped.digest.digest() == plain.digest.digest()
    same(wrapped.rewards, plain.rewards)


def test_the_callback_gives_the_discount_and_logs(sb3):
    env = sb3.VecAffectReward(venv(), Blend(**TINY), learn_every=4)
    assert env.signals.waiting
    model = Model("MlpPolicy", env, gamma=0.9).learn(16, callback=sb3.AffectCallback())
    assert env.signals.core.spec.discount == 0.9
    logged = model.logger.values
    names = {"slope", "slope_share", "slope_error", "phi", "phi_share", "heads_skipped"}
    assert set(logged) == {f"affect/{name}" for name in names}
    assert all(len(values) == 2 for values in logged.values())  # rollouts
    for slope, phi in zip(logged["affect/slope_share"], logged["affect/phi_share"], strict=True):
        assert 0 < slope < 1 and 0 < phi < 1 and slope + phi < 1
    model.learn(4, callback=sb3.AffectCallback(), reset=False)  # the same discount again


def test_monitors_report_what_their_place_says(sb3):
    blend = Blend(it=(1.0, Constant(0.25)))
    inside = sb3.VecAffectReward(VecMonitor(venv()), blend, learn=False)
    outside = VecMonitor(sb3.VecAffectReward(venv(), blend, learn=False))
    for env, factor in ((inside, 1.0), (outside, 1.25)):
        results, _ = play(env, 6)
        returns = [
            info["episode"]["r"] for *_, infos in results for info in infos if "episode" in info
        ]
        assert sorted(returns) == [2 * factor] * 3 + [3 * factor] * 2


def test_observations_are_normalised_outside_or_inside(sb3):
    raw = play(sb3.VecAffectReward(venv(), PHI, **FROZEN), 6)[0]
    outside = VecNormalize(sb3.VecAffectReward(venv(), PHI, **FROZEN), norm_reward=False)
    same(given(play(outside, 6)[0], "phi"), given(raw, "phi"))
    blend = Blend(reward=(1.0, Innate(lambda batch: batch.reward)), **PHI.heads)
    inside = sb3.VecAffectReward(VecNormalize(venv()), blend, **FROZEN)
    results, obs = play(inside, 6)
    assert (given(results, "reward") == 1).all()  # the task's own, before it is normalised
    assert results[0][3][0]["task_reward"] == 1.0
    for after, rewards, dones, infos in results:
        signal = np.float32([sum(info["affect"].values()) for info in infos])
        np.testing.assert_allclose(rewards, 0.25 + signal, rtol=1e-6)
        ahead = np.where(dones, 0.0, GAMMA * after[:, 0])
        phi = [info["affect"]["phi"] for info in infos]
        np.testing.assert_allclose(phi, ahead - obs[:, 0], atol=1e-6)
        obs = after


def test_observations_may_be_a_dict(sb3):
    space = spaces.Dict(place=spaces.Box(-9, 9, (1,)), steps=spaces.Box(0, 9, (1,)))
    read = lambda obs: {"place": obs[:1], "steps": obs[1:]}  # noqa: E731
    env = sb3.VecAffectReward(venv(space=space, read=read), PHI, obs_keys=("place",), **FROZEN)
    results, _ = play(env, 4)
    same(
        given(results, "phi"), given(play(sb3.VecAffectReward(venv(), PHI, **FROZEN), 4)[0], "phi")
    )


def test_an_evaluation_environment_needs_no_wrapper_or_one_that_passes_on(sb3):
    plain, _ = play(venv(), 6)
    passed, _ = play(sb3.VecTaskReward(venv()), 6)
    for left, right in zip(plain, passed, strict=True):
        same(left[1], right[1])


@pytest.mark.slow
def test_a_run_that_is_continued_is_one_never_stopped(sb3, tmp_path):
    options, blend = {"learn_every": 6, "gamma": GAMMA}, Blend(**TINY)
    whole = Model("MlpPolicy", sb3.VecAffectReward(venv(), blend, **options)).learn(20)
    inner = venv()
    half = Model("MlpPolicy", sb3.VecAffectReward(inner, blend, **options)).learn(10)
    half.env.save(tmp_path / "state")
    half.env = sb3.VecAffectReward.load(tmp_path / "state", inner, blend, learn_every=6)
    assert half.env.signals.core.spec.discount == GAMMA  # from the file
    half.learn(10, reset=False)
    same(half.rewards, whole.rewards)
    with refused(ValueError, "is of a wrapper with heads", "make it with the blend"):
        sb3.VecAffectReward.load(tmp_path / "state", inner, PHI, **options)


# --- replay -----------------------------------------------------------------------------------


def off_policy(sb3, blend, **options):
    env = sb3.VecAffectReward(venv(), blend, learn_every=2, **options)
    return Model("MlpPolicy", env, replay_buffer_class=sb3.AffectReplayBuffer)


def test_a_sample_is_paid_as_of_now(sb3):
    model = off_policy(sb3, Blend(mood=(1.0, Mood), **PHI.heads, it=(1.0, Untrained(Slope))))
    model.learn(12, callback=sb3.AffectCallback())
    buffer = model.replay_buffer
    stored = buffer.rewards[:6].copy()
    sample = buffer.sample(32)
    np.testing.assert_allclose(sample.rewards, stored[sample.steps, sample.envs], atol=1e-6)
    state = model.env.signals.state
    weights = state.blend_state.weights.at[1].set(3.0)  # the heads, now: phi counts three times
    blend_state = state.blend_state._replace(weights=weights)
    model.env.signals._leaves = jax.tree.leaves(state._replace(blend_state=blend_state))
    sample = buffer.sample(32)
    phi = buffer.signals[sample.steps, sample.envs, 1]
    expected = stored[sample.steps, sample.envs] + 2 * phi
    np.testing.assert_allclose(sample.rewards, expected, atol=1e-5)
    assert buffer.recomputed.program._cache_size() == 1
    again = pickle.loads(pickle.dumps(buffer))
    same(again.signals, buffer.signals)
    with refused(ValueError, "callback=AffectCallback()"):
        again.sample(2)


@pytest.mark.slow
def test_signals_that_depend_on_the_steps_before_stay_as_they_were_paid():
    info = Spec(2, 2, info=("harm",), discount=GAMMA)
    for factory, spec, expected in (
        (Potential(Fear), info, True),
        (Normalised(Curiosity), SPEC, True),
        (Potential(Mood), SPEC, False),
        (Satiation, SPEC, False),
        (GRM(Fear), SPEC, False),
        (Slope, SPEC, False),
        (Innate(position), SPEC, True),
        (Innate(position), info, False),
    ):
        assert is_recomputable(build(factory, spec, KEY), spec) == expected


@pytest.mark.slow
def test_what_is_sampled_does_not_depend_on_the_heads(sb3):
    model = off_policy(sb3, PHI, weights={"phi": 0.0})
    model.learn(12, callback=sb3.AffectCallback())
    sample = model.replay_buffer.sample(8)
    assert sample.steps.tolist() == np.random.default_rng(0).integers(0, 6, size=8).tolist()
    assert (sample.rewards == 1).all()


# --- critics ----------------------------------------------------------------------------------


class Array(np.ndarray):
    """An array with the methods of a tensor that are called."""

    detach = cpu = lambda self: self
    numpy = lambda self: np.asarray(self)  # noqa: E731


def layer(kind, *shape):
    """A layer of the class name `kind` with random weights [out, in]."""
    made = type(kind, (), {})()
    if shape:
        rng = np.random.default_rng(sum(shape))
        made.weight, made.bias = (
            np.asarray(rng.normal(size=s), np.float32).view(Array) for s in (shape, shape[:1])
        )
    return made


def critic(activation="Tanh", extractor="FlattenExtractor", normalize=None):
    """A model with a critic of two hidden layers on observations of 2 numbers."""
    layers = [layer("Linear", 5, 2), layer(activation), layer("Linear", 3, 5), layer(activation)]
    policy = SimpleNamespace(
        mlp_extractor=SimpleNamespace(value_net=layers),
        value_net=layer("Linear", 1, 3),
        vf_features_extractor=layer(extractor),
        observation_space=Line().observation_space,
    )
    return SimpleNamespace(
        policy=policy,
        observation_space=policy.observation_space,
        action_space=spaces.Discrete(2),
        gamma=0.9,
        get_vec_normalize_env=lambda: normalize,
    )


@pytest.mark.parametrize("normalised", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_value_is_that_of_the_critic(normalised, sb3, tmp_path):
    model = critic(normalize=VecNormalize(venv()) if normalised else None)
    head = sb3.value_of(model)
    obs = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    hidden = (obs - 1) / 2 if normalised else obs
    for linear in model.policy.mlp_extractor.value_net[::2]:
        hidden = np.tanh(hidden @ linear.weight.T + linear.bias)
    out = model.policy.value_net
    expected = (hidden @ out.weight.T + out.bias)[:, 0] * (4 if normalised else 1)
    np.testing.assert_allclose(head.value(obs), expected, rtol=1e-4)
    assert isinstance(head, Value) and head.gamma == 0.9
    if not normalised:
        head.save(tmp_path / "value.safetensors")
        blend = Blend(it=(1.0, Potential(Inherited(tmp_path / "value.safetensors"))))
        results, obs = play(sb3.VecAffectReward(venv(), blend, gamma=GAMMA), 1)
        expected = GAMMA * head.value(results[0][0]) - head.value(obs)
        np.testing.assert_allclose(given(results, "it")[0], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (SimpleNamespace(policy=SimpleNamespace()), ["no critic", "affect.distil"]),
        (critic("ReLU"), ["ReLU layers", "affect.distil", "torch.nn.Tanh"]),
        (critic(extractor="NatureCNN"), ["NatureCNN", "affect.distil"]),
        (critic(normalize=VecNormalize(venv(), clip_obs=5.0)), ["clips observations at 5.0"]),
    ],
)
def test_other_critics_are_refused_in_one_line(model, words, sb3):
    with refused(ValueError, *words):
        sb3.value_of(model)


# --- bad input --------------------------------------------------------------------------------


class Changed(VecEnvWrapper):
    """A wrapper that changes `terminal_observation`."""

    def __init__(self, change):
        super().__init__(venv((1, 1)))
        self.change = change

    def step_wait(self):
        *results, infos = super().step_wait()
        return *results, [self.change(dict(info)) for info in infos]


def train(sb3, env, callback=True, **options):
    model = Model("MlpPolicy", env, **options)
    return model.learn(4, callback=sb3.AffectCallback() if callback else None)


TRAINED = Blend(it=(1.0, Inherited(build(Fear, SPEC, KEY))))
LONG = {"terminal_observation": np.zeros(3)}
REFUSED = [
    (lambda s: s.VecAffectReward(s.VecAffectReward(venv(), PHI), PHI), ["into one Blend"]),
    (lambda s: s.VecAffectReward(VecNormalize(venv()), TRAINED), ["it was trained before"]),
    (lambda s: train(s, venv()), ["no VecAffectReward"]),
    (
        lambda s: train(s, s.VecAffectReward(venv(), PHI), callback=False),
        ["needs the discount", "give gamma=0.99"],
    ),
    (
        lambda s: train(s, s.VecAffectReward(venv(), PHI, gamma=0.9)),
        ["gamma=0.9", "gamma=0.5: give both the same"],
    ),
    (
        lambda s: train(
            s, s.VecAffectReward(venv(), Blend(it=(1.0, Potential(Innate(position), gamma=0.7))))
        ),
        ["it shapes with a discount of 0.7", "gamma=0.5"],
    ),
    (
        lambda s: train(s, VecNormalize(s.VecAffectReward(venv(), PHI))),
        ["scales signals", "norm_reward=False"],
    ),
    (
        lambda s: train(
            s,
            s.VecAffectReward(VecNormalize(venv()), PHI),
            replay_buffer_class=s.AffectReplayBuffer,
        ),
        ["replay buffer", "put VecNormalize outside"],
    ),
    (
        lambda s: s.AffectReplayBuffer(
            8, Line().observation_space, spaces.Discrete(2), optimize_memory_usage=True
        ),
        ["optimize_memory_usage=True", "leave it out"],
    ),
    (
        lambda s: train(s, venv(), callback=False, replay_buffer_class=s.AffectReplayBuffer),
        ["a step without signals", "VecAffectReward around"],
    ),
    (
        lambda s: play(
            s.VecAffectReward(Changed(lambda i: {"TimeLimit.truncated": False}), PHI, **FROZEN), 1
        ),
        ['no "terminal_observation"', "inside of the one"],
    ),
    (
        lambda s: play(s.VecAffectReward(Changed(lambda i: i | LONG), PHI, **FROZEN), 1),
        ['"terminal_observation"', "expected [B, 2]", "inside of the one"],
    ),
]


@pytest.mark.parametrize(("call", "words"), REFUSED, ids=[words[0] for _, words in REFUSED])
def test_wrong_use_is_refused_in_one_line(call, words, sb3):
    with refused(ValueError, *words):
        call(sb3)


def test_the_bridge_names_a_library_that_is_too_old(monkeypatch):
    stub_sb3.install(monkeypatch, __version__="1.8.0")
    with refused(
        ImportError, "stable-baselines3 2.3 or later, and 1.8.0 is installed", "pip install"
    ):
        import affect.bridges.stable_baselines3  # noqa: F401
