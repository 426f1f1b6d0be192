"""Backend of agents of other libraries in host-stepped environments: the library owns its loop.

Seeds are trained one after another, each in one piece by `learn` of its library; what is resumed is
the first seed that is not trained. Scores, recordings and worlds are those of `HostBackend`.
"""

import traceback
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.channel import Channel
from envs.host.fault import HostFailure
from envs.host.suite import HostEnv
from envs.shift import with_channel
from runs.engine.config import RunConfig
from runs.engine.foreign_policies import ForeignPolicies, parameters
from runs.engine.host_backend import HostBackend, only_world
from runs.engine.host_step import (
    HostObservation,
    HostStepper,
    changes_nothing,
    executed_actions,
    observe_step,
    on_one_device,
)
from runs.engine.numpy_policy import action_keys
from runs.engine.phases import Phase
from runs.engine.seeds import Stream, stream_keys, stream_seed
from runs.engine.train import SOURCES, Learner
from runs.errors import UserError


class ForeignState(NamedTuple):
    """Training state of all S seeds.

    Attributes:
        learner: parameters of the policies, and heads, leaves [S, ...].
        curves: metrics by name at each of P chunks, [S, P].
        seed: of each seed's model, environments and heads, [S].
        trained: bool [S].
    """

    learner: Learner
    curves: dict[str, np.ndarray]
    seed: np.ndarray
    trained: np.ndarray

    def where(self, alive: np.ndarray, old: "ForeignState") -> "ForeignState":
        """This state: seeds are trained in one piece, so there is no earlier state to keep."""
        return self

    def one_seed(self, seed: int) -> "ForeignState":
        """Slice of one seed: leaves [1, ...]."""
        return jax.tree.map(lambda leaf: leaf[seed : seed + 1], self)


class ForeignBackend(HostBackend):
    """Trains S seeds by an algorithm of another library, and evaluates and records them.

    See `runs.engine.backend.Backend`. A call of `train` that returns None for `finite` has trained
    one of several seeds, and is to be repeated with the new state.

    Args:
        env: the environment.
        run_config: sizes, with an `agents.Foreign`.
    """

    free = ()

    def __init__(self, env: HostEnv, run_config: RunConfig):
        super().__init__(env, run_config)
        make = partial(_untrained_policy, run_config.agent, env)
        self._policies = ForeignPolicies(make, run_config.rows)

    @property
    def stepping(self) -> str:
        """How agents are trained, and what is left out, in one line."""
        return (
            f"{self.run_config.agent.name} trains seeds one after another in this process; its "
            "episodes are not traced nor its signals probed, which needs a critic of ours"
        )

    def init(self, phase: Phase, keys: jax.Array | None = None) -> ForeignState:
        """Untrained learners.

        Raises:
            UserError: for what the algorithm, a head or this backend does not support.
        """
        if keys is None:
            keys = stream_keys(self.run_config, Stream.TRAINING)
        seeds = np.array([stream_seed(key, Stream.HOST_EPISODES) for key in keys])
        run = self._run(phase, int(seeds[0]))
        run.venv.close()
        rows, chunks = len(seeds), self.run_config.chunks
        arrays = [np.repeat(x[None], rows, 0) for x in parameters(run.model.policy)]
        heads = jax.tree.map(lambda x: jnp.repeat(x[None], rows, 0), run.heads)
        curves = {name: np.full((rows, chunks), np.nan, np.float32) for name in run.metric_names}
        return ForeignState(Learner(arrays, heads), curves, seeds, np.zeros(rows, bool))

    def enter(self, learner: Learner, phase: Phase, keys: jax.Array | None = None) -> ForeignState:
        """Refuse a second phase: the training of these agents is one piece."""
        name = phase.agent.name
        raise UserError(f"{name} is trained in one piece: give it one phase, or an agent of ours")

    def train(
        self, state: ForeignState, phase: Phase, first: int, stopped: Callable[[], bool]
    ) -> tuple[ForeignState, dict[str, np.ndarray], np.ndarray | None]:
        """Train the next seed, or return a chunk -> (state, metrics [S], finite [S, U, sources]).

        Raises:
            Interrupted: if a stop is requested; the seed begins anew when training is resumed.
            HostFailure: if the library or an environment raises.
        """
        if not state.trained.all():
            return self._train_seed(state, phase, int(state.trained.argmin()), stopped), {}, None
        chunk, learner = first // phase.updates, state.learner
        metrics = {name: curve[:, chunk] for name, curve in state.curves.items()}
        finite = np.ones((len(state.seed), phase.updates, len(SOURCES)), bool)
        if chunk == self.run_config.chunks - 1:
            heads, policies = _finite(learner.blend_state, 1), _finite(learner.agent, 1)
            finite[:, -1] = np.stack([np.ones_like(policies), heads, policies], -1)
        return state, metrics, finite

    def _train_seed(
        self, state: ForeignState, phase: Phase, seed: int, stopped: Callable[[], bool]
    ) -> ForeignState:
        """Train one seed to its end."""
        run = self._run(phase, int(state.seed[seed]))
        curves, error = run.learn(stopped)
        learner = Learner(parameters(run.model.policy), run.heads)
        if error is not None and _finite(learner, 0):
            frame = traceback.extract_tb(error.__traceback__)[-1]
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            message = f"{phase.agent.name} in {self.env.id}, seed {seed}: raised {cause} ({place})"
            raise HostFailure(message, [], [], cause) from error
        trained = learner, curves, state.seed[seed], np.array(True)
        rows = jax.tree.map(partial(_with_row, seed), tuple(state), trained)
        return ForeignState(*rows)

    def _run(self, phase: Phase, seed: int) -> Any:
        """The untrained model of a seed, with its environments and heads.

        Raises:
            UserError: for what the algorithm, a head or this backend does not support.
        """
        from runs.engine.foreign_training import ForeignRun

        agent, world = phase.agent, only_world(self.env, phase.worlds)
        special = any(x is not None for x in (*phase.mix, phase.teacher)) or phase.numbers
        if special or phase.per_seed or not changes_nothing(with_channel(world).channel):
            raise UserError(
                f"{agent.name} is trained on the task's reward and signals, in an undisturbed "
                "world: give a reward mix, a teacher or disturbances to an agent of ours"
            )
        try:
            learn = phase.heads == "learn"
            return ForeignRun(agent, self.env, world, phase.blend, self.run_config, seed, learn)
        except ValueError as error:
            raise UserError(str(error)) from error

    def _stepper(self, agent: Any, points: int = 1) -> "ForeignStepper":
        """Policies and channels of an agent in the worlds of some points side by side."""
        if points not in self._steppers:
            sizes = points * self.run_config.rows, self.run_config.optimise
            self._steppers[points] = ForeignStepper(self._policies, agent, self.env, *sizes)
        return self._steppers[points]

    def _one_choice(self, agent: Any, learner: Learner) -> Callable:
        """Choice of actions of one seed by the mode of its policy, as `choose_actions`."""
        act, execute = self._policies.acting([x[None] for x in learner.agent]), self._execute

        def choose(key: Any, host_obs: HostObservation, channel: Channel, time: int) -> tuple:
            action = act(np.asarray(host_obs.obs)[None])[0]
            return action, *execute(action_keys(key, time)[1], action, host_obs, channel)

        return choose

    @cached_property
    def _execute(self) -> Callable:
        """Compiled `executed_actions` of one seed."""
        return jax.jit(partial(executed_actions, self.env))


class ForeignStepper(HostStepper):
    """Policies of other libraries, one call of each a step, and compiled channels.

    Args:
        policies: of all seeds.
        *arguments: of `HostStepper`.
    """

    def __init__(self, policies: ForeignPolicies, *arguments: Any):
        super().__init__(*arguments)
        self.policies = policies

    def _policy(self, structure: Any, greedy: bool, keys: jax.Array, leaves: list) -> Callable:
        """Function (observations [S, B, D], time) -> actions [S, B, ...], always the modes."""
        act = self.policies.acting(leaves)
        return lambda obs, time: act(obs)

    def _disturbed(
        self, structure: Any, greedy: bool, keys: jax.Array, leaves: list, channel: Channel
    ) -> tuple[Callable, Callable]:
        """Choice of actions, and observation of a step with the next choice, through a channel."""

        def execute_one(key, action, host_obs, channel, time):
            k_slip = action_keys(jax.random.wrap_key_data(key), time)[1]
            executed, host_obs = executed_actions(self.host, k_slip, action, host_obs, channel)
            return executed, host_obs.queue

        def sense_one(key, acted, step, channel, time):
            key = jax.random.wrap_key_data(key)
            return observe_step(self.host, key, acted, step.reward, step, channel, time)

        act, axes = self.policies.acting(leaves), (0, 0, 0, 0, None)
        execute, sense = (self._program(f.__name__, f, axes) for f in (execute_one, sense_one))

        def choose(host_obs, time=0):
            action = act(host_obs.obs)
            inputs = keys, action, on_one_device(host_obs), channel, np.int32(time)
            executed, queue = execute(*inputs)
            return action, np.asarray(executed), queue

        def observe(acted, step, time):
            after, sensed = sense(keys, acted, step, channel, np.int32(time))
            return choose(after, time + 1), sensed.next_obs, sensed.reward, after

        return choose, observe


def _untrained_policy(agent: Any, env: HostEnv) -> Any:
    """The policy of an untrained model."""
    from runs.engine.foreign_training import untrained_model

    return untrained_model(agent, env).policy


def _finite(tree: Any, first_axes: int) -> np.ndarray:
    """Whether all floating leaves are finite, over all but their first axes."""
    leaves = [np.asarray(x) for x in jax.tree.leaves(tree)]
    finite = [
        np.isfinite(x).all(tuple(range(first_axes, x.ndim))) for x in leaves if x.dtype.kind == "f"
    ]
    return np.logical_and.reduce(finite)


def _with_row(seed: int, stacked: Any, row: Any) -> Any:
    """Leaves [S, ...] with another one for a seed, each of the kind that it is."""
    if isinstance(stacked, jax.Array):
        return stacked.at[seed].set(row)
    changed = np.array(stacked)
    changed[seed] = row
    return changed
