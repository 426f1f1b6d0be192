"""A host-stepped arm: exact after any interruption, scored as a plain loop would score it."""

import os
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Spec, Transition
from envs.channel import Channel
from envs.host import suite as host
from envs.host.episode_log import episode_seed
from envs.host.pool import HostFailure, HostPool, HostStep
from envs.world import World
from runs.cli.interrupt import Interrupted
from runs.engine import host_backend
from runs.engine.arm_runner import one_seed
from runs.engine.checkpoint import Checkpoints
from runs.engine.evaluate import REPORTED_SCORES
from runs.engine.host_backend import (
    HostBackend,
    choose_actions,
    observe_reset,
    observe_step,
    update_seed,
)
from runs.engine.train import Learner, TrainConfig, zero_stats
from tests.runs import small_study

over_seeds = pytest.fixture(scope="module", autouse=True)(small_study.without_key_check)
AGENT = small_study.replace(small_study.CONFIG.agent, normalise=True)
CONFIG = small_study.replace(small_study.CONFIG, agent=AGENT, updates=1)
STRANGE = "tests.envs.unusual_envs:Strange/Faulty-v0"


def of(id: str, *shifts: str, arm="fear", run_config=CONFIG) -> HostBackend:
    """A trainer in a gymnasium environment, under some of its shifts at full severity."""
    suite = host.host_suite(id)
    chosen = tuple(shift for shift in suite.shifts if shift.name in shifts)
    suite = small_study.replace(suite, shifts=chosen, severities=(1.0,))
    return HostBackend(suite, small_study.ARMS[arm], run_config)


@pytest.fixture(scope="module")
def cartpole():
    trainer = of("CartPole-v1", "force", "noise")
    yield trainer
    trainer.close()


@pytest.fixture(scope="module")
def strange():
    """An environment that does wrong what the process's variables say when it is made."""
    trainer = of(STRANGE, arm="none")
    yield trainer
    trainer.close()


def afresh(trainer: HostBackend) -> HostBackend:
    """The same with environments that are made anew."""
    trainer.close()
    trainer.pool = trainer._open(trainer.suite.world, CONFIG.rows * CONFIG.num_envs, CONFIG.base)
    return trainer


@pytest.fixture(scope="module")
def whole(cartpole, tmp_path_factory):
    """The folder of a study that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    rows, _ = small_study.run(cartpole, out)
    assert len(rows) == 3 * CONFIG.seeds
    return out


# --- interruption -----------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [2])
def test_stopped_and_gone_on_with_is_uninterrupted(cartpole, whole, chunks, tmp_path):
    with pytest.raises(Interrupted):
        small_study.run(cartpole, tmp_path, stop_at=chunks)
    small_study.run(cartpole, tmp_path)
    small_study.assert_same_study(cartpole, whole, tmp_path)


def test_a_new_process_goes_on_inside_an_episode(cartpole, whole, tmp_path):
    with pytest.raises(Interrupted):
        small_study.run(cartpole, tmp_path, stop_at=3)
    _, (run, _) = small_study.final(cartpole, tmp_path)
    assert run.pool["length"].max() > 0
    other = of("CartPole-v1", "force", "noise")
    try:
        small_study.run(other, tmp_path)
    finally:
        other.close()
    small_study.assert_same_study(cartpole, whole, tmp_path)


@pytest.mark.parametrize("calls", [CONFIG.num_steps + 5])
def test_a_stop_is_heard_at_every_step(cartpole, whole, calls, tmp_path, monkeypatch):
    heard = []

    def stopped(watch):
        heard.append(watch)
        return len(heard) == calls

    monkeypatch.setattr(small_study.Watch, "stopped", stopped)
    with pytest.raises(Interrupted):
        small_study.run(cartpole, tmp_path)
    assert small_study.final(cartpole, tmp_path)[0] == 1  # in the middle of the second chunk
    small_study.run(cartpole, tmp_path)
    small_study.assert_same_study(cartpole, whole, tmp_path)


def test_killed_and_gone_on_with_is_uninterrupted(cartpole, whole, tmp_path):
    with pytest.raises(small_study.Killed):
        small_study.run(cartpole, tmp_path, kill_at=3)
    with pytest.raises(small_study.Killed):
        small_study.run(cartpole, tmp_path, kill_at=CONFIG.chunks + 2)
    small_study.run(cartpole, tmp_path)
    small_study.assert_same_study(cartpole, whole, tmp_path)


# --- scores -----------------------------------------------------------------------------------


def play(trainer: HostBackend, agent, world: World, episode: int) -> tuple[float, int, bool]:
    """One episode in a plain gymnasium loop -> (return, length, terminated)."""
    env = trainer.host.maker(world)()
    act = jax.jit(partial(trainer.run_config.agent.act, agent, None))
    obs, _ = env.reset(seed=episode_seed(trainer.run_config.base + 2, episode, 0))
    total, length, terminated, truncated = 0.0, 0, False, False
    while not (terminated or truncated):
        obs, reward, terminated, truncated, _ = env.step(np.asarray(act(obs)))
        total, length = total + reward, length + 1
    env.close()
    return total, length, terminated


@pytest.mark.parametrize(
    ("id", "shift", "begin"), [("CartPole-v1", "force", 0), ("Pendulum-v1", "gravity", 1)]
)
def test_scores_are_those_of_a_plain_loop(id, shift, begin):
    trainer = of(id, shift)
    run = trainer.start()
    for _ in range(3):
        run, _, _ = trainer.chunk(run, lambda: False)
    points = dict(trainer.score(run, begin, lambda: False))
    shift, home = trainer.suite.shifts[0], trainer.suite.world
    worlds = [home, shift(home, 1.0, jax.random.key(0))][begin:]
    for scores, world in zip(points.values(), worlds, strict=True):
        for seed in range(CONFIG.seeds):
            agent = jax.tree.map(lambda leaf, s=seed: leaf[s], run.learner.agent)
            played = [play(trainer, agent, world, episode) for episode in range(CONFIG.episodes)]
            total, length, terminated = np.mean(played, 0)
            assert scores["return"][seed] == pytest.approx(total, rel=1e-4)
            assert scores["length"][seed] == length
            assert scores["terminated"][seed] == terminated
            assert scores["truncated"][seed] == 1 - terminated
            harm = terminated if trainer.host.harmful else np.nan
            told = [scores[name][seed] for name in REPORTED_SCORES]
            np.testing.assert_array_equal(told, [harm, np.nan, np.nan])
    trainer.close()


def test_what_is_paid_beyond_an_episode_is_nobodys(strange, monkeypatch):
    """Beside a longer one an environment goes on with its next episode, which does not count."""
    run = afresh(strange).start()

    def returns(stream, episode):
        monkeypatch.setenv("RICH", str(episode_seed(CONFIG.base + 2, stream, episode)))
        _, scores = next(afresh(strange).score(run, 0, lambda: False))
        return scores["return"].tolist()

    finite = returns(99, 0)
    assert np.isfinite(finite).all()
    assert returns(0, 1) == finite
    assert np.isinf(returns(1, 0)).all()


def test_success_is_reaching_the_declared_threshold():
    total = np.array([[475.0, 474.9], [500.0, np.nan]])
    cartpole, pendulum = host.host_suite("CartPole-v1").env, host.host_suite("Pendulum-v1").env
    assert cartpole.success(total, None).tolist() == [[True, False], [True, False]]
    assert np.isnan(pendulum.success(total, None)).all()


# --- the channel of a host environment --------------------------------------------------------

B, T = 64, 40
HOST = host.HostEnv("Fake-v0", Spec(obs_dim=2, num_actions=2), 100, (1.0, 10.0), False, None)


class Told(NamedTuple):
    """An agent that chooses what its state says."""

    def act(self, state, key, obs):
        return state


class Lived(NamedTuple):
    """A stretch of life, arrays [T, B, ...]."""

    chosen: np.ndarray
    taken: np.ndarray
    seen: Transition


def live(channel: Channel, ends=(), actions=None, spec=HOST.spec, reward=1.0) -> Lived:
    """Steps B environments in which nothing happens: obs are (t, 0), and the given steps end."""
    host = small_study.replace(HOST, spec=spec)
    actions = np.arange(T) % 3 % 2 if actions is None else actions  # [T] or [T, A]
    actions = np.repeat(actions[:, None], B, axis=1)
    key = jax.random.key(0)
    obs = [np.tile(np.float32([t, 0]), (B, 1)) for t in range(T + 1)]
    turn = jax.jit(partial(choose_actions, Told(), host, greedy=True))
    listen = jax.jit(partial(observe_step, host))
    host_obs, rows = observe_reset(host, key, jnp.asarray(obs[0]), channel), []
    for t in range(T):
        learner = Learner(jnp.asarray(actions[t]), ())
        chosen, taken, host_obs = turn(key, learner, host_obs, channel, t)
        terminated = np.full(B, t in ends)
        paid, truncated = np.full(B, reward, np.float32), np.zeros(B, bool)
        told = HostStep(obs[t + 1], obs[t + 1], paid, terminated, truncated, {})
        host_obs, seen = listen(key, host_obs, chosen, told, channel, t)
        rows.append(Lived(chosen, taken, seen))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def test_a_channel_at_rest_changes_nothing():
    lived = live(Channel(), ends=(10,))
    assert (lived.taken == lived.chosen).all()
    assert (lived.seen.obs[:, :, 0] == np.arange(T)[:, None]).all()
    assert (lived.seen.next_obs[:, :, 0] == 1 + np.arange(T)[:, None]).all()
    assert lived.seen.first[:, 0].nonzero()[0].tolist() == [0, 11]
    assert (lived.seen.reward == 1).all()


def test_noise_is_in_units_of_the_observation():
    lived = live(Channel(noise=0.2))
    wrong = lived.seen.obs - np.stack([np.arange(T), np.zeros(T)], -1)[:, None]
    assert wrong[..., 0].std() == pytest.approx(0.2, rel=0.05)
    assert wrong[..., 1].std() == pytest.approx(2.0, rel=0.05)
    assert abs(np.corrcoef(wrong[:-1, :, 0].ravel(), wrong[1:, :, 0].ravel())[0, 1]) < 0.06
    # What was seen after a step is what is acted on next.
    assert (lived.seen.next_obs[:-1] == lived.seen.obs[1:]).all()


def test_a_lost_frame_is_the_last_one_seen_again():
    frames = live(Channel(dropout=0.6)).seen.next_obs[..., 0]
    now = np.repeat(np.arange(1, T + 1)[:, None], B, axis=1)
    again = frames[1:] == frames[:-1]
    assert again.mean() == pytest.approx(0.6, abs=0.03)
    assert (frames[1:][~again] == now[1:][~again]).all()


def test_actions_are_flipped_at_the_rate():
    lived = live(Channel(flip=0.5))
    assert (lived.taken != lived.chosen).mean() == pytest.approx(0.25, abs=0.03)
    assert (lived.seen.action == lived.chosen).all()  # the learner knows what it chose


@pytest.mark.parametrize("delay", [1, 3])
def test_actions_come_late_and_not_from_the_episode_before(delay):
    actions = np.random.default_rng(0).integers(0, 2, T)
    taken = live(Channel(delay=float(delay)), ends=(19,), actions=actions).taken
    for begin, end in ((0, 20), (20, T)):
        mine = actions[begin:end]
        late = np.concatenate([[mine[0]] * delay, mine[:-delay]])
        assert (taken[begin:end] == late[:, None]).all()


def test_continuous_actions_slip_and_stay_in_their_box():
    spec = Spec(obs_dim=2, action_dim=1)
    still = np.zeros((T, 1), np.float32)
    lived = live(Channel(action_noise=0.1), actions=still, spec=spec)
    assert lived.taken.std() == pytest.approx(0.1, rel=0.1)
    wild = still + np.float32(np.nan)
    assert (np.abs(live(Channel(action_noise=9.0), actions=wild, spec=spec).taken) <= 1).all()


def test_reward_noise_is_the_learners_alone():
    paid = live(Channel(reward_noise=0.5), reward=2.0).seen.reward
    assert paid.mean() == pytest.approx(2.0, abs=0.05)
    assert paid.std() == pytest.approx(0.5, rel=0.1)


class Numb(NamedTuple):
    """An agent that shows the key it learns with."""

    def update(self, state, key, batch, signals):
        return state, {"key": jax.random.key_data(key), "loss": jnp.zeros(())}


def test_no_number_is_drawn_twice():
    lived = live(Channel())
    key, steps = jax.random.key(5), lived.seen.reward.shape[0]
    learner = Learner((), Blend().init(jax.random.key(0), HOST.spec, B))
    config = TrainConfig(Numb(), Blend(), B, steps)
    with jax.debug_key_reuse(True):
        _, _, after, metrics, _, _ = update_seed(
            config, HOST, learner, zero_stats(B), lived.seen, key
        )
    used = [jax.random.fold_in(key, i) for i in range(2 * steps)]
    used += [k for now in used for k in jax.random.split(now, B)]
    bits = {np.asarray(jax.random.key_data(k)).tobytes() for k in used}
    ours = {np.asarray(metrics["key"]).tobytes(), np.asarray(jax.random.key_data(after)).tobytes()}
    assert len(bits) == len(used)
    assert len(ours) == 2
    assert not bits & ours


# --- what goes wrong --------------------------------------------------------------------------


def test_a_reward_without_end_stops_its_seed_alone(strange, tmp_path, monkeypatch):
    finite, _ = small_study.run(afresh(strange), tmp_path / "sound")
    # The second environment of the second seed pays without end in its very first episode.
    monkeypatch.setenv("RICH", str(episode_seed(CONFIG.base, 1 * CONFIG.num_envs + 1, 0)))
    rows, watch = small_study.run(afresh(strange), tmp_path / "rich")
    [said] = watch.said
    assert said.startswith(f"{STRANGE}, arm none, seed 1: the environment made something")
    assert f"by step {CONFIG.num_envs * CONFIG.num_steps};" in said
    assert list(map(str, rows)) == [str(row) for row in finite if row["seed"] == 0]
    one, other = (small_study.metrics(tmp_path / name) for name in ("sound", "rich"))
    for mine, theirs in zip(one, other, strict=True):
        assert {k: [v[0], None] for k, v in mine["metrics"].items()} == theirs["metrics"]


def test_the_environments_of_a_stopped_seed_can_be_played_again(cartpole, tmp_path):
    run = cartpole.start()
    for _ in range(2):
        run, _, _ = cartpole.chunk(run, lambda: False)
    kept = Checkpoints(tmp_path)
    kept.save(2, one_seed(run, 1, CONFIG.num_envs))
    _, own = kept.restore(one_seed(cartpole.start(), 1, CONFIG.num_envs))
    streams = range(CONFIG.num_envs, 2 * CONFIG.num_envs)
    make = cartpole.host.maker(cartpole.suite.world)
    with HostPool(
        make, CONFIG.num_envs, CONFIG.base, name="again", workers=0, streams=streams
    ) as pool:
        obs = pool.restore({name: np.asarray(leaf) for name, leaf in own.pool.items()})
    assert (obs == np.asarray(run.host_obs.obs)[1]).all()


@pytest.mark.parametrize("fault", ["raise", "exit", "hang"])
def test_a_host_that_fails_for_good_is_named_after_a_checkpoint(
    fault, strange, tmp_path, monkeypatch
):
    monkeypatch.setattr(host_backend, "HostPool", partial(HostPool, timeout=0.5))
    monkeypatch.setenv("FAULT", fault)
    with pytest.raises(HostFailure) as caught:
        small_study.run(afresh(strange), tmp_path)
    said = {"raise": "raised ZeroDivisionError", "exit": "died with", "hang": "gave no answer"}
    message = str(caught.value)
    assert message.startswith(f"{STRANGE}: environment ")
    assert "\n" not in message
    assert f"{said[fault]}" in message
    assert "3 times in a row" in message
    monkeypatch.undo()
    rows, _ = small_study.run(afresh(strange), tmp_path)  # once it is mended
    assert len(rows) == CONFIG.seeds


@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_a_fault_that_passes_changes_nothing(fault, strange, tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    marker.touch()  # as if it had happened
    monkeypatch.setenv("MARKER", str(marker))
    monkeypatch.setenv("FAULT", fault)
    small_study.run(afresh(strange), tmp_path / "sound")
    assert strange.pool.recoveries == 0
    marker.unlink()
    small_study.run(strange, tmp_path / "once")
    assert strange.pool.recoveries == 1
    small_study.assert_same_study(strange, tmp_path / "sound", tmp_path / "once")


def test_no_worker_outlives_its_arm():
    trainer = of("CartPole-v1", "force")
    pids = [shard.pid for shard in trainer.pool._shards]
    trainer.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_film_has_its_signals(cartpole):
    frames, signals = cartpole.film(cartpole.start())
    assert frames.dtype == np.uint8
    assert set(signals) == {"fear"}
    assert signals["fear"].shape == frames.shape[:1]
    assert np.isfinite(signals["fear"]).all()


def test_a_timeline_has_what_heads_and_critic_say_under_a_shift(cartpole):
    last = len(cartpole.suite.points()) - 1
    episode = cartpole.timeline(cartpole.start(), last)
    assert set(episode.signals) == {"fear", "critic"}
    assert {len(values) for values in episode.signals.values()} == {len(episode.frames)}
    assert episode.ended == "failure" and 0 <= episode.blunder < len(episode.frames) - 1
