"""What a head still knows that was told wrong: asked of whole episodes of a frozen agent."""

from collections.abc import Mapping, Sequence
from functools import partial

import jax

from affect import Transition
from affect.predict import harm
from envs.world import Env, World
from runs.asking.aftermath import aftermath
from runs.asking.episodes import live
from runs.asking.ranks import discrimination
from runs.asking.signals import Prediction, predictions
from runs.harness.evaluate import noiseless
from runs.harness.train import Learner, Setup

HORIZON = 10  # steps within which harm is soon, as for `affect.Fear`


def known(
    learner: Learner,
    worlds: World,
    key: jax.Array,
    *,
    setup: Setup,
    env: Env,
    episodes: int,
    suffixes: Sequence[str],
) -> dict[str, jax.Array]:
    """How well pairs of a fear and a hope tell harm, of one seed.

    Args:
        learner: that acts by its mode.
        worlds: leading axes [P, draws].
        key: of the episodes.
        setup: of the learner, whose blend has the heads fear + suffix and hope + suffix.
        env: the family of worlds.
        episodes: in each world.
        suffixes: of the pairs.

    Returns:
        Each [P], NaN where there was no harm, or nothing else: `soon` + suffix, AUROC of fear for
        harm within HORIZON steps, where the episode goes on; `end` + suffix, AUROC of fear less
        hope for harm at the terminal observation, where the feeling is paid.
    """
    said = predictions(setup.blend, learner.feelings)
    keys = jax.random.split(key, worlds.channel.noise.shape[1] * episodes)

    def act(key, obs):
        return setup.agent.act(learner.agent, None, obs)

    def point(worlds: World) -> dict[str, jax.Array]:
        _, batch, alive = live(act, env, worlds, keys)
        return answered(said, batch, alive, suffixes)

    return jax.lax.map(point, noiseless(worlds))


def answered(
    said: Mapping[str, Prediction], batch: Transition, alive: jax.Array, suffixes: Sequence[str]
) -> dict[str, jax.Array]:
    """`known` at one point, each [], of episodes [T, B] of any world, jitted or not."""
    truth, ends, harmed = aftermath(batch, alive, HORIZON, 0.99), batch.terminated, harm(batch)
    told = {}
    for suffix in suffixes:
        fear, hope = (said[name + suffix](batch) for name in ("fear", "hope"))
        told[f"soon{suffix}"] = discrimination(fear, truth.harmed, truth.known)[0]
        told[f"end{suffix}"] = discrimination(fear - hope, harmed, ends & alive)[0]
    return told


def asked(
    learner: Learner,
    batch: Transition,
    alive: jax.Array,
    *,
    setup: Setup,
    suffixes: Sequence[str],
) -> dict[str, jax.Array]:
    """`answered` by the heads of one learner."""
    return answered(predictions(setup.blend, learner.feelings), batch, alive, suffixes)


def asking(setup: Setup, env: Env, episodes: int, suffixes: Sequence[str]) -> partial:
    """`known` with all that does not change."""
    return partial(known, setup=setup, env=env, episodes=episodes, suffixes=tuple(suffixes))
