"""A vector of jitted worlds for those who speak gymnasium.

Seeded with s it equals, bit for bit, gymnasium's `SyncVectorEnv` of singles that are seeded with
s, s + 1, ..., in each of its autoreset modes. To be so exact it goes through its members one by one
within one compiled program: `vmap` may round the last bit of a noisy observation differently. Where
speed matters more than gymnasium's interface, use `envs.world.rollout`.
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
    """B episodes of a jitted world, side by side, as a gymnasium vector environment.

    Args:
        env: as in `WorldEnv`.
        num_envs: B.
        world: as in `WorldEnv`.
        shift: as in `WorldEnv`; every environment draws its own.
        severity: as in `WorldEnv`.
        render_mode: as in `WorldEnv`.
        autoreset_mode: how an ended episode is followed by the next. "SameStep": within the step,
            which returns the first observation of the next episode, and the last one of the old in
            `info["final_obs"]`. "NextStep": by the next step, whose action is ignored. "Disabled":
            by the caller, with `reset(options={"reset_mask": ended})`.
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
        self._setting = make_sampler(env, world, shift, severity, **options)
        self.func_env, self.render_mode = self._setting.env, render_mode
        self.num_envs, self._mode = num_envs, AutoresetMode(autoreset_mode)
        self.metadata = render_metadata(self.func_env, render_mode) | {"autoreset_mode": self._mode}
        self.single_observation_space = self.func_env.observation_space
        self.single_action_space = self.func_env.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._words, self._numbers = np.zeros(num_envs, np.uint32), np.full(num_envs, -1, np.int32)
        self._episodes, self._ended = None, np.ones(num_envs, bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ):
        """Begins episodes -> (obs [B, D], {}).

        Args:
            seed: of environment 0, the next one of environment 1 and so on, or one for each;
                without one, an environment goes on to its next episode.
            options: `reset_mask`, bool [B], names the environments to reset; the others are left
                as they are.

        Raises:
            ValueError: if there are not B seeds, or the mask is not bool [B] or names none.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        seeds = [None] * self.num_envs if seeds is None else list(seeds)
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} environments")
        if mask.shape != self._ended.shape or mask.dtype != bool or not mask.any():
            raise ValueError(f"reset_mask must be bool [{self.num_envs}] and name one at least")
        self._begin(mask | (self._episodes is None), seeds)
        return np.array(self._episodes.env_state.obs), {}

    def step(self, actions):
        """One step -> (obs [B, D], rewards [B], terminated [B], truncated [B], infos).

        Raises:
            ValueError: if the actions are not in the action space.
            ResetNeeded: if an environment has no episode under way and none is begun for it.
        """
        waiting = self._ended
        if self._episodes is None or (waiting.any() and self._mode is AutoresetMode.DISABLED):
            raise ResetNeeded(f"call reset first for environments {np.flatnonzero(waiting)}")
        actions = checked_action(self.action_space, actions)
        self._episodes, seen = _advance_all(self.func_env, self._episodes, actions)
        seen = jax.device_get(seen)
        rewards = np.where(waiting, 0.0, seen.reward.astype(float))
        terminated, truncated = seen.terminated & ~waiting, seen.truncated & ~waiting
        self._ended = ended = terminated | truncated
        if self._mode is AutoresetMode.SAME_STEP:
            again, infos = ended, _infos(seen.info, ~ended) | _finals(seen, ended)
        else:
            again, infos = waiting, _infos(seen.info, ~waiting)
        if again.any():
            self._begin(again, [None] * self.num_envs)
        return np.array(self._episodes.env_state.obs), rewards, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray | None, ...]:
        """A picture of each environment, as in `WorldEnv.render`."""
        if self._episodes is None:
            raise ResetNeeded("no episode to draw: call reset first")
        if not self.render_mode:
            return (None,) * self.num_envs
        env_states = (
            jax.tree.map(lambda x, i=i: x[i], self._episodes.env_state)
            for i in range(self.num_envs)
        )
        return tuple(render_frame(self.func_env, env_state) for env_state in env_states)

    def _begin(self, mask: np.ndarray, seeds: Sequence[int | None]) -> None:
        """Begins an episode where `mask` [B] says so: the first of a seed, or the next one."""
        self._numbers += mask
        for i in np.flatnonzero(mask):
            if seeds[i] is not None:
                self._words[i], self._numbers[i] = draw_seed_word(seeding.np_random(seeds[i])[0]), 0
            elif self._episodes is None:
                self._words[i] = draw_seed_word(self.np_random)
        fresh = _begin_all(self._setting, self._words, self._numbers)
        old = fresh if self._episodes is None else self._episodes
        self._episodes = _chosen(mask, fresh, old)
        self._ended = self._ended & ~mask


@jax.jit
def _begin_all(setting: WorldSampler, words: jax.Array, numbers: jax.Array) -> StreamState:
    return jax.lax.map(lambda at: reset_episode(setting, *at), (words, numbers))


@partial(jax.jit, static_argnums=0)
def _advance_all(
    env: Env, episodes: StreamState, actions: jax.Array
) -> tuple[StreamState, Transition]:
    return jax.lax.map(lambda now: step_episode(env, *now), (episodes, actions))


@jax.jit
@jax.vmap
def _chosen(mask: jax.Array, new: StreamState, old: StreamState) -> StreamState:
    return jax.tree.map(partial(jnp.where, mask), new, old)


def _infos(info: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    """Gymnasium's vector form of the info [B, ...] of the environments in `mask` [B]."""
    infos = {}
    for key, value in info.items() if mask.any() else ():
        infos |= {key: _masked(value, mask), f"_{key}": mask.copy()}
    return infos


def _masked(value: Any, mask: np.ndarray) -> Any:
    """Values where `mask` says so and zeros elsewhere; a mapping is an info of its own."""
    if isinstance(value, dict):
        return _infos(value, mask)
    here = mask.reshape(mask.shape + (1,) * (value.ndim - 1))
    return np.where(here, value, np.zeros_like(value))


def _finals(seen: Transition, ended: np.ndarray) -> dict[str, Any]:
    """What ended episodes saw last, in gymnasium's vector form."""
    if not ended.any():
        return {}
    obs = np.full(len(ended), None, object)
    for i in np.flatnonzero(ended):
        obs[i] = np.array(seen.next_obs[i])
    finals = {"final_obs": obs, "final_info": _infos(seen.info, ended)}
    return finals | {f"_{key}": ended.copy() for key in finals}
