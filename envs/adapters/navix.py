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

MOST = (10, 5, 3)
"""The largest code of a thing, of its colour and of its state or direction."""

ELSEWHERE = (
    (r"DistShift1", "DistShift2"),
    (r"(Empty|DoorKey)-(\d+x\d+)", r"\1-Random-\2"),
    (r"(Dynamic-Obstacles-[56]x[56])", r"\1-Random"),
    (r"SimpleCrossingS9N[12]", "SimpleCrossingS9N3"),
)
"""Which environment is another's with things elsewhere: lava, the start and the goal, walls."""


class Navix(AdaptedEnv):
    """An environment of navix, equal to it step by step.

    Observation [3 H W]: the whole room by cell, its thing, colour and state as MiniGrid numbers
    them, each divided by the largest such number (MOST). An end is what navix calls a termination,
    and a success any episode that is paid. Harm is to fall into lava or be hit by a ball, once an
    episode: in the DistShift worlds of navix lava ends nothing. Params have `elsewhere`, where the
    environment has a counterpart: the probability that an episode begins in that one.

    Args:
        name: such as "Navix-Empty-5x5-v0".
        horizon: steps after which an episode is truncated; 100 is navix's own.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 6}

    def __init__(self, name: str, horizon: int = 100):
        navix = import_package("navix")
        names = navix.registry()
        other = shifted_id(check_id("navix", name, names))
        self.theirs = navix.make(name, max_steps=horizon)
        self.there = navix.make(other, max_steps=horizon) if other in names else None
        height, width, _ = self.theirs.observation_space.shape
        super().__init__(
            name,
            np.zeros((height, width, 3)),
            np.ones((height, width, 3)),
            spaces.Discrete(int(self.theirs.action_space.n)),
            horizon,
            0.0,
            harmful=any(kind in name for kind in ("Lava", "DistShift", "Obstacles")),
        )

    def get_default_params(self, **kwargs: float) -> dict[str, float]:
        """Things where they are, if they could be elsewhere."""
        return ({"elsewhere": 0.0} if self.there else {}) | kwargs

    def initial(self, rng: jax.Array, params: dict[str, Any]) -> StepOutput:
        """As they begin, here or there."""
        begun = self._begin(self.theirs, rng)
        if self.there is None:
            return begun
        away = jax.random.uniform(jax.random.fold_in(rng, 1)) < params["elsewhere"]
        there = self._begin(self.there, rng)
        return jax.tree.map(lambda far, near: jnp.where(away, far, near), there, begun)

    def transition(
        self, state: StepOutput, action: jax.Array, rng: jax.Array, params: dict[str, Any]
    ) -> StepOutput:
        """Their step, without their reset; what is random in it comes from the state's own key."""
        theirs, before = self.theirs, state.state
        after = theirs.transitions_fn(before, action, theirs.action_set)
        reward = theirs.reward_fn(before, action, after)
        terminated = theirs.termination_fn(before, action, after)
        obs, hurt = _seen(theirs.observation_fn(after)), _hurt(after) & ~_hurt(before)
        return self.then(state, after, obs, reward, terminated, hurt)

    def render_init(self, params: Any = None, **kwargs: Any) -> Any:
        """What draws a state, by the sprites of navix."""
        draw, cache = (
            import_package("navix.observations").rgb,
            import_package("navix.rendering.cache"),
        )
        return jax.jit(lambda s: draw(s.replace(cache=cache.RenderingCache.init(s.grid))))

    def render_image(self, state: StepOutput, render_state: Any, params: Any = None):
        """Draws the room -> (the same, picture uint8 [32 H, 32 W, 3])."""
        return render_state, np.asarray(render_state(state.state))

    def _begin(self, theirs: Any, rng: jax.Array) -> StepOutput:
        """Their reset, less the sprites that every state would carry."""
        begun = theirs.reset(jax.random.key_data(rng))
        return self.start(begun.state.replace(cache=None), _seen(begun.observation))


def shifted_id(name: str) -> str:
    """What the environment is called that has things elsewhere; the empty string if none."""
    for pattern, other in ELSEWHERE:
        found, times = re.subn(f"Navix-{pattern}-v0", f"Navix-{other}-v0", name)
        if times:
            return found
    return ""


def suite(name: str) -> Suite:
    """The suite of an environment of navix: things elsewhere, then what its channel can do.

    Raises:
        ValueError: if the package is missing, or there is no such environment.
    """
    env = Navix(name)
    layout = (ramp("elsewhere", "layout", "params.elsewhere", to=1.0),) if env.there else ()
    return Suite(
        name=f"navix:{name}",
        env=env,
        world=World(env.get_default_params()),
        shifts=layout + channel_shifts(bool(env.spec.num_actions)),
    )


def _seen(symbols: jax.Array) -> jax.Array:
    """Symbols [H, W, 3] -> [0, 1]."""
    return symbols / jnp.array(MOST, jnp.float32)[None, None]


def _hurt(state: Any) -> jax.Array:
    """Whether lava or a ball has been met so far."""
    return state.events.lava_fall.happened | state.events.ball_hit.happened
