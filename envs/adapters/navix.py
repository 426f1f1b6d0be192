"""navix 0.7.4 (Pignatelli et al., 2024, "NAVIX: scaling MiniGrid environments"), as suites."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from envs.adapters.base import AdaptedEnv, StepOutput, check_id, import_package
from envs.host.shifts import channel_shifts
from envs.shift import ramp
from envs.suite import Suite
from envs.world import World

MAX_CODES = (10, 5, 3)
"""Largest code of a cell's object, of its colour and of its state or direction."""

COUNTERPARTS = (
    (r"DistShift1", "DistShift2"),
    (r"(Empty|DoorKey)-(\d+x\d+)", r"\1-Random-\2"),
    (r"(Dynamic-Obstacles-[56]x[56])", r"\1-Random"),
    (r"SimpleCrossingS9N[12]", "SimpleCrossingS9N3"),
)
"""Environment id pattern -> id with another layout: of lava, of start and goal, or of walls."""


class Navix(AdaptedEnv):
    """Environment of navix, with equal transitions.

    Observation [3 H W]: object, colour and state of every cell in MiniGrid's codes, each divided by
    its largest code (MAX_CODES). An episode terminates as in navix, and is a success if its return
    is above 0. Harm is the first fall into lava or hit by a ball of an episode; in navix's
    DistShift environments lava does not terminate it. The param `elsewhere`, present if there is
    a counterpart with another layout, is the probability that an episode starts in that one.

    Args:
        name: such as "Navix-Empty-5x5-v0".
        horizon: steps after which an episode is truncated; 100 is navix's default.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 6}

    def __init__(self, name: str, horizon: int = 100):
        navix = import_package("navix")
        names = navix.registry()
        other = shifted_id(check_id("navix", name, names))
        self.package_env = navix.make(name, max_steps=horizon)
        self.shifted_env = navix.make(other, max_steps=horizon) if other in names else None
        height, width, _ = self.package_env.observation_space.shape
        super().__init__(
            name,
            np.zeros((height, width, 3)),
            np.ones((height, width, 3)),
            spaces.Discrete(int(self.package_env.action_space.n)),
            horizon,
            0.0,
            harmful=any(part in name for part in ("Lava", "DistShift", "Obstacles")),
        )

    def get_default_params(self, **kwargs: float) -> dict[str, float]:
        """`elsewhere` = 0 if there is a counterpart with another layout, else no params."""
        return ({"elsewhere": 0.0} if self.shifted_env else {}) | kwargs

    def initial(self, rng: jax.Array, params: dict[str, Any]) -> StepOutput:
        """Output of navix's reset, with probability `elsewhere` of the other layout."""
        output = self._reset(self.package_env, rng)
        if self.shifted_env is None:
            return output
        use_shifted = jax.random.uniform(jax.random.fold_in(rng, 1)) < params["elsewhere"]
        shifted_output = self._reset(self.shifted_env, rng)
        return jax.tree.map(lambda x, y: jnp.where(use_shifted, x, y), shifted_output, output)

    def transition(
        self, state: StepOutput, action: jax.Array, rng: jax.Array, params: dict[str, Any]
    ) -> StepOutput:
        """Output of navix's step, without its reset; its randomness uses the key in the state."""
        env, previous = self.package_env, state.state
        next_state = env.transitions_fn(previous, action, env.action_set)
        reward = env.reward_fn(previous, action, next_state)
        terminated = env.termination_fn(previous, action, next_state)
        obs, harm = (
            _scaled(env.observation_fn(next_state)),
            _harmed(next_state) & ~_harmed(previous),
        )
        return self.step_output(state, next_state, obs, reward, terminated, harm)

    def render_init(self, params: Any = None, **kwargs: Any) -> Any:
        """Renderer with navix's sprites, state -> picture."""
        draw, cache = (
            import_package("navix.observations").rgb,
            import_package("navix.rendering.cache"),
        )
        return jax.jit(lambda s: draw(s.replace(cache=cache.RenderingCache.init(s.grid))))

    def render_image(self, state: StepOutput, render_state: Any, params: Any = None):
        """Draws the room -> (render_state, picture uint8 [32 H, 32 W, 3])."""
        return render_state, np.asarray(render_state(state.state))

    def _reset(self, env: Any, rng: jax.Array) -> StepOutput:
        """Output of navix's reset, without the sprites that are part of its states."""
        timestep = env.reset(jax.random.key_data(rng))
        return self.reset_output(timestep.state.replace(cache=None), _scaled(timestep.observation))


def shifted_id(name: str) -> str:
    """Id of the counterpart of an environment with another layout; empty if there is none."""
    for pattern, replacement in COUNTERPARTS:
        new_name, matches = re.subn(f"Navix-{pattern}-v0", f"Navix-{replacement}-v0", name)
        if matches:
            return new_name
    return ""


def suite(name: str) -> Suite:
    """Makes the suite of an environment of navix: another layout, then shifts of the channel.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """
    env = Navix(name)
    layout = (ramp("elsewhere", "layout", "params.elsewhere", to=1.0),) if env.shifted_env else ()
    return Suite(
        name=f"navix:{name}",
        env=env,
        world=World(env.get_default_params()),
        shifts=layout + channel_shifts(env.spec),
    )


def _scaled(codes: jax.Array) -> jax.Array:
    """Codes [H, W, 3] scaled to [0, 1]."""
    return codes / jnp.array(MAX_CODES, jnp.float32)[None, None]


def _harmed(state: Any) -> jax.Array:
    """Whether the player has fallen into lava or been hit by a ball in this episode []."""
    return state.events.lava_fall.happened | state.events.ball_hit.happened
