"""Host backend: exact resumption, scores of a plain loop, channel effects and failures."""

import os
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Spec, Transition
from envs import load_suite
from envs.channel import Channel
from envs.host import suite as host
from envs.host.episode_log import episode_seed
from envs.host.fault import HostFailure
from envs.host.pool import HostPool, HostStep
from envs.shift import with_channel
from envs.world import World
from runs.engine import host_backend
from runs.engine.checkpoint import Checkpoints
from runs.engine.host_step import choose_actions, observe_reset, observe_step
from runs.engine.phases import TASK, world_pool
from runs.engine.seeds import Stream, stream_key, stream_keys, stream_seed
from runs.engine.train import Learner, TrainConfig, zero_stats
from runs.engine.training_loop import run_phase
from runs.errors import Interrupted, UserError
from runs.names import REPORTED_SCORES
from tests.envs.strange import Clock
from tests.runs import small_study
from tests.tiers import slow

no_key_check = pytest.fixture(scope="module", autouse=True)(small_study.without_key_check)
AGENT = small_study.replace(small_study.CONFIG.agent, normalise=True)
CONFIG = small_study.replace(small_study.CONFIG, agent=AGENT, updates=1)
EVALUATION_SEED = stream_seed(CONFIG.base, Stream.EVALUATION)
STRANGE = "tests.envs.unusual_envs:Strange/Faulty-v0"


def make_study(id: str, *shifts: str, arm="fear", workers=None) -> small_study.Study:
    """Make the study of a gymnasium environment with some of its shifts at full severity."""
    suite = host.host_suite(id, workers=workers)
    chosen = tuple(shift for shift in suite.shifts if shift.name in shifts)
    suite = small_study.replace(suite, shifts=chosen, severities=(1.0,))
    return small_study.make_study(small_study.ARMS[arm], CONFIG, suite)


def never_stop() -> bool:
    return False


def train(study: small_study.Study, chunks: int):
    """Initial state after some chunks of training."""
    state = study.backend.init(study.phase)
    for i in range(chunks):
        state, _, _ = study.backend.train(state, study.phase, i, never_stop)
    return state


@pytest.fixture(scope="module")
def cartpole():
    study = make_study("CartPole-v1", "force", "noise")
    yield study
    study.backend.close()


@pytest.fixture(scope="module")
def strange():
    """Study whose environments read their fault from environment variables when created."""
    study = make_study(STRANGE, arm="none")
    yield study
    study.backend.close()


def with_new_pool(study: small_study.Study) -> small_study.Study:
    """End the worker processes of a study, so that its environments are created anew."""
    study.backend.close()
    return study


@pytest.fixture(scope="module")
def uninterrupted(cartpole, tmp_path_factory):
    """Folder of an uninterrupted study."""
    out = tmp_path_factory.mktemp("uninterrupted")
    rows, _ = small_study.run(cartpole, out)
    assert len(rows) == 3 * CONFIG.seeds
    return out


# --- interruption -----------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [2])
def test_study_stopped_and_resumed_equals_an_uninterrupted_one(
    cartpole, uninterrupted, chunks, tmp_path
):
    with pytest.raises(Interrupted):
        small_study.run(cartpole, tmp_path, stop_at=chunks)
    small_study.run(cartpole, tmp_path)
    small_study.assert_same_files(uninterrupted, tmp_path)


@pytest.mark.slow
def test_new_backend_resumes_inside_an_episode_in_worker_processes(
    cartpole, uninterrupted, tmp_path
):
    with pytest.raises(Interrupted):
        small_study.run(cartpole, tmp_path, stop_at=3)
    _, (run, _) = small_study.final(cartpole, tmp_path)
    assert run.pool["length"].max() > 0
    assert "in this process" in cartpole.backend.stepping
    other = make_study("CartPole-v1", "force", "noise", workers=2)
    assert "in 2 worker processes" in other.backend.stepping
    try:
        small_study.run(other, tmp_path)
    finally:
        other.backend.close()
    small_study.assert_same_files(uninterrupted, tmp_path)


@pytest.mark.parametrize("calls", [CONFIG.num_steps + 5])
def test_stop_is_polled_at_every_step(cartpole, uninterrupted, calls, tmp_path, monkeypatch):
    polls = []

    def stopped(watch):
        polls.append(watch)
        return len(polls) == calls

    monkeypatch.setattr(small_study.Watch, "stopped", stopped)
    with pytest.raises(Interrupted):
        small_study.run(cartpole, tmp_path)
    assert small_study.final(cartpole, tmp_path)[0] == 1  # in the middle of the second chunk
    small_study.run(cartpole, tmp_path)
    small_study.assert_same_files(uninterrupted, tmp_path)


def test_study_killed_and_resumed_equals_an_uninterrupted_one(cartpole, uninterrupted, tmp_path):
    with pytest.raises(small_study.Killed):
        small_study.run(cartpole, tmp_path, kill_at=3)
    with pytest.raises(small_study.Killed):
        small_study.run(cartpole, tmp_path, kill_at=CONFIG.chunks + 2)
    small_study.run(cartpole, tmp_path)
    small_study.assert_same_files(uninterrupted, tmp_path)


# --- scores -----------------------------------------------------------------------------------


def play_episode(
    study: small_study.Study, agent, world: World, episode: int
) -> tuple[float, int, bool]:
    """Run one episode in a plain gymnasium loop -> (return, length, terminated)."""
    env = study.suite.env.maker(world)()
    act = jax.jit(partial(CONFIG.agent.act, agent, None))
    obs, _ = env.reset(seed=episode_seed(EVALUATION_SEED, episode, 0))
    total, length, terminated, truncated = 0.0, 0, False, False
    while not (terminated or truncated):
        obs, reward, terminated, truncated, _ = env.step(np.asarray(act(obs)))
        total, length = total + reward, length + 1
    env.close()
    return total, length, terminated


@pytest.mark.parametrize(
    ("id", "shift", "begin"),
    [
        ("CartPole-v1", "force", 0),
        pytest.param("Pendulum-v1", "gravity", 1, marks=pytest.mark.slow),
    ],
)
def test_scores_are_those_of_a_plain_loop(id, shift, begin):
    study = make_study(id, shift)
    learner = train(study, 3).learner
    scored = list(study.backend.evaluate(learner, CONFIG.agent, study.points, never_stop, begin))
    shift, home = study.suite.shifts[0], study.suite.world
    worlds = [home, shift(home, 1.0, jax.random.key(0))][begin:]
    for scores, world in zip(scored, worlds, strict=True):
        for seed in range(CONFIG.seeds):
            agent = jax.tree.map(lambda leaf, s=seed: leaf[s], learner.agent)
            episodes = [
                play_episode(study, agent, world, episode) for episode in range(CONFIG.episodes)
            ]
            total, length, terminated = np.mean(episodes, 0)
            assert scores["return"][seed] == pytest.approx(total, rel=1e-4)
            assert scores["length"][seed] == length
            assert scores["terminated"][seed] == terminated
            assert scores["truncated"][seed] == 1 - terminated
            harm = terminated if study.suite.env.harmful else np.nan
            reported = [scores[name][seed] for name in REPORTED_SCORES]
            np.testing.assert_array_equal(reported, [harm, np.nan, np.nan])
    study.backend.close()


@pytest.mark.slow
def test_points_side_by_side_have_the_scores_of_each_alone(monkeypatch):
    study = make_study("CartPole-v1", "noise", "dropout", "flip")
    learner = train(study, 2).learner
    inputs = learner, CONFIG.agent, study.points, never_stop
    groups = host_backend.point_groups(study.backend._worlds(study.points), 9)
    assert [len(group) for group in groups] == [1, 3]
    together, rest = list(study.backend.evaluate(*inputs)), study.backend.evaluate(*inputs, 2)
    np.testing.assert_equal(list(rest), together[2:])
    monkeypatch.setattr(host_backend, "GROUPED_ENVS", 0)
    alone = list(study.backend.evaluate(*inputs))
    study.backend.close()
    np.testing.assert_equal(together, alone)
    assert len({scores["return"].tobytes() for scores in together}) == 4


@pytest.mark.slow
def test_rewards_after_the_scored_episode_do_not_count(strange, monkeypatch):
    """An environment that finishes before the others starts a next episode, which is not scored."""
    learner = train(with_new_pool(strange), 0).learner

    def returns(stream, episode):
        monkeypatch.setenv("RICH", f"{episode_seed(EVALUATION_SEED, stream, episode)} 1e9")
        backend = with_new_pool(strange).backend
        scores = next(backend.evaluate(learner, CONFIG.agent, strange.points, never_stop))
        return scores["return"].tolist()

    usual = returns(99, 0)
    assert max(usual) < 1e6
    assert returns(0, 1) == usual
    assert min(returns(1, 0)) > 1e6


def test_success_is_a_return_at_or_above_the_reward_threshold():
    total = np.array([[475.0, 474.9], [500.0, np.nan]])
    ids = "CartPole-v1", "Pendulum-v1"
    cartpole, pendulum = (host.host_suite(id, workers=0).env for id in ids)
    assert cartpole.success(total, None).tolist() == [[True, False], [True, False]]
    assert np.isnan(pendulum.success(total, None)).all()


# --- the channel of a host environment --------------------------------------------------------

B, T = 64, 40
HOST = host.HostEnv("Fake-v0", Spec(obs_dim=2, num_actions=2), 100, (1.0, 10.0), False, None)


class FixedActions(NamedTuple):
    """Agent whose state is the action it takes."""

    def act(self, state, key, obs):
        return state


class Rollout(NamedTuple):
    """Steps of B environments, arrays [T, B, ...]."""

    chosen: np.ndarray
    taken: np.ndarray
    transition: Transition


def simulate_channel(
    channel: Channel, ends=(), actions=None, spec=HOST.spec, reward=1.0
) -> Rollout:
    """Step B dummy environments with observations (t, 0) that terminate at the steps `ends`."""
    host = small_study.replace(HOST, spec=spec)
    actions = np.arange(T) % 3 % 2 if actions is None else actions  # [T] or [T, A]
    actions = np.repeat(actions[:, None], B, axis=1)
    key = jax.random.key(0)
    obs = [np.tile(np.float32([t, 0]), (B, 1)) for t in range(T + 1)]
    choose = jax.jit(partial(choose_actions, FixedActions(), host, greedy=True))
    observe = jax.jit(partial(observe_step, host))
    host_obs, rows = observe_reset(host, key, jnp.asarray(obs[0]), channel), []
    for t in range(T):
        learner = Learner(jnp.asarray(actions[t]), ())
        chosen, taken, host_obs = choose(key, learner, host_obs, channel, t)
        terminated = np.full(B, t in ends)
        rewards, truncated = np.full(B, reward, np.float32), np.zeros(B, bool)
        host_step = HostStep(obs[t + 1], obs[t + 1], rewards, terminated, truncated, {})
        host_obs, transition = observe(key, host_obs, chosen, host_step, channel, t)
        rows.append(Rollout(chosen, taken, transition))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def test_default_channel_changes_nothing():
    rollout = simulate_channel(Channel(), ends=(10,))
    assert (rollout.taken == rollout.chosen).all()
    assert (rollout.transition.obs[:, :, 0] == np.arange(T)[:, None]).all()
    assert (rollout.transition.next_obs[:, :, 0] == 1 + np.arange(T)[:, None]).all()
    assert rollout.transition.first[:, 0].nonzero()[0].tolist() == [0, 11]
    assert (rollout.transition.reward == 1).all()


@pytest.mark.slow
def test_observation_noise_is_in_units_of_the_observation_scale():
    rollout = simulate_channel(Channel(noise=0.2))
    errors = rollout.transition.obs - np.stack([np.arange(T), np.zeros(T)], -1)[:, None]
    assert errors[..., 0].std() == pytest.approx(0.2, rel=0.05)
    assert errors[..., 1].std() == pytest.approx(2.0, rel=0.05)
    assert abs(np.corrcoef(errors[:-1, :, 0].ravel(), errors[1:, :, 0].ravel())[0, 1]) < 0.06
    # The observation after a step is the one before the next step.
    assert (rollout.transition.next_obs[:-1] == rollout.transition.obs[1:]).all()


def test_dropout_repeats_the_last_observation():
    frames = simulate_channel(Channel(dropout=0.6)).transition.next_obs[..., 0]
    current = np.repeat(np.arange(1, T + 1)[:, None], B, axis=1)
    repeated = frames[1:] == frames[:-1]
    assert repeated.mean() == pytest.approx(0.6, abs=0.03)
    assert (frames[1:][~repeated] == current[1:][~repeated]).all()


def test_actions_are_replaced_by_random_ones_at_the_rate_of_the_channel():
    rollout = simulate_channel(Channel(flip=0.5))
    assert (rollout.taken != rollout.chosen).mean() == pytest.approx(0.25, abs=0.03)
    # the learner gets the chosen action, not the executed one
    assert (rollout.transition.action == rollout.chosen).all()


@pytest.mark.parametrize("delay", [1, 3])
def test_delayed_actions_do_not_come_from_the_previous_episode(delay):
    actions = np.random.default_rng(0).integers(0, 2, T)
    taken = simulate_channel(Channel(delay=float(delay)), ends=(19,), actions=actions).taken
    for begin, end in ((0, 20), (20, T)):
        chosen = actions[begin:end]
        delayed = np.concatenate([[chosen[0]] * delay, chosen[:-delay]])
        assert (taken[begin:end] == delayed[:, None]).all()


@pytest.mark.slow
def test_action_noise_stays_in_the_action_space():
    spec = Spec(obs_dim=2, action_dim=1)
    zeros = np.zeros((T, 1), np.float32)
    rollout = simulate_channel(Channel(action_noise=0.1), actions=zeros, spec=spec)
    assert rollout.taken.std() == pytest.approx(0.1, rel=0.1)
    nans = zeros + np.float32(np.nan)
    assert (
        np.abs(simulate_channel(Channel(action_noise=9.0), actions=nans, spec=spec).taken) <= 1
    ).all()


def test_reward_noise_reaches_the_learner():
    rewards = simulate_channel(Channel(reward_noise=0.5), reward=2.0).transition.reward
    assert rewards.mean() == pytest.approx(2.0, abs=0.05)
    assert rewards.std() == pytest.approx(0.5, rel=0.1)


class KeyReportingAgent(NamedTuple):
    """Agent that returns the key of its update as a metric."""

    def update(self, state, key, batch, signals):
        return state, {"key": jax.random.key_data(key), "loss": jnp.zeros(())}


def test_no_random_key_is_used_twice():
    rollout = simulate_channel(Channel())
    key, steps = jax.random.key(5), rollout.transition.reward.shape[0]
    learner = Learner((), Blend().init(jax.random.key(0), HOST.spec, B))
    config = TrainConfig(KeyReportingAgent(), Blend(), B, steps)
    with jax.debug_key_reuse(True):
        inputs = learner, zero_stats(B), rollout.transition, key, (), TASK
        _, _, after, metrics, _, _ = host_backend._update(*inputs, config=config, env=HOST)
    used_keys = [
        jax.random.fold_in(stream_key(key, stream), time)
        for stream in (Stream.ACTION, Stream.STEP)
        for time in range(steps)
    ]
    used_keys += [k for step_key in used_keys for k in jax.random.split(step_key, B)]
    bits = {np.asarray(jax.random.key_data(k)).tobytes() for k in used_keys}
    other_bits = {
        np.asarray(metrics["key"]).tobytes(),
        np.asarray(jax.random.key_data(after)).tobytes(),
    }
    assert len(bits) == len(used_keys)
    assert len(other_bits) == 2
    assert not bits & other_bits


@pytest.mark.slow
def test_episode_longer_than_its_buffer_of_actions_is_resumed(strange, tmp_path, monkeypatch):
    """As those of environments without a limit become; the checkpoint then holds more actions."""
    monkeypatch.setattr("envs.host.action_buffer.FEW", 4)
    monkeypatch.setattr("envs.host.action_buffer.LONGEST", 1)
    study, trained = with_new_pool(strange), []
    for updates in (3, 4, 4):
        phase = small_study.replace(study.phase, chunks=updates)
        inputs = study.backend, phase, partial(study.backend.init, phase), never_stop
        trained.append(run_phase(*inputs, Checkpoints(tmp_path)))
        with_new_pool(study)
    lengths = [run.state.pool["actions"].shape[1] for run in trained]
    assert lengths[0] > 4
    assert small_study.bits(trained[1].state.learner) == small_study.bits(trained[2].state.learner)


@pytest.mark.slow
def test_environments_that_are_not_reproducible_are_resumed_with_new_episodes(tmp_path):
    suite = load_suite(Clock, [], reproducible=False)
    suite = small_study.replace(suite, env=small_study.replace(suite.env, workers=0))
    study = small_study.make_study(small_study.ARMS["none"], CONFIG, suite)
    state = train(study, 1)
    with_new_pool(study)
    batch = study.backend.record_batches(state, study.phase, 1, never_stop)
    study.backend.close()
    first = jax.tree.map(lambda leaf: leaf[:, 0, 0], batch)  # the first step after it was resumed
    assert first.first.all()
    assert (first.obs == 0).all() and (first.next_obs[..., 0] == np.float32(1 / 7)).all()


# --- failures ---------------------------------------------------------------------------------


def test_infinite_reward_stops_the_study_where_it_enters(tmp_path, monkeypatch):
    # The second environment of the second seed gives an infinite reward in its first episode.
    training = stream_seed(stream_keys(CONFIG, Stream.TRAINING)[0], Stream.HOST_EPISODES)
    index = 1 * CONFIG.num_envs + 1
    seed = episode_seed(training, index, 0)
    monkeypatch.setenv("RICH", f"{seed} inf")
    place = rf"environment {index} \(episode seed {seed}, step 2\) returned reward inf, expected a"
    with pytest.raises(HostFailure, match=place):
        small_study.run(make_study(STRANGE, arm="none", workers=0), tmp_path)


@pytest.mark.slow
def test_environments_of_one_seed_are_restored_from_its_state(cartpole, tmp_path):
    state = train(cartpole, 2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, state.one_seed(1))
    _, seed_state = checkpoints.restore(train(cartpole, 0).one_seed(1))
    streams = range(CONFIG.num_envs, 2 * CONFIG.num_envs)
    make = cartpole.suite.env.maker(cartpole.suite.world)
    options = {"name": "restored", "workers": 0, "streams": streams}
    with HostPool(make, CONFIG.num_envs, int(state.seed), **options) as pool:
        obs = pool.restore({name: np.asarray(leaf) for name, leaf in seed_state.pool.items()})
    assert (obs == np.asarray(state.host_obs.obs)[1]).all()


def test_an_earlier_state_continues_as_it_did_before(cartpole):
    """A state that is not the last one is continued by replaying its episodes under way."""
    early = train(cartpole, 1)
    first, *_ = cartpole.backend.train(early, cartpole.phase, 1, never_stop)
    again, *_ = cartpole.backend.train(early, cartpole.phase, 1, never_stop)
    assert small_study.bits(first.learner) == small_study.bits(again.learner)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["raise", slow("exit"), slow("hang")])
def test_permanently_failing_host_is_named_after_a_checkpoint(
    fault, strange, tmp_path, monkeypatch
):
    monkeypatch.setattr(host_backend, "HostPool", partial(HostPool, timeout=0.5))
    monkeypatch.setenv("FAULT", fault)
    with pytest.raises(HostFailure) as caught:
        small_study.run(with_new_pool(strange), tmp_path)
    causes = {"raise": "raised ZeroDivisionError", "exit": "died with", "hang": "gave no answer"}
    message = str(caught.value)
    assert message.startswith(f"{STRANGE}: environment ")
    assert "\n" not in message
    assert f"{causes[fault]}" in message
    assert "3 times in a row" in message
    monkeypatch.undo()
    rows, _ = small_study.run(with_new_pool(strange), tmp_path)  # without the fault
    assert len(rows) == CONFIG.seeds


@pytest.mark.slow  # by default as of a pool, in `test_host_pool`
@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_transient_fault_changes_nothing(fault, strange, tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    marker.touch()  # as if the fault had happened
    monkeypatch.setenv("MARKER", str(marker))
    monkeypatch.setenv("FAULT", fault)
    small_study.run(with_new_pool(strange), tmp_path / "reference")
    assert strange.backend._pool.recoveries == 0
    marker.unlink()
    small_study.run(strange, tmp_path / "once")
    assert strange.backend._pool.recoveries == 1
    small_study.assert_same_files(tmp_path / "reference", tmp_path / "once")


def test_closing_the_backend_ends_its_workers():
    study = make_study("CartPole-v1", "force", workers=2)
    train(study, 0)
    pids = [shard.pid for shard in study.backend._pool._shards]
    study.backend.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_more_workers_than_environments_are_refused():
    with pytest.raises(UserError, match=r"workers=5: more than the 4 environments .* at most 4"):
        make_study("CartPole-v1", workers=5)


def test_a_shift_that_samples_worlds_is_refused(cartpole):
    worlds = [World({"force": jnp.float32(force)}) for force in (1.0, 2.0)]
    pool = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(with_channel, worlds))
    phase = small_study.replace(cartpole.phase, worlds=world_pool(pool))
    with pytest.raises(UserError, match="samples several worlds, but a host-stepped"):
        cartpole.backend.init(phase)


@pytest.mark.slow
def test_film_has_frames_of_one_episode_under_a_shift(cartpole):
    world = cartpole.suite.shifts[0](cartpole.suite.world, 1.0, jax.random.key(0))
    learner = train(cartpole, 0).learner
    batch, frames = cartpole.backend.film(learner, CONFIG.agent, world, 0)
    assert frames.dtype == np.uint8
    assert batch.reward.shape == (len(frames), CONFIG.num_envs)
    assert bool(batch.terminated[-1, 0])
