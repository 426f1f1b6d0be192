"""All suites by id, with their default agent and training sizes; set once, never tuned."""

from dataclasses import replace
from typing import Any, NamedTuple

from agents.foreign import Foreign
from agents.ppo import PPO
from envs import SUITES, WORLDS, load_suite
from envs.host.suite import HostEnv
from envs.suite import Suite
from runs.errors import UserError
from runs.names import checked_choice


class Preset(NamedTuple):
    """Default agent and sizes of a training run.

    Attributes:
        agent: PPO; its learning rate is annealed to 0 over the training.
        num_envs: B, environments per seed.
        num_steps: T, steps of each environment per update.
        steps: environment steps per seed.
        episodes: evaluated at each point.
        chunks: into which training is divided, at most.
        jitted: whether the worlds are jitted.
    """

    agent: PPO
    num_envs: int
    num_steps: int
    steps: int
    episodes: int
    chunks: int = 60
    jitted: bool = True


CLASSIC = Preset(PPO(), 4, 128, 500_000, 256)
"""Built-in worlds: common settings for CartPole."""

DRIVE = Preset(PPO(lr=1e-3), 32, 128, 217_000, 256)
"""Drive: settings of the pilot, in which 16 of 16 seeds learned the task."""

ANY_UNITS = PPO(lr=1e-3, normalise=True, scale_values=True)
"""For worlds of others: neither the units of observations nor those of rewards matter to it."""

ADAPTED = Preset(ANY_UNITS, 32, 128, 500_000, 256)
"""Other jitted worlds."""

CRAFTAX = Preset(ANY_UNITS, 32, 128, 200_000, 16)
"""Craftax: 16 episodes, since at its speed 256 at each of 29 points would take hours."""

HOSTED = Preset(ANY_UNITS, 8, 128, 100_000, 8, chunks=10**9, jitted=False)
"""Host-stepped worlds: few steps and episodes, since they are slow; a chunk is one update."""

SMOKE_HORIZON = 32  # steps of a host episode that a smoke run evaluates

OWN = {"Drive": DRIVE, "Timid": DRIVE, "craftax": CRAFTAX}
"""Presets by name of the suite, or by the package before the colon of an id."""


def find_suite(env: str, shifts: tuple[str, ...] = (), **options: Any) -> Suite:
    """The suite of an id, with only these shifts if any are named.

    Args:
        env: such as CartPole.
        shifts: names of those to keep; () for all.
        **options: of `envs.load_suite`.

    Raises:
        UserError: for an unknown id or shift, or a space that is not supported.
    """
    try:
        suite = load_suite(env, **options)
    except ValueError as error:
        raise UserError(str(error)) from None
    names = [checked_choice("shift", name, [s.name for s in suite.shifts]) for name in shifts]
    if not names:
        return suite
    return replace(suite, shifts=tuple(s for s in suite.shifts if s.name in names))


def foreign_agent(name: str, settings: Any, suite: Suite) -> Foreign:
    """The agent of an algorithm of another library (`agents.Foreign`).

    Raises:
        UserError: for an algorithm or a setting that does not exist, a library that is not
            installed, or a suite of jitted worlds, or of images or masks, which it does not read.
    """
    try:
        agent = Foreign(name, settings)
        agent.algorithm()
    except ValueError as error:
        raise UserError(str(error)) from None
    if not isinstance(suite.env, HostEnv):
        id = f"affect/{suite.name}-v0"
        remedy = f"choose {id}" if id in WORLDS else "choose one of those"
        raise UserError(
            f"{name} learns in environments of gymnasium, not in {suite.name}: {remedy}"
        )
    spec = suite.env.spec
    if not spec.plain:
        what, remedy = "action masks", "choose PPO or A2C of ours"
        if spec.image is not None:
            what, remedy = "images", f"{remedy}, or take the image for numbers (--image numbers)"
        raise UserError(f"{name} reads no {what}, which {suite.name} has: {remedy}")
    return agent


def smoke_suite(suite: Suite) -> Suite:
    """The suite for a smoke run: host episodes are evaluated for at most SMOKE_HORIZON steps."""
    if not isinstance(suite.env, HostEnv):
        return suite
    return replace(suite, env=replace(suite.env, horizon=min(suite.env.horizon, SMOKE_HORIZON)))


def preset(suite: Suite) -> Preset:
    """Preset of a suite: by its name, and by whether its worlds are ours, jitted, or on the host.

    Agents with continuous actions get no entropy bonus.
    """
    sizes = OWN.get(suite.name.partition(":")[0], CLASSIC if suite.name in SUITES else ADAPTED)
    if isinstance(suite.env, HostEnv):
        sizes = HOSTED
    if suite.env.spec.action_dim:
        sizes = sizes._replace(agent=replace(sizes.agent, entropy=0.0))
    return sizes
