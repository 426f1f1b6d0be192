"""A step in a host-stepped environment: two compiled halves around somebody else's own."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs import channel as senses
from envs.channel import Channel
from envs.host import Host
from envs.host_pool import HostPool, Step
from runs.harness.train import Learner, over_seeds
from runs.harness.watch import Interrupted


class Ears(NamedTuple):
    """What one seed senses of its B environments: obs [B, D], the channel's queue, first [B]."""

    obs: jax.Array
    queue: jax.Array
    first: jax.Array


class Turn(NamedTuple):
    """The two halves of a step around the environments', compiled once for all arms."""

    attend: Callable
    choose: Callable
    mode: Callable
    hear: Callable

    def take(
        self,
        pool: HostPool,
        learner: Any,
        ears: Ears,
        keys: jax.Array,
        channel: Channel,
        time: int,
        greedy: bool = False,
    ) -> tuple[Ears, Transition, Step]:
        """One step of all environments of all S seeds -> (ears, transition, what was told).

        Args:
            pool: of S x B environments, those of the first seed first.
            learner: of all seeds; only its agent is asked.
            ears: of all seeds.
            keys: [S], each the source of all numbers of a batch.
            channel: between the learners and this world.
            time: of the step within the batch.
            greedy: take the policy's mode.
        """
        decide = self.mode if greedy else self.choose
        action, taken, ears = decide(keys, learner, ears, channel, time)
        taken = np.asarray(taken)
        told = by_seed(pool.step(taken.reshape(-1, *taken.shape[2:])), taken.shape[0])
        ears, seen = self.hear(keys, ears, action, told, channel, time)
        return ears, seen, told

    def batch(
        self,
        pool: HostPool,
        learner: Any,
        ears: Ears,
        keys: jax.Array,
        channel: Channel,
        steps: int,
        stopped: Callable[[], bool],
    ) -> tuple[Ears, Transition]:
        """T = `steps` steps by the policy -> (ears, transitions [S, T, B]).

        Raises:
            Interrupted: if it was asked to stop; it is asked before every step.
        """
        lived = []
        for t in range(steps):
            if stopped():
                raise Interrupted
            ears, seen, _ = self.take(pool, learner, ears, keys, channel, t)
            lived.append(jax.tree.map(np.asarray, seen))
        return ears, jax.tree.map(lambda *leaves: np.stack(leaves, 1), *lived)


def by_seed(tree: Any, rows: int) -> Any:
    """Leaves [S x B, ...] of a pool as [S, B, ...] of S = `rows` seeds."""
    return jax.tree.map(lambda leaf: leaf.reshape(rows, -1, *leaf.shape[1:]), tree)


@functools.cache
def compiled(agent: Any, host: Host, rows: int) -> Turn:
    """The compiled halves for `rows` seeds."""
    return Turn(
        over_seeds(partial(attend, host), rows, shared=1),
        over_seeds(partial(choose, agent, host, greedy=False), rows, shared=2),
        over_seeds(partial(choose, agent, host, greedy=True), rows, shared=2),
        over_seeds(partial(hear, host), rows, shared=2),
    )


def attend(host: Host, key: jax.Array, obs: jax.Array, channel: Channel) -> Ears:
    """The first observations [B, D] of one seed's environments, as they are sensed."""
    keys = jax.random.split(jax.random.fold_in(key, 2 * host.horizon), obs.shape[0])
    one = partial(senses.attend, channel=channel, spec=host.spec, scale=jnp.array(host.obs_scale))
    sensed, queue = jax.vmap(lambda key, obs: one(key, obs=obs))(keys, obs)
    return Ears(sensed, queue, jnp.ones(obs.shape[0], bool))


def choose(
    agent: Any,
    host: Host,
    key: jax.Array,
    learner: Learner,
    ears: Ears,
    channel: Channel,
    time: jax.Array,
    greedy: bool,
) -> tuple[jax.Array, jax.Array, Ears]:
    """One seed's actions [B] at a step -> (chosen, what takes effect, ears)."""
    k_act, k_slip = jax.random.split(jax.random.fold_in(key, 2 * time))
    action = agent.act(learner.agent, None if greedy else k_act, ears.obs)

    def one(key, queue, first, action):
        return senses.act(key, channel, queue, host.spec, first, action)

    keys = jax.random.split(k_slip, ears.first.shape[0])
    taken, queue = jax.vmap(one)(keys, ears.queue, ears.first, action)
    if host.spec.action_dim:  # a stopped seed may choose what is not a number
        taken = jnp.clip(jnp.nan_to_num(taken), -1.0, 1.0)
    return action, taken, ears._replace(queue=queue)


def hear(
    host: Host,
    key: jax.Array,
    ears: Ears,
    action: jax.Array,
    told: Step,
    channel: Channel,
    time: jax.Array,
) -> tuple[Ears, Transition]:
    """What one seed's environments [B] told of a step, as it is sensed."""
    scale = jnp.array(host.obs_scale)

    def one(key, ears, action, told):
        k_sense, k_attend, k_pay = jax.random.split(key, 3)
        next_obs = senses.sense(k_sense, channel, ears.obs, scale, told.next_obs)
        fresh, clean = senses.attend(k_attend, channel, host.spec, scale, told.obs)
        ended = told.terminated | told.truncated
        reward = senses.pay(k_pay, channel, told.reward)
        ends = told.terminated, told.truncated
        seen = _transition(host, ears.obs, action, next_obs, reward, *ends, ears.first)
        after = Ears(fresh, clean, ended), Ears(next_obs, ears.queue, ended)
        return jax.tree.map(lambda new, old: jnp.where(ended, new, old), *after), seen

    keys = jax.random.split(jax.random.fold_in(key, 2 * time + 1), ears.first.shape[0])
    return jax.vmap(one)(keys, ears, action, told)


def _transition(host, obs, action, next_obs, reward, terminated, truncated, first) -> Transition:
    info = {"harm": terminated.astype(np.float32)} if host.harmful else {}
    return Transition(obs, action, next_obs, reward, terminated, truncated, first, info)
