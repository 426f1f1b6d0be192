"""gymnax 0.0.9 (Lange, 2022): classic control, bsuite, MinAtar and more, as suites."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from envs.adapters.base import AdaptedEnv, StepOutput, check_id, import_package, ramp_params
from envs.host.shifts import channel_shifts
from envs.suite import Suite
from envs.world import World

GOALS = {
    "Acrobot-v1": -100.0,
    "CartPole-v1": 475.0,
    "MountainCar-v0": -110.0,
    "MountainCarContinuous-v0": 90.0,
    "Pendulum-v1": -300.0,
}
"""The return above which an episode is a success, as gymnasium declares it; it declares none for
the pendulum, whose random policy has about -1,200. Elsewhere any return above 0 is a success."""

BROKEN = ("SimpleBandit-bsuite",)
"""Whose step raises in 0.0.9 by itself."""

HARMFUL = ("Asterix-MinAtar", "Breakout-MinAtar", "CartPole-v1", "SpaceInvaders-MinAtar")
"""Where whatever ends an episode before its time is a failure."""

WORST = {
    "Acrobot-v1": {
        "length": {"link_length_1": 1.5, "link_com_pos_1": 0.75, "link_com_pos_2": 0.75},
        "mass": {"link_mass_1": 1.5, "link_mass_2": 1.5},
        "inertia": {"link_moi": 1.5},
    },
    "CartPole-v1": {
        "force": {"force_mag": 1.0},
        "length": {"length": 2.0, "polemass_length": 0.2},
        "mass": {"masspole": 2.0, "total_mass": 3.0, "polemass_length": 1.0},
    },
    "FourRooms-misc": {"slip": {"fail_prob": 0.75}},
    "MountainCar-v0": {"force": {"force": 0.0005}, "gravity": {"gravity": 0.005}},
    "MountainCarContinuous-v0": {"power": {"power": 0.00075}, "gravity": {"gravity": 0.005}},
    "Pendulum-v1": {"gravity": {"g": 15.0}, "mass": {"m": 1.5}, "length": {"l": 1.5}},
    "PointRobot-misc": {"force": {"max_force": 0.03}},
    "Reacher-misc": {"torque": {"torque_scale": 0.3}},
}
"""Shifts of physics: the params at severity 1. What gymnax caches moves along: the cart's
`total_mass` and `polemass_length` are params of their own, and a pole alone would be no heavier."""


class Gymnax(AdaptedEnv):
    """An environment of gymnax, equal to it step by step.

    Its params are those of gymnax that are real numbers. gymnax reports one `done`; ours is an end
    of the world where its own `is_terminal` says so with all the time in the world, and truncated
    at the horizon. Continuous actions are in [-1, 1] and mean what its action space says.

    Args:
        name: such as "CartPole-v1".
        horizon: steps after which an episode is truncated; None for gymnax's own, and at most that.
        goal: an episode whose return is above it is a success; None for what GOALS says.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """

    limit = "max_steps_in_episode"

    def __init__(self, name: str, horizon: int | None = None, goal: float | None = None):
        self.theirs, self.full = self.make(name)
        own = int(getattr(self.full, self.limit))
        seen = self.theirs.observation_space(self.full)
        low, high = (np.broadcast_to(bound, seen.shape) for bound in (seen.low, seen.high))
        act = self.theirs.action_space(self.full)
        vector = spaces.Box(-1.0, 1.0, (math.prod(act.shape),), np.float32)
        super().__init__(
            name,
            low,
            high,
            spaces.Discrete(int(act.n)) if hasattr(act, "n") else vector,
            min(horizon or own, own),
            GOALS.get(name, 0.0) if goal is None else goal,
            self.harmful(name),
        )

    def make(self, name: str) -> tuple[Any, Any]:
        """The environment and its params."""
        gymnax = import_package("gymnax")
        names = import_package("gymnax.registration").registered_envs
        try:
            return gymnax.make(check_id("gymnax", name, [n for n in names if n not in BROKEN]))
        except OSError as error:
            raise ValueError(f"{name} fetches its data, and cannot: {error}; go online") from None

    def harmful(self, name: str) -> bool:
        """Whether its ends can be failures."""
        return name in HARMFUL

    def harm(self, state: Any, terminated: jax.Array) -> jax.Array:
        """Whether this end of their state is one."""
        return terminated

    def get_default_params(self, **kwargs: float) -> dict[str, Any]:
        """The params of gymnax that are real numbers, by name."""
        real = {
            field: value
            for field, value in vars(self.full).items()
            if isinstance(value, float) and field != self.limit
        }
        return real | kwargs

    def complete(self, params: dict[str, Any]) -> Any:
        """All of their params, given ours."""
        return self.full.replace(**params)

    def initial(self, rng: jax.Array, params: dict[str, Any]) -> StepOutput:
        """As they begin."""
        obs, state = self.theirs.reset_env(jax.random.key_data(rng), self.complete(params))
        return self.start(state, obs)

    def transition(
        self, state: StepOutput, action: jax.Array, rng: jax.Array, params: dict[str, Any]
    ) -> StepOutput:
        """Their step, without their reset."""
        theirs = self.complete(params)
        obs, after, reward, *_ = self.theirs.step_env(
            jax.random.key_data(rng), state.state, self._told(action), theirs
        )
        endless = theirs.replace(**{self.limit: jnp.iinfo(jnp.int32).max})
        terminated = self.theirs.is_terminal(after, endless)
        return self.then(state, after, obs, reward, terminated, self.harm(after, terminated))

    def render_image(self, state: StepOutput, render_state: Any, params: Any = None):
        """Nothing: gymnax draws through matplotlib and other packages' windows.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"there are no pictures of {self.name}")

    def _told(self, action: jax.Array) -> jax.Array:
        """Our action as theirs."""
        if self.spec.num_actions:
            return action
        space = self.theirs.action_space(self.full)
        share = (jnp.clip(action, -1.0, 1.0).reshape(space.shape) + 1) / 2
        return space.low + (space.high - space.low) * share


def suite(name: str) -> Suite:
    """The suite of an environment of gymnax: shifts of its physics, then the channel's.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """
    env = Gymnax(name)
    physics = tuple(
        ramp_params(shift, "dynamics", ends) for shift, ends in WORST.get(name, {}).items()
    )
    return Suite(
        name=f"gymnax:{name}",
        env=env,
        world=World(env.get_default_params()),
        shifts=physics + channel_shifts(bool(env.spec.num_actions)),
    )
