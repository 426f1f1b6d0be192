"""Signals as reward around environments of gymnasium, single or vector.

    env = AffectReward(gymnasium.make("CartPole-v1"), Blend(novelty=(0.1, Curiosity)))

Wrappers outside of these see what is paid, those inside the task's reward. An action space is that
of the wrapped environment: put wrappers that change actions outside or inside, as the agent needs.
"""

from typing import Any

import numpy as np

from affect.blend import Blend
from affect.bridges.describe import first_with
from affect.bridges.host import HostSignals
from affect.bridges.optional import check_library
from affect.bridges.options import check_options
from affect.bridges.wrapping import SignalsWrapper, check_not_nested, successors
from affect.transition import is_a
from affect.wrappers import Sham

check_library("gymnasium", "gymnasium", "1.1")

import gymnasium  # noqa: E402
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper  # noqa: E402
from gymnasium.wrappers import Autoreset  # noqa: E402


class AffectReward(SignalsWrapper, gymnasium.Wrapper):
    """Environment whose reward includes the signals of a blend.

    `info` of a step has the task's reward as `task_reward`, and each weighted signal by its name in
    `affect`. Seeds of the environment and of the agent are not touched.

    Args:
        env: the environment.
        blend: the heads, with their weights.
        **options: of `affect.bridges.host.HostSignals`: paid, weights, learn, learn_every, share,
            gamma, seed, obs_keys, info.

    Raises:
        ValueError: an option or a space that does not fit, a potential without a discount, or a
            wrapper inside that hides how episodes end.
    """

    def __init__(self, env: gymnasium.Env, blend: Blend, **options: Any):
        check_inside(env, AffectReward)
        super().__init__(env)
        spaces = env.observation_space, env.action_space
        self.signals = HostSignals(blend, *spaces, 1, **options)
        _ = self.signals.state  # refuses a potential without a discount, which nobody will give

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Begins an episode -> (obs, info)."""
        obs, info = self.env.reset(**kwargs)
        self.signals.start(self.signals.obs_reader.one(obs))
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes one step -> (obs, reward that is paid, terminated, truncated, info)."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        vector = self.signals.obs_reader.one(obs)
        task = np.array([reward], np.float64)
        signals = self.signals.step(
            np.asarray(action)[None],
            vector,
            vector,
            task,
            np.array([terminated]),
            np.array([truncated]),
            {name: np.asarray(info[name])[None] for name in self.signals.info if name in info},
        )
        by_name = {name: float(x[0]) for name, x in self.signals.by_name(signals).items()}
        info = {**info, "affect": by_name, "task_reward": reward}
        paid: Any = self.signals.pay(task, signals)
        same = self.signals.paid == "info" or paid[0] == task[0]
        return obs, reward if same else float(paid[0]), terminated, truncated, info


class VectorAffectReward(SignalsWrapper, VectorWrapper):
    """Vector environment whose rewards include the signals of a blend.

    All three autoreset modes are served. The successor of a step that ends an episode is its own
    last observation (`final_obs` where the environment resets in the same step). The step with
    which NEXT_STEP resets an environment is neither paid nor learned from.

    `infos` has `task_reward` [B], and in `affect` each weighted signal [B] by its name, with the
    masks of environments that made a step as gymnasium writes them (`_affect`, `_task_reward`).

    Args:
        env: the vector environment.
        blend: the heads, with their weights.
        **options: as in `AffectReward`.

    Raises:
        ValueError: as `AffectReward` does; an autoreset mode that is not known; a `Sham`, which
            needs all environments at every step, under NEXT_STEP.
    """

    def __init__(self, env: VectorEnv, blend: Blend, **options: Any):
        check_inside(env, VectorAffectReward)
        self.mode = env.metadata.get("autoreset_mode")
        if not is_a(self.mode, AutoresetMode):
            raise ValueError(
                f"the metadata of the vector environment has autoreset_mode={self.mode!r}: set it "
                "to one of gymnasium.vector.AutoresetMode, as when it resets must be known"
            )
        check_options(blend)
        if self.mode == AutoresetMode.NEXT_STEP:
            check_no_sham(blend)
        super().__init__(env)
        spaces = env.single_observation_space, env.single_action_space
        self.signals = HostSignals(blend, *spaces, env.num_envs, **options)
        _ = self.signals.state  # refuses a potential without a discount, which nobody will give

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begins episodes, in all environments or where `options["reset_mask"]` -> (obs, infos)."""
        mask = None if options is None else options.get("reset_mask")
        inner = None if options is None else dict(options)  # which the environment may change
        obs, infos = self.env.reset(seed=seed, options=inner)
        self.signals.start(self.signals.obs_reader(obs), mask)
        return obs, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Takes one step -> (obs, rewards that are paid, terminated, truncated, infos)."""
        given = np.array(actions)  # an environment may change it
        next_step = self.mode == AutoresetMode.NEXT_STEP
        made = ~self.signals.ended if next_step else np.ones(self.num_envs, bool)
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        after = self.signals.obs_reader(obs)
        ended = np.asarray(terminated, bool) | np.asarray(truncated, bool)
        reset = ended & (self.mode == AutoresetMode.SAME_STEP)
        last: Any = infos.get("final_obs")
        successor = successors(self.signals.obs_reader, after, reset, last, "final_obs")
        values = {name: self._info(name, ended, infos) for name in self.signals.info}
        ends = terminated, truncated
        signals = self.signals.step(given, successor, after, rewards, *ends, values, made)
        by_name: dict[str, Any] = self.signals.by_name(signals)
        affect = by_name | {f"_{name}": made.copy() for name in by_name}
        task = np.array(rewards)
        more = {"affect": affect, "_affect": made.copy()}
        more |= {"task_reward": task, "_task_reward": made.copy()}
        return obs, self.signals.pay(rewards, signals), *ends, {**infos, **more}

    def _info(self, name: str, ended: np.ndarray, infos: dict) -> Any:
        """Values [B, ...] of a key of `infos`, those of the last step of an episode included."""
        values: Any = infos.get(name)
        final: Any = infos.get("final_info")
        if not is_a(final, dict) or name not in final:
            return values
        last = np.array(final[name])
        if values is None:
            return last
        ended = ended.reshape(ended.shape + (1,) * (last.ndim - 1))
        return np.where(ended, last, values)


def check_inside(env: Any, kind: type) -> None:
    """Checks the wrappers inside an environment.

    Raises:
        ValueError: one resets by itself, or pays signals already.
    """
    while env is not None:
        if is_a(env, Autoreset):
            raise ValueError(
                "gymnasium.wrappers.Autoreset inside hides how episodes end: put it outside, as in "
                "Autoreset(AffectReward(env, blend))"
            )
        check_not_nested(env if is_a(env, kind) else None, kind)
        env = getattr(env, "env", None)


def check_no_sham(blend: Blend) -> None:
    """Checks that no head pays a neighbour's signal; ValueError naming the one that does."""
    if name := first_with(blend, Sham):
        raise ValueError(
            f"{name} is a Sham, which pays a neighbour's signal, and under NEXT_STEP the "
            "neighbour may make no step: make the environments with AutoresetMode.SAME_STEP"
        )
