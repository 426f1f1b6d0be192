"""Out-adapter: B copies of a jitted world as a gymnasium vector environment.

With seed s it equals, bit for bit, gymnasium's `SyncVectorEnv` of single environments with seeds
s, s + 1, ..., in each autoreset mode. For this it steps the environments one after another within
one compiled program (`jax.lax.map`), since `vmap` may round the last bit of a noisy observation
differently. Where speed matters more than gymnasium's interface, use `envs.world.rollout`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from affect import Transition
from envs.adapters.gymnasium_env import (
    StreamState,
    WorldSampler,
    checked_action,
    draw_seed_word,
    make_sampler,
    render_frame,
    render_metadata,
    reset_episode,
    step_episode,
)
from envs.shift import Shift
from envs.world import Env, World


class WorldVectorEnv(gymnasium.vector.VectorEnv):
    """Gymnasium vector environment of B copies of a jitted world.

    Args:
        env: as in `WorldEnv`.
        num_envs: B.
        world: as in `WorldEnv`.
        shift: as in `WorldEnv`, drawn independently for every environment.
        severity: as in `WorldEnv`.
        render_mode: as in `WorldEnv`.
        autoreset_mode: when the next episode starts. "SameStep": in the step that ends one, which
            returns the first observation of the next episode, and the last one of the old in
            `info["final_obs"]`. "NextStep": in the next step, whose action is ignored. "Disabled":
            when the caller calls `reset(options={"reset_mask": ended})`.
        **options: as in `WorldEnv`.

    Raises:
        ValueError: as in `WorldEnv`.
    """

    def __init__(
        self,
        env: Env | str,
        num_envs: int = 1,
        world: World | None = None,
        shift: Shift | None = None,
        severity: float = 1.0,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **options: Any,
    ):
        self._sampler = make_sampler(env, world, shift, severity, **options)
        self.func_env, self.render_mode = self._sampler.env, render_mode
        if not self.func_env.spec.plain:
            name = type(self.func_env).__name__
            raise ValueError(f"{name} has masks or images: make it one by one, by gymnasium.make")
        self.num_envs, self._mode = num_envs, AutoresetMode(autoreset_mode)
        self.metadata = render_metadata(self.func_env, render_mode) | {"autoreset_mode": self._mode}
        self.single_observation_space = self.func_env.observation_space
        self.single_action_space = self.func_env.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._words, self._episodes = np.zeros(num_envs, np.uint32), np.full(num_envs, -1, np.int32)
        self._streams, self._ended = None, np.ones(num_envs, bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ):
        """Starts episodes -> (obs [B, D], {}).

        Args:
            seed: s for seeds s, s + 1, ... of the environments, or a list of B seeds; where it is
                None, an environment starts the next episode of its stream.
            options: `reset_mask`, bool [B], selects the environments to reset; the others stay
                unchanged.

        Raises:
            ValueError: if there are not B seeds, or the mask is not bool [B] or selects none.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        seeds = [None] * self.num_envs if seeds is None else list(seeds)
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} environments")
        if mask.shape != self._ended.shape or mask.dtype != bool or not mask.any():
            raise ValueError(f"reset_mask must be bool [{self.num_envs}] with at least one True")
        self._start_episodes(mask | (self._streams is None), seeds)
        return np.array(self._streams.env_state.obs), {}

    def step(self, actions):
        """Takes one step -> (obs [B, D], rewards [B], terminated [B], truncated [B], infos).

        Raises:
            ValueError: if the actions are not in the action space.
            ResetNeeded: before the first reset, or if an episode has ended in mode "Disabled".
        """
        over = self._ended
        if self._streams is None or (over.any() and self._mode is AutoresetMode.DISABLED):
            raise ResetNeeded(f"call reset first for environments {np.flatnonzero(over)}")
        actions = checked_action(self.action_space, actions)
        self._streams, step = _step_all(self.func_env, self._streams, actions)
        step = jax.device_get(step)
        rewards = np.where(over, 0.0, step.reward.astype(float))
        terminated, truncated = step.terminated & ~over, step.truncated & ~over
        self._ended = ended = terminated | truncated
        if self._mode is AutoresetMode.SAME_STEP:
            restart, infos = ended, _infos(step.info, ~ended) | _finals(step, ended)
        else:
            restart, infos = over, _infos(step.info, ~over)
        if restart.any():
            self._start_episodes(restart, [None] * self.num_envs)
        return np.array(self._streams.env_state.obs), rewards, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray | None, ...]:
        """Renders each environment, as in `WorldEnv.render`."""
        if self._streams is None:
            raise ResetNeeded("no episode to draw: call reset first")
        if not self.render_mode:
            return (None,) * self.num_envs
        env_states = (
            jax.tree.map(lambda x, i=i: x[i], self._streams.env_state) for i in range(self.num_envs)
        )
        return tuple(render_frame(self.func_env, env_state) for env_state in env_states)

    def _start_episodes(self, mask: np.ndarray, seeds: Sequence[int | None]) -> None:
        """Starts an episode where `mask` [B] is True: the first of a seed, or the next one."""
        self._episodes += mask
        for i in np.flatnonzero(mask):
            if seeds[i] is not None:
                self._words[i], self._episodes[i] = (
                    draw_seed_word(seeding.np_random(seeds[i])[0]),
                    0,
                )
            elif self._streams is None:
                self._words[i] = draw_seed_word(self.np_random)
        new = _reset_all(self._sampler, self._words, self._episodes)
        old = new if self._streams is None else self._streams
        self._streams = _select(mask, new, old)
        self._ended = self._ended & ~mask


@jax.jit
def _reset_all(sampler: WorldSampler, seed_words: jax.Array, episodes: jax.Array) -> StreamState:
    """`reset_episode` of B environments, one after another."""
    return jax.lax.map(lambda stream: reset_episode(sampler, *stream), (seed_words, episodes))


@partial(jax.jit, static_argnums=0)
def _step_all(env: Env, streams: StreamState, actions: jax.Array) -> tuple[StreamState, Transition]:
    """`step_episode` of B environments, one after another."""
    return jax.lax.map(lambda stream: step_episode(env, *stream), (streams, actions))


@jax.jit
@jax.vmap
def _select(mask: jax.Array, new: StreamState, old: StreamState) -> StreamState:
    """State `new` where `mask` [B] is True, else `old`."""
    return jax.tree.map(partial(jnp.where, mask), new, old)


def _infos(info: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    """Vector info of gymnasium: values [B, ...] and `_key` masks [B], where `mask` is True."""
    infos = {}
    for key, value in info.items() if mask.any() else ():
        infos |= {key: _masked(value, mask), f"_{key}": mask.copy()}
    return infos


def _masked(value: Any, mask: np.ndarray) -> Any:
    """Values where `mask` [B] is True, else zeros; a nested dict becomes a nested vector info."""
    if isinstance(value, dict):
        return _infos(value, mask)
    full_mask = mask.reshape(mask.shape + (1,) * (value.ndim - 1))
    return np.where(full_mask, value, np.zeros_like(value))


def _finals(transition: Transition, ended: np.ndarray) -> dict[str, Any]:
    """Last observations and infos of ended episodes, as `final_obs` and `final_info`."""
    if not ended.any():
        return {}
    obs = np.full(len(ended), None, object)
    for i in np.flatnonzero(ended):
        obs[i] = np.array(transition.next_obs[i])
    finals = {"final_obs": obs, "final_info": _infos(transition.info, ended)}
    return finals | {f"_{key}": ended.copy() for key in finals}
