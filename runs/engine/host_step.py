"""Rollout loop in host-stepped environments: compiled policy and channel, `HostPool.step`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs import channel as channel_model
from envs.channel import Channel
from envs.host.policy import executed
from envs.host.pool import HostPool
from envs.host.results import HostRollout, HostStep
from envs.host.suite import HostEnv
from runs.engine.numpy_policy import (
    action_keys,
    acts_in_numpy,
    drawn_noise,
    numpy_policy,
    policy_noise,
)
from runs.engine.seeds import FAST_COMPILE, OPTIMISED_COMPILE, Stream, stream_key
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


class Played(NamedTuple):
    """One step of all environments of S seeds, [S, B, ...]; jax arrays may not be computed yet.

    Attributes:
        before: observations that were acted on.
        action: chosen by the policy.
        step: of the environments.
        next_obs, reward: of the step, as sensed by the agent.
        after: observations to act on next.
    """

    before: HostObservation
    action: np.ndarray
    step: HostStep
    next_obs: jax.Array
    reward: jax.Array
    after: HostObservation


class HostStepper:
    """Policy and channel of S seeds: compiled, one call a step, on one device; or in NumPy.

    One device, because a call on several costs more than these small programs.

    Args:
        agent: static description shared by all seeds, such as `PPO`.
        host: the environment.
        rows: S.
        optimise: as in `vmap_seeds`.
    """

    def __init__(self, agent: Any, host: HostEnv, rows: int, optimise: bool = True):
        self.agent, self.host, self.rows, self.optimise = agent, host, rows, optimise
        self._programs: dict[Any, Callable] = {}

    def observe_reset(self, keys: jax.Array, obs: np.ndarray, channel: Channel) -> HostObservation:
        """First observations [S, B, D] as sensed by the agents of keys [S]."""
        program = self._program("reset", partial(observe_reset, self.host), (0, 0, 0))
        return program(on_one_device(keys), obs, _of_rows(channel, self.rows))

    def play(
        self,
        pool: HostPool,
        learner: Any,
        host_obs: HostObservation,
        keys: jax.Array,
        channel: Channel,
        steps: int,
        stopped: Callable[[], bool],
        greedy: bool = False,
        live: np.ndarray | None = None,
    ) -> Iterator[Played]:
        """Step all environments `steps` times, yielding each step.

        Args:
            pool: of S x B environments, those of the first seed first.
            learner: of all seeds; only its agent is used.
            host_obs: of all seeds.
            keys: [S], from which all keys are derived.
            channel: of disturbances between agents and world, leaves [] or [S].
            steps: T.
            stopped: returns whether to stop.
            greedy: act by the policy's mode instead of sampling.
            live: [S x B] whose episode goes on, which is updated: no other follows, and only these
                are stepped. None to step all.

        Raises:
            Interrupted: if `stopped()` is true before a step.
        """
        leaves, structure = jax.tree.flatten(learner.agent)
        leaves, keys = on_one_device((leaves, jax.random.key_data(keys)))
        policy = self._undisturbed if changes_nothing(channel) else self._disturbed
        choose, observe = policy(structure, greedy, keys, leaves, _of_rows(channel, self.rows))
        chosen, executed, queue = choose(host_obs)
        for t in range(steps):
            if stopped():
                raise Interrupted
            pool_step = pool.step(executed.reshape(-1, *executed.shape[2:]), live)
            if live is not None:
                live &= ~(pool_step.terminated | pool_step.truncated)
            step = by_seed(pool_step, self.rows)
            acted, action = host_obs._replace(queue=queue), chosen
            (chosen, executed, queue), next_obs, reward, after = observe(acted, step, t)
            yield Played(host_obs, action, step, next_obs, reward, after)
            host_obs = after

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
        """Step all environments T = `steps` times -> (last host_obs, transitions [S, T, B]).

        As `play` does, or in one call to the pool if the agent acts in NumPy.
        """
        inputs = pool, learner, host_obs, keys, channel, steps, stopped
        if self.whole_rollouts(pool, channel):
            noise = policy_noise(learner.agent, self._drawn(keys, pool, steps))
            policy = numpy_policy(self.agent, learner.agent)
            rollout = pool.rollout(policy, noise, steps, stopped)
            if rollout is None:
                raise Interrupted
            return self._observed(rollout, host_obs)
        played = list(self.play(*inputs))
        transitions = [transition(self.host, one) for one in played]
        return played[-1].after, jax.tree.map(lambda *xs: np.stack(xs, 1), *transitions)

    def whole_rollouts(self, pool: HostPool, channel: Channel) -> bool:
        """Whether the agents act in NumPy, where the environments of a pool are stepped."""
        num_envs = pool.num_envs // self.rows
        return changes_nothing(channel) and acts_in_numpy(self.agent, self.host, num_envs)

    def last_episodes(
        self,
        pool: HostPool,
        learner: Any,
        host_obs: HostObservation,
        live: np.ndarray,
        steps: int,
        stopped: Callable[[], bool],
    ) -> tuple[HostObservation, Transition]:
        """Step the environments that are `live`, by the mode of policies in NumPy.

        Arguments and results are those of `rollout`; `live` [S x B] is that of `play`, and is not
        changed. Transitions of other environments have reward 0 and no end.
        """
        rollout = pool.rollout(numpy_policy(self.agent, learner.agent), None, steps, stopped, live)
        if rollout is None:
            raise Interrupted
        return self._observed(rollout, host_obs)

    def _drawn(self, keys: jax.Array, pool: HostPool, steps: int) -> jax.Array:
        """Random numbers [S, T, B, A] of the policies of a rollout."""
        sizes = {"num_envs": pool.num_envs // self.rows, "steps": steps}
        draw = partial(drawn_noise, spec=self.host.spec, **sizes)
        program = self._program(("noise", *sizes.values()), draw, (0,))
        return program(on_one_device(keys))

    def _observed(
        self, rollout: HostRollout, host_obs: HostObservation
    ) -> tuple[HostObservation, Transition]:
        """Last observations and transitions [S, T, B] of a rollout without disturbances."""
        *arrays, last_obs = rollout
        obs, *rest = (_by_seed_and_time(x, self.rows) for x in arrays)
        ended = rest[-2] | rest[-1]
        first = np.concatenate([np.asarray(host_obs.first)[:, None], ended[:, :-1]], 1)
        after = HostObservation(by_seed(last_obs, self.rows), host_obs.queue, ended[:, -1])
        return after, _transition(self.host, obs, *rest, first)

    def _policy(self, structure: Any, greedy: bool, keys: jax.Array, leaves: list) -> Callable:
        """Function (observations [S, B, D], time) -> actions [S, B, ...] of the agents."""

        def act(key, leaves, obs, time):
            state = jax.tree.unflatten(structure, leaves)
            k_act, _ = action_keys(jax.random.wrap_key_data(key), time)
            return self.agent.act(state, None if greedy else k_act, obs)

        program = self._program((structure, greedy), act, (0, 0, 0, None))
        return lambda obs, time: np.asarray(program(keys, leaves, obs, np.int32(time)))

    def _undisturbed(
        self, structure: Any, greedy: bool, keys: jax.Array, leaves: list, channel: Channel
    ) -> tuple[Callable, Callable]:
        """Choice of actions, and observation of a step with the next choice, without a channel."""
        act = self._policy(structure, greedy, keys, leaves)

        def choose(host_obs, time=0):
            action = act(host_obs.obs, time)
            return action, executed(action), host_obs.queue

        def observe(acted, step, time):
            after = HostObservation(step.obs, acted.queue, step.terminated | step.truncated)
            return choose(after, time + 1), step.next_obs, step.reward, after

        return choose, observe

    def _disturbed(
        self, structure: Any, greedy: bool, keys: jax.Array, leaves: list, channel: Channel
    ) -> tuple[Callable, Callable]:
        """Choice of actions, and observation of a step with the next choice, through a channel."""

        def choose_one(key, leaves, host_obs, channel, time):
            learner = Learner(jax.tree.unflatten(structure, leaves), ())
            chosen, executed, host_obs = choose_actions(
                self.agent, self.host, key, learner, host_obs, channel, time, greedy
            )
            return jnp.stack([chosen, executed]), host_obs.queue

        def first(key, leaves, host_obs, channel):
            return choose_one(jax.random.wrap_key_data(key), leaves, host_obs, channel, 0)

        def advance(key, leaves, acted, step, channel, time):
            key = jax.random.wrap_key_data(key)
            after, sensed = observe_step(self.host, key, acted, step.reward, step, channel, time)
            chosen = choose_one(key, leaves, after, channel, time + 1)
            return *chosen, sensed.next_obs, sensed.reward, after

        first_program = self._program((structure, greedy, 0), first, (0, 0, 0, 0), (1, 0))
        axes = (0, 0, 0, 0, 0, None), (1, 0, 0, 0, 0)
        advance_program = self._program((structure, greedy, 1), advance, *axes)

        def choose(host_obs):
            actions, queue = first_program(keys, leaves, on_one_device(host_obs), channel)
            return *np.asarray(actions), queue

        def observe(acted, step, time):
            inputs = keys, leaves, acted, step, channel, np.int32(time)
            actions, queue, *observed = advance_program(*inputs)
            return (*np.asarray(actions), queue), *observed

        return choose, observe

    def _program(self, key: Any, fn: Callable, in_axes: tuple, out_axes: Any = 0) -> Callable:
        """`fn` of one seed, compiled for all; kept by its key."""
        if key not in self._programs:
            options = OPTIMISED_COMPILE if self.optimise else FAST_COMPILE
            options = options if jax.devices()[0].platform == "cpu" else None
            mapped = jax.vmap(fn, in_axes, out_axes)
            self._programs[key] = jax.jit(mapped, compiler_options=options)
        return self._programs[key]


def transition(host: HostEnv, played: Played) -> Transition:
    """Transition [S, B] of a step, as numpy arrays."""
    step, before = played.step, jax.tree.map(np.asarray, played.before)
    ends = step.terminated, step.truncated
    sensed = np.asarray(played.next_obs), np.asarray(played.reward)
    return _transition(host, before.obs, played.action, *sensed, *ends, before.first)


def changes_nothing(channel: Channel) -> bool:
    """Whether a channel leaves every value as it is, as the default one does."""
    default = channel_model.undisturbed(channel)
    same = jax.tree.map(lambda x, y: bool((np.asarray(x) == y).all()), channel, default)
    return all(jax.tree.leaves(same))


def _of_rows(channel: Channel, rows: int) -> Channel:
    """A channel whose leaves [] or [S] are [S], with S = `rows`."""
    return jax.tree.map(lambda x: jnp.asarray(np.broadcast_to(np.float32(x), rows)), channel)


def on_one_device(tree: Any) -> Any:
    """A pytree of jax arrays on the default device, to which they are not committed."""

    def move(leaf: Any) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(move(jax.random.key_data(leaf)))
        return jnp.asarray(np.asarray(leaf))

    return jax.tree.map(lambda leaf: move(jnp.asarray(leaf)), tree)


def _by_seed_and_time(leaf: np.ndarray, rows: int) -> np.ndarray:
    """An array [T, S x B, ...] of a pool as [S, T, B, ...], with S = `rows`."""
    return np.moveaxis(leaf.reshape(len(leaf), rows, -1, *leaf.shape[2:]), 1, 0)


def by_seed(tree: Any, rows: int) -> Any:
    """Reshape leaves [S x B, ...] of a pool to [S, B, ...], with S = `rows`."""
    return jax.tree.map(lambda leaf: leaf.reshape(rows, -1, *leaf.shape[1:]), tree)


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
    k_act, k_slip = action_keys(key, time)
    action = agent.act(learner.agent, None if greedy else k_act, host_obs.obs)
    return action, *executed_actions(host, k_slip, action, host_obs, channel)


def executed_actions(
    host: HostEnv, key: jax.Array, action: jax.Array, host_obs: HostObservation, channel: Channel
) -> tuple[jax.Array, HostObservation]:
    """Pass one seed's actions [B] through the channel -> (executed, host_obs)."""

    def apply_one(key, queue, first, action, obs):
        return channel_model.apply_action(key, channel, queue, host.spec, first, action, obs)

    keys = jax.random.split(key, host_obs.first.shape[0])
    inputs = keys, host_obs.queue, host_obs.first, action, host_obs.obs
    executed, queue = jax.vmap(apply_one)(*inputs)
    if host.spec.action_dim:  # a stopped seed may choose NaN
        executed = jnp.clip(jnp.nan_to_num(executed), -1.0, 1.0)
    return executed, host_obs._replace(queue=queue)


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
        next_obs = channel_model.observe(
            k_sense, channel, host.spec, host_obs.obs, scale, host_step.next_obs
        )
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
