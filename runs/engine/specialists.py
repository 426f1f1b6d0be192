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
from runs.engine.evaluate import evaluate
from runs.engine.jax_backend import ENVS_AT_ONCE
from runs.engine.run_config import RunConfig
from runs.engine.train import (
    SEED_AXIS,
    RunnerState,
    TrainConfig,
    init_runner,
    seed_keys,
    train,
    vmap_seeds,
)

POLICIES = ("random", "nominal", "specialist")


@dataclass(frozen=True)
class SpecialistConfigs:
    """The plans of the nominal training and of every specialist's."""

    nominal: RunConfig
    special: RunConfig


class SpecialistTraining:
    """Everything that is compiled, once for all shifts.

    Args:
        env: the family of worlds.
        sizes: of nominal and special trainings.
    """

    def __init__(self, env: Env, sizes: SpecialistConfigs):
        run_config = self.run_config = sizes.nominal
        build = partial(_start, config=_setup(run_config), env=env)
        self._start = vmap_seeds(build, run_config.rows, 1, optimise=False)
        self._learn = {
            run_config: _training_program(env, run_config)
            for run_config in (sizes.nominal, sizes.special)
        }
        score = partial(_score, agent=run_config.agent, env=env, episodes=run_config.episodes)
        self._score = vmap_seeds(score, run_config.rows, 1, run_config.optimise)

    def start(self, pool: World) -> RunnerState:
        """All seeds before their first step in a pool of worlds [N]."""
        return self._start(seed_keys(self.run_config.base, np.arange(self.run_config.rows)), pool)

    def warm(self, agent: Any, pool: World) -> RunnerState:
        """The same with what `agent` has learned, but a new optimiser."""
        run = self.start(pool)
        trained = run.learner.agent.trained._replace(net=agent.trained.net)
        return run._replace(learner=run.learner._replace(agent=agent._replace(trained=trained)))

    def run(
        self,
        run_config: RunConfig,
        run: RunnerState,
        pool: World,
        report: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> tuple[RunnerState, np.ndarray] | tuple[None, None]:
        """A training -> (run, sound [S]); (None, None) if it was asked to stop.

        Args:
            run_config: of it, the nominal or the special one.
            run: where it begins.
            pool: of worlds [N].
            report: told the chunks that are done.
            stopped: whether to stop.
        """
        finite = np.ones(run_config.seeds, bool)
        for chunk in range(run_config.chunks):
            if stopped():
                return None, None
            run, _, numbers = self._learn[run_config](run, pool)
            finite &= np.asarray(numbers).all((1, 2))[: run_config.seeds]
            report(chunk + 1)
        return run, finite

    def scores(self, nominal: Any, specialist: Any, worlds: World) -> dict[str, list]:
        """Share of successes [S][P] of each of POLICIES in worlds [P, draws].

        The first two meet the same episodes, seed by seed. A random policy is anybody whose every
        action is replaced by a random one; there, each seed has episodes of its own.
        """
        base, rows = self.run_config.base, self.run_config.rows
        same = jnp.stack([jax.random.key(base + 2)] * rows)
        own = seed_keys(base + 5, np.arange(rows))
        tests = (
            (nominal, own, with_random_actions(worlds)),
            (nominal, same, worlds),
            (specialist, same, worlds),
        )
        return {
            name: np.asarray(self._score(*test))[: self.run_config.seeds].tolist()
            for name, test in zip(POLICIES, tests, strict=True)
        }


def pool_worlds(worlds: World, points: list[int]) -> World:
    """The worlds [P, draws] of some points as one pool [N]."""
    return jax.tree.map(lambda leaf: leaf[np.array(points)].reshape(-1, *leaf.shape[2:]), worlds)


def with_random_actions(worlds: World) -> World:
    """The same worlds, now and later, in which every action is replaced by a random one."""

    def part(one):
        return one._replace(channel=one.channel._replace(flip=jnp.ones_like(one.channel.flip)))

    scheduled = None if worlds.scheduled is None else part(worlds.scheduled)
    return part(worlds)._replace(scheduled=scheduled)


def worlds_digest(worlds: Any) -> str:
    """Ten hexadecimal digits that change with any bit of the worlds."""
    leaves = (np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(worlds))
    return hashlib.sha256(b"".join(leaves)).hexdigest()[:10]


def _setup(run_config: RunConfig) -> TrainConfig:
    return TrainConfig(run_config.agent, Blend(), run_config.num_envs, run_config.num_steps)


def _training_program(env: Env, run_config: RunConfig) -> Callable:
    """The program of a training: (run, pool) -> (run, metrics, sound) of a chunk."""
    step = partial(_train, config=_setup(run_config), env=env, updates=run_config.updates)
    return vmap_seeds(
        step, run_config.rows, 1, run_config.optimise, ENVS_AT_ONCE // run_config.num_envs
    )


def _start(key, pool, *, config, env):
    return init_runner(key, config, env, partial(_sample_world, pool))


def _train(run, pool, *, config, env, updates):
    return train(run, config, env, partial(_sample_world, pool), updates)


def _score(agent_state, key, worlds, *, agent, env, episodes):
    each = episodes // worlds.channel.noise.shape[1]
    return evaluate(agent_state, agent, env, worlds, key, each, SEED_AXIS)["success"]


def _sample_world(pool: World, key: jax.Array) -> World:
    """One of a pool of worlds [N]."""
    chosen = jax.random.randint(key, (), 0, pool.channel.noise.shape[0])
    return jax.tree.map(lambda leaf: leaf[chosen], pool)
