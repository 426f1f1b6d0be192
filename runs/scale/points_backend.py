"""Train all points of a sweep that differ only in numbers in one vmapped program, like seeds.

These numbers are data of the program: weights of heads, and what a head holds as a parameter, such
as the scale of a potential, with the bits of programs of their own; on request also numbers of PPO
and A2C that only their update reads, such as the learning rate, to within rounding. All else, such
as a horizon, is compiled in.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents.actor_critic import ActorCriticAgent
from envs.world import Env
from runs.engine.config import RunConfig, head_spec
from runs.engine.jax_backend import JaxBackend
from runs.engine.phases import Phase
from runs.engine.seeds import Stream, seed_keys, stream_key
from runs.engine.train import RunnerState

AGENT_NUMBERS = ("lr", "entropy", "critic", "max_norm", "lam", "clip")
AT_ONCE = 4  # rows that a device of a CPU computes at once
LEAST_DEVICES = 2  # virtual devices of the process of a cell, also on one core


class PointsBackend(JaxBackend):
    """Backend of P points x S seeds of one arm: a row is a seed of a point, the points in order.

    Args:
        env: the environment.
        run_config: sizes; its seeds are all rows.
        phases: of the arm at each point, [P].
        seeds: of the study, [S]; each has at every point the random numbers that it has alone.
        block: rows that a device computes together, a divisor of all rows.
    """

    def __init__(
        self, env: Env, run_config: RunConfig, phases: Sequence[Phase], seeds: range, block: int
    ):
        super().__init__(env, run_config)
        self.phases, self.block = phases, block
        self.seeds = np.resize(np.tile(seeds, len(phases)), run_config.rows)
        self.point = np.resize(np.repeat(np.arange(len(phases)), len(seeds)), run_config.rows)
        agents = [phase.agent for phase in phases]
        self.numbers = {}
        for name in numbers_of(agents[0]):
            values = [getattr(agent, name) for agent in agents]
            if len(set(values)) > 1:
                self.numbers[name] = jnp.asarray(np.array(values, np.float32)[self.point])

    def init(self, phase: Phase, keys: jax.Array | None = None) -> RunnerState:
        """Untrained learners, each with the weights and parameters of its point."""
        if keys is None:
            key = stream_key(self.run_config.base, Stream.TRAINING)
            keys = seed_keys(key, self.seeds)
        state = super().init(phase, keys)
        spec, num_envs = head_spec(self.env.spec, phase.agent), self.run_config.num_envs
        states = [point.blend.init(jax.random.key(0), spec, num_envs) for point in self.phases]
        blend_state = jax.tree.map(self._own, state.learner.blend_state, *states)
        return state._replace(learner=state.learner._replace(blend_state=blend_state))

    def _own(self, leaf: jax.Array, *of_points: jax.Array) -> jax.Array:
        """A leaf [rows, ...] of heads; where points [P] differ in it, that of each row's point.

        `of_points` were made with one key, so that they differ in numbers alone.
        """
        values = np.stack(of_points)
        return leaf if (values == values[0]).all() else jnp.asarray(values[self.point])

    def train(
        self, state: RunnerState, phase: Phase, first: int, stopped: Callable[[], bool]
    ) -> tuple[RunnerState, dict[str, jax.Array], jax.Array]:
        """Train a chunk, each row with the numbers of its point (`JaxBackend.train`)."""
        return super().train(state, replace(phase, numbers=self.numbers), first, stopped)


def numbers_of(agent: Any) -> tuple[str, ...]:
    """Names of the numbers of an agent that can be data of its training program."""
    if not isinstance(agent, ActorCriticAgent):
        return ()
    return tuple(name for name in AGENT_NUMBERS if isinstance(getattr(agent, name, None), float))


def rows_at_once(count: int, devices: int, platform: str) -> int:
    """Rows that a device computes at once, of `count`: AT_ONCE on a CPU, all it has elsewhere.

    XLA compiles another program for another number of rows, which may sum in another order. With
    one number, a row has the same bits in a cell of any size, on any number of cores.
    """
    return AT_ONCE if platform == "cpu" else -(-count // (2 * devices)) * 2


def padded_rows(count: int, devices: int, at_once: int) -> int:
    """Rows for `count` seeds: blocks of `at_once`, equally many on each device that is used.

    These are two at least, if there are two: for one device XLA compiles another program.
    """
    blocks = max(-(-count // at_once), min(devices, LEAST_DEVICES))
    of_device = -(-blocks // devices)
    return -(-blocks // of_device) * of_device * at_once
