"""Callback of Stable-Baselines3 that checks how signals are paid, and logs them."""

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from affect.bridges.stable_baselines3.replay import AffectReplayBuffer
from affect.bridges.stable_baselines3.wrapper import VecAffectReward, wrapper_in


class AffectCallback(BaseCallback):
    """Checks wrapper and model when training starts, and logs signals after each rollout.

    Potentials get `model.gamma`, and a replay buffer that recomputes signals gets the wrapper. The
    model's logger (and so TensorBoard) gets, as means over its steps: `affect/NAME`, the weighted
    signal; `affect/NAME_share`, its size as a share of that of task reward and all signals; and
    what the head reported when it was last trained, as `affect/NAME_error`.

    Raises:
        ValueError: when training starts: the environment of the model has no `VecAffectReward`,
            a potential has another discount than the model, `VecNormalize` would scale signals,
            or would keep them from a replay buffer.
    """

    def _init_callback(self) -> None:
        """Checks the model and its environment."""
        self.wrapper = checked_wrapper(self.model)
        self.wrapper.signals.use_discount(float(self.model.gamma))
        buffer = getattr(self.model, "replay_buffer", None)
        if isinstance(buffer, AffectReplayBuffer):
            buffer.attach(self.wrapper)
        self.wrapper.signals.take_statistics()

    def _on_step(self) -> bool:
        """Goes on."""
        return True

    def _on_rollout_end(self) -> None:
        """Logs the statistics of the rollout."""
        for name, value in self.wrapper.signals.take_statistics().items():
            self.logger.record_mean(f"affect/{name}", value)


def checked_wrapper(model: Any) -> VecAffectReward:
    """The wrapper that pays signals to a model, after a check of those around and inside it.

    Raises:
        ValueError: there is none, or `VecNormalize` changes what it pays.
    """
    env = model.get_env()
    wrapper = wrapper_in(env, VecAffectReward)
    if wrapper is None:
        raise ValueError(
            "the environment of the model has no VecAffectReward: make the model with "
            "VecAffectReward(venv, blend)"
        )
    outside = wrapper_in(env, VecNormalize)
    if outside is not None and outside is not wrapper.normalize and outside.norm_reward:
        raise ValueError(
            "VecNormalize outside of VecAffectReward scales signals with the task's reward: give "
            "it norm_reward=False, or put it inside"
        )
    if wrapper.normalize is not None and hasattr(model, "replay_buffer"):
        raise ValueError(
            "VecNormalize inside of VecAffectReward, and an algorithm with a replay buffer: that "
            "would store rewards without signals, so put VecNormalize outside, norm_reward=False"
        )
    return wrapper
