"""Training of one seed by an algorithm of Stable-Baselines3 or SBX, heads paid through a wrapper.

The library owns the loop: one call of `learn` is the whole training. It is imported with this
module, which is imported when it is needed.
"""

import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

from affect import Blend, BlendState, Value
from affect.bridges.stable_baselines3 import AffectCallback, VecAffectReward, value_of
from agents.foreign import Foreign
from envs.host.suite import HostEnv
from envs.world import World
from runs.engine.config import RunConfig
from runs.engine.foreign_policies import set_parameters
from runs.errors import Interrupted, UserError

EPISODES = ("return", "length", "success")  # means over the episodes that ended in a part


class DeclaredEnv(gymnasium.Wrapper):
    """Environment that declares its continuous actions to be in [-1, 1], and reports harm.

    Args:
        env: that `HostEnv.maker` makes, which clips actions to that.
        harmful: whether every termination is reported in `info["harm"]`, as a `HostEnv` does.
    """

    def __init__(self, env: gymnasium.Env, harmful: bool):
        super().__init__(env)
        self.harmful = harmful
        if isinstance(env.action_space, gymnasium.spaces.Box):
            self.action_space = gymnasium.spaces.Box(-1.0, 1.0, env.action_space.shape, np.float32)

    def step(self, action: Any) -> tuple:
        """Takes one step -> (obs, reward, terminated, truncated, info)."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        harm = {"harm": float(terminated)} if self.harmful else {}
        return obs, reward, terminated, truncated, {**info, **harm}


class ForeignRun:
    """An untrained model of one seed, and the wrapper that pays it.

    Args:
        agent: the algorithm.
        env: the environment.
        world: in which it is.
        blend: the heads.
        run_config: sizes; heads are trained on as many steps at once as those of our agents.
        seed: of model, environments and heads.
        learn: whether heads learn.

    Raises:
        ValueError: for what the algorithm or a head refuses.
    """

    def __init__(
        self,
        agent: Foreign,
        env: HostEnv,
        world: World,
        blend: Blend,
        run_config: RunConfig,
        seed: int,
        learn: bool = True,
    ):
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)  # faster here, and the same on any machine
        self.env, self.run_config = env, run_config
        self.venv = make_venv(env, world, run_config.num_envs)
        self.wrapper = VecAffectReward(
            self.venv,
            blend,
            gamma=agent.gamma,
            seed=seed,
            learn=learn,
            learn_every=run_config.batch_steps,
            info={name: () for name in env.spec.info},
        )
        self.model = agent.model(self.wrapper, seed)

    @property
    def heads(self) -> BlendState:
        """State of the heads now."""
        return self.wrapper.signals.state.blend_state

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics of a part of the training."""
        return (*EPISODES, "episodes", *self.wrapper.signals.state.metrics)

    def learn(self, stopped: Callable[[], bool]) -> tuple[dict[str, np.ndarray], Exception | None]:
        """Train the model -> (metrics by name at P parts of the training [P], what it raised).

        Raises:
            Interrupted: if a stop is requested.
        """
        recorder, raised = Recorder(self.env.success, self.run_config, stopped), None
        try:
            self.model.learn(self.run_config.steps, callback=recorder)
        except Interrupted:
            raise
        except Exception as error:  # libraries and environments raise anything
            raised = error
        finally:
            self.venv.close()
        return recorder.curves(self.metric_names), raised


class Recorder(AffectCallback):
    """Callback that also records metrics of each part of a training, and stops it on request.

    Args:
        success: (return, length) -> whether an episode succeeded, or NaN.
        run_config: sizes: a part is a chunk.
        stopped: returns whether to stop.
    """

    def __init__(self, success: Callable, run_config: RunConfig, stopped: Callable[[], bool]):
        super().__init__()
        self.success, self.sizes, self.stopped = success, run_config, stopped
        self.total, self.length = np.zeros((2, run_config.num_envs))
        self.ended: list[tuple[float, float]] = []
        self.parts: list[dict[str, float]] = []
        self.steps = 0

    def _on_step(self) -> bool:
        """Adds a step of all environments."""
        if self.stopped():
            raise Interrupted
        infos, dones = self.locals["infos"], self.locals["dones"]
        self.total += [info["task_reward"] for info in infos]
        self.length += 1
        self.ended += zip(self.total[dones], self.length[dones], strict=True)
        self.total[dones] = self.length[dones] = 0
        self.steps += len(dones)
        if self.steps % self.sizes.chunk_steps == 0 and len(self.parts) < self.sizes.chunks:
            self._end_part()
        return True

    def _end_part(self) -> None:
        """Takes the means over the episodes of a part, and what heads last reported."""
        total, length = np.array(self.ended).reshape(-1, 2).T
        columns = total, length, self.success(total, length)
        means = (np.mean(x) if len(x) else np.nan for x in columns)
        heads = self.wrapper.signals.state.metrics
        part = dict(zip(EPISODES, means, strict=True)) | {"episodes": len(total)}
        self.parts.append(part | {name: float(x) for name, x in heads.items()})
        self.ended = []

    def curves(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Metrics by name [P]; NaN for parts that were not trained."""
        missing = [{}] * (self.sizes.chunks - len(self.parts))
        return {
            name: np.array([part.get(name, np.nan) for part in (*self.parts, *missing)], np.float32)
            for name in names
        }


def make_venv(env: HostEnv, world: World, count: int) -> DummyVecEnv:
    """Vector environment of `count` environments of a world, in this process."""
    return DummyVecEnv([lambda: DeclaredEnv(env.maker(world)(), env.harmful)] * count)


def untrained_model(agent: Foreign, env: HostEnv) -> Any:
    """An untrained model in a closed environment, to be given parameters."""
    venv = make_venv(env, World({}), 1)
    model = agent.model(venv, 0)
    venv.close()
    return model


def foreign_critic(agent: Foreign, arrays: Any, env: HostEnv) -> Value:
    """The critic of a trained model, of its parameters, as a head (`value_of`).

    Raises:
        UserError: for a model without a critic of observations alone.
    """
    model = untrained_model(agent, env)
    set_parameters(model.policy, arrays)
    try:
        return value_of(model)
    except ValueError as error:
        raise UserError(f"{agent.name}: {error}") from None
