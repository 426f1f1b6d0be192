"""In-adapter: gymnax 0.0.9 (Lange, 2022), classic control, bsuite, MinAtar and more, as suites."""

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
"""Return above which an episode is a success: gymnasium's `reward_threshold`. It has none for the
pendulum, where a random policy returns about -1,200. Any other environment: 0."""

BROKEN = ("SimpleBandit-bsuite",)
"""Environments whose step raises an error in gymnax 0.0.9."""

HARMFUL = ("Asterix-MinAtar", "Breakout-MinAtar", "CartPole-v1", "SpaceInvaders-MinAtar")
"""Environments in which every termination is harm."""

SHIFT_ENDS = {
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
"""Shifts of physics: shift -> params at severity 1. Derived params change with their sources:
CartPole reads the cached `total_mass` and `polemass_length`, so `masspole` alone does little."""


class Gymnax(AdaptedEnv):
    """Environment of gymnax, with equal transitions.

    Its params are the params of gymnax that are floats. gymnax reports a single `done`; here an
    episode is terminated if gymnax's `is_terminal` holds without its time limit, and truncated at
    the horizon. Continuous actions in [-1, 1] are scaled to the bounds of gymnax's action space.

    Args:
        name: such as "CartPole-v1".
        horizon: steps after which an episode is truncated, at most gymnax's limit; None for that.
        goal: an episode with a return above it is a success; None for the value in GOALS.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """

    limit_field = "max_steps_in_episode"

    def __init__(self, name: str, horizon: int | None = None, goal: float | None = None):
        self.package_env, self.package_params = self.make(name)
        own_limit = int(getattr(self.package_params, self.limit_field))
        obs_space = self.package_env.observation_space(self.package_params)
        low, high = (
            np.broadcast_to(bound, obs_space.shape) for bound in (obs_space.low, obs_space.high)
        )
        act_space = self.package_env.action_space(self.package_params)
        unit_box = spaces.Box(-1.0, 1.0, (math.prod(act_space.shape),), np.float32)
        super().__init__(
            name,
            low,
            high,
            spaces.Discrete(int(act_space.n)) if hasattr(act_space, "n") else unit_box,
            min(horizon or own_limit, own_limit),
            GOALS.get(name, 0.0) if goal is None else goal,
            self.harmful(name),
        )

    def make(self, name: str) -> tuple[Any, Any]:
        """Environment `name` of gymnax and its default params."""
        gymnax = import_package("gymnax")
        names = import_package("gymnax.registration").registered_envs
        try:
            return gymnax.make(
                check_id("gymnax", name, [entry for entry in names if entry not in BROKEN])
            )
        except OSError as error:
            raise ValueError(
                f"{name} cannot download its data ({error}); connect to the internet"
            ) from None

    def harmful(self, name: str) -> bool:
        """Whether terminations of the environment are harm."""
        return name in HARMFUL

    def harm(self, state: Any, terminated: jax.Array) -> jax.Array:
        """Whether the step to `state` did harm []: by default, any termination."""
        return terminated

    def get_default_params(self, **kwargs: float) -> dict[str, Any]:
        """Float params of gymnax and their defaults by name, without the time limit."""
        floats = {
            field: value
            for field, value in vars(self.package_params).items()
            if isinstance(value, float) and field != self.limit_field
        }
        return floats | kwargs

    def fill_params(self, params: dict[str, Any]) -> Any:
        """All params of gymnax, with `params` in place of its defaults."""
        return self.package_params.replace(**params)

    def initial(self, rng: jax.Array, params: dict[str, Any]) -> StepOutput:
        """Output of gymnax's reset."""
        obs, state = self.package_env.reset_env(jax.random.key_data(rng), self.fill_params(params))
        return self.reset_output(state, obs)

    def transition(
        self, state: StepOutput, action: jax.Array, rng: jax.Array, params: dict[str, Any]
    ) -> StepOutput:
        """Output of gymnax's step, without its automatic reset."""
        full_params = self.fill_params(params)
        obs, next_state, reward, *_ = self.package_env.step_env(
            jax.random.key_data(rng), state.state, self._package_action(action), full_params
        )
        endless = full_params.replace(**{self.limit_field: jnp.iinfo(jnp.int32).max})
        terminated = self.package_env.is_terminal(next_state, endless)
        return self.step_output(
            state, next_state, obs, reward, terminated, self.harm(next_state, terminated)
        )

    def render_image(self, state: StepOutput, render_state: Any, params: Any = None):
        """Not supported: gymnax draws only through matplotlib and windows of other packages.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"gymnax:{self.name} cannot be rendered as an array")

    def _package_action(self, action: jax.Array) -> jax.Array:
        """Action of gymnax for an action in [-1, 1]; a discrete action is returned unchanged."""
        if self.spec.num_actions:
            return action
        space = self.package_env.action_space(self.package_params)
        fraction = (jnp.clip(action, -1.0, 1.0).reshape(space.shape) + 1) / 2
        return space.low + (space.high - space.low) * fraction


def suite(name: str) -> Suite:
    """Makes the suite of an environment of gymnax: shifts of its physics, then of the channel.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """
    env = Gymnax(name)
    physics = tuple(
        ramp_params(shift, "dynamics", ends) for shift, ends in SHIFT_ENDS.get(name, {}).items()
    )
    return Suite(
        name=f"gymnax:{name}",
        env=env,
        world=World(env.get_default_params()),
        shifts=physics + channel_shifts(env.spec),
    )
