"""One arm in a host-stepped environment: only the rollout differs, `update` is the jitted one."""

import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs import channel as senses
from envs.channel import Channel, Memory
from envs.host import Host
from envs.host_pool import HostPool, Step
from envs.shift import sensible
from envs.suite import Point, Suite
from envs.world import World
from runs.harness.arms import Arm
from runs.harness.evaluate import SCORES, reported
from runs.harness.exam import Exam
from runs.harness.plan import Plan
from runs.harness.timeline import Episode, told
from runs.harness.train import (
    Learner,
    Setup,
    Tally,
    count,
    new_learner,
    no_tally,
    over_seeds,
    seed_keys,
    soundness,
    summary,
    update,
)
from runs.harness.watch import Interrupted

FILM = 300  # frames at most


class Ears(NamedTuple):
    """What one seed senses of its B environments: obs [B, D], the channel's memory, first [B]."""

    obs: jax.Array
    memory: Memory
    first: jax.Array


class HostRun(NamedTuple):
    """The training of all seeds. `pool` is where the environments are, to be played again."""

    learner: Learner
    ears: Ears
    tally: Tally
    key: jax.Array
    pool: dict[str, np.ndarray]


class Hosted:
    """Trains and scores S seeds of one arm, all in one pool of S x B environments.

    Args:
        suite: of a `Host`.
        arm: what is trained.
        plan: sizes.
    """

    def __init__(self, suite: Suite, arm: Arm, plan: Plan):
        self.suite, self.arm, self.plan = suite, arm, plan
        self.host: Host = suite.env
        self.setup = setup = Setup(plan.agent, arm.blend, plan.num_envs, plan.num_steps)
        self.channel = sensible(suite.world).channel
        self.turn = compiled(plan.agent, self.host, plan.rows)
        self._begin = over_seeds(partial(begin, setup, self.host), plan.rows, optimise=False)
        self._learn = over_seeds(
            partial(learn, setup, self.host), plan.rows, optimise=plan.optimise
        )
        self.pool = self._open(suite.world, plan.rows * plan.num_envs, plan.base)
        self._stage: HostPool | None = None  # where episodes are scored, one point after another
        self._staged = -1  # by which seed

    def start(self) -> HostRun:
        """All seeds before their first step."""
        keys = seed_keys(self.plan.base, np.arange(self.plan.rows))
        ears = self.turn.attend(keys, self._by_seed(self.pool.reset()), self.channel)
        learner, tally, keys = self._begin(keys)
        return HostRun(learner, ears, tally, keys, self.pool.snapshot())

    def resume(self, run: HostRun) -> None:
        """Brings the environments back to where the run left them."""
        self.pool.restore({name: np.asarray(leaf) for name, leaf in run.pool.items()})

    def chunk(self, run: HostRun, stopped: Callable[[], bool]) -> tuple[HostRun, dict, np.ndarray]:
        """A chunk of updates -> (run, metrics [S], sound [S, U, sources])."""
        rows = []
        for _ in range(self.plan.updates):
            run, *row = self._update(run, stopped)
            rows.append(jax.tree.map(np.asarray, row))
        metrics, sums, sound = jax.tree.map(lambda *leaves: np.stack(leaves, 1), *rows)
        run = run._replace(pool=self.pool.snapshot())
        return run, jax.vmap(summary)(metrics, sums), sound

    def score(
        self, run: HostRun, done: int, stopped: Callable[[], bool], exam: Exam | None = None
    ) -> Iterator[tuple[Point, dict[str, np.ndarray]]]:
        """Each point of an exam from the `done`-th on, one by one; by default in public."""
        exam = exam or Exam(self.suite)
        worlds, seed = exam.suite.worlds(exam.keys(self.plan.base)[0], 1), exam.seed(self.plan.base)
        for i, point in list(enumerate(exam.suite.points()))[done:]:
            world = jax.tree.map(lambda leaf, i=i: leaf[i, 0], worlds)
            yield point, self._score(run.learner, world, seed, stopped)

    def film(self, run: HostRun) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """One episode of the first seed -> (frames [T, H, W, 3], signals by name [T])."""
        learner, batch, frames = self._live_alone(run, self.suite.world)
        felt, _ = self.arm.blend.feel(learner.feelings, batch)
        return frames, {n: np.asarray(felt[:, 0, k]) for k, n in enumerate(self.arm.blend.names)}

    def timeline(self, run: HostRun, point: int = 0) -> Episode:
        """One episode of the first seed at a point, with what its heads and its critic say."""
        k_worlds, _ = Exam(self.suite).keys(self.plan.base)
        world = jax.tree.map(lambda leaf: leaf[point, 0], self.suite.worlds(k_worlds, 1))
        learner, batch, frames = self._live_alone(run, world)
        return told(self.setup, learner, batch, frames, self.host.success)

    def _live_alone(self, run: HostRun, world: World) -> tuple[Learner, Transition, np.ndarray]:
        """One episode of the first seed where it can be drawn -> (its learner, [T, B], frames)."""
        learner = jax.tree.map(lambda leaf: leaf[0], run.learner)
        env = self.host.maker(world, render_mode="rgb_array")()
        channel, key = sensible(world).channel, jax.random.key(self.plan.base)
        turn = jax.jit(partial(choose, self.plan.agent, self.host, greedy=True))
        listen, frames, seen, done = jax.jit(partial(hear, self.host)), [], [], False
        try:
            obs, _ = env.reset(seed=self.plan.base)
            ears = attend(self.host, key, jnp.asarray(obs)[None], channel)
            while len(frames) < FILM and not done:
                frames.append(env.render())
                action, taken, ears = turn(key, learner, ears, channel, len(seen))
                obs, *told_of, _ = env.step(np.asarray(taken)[0])
                told_of = [np.asarray([part]) for part in (obs, obs, *told_of)]
                ears, transition = listen(key, ears, action, Step(*told_of, {}), channel, len(seen))
                seen.append(transition)
                done = bool(told_of[-2][0] or told_of[-1][0])
        finally:
            env.close()
        batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)
        alike = jax.tree.map(lambda leaf: jnp.repeat(leaf, self.plan.num_envs, 1), batch)
        return learner, alike, np.stack(frames)

    def close(self) -> None:
        """Ends the worker processes."""
        self.pool.close()
        self._close_stage()

    def _close_stage(self) -> None:
        if self._stage is not None:
            self._stage.close()
            self._stage = None

    def _update(self, run: HostRun, stopped: Callable[[], bool]):
        ears, steps = run.ears, []
        for t in range(self.plan.num_steps):
            if stopped():
                raise Interrupted
            ears, seen, _ = self._live(self.pool, run.learner, ears, run.key, t)
            steps.append(jax.tree.map(np.asarray, seen))
        batch = jax.tree.map(lambda *leaves: np.stack(leaves, 1), *steps)
        learner, tally, key, *row = self._learn(run.learner, run.tally, batch, run.key)
        return run._replace(learner=learner, ears=ears, tally=tally, key=key), *row

    def _live(self, pool, learner, ears, keys, t, world: World | None = None):
        """One step of all environments of all seeds -> (ears, transition, what was told)."""
        choose = self.turn.choose if world is None else self.turn.mode
        channel = self.channel if world is None else world.channel
        action, taken, ears = choose(keys, learner, ears, channel, t)
        taken = np.asarray(taken)
        step = pool.step(taken.reshape(-1, *taken.shape[2:]))
        told = Step(*(jax.tree.map(self._by_seed, part) for part in step))
        ears, transition = self.turn.hear(keys, ears, action, told, channel, t)
        return ears, transition, told

    def _score(
        self, learner: Learner, world: World, seed: int, stopped: Callable[[], bool]
    ) -> dict[str, np.ndarray]:
        """Plays each seed's episodes at one point side by side, all seeds the same ones."""
        rows, episodes = self.plan.rows, self.plan.episodes
        streams = np.tile(np.arange(episodes), rows)
        if self._stage is None or self._staged != seed:
            self._close_stage()
            self._stage = self._open(world, rows * episodes, seed + 2, streams)
            self._staged = seed
        else:
            self._stage.remake(self.host.maker(world))
        pool = self._stage
        keys = jnp.broadcast_to(jax.random.key(seed + 3), (rows,))  # the same for all
        alive = np.ones((rows, episodes), bool)
        total, length, ended = np.zeros(alive.shape), np.zeros(alive.shape), ~alive
        ears = self.turn.attend(keys, self._by_seed(pool.reset()), world.channel)
        for t in range(self.host.horizon):
            if stopped():
                raise Interrupted
            ears, _, told = self._live(pool, learner, ears, keys, t, world)
            total, length = total + np.where(alive, told.reward, 0.0), length + alive
            ended = ended | (alive & told.terminated)
            alive = alive & ~told.terminated & ~told.truncated
            if not alive.any():
                break
        success = self.host.success(total, length)
        told = {"harm": ended} if self.host.harmful else {}
        scores = (total, length, success, ended, ~ended, *reported(told, success))
        return {name: np.asarray(x).mean(1) for name, x in zip(SCORES, scores, strict=True)}

    def _open(self, world: World, num_envs: int, seed: int, streams: Any = None) -> HostPool:
        return HostPool(self.host.maker(world), num_envs, seed, name=self.host.id, streams=streams)

    def _by_seed(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(self.plan.rows, -1, *array.shape[1:])


def begin(setup: Setup, host: Host, key: jax.Array) -> tuple[Learner, Tally, jax.Array]:
    """One seed before its first step."""
    k_learner, key = jax.random.split(key)
    return new_learner(k_learner, setup, host.spec), no_tally(setup.num_envs), key


class Turn(NamedTuple):
    """The two halves of a step around the environments', compiled once for all arms."""

    attend: Callable
    choose: Callable
    mode: Callable
    hear: Callable


@functools.cache
def compiled(agent: Any, host: Host, rows: int) -> Turn:
    """The compiled halves for `rows` seeds."""
    return Turn(
        over_seeds(partial(attend, host), rows, shared=1),
        over_seeds(partial(choose, agent, host, greedy=False), rows, shared=2),
        over_seeds(partial(choose, agent, host, greedy=True), rows, shared=2),
        over_seeds(partial(hear, host), rows, shared=2),
    )


def attend(host: Host, key: jax.Array, obs: jax.Array, channel: Channel) -> Ears:
    """The first observations [B, D] of one seed's environments, as they are sensed."""
    keys = jax.random.split(jax.random.fold_in(key, 2 * host.horizon), obs.shape[0])
    one = partial(senses.attend, channel=channel, spec=host.spec, scale=jnp.array(host.obs_scale))
    sensed, memory = jax.vmap(lambda key, obs: one(key, obs=obs))(keys, obs)
    return Ears(sensed, memory, jnp.ones(obs.shape[0], bool))


def choose(
    agent: Any,
    host: Host,
    key: jax.Array,
    learner: Learner,
    ears: Ears,
    channel: Channel,
    time: jax.Array,
    greedy: bool,
) -> tuple[jax.Array, jax.Array, Ears]:
    """One seed's actions [B] at a step -> (chosen, what takes effect, ears)."""
    k_act, k_slip = jax.random.split(jax.random.fold_in(key, 2 * time))
    action = agent.act(learner.agent, None if greedy else k_act, ears.obs)

    def one(key, memory, first, action):
        return senses.act(key, channel, memory, host.spec, first, action)

    keys = jax.random.split(k_slip, ears.first.shape[0])
    taken, memory = jax.vmap(one)(keys, ears.memory, ears.first, action)
    if host.spec.action_dim:  # a stopped seed may choose what is not a number
        taken = jnp.clip(jnp.nan_to_num(taken), -1.0, 1.0)
    return action, taken, ears._replace(memory=memory)


def hear(
    host: Host,
    key: jax.Array,
    ears: Ears,
    action: jax.Array,
    told: Step,
    channel: Channel,
    time: jax.Array,
) -> tuple[Ears, Transition]:
    """What one seed's environments [B] told of a step, as it is sensed."""
    scale = jnp.array(host.obs_scale)

    def one(key, ears, action, told):
        k_sense, k_attend, k_pay = jax.random.split(key, 3)
        next_obs, memory = senses.sense(k_sense, channel, ears.memory, scale, told.next_obs)
        fresh, clean = senses.attend(k_attend, channel, host.spec, scale, told.obs)
        ended = told.terminated | told.truncated
        reward = senses.pay(k_pay, channel, told.reward)
        ends = told.terminated, told.truncated
        seen = _transition(host, ears.obs, action, next_obs, reward, *ends, ears.first)
        after = Ears(fresh, clean, ended), Ears(next_obs, memory, ended)
        return jax.tree.map(lambda new, old: jnp.where(ended, new, old), *after), seen

    keys = jax.random.split(jax.random.fold_in(key, 2 * time + 1), ears.first.shape[0])
    return jax.vmap(one)(keys, ears, action, told)


def learn(
    setup: Setup, host: Host, learner: Learner, tally: Tally, batch: Transition, key: jax.Array
):
    """One seed's update on a batch [T, B] -> (learner, tally, key, metrics, sums, sound)."""
    # The steps of the batch used the numbers below 2 T, and splitting is folding in 0, 1, ...
    k_update, key = jax.random.split(jax.random.fold_in(key, 2 * batch.reward.shape[0]))
    learner, metrics = update(setup, learner, k_update, batch)
    tally, sums = count(tally, batch, host.success)
    return learner, tally, key, metrics, sums, soundness(learner, batch, metrics)


def _transition(host, obs, action, next_obs, reward, terminated, truncated, first) -> Transition:
    info = {"harm": terminated.astype(np.float32)} if host.harmful else {}
    return Transition(obs, action, next_obs, reward, terminated, truncated, first, info)
