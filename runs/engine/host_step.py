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
from envs.host.pool import HostPool, HostStep
from envs.host.suite import HostEnv
from runs.cli.interrupt import Interrupted
from runs.engine.train import Learner, vmap_seeds


class HostObservation(NamedTuple):
    """What one seed senses of its B environments: obs [B, D], the channel's queue, first [B]."""

    obs: jax.Array
    queue: jax.Array
    first: jax.Array


class HostStepper(NamedTuple):
    """The two halves of a step around the environments', compiled once for all arms."""

    attend: Callable
    choose: Callable
    mode: Callable
    hear: Callable

    def take(
        self,
        pool: HostPool,
        learner: Any,
        host_obs: HostObservation,
        keys: jax.Array,
        channel: Channel,
        time: int,
        greedy: bool = False,
    ) -> tuple[HostObservation, Transition, HostStep]:
        """One step of all environments of all S seeds -> (ears, transition, what was told).

        Args:
            pool: of S x B environments, those of the first seed first.
            learner: of all seeds; only its agent is asked.
            host_obs: of all seeds.
            keys: [S], each the source of all numbers of a batch.
            channel: between the learners and this world.
            time: of the step within the batch.
            greedy: take the policy's mode.
        """
        decide = self.mode if greedy else self.choose
        action, taken, host_obs = decide(keys, learner, host_obs, channel, time)
        taken = np.asarray(taken)
        told = by_seed(pool.step(taken.reshape(-1, *taken.shape[2:])), taken.shape[0])
        host_obs, seen = self.hear(keys, host_obs, action, told, channel, time)
        return host_obs, seen, told

    def batch(
        self,
        pool: HostPool,
        learner: Any,
        host_obs: HostObservation,
        keys: jax.Array,
        channel: Channel,
        steps: int,
        stopped: Callable[[], bool],
    ) -> tuple[HostObservation, Transition]:
        """T = `steps` steps by the policy -> (ears, transitions [S, T, B]).

        Raises:
            Interrupted: if it was asked to stop; it is asked before every step.
        """
        lived = []
        for t in range(steps):
            if stopped():
                raise Interrupted
            host_obs, seen, _ = self.take(pool, learner, host_obs, keys, channel, t)
            lived.append(jax.tree.map(np.asarray, seen))
        return host_obs, jax.tree.map(lambda *leaves: np.stack(leaves, 1), *lived)


def by_seed(tree: Any, rows: int) -> Any:
    """Leaves [S x B, ...] of a pool as [S, B, ...] of S = `rows` seeds."""
    return jax.tree.map(lambda leaf: leaf.reshape(rows, -1, *leaf.shape[1:]), tree)


@functools.cache
def compiled_stepper(agent: Any, host: HostEnv, rows: int) -> HostStepper:
    """The compiled halves for `rows` seeds."""
    return HostStepper(
        vmap_seeds(partial(observe_reset, host), rows, shared=1),
        vmap_seeds(partial(choose_actions, agent, host, greedy=False), rows, shared=2),
        vmap_seeds(partial(choose_actions, agent, host, greedy=True), rows, shared=2),
        vmap_seeds(partial(observe_step, host), rows, shared=2),
    )


def observe_reset(
    host: HostEnv, key: jax.Array, obs: jax.Array, channel: Channel
) -> HostObservation:
    """The first observations [B, D] of one seed's environments, as they are sensed."""
    keys = jax.random.split(jax.random.fold_in(key, 2 * host.horizon), obs.shape[0])
    one = partial(
        senses.reset_obs, channel=channel, spec=host.spec, scale=jnp.array(host.obs_scale)
    )
    sensed, queue = jax.vmap(lambda key, obs: one(key, obs=obs))(keys, obs)
    return HostObservation(sensed, queue, jnp.ones(obs.shape[0], bool))


def choose_actions(
    agent: Any,
    host: HostEnv,
    key: jax.Array,
    learner: Learner,
    host_obs: HostObservation,
    channel: Channel,
    time: jax.Array,
    greedy: bool,
) -> tuple[jax.Array, jax.Array, HostObservation]:
    """One seed's actions [B] at a step -> (chosen, what takes effect, ears)."""
    k_act, k_slip = jax.random.split(jax.random.fold_in(key, 2 * time))
    action = agent.act(learner.agent, None if greedy else k_act, host_obs.obs)

    def one(key, queue, first, action):
        return senses.apply_action(key, channel, queue, host.spec, first, action)

    keys = jax.random.split(k_slip, host_obs.first.shape[0])
    taken, queue = jax.vmap(one)(keys, host_obs.queue, host_obs.first, action)
    if host.spec.action_dim:  # a stopped seed may choose what is not a number
        taken = jnp.clip(jnp.nan_to_num(taken), -1.0, 1.0)
    return action, taken, host_obs._replace(queue=queue)


def observe_step(
    host: HostEnv,
    key: jax.Array,
    host_obs: HostObservation,
    action: jax.Array,
    told: HostStep,
    channel: Channel,
    time: jax.Array,
) -> tuple[HostObservation, Transition]:
    """What one seed's environments [B] told of a step, as it is sensed."""
    scale = jnp.array(host.obs_scale)

    def one(key, host_obs, action, told):
        k_sense, k_attend, k_pay = jax.random.split(key, 3)
        next_obs = senses.observe(k_sense, channel, host_obs.obs, scale, told.next_obs)
        fresh, clean = senses.reset_obs(k_attend, channel, host.spec, scale, told.obs)
        ended = told.terminated | told.truncated
        reward = senses.noisy_reward(k_pay, channel, told.reward)
        ends = told.terminated, told.truncated
        seen = _transition(host, host_obs.obs, action, next_obs, reward, *ends, host_obs.first)
        after = (
            HostObservation(fresh, clean, ended),
            HostObservation(next_obs, host_obs.queue, ended),
        )
        return jax.tree.map(lambda new, old: jnp.where(ended, new, old), *after), seen

    keys = jax.random.split(jax.random.fold_in(key, 2 * time + 1), host_obs.first.shape[0])
    return jax.vmap(one)(keys, host_obs, action, told)


def _transition(host, obs, action, next_obs, reward, terminated, truncated, first) -> Transition:
    info = {"harm": terminated.astype(np.float32)} if host.harmful else {}
    return Transition(obs, action, next_obs, reward, terminated, truncated, first, info)
