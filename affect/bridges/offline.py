"""Recorded data as transitions, so that heads can be trained on it: arrays, or Minari datasets.

Minari is imported only if a dataset is named.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from affect.bridges.optional import check_library
from affect.bridges.spaces import ActionReader, ObsReader
from affect.transition import Transition, is_a, is_whole, one_line

NAMES = {
    "obs": ("obs", "observations"),
    "action": ("action", "actions"),
    "next_obs": ("next_obs", "next_observations"),
    "reward": ("reward", "rewards"),
    "terminated": ("terminated", "terminations", "terminals"),
    "truncated": ("truncated", "truncations", "timeouts"),
    "info": ("info", "infos"),
}
"""Field -> its names here, in Minari and in D4RL."""


def transitions_from(
    data: Any,
    *,
    num_envs: int = 1,
    obs_keys: Sequence[str] | None = None,
    info: Sequence[str] = (),
    observation_space: Any = None,
    action_space: Any = None,
) -> Transition:
    """Transitions [T, B] of recorded episodes, one after another.

    Args:
        data: a dataset of Minari or its name; or a mapping of arrays by the names of `NAMES`; or a
            list of such mappings, one an episode. An episode has observations [T + 1, ...]; arrays
            of several episodes have observations [T, ...] and next_observations.
        num_envs: B equal parts that the steps are divided into, for heads trained on [T, B]. A cut
            within an episode counts as a time limit; up to B - 1 last steps are left out.
        obs_keys: which keys of a dict of observations are read.
        info: keys of `infos` that heads read.
        observation_space: of gymnasium, for arrays of whole numbers or dicts; datasets have one.
        action_space: of gymnasium, for actions that are not 0..n-1 or in [-1, 1]; likewise.

    Returns:
        The transitions, time first. `first` is set where an episode or a part begins.

    Raises:
        ValueError: arrays that are missing, of other lengths, or that jump from one episode to
            another without an end.
        ImportError: a dataset is named, and Minari is missing or too old.
    """
    if not is_whole(num_envs) or num_envs < 1:
        raise ValueError(f"num_envs is a whole number of at least 1, not {num_envs!r}")
    if is_a(data, str):
        data = check_library("minari", "minari[hdf5]", "0.5").load_dataset(data)
    spaces = observation_space, action_space
    if hasattr(data, "iterate_episodes"):
        spaces = (
            observation_space or data.observation_space,
            action_space or data.action_space,
        )
    read = ObsReader(spaces[0], obs_keys) if spaces[0] is not None else _plain_obs
    act = ActionReader(spaces[1]) if spaces[1] is not None else _plain_actions
    parts = [_steps(one, read, act, tuple(info)) for one in _episodes(data)]
    if not parts:
        raise ValueError("there is no episode in the data: give at least one")
    joined = [np.concatenate(arrays) for arrays in zip(*(part[:-1] for part in parts), strict=True)]
    extra = {key: np.concatenate([part[-1][key] for part in parts]) for key in info}
    return _divided(Transition._make([*joined, extra]), num_envs)


def _episodes(data: Any) -> Iterator[dict[str, Any]]:
    """Yields mappings by our names, and whether each is one episode, as `whole`."""
    if hasattr(data, "iterate_episodes"):
        names = ("observations", "actions", "rewards", "terminations", "truncations", "infos")
        for episode in data.iterate_episodes():
            yield _named({name: getattr(episode, name) for name in names}, whole=True)
    elif is_a(data, Mapping):
        yield _named(data, whole=False)
    elif is_a(data, list | tuple) and all(is_a(one, Mapping) for one in data):
        for one in data:
            yield _named(one, whole=True)
    else:
        raise ValueError(
            f"data is {one_line(data)}, expected a Minari dataset, its name, a dict of arrays, or "
            "a list of them"
        )


def _named(arrays: Mapping[str, Any], whole: bool) -> dict[str, Any]:
    """The arrays by our names, those that were not given left out.

    Raises:
        ValueError: one is missing.
    """
    named = {
        field: arrays[name] for field, names in NAMES.items() for name in names if name in arrays
    }
    for field in ("obs", "action", "reward", "terminated", "truncated"):
        if field not in named:
            raise ValueError(
                f"the data has {', '.join(map(str, arrays))} and no {' or '.join(NAMES[field])}: "
                "give all of observations, actions, rewards, terminations and truncations"
            )
    return named | {"whole": whole}


def _steps(named: dict[str, Any], read: Any, act: Any, info: tuple[str, ...]) -> tuple:
    """Fields of the steps [T, ...] of one mapping, in the order of `Transition`."""
    reward = np.asarray(named["reward"], np.float32)
    count = len(reward)
    terminated, truncated = (np.array(named[x], bool) for x in ("terminated", "truncated"))
    for name, array in (("terminations", terminated), ("truncations", truncated)):
        if array.shape != (count,) or reward.ndim != 1 or count < 1:
            raise ValueError(
                f"rewards are {one_line(reward)} and {name} {one_line(array)}, expected one of "
                "each for every step"
            )
    truncated &= ~terminated
    obs, action = read(named["obs"]), act(named["action"])
    if "next_obs" in named:
        next_obs = read(named["next_obs"])
    elif len(obs) == count + 1:
        obs, next_obs = obs[:-1], obs[1:]
    else:
        raise ValueError(
            f"observations are of {len(obs)} steps, rewards of {count}, and there are no "
            "next_observations: give those, or one observation more in each episode"
        )
    for name, array in (
        ("observations", obs),
        ("next_observations", next_obs),
        ("actions", action),
    ):
        if len(array) != count:
            raise ValueError(f"{name} are of {len(array)} steps, and rewards of {count}")
    ended = terminated | truncated
    if named["whole"] and ended[:-1].any():
        raise ValueError("an episode ends before its last step: give each episode by itself")
    if named["whole"] and not ended[-1]:
        truncated[-1] = True  # the recording stops here
    jump = ~ended[:-1] & (next_obs[:-1] != obs[1:]).any(-1)
    if jump.any():
        raise ValueError(
            f"after step {int(np.argmax(jump))} comes another observation than the one it led to, "
            "and no end: mark where episodes are cut in truncations"
        )
    first = np.concatenate([[True], (terminated | truncated)[:-1]])
    extra = {key: _info(named.get("info", {}), key, count) for key in info}
    return obs, action, next_obs, reward, terminated, truncated, first, extra


def _info(infos: Any, key: str, count: int) -> np.ndarray:
    """Values [T, ...] of a key of infos, without that of the reset where there is one."""
    if not is_a(infos, Mapping) or key not in infos:
        keys = ", ".join(map(str, infos)) if is_a(infos, Mapping) else one_line(infos)
        raise ValueError(f"infos have no {key!r}, only {keys or 'nothing'}: leave it out of info=")
    values = np.asarray(infos[key])
    if values.dtype.kind not in "biuf" or len(values) not in (count, count + 1):
        raise ValueError(f"infos[{key!r}] is {one_line(values)}, expected numbers of {count} steps")
    return values[-count:].astype(np.float32)


def _plain_obs(obs: Any) -> np.ndarray:
    """Vectors [T, D] of an array of observations that needs no space."""
    array = np.asarray(obs) if not is_a(obs, Mapping) else np.array(None)
    if array.dtype.kind not in "fiub" or array.ndim < 2:
        raise ValueError(
            f"observations are {one_line(obs)}, expected numbers [T, D]: give their "
            "observation_space"
        )
    return array.astype(np.float32).reshape(len(array), -1)


def _plain_actions(action: Any) -> np.ndarray:
    """Actions [T] or [T, A] of an array that needs no space."""
    array = np.asarray(action)
    if array.dtype.kind in "iu" and array.ndim == 1:
        return array.astype(np.int32)
    if array.dtype.kind != "f" or array.ndim != 2 or not (np.abs(array) <= 1).all():
        raise ValueError(
            f"actions are {one_line(array)}, expected whole numbers [T], or [T, A] in [-1, 1]: "
            "give their action_space"
        )
    return array.astype(np.float32)


def _divided(steps: Transition, num_envs: int) -> Transition:
    """Steps [T, ...] as [T / B, B, ...], parts of equal length side by side."""
    length = len(steps.reward) // num_envs
    if not length:
        raise ValueError(f"{len(steps.reward)} steps cannot be divided into {num_envs} parts")
    first: Any = np.array(steps.first)
    truncated: Any = np.array(steps.truncated)
    begins = length * np.arange(1, num_envs)
    first[begins] = True
    truncated[begins - 1] |= ~np.asarray(steps.terminated)[begins - 1]
    steps = steps._replace(first=first, truncated=truncated)

    def divide(array: Any) -> Any:
        parts = array[: length * num_envs].reshape(num_envs, length, *array.shape[1:])
        return jnp.asarray(np.swapaxes(parts, 0, 1))

    extra = {key: divide(array) for key, array in steps.info.items()}
    return Transition._make([*map(divide, steps[:-1]), extra])
