"""One episode of a world, jitted or on the host: actions in, transitions and pictures out."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from affect.transition import one_line
from envs.adapters.gymnasium_env import (
    draw_seed_word,
    make_sampler,
    render_frame,
    render_metadata,
    reset_episode,
    step_episode,
)
from envs.host.results import HostStep
from envs.host.suite import HostEnv
from envs.host.user_code import call_user
from envs.shift import Shift, with_channel
from envs.suite import Suite
from runs.engine.host_step import executed_actions, observe_reset, observe_step
from runs.engine.numpy_policy import action_keys


class JittedEpisode:
    """Episode of a jitted world, that of `envs.adapters.gymnasium_env.WorldEnv` with this seed.

    Args:
        suite: of the world.
        shift: under which it is played; None for none.
        severity: of the shift.
        seed: of the episode.

    Raises:
        ValueError: the world is not drawn, or lacks what is shifted.
    """

    def __init__(self, suite: Suite, shift: Shift | None, severity: float, seed: int):
        render_metadata(suite.env, "rgb_array")
        sampler = make_sampler(suite.env, suite.world, shift, severity)
        word = draw_seed_word(np.random.default_rng(seed))
        self.env, self.stream = suite.env, jax.jit(reset_episode)(sampler, word, 0)
        self._step = jax.jit(step_episode, static_argnums=0)

    @property
    def obs(self) -> jax.Array:
        """Observation [D] at which the next action is chosen."""
        return self.stream.env_state.obs

    def step(self, action: np.ndarray) -> Transition:
        """Take one step -> its transition [1, 1]."""
        self.stream, transition = self._step(self.env, self.stream, action)
        return jax.tree.map(lambda leaf: leaf[None, None], transition)

    def frame(self) -> np.ndarray:
        """Picture [H, W, 3] of the present state."""
        return render_frame(self.env, self.stream.env_state)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class HostEpisode:
    """Episode of a gymnasium environment in this process, through the channel of its world.

    Arguments are those of `JittedEpisode`; the seed is that of its reset.

    Raises:
        ValueError: the environment cannot be made or reset, or has no such shift.
    """

    def __init__(self, suite: Suite, shift: Shift | None, severity: float, seed: int):
        host, world, self.key = suite.env, suite.world, jax.random.key(seed)
        world = world if shift is None else shift(world, severity, jax.random.key(0))
        self.id, self.channel, self.time = host.id, with_channel(world).channel, 0
        self.env = host.maker(world, render_mode="rgb_array")()
        obs, _ = call_user(f"{host.id}: its reset fails", partial(self.env.reset, seed=seed))
        self.host_obs = observe_reset(host, self.key, jnp.asarray(obs)[None], self.channel)
        self._execute = jax.jit(partial(executed_actions, host))
        self._observe = jax.jit(partial(observe_step, host))

    @property
    def obs(self) -> jax.Array:
        """Observation [D] at which the next action is chosen."""
        return self.host_obs.obs[0]

    def step(self, action: np.ndarray) -> Transition:
        """Take one step -> its transition [1, 1].

        Raises:
            ValueError: the environment raises, in one line.
        """
        k_slip = action_keys(self.key, self.time)[1]
        chosen = jnp.asarray(action)[None]
        executed, host_obs = self._execute(k_slip, chosen, self.host_obs, self.channel)
        step = partial(self.env.step, np.asarray(executed)[0])
        obs, *rest, _ = call_user(f"{self.id}: its step fails", step)
        host_step = HostStep(*(np.asarray([part]) for part in (obs, obs, *rest)), {})
        inputs = self.key, host_obs, chosen, host_step, self.channel, self.time
        self.host_obs, transition = self._observe(*inputs)
        self.time += 1
        return jax.tree.map(lambda leaf: leaf[None], transition)

    def frame(self) -> np.ndarray:
        """Picture [H, W, 3] of the present state.

        Raises:
            ValueError: the environment draws none.
        """
        frame: Any = call_user(f"{self.id}: its render fails", self.env.render)
        is_array = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3
        if not is_array or frame.shape[-1] != 3:
            raise ValueError(
                f"{self.id} is not drawn: its render gives {one_line(frame)}, expected uint8[H, W, "
                '3]; let it return such an array for render_mode="rgb_array"'
            )
        return frame

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def make_episode(
    suite: Suite, shift: Shift | None, severity: float, seed: int
) -> JittedEpisode | HostEpisode:
    """The episode of a seed in the world of a suite, with the errors of either kind."""
    kind = HostEpisode if isinstance(suite.env, HostEnv) else JittedEpisode
    return kind(suite, shift, severity, seed)
