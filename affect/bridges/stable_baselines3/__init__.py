"""Signals as reward in Stable-Baselines3 and SBX: a `VecEnvWrapper`, a callback, a replay buffer.

    venv = VecAffectReward(make_vec_env("CartPole-v1", 8), Blend(novelty=(0.1, Curiosity)))
    PPO("MlpPolicy", venv).learn(100_000, callback=AffectCallback())

`value_of(model)` is a trained critic as a head, to be saved, inherited or given to another agent.
"""

from affect.bridges.optional import check_library

check_library("stable_baselines3", "stable-baselines3", "2.3")

from affect.bridges.stable_baselines3.callback import AffectCallback  # noqa: E402
from affect.bridges.stable_baselines3.replay import AffectReplayBuffer  # noqa: E402
from affect.bridges.stable_baselines3.value import value_of  # noqa: E402
from affect.bridges.stable_baselines3.wrapper import (  # noqa: E402
    VecAffectReward,
    VecTaskReward,
)

__all__ = ["AffectCallback", "AffectReplayBuffer", "VecAffectReward", "VecTaskReward", "value_of"]
