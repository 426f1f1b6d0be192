"""Train specialists (agents fine-tuned in a shifted world) and compare them with a nominal agent.

Worlds are passed as data, a pool [N] from which each episode draws one, so that the trainings of
all shifts share one compiled program.
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
    """Sizes of the nominal training and of every specialist's training."""

    nominal: RunConfig
    special: RunConfig


class SpecialistTraining:
    """Compiled training and scoring of the nominal agent and the specialists, for all shifts.

    Args:
        env: the environment; its parameters are in the worlds.
        sizes: of the nominal and the special trainings.
    """

    def __init__(self, env: Env, sizes: SpecialistConfigs):
        run_config = self.run_config = sizes.nominal
        init = partial(_start, config=_train_config(run_config), env=env)
        self._start = vmap_seeds(init, run_config.rows, 1, optimise=False)
        self._train = {
            run_config: _training_program(env, run_config)
            for run_config in (sizes.nominal, sizes.special)
        }
        score = partial(_score, agent=run_config.agent, env=env, episodes=run_config.episodes)
        self._score = vmap_seeds(score, run_config.rows, 1, run_config.optimise)

    def start(self, pool: World) -> RunnerState:
        """Initialise the training state of all seeds, with worlds drawn from a pool [N]."""
        return self._start(seed_keys(self.run_config.base, np.arange(self.run_config.rows)), pool)

    def warm(self, agent: Any, pool: World) -> RunnerState:
        """Initialise all seeds with the network weights of `agent` and a new optimiser state."""
        state = self.start(pool)
        trained = state.learner.agent.train_state._replace(net=agent.train_state.net)
        return state._replace(
            learner=state.learner._replace(agent=agent._replace(train_state=trained))
        )

    def run(
        self,
        run_config: RunConfig,
        state: RunnerState,
        pool: World,
        report: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> tuple[RunnerState, np.ndarray] | tuple[None, None]:
        """Train to the end -> (state, finite [S]); (None, None) if stopped.

        Args:
            run_config: `sizes.nominal` or `sizes.special`.
            state: from which to start.
            pool: of worlds [N].
            report: receives the number of finished chunks.
            stopped: returns whether to stop.
        """
        finite = np.ones(run_config.seeds, bool)
        for chunk in range(run_config.chunks):
            if stopped():
                return None, None
            state, _, chunk_finite = self._train[run_config](state, pool)
            finite &= np.asarray(chunk_finite).all((1, 2))[: run_config.seeds]
            report(chunk + 1)
        return state, finite

    def scores(self, nominal: Any, specialist: Any, worlds: World) -> dict[str, list]:
        """Success rates [S][P] of each of POLICIES in worlds [P, draws].

        The nominal agent and the specialist are scored on the same episodes. The random policy is
        the nominal agent with every action replaced by a random one, on other episodes per seed.
        """
        base, rows = self.run_config.base, self.run_config.rows
        shared_keys = jnp.stack([jax.random.key(base + 2)] * rows)
        own_keys = seed_keys(base + 5, np.arange(rows))
        evaluations = (
            (nominal, own_keys, with_random_actions(worlds)),
            (nominal, shared_keys, worlds),
            (specialist, shared_keys, worlds),
        )
        return {
            name: np.asarray(self._score(*arguments))[: self.run_config.seeds].tolist()
            for name, arguments in zip(POLICIES, evaluations, strict=True)
        }


def pool_worlds(worlds: World, points: list[int]) -> World:
    """Flatten the worlds [P, draws] of some points into one pool [N]."""
    return jax.tree.map(lambda leaf: leaf[np.array(points)].reshape(-1, *leaf.shape[2:]), worlds)


def with_random_actions(worlds: World) -> World:
    """Set the channel to replace every action by a random one, scheduled changes included."""

    def flipped(part):
        return part._replace(channel=part.channel._replace(flip=jnp.ones_like(part.channel.flip)))

    scheduled = None if worlds.scheduled is None else flipped(worlds.scheduled)
    return flipped(worlds)._replace(scheduled=scheduled)


def worlds_digest(worlds: Any) -> str:
    """First 10 hex digits of the SHA-256 of all leaves of a pytree of worlds."""
    leaves = (np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(worlds))
    return hashlib.sha256(b"".join(leaves)).hexdigest()[:10]


def _train_config(run_config: RunConfig) -> TrainConfig:
    """Training configuration without heads, from the sizes of a run."""
    return TrainConfig(run_config.agent, Blend(), run_config.num_envs, run_config.num_steps)


def _training_program(env: Env, run_config: RunConfig) -> Callable:
    """Compile a training chunk over seeds: (state, pool) -> (state, metrics, finite)."""
    step = partial(_train, config=_train_config(run_config), env=env, updates=run_config.updates)
    return vmap_seeds(
        step, run_config.rows, 1, run_config.optimise, ENVS_AT_ONCE // run_config.num_envs
    )


def _start(key, pool, *, config, env):
    """Initialise one seed's training state with worlds drawn from a pool."""
    return init_runner(key, config, env, partial(_sample_world, pool))


def _train(state, pool, *, config, env, updates):
    """Train one seed for `updates` updates with worlds drawn from a pool."""
    return train(state, config, env, partial(_sample_world, pool), updates)


def _score(agent_state, key, worlds, *, agent, env, episodes):
    """Success rate [P] of one seed in worlds [P, draws]."""
    episodes_per_draw = episodes // worlds.channel.noise.shape[1]
    return evaluate(agent_state, agent, env, worlds, key, episodes_per_draw, SEED_AXIS)["success"]


def _sample_world(pool: World, key: jax.Array) -> World:
    """Draw one world uniformly from a pool [N]."""
    index = jax.random.randint(key, (), 0, pool.channel.noise.shape[0])
    return jax.tree.map(lambda leaf: leaf[index], pool)
