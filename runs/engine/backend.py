"""Protocol of backends: how learners are trained, evaluated and recorded in worlds of one kind."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from affect import Transition
from agents.foreign import Foreign
from envs.host.suite import HostEnv
from envs.world import World
from runs.engine.config import RunConfig
from runs.engine.evaluate import EvalPoints
from runs.engine.phases import Phase
from runs.engine.train import Learner


class Backend(Protocol):
    """Trains, evaluates and records the learners of all seeds, leaves [S, ...].

    States are values: nothing is changed in place, and an earlier state may be continued. A
    backend that steps on the host checks `stopped` at every step and raises
    `runs.errors.Interrupted`; a compiled one returns at the end of its call.

    Attributes:
        env: the environment, `envs.world.Env` or `envs.host.suite.HostEnv`.
        run_config: sizes.
        draws: worlds that are drawn at each evaluation point.
        free: endings of the names of leaves of a state whose shape may change in training.
    """

    env: Any
    run_config: RunConfig
    draws: int
    free: tuple[str, ...]

    @property
    def stepping(self) -> str:
        """Where worlds are stepped, in one line; empty if they are compiled."""

    def init(self, phase: Phase, keys: jax.Array | None = None) -> Any:
        """Untrained learners, in environments reset in the phase's worlds -> state.

        Args:
            phase: the first of the learners.
            keys: [S]; by default from the base seed.
        """

    def enter(self, learner: Learner, phase: Phase, keys: jax.Array | None = None) -> Any:
        """Trained learners at the beginning of a phase, in environments reset in its worlds."""

    def train(
        self, state: Any, phase: Phase, first: int, stopped: Callable[[], bool]
    ) -> tuple[Any, dict[str, Any], Any]:
        """Train one chunk of a phase -> (state, metrics [S], finite [S, U, sources]).

        Where `finite` is None, the chunk has not ended: the call is repeated with the new state.

        Args:
            state: of `init`, `enter` or `train`.
            phase: in which the learners are.
            first: index of the first update of the chunk within the phase.
            stopped: returns whether to stop.
        """

    def evaluate(
        self,
        learner: Learner,
        agent: Any,
        points: EvalPoints,
        stopped: Callable[[], bool],
        first: int = 0,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Scores [S] by name at each point from the `first` on; agents act by their mode."""

    def record(
        self,
        learner: Learner,
        agent: Any,
        points: EvalPoints,
        stopped: Callable[[], bool],
        episodes: int,
    ) -> Iterator[tuple[Transition, Any]]:
        """Whole episodes at each point -> (transitions, alive bool), each [S, T, B].

        T is the horizon; on the host, of a horizon beyond 1,024, it may be shorter, but not shorter
        than the longest episode. Transitions are 0 after an episode's end; rewards are the task's,
        without channel noise.
        """

    def film(
        self, learner: Learner, agent: Any, world: World, seed: int
    ) -> tuple[Transition, np.ndarray]:
        """One episode of the first seed, with frames -> (transitions [T, B], frames [T, H, W, 3]).

        Only the first environment's first episode has frames.
        """

    def prepare(self, phase: Phase) -> None:
        """Compile the training programs of untrained learners ahead of their first chunk."""

    def close(self) -> None:
        """End worker processes, if there are any."""


def make_backend(env: Any, run_config: RunConfig) -> Backend:
    """The backend of an environment, jitted or stepped on the host, or of a foreign agent."""
    from runs.engine.foreign_backend import ForeignBackend
    from runs.engine.host_backend import HostBackend
    from runs.engine.jax_backend import JaxBackend

    if isinstance(run_config.agent, Foreign):
        return ForeignBackend(env, run_config)
    return (HostBackend if isinstance(env, HostEnv) else JaxBackend)(env, run_config)
