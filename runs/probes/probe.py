"""A survey: everything that one trained learner may be asked, of all it feels and of its critic."""

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
"""At each point of a comparison. A seed's AUROCs over all shifts of Drive then lie within .016 to
.033 (one standard deviation) of those of 256, as many as are scored; seeds differ by .027 to .050
among themselves, and to ask 256 takes six times as long."""
HORIZON = 10  # steps within which harm is near


def probe_learner(
    learner: Learner,
    made: jax.Array,
    worlds: World,
    key: jax.Array,
    *,
    config: TrainConfig,
    env: Env,
    episodes: int,
    horizon: int = HORIZON,
) -> dict[str, jax.Array]:
    """The `readouts` of one trained learner that acts by its mode.

    Over seeds it is `over_seeds(partial(survey, setup=setup, env=env, episodes=2), seeds,
    shared=2)`.

    Args:
        learner: of one seed.
        made: key of its untrained heads, another for each seed.
        worlds: as for `readouts`.
        key: of the evaluation.
        config: of the learner's arm.
        env: the family of worlds.
        episodes: in each world.
        horizon: h in steps.
    """
    agent = config.agent
    signals, fears = all_signals(learner, made, config, env.spec, horizon)

    def act(key, obs):
        return agent.act(learner.agent, None, obs)

    return readouts(signals, act, env, worlds, key, episodes, fears, horizon, agent.gamma)


def probe_point(
    learner: Learner,
    made: jax.Array,
    batch: Transition,
    alive: jax.Array,
    ground: HomeStatistics,
    at_home: jax.Array,
    *,
    config: TrainConfig,
    spec: Spec,
) -> tuple[HomeStatistics, dict[str, jax.Array]]:
    """The same of one seed's episodes [T, B] at one point (`runs.probes.readouts.point_readouts`)."""
    signals, fears = all_signals(learner, made, config, spec)
    return point_readouts(
        signals, batch, alive, ground, at_home, fears, HORIZON, config.agent.gamma
    )


def all_signals(
    learner: Learner, made: jax.Array, config: TrainConfig, spec: Spec, horizon: int = HORIZON
) -> tuple[dict[str, Prediction], tuple[str, ...]]:
    """What one seed can be asked -> (signals by name, those that are probabilities of harm).

    Its heads by name, each of them untrained (NAME_untrained), `critic`, `minus_critic` and `paid_signal`,
    what it was paid beside the task. The level of every `Fear` of this horizon means something.
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
        blend, blend_state, spec, made
    )
    return signals | critic_signals(config.agent, learner.agent) | {
        "felt": paid_signal(blend, blend_state)
    }, fears
