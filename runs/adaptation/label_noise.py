"""What a head still knows that was told wrong: asked of whole episodes of a frozen agent."""

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

HORIZON = 10  # steps within which harm is soon, as for `affect.Fear`


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
    """How well pairs of a fear and a hope tell harm, of one seed.

    Args:
        learner: that acts by its mode.
        worlds: leading axes [P, draws].
        key: of the episodes.
        config: of the learner, whose blend has the heads fear + suffix and hope + suffix.
        env: the family of worlds.
        episodes: in each world.
        suffixes: of the pairs.

    Returns:
        Each [P], NaN where there was no harm, or nothing else: `soon` + suffix, AUROC of fear for
        harm within HORIZON steps, where the episode goes on; `end` + suffix, AUROC of fear less
        hope for harm at the terminal observation, where the feeling is paid.
    """
    said = predictions(config.blend, learner.blend_state)
    keys = jax.random.split(key, worlds.channel.noise.shape[1] * episodes)

    def act(key, obs):
        return config.agent.act(learner.agent, None, obs)

    def point(worlds: World) -> dict[str, jax.Array]:
        _, batch, alive = record_episodes(act, env, worlds, keys)
        return aurocs_at_point(said, batch, alive, suffixes)

    return jax.lax.map(point, without_reward_noise(worlds))


def aurocs_at_point(
    said: Mapping[str, Prediction], batch: Transition, alive: jax.Array, suffixes: Sequence[str]
) -> dict[str, jax.Array]:
    """`head_aurocs` at one point, each [], of episodes [T, B] of any world, jitted or not."""
    truth, ends, harmed = outcome_labels(batch, alive, HORIZON, 0.99), batch.terminated, harm(batch)
    told = {}
    for suffix in suffixes:
        fear, hope = (said[name + suffix](batch) for name in ("fear", "hope"))
        told[f"soon{suffix}"] = discrimination(fear, truth.harmed, truth.known)[0]
        told[f"end{suffix}"] = discrimination(fear - hope, harmed, ends & alive)[0]
    return told


def learner_aurocs(
    learner: Learner,
    batch: Transition,
    alive: jax.Array,
    *,
    config: TrainConfig,
    suffixes: Sequence[str],
) -> dict[str, jax.Array]:
    """`aurocs_at_point` by the heads of one learner."""
    return aurocs_at_point(predictions(config.blend, learner.blend_state), batch, alive, suffixes)


def compiled_aurocs(
    config: TrainConfig, env: Env, episodes: int, suffixes: Sequence[str]
) -> partial:
    """`head_aurocs` with all that does not change."""
    return partial(head_aurocs, config=config, env=env, episodes=episodes, suffixes=tuple(suffixes))
