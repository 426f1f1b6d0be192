"""Out-adapter: one jitted world as a `gymnasium.Env`; `gymnasium_vector` has B copies.

Both hold state around two pure functions, `reset_episode` and `step_episode`. All episodes of an
environment depend on its seed and its actions only.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded

from affect import Spec, Transition
from affect.observation import split
from envs import import_entry
from envs.channel import is_allowed
from envs.host.rows import MASK
from envs.shift import Shift
from envs.world import Env, EnvState, World, world_at


class StreamState(NamedTuple):
    """State of an environment in its stream of episodes.

    Attributes:
        seed_word: [] uint32, drawn from the seed of the environment; the source of all its keys.
        episode: [] int32, number of the episode since that seed, from 0.
        env_state: state of the current episode.
    """

    seed_word: jax.Array
    episode: jax.Array
    env_state: EnvState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WorldSampler:
    """World of each episode: a fixed world, and a shift drawn anew for every episode."""

    env: Env = field(metadata={"static": True})
    shift: Shift | None = field(metadata={"static": True})
    world: World
    severity: float


def make_sampler(
    env: Env | str, world: World | None, shift: Shift | None, severity: float, **options: Any
) -> WorldSampler:
    """Makes the sampler of worlds from the arguments of `WorldEnv`, with the same errors."""
    env = _cached_env(env, **options) if isinstance(env, str) else env
    world = World(env.get_default_params()) if world is None else world
    if shift is not None:
        shift(world, severity, jax.random.key(0))  # raises if the shift does not fit the world
    return WorldSampler(env, shift, world, severity)


@cache
def _cached_env(entry: str, **options: Any) -> Env:
    """Makes an `Env`, the same object for equal arguments, so that compiled code is shared."""
    return import_entry(entry)(**options)


def reset_episode(sampler: WorldSampler, seed_word: jax.Array, episode: jax.Array) -> StreamState:
    """Starts episode number `episode` of the stream of `seed_word`."""
    k_world, k_reset, _ = _keys(seed_word, episode)
    world = sampler.world
    if sampler.shift is not None:
        world = sampler.shift(world, sampler.severity, k_world)
    return StreamState(seed_word, episode, sampler.env.reset(k_reset, world))


def step_episode(
    env: Env, stream: StreamState, action: jax.Array
) -> tuple[StreamState, Transition]:
    """Takes one step, without reset."""
    _, _, k_steps = _keys(stream.seed_word, stream.episode)
    key = jax.random.fold_in(k_steps, stream.env_state.time)
    env_state, transition = env.step(key, stream.env_state, action)
    return stream._replace(env_state=env_state), transition


def _keys(seed_word: jax.Array, episode: jax.Array) -> jax.Array:
    """Three keys of an episode: for its world, its reset and its steps."""
    return jax.random.split(jax.random.fold_in(jax.random.key(seed_word), episode), 3)


_reset = jax.jit(reset_episode)
_step = jax.jit(step_episode, static_argnums=0)


class WorldEnv(gymnasium.Env):
    """Gymnasium environment of a jitted world; truncates at its horizon, without `TimeLimit`.

    Args:
        env: the family of worlds, or its entry such as "envs.worlds.classic.cartpole:CartPole".
        world: physics and channel; the default params if None.
        shift: applied to the world, drawn anew every episode.
        severity: of the shift, in [0, 1].
        render_mode: None, or "rgb_array".
        **options: arguments of the class behind the entry, such as `horizon=200`.

    Raises:
        ValueError: for a severity outside [0, 1], a shift of a field that the world does not have,
            or a render mode that it does not have.
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
        self._sampler = make_sampler(env, world, shift, severity, **options)
        self.func_env, self.render_mode = self._sampler.env, render_mode
        self.metadata = render_metadata(self.func_env, render_mode)
        self.observation_space = self.func_env.observation_space
        self.action_space = self.func_env.action_space
        self._seed_word, self._episode = None, 0
        self._stream, self._ended = None, True

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Starts the first episode of a seed, or the next one -> (obs, info).

        `info` is empty, but for the `action_mask` of a world that has one.
        """
        super().reset(seed=seed)
        self._episode += 1
        if seed is not None or self._seed_word is None:
            self._seed_word, self._episode = draw_seed_word(self.np_random), 0
        self._stream, self._ended = _reset(self._sampler, self._seed_word, self._episode), False
        return parts_of(self.func_env.spec, self._stream.env_state.obs)

    def step(self, action):
        """Takes one step -> (obs [D], reward, terminated, truncated, info).

        Raises:
            ValueError: if the action is not in the action space, or forbidden by the mask.
            ResetNeeded: before the first reset and after the end of an episode.
        """
        if self._ended:
            raise ResetNeeded("the episode is over or was not started: call reset first")
        action = checked_action(self.action_space, action)
        check_allowed(self.func_env.spec, self._stream.env_state.obs, action)
        self._stream, transition = _step(self.func_env, self._stream, action)
        transition = jax.device_get(transition)
        terminated, truncated = bool(transition.terminated), bool(transition.truncated)
        self._ended = terminated or truncated
        info = jax.tree.map(lambda value: np.array(value)[()], transition.info)
        obs, masks = parts_of(self.func_env.spec, transition.next_obs)
        return obs, float(transition.reward), terminated, truncated, info | masks

    def render(self) -> np.ndarray | None:
        """Renders the true state, uint8 [H, W, 3]; None without a render mode.

        Raises:
            ResetNeeded: before the first reset.
        """
        if self._stream is None:
            raise ResetNeeded("no episode to draw: call reset first")
        return render_frame(self.func_env, self._stream.env_state) if self.render_mode else None


def parts_of(spec: Spec, obs: jax.Array) -> tuple[Any, dict[str, np.ndarray]]:
    """An observation [D] for gymnasium, and the `action_mask` [n] of its info if it has one.

    It is the numbers, the image [H, W, C], or a tuple of image and numbers.
    """
    if spec.plain:
        return np.array(obs), {}
    image, numbers, mask = split(spec, jnp.asarray(obs))
    shown = [np.array(spec.image.shaped(image))] if spec.image is not None else []
    shown += [] if numbers is None else [np.array(numbers)]
    masks = {} if mask is None else {MASK: np.array(mask, np.int8)}
    return shown[0] if len(shown) == 1 else tuple(shown), masks


def check_allowed(spec: Spec, obs: jax.Array, action: np.ndarray) -> None:
    """Checks that the mask of an observation [D] allows an action; ValueError if not."""
    if spec.masked and not is_allowed(spec, split(spec, obs).mask, jnp.asarray(action)):
        raise ValueError(f"action {action} is forbidden by the mask: choose one that it allows")


def render_metadata(env: Env, render_mode: str | None) -> dict[str, Any]:
    """Returns the metadata of a world for gymnasium.

    Raises:
        ValueError: if the world has no such render mode.
    """
    metadata = getattr(env, "metadata", {"render_modes": []})
    modes = metadata["render_modes"]
    if render_mode not in (None, *modes):
        raise ValueError(f"{type(env).__name__} has no render mode {render_mode!r}; it has {modes}")
    return metadata


def render_frame(env: Env, env_state: EnvState) -> np.ndarray:
    """Renders the true state of an episode, uint8 [H, W, 3]."""
    params = world_at(env_state.world, env_state.time).params
    return env.render_image(env_state.state, env.render_init(params), params)[1]


def draw_seed_word(rng: np.random.Generator) -> np.uint32:
    """Draws the uint32 from which all keys of a stream of episodes are derived."""
    return rng.integers(2**32, dtype=np.uint32)


def checked_action(space: gymnasium.Space, action: Any) -> np.ndarray:
    """Returns the action as an array of the dtype of `space`.

    Raises:
        ValueError: if it is not in the space.
    """
    array = np.asarray(action)
    if np.can_cast(array.dtype, space.dtype, "same_kind"):
        cast = array.astype(space.dtype)
        if space.contains(cast):
            return cast
    raise ValueError(f"action {action!r} is not in {space}")
