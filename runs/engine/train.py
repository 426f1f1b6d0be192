"""Training of one seed: `collect` rolls out a batch, `update` learns from it, heads and agent."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, BlendState, Spec, Transition
from agents.actor_critic import Guide
from agents.wrapper import with_settings
from envs.world import Env, EnvState, World, reset_batch, rollout
from runs.engine.config import head_spec
from runs.engine.phases import TASK, RewardMix
from runs.engine.seeds import take_seeds


@dataclass(frozen=True)
class TrainConfig:
    """Static training configuration of one arm.

    Attributes:
        agent: with `init`, `act` and `update` (see `agents.ppo.PPO`).
        blend: the heads.
        num_envs: B, environments per seed.
        num_steps: T, steps of each environment per update.
        heads_learn: False freezes the heads.
        teacher: static description of an agent whose policy is imitated; None for none.
    """

    agent: Any
    blend: Blend
    num_envs: int
    num_steps: int
    heads_learn: bool = True
    teacher: Any = None


class Learner(NamedTuple):
    """Trainable state of one seed: the agent's and the heads'."""

    agent: Any
    blend_state: BlendState


class EpisodeStats(NamedTuple):
    """Return and length so far of the running episodes, [B] each."""

    total: jax.Array
    length: jax.Array


class RunnerState(NamedTuple):
    """Training state of one seed: learner, environments, episode statistics and random key."""

    learner: Learner
    env_states: EnvState
    episode_stats: EpisodeStats
    key: jax.Array

    def where(self, alive: np.ndarray, old: "RunnerState") -> "RunnerState":
        """States [S, ...] of this for the seeds that are `alive` [S], of `old` for the others."""
        return select_leaves(alive, self, old)

    def one_seed(self, seed: int) -> "RunnerState":
        """Slice of one seed of states [S, ...]: leaves [1, ...]."""
        return take_seeds(self, slice(seed, seed + 1))


def select_leaves(alive: np.ndarray, new: Any, old: Any) -> Any:
    """Select seeds along axis 0 of leaves [S, ...]: `new` where `alive` [S], `old` elsewhere."""

    def pick(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(alive.reshape(-1, *[1] * (jnp.ndim(new) - 1)), new, old)

    return jax.tree.map(pick, new, old)


def init_learner(key: jax.Array, config: TrainConfig, spec: Spec) -> Learner:
    """Initialise agent and heads of one seed; the agent's key does not depend on the blend."""
    k_agent, k_heads = jax.random.split(key)
    agent = config.agent.init(k_agent, spec, agent_signals(config))
    return Learner(agent, init_heads(k_heads, config, spec))


def init_heads(key: jax.Array, config: TrainConfig, spec: Spec) -> BlendState:
    """Initialise the heads of one seed for the discount of the agent."""
    return config.blend.init(key, head_spec(spec, config.agent), config.num_envs)


def agent_signals(config: TrainConfig) -> int:
    """Number of signals K that the agent gets: at least those of the blend.

    An agent with `padded_signals` computes with more in any case, which are 0: it gets these, so
    that arms of few heads have one program.
    """
    count = len(config.blend.names)
    padded = getattr(config.agent, "padded_signals", None)
    return count if padded is None else padded(count)


def update(
    config: TrainConfig,
    learner: Learner,
    key: jax.Array,
    batch: Transition,
    mix: RewardMix = TASK,
    teacher: Any = None,
) -> tuple[Learner, dict[str, jax.Array]]:
    """Update heads, then the agent with their signals, on a batch -> (learner, metrics).

    The one step of every training of an agent, on either backend. Only heads without an agent learn
    elsewhere (`runs.probes.offline`, `runs.theory.corridor`), and the table of
    `runs.theory.hungry_thirsty`, whose transitions are looked up.

    Args:
        config: of the arm.
        learner: of one seed.
        key: of the agent's update.
        batch: experience [T, B].
        mix: weights of the task reward and of the signals, at this update.
        teacher: state of the agent `config.teacher`.
    """
    signals, blend_state, head_metrics = update_heads(config, learner.blend_state, batch, mix)
    inputs = config, learner.agent, key, batch, signals, mix, teacher
    agent_state, agent_metrics = update_agent(*inputs)
    return Learner(agent_state, blend_state), head_metrics | agent_metrics


def update_heads(
    config: TrainConfig, blend_state: BlendState, batch: Transition, mix: RewardMix = TASK
) -> tuple[jax.Array, BlendState, dict[str, jax.Array]]:
    """First half of `update`: signals [T, B, K] as the agent gets them, and the heads after it."""
    if config.heads_learn:
        signals, blend_state, metrics = config.blend.update(blend_state, batch)
    else:
        signals, blend_state = config.blend.feel(blend_state, batch, mix.signals)
        metrics = {}
    signals = mixed_signals(mix, signals)
    unused = agent_signals(config) - signals.shape[-1]
    return jnp.pad(signals, ((0, 0), (0, 0), (0, unused))), blend_state, metrics


def update_agent(
    config: TrainConfig,
    agent_state: Any,
    key: jax.Array,
    batch: Transition,
    signals: jax.Array,
    mix: RewardMix = TASK,
    teacher: Any = None,
) -> tuple[Any, dict[str, jax.Array]]:
    """Second half of `update`: the agent, with the signals of `update_heads`."""
    agent, reward = config.agent, batch.reward
    if mix.task is not None:
        reward = mix.task * reward
    if mix.discount is not None:
        agent = with_settings(agent, gamma=mix.discount)
    inputs = [batch._replace(reward=reward), signals]
    if config.teacher is not None:
        weight = jnp.broadcast_to(mix.teacher, reward.shape)
        inputs.append(Guide(config.teacher.policy(teacher, batch.obs), weight))
    return agent.update(agent_state, key, *inputs)


def mixed_signals(mix: RewardMix, signals: jax.Array) -> jax.Array:
    """Signals [T, B, K] as the agent gets them: weighted, and yoked to another environment."""
    if mix.signals is not None:
        signals = signals * jnp.broadcast_to(mix.signals, signals.shape)
    if mix.yoked is not None:
        others = jnp.roll(signals, -1, axis=1) - signals.mean((0, 1), keepdims=True)
        signals = jnp.where(mix.yoked > 0, others, signals)
    return signals


def zero_stats(num_envs: int) -> EpisodeStats:
    """Zero return and length of B episodes."""
    return EpisodeStats(jnp.zeros((num_envs,)), jnp.zeros((num_envs,)))


def update_stats(
    episode_stats: EpisodeStats,
    batch: Transition,
    success: Callable[[jax.Array, jax.Array], jax.Array],
) -> tuple[EpisodeStats, dict[str, jax.Array]]:
    """Add a batch to the episode statistics -> (statistics, sums over episodes that ended in it).

    Args:
        episode_stats: of the running episodes.
        batch: their next transitions, [T, B].
        success: (return, length) -> whether an episode succeeded (`envs.world.Env.success`).
    """

    def step(episode_stats, inputs):
        reward, ended, passed = inputs
        total, length = episode_stats.total + reward, episode_stats.length + 1.0
        succeeded = jnp.where(passed, success(total, length), 0.0)
        values = {"episodes": 1.0, "return": total, "length": length, "success": succeeded}
        sums = {name: jnp.where(ended, value, 0.0).sum() for name, value in values.items()}
        return EpisodeStats(jnp.where(ended, 0.0, total), jnp.where(ended, 0.0, length)), sums

    ended = batch.terminated | batch.truncated
    passed = batch.info.get("success", jnp.ones_like(batch.reward)) > 0
    episode_stats, sums = jax.lax.scan(step, episode_stats, (batch.reward, ended, passed))
    return episode_stats, jax.tree.map(jnp.sum, sums)


def init_runner(key: jax.Array, config: TrainConfig, env: Env, worlds: Callable) -> RunnerState:
    """Initialise the training state of one seed: learner, and environments reset."""
    state, k_heads = init_agent(key, config, env, worlds)
    learner = Learner(state.learner.agent, init_heads(k_heads, config, env.spec))
    return state._replace(learner=learner)


def init_agent(
    key: jax.Array, config: TrainConfig, env: Env, worlds: Callable
) -> tuple[RunnerState, jax.Array]:
    """Initialise all of a seed's training state but the heads -> (state, key of `init_heads`)."""
    k_learner, k_envs, key = jax.random.split(key, 3)
    k_agent, k_heads = jax.random.split(k_learner)
    learner = Learner(config.agent.init(k_agent, env.spec, agent_signals(config)), ())
    env_states = reset_batch(k_envs, env, worlds, config.num_envs)
    return RunnerState(learner, env_states, zero_stats(config.num_envs), key), k_heads


class Collected(NamedTuple):
    """What a rollout of one seed gives, beside the learner.

    Attributes:
        env_states, episode_stats, key: of the state after it (`RunnerState`).
        update_key: of the update.
        batch: [T, B].
    """

    env_states: EnvState
    episode_stats: EpisodeStats
    key: jax.Array
    update_key: jax.Array
    batch: Transition

    def state(self, learner: Learner) -> RunnerState:
        """State of training after it, with this learner."""
        return RunnerState(learner, self.env_states, self.episode_stats, self.key)


def collect(
    state: RunnerState, config: TrainConfig, env: Env, worlds: Callable[[jax.Array], World]
) -> tuple[Collected, dict[str, jax.Array]]:
    """Roll out one batch of one seed, of whose learner only the agent is used.

    Returns:
        (what it gives, sums over the episodes that ended in it).
    """
    key, k_rollout, k_update = jax.random.split(state.key, 3)
    act = partial(config.agent.act, state.learner.agent)
    env_states, batch = rollout(k_rollout, env, worlds, act, state.env_states, config.num_steps)
    episode_stats, sums = update_stats(state.episode_stats, batch, env.success)
    return Collected(env_states, episode_stats, key, k_update, batch), sums


def train(
    state: RunnerState,
    config: TrainConfig,
    env: Env,
    worlds: Callable[[jax.Array], World],
    num_updates: int,
    mix: RewardMix = TASK,
    teacher: Any = None,
) -> tuple[RunnerState, dict[str, jax.Array], jax.Array]:
    """Train one seed for `num_updates` updates: roll out, update heads and agent, count episodes.

    Args:
        state: of the seed.
        config: of the arm.
        env: the environment.
        worlds: key -> the world of an episode.
        num_updates: U.
        mix: weights of the rewards at each update, leaves with a leading axis [U].
        teacher: state of the agent `config.teacher`.

    Returns:
        (state, metrics averaged over the chunk, [U, 3] bool: `finite_checks` of each update).
    """

    def step(state, mix):
        made, sums = collect(state, config, env, worlds)
        learner, metrics = update(config, state.learner, made.update_key, made.batch, mix, teacher)
        finite = finite_checks(learner, made.batch, metrics)
        return made.state(learner), (metrics, sums, finite)

    state, (metrics, sums, finite) = jax.lax.scan(step, state, mix, length=num_updates)
    return state, summary(metrics, sums), finite


def summary(metrics: dict, sums: dict) -> dict[str, jax.Array]:
    """Reduce a chunk's metrics [U] to means, and its episode sums [U] to means per episode."""
    sums = jax.tree.map(jnp.sum, sums)
    episodes = jnp.where(sums["episodes"] > 0, sums["episodes"], jnp.nan)
    means = {key: sums[key] / episodes for key in ("return", "length", "success")}
    return jax.tree.map(jnp.mean, metrics) | means | {"episodes": sums["episodes"]}


summaries = jax.jit(jax.vmap(summary))  # of metrics and episode sums, leaves [S, U]

SOURCES = ("the environment", "a head", "the agent")  # in the order in which NaN spreads


def finite_checks(learner: Learner, batch: Transition, metrics: dict) -> jax.Array:
    """Whether the outputs of each of SOURCES are free of NaN and infinity, bool [3]."""
    head_metrics = {key: value for key, value in metrics.items() if "/" in key}
    parts = batch, (learner.blend_state, head_metrics), (learner.agent, metrics)
    return jnp.stack([all_finite(part) for part in parts])


def all_finite(tree: Any) -> jax.Array:
    """Whether every floating leaf is free of NaN and infinity, bool []."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
