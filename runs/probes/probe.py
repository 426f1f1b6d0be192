"""Record episodes of an arm at each evaluation point and measure what signals predict there."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import numpy as np

from affect import Blend, Fear, Spec, Transition
from runs.engine.backend import Backend
from runs.engine.config import head_spec
from runs.engine.evaluate import EvalPoints
from runs.engine.phases import Phase
from runs.engine.seeds import Stream, stream_keys, vmap_seeds
from runs.engine.train import Learner
from runs.probes.readouts import HomeStatistics, blank_statistics, point_readouts
from runs.probes.signals import (
    Prediction,
    critic_signals,
    predictions,
    signal_sum,
    untrained_predictions,
    unwrapped,
)

EPISODES = 32
"""At each point of a comparison. The AUROCs of a seed over all shifts of Drive then differ by .016
to .033 (one standard deviation) from those of all 256 scored episodes. Seeds differ by .027 to .050
from each other, and probing 256 episodes takes six times as long."""
HORIZON = 10  # steps within which harm counts as imminent

Signals = tuple[dict[str, Prediction], tuple[str, ...]]  # by name; the names of probabilities


def probe_recordings(
    signals_of: Callable[..., Signals],
    inputs: tuple[Any, ...],
    recordings: Iterable[tuple[Transition, Any]],
    spec: Spec,
    horizon: int,
    gamma: float,
    ranked: bool = True,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Compute the readouts of all seeds at all recorded points, each [S, P, ...].

    Args:
        signals_of: inputs of one seed -> (its signals, names of those that are probabilities).
        inputs: pytrees with leaves [S, ...].
        recordings: (transitions, alive), each [S, T, B], of the points, home first.
        spec: of the world.
        horizon: steps within which harm is predicted.
        gamma: discount of the return.
        ranked: see `runs.probes.readouts.point_readouts`.
        **options: `optimise` and `together` of `runs.engine.seeds.vmap_seeds`.
    """

    def blank_home(inputs: tuple) -> HomeStatistics:
        return blank_statistics(signals_of(*inputs)[0], spec)

    def at_point(inputs, batch, alive, home, is_home):
        signals, probabilities = signals_of(*inputs)
        measure = partial(point_readouts, horizon=horizon, gamma=gamma, ranked=ranked)
        return measure(signals, spec, batch, alive, home, is_home, probabilities)

    compiled = partial(vmap_seeds, num_seeds=jax.tree.leaves(inputs)[0].shape[0], **options)
    program, home, points = compiled(at_point, shared=1), compiled(blank_home)(inputs), []
    for batch, alive in recordings:
        home, readouts = program(inputs, batch, alive, home, not points)
        points.append(jax.tree.map(np.asarray, readouts))
    return {name: np.stack([point[name] for point in points], 1) for name in points[0]}


def probe_arm(
    backend: Backend,
    phase: Phase,
    learner: Learner,
    points: EvalPoints,
    stopped: Callable[[], bool],
) -> dict[str, np.ndarray]:
    """Readouts of all signals of an arm, each [S, P, ...].

    Args:
        backend: that trained the arm.
        phase: its last one, with its agent and heads.
        learner: of all seeds.
        points: P of them, home first.
        stopped: returns whether to stop.

    Raises:
        Interrupted: if `stopped` returned True.
    """
    run_config, agent = backend.run_config, phase.agent
    episodes = min(EPISODES, run_config.episodes)
    spec = head_spec(backend.env.spec, agent)
    return probe_recordings(
        partial(arm_signals, agent=agent, blend=phase.blend, spec=spec),
        (learner, stream_keys(run_config, Stream.PROBE)),
        backend.record(learner, agent, points, stopped, episodes),
        spec,
        HORIZON,
        agent.gamma,
        optimise=run_config.optimise,
    )


def arm_signals(
    learner: Learner, init_key: jax.Array, agent: Any, blend: Blend, spec: Spec
) -> Signals:
    """Signals of one seed by name, and the names of those that are probabilities of harm.

    Its heads by name, each of them untrained (NAME_untrained), `critic`, `minus_critic`, and
    `signal_sum`. Every `Fear` with HORIZON is a probability of harm.
    """
    blend_state = learner.blend_state
    heads = {
        name: unwrapped(blend_state.heads[name].net, blend_state.carry[name])[0]
        for name in blend.names
    }
    fears = tuple(
        name
        for name, head in heads.items()
        if isinstance(head, Fear) and round(1 / (1 - head.predictor.gamma)) == HORIZON
    )
    signals = predictions(blend, blend_state)
    signals |= untrained_predictions(blend, blend_state, spec, init_key)
    signals |= critic_signals(agent, learner.agent)
    return signals | {"signal_sum": signal_sum(blend, blend_state)}, fears
