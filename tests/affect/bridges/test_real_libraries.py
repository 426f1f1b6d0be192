"""The bridges with the libraries themselves: Stable-Baselines3, SBX, gymnax, rejax, Minari.

Slow, and skipped where a library is not installed.
"""

import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Curiosity, Fear, Inherited, Potential, Spec, transitions_from
from affect.bridges.functional import AffectEnv
from tests.affect.bridges.loop_envs import GAMMA, LEARNING, SIMPLE, Line, same
from tests.affect.bridges.stub_gymnax import rollout
from tests.refusal import refused

pytestmark = pytest.mark.slow


@pytest.fixture
def sb3():
    return pytest.importorskip("stable_baselines3")


@pytest.fixture
def bridge(sb3):
    return importlib.import_module("affect.bridges.stable_baselines3")


def venv(length=5, num_envs=2, end="truncated", monitored=True):
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    wrap = Monitor if monitored else lambda env: env
    return DummyVecEnv([lambda: wrap(Line(length, end)) for _ in range(num_envs)])


def ppo(sb3, env, **options):
    options = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"} | options
    return sb3.PPO("MlpPolicy", env, **options)


def weights(model):
    return {name: x.numpy().copy() for name, x in model.policy.state_dict().items()}


def assert_same_weights(first, second):
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    for name, array in first.items():
        same(array, second[name])


@pytest.mark.parametrize("options", [{"paid": "info"}, {"weights": {"mood": 0.0, "phi": 0.0}}])
def test_without_pay_ppo_trains_as_without_the_wrapper(options, sb3, bridge):
    plain = ppo(sb3, venv()).learn(128)
    env = bridge.VecAffectReward(venv(), Blend(**SIMPLE), **options)
    assert_same_weights(plain, ppo(sb3, env).learn(128, callback=bridge.AffectCallback()))
    paid = bridge.VecAffectReward(venv(), Blend(**SIMPLE))
    other = ppo(sb3, paid).learn(128, callback=bridge.AffectCallback())
    assert any((weights(plain)[name] != x).any() for name, x in weights(other).items())


def test_a_continued_run_of_ppo_is_one_never_stopped(sb3, bridge, tmp_path):
    import torch

    blend, callback = Blend(**LEARNING), bridge.AffectCallback
    runs = []
    for stopped in (False, True):
        inner = venv()
        env = bridge.VecAffectReward(inner, blend)
        model = ppo(sb3, env).learn(64, callback=callback())
        if stopped:
            state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
            model.save(tmp_path / "model"), env.save(tmp_path / "feelings")
            env = bridge.VecAffectReward.load(tmp_path / "feelings", inner, blend)
            model = sb3.PPO.load(tmp_path / "model", env, device="cpu", force_reset=False)
            torch.set_rng_state(state[0])
            np.random.set_state(state[1])  # noqa: NPY002
        model.learn(64, callback=callback(), reset_num_timesteps=False)
        runs.append(model)
    assert_same_weights(*runs)


def test_signals_are_logged(sb3, bridge, tmp_path):
    from stable_baselines3.common.logger import configure

    model = ppo(sb3, bridge.VecAffectReward(venv(), Blend(**LEARNING), learn_every=16))
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(64, callback=bridge.AffectCallback())
    header = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    assert {"affect/fear", "affect/fear_share", "affect/fear_error"} <= set(header)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_evaluation_reports_the_return_of_the_task(normalised, wrapped, sb3, bridge):
    from stable_baselines3.common.callbacks import EvalCallback
    from stable_baselines3.common.vec_env import VecNormalize

    blend, evaluated = Blend(**SIMPLE), venv(num_envs=1)
    env = bridge.VecAffectReward(venv(), blend)
    if wrapped:
        evaluated = bridge.VecAffectReward(evaluated, blend, gamma=0.99, learn=False)
    elif normalised:
        evaluated = bridge.VecTaskReward(evaluated)  # as many wrappers as in training
    if normalised:
        env = VecNormalize(env, norm_reward=False)
        evaluated = VecNormalize(evaluated, norm_reward=False, training=False)
    evaluation = EvalCallback(evaluated, eval_freq=16, n_eval_episodes=2, verbose=0)
    ppo(sb3, env).learn(64, callback=[bridge.AffectCallback(), evaluation])
    assert evaluation.last_mean_reward == 5.0


def test_other_wrappers_of_stable_baselines3_around(sb3, bridge):
    from stable_baselines3.common import vec_env

    def phi(env):
        env.seed(3)
        env.reset()
        rows = [env.step(np.array([1, 0]))[3] for _ in range(7)]
        return np.float32([[info["affect"]["phi"] for info in infos] for infos in rows])

    make = partial(bridge.VecAffectReward, blend=Blend(phi=SIMPLE["phi"]), learn=False, gamma=GAMMA)
    plain = phi(make(venv()))
    same(phi(make(vec_env.VecMonitor(venv()))), plain)
    same(phi(vec_env.VecMonitor(make(venv()))), plain)
    same(phi(vec_env.VecFrameStack(make(venv()), 2)), plain)
    same(phi(vec_env.VecCheckNan(make(venv()))), plain)
    stacked = make(vec_env.VecFrameStack(venv(), 2))  # the first number is then the older one
    assert stacked.signals.core.spec.obs_dim == 4 and np.isfinite(phi(stacked)).all()


def test_a_sample_of_dqn_is_paid_as_of_now(sb3, bridge):
    blend = Blend(fear=(1.0, Potential(Fear)), novelty=(1.0, Curiosity))
    env = bridge.VecAffectReward(venv(num_envs=1, end="terminated"), blend, learn_every=8)
    model = sb3.DQN(
        "MlpPolicy",
        env,
        learning_starts=32,
        buffer_size=256,
        batch_size=16,
        seed=0,
        device="cpu",
        replay_buffer_class=bridge.AffectReplayBuffer,
    )
    model.learn(128, callback=bridge.AffectCallback())
    buffer = model.replay_buffer
    rows = np.arange(100)
    stored = buffer.signals[:100].copy()
    buffer._pay(rows)
    now = buffer.rewards[:100] - buffer.task_rewards[:100]
    assert np.abs(now - stored.sum(-1)).max() > 1e-3  # the heads have learned since
    assert np.isfinite(buffer.rewards[:100]).all()


def test_off_policy_with_normalised_rewards_is_refused(sb3, bridge):
    from stable_baselines3.common.vec_env import VecNormalize

    env = bridge.VecAffectReward(VecNormalize(venv(num_envs=1)), Blend(**SIMPLE))
    model = sb3.DQN("MlpPolicy", env, buffer_size=64, device="cpu")
    with refused(ValueError, "put VecNormalize outside"):
        model.learn(8, callback=bridge.AffectCallback())


@pytest.mark.parametrize("normalised", [False, True])
def test_the_value_is_that_of_the_policy(normalised, sb3, bridge, tmp_path):
    import torch
    from stable_baselines3.common.vec_env import VecNormalize

    env = VecNormalize(venv(), norm_reward=True) if normalised else venv()
    model = ppo(sb3, env).learn(128)
    obs = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    seen = env.normalize_obs(obs) if normalised else obs
    with torch.no_grad():
        expected = model.policy.predict_values(torch.as_tensor(seen))[:, 0].numpy()
    if normalised:
        expected = expected * np.sqrt(env.ret_rms.var + env.epsilon)
    head = bridge.value_of(model)
    np.testing.assert_allclose(head.value(obs), expected, rtol=1e-4, atol=1e-5)
    head.save(tmp_path / "value.safetensors")
    blend = Blend(it=(1.0, Potential(Inherited(tmp_path / "value.safetensors"))))
    ppo(sb3, bridge.VecAffectReward(venv(), blend)).learn(32, callback=bridge.AffectCallback())


def test_sbx_trains_on_signals(bridge):
    sbx = pytest.importorskip("sbx")
    env = bridge.VecAffectReward(venv(), Blend(**SIMPLE))
    model = sbx.PPO("MlpPolicy", env, n_steps=16, batch_size=16, seed=0)
    with jax.numpy_rank_promotion("allow"):  # which that library relies on
        model.learn(64, callback=bridge.AffectCallback())
    assert model.num_timesteps == 64 and env.signals.core.spec.discount == model.gamma


def test_an_environment_of_gymnax():
    gymnax = pytest.importorskip("gymnax")
    task, params = gymnax.make("CartPole-v1")
    play = partial(rollout, params=params, key=jax.random.PRNGKey(0), num_envs=4, steps=64)
    _, plain = play(task)
    silent = AffectEnv(task, Blend(**LEARNING), params, num_envs=4, gamma=GAMMA, paid="info")
    _, wrapped = play(silent)
    jax.tree.map(same, plain[:5], wrapped[:5])
    env = AffectEnv(task, Blend(**LEARNING), params, num_envs=4, gamma=GAMMA, learn_every=32)
    state, (*_, reward, flags, info) = play(env)
    assert np.isfinite(reward).all() and (info["affect"]["novelty"] > 0).all()
    assert env.head(state, "fear").sign == 0 and any(np.asarray(flag).any() for flag in flags)


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_rejax_trains_on_signals(name):
    rejax = pytest.importorskip("rejax")
    gymnax = pytest.importorskip("gymnax")
    task, params = gymnax.make("CartPole-v1")

    def task_return(algorithm, state, key):
        from rejax.evaluate import evaluate

        return evaluate(algorithm.make_act(state), key, task, params, 4, 50)

    def trained(env):
        algorithm = rejax.get_algo(name).create(
            env=env, env_params=params, num_envs=4, total_timesteps=512, eval_freq=512
        )
        algorithm = algorithm.replace(eval_callback=task_return)
        return jax.jit(jax.vmap(algorithm.train))(jax.random.split(jax.random.PRNGKey(0), 2))

    blend = Blend(**LEARNING)
    silent = AffectEnv(task, blend, params, num_envs=4, gamma=0.99, paid="info")
    jax.tree.map(same, trained(task)[1], trained(silent)[1])
    env = AffectEnv(task, blend, params, num_envs=4, gamma=0.99, learn_every=64)
    state, (lengths, _) = trained(env)
    assert jnp.isfinite(lengths).all()
    one = env.head(jax.tree.map(lambda leaf: leaf[0], state.env_state), "fear")
    assert np.isfinite(one.inner.predictor.out.bias[...]).all()


def test_a_dataset_of_minari(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    gymnasium = pytest.importorskip("gymnasium")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = minari.DataCollector(gymnasium.make("CartPole-v1"))
    for seed in range(3):
        env.reset(seed=seed)
        ended = False
        while not ended:
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            ended = terminated or truncated
    data = env.create_dataset("cartpole/random-v0")
    batch = transitions_from(data)
    assert batch.obs.shape[1:] == (1, 4) and int(batch.first.sum()) == 3
    assert int(batch.terminated.sum()) == 3 and not batch.truncated.any()
    same(transitions_from("cartpole/random-v0").obs, batch.obs)
    blend = Blend(fear=(1.0, Fear))
    state = blend.init(jax.random.key(0), Spec(4, 2), 1)
    assert np.isfinite(blend.update(state, batch)[2]["fear/error"])
