"""Rollout in host-stepped environments: compiled policy and channel around `HostPool.step`."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs import channel as channel_model
from envs.channel import Channel
from envs.host.pool import HostPool, HostStep
from envs.host.suite import HostEnv
from runs.engine.seeds import Stream, stream_key, vmap_seeds
from runs.engine.train import Learner
from runs.errors import Interrupted


class HostObservation(NamedTuple):
    """Observation state of one seed's B environments, after the channel's disturbances.

    Attributes:
        obs: [B, D] as sensed by the agent.
        queue: [B, MAX_DELAY, ...] last chosen actions (`envs.channel`).
        first: [B] bool, the next step is the first of an episode.
    """

    obs: jax.Array
    queue: jax.Array
    first: jax.Array


class HostStepper(NamedTuple):
    """Compiled functions of S seeds, run before and after a step of the host environments.

    Attributes:
        observe_reset: `observe_reset`.
        sample: `choose_actions`, sampled from the policy.
        greedy_action: `choose_actions`, by the mode of the policy.
        observe: `observe_step`.
    """

    observe_reset: Callable
    sample: Callable
    greedy_action: Callable
    observe: Callable

    def step(
        self,
        pool: HostPool,
        learner: Any,
        host_obs: HostObservation,
        keys: jax.Array,
        channel: Channel,
        time: int,
        greedy: bool = False,
    ) -> tuple[HostObservation, Transition, HostStep]:
        """Step all environments of all S seeds once -> (host_obs, transition, host step), [S, B].

        Args:
            pool: of S x B environments, those of the first seed first.
            learner: of all seeds; only its agent is used.
            host_obs: of all seeds.
            keys: [S], from which all keys of a batch are derived.
            channel: of disturbances between agents and world.
            time: index of the step within the batch.
            greedy: act by the policy's mode instead of sampling.
        """
        choose = self.greedy_action if greedy else self.sample
        action, executed, host_obs = choose(keys, learner, host_obs, channel, time)
        executed = np.asarray(executed)
        host_step = by_seed(pool.step(executed.reshape(-1, *executed.shape[2:])), executed.shape[0])
        host_obs, transition = self.observe(keys, host_obs, action, host_step, channel, time)
        return host_obs, transition, host_step

    def rollout(
        self,
        pool: HostPool,
        learner: Any,
        host_obs: HostObservation,
        keys: jax.Array,
        channel: Channel,
        steps: int,
        stopped: Callable[[], bool],
    ) -> tuple[HostObservation, Transition]:
        """Roll out the policies for T = `steps` steps -> (host_obs, transitions [S, T, B]).

        Raises:
            Interrupted: if `stopped()` is true before a step.
        """
        transitions = []
        for t in range(steps):
            if stopped():
                raise Interrupted
            host_obs, transition, _ = self.step(pool, learner, host_obs, keys, channel, t)
            transitions.append(jax.tree.map(np.asarray, transition))
        return host_obs, jax.tree.map(lambda *leaves: np.stack(leaves, 1), *transitions)


def by_seed(tree: Any, rows: int) -> Any:
    """Reshape leaves [S x B, ...] of a pool to [S, B, ...], with S = `rows`."""
    return jax.tree.map(lambda leaf: leaf.reshape(rows, -1, *leaf.shape[1:]), tree)


def compiled_stepper(agent: Any, host: HostEnv, rows: int) -> HostStepper:
    """Compile the `HostStepper` of S = `rows` seeds."""
    return HostStepper(
        vmap_seeds(partial(observe_reset, host), rows, shared=1),
        vmap_seeds(partial(choose_actions, agent, host, greedy=False), rows, shared=2),
        vmap_seeds(partial(choose_actions, agent, host, greedy=True), rows, shared=2),
        vmap_seeds(partial(observe_step, host), rows, shared=2),
    )


def observe_reset(
    host: HostEnv, key: jax.Array, obs: jax.Array, channel: Channel
) -> HostObservation:
    """Pass the first observations [B, D] of one seed through the channel."""
    keys = jax.random.split(stream_key(key, Stream.RESET), obs.shape[0])
    reset_one = partial(
        channel_model.reset_obs, channel=channel, spec=host.spec, scale=jnp.array(host.obs_scale)
    )
    sensed, queue = jax.vmap(lambda key, obs: reset_one(key, obs=obs))(keys, obs)
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
    """Choose one seed's actions [B] -> (chosen, executed after the channel, host_obs)."""
    k_act, k_slip = jax.random.split(jax.random.fold_in(stream_key(key, Stream.ACTION), time))
    action = agent.act(learner.agent, None if greedy else k_act, host_obs.obs)

    def apply_one(key, queue, first, action):
        return channel_model.apply_action(key, channel, queue, host.spec, first, action)

    keys = jax.random.split(k_slip, host_obs.first.shape[0])
    executed, queue = jax.vmap(apply_one)(keys, host_obs.queue, host_obs.first, action)
    if host.spec.action_dim:  # a stopped seed may choose NaN
        executed = jnp.clip(jnp.nan_to_num(executed), -1.0, 1.0)
    return action, executed, host_obs._replace(queue=queue)


def observe_step(
    host: HostEnv,
    key: jax.Array,
    host_obs: HostObservation,
    action: jax.Array,
    host_step: HostStep,
    channel: Channel,
    time: jax.Array,
) -> tuple[HostObservation, Transition]:
    """Pass one seed's environment step [B] through the channel -> (host_obs, transition)."""
    scale = jnp.array(host.obs_scale)

    def observe_one(key, host_obs, action, host_step):
        k_sense, k_reset, k_reward = jax.random.split(key, 3)
        next_obs = channel_model.observe(k_sense, channel, host_obs.obs, scale, host_step.next_obs)
        reset_sensed, reset_queue = channel_model.reset_obs(
            k_reset, channel, host.spec, scale, host_step.obs
        )
        ended = host_step.terminated | host_step.truncated
        reward = channel_model.noisy_reward(k_reward, channel, host_step.reward)
        ends = host_step.terminated, host_step.truncated
        transition = _transition(
            host, host_obs.obs, action, next_obs, reward, *ends, host_obs.first
        )
        candidates = (
            HostObservation(reset_sensed, reset_queue, ended),
            HostObservation(next_obs, host_obs.queue, ended),
        )
        return jax.tree.map(lambda new, old: jnp.where(ended, new, old), *candidates), transition

    key = jax.random.fold_in(stream_key(key, Stream.STEP), time)
    keys = jax.random.split(key, host_obs.first.shape[0])
    return jax.vmap(observe_one)(keys, host_obs, action, host_step)


def _transition(host, obs, action, next_obs, reward, terminated, truncated, first) -> Transition:
    """Build a transition; its `info` reports terminations as harm if the environment is harmful."""
    info = {"harm": terminated.astype(np.float32)} if host.harmful else {}
    return Transition(obs, action, next_obs, reward, terminated, truncated, first, info)
