"""AUROC of fear and hope heads, also those trained with label noise, on recorded episodes."""

from collections.abc import Mapping, Sequence
from functools import partial

import jax

from affect import Transition
from affect.predict import harm
from envs.world import Env, World
from runs.engine.evaluate import without_reward_noise
from runs.engine.train import Learner, TrainConfig
from runs.probes.episodes import record_episodes
from runs.probes.labels import outcome_labels
from runs.probes.ranking import discrimination
from runs.probes.signals import Prediction, predictions

HORIZON = 10  # steps within which harm counts as soon, as for `affect.Fear`


def head_aurocs(
    learner: Learner,
    worlds: World,
    key: jax.Array,
    *,
    config: TrainConfig,
    env: Env,
    episodes: int,
    suffixes: Sequence[str],
) -> dict[str, jax.Array]:
    """AUROC of pairs of a fear and a hope head at predicting harm, for one seed.

    Args:
        learner: acts by the mode of its policy.
        worlds: leading axes [P, draws].
        key: of the episodes.
        config: of the learner, whose blend has the heads fear + suffix and hope + suffix.
        env: the family of worlds.
        episodes: in each world.
        suffixes: of the pairs.

    Returns:
        Each [P], NaN where all labels are the same: `soon` + suffix, AUROC of fear for harm within
        HORIZON steps, on steps before the end; `end` + suffix, AUROC of fear less hope for harm at
        the terminal observation, where the signal is used as reward.
    """
    predicted = predictions(config.blend, learner.blend_state)
    keys = jax.random.split(key, worlds.channel.noise.shape[1] * episodes)

    def act(key, obs):
        return config.agent.act(learner.agent, None, obs)

    def point(worlds: World) -> dict[str, jax.Array]:
        _, batch, alive = record_episodes(act, env, worlds, keys)
        return aurocs_at_point(predicted, batch, alive, suffixes)

    return jax.lax.map(point, without_reward_noise(worlds))


def aurocs_at_point(
    predicted: Mapping[str, Prediction],
    batch: Transition,
    alive: jax.Array,
    suffixes: Sequence[str],
) -> dict[str, jax.Array]:
    """`head_aurocs` from recorded episodes [T, B] of one world, jitted or not; each []."""
    labels, ends, harmful = (
        outcome_labels(batch, alive, HORIZON, 0.99),
        batch.terminated,
        harm(batch),
    )
    aurocs = {}
    for suffix in suffixes:
        fear, hope = (predicted[name + suffix](batch) for name in ("fear", "hope"))
        aurocs[f"soon{suffix}"] = discrimination(fear, labels.harmed, labels.known)[0]
        aurocs[f"end{suffix}"] = discrimination(fear - hope, harmful, ends & alive)[0]
    return aurocs


def learner_aurocs(
    learner: Learner,
    batch: Transition,
    alive: jax.Array,
    *,
    config: TrainConfig,
    suffixes: Sequence[str],
) -> dict[str, jax.Array]:
    """`aurocs_at_point` with the heads of one learner."""
    return aurocs_at_point(predictions(config.blend, learner.blend_state), batch, alive, suffixes)


def partial_aurocs(
    config: TrainConfig, env: Env, episodes: int, suffixes: Sequence[str]
) -> partial:
    """`head_aurocs` with its static arguments bound."""
    return partial(head_aurocs, config=config, env=env, episodes=episodes, suffixes=tuple(suffixes))
