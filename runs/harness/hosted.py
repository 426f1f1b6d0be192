"""One arm in a host-stepped environment: only the rollout differs, `update` is the jitted one."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs.host import Host
from envs.host_pool import HostPool, Step
from envs.shift import sensible
from envs.suite import Point, Suite
from envs.world import World
from runs.asking.in_turn import in_turn
from runs.asking.survey import all_signals, questions
from runs.harness.arms import Arm
from runs.harness.exam import Exam
from runs.harness.plan import Plan
from runs.harness.stage import Stage
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
from runs.harness.turn import Ears, attend, by_seed, choose, compiled, hear

FILM = 300  # frames at most


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
        self.stage = Stage(plan.agent, self.host, plan.rows, plan.episodes)

    def start(self) -> HostRun:
        """All seeds before their first step."""
        keys = seed_keys(self.plan.base, np.arange(self.plan.rows))
        ears = self.turn.attend(keys, by_seed(self.pool.reset(), self.plan.rows), self.channel)
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
            yield point, self.stage.scores(run.learner, world, seed, stopped)

    def ask(self, run: HostRun, stopped: Callable[[], bool]) -> dict[str, np.ndarray]:
        """What the arm's signals know in public, each [S, P, ...] (`runs.asking.survey.survey`)."""
        plan, spec = self.plan, self.host.spec
        made = seed_keys(plan.base + 7, np.arange(plan.rows))
        ask = partial(questions, setup=self.setup, spec=spec)
        ask = over_seeds(ask, plan.rows, shared=1, optimise=plan.optimise, together=1)
        first = jax.tree.map(lambda leaf: leaf[0], jax.device_get(run.learner))
        signals = len(all_signals(first, made[0], self.setup, spec)[0])
        there = run.learner, signals, self.stage, self.suite, plan.base, stopped
        return in_turn(partial(ask, run.learner, made), *there)

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
        self.stage.close()

    def _update(self, run: HostRun, stopped: Callable[[], bool]):
        there = self.pool, run.learner, run.ears, run.key, self.channel
        ears, batch = self.turn.batch(*there, self.plan.num_steps, stopped)
        learner, tally, key, *row = self._learn(run.learner, run.tally, batch, run.key)
        return run._replace(learner=learner, ears=ears, tally=tally, key=key), *row

    def _open(self, world: World, num_envs: int, seed: int) -> HostPool:
        return HostPool(self.host.maker(world), num_envs, seed, name=self.host.id)


def begin(setup: Setup, host: Host, key: jax.Array) -> tuple[Learner, Tally, jax.Array]:
    """One seed before its first step."""
    k_learner, key = jax.random.split(key)
    return new_learner(k_learner, setup, host.spec), no_tally(setup.num_envs), key


def learn(
    setup: Setup, host: Host, learner: Learner, tally: Tally, batch: Transition, key: jax.Array
):
    """One seed's update on a batch [T, B] -> (learner, tally, key, metrics, sums, sound)."""
    # The steps of the batch used the numbers below 2 T, and splitting is folding in 0, 1, ...
    k_update, key = jax.random.split(jax.random.fold_in(key, 2 * batch.reward.shape[0]))
    learner, metrics = update(setup, learner, k_update, batch)
    tally, sums = count(tally, batch, host.success)
    return learner, tally, key, metrics, sums, soundness(learner, batch, metrics)
