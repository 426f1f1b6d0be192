"""Algorithms of Stable-Baselines3 and SBX, which own their training loop, as agents.

`Foreign("sb3:PPO", {"n_steps": 128})` is trained in environments of gymnasium by its library
(`runs.engine.foreign_backend`), with the library's defaults where no setting is given.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from affect.bridges.optional import check_library

LIBRARIES = {
    "sb3": ("stable_baselines3", "stable-baselines3", "2.3"),
    "sbx": ("sbx", "sbx-rl", "0.20"),
}
"""Prefix -> module, package and oldest version."""
GIVEN = ("self", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model")
RECOMPUTING = "AffectReplayBuffer"  # as `replay_buffer_class` (`affect.bridges`)


@dataclass(frozen=True)
class Foreign:
    """An algorithm of another library, by its name.

    Attributes:
        name: the library's prefix and the name of the class, such as "sb3:PPO" or "sbx:SAC".
        settings: further arguments of the class, such as {"learning_rate": 1e-3}; its `policy` is
            "MlpPolicy" unless given, and "AffectReplayBuffer" names that of `affect.bridges`.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self):
        """Check the types of name and settings; ValueError for others."""
        if not isinstance(self.name, str) or not isinstance(self.settings, Mapping):
            raise ValueError(f"agent {self.name!r}: give a name and a mapping of settings")
        gamma = self.settings.get("gamma", 0.99)
        if not (isinstance(gamma, int | float) and 0 <= gamma <= 1):
            raise ValueError(f"agent {self.name}: gamma={gamma!r}, expected a number in [0, 1]")

    @property
    def gamma(self) -> float:
        """The discount, .99 unless given, as in the libraries."""
        return float(self.settings.get("gamma", 0.99))

    def algorithm(self) -> Any:
        """The class of the algorithm.

        Raises:
            ValueError: an unknown library or algorithm, a library that is missing or too old, or a
                setting that the algorithm does not have.
        """
        prefix, _, name = self.name.partition(":")
        if prefix not in LIBRARIES or not name:
            raise ValueError(f"agent {self.name!r}: write it as sb3:PPO or sbx:SAC")
        try:
            module = check_library(*LIBRARIES[prefix])
        except ImportError as error:
            raise ValueError(f"agent {self.name}: {error}") from None
        classes = {key: kind for key, kind in vars(module).items() if is_algorithm(kind)}
        if name not in classes:
            hint = closest(name, classes)
            raise ValueError(f"agent {self.name}: {module.__name__} has no {name!r}; {hint}")
        known = [key for key in inspect.signature(classes[name]).parameters if key not in GIVEN]
        for key in self.settings:
            if key not in known:
                raise ValueError(f"agent {self.name} has no setting {key!r}; {closest(key, known)}")
        return classes[name]

    def model(self, env: Any, seed: int) -> Any:
        """An untrained model for a `VecEnv` of Stable-Baselines3.

        Raises:
            ValueError: as `algorithm` does, or what the algorithm refuses.
        """
        algorithm, options = self.algorithm(), {"policy": "MlpPolicy"} | dict(self.settings)
        if options.get("replay_buffer_class") == RECOMPUTING:
            from affect.bridges.stable_baselines3 import AffectReplayBuffer

            options["replay_buffer_class"] = AffectReplayBuffer
        try:
            return algorithm(env=env, seed=seed, device="cpu", **options | {"gamma": self.gamma})
        except (ValueError, TypeError, AssertionError) as error:
            raise ValueError(f"agent {self.name}: {' '.join(str(error).split())}") from error


def is_algorithm(kind: Any) -> bool:
    """Whether this is a class that trains models."""
    return isinstance(kind, type) and callable(getattr(kind, "learn", None))


def closest(name: str, names: Any) -> str:
    """Hint with the name that is closest to this one, or all names."""
    lower = {known.lower(): known for known in names}
    near = get_close_matches(name.lower(), lower, 1)
    return f"did you mean {lower[near[0]]}?" if near else f"there are {', '.join(sorted(names))}"
