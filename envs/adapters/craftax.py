"""Craftax 1.6.1 (Matthews et al., 2024, "Craftax: a lightning-fast benchmark"), as suites."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.adapters.base import StepOutput, check_id, import_package, ramp_params
from envs.adapters.gymnax import Gymnax
from envs.host.shifts import channel_shifts
from envs.suite import Suite
from envs.world import World

NAMES = ("Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1")
"""Environments with symbolic observations; the pixel variants have the same dynamics."""

SHIFT_ENDS = {
    "Craftax-Classic-Symbolic-v1": {
        "short_days": ("dynamics", {"day_length": 60.0}),
        "no_sure_diamond": ("layout", {"always_diamond": 0.0}),
        "tough_zombies": ("dynamics", {"zombie_health": 15.0}),
        "tough_cows": ("dynamics", {"cow_health": 12.0}),
        "tough_skeletons": ("dynamics", {"skeleton_health": 12.0}),
        "crowded": ("dynamics", {"mob_despawn_distance": 6.0}),
        "no_cows": ("dynamics", {"spawn_cow_chance": 0.0}),
        "zombies_by_day": ("dynamics", {"spawn_zombie_base_chance": 0.3}),
        "zombies_by_night": ("dynamics", {"spawn_zombie_night_chance": 1.0}),
        "skeletons": ("dynamics", {"spawn_skeleton_chance": 0.5}),
    },
    "Craftax-Symbolic-v1": {
        "short_days": ("dynamics", {"day_length": 60.0}),
        "crowded": ("dynamics", {"mob_despawn_distance": 6.0}),
    },
}
"""Shift -> family and params at severity 1. Two params of Craftax-Classic are left out:
`max_timesteps`, since the horizon ends an episode long before; `fractal_noise_angles` (terrain),
whose default None is another pytree than any number, and integers raise an error in 1.6.1."""

INTEGER_PARAMS = ("zombie_health", "cow_health", "skeleton_health", "mob_despawn_distance")


class Craftax(Gymnax):
    """Environment of Craftax, with equal transitions.

    17 actions in Classic, 43 in the full game. Reward: 1 for an achievement, -.1 for a lost point
    of health. Params are numbers of days, mobs and diamonds; healths and distances are rounded, and
    `always_diamond` is the probability that an episode is sure to have a diamond. An episode
    terminates by death, which is harm, or, in the full game, by victory, which is not.

    A reset takes as long as about twenty steps, so each `envs.world.rollout` makes
    `reset_pool_size` worlds and draws all its resets from them.

    Args:
        name: one of NAMES.
        horizon: steps after which an episode is truncated; Craftax itself allows 10,000, and
            100,000 in the full game; trained agents die long before.
        goal: an episode with a return above it is a success: about five achievements, of 22 in
            Classic and 67 in the full game.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    limit_field = "max_timesteps"
    reset_pool_size = 16

    def __init__(self, name: str, horizon: int = 1000, goal: float = 5.0):
        super().__init__(name, horizon, goal)

    def make(self, name: str) -> tuple[Any, Any]:
        """Craftax's environment `name` and its default params."""
        make = import_package("craftax.craftax_env").make_craftax_env_from_name
        env = make(check_id("craftax", name, NAMES), auto_reset=False)
        return env, env.default_params

    def harmful(self, name: str) -> bool:
        """True: every environment of Craftax can end in death."""
        return True

    def harm(self, state: Any, terminated: jax.Array) -> jax.Array:
        """Whether the player died []: any end in Classic, where lava kills at any health."""
        return terminated if "Classic" in self.name else terminated & (state.player_health <= 0)

    def get_default_params(self, **kwargs: float) -> dict[str, float]:
        """Craftax's defaults of the params that a shift changes, by name."""
        fields = (field for _, ends in SHIFT_ENDS[self.name].values() for field in ends)
        return {field: float(getattr(self.package_params, field)) for field in fields} | kwargs

    def fill_params(self, params: dict[str, Any]) -> Any:
        """All params of Craftax, with `params` in place of its defaults."""
        integers = {
            field: jnp.round(value).astype(jnp.int32)
            for field, value in params.items()
            if field in INTEGER_PARAMS
        }
        return self.package_params.replace(**params | integers)

    def initial(self, rng: jax.Array, params: dict[str, Any]) -> StepOutput:
        """Output of a reset to a new world, in which `always_diamond` is drawn as a boolean."""
        if "always_diamond" in params:
            draw = jax.random.uniform(jax.random.fold_in(rng, 1))
            params = params | {"always_diamond": draw < params["always_diamond"]}
        return super().initial(rng, params)

    def render_init(self, params: Any = None, **kwargs: Any) -> Any:
        """Renderer with Craftax's textures, state -> picture."""
        game = "craftax_classic" if "Classic" in self.name else "craftax"
        return jax.jit(import_package(f"craftax.{game}.renderer").make_craftax_pixel_renderer(16))

    def render_image(self, state: StepOutput, render_state: Any, params: Any = None):
        """Draws the player's view -> (render_state, picture uint8 [H, W, 3])."""
        return render_state, np.asarray(render_state(state.state)).astype(np.uint8)


def suite(name: str) -> Suite:
    """Makes the suite of an environment of Craftax: shifts of its params, then of the channel.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """
    env = Craftax(name)
    return Suite(
        name=f"craftax:{name}",
        env=env,
        world=World(env.get_default_params()),
        shifts=(
            *(ramp_params(shift, *ends) for shift, ends in SHIFT_ENDS[name].items()),
            *channel_shifts(env.spec),
        ),
        severities=(0.5, 1.0),  # few, since steps are expensive
    )
