"""A jitted world for those who speak gymnasium; `envs.adapters.gymnasium_vector` has many side by side.

Both are shells of state around two pure functions, `reset_episode` and `step_episode`. What an environment lives
through depends on its seed and its actions alone.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
from gymnasium.error import ResetNeeded

from affect import Transition
from envs import import_entry
from envs.shift import Shift
from envs.world import Env, EnvState, World, world_at


class StreamState(NamedTuple):
    """Where an environment is in its stream.

    Attributes:
        word: [] uint32, what the seed of the environment comes down to.
        number: [] int32, how many episodes of that seed came before.
        env_state: the episode under way.
    """

    word: jax.Array
    number: jax.Array
    env_state: EnvState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WorldSampler:
    """Where episodes take place: a world, and a shift that makes another of it for each of them."""

    env: Env = field(metadata={"static": True})
    shift: Shift | None = field(metadata={"static": True})
    world: World
    severity: float


def make_sampler(
    env: Env | str, world: World | None, shift: Shift | None, severity: float, **options: Any
) -> WorldSampler:
    """Makes a setting from the arguments of `WorldEnv`, which says what they are and raise."""
    env = _cached_env(env, **options) if isinstance(env, str) else env
    world = World(env.get_default_params()) if world is None else world
    if shift is not None:
        shift(world, severity, jax.random.key(0))  # raises if it cannot be done
    return WorldSampler(env, shift, world, severity)


@cache
def _cached_env(entry: str, **options: Any) -> Env:
    """One instance for all environments of a family, which therefore share compiled programs."""
    return import_entry(entry)(**options)


def reset_episode(setting: WorldSampler, word: jax.Array, number: jax.Array) -> StreamState:
    """Begins an episode."""
    k_world, k_reset, _ = _keys(word, number)
    world = setting.world
    if setting.shift is not None:
        world = setting.shift(world, setting.severity, k_world)
    return StreamState(word, number, setting.env.reset(k_reset, world))


def step_episode(
    env: Env, episode: StreamState, action: jax.Array
) -> tuple[StreamState, Transition]:
    """Takes one step."""
    _, _, k_steps = _keys(episode.word, episode.number)
    key = jax.random.fold_in(k_steps, episode.env_state.time)
    env_state, transition = env.step(key, episode.env_state, action)
    return episode._replace(env_state=env_state), transition


def _keys(word: jax.Array, number: jax.Array) -> jax.Array:
    """Three keys of an episode: of its world, its reset, its steps."""
    return jax.random.split(jax.random.fold_in(jax.random.key(word), number), 3)


_begin = jax.jit(reset_episode)
_advance = jax.jit(step_episode, static_argnums=0)


class WorldEnv(gymnasium.Env):
    """A jitted world as a gymnasium environment; its horizon truncates, no `TimeLimit` is needed.

    Args:
        env: the family of worlds, or its entry such as "envs.worlds.classic.cartpole:CartPole".
        world: the one to be in; that of the default params if None.
        shift: what becomes of it, drawn anew every episode.
        severity: of the shift, in [0, 1].
        render_mode: None, or "rgb_array".
        **options: for the class that the entry names, such as `horizon=200`.

    Raises:
        ValueError: for a severity outside [0, 1], a shift of a field that the world lacks, or a
            render mode that it lacks.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        env: Env | str,
        world: World | None = None,
        shift: Shift | None = None,
        severity: float = 1.0,
        render_mode: str | None = None,
        **options: Any,
    ):
        self._setting = make_sampler(env, world, shift, severity, **options)
        self.func_env, self.render_mode = self._setting.env, render_mode
        self.metadata = render_metadata(self.func_env, render_mode)
        self.observation_space = self.func_env.observation_space
        self.action_space = self.func_env.action_space
        self._word, self._number = None, 0
        self._episode, self._ended = None, True

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Begins an episode, the first of a seed or the next one -> (obs [D], {})."""
        super().reset(seed=seed)
        self._number += 1
        if seed is not None or self._word is None:
            self._word, self._number = draw_seed_word(self.np_random), 0
        self._episode, self._ended = _begin(self._setting, self._word, self._number), False
        return np.array(self._episode.env_state.obs), {}

    def step(self, action):
        """One step -> (obs [D], reward, terminated, truncated, info).

        Raises:
            ValueError: if the action is not in the action space.
            ResetNeeded: if no episode is under way.
        """
        if self._ended:
            raise ResetNeeded("no episode is under way: call reset first")
        action = checked_action(self.action_space, action)
        self._episode, seen = _advance(self.func_env, self._episode, action)
        seen = jax.device_get(seen)
        terminated, truncated = bool(seen.terminated), bool(seen.truncated)
        self._ended = terminated or truncated
        info = jax.tree.map(lambda value: np.array(value)[()], seen.info)
        return np.array(seen.next_obs), float(seen.reward), terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """A picture of the true state, uint8 [H, W, 3]; None without a render mode.

        Raises:
            ResetNeeded: before the first reset.
        """
        if self._episode is None:
            raise ResetNeeded("no episode to draw: call reset first")
        return render_frame(self.func_env, self._episode.env_state) if self.render_mode else None


def render_metadata(env: Env, render_mode: str | None) -> dict[str, Any]:
    """Returns gymnasium's metadata of a family.

    Raises:
        ValueError: if it has no such render mode.
    """
    metadata = getattr(env, "metadata", {"render_modes": []})
    modes = metadata["render_modes"]
    if render_mode not in (None, *modes):
        raise ValueError(f"{type(env).__name__} has no render mode {render_mode!r}; it has {modes}")
    return metadata


def render_frame(env: Env, env_state: EnvState) -> np.ndarray:
    """Draws the true state of a life, uint8 [H, W, 3]."""
    params = world_at(env_state.world, env_state.time).params
    return env.render_image(env_state.state, env.render_init(params), params)[1]


def draw_seed_word(rng: np.random.Generator) -> np.uint32:
    """Draws the word that a stream of episodes comes from."""
    return rng.integers(2**32, dtype=np.uint32)


def checked_action(space: gymnasium.Space, action: Any) -> np.ndarray:
    """Returns the action as an array that `space` contains.

    Raises:
        ValueError: if it does not contain it.
    """
    given = np.asarray(action)
    if np.can_cast(given.dtype, space.dtype, "same_kind"):
        cast = given.astype(space.dtype)
        if space.contains(cast):
            return cast
    raise ValueError(f"action {action!r} is not in {space}")
