"""Where agents are scored in a host-stepped environment: whole episodes, a world at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs.host.pool import HostPool, HostStep
from envs.host.suite import HostEnv
from envs.world import World
from runs.cli.interrupt import Interrupted
from runs.engine.evaluate import SCORES, reported_scores
from runs.engine.host_step import by_seed, compiled_stepper


class HostEvaluator:
    """S agents play episodes side by side, all agents the same ones, by their mode.

    The worker processes start with the first episode and serve every world after it.

    Args:
        agent: the description of all.
        host: the environment.
        rows: S.
        episodes: B, of each agent in each world.
    """

    def __init__(self, agent: Any, host: HostEnv, rows: int, episodes: int):
        self.host, self.rows, self.each = host, rows, episodes
        self.turn = compiled_stepper(agent, host, rows)
        self._pool: HostPool | None = None

    def steps(
        self, learner: Any, world: World, seed: int, stopped: Callable[[], bool]
    ) -> Iterator[tuple[np.ndarray, HostStep, Transition]]:
        """The steps of one episode each, until the last has ended.

        Args:
            learner: of all seeds; only its agent is asked.
            world: with a channel.
            seed: of the episodes.
            stopped: whether to stop.

        Yields:
            (alive [S, B] bool before the step, what was told, the transition), [S, B] each. What
            comes after an episode's end is of another one.

        Raises:
            Interrupted: if it was asked to stop.
        """
        keys = jnp.broadcast_to(jax.random.key(seed + 3), (self.rows,))  # the same for all
        pool = self._open(world, seed + 2)
        alive = np.ones((self.rows, self.each), bool)
        host_obs = self.turn.attend(keys, by_seed(pool.reset(), self.rows), world.channel)
        for t in range(self.host.horizon):
            if stopped():
                raise Interrupted
            taken = self.turn.take(pool, learner, host_obs, keys, world.channel, t, greedy=True)
            host_obs, seen, told = taken
            yield alive, told, seen
            alive = alive & ~told.terminated & ~told.truncated
            if not alive.any():
                return

    def scores(
        self, learner: Any, world: World, seed: int, stopped: Callable[[], bool]
    ) -> dict[str, np.ndarray]:
        """The mean over each seed's episodes, [S] each, as `runs.engine.evaluate.evaluate`."""
        total, length = np.zeros((2, self.rows, self.each))
        ended = np.zeros(total.shape, bool)
        for alive, told, _ in self.steps(learner, world, seed, stopped):
            total, length = total + np.where(alive, told.reward, 0.0), length + alive
            ended = ended | (alive & told.terminated)
        success = self.host.success(total, length)
        harm = {"harm": ended} if self.host.harmful else {}
        scores = (total, length, success, ended, ~ended, *reported_scores(harm, success))
        return {name: np.asarray(x).mean(1) for name, x in zip(SCORES, scores, strict=True)}

    def episodes(
        self, learner: Any, world: World, seed: int, stopped: Callable[[], bool]
    ) -> tuple[Transition, np.ndarray]:
        """What is lived through -> (transitions [S, T, B], alive [S, T, B] bool), T the horizon.

        Transitions are 0 after an episode's end, and pay what the task does.
        """
        steps, lived = [], []
        for alive, told, seen in self.steps(learner, world, seed, stopped):
            seen = jax.tree.map(np.asarray, seen._replace(reward=told.reward))
            steps.append(_mask_finished(alive, seen))
            lived.append(alive)
        missing = self.host.horizon - len(steps)
        batch = jax.tree.map(lambda *leaves: _pad_steps(np.stack(leaves, 1), missing), *steps)
        return batch, _pad_steps(np.stack(lived, 1), missing)

    def close(self) -> None:
        """Ends the worker processes; the next episode starts others."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _open(self, world: World, seed: int) -> HostPool:
        make = self.host.maker(world)
        if self._pool is None:
            streams = np.tile(np.arange(self.each), self.rows)
            self._pool = HostPool(make, len(streams), seed, name=self.host.id, streams=streams)
        else:
            self._pool.remake(make, seed)
        return self._pool


def _mask_finished(alive: np.ndarray, batch: Transition) -> Transition:
    """A step [S, B, ...] that is 0 where not alive [S, B]."""

    def one(leaf):
        there = alive.reshape(alive.shape + (1,) * (leaf.ndim - 2))
        return np.where(there, leaf, np.zeros_like(leaf))

    return jax.tree.map(one, batch)


def _pad_steps(leaf: np.ndarray, missing: int) -> np.ndarray:
    """[S, T, ...] with so many steps of 0 behind."""
    return np.pad(leaf, [(0, 0), (0, missing)] + [(0, 0)] * (leaf.ndim - 2))
