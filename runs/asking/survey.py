"""A survey: everything that one trained learner may be asked, of all it feels and of its critic."""

import jax

from affect import Fear, Spec, Transition
from envs.world import Env, World
from runs.asking.readouts import Ground, questioned, readouts
from runs.asking.signals import Prediction, bare, critics, felt, predictions, untrained
from runs.harness.train import Learner, Setup

EPISODES = 32
"""At each point of a comparison. A seed's AUROCs over all shifts of Drive then lie within .016 to
.033 (one standard deviation) of those of 256, as many as are scored; seeds differ by .027 to .050
among themselves, and to ask 256 takes six times as long."""
HORIZON = 10  # steps within which harm is near


def survey(
    learner: Learner,
    made: jax.Array,
    worlds: World,
    key: jax.Array,
    *,
    setup: Setup,
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
        setup: of the learner's arm.
        env: the family of worlds.
        episodes: in each world.
        horizon: h in steps.
    """
    agent = setup.agent
    signals, fears = all_signals(learner, made, setup, env.spec, horizon)

    def act(key, obs):
        return agent.act(learner.agent, None, obs)

    return readouts(signals, act, env, worlds, key, episodes, fears, horizon, agent.gamma)


def questions(
    learner: Learner,
    made: jax.Array,
    batch: Transition,
    alive: jax.Array,
    ground: Ground,
    at_home: jax.Array,
    *,
    setup: Setup,
    spec: Spec,
) -> tuple[Ground, dict[str, jax.Array]]:
    """The same of one seed's episodes [T, B] at one point (`runs.asking.readouts.questioned`)."""
    signals, fears = all_signals(learner, made, setup, spec)
    return questioned(signals, batch, alive, ground, at_home, fears, HORIZON, setup.agent.gamma)


def all_signals(
    learner: Learner, made: jax.Array, setup: Setup, spec: Spec, horizon: int = HORIZON
) -> tuple[dict[str, Prediction], tuple[str, ...]]:
    """What one seed can be asked -> (signals by name, those that are probabilities of harm).

    Its heads by name, each of them untrained (NAME_untrained), `critic`, `minus_critic` and `felt`,
    what it was paid beside the task. The level of every `Fear` of this horizon means something.
    """
    blend, feelings = setup.blend, learner.feelings
    heads = {name: bare(feelings.heads[name].net, feelings.carry[name])[0] for name in blend.names}
    fears = tuple(
        name
        for name, head in heads.items()
        if isinstance(head, Fear) and round(1 / (1 - head.predictor.gamma)) == horizon
    )
    signals = predictions(blend, feelings) | untrained(blend, feelings, spec, made)
    return signals | critics(setup.agent, learner.agent) | {"felt": felt(blend, feelings)}, fears
