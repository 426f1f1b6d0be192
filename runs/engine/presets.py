"""Default agent and training sizes per environment; set once, never tuned."""

from typing import NamedTuple

from agents.ppo import PPO


class Preset(NamedTuple):
    """Default agent and sizes of a training run.

    Attributes:
        agent: PPO; its learning rate is annealed to 0 over the training.
        num_envs: B, environments per seed.
        num_steps: T, steps of each environment per update.
        steps: environment steps per seed.
        episodes: evaluated at each point.
        parts: groups of environments that heads learn from, one gradient step each
            (`affect.Blend`); chosen to give heads about a thousand gradient steps per training.
    """

    agent: PPO
    num_envs: int
    num_steps: int
    steps: int
    episodes: int
    parts: int


CLASSIC = Preset(PPO(), 4, 128, 500_000, 256, 1)
"""Built-in worlds: common settings for CartPole."""

DRIVE = Preset(PPO(lr=1e-3), 32, 128, 217_000, 256, 8)
"""Drive: settings of the pilot, in which 16 of 16 seeds learned the task."""

ADAPTED = Preset(PPO(lr=1e-3, normalise=True), 32, 128, 500_000, 256, 8)
"""Third-party jitted worlds; observations are normalised, since their units differ."""

CRAFTAX = Preset(PPO(lr=1e-3, normalise=True), 32, 128, 200_000, 16, 8)
"""Craftax: 16 episodes, since at its speed 256 at each of 29 points would take hours."""

HOSTED = Preset(PPO(lr=1e-3, normalise=True), 8, 128, 100_000, 8, 8)
"""Host-stepped worlds: few steps and episodes, since they are slow."""

OWN = {"Drive": DRIVE, "Timid": DRIVE, "craftax": CRAFTAX}
"""Presets by environment name, or by the package before the colon of an id."""


def preset(env: str, jitted: bool) -> Preset:
    """Look up the preset of an environment: a built-in name, `package:id`, or a gymnasium id."""
    if not jitted:
        return HOSTED
    package, adapted, _ = env.partition(":")
    return OWN.get(package, ADAPTED if adapted else CLASSIC)
