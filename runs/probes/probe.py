"""Probe of one agent in `runs.compare`: readouts of heads, untrained heads, critic, their sum."""

import jax

from affect import Fear, Spec, Transition
from envs.world import Env, World
from runs.engine.train import Learner, TrainConfig
from runs.probes.readouts import HomeStatistics, point_readouts, readouts
from runs.probes.signals import (
    Prediction,
    critic_signals,
    paid_signal,
    predictions,
    untrained_predictions,
    unwrapped,
)

EPISODES = 32
"""At each point of a comparison. The AUROCs of a seed over all shifts of Drive then differ by .016
to .033 (one standard deviation) from those of all 256 scored episodes. Seeds differ by .027 to .050
from each other, and probing 256 episodes takes six times as long."""
HORIZON = 10  # steps within which harm counts as imminent


def probe_learner(
    learner: Learner,
    init_key: jax.Array,
    worlds: World,
    key: jax.Array,
    *,
    config: TrainConfig,
    env: Env,
    episodes: int,
    horizon: int = HORIZON,
) -> dict[str, jax.Array]:
    """Compute the `readouts` of one trained agent that acts deterministically (by its mode).

    Map it over seeds by `vmap_seeds(partial(probe_learner, config=config, env=env, episodes=2),
    seeds, shared=2)`.

    Args:
        learner: of one seed.
        init_key: key of its untrained heads, another for each seed.
        worlds: as for `readouts`.
        key: of the evaluation.
        config: of the agent's arm.
        env: the family of worlds.
        episodes: in each world.
        horizon: h in steps.
    """
    agent = config.agent
    signals, fears = all_signals(learner, init_key, config, env.spec, horizon)

    def act(key, obs):
        return agent.act(learner.agent, None, obs)

    return readouts(signals, act, env, worlds, key, episodes, fears, horizon, agent.gamma)


def probe_point(
    learner: Learner,
    init_key: jax.Array,
    batch: Transition,
    alive: jax.Array,
    statistics: HomeStatistics,
    at_home: jax.Array,
    *,
    config: TrainConfig,
    spec: Spec,
) -> tuple[HomeStatistics, dict[str, jax.Array]]:
    """Compute the readouts of one seed's episodes [T, B] at one point.

    Arguments are those of `probe_learner` and of `runs.probes.readouts.point_readouts`.
    """
    signals, fears = all_signals(learner, init_key, config, spec)
    return point_readouts(
        signals, batch, alive, statistics, at_home, fears, HORIZON, config.agent.gamma
    )


def all_signals(
    learner: Learner, init_key: jax.Array, config: TrainConfig, spec: Spec, horizon: int = HORIZON
) -> tuple[dict[str, Prediction], tuple[str, ...]]:
    """Signals of one seed by name, and the names of those that are probabilities of harm.

    Its heads by name, each of them untrained (NAME_untrained), `critic`, `minus_critic`, and
    `felt`, the pay beside the task. Every `Fear` with this horizon is a probability of harm.
    """
    blend, blend_state = config.blend, learner.blend_state
    heads = {
        name: unwrapped(blend_state.heads[name].net, blend_state.carry[name])[0]
        for name in blend.names
    }
    fears = tuple(
        name
        for name, head in heads.items()
        if isinstance(head, Fear) and round(1 / (1 - head.predictor.gamma)) == horizon
    )
    signals = predictions(blend, blend_state) | untrained_predictions(
        blend, blend_state, spec, init_key
    )
    return signals | critic_signals(config.agent, learner.agent) | {
        "felt": paid_signal(blend, blend_state)
    }, fears
