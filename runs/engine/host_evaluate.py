"""Evaluate agents in host-stepped environments: whole episodes, one world at a time."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs.host.pool import HostPool
from envs.host.results import running
from envs.host.suite import HostEnv
from envs.world import World
from runs.engine.evaluate import reported_scores
from runs.engine.host_step import HostStepper, Played, by_seed, transition
from runs.names import SCORES

LONG = 1024  # steps
STRETCH = 128  # steps between two looks at which episodes have ended


class Stretch(NamedTuple):
    """Some steps of all environments of S seeds, numpy arrays [S, T, B].

    Attributes:
        alive: whether a step was within the first episode; the others are to be ignored.
        reward: of the task, without channel noise.
        terminated: whether the episode terminated with the step.
        transitions: returns the transitions as sensed by the agent.
    """

    alive: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    transitions: Callable[[], Transition]


class HostEvaluator:
    """Evaluate S agents in parallel by the mode of their policies, all on the same episodes.

    The worker processes start with the first evaluation and are reused for every later world.

    Args:
        stepper: compiled functions of the agents.
        host: the environment.
        rows: S.
        episodes: B, of each agent in each world.
        workers: processes that step the environments; 0 for the caller's own.
    """

    def __init__(self, stepper: HostStepper, host: HostEnv, rows: int, episodes: int, workers: int):
        self.host, self.rows, self.episodes_per_seed = host, rows, episodes
        self.stepper, self._workers = stepper, workers
        self._pool: HostPool | None = None

    def stretches(
        self, learner: Any, world: World, seed: int, stopped: Callable[[], bool]
    ) -> Iterator[Stretch]:
        """Step S x B environments through one episode each, until the last one has ended.

        Args:
            learner: of all seeds; only its agent is used.
            world: with a channel.
            seed: of the episodes.
            stopped: returns whether to stop.

        Raises:
            Interrupted: if `stopped()` is true.
        """
        keys = jnp.broadcast_to(jax.random.key(seed), (self.rows,))  # equal for all seeds
        pool, horizon = self._open(world, seed), self.host.horizon
        live = np.ones(pool.num_envs, bool)
        host_obs = self.stepper.observe_reset(keys, by_seed(pool.reset(), self.rows), world.channel)
        if not self.stepper.whole_rollouts(pool, world.channel):
            inputs = pool, learner, host_obs, keys, world.channel, horizon, stopped
            alive = by_seed(live, self.rows).copy()
            for played in self.stepper.play(*inputs, greedy=True, live=live):
                yield _one_step(self.host, alive, played)
                alive = by_seed(live, self.rows).copy()
                if not live.any():
                    break
            return
        for begin in range(0, horizon, STRETCH):
            steps = min(STRETCH, horizon - begin)
            inputs = pool, learner, host_obs, live, steps, stopped
            host_obs, batch = self.stepper.last_episodes(*inputs)
            ended = np.moveaxis(batch.terminated | batch.truncated, 1, 0)  # [T, S, B]
            alive = running(by_seed(live, self.rows), ended)
            yield Stretch(
                np.moveaxis(alive, 0, 1), batch.reward, batch.terminated, lambda b=batch: b
            )
            live = (alive[-1] & ~ended[-1]).ravel()
            if not live.any():
                return

    def scores(
        self, learner: Any, world: World, seed: int, stopped: Callable[[], bool]
    ) -> dict[str, np.ndarray]:
        """Mean scores over each seed's episodes, [S] each, named as in `runs.engine.evaluate`."""
        total, length = np.zeros((2, self.rows, self.episodes_per_seed))
        ended = np.zeros(total.shape, bool)
        for alive, reward, terminated, _ in self.stretches(learner, world, seed, stopped):
            total, length = total + reward.sum(1, float, where=alive), length + alive.sum(1)
            ended = ended | (alive & terminated).any(1)
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
        parts, masks = [], []
        for stretch in self.stretches(learner, world, seed, stopped):
            paid = stretch.transitions()._replace(reward=stretch.reward)
            parts.append(_mask_finished(stretch.alive, paid))
            masks.append(stretch.alive)
        alive = np.concatenate(masks, 1)
        longest = int(alive.any((0, 2)).sum())
        length = min(self.host.horizon, max(LONG, 1 << (longest - 1).bit_length()))
        batch = jax.tree.map(lambda *xs: _of_length(np.concatenate(xs, 1), length), *parts)
        return batch, _of_length(alive, length)

    def close(self) -> None:
        """End the worker processes; the next evaluation starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _open(self, world: World, seed: int) -> HostPool:
        """Pool of environments of this world, in the existing worker processes if there are any."""
        make = self.host.maker(world)
        if self._pool is None or self._pool.closed:
            streams = np.tile(np.arange(self.episodes_per_seed), self.rows)
            options = {"name": self.host.id, "workers": self._workers, "streams": streams}
            options["timeout"] = self.host.timeout
            self._pool = HostPool(make, len(streams), seed, **options)
        else:
            self._pool.remake(make, seed)
        return self._pool


def _one_step(host: HostEnv, alive: np.ndarray, played: Played) -> Stretch:
    """One step, in which the environments `alive` [S, B] took part."""

    def transitions() -> Transition:
        return jax.tree.map(lambda leaf: leaf[:, None], transition(host, played))

    step = played.step
    return Stretch(*(x[:, None] for x in (alive, step.reward, step.terminated)), transitions)


def _mask_finished(alive: np.ndarray, batch: Transition) -> Transition:
    """Set leaves [S, T, B, ...] to 0 where not alive [S, T, B]."""

    def mask_leaf(leaf):
        mask = alive.reshape(alive.shape + (1,) * (leaf.ndim - 3))
        return np.where(mask, leaf, np.zeros_like(leaf))

    return jax.tree.map(mask_leaf, batch)


def _of_length(leaf: np.ndarray, length: int) -> np.ndarray:
    """A leaf [S, T, ...] with T = `length`: cut off, or with zeros appended."""
    leaf = leaf[:, :length]
    return np.pad(leaf, [(0, 0), (0, length - leaf.shape[1])] + [(0, 0)] * (leaf.ndim - 2))
