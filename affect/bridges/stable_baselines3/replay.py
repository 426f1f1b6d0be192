"""Replay buffer of Stable-Baselines3 that recomputes signals from the heads as they are now.

An off-policy algorithm learns from rewards that were paid long ago, by heads that have learned
since. Here a sample is paid as of now.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from affect.bridges.recompute import Recomputed
from affect.bridges.stable_baselines3.wrapper import VecAffectReward


class AffectReplayBuffer(ReplayBuffer):
    """Replay buffer whose rewards are the task's, and signals of the heads as they are now.

    `DQN(..., replay_buffer_class=AffectReplayBuffer)`, trained with `AffectCallback`. A signal that
    depends on the steps before (`Mood`, `Satiation`, `GRM`) or on `info` stays as it was paid; a
    potential is recomputed from its head at both observations.

    Raises:
        ValueError: with `optimize_memory_usage`, and where a sample is drawn before the wrapper is
            known.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        if self.optimize_memory_usage:
            raise ValueError(
                "a replay buffer with optimize_memory_usage=True loses the last observations of "
                "episodes, which heads read: leave it out"
            )
        self.cut = np.zeros((self.buffer_size, self.n_envs), bool)  # at a time limit
        self.task_rewards = np.zeros((self.buffer_size, self.n_envs), np.float32)
        self.signals = np.zeros((self.buffer_size, self.n_envs, 0), np.float32)
        self.recomputed: Recomputed | None = None

    def attach(self, wrapper: VecAffectReward) -> None:
        """Takes the wrapper whose heads recompute signals."""
        self.recomputed = Recomputed(wrapper.signals)

    def __getstate__(self) -> dict[str, Any]:
        """Attributes for picklers, without the wrapper."""
        return self.__dict__ | {"recomputed": None}

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        """Adds one step of all environments; `infos` are those of `VecAffectReward`."""
        position = self.pos
        super().add(obs, next_obs, action, reward, done, infos)
        if any("affect" not in info for info in infos):
            raise ValueError(
                "a step without signals was added: AffectReplayBuffer needs VecAffectReward around "
                "the environments of the model"
            )
        if not self.signals.shape[-1]:
            size = len(infos[0]["affect"])
            self.signals = np.zeros((self.buffer_size, self.n_envs, size), np.float32)
        self.signals[position] = [list(info["affect"].values()) for info in infos]
        self.task_rewards[position] = [info["task_reward"] for info in infos]
        self.cut[position] = [info.get("TimeLimit.truncated", False) for info in infos]

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        """The sample of these steps, paid as of now."""
        self._pay(batch_inds)
        return super()._get_samples(batch_inds, env)

    def _pay(self, steps: np.ndarray) -> None:
        """Recomputes the rewards of some steps, in all environments."""
        if self.recomputed is None:
            raise ValueError(
                "the replay buffer does not know the wrapper: train with callback=AffectCallback()"
            )
        if not self.signals.shape[-1]:
            return
        done, cut = (x[steps].astype(bool).ravel() for x in (self.dones, self.cut))
        task = self.task_rewards[steps].ravel()
        signals = self.recomputed(
            self._flat(self.observations[steps]),
            self.actions[steps].reshape(len(task), -1),
            self._flat(self.next_observations[steps]),
            task,
            done & ~cut,
            done & cut,
            self.signals[steps].reshape(len(task), -1),
        )
        self.rewards[steps] = self.recomputed.pay(task, signals).reshape(len(steps), -1)

    def _flat(self, obs: np.ndarray) -> np.ndarray:
        """Observations [M, ...] of [n, environments, ...], as the space has them."""
        flat = obs.reshape(-1, *obs.shape[2:])
        return flat[:, 0] if isinstance(self.observation_space, spaces.Discrete) else flat
