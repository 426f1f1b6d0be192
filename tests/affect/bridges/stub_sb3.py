"""The interface of Stable-Baselines3 that the bridge uses, without torch and without learning.

Vector environments, wrappers, callbacks and buffers behave as those of version 2.9. The model's
actions depend on every bit of the rewards that it was paid.
"""

import hashlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

VERSION = "2.9.0"


class VecEnv:
    def step(self, actions):
        self.step_async(actions)
        return self.step_wait()


class DummyVecEnv(VecEnv):
    """Environments of gymnasium, stepped in turn and reset in the step that ends an episode."""

    def __init__(self, makers):
        self.envs = [make() for make in makers]
        self.num_envs = len(self.envs)
        self.observation_space = self.envs[0].observation_space
        self.action_space = self.envs[0].action_space
        self.seeds = [None] * self.num_envs

    def seed(self, seed):
        self.seeds = [seed + i for i in range(self.num_envs)]

    def reset(self):
        pairs = zip(self.envs, self.seeds, strict=True)
        obs, self.seeds = [env.reset(seed=seed)[0] for env, seed in pairs], [None] * self.num_envs
        return self._stacked(obs)

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        rows = [
            self._step(env, action) for env, action in zip(self.envs, self.actions, strict=True)
        ]
        obs, rewards, dones, infos = zip(*rows, strict=True)
        return self._stacked(obs), np.float32(rewards), np.array(dones), list(infos)

    def _step(self, env, action):
        obs, reward, terminated, truncated, info = env.step(action)
        info["TimeLimit.truncated"] = truncated and not terminated
        if terminated or truncated:
            info["terminal_observation"] = obs
            obs, _ = env.reset()
        return obs, reward, terminated or truncated, info

    def close(self):
        for env in self.envs:
            env.close()

    def _stacked(self, obs):
        if isinstance(obs[0], dict):
            return {key: np.stack([one[key] for one in obs]) for key in obs[0]}
        return np.stack(obs)


class VecEnvWrapper(VecEnv):
    def __init__(self, venv, observation_space=None, action_space=None):
        self.venv, self.num_envs = venv, venv.num_envs
        self.observation_space = observation_space or venv.observation_space
        self.action_space = action_space or venv.action_space

    def step_async(self, actions):
        self.venv.step_async(actions)

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.venv.step_wait()


class VecNormalize(VecEnvWrapper):
    """Observations minus 1 over 2, and rewards over 4: fixed statistics."""

    def __init__(self, venv, norm_obs=True, norm_reward=True, clip_obs=10.0):
        super().__init__(venv)
        self.norm_obs, self.norm_reward, self.clip_obs = norm_obs, norm_reward, clip_obs
        shape = self.observation_space.shape
        self.obs_rms = SimpleNamespace(mean=np.ones(shape), var=np.full(shape, 4.0))
        self.ret_rms, self.epsilon = SimpleNamespace(var=16.0), 0.0

    def normalize_obs(self, obs):
        return np.float32((obs - 1) / 2) if self.norm_obs else obs

    def reset(self):
        return self.normalize_obs(self.venv.reset())

    def step_wait(self):
        obs, self.rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones):
            last = infos[i]["terminal_observation"]
            infos[i]["terminal_observation"] = self.normalize_obs(last)
        rewards = self.rewards / 4 if self.norm_reward else self.rewards
        return self.normalize_obs(obs), np.float32(rewards), dones, infos

    def get_original_reward(self):
        return self.rewards.copy()


class VecMonitor(VecEnvWrapper):
    """Returns of episodes as they pass, in `info["episode"]`."""

    def reset(self):
        self.returns = np.zeros(self.num_envs)
        return self.venv.reset()

    def step_wait(self):
        obs, rewards, dones, infos = self.venv.step_wait()
        self.returns += rewards
        for i in np.flatnonzero(dones):
            infos[i] = {**infos[i], "episode": {"r": self.returns[i]}}
            self.returns[i] = 0
        return obs, rewards, dones, infos


class BaseCallback:
    logger = property(lambda self: self.model.logger)

    def init_callback(self, model):
        self.model = model
        self._init_callback()


class Logger:
    """Means of what is recorded, by name."""

    def __init__(self):
        self.values = {}

    def record_mean(self, key, value):
        self.values.setdefault(key, []).append(value)


class ReplayBuffer:
    def __init__(
        self, size, observation_space, action_space, n_envs=1, optimize_memory_usage=False
    ):
        self.buffer_size, self.n_envs, self.pos = size, n_envs, 0
        self.rng = np.random.default_rng(0)
        self.observation_space, self.action_space = observation_space, action_space
        self.optimize_memory_usage = optimize_memory_usage
        grid, shape = (size, n_envs), observation_space.shape or (1,)
        self.observations = np.zeros((*grid, *shape), observation_space.dtype)
        self.next_observations = np.zeros_like(self.observations)
        width = int(np.prod(action_space.shape)) if action_space.shape else 1
        self.actions = np.zeros((*grid, width), action_space.dtype)
        self.rewards, self.dones, self.timeouts = (np.zeros(grid, np.float32) for _ in range(3))

    def add(self, obs, next_obs, action, reward, done, infos):
        shape = self.observations.shape[1:]
        self.observations[self.pos] = obs.reshape(shape)
        self.next_observations[self.pos] = next_obs.reshape(shape)
        self.actions[self.pos] = action.reshape(self.n_envs, -1)
        self.rewards[self.pos], self.dones[self.pos] = reward, done
        self.timeouts[self.pos] = [info["TimeLimit.truncated"] for info in infos]
        self.pos = (self.pos + 1) % self.buffer_size

    def sample(self, batch_size, env=None):
        return self._get_samples(self.rng.integers(0, self.pos, size=batch_size), env)

    def _get_samples(self, batch_inds, env=None):
        envs = self.rng.integers(0, self.n_envs, size=len(batch_inds))
        return SimpleNamespace(rewards=self.rewards[batch_inds, envs], steps=batch_inds, envs=envs)


@dataclass
class TrainState:
    """Parameters as SBX has them, in a state of flax."""

    params: dict
    replace = replace


class Policy:
    """The sign of a linear function of observations, whose weights follow from a seed."""

    def __init__(self, size):
        self.actor_state, self.size = TrainState({"weights": np.zeros(size, np.float32)}), size

    def state_dict(self):
        return {}  # nothing in torch

    def draw(self, digest):
        rng = np.random.default_rng(list(digest))
        weights = rng.normal(size=self.size).astype(np.float32)
        self.actor_state = self.actor_state.replace(params={"weights": weights})

    def predict(self, obs, deterministic):
        assert deterministic and obs.shape[1:] == (self.size,)
        return np.int64(obs @ self.actor_state.params["weights"] > 0), None


class Model:
    """A model whose actions, and in the end its policy, follow from the bits of its rewards.

    Args:
        policy: unused.
        env: vector environment.
        gamma: discount.
        n_steps: of a rollout.
        device: unused.
        seed: of the environments.
        replay_buffer_class: as in off-policy algorithms; None for an on-policy one.
    """

    def __init__(
        self, policy, env, gamma=0.5, n_steps=4, seed=0, replay_buffer_class=None, device="cpu"
    ) -> None:
        if n_steps < 1:
            raise AssertionError("`n_steps` must be\n at least 1")
        self.policy = Policy(int(np.prod(env.observation_space.shape)))
        self.env, self.gamma, self.n_steps, self.logger = env, gamma, n_steps, Logger()
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.rewards, self.digest, self.obs = [], hashlib.sha256(), None
        env_inside = env
        while hasattr(env_inside, "venv"):
            env_inside = env_inside.venv
        env_inside.seed(seed)
        if replay_buffer_class is not None:
            spaces = env.observation_space, env.action_space
            self.replay_buffer = replay_buffer_class(64, *spaces, n_envs=env.num_envs)

    def get_env(self):
        return self.env

    def get_vec_normalize_env(self):
        env = self.env
        while env is not None and not isinstance(env, VecNormalize):
            env = getattr(env, "venv", None)
        return env

    def save(self, path):
        Path(path).touch()

    def learn(self, total, callback=None, reset=True):
        self.obs = self.env.reset() if reset or self.obs is None else self.obs
        if callback is not None:
            callback.init_callback(self)
        for step in range(total // self.env.num_envs):
            actions = [(self.digest.digest()[i]) % 2 for i in range(self.env.num_envs)]
            obs, rewards, dones, infos = self.env.step(np.array(actions))
            self.digest.update(np.asarray(obs).tobytes() + rewards.tobytes())
            self.rewards.append(rewards.copy())
            if hasattr(self, "replay_buffer"):
                last = np.array(obs)
                for i in np.flatnonzero(dones):
                    last[i] = infos[i]["terminal_observation"]
                steps = self.obs, last, np.array(actions), rewards, dones, infos
                self.replay_buffer.add(*steps)
            else:
                rewards[dones] += 100.0  # as a bootstrapped value at a time limit, in place
            self.obs = obs
            if callback is not None:
                callback.locals = {"infos": infos, "dones": dones}
                callback._on_step()
                if step % self.n_steps == self.n_steps - 1:
                    callback._on_rollout_end()
        self.policy.draw(self.digest.digest())
        return self


PACKAGE = {
    "stable_baselines3": {"__version__": VERSION, "PPO": Model, "DQN": Model},
    "stable_baselines3.common": {},
    "stable_baselines3.common.vec_env": {
        cls.__name__: cls for cls in (VecEnv, DummyVecEnv, VecEnvWrapper, VecNormalize, VecMonitor)
    },
    "stable_baselines3.common.callbacks": {"BaseCallback": BaseCallback},
    "stable_baselines3.common.buffers": {"ReplayBuffer": ReplayBuffer},
}


def install(monkeypatch, **changes) -> None:
    """Puts the stub in the place of the library, and forgets the bridge to it.

    Args:
        monkeypatch: of pytest.
        **changes: attributes of the package, such as __version__.
    """
    bridge = "affect.bridges.stable_baselines3"
    parts = [f"{bridge}.{part}" for part in ("callback", "replay", "value", "wrapper")]
    for name in (bridge, *parts, "runs.engine.foreign_training"):
        monkeypatch.setitem(sys.modules, name, None)  # so that it is as before afterwards
        del sys.modules[name]
    for name, attributes in PACKAGE.items():
        module = ModuleType(name)
        vars(module).update(attributes | (changes if "." not in name else {}))
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
