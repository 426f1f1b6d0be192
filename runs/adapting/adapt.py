"""Learners that go on in other worlds, on whatever terms: one compiled program for all of them.

Worlds are data, a pool [N] from which each episode draws one, and so are the terms: what the task
pays, what each feeling pays, whether the feelings are one's own. So every arm in every world is the
same program, and only who learns from it (heads, or the agent alone) needs another.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, Feelings, Transition, trainable
from affect.predict import harm
from envs.world import Env, World, begin, rollout
from runs.harness.evaluate import evaluate
from runs.harness.jitted import TOGETHER
from runs.harness.train import (
    Learner,
    Run,
    Setup,
    count,
    no_tally,
    over_seeds,
    seed_keys,
    soundness,
)

EPOCHS, PARTS = 4, 4  # passes of a head over a batch, and the stretches of time it is cut into


class Terms(NamedTuple):
    """What a learner lives on: numbers, so that arms do not differ in anything compiled.

    Attributes:
        pay: [] weight of the task's reward, 0 where nobody pays.
        weights: [K] of the blend's signals, on top of the blend's own.
        sham: [] 1 for the feelings of the environment next door, less their mean over the batch;
            0 for one's own.
    """

    pay: jax.Array
    weights: jax.Array
    sham: jax.Array


class Sums(NamedTuple):
    """Episodes that ended in an update, and sums over them, each [U] or []: the task's own account.

    Attributes:
        episodes: their number.
        success: of them; NaN where the world does not say.
        harm: steps of the update that did harm.
        total: of their returns.
        sound: 1 if everything was a number.
    """

    episodes: jax.Array
    success: jax.Array
    harm: jax.Array
    total: jax.Array
    sound: jax.Array


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

    A life is `start` once, then any number of `live`, `enter` and `move`; `score` whenever. All
    take and give leaves [rows, ...]; nothing is changed in place.

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
        self, run: Run, pool: World, terms: Terms, updates: int, heads_learn: bool = False
    ) -> tuple[Run, Sums]:
        """`updates` updates of all learners on the same terms -> (run, sums [rows, updates]).

        Heads are frozen unless `heads_learn`: then they learn from the same experience
        (`studied`; give the blend `epochs=1`).
        """
        program = self._compiled(_live, 2, True, updates=updates, heads_learn=heads_learn)
        return program(run, pool, terms)

    def score(self, agents: Any, worlds: World, key: jax.Array) -> dict[str, np.ndarray]:
        """The scores [rows, P] of agent states in worlds [P, draws], the same episodes for all."""
        each = max(self.sizes.episodes // worlds.channel.noise.shape[1], 1)
        program = self._compiled(_score, 2, True, episodes=each)
        return {name: np.asarray(x) for name, x in program(agents, worlds, key).items()}

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

    def _own(self, key: jax.Array) -> jax.Array:
        """A key for each learner."""
        return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(self.sizes.rows))

    def _each(self, value: float) -> jax.Array:
        return jnp.full((self.sizes.rows,), value, jnp.float32)


def wage(terms: Terms, batch: Transition, signals: jax.Array) -> jax.Array:
    """What a learner is paid for a batch, [T, B], of signals [T, B, K]."""
    felt = (signals * jnp.broadcast_to(terms.weights, signals.shape)).sum(-1)
    next_door = jnp.roll(felt, -1, axis=1) - felt.mean()
    return terms.pay * batch.reward + jnp.where(terms.sham > 0, next_door, felt)


def heard(
    blend: Blend, feelings: Feelings, batch: Transition, terms: Terms
) -> tuple[jax.Array, Feelings]:
    """`Blend.feel` of the heads that pay -> (signals [T, B, K], feelings).

    Terms are the same for all learners, so a head that pays nothing is not computed, and carries on
    what it carried.
    """
    signals, carry = [], {}
    for k, name in enumerate(blend.names):
        feel = partial(feelings.heads[name].net, feelings.carry[name], batch)
        idle = partial(_nothing, feelings.carry[name], batch)
        signal, carry[name] = jax.lax.cond(terms.weights[k] != 0, feel, idle)
        signals.append(jax.lax.stop_gradient(signal) * feelings.weights[k])
    nothing = jnp.zeros((*batch.reward.shape, 0))
    felt = jnp.stack(signals, -1) if signals else nothing
    return felt, feelings._replace(carry=carry)


def _nothing(carry: Any, batch: Transition) -> tuple[jax.Array, Any]:
    return jnp.zeros_like(batch.reward), carry


def studied(blend: Blend, feelings: Feelings, batch: Transition) -> Feelings:
    """The feelings after EPOCHS passes over PARTS parts of a batch [T, B], T divided among them.

    As many gradient steps as the agent takes. With the two on whole batches of `runs.compare`, the
    heads of Drive take a crash for an arrival at the end of 217,000 steps (hope .8 and .9), which
    is harmless in a potential that is 0 beyond the end and ruinous in one that is paid there.
    """
    parts = jax.tree.map(lambda leaf: leaf.reshape(PARTS, -1, *leaf.shape[1:]), batch)

    def part(feelings: Feelings, part: Transition) -> tuple[Feelings, None]:
        return blend.learn(feelings, part)[0], None

    def epoch(feelings: Feelings, _: None) -> tuple[Feelings, None]:
        return jax.lax.scan(part, feelings, parts)

    return jax.lax.scan(epoch, feelings, length=EPOCHS)[0]


def drawn(pool: World, key: jax.Array) -> World:
    """One of a pool of worlds [N]."""
    chosen = jax.random.randint(key, (), 0, pool.channel.noise.shape[0])
    return jax.tree.map(lambda leaf: leaf[chosen], pool)


def _start(key: jax.Array, pool: World, *, setup: Setup, env: Env) -> Run:
    k_agent, k_heads, k_lives = jax.random.split(key, 3)
    agent = setup.agent.init(k_agent, env.spec)
    feelings = setup.blend.init(k_heads, env.spec, setup.num_envs)
    return _move(Learner(agent, feelings), k_lives, pool, setup=setup, env=env)


def _enter(learner, key, kept, pool, *, setup: Setup, env: Env) -> Run:
    k_critic, k_move = jax.random.split(key)
    old, net = learner.agent.trained.net, setup.agent.init(k_critic, env.spec).trained.net
    net.actor = old.actor
    net.critic = jax.tree.map(
        lambda old, new: jnp.where(kept > 0, old, new), old.critic, net.critic
    )
    agent = learner.agent._replace(trained=trainable(net, setup.agent.tx()))
    return _move(Learner(agent, learner.feelings), k_move, pool, setup=setup, env=env)


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
        agent, feelings = run.learner
        act, world = partial(setup.agent.act, agent), partial(drawn, pool)
        lives, batch = rollout(k_rollout, env, world, act, run.lives, setup.num_steps)
        if heads_learn:
            signals, after = setup.blend.feel(feelings, batch)
            after = studied(setup.blend, feelings, batch)._replace(carry=after.carry)
        else:
            signals, after = heard(setup.blend, feelings, batch, terms)
        paid = batch._replace(reward=wage(terms, batch, signals))
        nothing = jnp.zeros((*batch.reward.shape, 0))
        agent, metrics = setup.agent.update(agent, k_update, paid, nothing)
        learner = Learner(agent, after)
        tally, sums = count(run.tally, batch, env.success)
        sound = soundness(learner, paid, metrics).all()
        told = sums["episodes"], sums["success"], harm(batch).sum(), sums["return"], sound
        return Run(learner, lives, tally, key), Sums(*(jnp.float32(x) for x in told))

    return jax.lax.scan(step, run, length=updates)


def _score(agent_state, worlds, key, *, setup, env, episodes):
    return evaluate(agent_state, setup.agent, env, worlds, key, episodes)
