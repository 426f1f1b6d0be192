"""Backend of jitted worlds: training and evaluation are compiled and `vmap`ped over seeds."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from affect import Transition
from agents.wrapper import with_settings
from envs.world import Env, World
from runs.engine.config import RunConfig
from runs.engine.episodes import episode_length, record_episodes, record_horizon, render_states
from runs.engine.evaluate import EvalPoints, evaluate, without_reward_noise
from runs.engine.phases import Phase, carry_over
from runs.engine.seeds import (
    ENVS_AT_ONCE,
    FAST_COMPILE,
    SEED_AXIS,
    Stream,
    largest_divisor,
    stream_keys,
    take_seeds,
    vmap_seeds,
)
from runs.engine.train import Learner, RunnerState, TrainConfig, init_runner, train
from runs.errors import UserError

LOG = logging.getLogger(__name__)
DRAWS = 16  # worlds per point, at most; equal ones if the shift is not random
PROGRAMS = 12  # compiled programs that are kept, at most


class JaxBackend:
    """Trains, evaluates and records S seeds in jitted worlds (see `runs.engine.backend.Backend`).

    Compiled programs are kept: phases that differ in data alone (worlds of a `world_pool`, reward
    mixes, `Phase.numbers`) share one.

    Args:
        env: the environment, whose worlds are data.
        run_config: sizes.
    """

    free = ()
    stepping = ""
    block: int | None = None  # seeds that a device computes together (`vmap_seeds`)

    def __init__(self, env: Env, run_config: RunConfig):
        self.env, self.run_config = env, run_config
        self.draws = min(DRAWS, run_config.episodes)
        self._programs: dict[Any, Callable] = {}
        self.most_at_once: int | None = None  # seeds that a device computes at once; None for all

    def init(self, phase: Phase, keys: jax.Array | None = None) -> RunnerState:
        """Untrained learners, in environments reset in the phase's worlds."""
        program = self._program(_init, phase, 1, optimise=False)
        return program(self._keys(keys), phase.worlds)

    def enter(self, learner: Learner, phase: Phase, keys: jax.Array | None = None) -> RunnerState:
        """Trained learners at the beginning of a phase, in environments reset in its worlds."""
        changes = {"renew": phase.renew, "hand_over": phase.hand_over}
        program = self._program(_enter, phase, 1, optimise=False, **changes)
        return program(learner, self._keys(keys), phase.worlds)

    def prepare(self, phase: Phase) -> None:
        """Compile the training program of untrained learners ahead of their first chunk."""
        state = self.init(phase)
        self._training(phase, state).lower(state, *_training_data(phase, 0)).compile()

    def train(
        self, state: RunnerState, phase: Phase, first: int, stopped: Callable[[], bool]
    ) -> tuple[RunnerState, dict[str, jax.Array], jax.Array]:
        """Train a chunk of a phase -> (state, metrics [S], finite [S, U, sources])."""
        del stopped
        data = _training_data(phase, first)
        return self._fitting(lambda: self._training(phase, state)(state, *data))

    def evaluate(
        self,
        learner: Learner,
        agent: Any,
        points: EvalPoints,
        stopped: Callable[[], bool],
        first: int = 0,
        numbers: Mapping[str, Any] | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Scores [S] at each point from the `first` on; all are computed at once.

        With `points.key` of shape [S], each seed has episodes of its own. `numbers` are those of
        `Phase`, where actions depend on them.
        """
        del stopped
        count, draws = points.worlds.channel.noise.shape
        episodes, shared = max(self.run_config.episodes // draws, 1), 2 - points.key.ndim
        score = partial(_evaluate, agent=agent, env=self.env, episodes=episodes)
        key, numbers = (_evaluate, agent_key(agent), draws, shared), dict(numbers or {})
        inputs = learner.agent, numbers, points.key, points.worlds
        results = self._fitting(lambda: self._compile(key, score, shared)(*inputs))
        scores = {name: np.asarray(score) for name, score in results.items()}
        for i in range(first, count):
            yield {name: score[:, i] for name, score in scores.items()}

    def record(
        self,
        learner: Learner,
        agent: Any,
        points: EvalPoints,
        stopped: Callable[[], bool],
        episodes: int,
    ) -> Iterator[tuple[Transition, jax.Array]]:
        """Whole episodes at each point -> (transitions, alive), each [S, T, B]."""
        del stopped
        count, draws = points.worlds.channel.noise.shape
        keys = jax.random.split(points.key, draws * max(episodes // draws, 1))
        program = self._compile(
            (_record, agent_key(agent)), partial(_record, agent=agent, env=self.env), 2
        )
        worlds = without_reward_noise(points.worlds)
        for i in range(count):
            yield program(learner.agent, jax.tree.map(lambda leaf, i=i: leaf[i], worlds), keys)

    def film(
        self, learner: Learner, agent: Any, world: World, seed: int
    ) -> tuple[Transition, np.ndarray]:
        """One horizon of the first seed -> (transitions [T, B], frames of the first episode)."""
        first_seed = take_seeds(learner.agent, 0)
        filmed = partial(_film, agent=agent, env=self.env, num_envs=self.run_config.num_envs)
        program = jax.jit(filmed, compiler_options=FAST_COMPILE)
        program = self._programs.setdefault((_film, agent_key(agent)), program)
        states, batch = program(first_seed, world, jax.random.key(seed))
        return batch, render_states(self.env, world, states, episode_length(batch))

    def close(self) -> None:
        """Do nothing: there are no worker processes."""

    def _keys(self, keys: jax.Array | None) -> jax.Array:
        """Keys [S], by default from the base seed."""
        return stream_keys(self.run_config, Stream.TRAINING) if keys is None else keys

    def _training(self, phase: Phase, state: RunnerState) -> Callable:
        """Compiled `_train` of a phase; arms whose heads differ in numbers alone share it."""
        heads = phase.blend.rule, jax.tree.structure(state.learner.blend_state)
        optimise = self.run_config.optimise
        return self._program(_train, phase, 2, optimise, heads, updates=phase.updates)

    def _program(
        self,
        fn: Callable,
        phase: Phase,
        shared: int,
        optimise: bool,
        heads: Any = None,
        **static: Any,
    ) -> Callable:
        """A function of this module for an agent and `heads`, by default the blend, compiled.

        Its last `shared` arguments have no seed axis, unless the phase has worlds and mix of each.
        """
        phase.check_seeds(self.run_config.rows)
        config, shared = train_config(phase, self.run_config), 0 if phase.per_seed else shared
        key = (
            fn,
            shared,
            agent_key(phase.agent),
            phase.blend if heads is None else heads,
            phase.heads,
            agent_key(config.teacher),
            *static.values(),
        )
        program = partial(fn, config=config, env=self.env, **static)
        together = ENVS_AT_ONCE // self.run_config.num_envs if fn is _train else None
        return self._compile(key, program, shared, optimise, together)

    def _fitting(self, run: Callable[[], Any]) -> Any:
        """Result of `run`, which calls a program; with fewer seeds at once if memory runs out.

        Raises:
            UserError: if it does even with one seed at once.
        """
        rows = self.run_config.rows
        while True:
            try:
                return jax.block_until_ready(run())
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                together = self.most_at_once or self.block
                together = together or rows // largest_divisor(rows, jax.device_count())
                if together == 1:
                    fewer = "take fewer num_envs, num_steps or episodes"
                    raise UserError(f"memory runs out with one seed at once: {fewer}") from None
                self.most_at_once = together // 2
                self._programs.clear()
                LOG.warning("memory ran out: from here on %d seeds at once", self.most_at_once)

    def _compile(
        self,
        key: Any,
        program: Callable,
        shared: int,
        optimise: bool | None = None,
        together: int | None = None,
    ) -> Callable:
        """`program` compiled over seeds; the last PROGRAMS that were used are kept by their key."""
        optimise = self.run_config.optimise if optimise is None else optimise
        compiled = self._programs.pop(key, None) or vmap_seeds(
            program, self.run_config.rows, shared, optimise, together, self.most_at_once, self.block
        )
        self._programs[key] = compiled
        if len(self._programs) > PROGRAMS:
            self._programs.pop(next(iter(self._programs)))
        return compiled


def train_config(phase: Phase, run_config: RunConfig) -> TrainConfig:
    """Static configuration of training in a phase."""
    sizes = run_config.num_envs, run_config.num_steps
    teacher = None if phase.teacher is None else phase.teacher.agent
    return TrainConfig(phase.agent, phase.blend, *sizes, phase.heads == "learn", teacher)


def _training_data(phase: Phase, first: int) -> tuple[Any, ...]:
    """Arguments of `_train` after the state, for the chunk of a phase from update `first` on."""
    teacher = () if phase.teacher is None else phase.teacher.state
    return teacher, dict(phase.numbers), phase.worlds, phase.mix_from(first)


def agent_key(agent: Any) -> Any:
    """What tells agents apart: their settings, or their identity if these are not hashable."""
    try:
        hash(agent)
    except TypeError:
        return id(agent)
    return agent


def _init(key, worlds, *, config, env):
    """Initialise one seed."""
    return init_runner(key, config, env, worlds)


def _enter(learner, key, worlds, *, config, env, renew, hand_over):
    """Carry one seed's learner into a phase."""
    state = init_runner(key, config, env, worlds)
    return state._replace(learner=carry_over(learner, state.learner, renew, hand_over))


def _train(state, teacher, numbers, worlds, mix, *, config, env, updates):
    """Train one seed for `updates` updates."""
    known = {name: number for name, number in numbers.items() if hasattr(config.teacher, name)}
    teaching = with_settings(config.teacher, **known)
    config = replace(config, agent=with_settings(config.agent, **numbers), teacher=teaching)
    return train(state, config, env, worlds, updates, mix, teacher)


def _evaluate(agent_state, numbers, key, worlds, *, agent, env, episodes):
    """Score one seed in worlds [P, draws]."""
    agent = with_settings(agent, **numbers)
    return evaluate(agent_state, agent, env, worlds, key, episodes, SEED_AXIS)


def _record(agent_state, worlds, keys, *, agent, env):
    """Record one seed's episodes in worlds [draws] -> (transitions [T, B], alive [T, B])."""
    return record_episodes(partial(_act_greedily, agent, agent_state), env, worlds, keys)[1:]


def _film(agent_state, world, key, *, agent, env, num_envs):
    """Record one horizon of one seed -> (states, transitions), [T, B]."""
    return record_horizon(partial(_act_greedily, agent, agent_state), env, num_envs, world, key)


def _act_greedily(agent, agent_state, key, obs):
    """Actions by the mode of the policy."""
    return agent.act(agent_state, None, obs)
