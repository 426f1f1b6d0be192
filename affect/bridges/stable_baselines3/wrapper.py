"""Vector environments of Stable-Baselines3 whose rewards include the signals of a blend."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnvWrapper, VecNormalize

from affect.blend import Blend
from affect.bridges.describe import first_with
from affect.bridges.host import HostSignals
from affect.bridges.options import check_options
from affect.bridges.wrapping import SignalsWrapper, check_not_nested, successors
from affect.inherited import Inherited
from affect.transition import is_a


class VecAffectReward(SignalsWrapper, VecEnvWrapper):
    """Vector environment whose rewards include the signals of a blend.

    Each dict of `infos` has the task's reward as `task_reward`, and each weighted signal by its
    name in `affect`. The successor of a step that ends an episode is its `terminal_observation`,
    and a time limit (`TimeLimit.truncated`) is no terminal state.

    `VecNormalize` belongs outside, with norm_reward=False, so that heads read observations as they
    are. With it inside, heads read the normalised ones and the task's own reward, and signals are
    added to the normalised reward.

    Args:
        venv: the vector environment.
        blend: the heads, with their weights.
        **options: of `affect.bridges.host.HostSignals`: paid, weights, learn, learn_every, share,
            gamma, seed, obs_keys, info. Without gamma, potentials take the discount of the model
            when its training starts, from `AffectCallback`.

    Raises:
        ValueError: an option or a space that does not fit, an inherited head on normalised
            observations, or a wrapper of this kind inside.
    """

    def __init__(self, venv: Any, blend: Blend, **options: Any):
        check_not_nested(wrapper_in(venv, VecAffectReward), VecAffectReward)
        check_options(blend)
        self.normalize = wrapper_in(venv, VecNormalize)
        if self.normalize is not None and self.normalize.norm_obs:
            check_not_inherited(blend)
        spaces = venv.observation_space, venv.action_space
        self.signals = HostSignals(blend, *spaces, venv.num_envs, **options)
        self._given: Any = None
        super().__init__(venv)

    def reset(self) -> Any:
        """Begins episodes in all environments -> obs."""
        obs = self.venv.reset()
        self.signals.start(self.signals.obs_reader(obs))
        return obs

    def step_async(self, actions: Any) -> None:
        """Sends actions to the environments."""
        self._given = np.array(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Results of the step -> (obs, rewards that are paid, dones, infos)."""
        obs, received, dones, infos = self.venv.step_wait()
        task = received if self.normalize is None else self.normalize.get_original_reward()
        task = np.array(task)  # the agent's training may add to what it is given
        after, dones = self.signals.obs_reader(obs), np.array(dones, bool)
        cut = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        values = {
            name: np.array([info[name] for info in infos])
            for name in self.signals.info
            if all(name in info for info in infos)
        }
        last, key = [info.get("terminal_observation") for info in infos], "terminal_observation"
        successor = successors(self.signals.obs_reader, after, dones, last, key)
        ends = dones & ~cut, dones & cut
        signals = self.signals.step(self._given, successor, after, task, *ends, values)
        by_env = [dict(zip(self.signals.names, row, strict=True)) for row in signals.tolist()]
        infos = [
            {**info, "affect": affect, "task_reward": reward}
            for info, affect, reward in zip(infos, by_env, task.tolist(), strict=True)
        ]
        return obs, self.signals.pay(received, signals), dones, infos


class VecTaskReward(VecEnvWrapper):
    """Vector environment that is passed on as it is: the task's reward.

    Stable-Baselines3 copies the statistics of `VecNormalize` to an evaluation environment only if
    that has as many wrappers as the one of training; this takes the place of `VecAffectReward`.
    """

    def reset(self) -> Any:
        """Begins episodes in all environments -> obs."""
        return self.venv.reset()

    def step_wait(self) -> Any:
        """Results of the step, as they are."""
        return self.venv.step_wait()


def wrapper_in(venv: Any, kind: type) -> Any:
    """The outermost wrapper of a kind in a vector environment, itself included; None without."""
    while venv is not None and not is_a(venv, kind):
        venv = venv.venv if is_a(venv, VecEnvWrapper) else None
    return venv


def check_not_inherited(blend: Blend) -> None:
    """Checks that no head was trained on observations that were not normalised.

    Raises:
        ValueError: naming the head that was.
    """
    if name := first_with(blend, Inherited):
        raise ValueError(
            f"{name} was trained before, on observations as they are, and VecNormalize inside "
            "normalises them: put it outside, VecNormalize(VecAffectReward(venv, blend), "
            "norm_reward=False)"
        )
