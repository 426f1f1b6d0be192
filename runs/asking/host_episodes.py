"""What agents live through in a host-stepped environment, as batches like those of our worlds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs.host_pool import HostPool, Step
from envs.shift import sensible
from envs.world import World
from runs.harness.hosted import Hosted, HostRun
from runs.harness.watch import Interrupted


def recorded(trainer: Hosted, run: HostRun, number: int, stopped: Callable[[], bool]) -> Transition:
    """What each seed's policy lives through at home from here on, [S, N, T, B], not learning.

    Raises:
        Interrupted: if it was asked to stop.
    """
    plan, turn = trainer.plan, trainer.turn
    channel = sensible(trainer.suite.world).channel
    ears, keys, batches = run.ears, _renewed(run.key), []
    for _ in range(number):
        steps = []
        for t in range(plan.num_steps):
            if stopped():
                raise Interrupted
            action, taken, ears = turn.choose(keys, run.learner, ears, channel, t)
            told = _step(trainer.pool, taken, plan.rows)
            ears, seen = turn.hear(keys, ears, action, told, channel, t)
            steps.append(jax.tree.map(np.asarray, seen))
        batches.append(jax.tree.map(lambda *leaves: np.stack(leaves, 1), *steps))
        keys = _renewed(keys)
    return jax.tree.map(lambda *leaves: np.stack(leaves, 1), *batches)


class Stage:
    """Where whole episodes are played, one point after another.

    Args:
        trainer: of the agents.
    """

    def __init__(self, trainer: Hosted):
        self.trainer, self.pool = trainer, None

    def episodes(
        self, learner: Any, world: World, stopped: Callable[[], bool]
    ) -> tuple[Transition, np.ndarray]:
        """Each seed's episodes at one point, all seeds the same ones, by the policy's mode.

        Args:
            learner: of all seeds.
            world: with a channel.
            stopped: whether to stop.

        Returns:
            (transitions [S, T, B], 0 after an episode's end and paid what the task does; alive
            [S, T, B] bool), T the horizon.

        Raises:
            Interrupted: if it was asked to stop.
        """
        plan, host, turn = self.trainer.plan, self.trainer.host, self.trainer.turn
        pool = self._open(world)
        keys = jnp.broadcast_to(jax.random.key(plan.base + 3), (plan.rows,))
        first = pool.reset().reshape(plan.rows, plan.episodes, -1)
        ears = turn.attend(keys, first, world.channel)
        alive, steps, lived = np.ones((plan.rows, plan.episodes), bool), [], []
        for t in range(host.horizon):
            if stopped():
                raise Interrupted
            if not alive.any():
                break
            action, taken, ears = turn.mode(keys, learner, ears, world.channel, t)
            told = _step(pool, taken, plan.rows)
            ears, seen = turn.hear(keys, ears, action, told, world.channel, t)
            steps.append(_while(alive, jax.tree.map(np.asarray, seen._replace(reward=told.reward))))
            lived.append(alive)
            alive = alive & ~told.terminated & ~told.truncated
        missing = host.horizon - len(steps)
        batch = jax.tree.map(lambda *leaves: _long(np.stack(leaves, 1), missing), *steps)
        return batch, _long(np.stack(lived, 1), missing)

    def close(self) -> None:
        """Ends the worker processes."""
        if self.pool is not None:
            self.pool.close()

    def _open(self, world: World) -> HostPool:
        plan, host = self.trainer.plan, self.trainer.host
        if self.pool is None:
            streams = np.tile(np.arange(plan.episodes), plan.rows)
            self.pool = HostPool(
                *(host.maker(world), plan.rows * plan.episodes, plan.base + 2),
                name=host.id,
                streams=streams,
            )
        else:
            self.pool.remake(host.maker(world))
        return self.pool


def _step(pool: HostPool, taken: jax.Array, rows: int) -> Step:
    taken = np.asarray(taken)
    step = pool.step(taken.reshape(-1, *taken.shape[2:]))
    return jax.tree.map(lambda leaf: leaf.reshape(rows, -1, *leaf.shape[1:]), step)


def _renewed(keys: jax.Array) -> jax.Array:
    """Other keys [S], far from those that steps use."""
    return jax.vmap(lambda key: jax.random.fold_in(key, 2**30))(keys)


def _while(alive: np.ndarray, batch: Transition) -> Transition:
    """A step [S, B, ...] that is 0 where not alive [S, B]."""

    def one(leaf):
        there = alive.reshape(alive.shape + (1,) * (leaf.ndim - 2))
        return np.where(there, leaf, np.zeros_like(leaf))

    return jax.tree.map(one, batch)


def _long(leaf: np.ndarray, missing: int) -> np.ndarray:
    """[S, T, ...] with so many steps of 0 behind."""
    return np.pad(leaf, [(0, 0), (0, missing)] + [(0, 0)] * (leaf.ndim - 2))
