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
"""The variants in pixels draw the same worlds."""

WORST = {
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
"""Family and params at severity 1. Of the twelve of Craftax-Classic two are left out:
`max_timesteps`, since the horizon ends an episode long before, so it changes nothing;
`fractal_noise_angles`, None by default, which draws the terrain: anything else in its place would
be another tree, and the integers that it is declared to take raise in 1.6.1."""

WHOLE = ("zombie_health", "cow_health", "skeleton_health", "mob_despawn_distance")


class Craftax(Gymnax):
    """An environment of Craftax, equal to it step by step.

    17 actions in Classic, 43 in the full game; an achievement pays 1, a lost point of health -.1.
    Its params are numbers: of days, mobs and diamonds. Healths and distances are rounded, and
    `always_diamond` is the probability with which an episode has one for sure. An end is death,
    which is harm, and in the full game also victory, which is not.

    A world takes as long to make as some twenty steps, so `reset_pool_size` of them are made once for each
    `envs.world.rollout`, which draws all its resets from these.

    Args:
        name: one of NAMES.
        horizon: steps after which an episode is truncated; Craftax itself allows 10,000, and
            100,000 in the full game, of which a learner needs few before it dies.
        goal: an episode whose return is above it is a success: about five achievements, of 22 in
            Classic and 67 in the full game.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    limit = "max_timesteps"
    reset_pool_size = 16

    def __init__(self, name: str, horizon: int = 1000, goal: float = 5.0):
        super().__init__(name, horizon, goal)

    def make(self, name: str) -> tuple[Any, Any]:
        """The environment and its params."""
        make = import_package("craftax.craftax_env").make_craftax_env_from_name
        env = make(check_id("craftax", name, NAMES), auto_reset=False)
        return env, env.default_params

    def harmful(self, name: str) -> bool:
        """One can always die."""
        return True

    def harm(self, state: Any, terminated: jax.Array) -> jax.Array:
        """Dead: any end in Classic, where lava kills whatever one's health is."""
        return terminated if "Classic" in self.name else terminated & (state.player_health <= 0)

    def get_default_params(self, **kwargs: float) -> dict[str, float]:
        """Craftax's numbers for what some shift moves."""
        fields = (field for _, ends in WORST[self.name].values() for field in ends)
        return {field: float(getattr(self.full, field)) for field in fields} | kwargs

    def complete(self, params: dict[str, Any]) -> Any:
        """All of Craftax's params, given ours."""
        whole = {
            field: jnp.round(value).astype(jnp.int32)
            for field, value in params.items()
            if field in WHOLE
        }
        return self.full.replace(**params | whole)

    def initial(self, rng: jax.Array, params: dict[str, Any]) -> StepOutput:
        """A world that is made anew."""
        if "always_diamond" in params:
            drawn = jax.random.uniform(jax.random.fold_in(rng, 1))
            params = params | {"always_diamond": drawn < params["always_diamond"]}
        return super().initial(rng, params)

    def render_init(self, params: Any = None, **kwargs: Any) -> Any:
        """What draws a state, by Craftax's own textures."""
        game = "craftax_classic" if "Classic" in self.name else "craftax"
        return jax.jit(import_package(f"craftax.{game}.renderer").make_craftax_pixel_renderer(16))

    def render_image(self, state: StepOutput, render_state: Any, params: Any = None):
        """Draws what the player sees -> (the same, picture uint8 [H, W, 3])."""
        return render_state, np.asarray(render_state(state.state)).astype(np.uint8)


def suite(name: str, horizon: int = 1000) -> Suite:
    """The suite of an environment of Craftax: shifts of its params, then the channel's.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """
    env = Craftax(name, horizon)
    return Suite(
        name=f"craftax:{name}",
        env=env,
        world=World(env.get_default_params()),
        shifts=(
            *(ramp_params(shift, *worst) for shift, worst in WORST[name].items()),
            *channel_shifts(bool(env.spec.num_actions)),
        ),
        severities=(0.5, 1.0),  # a step is dear
    )
