"""Learners that go on in other worlds, on whatever terms: one compiled program for all of them.

Worlds are data, a pool [N] from which each episode draws one, and so are the terms: what the task
pays, what each feeling pays, whether the feelings are one's own. So every arm in every world is the
same program, and only who learns from it (heads, or the agent alone) needs another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend
from envs.world import Env, World, begin, rollout
from runs.adapting.terms import Sums, Terms, adapted, born, renewed
from runs.adapting.wrongness import asking
from runs.harness.evaluate import evaluate
from runs.harness.jitted import TOGETHER
from runs.harness.train import SEEDS, Learner, Run, Setup, no_tally, over_seeds, seed_keys

CHUNK_WORTH = 3  # a chunk of the training at home takes as long as so many arms in a shift


def never() -> bool:
    """Nobody asks to stop."""
    return False


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        seeds: S, learners.
        rows: learners computed, S rounded up to what the devices share evenly.
        num_envs: B, environments a learner.
        num_steps: T, steps in each of them an update.
        episodes: scored at each point.
        base: seed of all seeds.
        optimise: whether programs run long enough to be compiled with care.
    """

    seeds: int
    rows: int
    num_envs: int
    num_steps: int
    episodes: int
    base: int = 0
    optimise: bool = True


class Learners:
    """S learners with one blend of K feelings, and everything that is compiled for them.

    A life is `start` once, then any number of `live`, `enter` and `move`; `score` and `known`
    whenever. All take and give leaves [rows, ...]; nothing is changed in place. Whoever asks
    whether to stop (`stopped`) is heard between calls here, and at every step by
    `runs.adapting.hosted.HostLearners`, which raises `runs.harness.watch.Interrupted`.

    Args:
        env: the family of worlds.
        agent: a `agents.actor_critic.ActorCriticAgent`; it learns in `live` as it says.
        blend: the feelings.
        sizes: of it all.
    """

    def __init__(self, env: Env, agent: Any, blend: Blend, sizes: Sizes):
        self.env, self.agent, self.blend, self.sizes = env, agent, blend, sizes
        self.setup = Setup(agent, blend, sizes.num_envs, sizes.num_steps)
        self._programs: dict[tuple, Callable] = {}

    def other(self, agent: Any) -> "Learners":
        """The same with an agent that differs in how it descends, and not in how it acts."""
        return Learners(self.env, agent, self.blend, self.sizes)

    def start(self, pool: World) -> Run:
        """All learners before their first step in a pool of worlds [N]."""
        keys = seed_keys(self.sizes.base, np.arange(self.sizes.rows))
        return self._compiled(_start, 1)(keys, pool)

    def enter(self, run: Run, pool: World, key: jax.Array, critic_kept: bool = False) -> Run:
        """The same policies and feelings in other worlds, with a new critic and a new optimiser.

        Args:
            run: of the learners.
            pool: of worlds [N].
            key: of what happens there, which each learner makes its own.
            critic_kept: keep the critic. Without a task reward it is a signal by itself: an old
                critic's errors teach what it valued, and zero reward looks like success.
        """
        enter = self._compiled(_enter, 1)
        return enter(run.learner, self._own(key), self._each(float(critic_kept)), pool)

    def move(self, run: Run, pool: World, key: jax.Array) -> Run:
        """The same learners, critic and optimiser included, in other worlds."""
        return self._compiled(_move, 1)(run.learner, self._own(key), pool)

    def live(
        self,
        run: Run,
        pool: World,
        terms: Terms,
        updates: int,
        heads_learn: bool = False,
        stopped: Callable[[], bool] = never,
    ) -> tuple[Run, Sums]:
        """`updates` updates of all learners on the same terms -> (run, sums [rows, updates]).

        Heads are frozen unless `heads_learn`: then they learn from the same experience
        (`studied`; give the blend `epochs=1`).
        """
        del stopped
        program = self._compiled(_live, 2, True, updates=updates, heads_learn=heads_learn)
        return program(run, pool, terms)

    def score(
        self, agents: Any, worlds: World, key: jax.Array, stopped: Callable[[], bool] = never
    ) -> dict[str, np.ndarray]:
        """The scores [rows, P] of agent states in worlds [P, draws], the same episodes for all."""
        del stopped
        program = self._compiled(_score, 2, True, episodes=self._each_draw(worlds))
        return {name: np.asarray(x) for name, x in program(agents, worlds, key).items()}

    def known(
        self,
        learner: Learner,
        worlds: World,
        key: jax.Array,
        suffixes: Sequence[str],
        stopped: Callable[[], bool] = never,
    ) -> dict[str, np.ndarray]:
        """`runs.adapting.wrongness.known` of all learners in worlds [P, draws], each [rows, P]."""
        del stopped
        ask = asking(self.setup, self.env, self._each_draw(worlds), suffixes)
        asked = over_seeds(ask, self.sizes.rows, 2, self.sizes.optimise)
        return {name: np.asarray(x) for name, x in asked(learner, worlds, key).items()}

    def worth(self, chunk: int, arm: int) -> tuple[int, int]:
        """Units of progress of a chunk at home and of an arm in a shift, of so many updates."""
        del chunk, arm
        return CHUNK_WORTH, 1

    def cost(self, pool: World, updates: int, points: int) -> str | None:
        """How long so many updates and scored points will take, in words; None if nobody knows."""
        del pool, updates, points

    def close(self) -> None:
        """Nothing is open."""

    def terms(
        self, weights: Mapping[str, float] | None = None, pay: float = 0.0, sham: bool = False
    ) -> Terms:
        """Terms by the names of the feelings; one that is not named pays nothing.

        Raises:
            ValueError: for a name that is not in the blend.
        """
        given = weights or {}
        unknown = [name for name in given if name not in self.blend.names]
        if unknown:
            there = ", ".join(self.blend.names) or "none"
            raise ValueError(f"{unknown[0]} is no feeling of this blend: there are {there}")
        each = jnp.array([given.get(name, 0.0) for name in self.blend.names], jnp.float32)
        return Terms(jnp.float32(pay), each, jnp.float32(sham))

    def _compiled(self, fn: Callable, shared: int, long: bool = False, **static: Any) -> Callable:
        name = (fn, *static.items())
        if name not in self._programs:
            self._programs[name] = over_seeds(
                partial(fn, setup=self.setup, env=self.env, **static),
                self.sizes.rows,
                shared=shared,
                optimise=self.sizes.optimise and long,
                together=TOGETHER // self.sizes.num_envs,
            )
        return self._programs[name]

    def _each_draw(self, worlds: World) -> int:
        """Episodes in each world of [P, draws]."""
        return max(self.sizes.episodes // worlds.channel.noise.shape[1], 1)

    def _own(self, key: jax.Array) -> jax.Array:
        """A key for each learner."""
        return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(self.sizes.rows))

    def _each(self, value: float) -> jax.Array:
        return jnp.full((self.sizes.rows,), value, jnp.float32)


def drawn(pool: World, key: jax.Array) -> World:
    """One of a pool of worlds [N]."""
    chosen = jax.random.randint(key, (), 0, pool.channel.noise.shape[0])
    return jax.tree.map(lambda leaf: leaf[chosen], pool)


def _start(key: jax.Array, pool: World, *, setup: Setup, env: Env) -> Run:
    k_agent, k_heads, k_lives = jax.random.split(key, 3)
    learner = born(k_agent, k_heads, setup, env.spec)
    return _move(learner, k_lives, pool, setup=setup, env=env)


def _enter(learner, key, kept, pool, *, setup: Setup, env: Env) -> Run:
    k_critic, k_move = jax.random.split(key)
    learner = renewed(learner, k_critic, kept, setup, env.spec)
    return _move(learner, k_move, pool, setup=setup, env=env)


def _move(learner: Learner, key: jax.Array, pool: World, *, setup: Setup, env: Env) -> Run:
    k_lives, key = jax.random.split(key)
    lives = begin(k_lives, env, partial(drawn, pool), setup.num_envs)
    return Run(learner, lives, no_tally(setup.num_envs), key)


def _live(
    run: Run,
    pool: World,
    terms: Terms,
    *,
    setup: Setup,
    env: Env,
    updates: int,
    heads_learn: bool,
) -> tuple[Run, Sums]:
    def step(run: Run, _: None) -> tuple[Run, Sums]:
        key, k_rollout, k_update = jax.random.split(run.key, 3)
        act, world = partial(setup.agent.act, run.learner.agent), partial(drawn, pool)
        lives, batch = rollout(k_rollout, env, world, act, run.lives, setup.num_steps)
        how = {"setup": setup, "success": env.success, "heads_learn": heads_learn}
        learner, tally, sums = adapted(run.learner, run.tally, k_update, batch, terms, **how)
        return Run(learner, lives, tally, key), sums

    return jax.lax.scan(step, run, length=updates)


def _score(agent_state, worlds, key, *, setup, env, episodes):
    return evaluate(agent_state, setup.agent, env, worlds, key, episodes, SEEDS)
