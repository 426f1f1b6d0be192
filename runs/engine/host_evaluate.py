"""Evaluate agents in host-stepped environments: whole episodes, one world at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs.host.pool import HostPool
from envs.host.suite import HostEnv
from envs.world import World
from runs.engine.evaluate import reported_scores
from runs.engine.host_step import HostStepper, Played, by_seed, transition
from runs.names import SCORES

LONG = 1024  # steps


class HostEvaluator:
    """Evaluate S agents in parallel by the mode of their policies, all on the same episodes.

    The worker processes start with the first evaluation and are reused for every later world.

    Args:
        stepper: compiled functions of the agents.
        host: the environment.
        rows: S.
        episodes: B, of each agent in each world.
    """

    def __init__(self, stepper: HostStepper, host: HostEnv, rows: int, episodes: int):
        self.host, self.rows, self.episodes_per_seed = host, rows, episodes
        self.stepper = stepper
        self._pool: HostPool | None = None

    def steps(
        self, learner: Any, world: World, seed: int, stopped: Callable[[], bool]
    ) -> Iterator[tuple[np.ndarray, Played]]:
        """Step S x B environments through one episode each, until the last one has ended.

        Args:
            learner: of all seeds; only its agent is used.
            world: with a channel.
            seed: of the episodes.
            stopped: returns whether to stop.

        Yields:
            (alive bool [S, B] before the step, the step). Steps where `alive` is False belong to a
            later episode.

        Raises:
            Interrupted: if `stopped()` is true.
        """
        keys = jnp.broadcast_to(jax.random.key(seed), (self.rows,))  # equal for all seeds
        pool = self._open(world, seed)
        alive = np.ones((self.rows, self.episodes_per_seed), bool)
        host_obs = self.stepper.observe_reset(keys, by_seed(pool.reset(), self.rows), world.channel)
        inputs = pool, learner, host_obs, keys, world.channel, self.host.horizon, stopped
        for played in self.stepper.play(*inputs, greedy=True):
            yield alive, played
            alive = alive & ~played.step.terminated & ~played.step.truncated
            if not alive.any():
                return

    def scores(
        self, learner: Any, world: World, seed: int, stopped: Callable[[], bool]
    ) -> dict[str, np.ndarray]:
        """Mean scores over each seed's episodes, [S] each, named as in `runs.engine.evaluate`."""
        total, length = np.zeros((2, self.rows, self.episodes_per_seed))
        ended = np.zeros(total.shape, bool)
        for alive, played in self.steps(learner, world, seed, stopped):
            total, length = total + np.where(alive, played.step.reward, 0.0), length + alive
            ended = ended | (alive & played.step.terminated)
        success = self.host.success(total, length)
        harm = {"harm": ended} if self.host.harmful else {}
        scores = (total, length, success, ended, ~ended, *reported_scores(harm, success))
        return {name: np.asarray(x).mean(1) for name, x in zip(SCORES, scores, strict=True)}

    def episodes(
        self, learner: Any, world: World, seed: int, stopped: Callable[[], bool]
    ) -> tuple[Transition, np.ndarray]:
        """Record one episode each -> (transitions [S, T, B], alive [S, T, B] bool).

        T is the horizon, or of a horizon beyond LONG the next power of two to the longest episode.
        Transitions are 0 after an episode's end; rewards are the task's, without channel noise.
        """
        steps, masks = [], []
        for alive, played in self.steps(learner, world, seed, stopped):
            paid = transition(self.host, played)._replace(reward=played.step.reward)
            steps.append(_mask_finished(alive, paid))
            masks.append(alive)
        length = min(self.host.horizon, max(LONG, 1 << (len(steps) - 1).bit_length()))
        padding = length - len(steps)
        batch = jax.tree.map(lambda *leaves: _pad_steps(np.stack(leaves, 1), padding), *steps)
        return batch, _pad_steps(np.stack(masks, 1), padding)

    def close(self) -> None:
        """End the worker processes; the next evaluation starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _open(self, world: World, seed: int) -> HostPool:
        """Pool of environments of this world, in the existing worker processes if there are any."""
        make = self.host.maker(world)
        if self._pool is None:
            streams = np.tile(np.arange(self.episodes_per_seed), self.rows)
            options = {"name": self.host.id, "workers": self.host.workers, "streams": streams}
            self._pool = HostPool(make, len(streams), seed, **options)
        else:
            self._pool.remake(make, seed)
        return self._pool


def _mask_finished(alive: np.ndarray, batch: Transition) -> Transition:
    """Set leaves [S, B, ...] to 0 where not alive [S, B]."""

    def mask_leaf(leaf):
        mask = alive.reshape(alive.shape + (1,) * (leaf.ndim - 2))
        return np.where(mask, leaf, np.zeros_like(leaf))

    return jax.tree.map(mask_leaf, batch)


def _pad_steps(leaf: np.ndarray, padding: int) -> np.ndarray:
    """Append `padding` zero steps along axis 1 of a leaf [S, T, ...]."""
    return np.pad(leaf, [(0, 0), (0, padding)] + [(0, 0)] * (leaf.ndim - 2))
