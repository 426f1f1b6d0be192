"""How an agent is trained in a world, unless the user says otherwise. Set once, never tuned."""

from typing import NamedTuple

from agents.ppo import PPO


class Preset(NamedTuple):
    """Sizes and step sizes of a training.

    Attributes:
        agent: what learns; its step size falls to 0 over the training.
        num_envs: B, environments a seed.
        num_steps: T, steps in each of them an update.
        steps: environment steps a seed.
        episodes: scored at each point.
        parts: of each batch that heads learn from, a gradient step each (`affect.Blend`): as many
            as bring them to a thousand steps in a training of few large batches.
    """

    agent: PPO
    num_envs: int
    num_steps: int
    steps: int
    episodes: int
    parts: int


CLASSIC = Preset(PPO(), 4, 128, 500_000, 256, 1)
"""Our worlds: the usual settings of CartPole."""

DRIVE = Preset(PPO(lr=1e-3), 32, 128, 217_000, 256, 8)
"""The road: the settings of the pilot, 16 of whose 16 seeds learned it."""

ADAPTED = Preset(PPO(lr=1e-3, normalise=True), 32, 128, 500_000, 256, 8)
"""Everybody's jitted worlds: what they observe has any unit."""

CRAFTAX = Preset(PPO(lr=1e-3, normalise=True), 32, 128, 200_000, 16, 8)
"""Craftax: 29 points and a thousandth of the speed make 256 episodes a matter of hours."""

HOSTED = Preset(PPO(lr=1e-3, normalise=True), 8, 128, 100_000, 8, 8)
"""Host-stepped worlds: steps are dear and runs are short, so each of them learns more."""

OWN = {"Drive": DRIVE, "Timid": DRIVE, "craftax": CRAFTAX}
"""By name, or by the package that an id names before its colon."""


def preset(env: str, jitted: bool) -> Preset:
    """The recipe of an environment by its name: a world of ours, `package:id`, or any id."""
    if not jitted:
        return HOSTED
    package, adapted, _ = env.partition(":")
    return OWN.get(package, ADAPTED if adapted else CLASSIC)
