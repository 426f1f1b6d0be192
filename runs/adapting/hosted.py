"""Learners that go on in other worlds of a host-stepped environment: only the stepping differs.

A shift of a host draws nothing, so all worlds of a pool are alike, and one is lived in.
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import jax
import numpy as np

from affect import Transition
from envs.host import Host
from envs.world import World
from runs.adapting.adapt import Learners, Sizes, never
from runs.adapting.places import Places, Stay
from runs.adapting.terms import Sums, Terms, adapted, born, renewed
from runs.adapting.wrongness import asked
from runs.harness.errors import UserError
from runs.harness.train import Learner, Setup, Tally, no_tally, over_seeds, seed_keys

WARM, PACED = 4, 28  # steps of all environments before they are timed, and steps that are


class HostLearners(Learners):
    """`Learners` in a host-stepped environment; they must be closed, which closes `other`s too.

    Args:
        env: the environment.
        agent, blend, sizes: as for `Learners`.
        places: where others live already; None for new ones.
    """

    def __init__(
        self, env: Host, agent: Any, blend: Any, sizes: Sizes, places: Places | None = None
    ):
        super().__init__(env, agent, blend, sizes)
        self.places = places or Places(agent, env, sizes)

    def other(self, agent: Any) -> "HostLearners":
        """The same, in the same places, with an agent that differs in how it descends alone."""
        return HostLearners(self.env, agent, self.blend, self.sizes, self.places)

    def start(self, pool: World) -> Stay:
        """All learners before their first step in a world."""
        keys = seed_keys(self.sizes.base, np.arange(self.sizes.rows))
        return self._begin(*self._compiled(_start, 0)(keys), pool, self.sizes.base)

    def enter(self, run: Any, pool: World, key: jax.Array, critic_kept: bool = False) -> Stay:
        """As `Learners.enter`."""
        kept = self._each(float(critic_kept))
        entered = self._compiled(_enter, 0)(run.learner, self._own(key), kept)
        return self._begin(*entered, pool, self._seed(key))

    def move(self, run: Any, pool: World, key: jax.Array) -> Stay:
        """As `Learners.move`."""
        moved = self._compiled(_move, 0)(run.learner, self._own(key))
        return self._begin(*moved, pool, self._seed(key))

    def live(
        self,
        run: Stay,
        pool: World,
        terms: Terms,
        updates: int,
        heads_learn: bool = False,
        stopped: Callable[[], bool] = never,
    ) -> tuple[Stay, Sums]:
        """As `Learners.live`, in the world where they are.

        Raises:
            ValueError: if `pool` is another world: `move` there first.
            Interrupted: if it was asked to stop.
        """
        if _differ(self._only(pool), run.world):
            raise ValueError(f"{self.env.id}: the learners are in another world; move them first")
        turn, channel, rows = self.places.turn, run.world.channel, []
        learn = self._compiled(_learn, 1, True, heads_learn=heads_learn)
        self.places.back(run)
        learner, ears, tally, keys = run[:4]
        for _ in range(updates):
            there = self.places.pool, Learner(learner.agent, ()), ears, keys, channel
            ears, batch = turn.batch(*there, self.sizes.num_steps, stopped)
            learner, tally, keys, sums = learn(learner, tally, keys, batch, terms)
            rows.append(jax.tree.map(np.asarray, sums))
        run = Stay(learner, ears, tally, keys, run.world, run.seed, self.places.here())
        return run, jax.tree.map(lambda *leaves: np.stack(leaves, 1), *rows)

    def score(
        self, agents: Any, worlds: World, key: jax.Array, stopped: Callable[[], bool] = never
    ) -> dict[str, np.ndarray]:
        """As `Learners.score`, one world after another.

        Raises:
            Interrupted: if it was asked to stop.
        """
        learner, seed, stage = Learner(agents, ()), self._seed(key), self.places.stage
        found = [stage.scores(learner, w, seed, stopped) for w in self._points(worlds)]
        return {name: np.stack([one[name] for one in found], 1) for name in found[0]}

    def known(
        self,
        learner: Learner,
        worlds: World,
        key: jax.Array,
        suffixes: Sequence[str],
        stopped: Callable[[], bool] = never,
    ) -> dict[str, np.ndarray]:
        """As `Learners.known`, one world after another.

        Raises:
            Interrupted: if it was asked to stop.
        """
        ask = partial(asked, setup=self.setup, suffixes=tuple(suffixes))
        ask = over_seeds(ask, self.sizes.rows, optimise=self.sizes.optimise)
        actor, seed, stage = Learner(learner.agent, ()), self._seed(key), self.places.stage
        found = [
            ask(learner, *stage.episodes(actor, world, seed, stopped))
            for world in self._points(worlds)
        ]
        return {name: np.stack([np.asarray(o[name]) for o in found], 1) for name in found[0]}

    def worth(self, chunk: int, arm: int) -> tuple[int, int]:
        """As many units of progress as updates, since the steps of a host take the time."""
        return chunk, arm

    def cost(self, pool: World, updates: int, points: int) -> str | None:
        """The steps of so many updates and scored points, and how long they take from now on."""
        run, turn = self.start(pool), self.places.turn
        self.places.back(run)
        agents, ears, begun = Learner(run.learner.agent, ()), run.ears, 0.0
        for t in range(WARM + PACED):
            begun = time.monotonic() if t == WARM else begun
            there = self.places.pool, agents, ears, run.key, run.world.channel
            ears = turn.take(*there, t)[0]
        each = self.sizes.rows * self.sizes.num_envs
        pace = PACED * each / (time.monotonic() - begun)
        lived = updates * each * self.sizes.num_steps
        scored = points * self.sizes.rows * self.sizes.episodes * self.env.horizon
        least, most = (timedelta(seconds=round(n / pace)) for n in (lived, lived + scored))
        return (
            f"stepped on the host, {pace:,.0f} steps a second just now: {lived:,} steps to learn "
            f"from and at most {scored:,} to be scored by, {least} to {most} beside the learning"
        )

    def close(self) -> None:
        """Ends the worker processes."""
        self.places.close()

    def _begin(
        self,
        learner: Learner,
        tally: Tally,
        k_ears: jax.Array,
        keys: jax.Array,
        pool: World,
        seed: int,
    ) -> Stay:
        world = self._only(pool)
        obs, snapshot = self.places.begin(world, seed)
        ears = self.places.turn.attend(k_ears, obs, world.channel)
        return Stay(learner, ears, tally, keys, world, seed, snapshot)

    def _only(self, pool: World) -> World:
        """The world of a pool [N]."""
        if any(np.ptp(np.asarray(leaf), 0).any() for leaf in jax.tree.leaves(pool)):
            raise UserError(
                f"{self.env.id}: a shift draws its worlds, and a host lives in one; choose others"
            )
        return jax.tree.map(lambda leaf: leaf[0], pool)

    def _points(self, worlds: World) -> list[World]:
        """Each world of [P, draws]."""
        count = worlds.channel.noise.shape[0]
        return [self._only(jax.tree.map(lambda leaf, i=i: leaf[i], worlds)) for i in range(count)]

    def _seed(self, key: jax.Array) -> int:
        """Of host episodes, in [0, 2^31), by a key that none of the learners has."""
        return int(jax.random.bits(jax.random.fold_in(key, self.sizes.rows))) >> 1


def _differ(one: World, other: World) -> bool:
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any(np.any(np.asarray(a) != np.asarray(b)) for a, b in leaves)


Moved = tuple[Learner, Tally, jax.Array, jax.Array]


def _start(key: jax.Array, *, setup: Setup, env: Host) -> Moved:
    k_agent, k_heads, k_lives = jax.random.split(key, 3)
    return _move(born(k_agent, k_heads, setup, env.spec), k_lives, setup=setup, env=env)


def _enter(learner: Learner, key: jax.Array, kept: jax.Array, *, setup: Setup, env: Host) -> Moved:
    k_critic, k_move = jax.random.split(key)
    return _move(renewed(learner, k_critic, kept, setup, env.spec), k_move, setup=setup, env=env)


def _move(learner: Learner, key: jax.Array, *, setup: Setup, env: Host) -> Moved:
    """One learner in other places -> (it, its tally, key of what it first senses, its stream)."""
    k_ears, key = jax.random.split(key)
    return learner, no_tally(setup.num_envs), k_ears, key


def _learn(
    learner: Learner,
    tally: Tally,
    key: jax.Array,
    batch: Transition,
    terms: Terms,
    *,
    setup: Setup,
    env: Host,
    heads_learn: bool,
) -> tuple[Learner, Tally, jax.Array, Sums]:
    # The steps of the batch used the numbers below 2 T, and splitting is folding in 0, 1, ...
    k_update, key = jax.random.split(jax.random.fold_in(key, 2 * batch.reward.shape[0]))
    how = {"setup": setup, "success": env.success, "heads_learn": heads_learn}
    learner, tally, sums = adapted(learner, tally, k_update, batch, terms, **how)
    return learner, tally, key, sums
