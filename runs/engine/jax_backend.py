"""Backend of jitted worlds: rollout, training and evaluation, compiled, `vmap`ped over seeds."""

import logging
import threading
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
from runs.engine.evaluate import EvalPoints, evaluate, with_disturbances
from runs.engine.packed import Packed, flat, pack, unpack
from runs.engine.phases import Phase, RewardMix, carry_over
from runs.engine.program import Program
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
from runs.engine.train import (
    Learner,
    RunnerState,
    TrainConfig,
    agent_signals,
    all_finite,
    collect,
    init_agent,
    init_heads,
    init_runner,
    summaries,
    update_agent,
    update_heads,
)
from runs.errors import UserError

LOG = logging.getLogger(__name__)
DRAWS = 16  # worlds per point, at most; equal ones if the shift is not random
PROGRAMS = 24  # compiled programs that are kept, at most
SUBMITTED = 4  # updates of training that wait for a device, at most


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
        self._lock = threading.Lock()  # of `_programs`, which threads compile in
        self.most_at_once: int | None = None  # seeds that a device computes at once; None for all

    def init(self, phase: Phase, keys: jax.Array | None = None) -> RunnerState:
        """Untrained learners, in environments reset in the phase's worlds."""
        config = train_config(phase, self.run_config)
        agent = agent_key(phase.agent), agent_signals(config)
        start = self._program(_init_agent, phase, 1, agent, optimise=False)
        heads = self._program(_init_heads, phase, 0, (phase.blend, agent[0]), optimise=False)
        state, k_heads = start(self._keys(keys), phase.worlds)
        return state._replace(learner=Learner(state.learner.agent, heads(k_heads)))

    def enter(self, learner: Learner, phase: Phase, keys: jax.Array | None = None) -> RunnerState:
        """Trained learners at the beginning of a phase, in environments reset in its worlds."""
        changes = {"renew": phase.renew, "hand_over": phase.hand_over}
        what = agent_key(phase.agent), phase.blend
        program = self._program(_enter, phase, 1, what, optimise=False, **changes)
        return program(learner, self._keys(keys), phase.worlds)

    def prepare(self, phase: Phase) -> None:
        """Compile the training programs of untrained learners ahead of their first chunk."""
        self._update(_flat(self.init(phase)), phase, phase.mixes(0)[0], Program.compile)

    def train(
        self, state: RunnerState, phase: Phase, first: int, stopped: Callable[[], bool]
    ) -> tuple[RunnerState, dict[str, jax.Array], np.ndarray]:
        """Train a chunk of a phase -> (state, metrics [S], finite [S, U, sources])."""
        del stopped
        return self._fitting(partial(self._train_chunk, state, phase, first))

    def _train_chunk(
        self, state: RunnerState, phase: Phase, first: int
    ) -> tuple[RunnerState, dict[str, jax.Array], np.ndarray]:
        """Train a chunk update by update, each submitted while the devices work on those before.

        So devices do not wait for the host. On a CPU they wait for one another: XLA begins a
        program of several devices when all have ended the last. Programs of one device each would
        not, but are compiled once a device.
        """
        state, results = _flat(state), []
        for mix in phase.mixes(first):
            state, result = self._update(state, phase, mix, Program.__call__)
            results.append(result)
            if len(results) > SUBMITTED:
                jax.block_until_ready(results[-1 - SUBMITTED])  # or batches would pile up
        parts = [unpack(part) for part in zip(*results, strict=True)]
        finite = np.stack([part.pop("finite") > 0 for part in parts], -1)
        sums, head_metrics, agent_metrics = parts
        return _whole(state), summaries(head_metrics | agent_metrics, sums), finite

    def _update(
        self, state: RunnerState, phase: Phase, mix: RewardMix, call: Callable
    ) -> tuple[RunnerState, tuple[Packed, Packed, Packed]]:
        """Update all seeds once -> (state, numbers [S] of each program).

        These are programs of their own, since few arms of a study share all three, but most share
        the first and the last, which take longest to compile.

        Args:
            state: of all seeds, flat.
            phase: in which they are.
            mix: weights of the rewards at this update.
            call: (program, *arguments) -> its results, or their shapes.
        """
        config, optimise = train_config(phase, self.run_config), self.run_config.optimise
        agent, heads = agent_key(phase.agent), state.learner.blend_state
        rule = phase.blend.rule, heads.structure, phase.heads, agent_signals(config)
        taught = agent, agent_key(config.teacher)
        teacher = () if phase.teacher is None else phase.teacher.state
        of_signals = RewardMix(signals=mix.signals, yoked=mix.yoked)
        data = teacher, dict(phase.numbers), mix._replace(signals=None, yoked=None)

        bare = state._replace(learner=Learner(state.learner.agent, flat(())))
        program = self._program(_collect, phase, 1, (agent,), optimise)
        made, sums = call(program, bare, dict(phase.numbers), phase.worlds)
        program = self._program(_update_heads, phase, 1, rule, optimise)
        signals, heads, metrics = call(program, heads, made.batch, of_signals)
        program = self._program(_update_agent, phase, 1, taught, optimise)
        inputs = state.learner.agent, made.update_key, made.batch, signals
        trained, agent_metrics = call(program, *inputs, *data)
        return made.state(Learner(trained, heads)), (sums, metrics, agent_metrics)

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
        worlds = with_disturbances(points.worlds, reward_noise=0.0)
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

    def _program(
        self,
        fn: Callable,
        phase: Phase,
        shared: int,
        what: tuple[Any, ...],
        optimise: bool,
        **static: Any,
    ) -> Program:
        """A function of this module, compiled for the configuration of a phase.

        Args:
            fn: the function.
            phase: whose configuration it gets.
            shared: number of last arguments without a seed axis, unless each seed has its own.
            what: hashable, that part of the configuration on which the result depends.
            optimise: see `vmap_seeds`.
            **static: further arguments.
        """
        phase.check_seeds(self.run_config.rows)
        config, shared = train_config(phase, self.run_config), 0 if phase.per_seed else shared
        program = partial(fn, config=config, env=self.env, **static)
        wide = fn in (_collect, _update_heads, _update_agent)
        together = ENVS_AT_ONCE // self.run_config.num_envs if wide else None
        return self._compile(
            (fn, shared, *what, *static.values()), program, shared, optimise, together
        )

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
    ) -> Program:
        """`program` compiled over seeds; the last PROGRAMS that were used are kept by their key."""
        optimise = self.run_config.optimise if optimise is None else optimise
        sizes = self.run_config.rows, shared, optimise, together, self.most_at_once, self.block
        with self._lock:
            compiled = self._programs.pop(key, None) or Program(vmap_seeds(program, *sizes))
            self._programs[key] = compiled
            if len(self._programs) > PROGRAMS:
                self._programs.pop(next(iter(self._programs)))
        return compiled


def train_config(phase: Phase, run_config: RunConfig) -> TrainConfig:
    """Static configuration of training in a phase."""
    sizes = run_config.num_envs, run_config.num_steps
    teacher = None if phase.teacher is None else phase.teacher.agent
    return TrainConfig(phase.agent, phase.blend, *sizes, phase.heads == "learn", teacher)


def agent_key(agent: Any) -> Any:
    """What tells agents apart: their settings, or their identity if these are not hashable."""
    try:
        hash(agent)
    except TypeError:
        return id(agent)
    return agent


def _init_agent(key, worlds, *, config, env):
    """Initialise one seed, but for its heads -> (state, key of the heads)."""
    return init_agent(key, config, env, worlds)


def _init_heads(key, *, config, env):
    """Initialise the heads of one seed."""
    return init_heads(key, config, env.spec)


def _enter(learner, key, worlds, *, config, env, renew, hand_over):
    """Carry one seed's learner into a phase."""
    state = init_runner(key, config, env, worlds)
    return state._replace(learner=carry_over(learner, state.learner, renew, hand_over))


def _flat(state: RunnerState) -> RunnerState:
    """State with flat parts of the learner and the bits of its key, which programs take faster."""
    return state._replace(
        learner=Learner(*map(flat, state.learner)), key=jax.random.key_data(state.key)
    )


def _whole(state: RunnerState) -> RunnerState:
    """State from a flat one."""
    learner = Learner(*(part.tree for part in state.learner))
    return state._replace(learner=learner, key=jax.random.wrap_key_data(state.key))


def _collect(state, numbers, worlds, *, config, env):
    """Roll out a batch of one seed, without its heads -> (what it gives, numbers)."""
    config = replace(config, agent=with_settings(config.agent, **numbers))
    made, sums = collect(_whole(state), config, env, worlds)
    keys = {name: jax.random.key_data(getattr(made, name)) for name in ("key", "update_key")}
    return made._replace(**keys), pack(sums | {"finite": all_finite(made.batch)})


def _update_heads(blend_state, batch, mix, *, config, env):
    """Update the heads of one seed -> (signals, their state, numbers)."""
    signals, heads, metrics = update_heads(config, blend_state.tree, batch, mix)
    finite = all_finite((heads, metrics))
    return signals, blend_state.of(heads), pack(metrics | {"finite": finite})


def _update_agent(agent_state, key, batch, signals, teacher, numbers, mix, *, config, env):
    """Update the agent of one seed -> (its state, numbers)."""
    known = {name: number for name, number in numbers.items() if hasattr(config.teacher, name)}
    teaching = with_settings(config.teacher, **known)
    config = replace(config, agent=with_settings(config.agent, **numbers), teacher=teaching)
    inputs = jax.random.wrap_key_data(key), batch, signals, mix, teacher
    agent, metrics = update_agent(config, agent_state.tree, *inputs)
    return agent_state.of(agent), pack(metrics | {"finite": all_finite((agent, metrics))})


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
