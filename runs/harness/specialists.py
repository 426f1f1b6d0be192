"""Specialists: agents that go on learning in a shifted world, and their score beside others'.

Worlds are data here, a pool of them [N] from which each episode draws one, so that the trainings
of all shifts share one compiled program.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend
from envs.world import Env, World
from runs.harness.evaluate import evaluate
from runs.harness.jitted import TOGETHER
from runs.harness.plan import Plan
from runs.harness.train import SEEDS, Run, Setup, new_run, over_seeds, seed_keys, train

POLICIES = ("random", "nominal", "specialist")


@dataclass(frozen=True)
class Sizes:
    """The plans of the nominal training and of every specialist's."""

    nominal: Plan
    special: Plan


class Training:
    """Everything that is compiled, once for all shifts.

    Args:
        env: the family of worlds.
        sizes: of nominal and special trainings.
    """

    def __init__(self, env: Env, sizes: Sizes):
        plan = self.plan = sizes.nominal
        build = partial(_start, setup=_setup(plan), env=env)
        self._start = over_seeds(build, plan.rows, 1, optimise=False)
        self._learn = {plan: _learning(env, plan) for plan in (sizes.nominal, sizes.special)}
        score = partial(_score, agent=plan.agent, env=env, episodes=plan.episodes)
        self._score = over_seeds(score, plan.rows, 1, plan.optimise)

    def start(self, pool: World) -> Run:
        """All seeds before their first step in a pool of worlds [N]."""
        return self._start(seed_keys(self.plan.base, np.arange(self.plan.rows)), pool)

    def warm(self, agent: Any, pool: World) -> Run:
        """The same with what `agent` has learned, but a new optimiser."""
        run = self.start(pool)
        trained = run.learner.agent.trained._replace(net=agent.trained.net)
        return run._replace(learner=run.learner._replace(agent=agent._replace(trained=trained)))

    def run(
        self,
        plan: Plan,
        run: Run,
        pool: World,
        report: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> tuple[Run, np.ndarray] | tuple[None, None]:
        """A training -> (run, sound [S]); (None, None) if it was asked to stop.

        Args:
            plan: of it, the nominal or the special one.
            run: where it begins.
            pool: of worlds [N].
            report: told the chunks that are done.
            stopped: whether to stop.
        """
        sound = np.ones(plan.seeds, bool)
        for chunk in range(plan.chunks):
            if stopped():
                return None, None
            run, _, numbers = self._learn[plan](run, pool)
            sound &= np.asarray(numbers).all((1, 2))[: plan.seeds]
            report(chunk + 1)
        return run, sound

    def scores(self, nominal: Any, specialist: Any, worlds: World) -> dict[str, list]:
        """Share of successes [S][P] of each of POLICIES in worlds [P, draws].

        The first two meet the same episodes, seed by seed. A random policy is anybody whose every
        action is replaced by a random one; there, each seed has episodes of its own.
        """
        base, rows = self.plan.base, self.plan.rows
        same = jnp.stack([jax.random.key(base + 2)] * rows)
        own = seed_keys(base + 5, np.arange(rows))
        tests = (
            (nominal, own, at_random(worlds)),
            (nominal, same, worlds),
            (specialist, same, worlds),
        )
        return {
            name: np.asarray(self._score(*test))[: self.plan.seeds].tolist()
            for name, test in zip(POLICIES, tests, strict=True)
        }


def pooled(worlds: World, points: list[int]) -> World:
    """The worlds [P, draws] of some points as one pool [N]."""
    return jax.tree.map(lambda leaf: leaf[np.array(points)].reshape(-1, *leaf.shape[2:]), worlds)


def at_random(worlds: World) -> World:
    """The same worlds, now and later, in which every action is replaced by a random one."""

    def part(one):
        return one._replace(channel=one.channel._replace(flip=jnp.ones_like(one.channel.flip)))

    later = None if worlds.later is None else part(worlds.later)
    return part(worlds)._replace(later=later)


def digest(worlds: Any) -> str:
    """Ten hexadecimal digits that change with any bit of the worlds."""
    leaves = (np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(worlds))
    return hashlib.sha256(b"".join(leaves)).hexdigest()[:10]


def _setup(plan: Plan) -> Setup:
    return Setup(plan.agent, Blend(), plan.num_envs, plan.num_steps)


def _learning(env: Env, plan: Plan) -> Callable:
    """The program of a training: (run, pool) -> (run, metrics, sound) of a chunk."""
    step = partial(_train, setup=_setup(plan), env=env, updates=plan.updates)
    return over_seeds(step, plan.rows, 1, plan.optimise, TOGETHER // plan.num_envs)


def _start(key, pool, *, setup, env):
    return new_run(key, setup, env, partial(_drawn, pool))


def _train(run, pool, *, setup, env, updates):
    return train(run, setup, env, partial(_drawn, pool), updates)


def _score(agent_state, key, worlds, *, agent, env, episodes):
    each = episodes // worlds.channel.noise.shape[1]
    return evaluate(agent_state, agent, env, worlds, key, each, SEEDS)["success"]


def _drawn(pool: World, key: jax.Array) -> World:
    """One of a pool of worlds [N]."""
    chosen = jax.random.randint(key, (), 0, pool.channel.noise.shape[0])
    return jax.tree.map(lambda leaf: leaf[chosen], pool)
