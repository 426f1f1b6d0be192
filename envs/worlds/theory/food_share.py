"""FoodShare: an agent shares a meal a step with a partner (Yoshida & Man, 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.shift import ramp
from envs.suite import Suite
from envs.world import Env, World

INK, FULL, EMPTY, FOOD, BAD = "#2b2f36", "#6aa879", "#d98324", "#41597a", "#c8322b"
EAT, PASS = 0, 1
PATIENCE = 10  # consecutive steps at low energy that end the episode
WANTED = 0.95  # probability p of high energy in the desired distribution
HIGH, LOW = -np.log(WANTED), -np.log(1 - WANTED)  # drives at high and low energy


class Params(NamedTuple):
    """Probabilities of energy loss of agent and partner, and of a meal restoring energy."""

    need: jax.Array | float = 0.1  # probability a step that the agent's high energy drops
    other_need: jax.Array | float = 0.1  # the same of the partner
    plenty: jax.Array | float = 1.0  # probability that a meal restores energy


class State(NamedTuple):
    """Energies [2] int32 in {0, 1}, consecutive steps at low energy [2] int32: own, partner's."""

    energy: jax.Array
    hungry: jax.Array


class FoodShare(Env):
    """Two bodies share one meal a step: the agent eats it (0) or passes it to the partner (1).

    The meal sets the energy of its eater to high; the other body's energy, if high, drops with
    probability .1. The episode ends when either has been low for 10 consecutive steps.
    Reward is the agent's own reduction of drive, d(energy) - d(next energy), d = -log p with
    p = .95 for high and .05 for low energy (Keramati & Gutkin, 2014). That of the partner is
    `info["other"]["reward"]`; utility is reward + care weight x that, and the weight belongs to a
    head, not to the world.

    Observation [4] from either perspective: own energy, the other's, then the steps at low energy
    of each over 10. `info["body"]` [1] is the energy in {0, 1}, `info["harm"]` is 1 where the agent
    starves; `info["other"]` has obs, next_obs, reward, body and harm of the partner.

    Args:
        horizon: steps after which an episode is truncated.
    """

    spec = Spec(obs_dim=4, num_actions=2, info=("body", "harm", "other"))
    obs_scale = (1.0, 1.0, 1.0, 1.0)
    observation_space = spaces.Box(0.0, 1.0, (4,), np.float32)
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, horizon: int = 200):
        super().__init__()
        self.horizon = horizon

    def get_default_params(self, **kwargs: float) -> Params:
        """Defaults: equal bodies, and every meal restores energy."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Initial state: each energy high or low with probability .5."""
        energy = jax.random.bernoulli(rng, shape=(2,)).astype(jnp.int32)
        return State(energy, jnp.zeros((2,), jnp.int32))

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """Feeds one body; the energy of the other may drop."""
        k_feed, k_drop = jax.random.split(rng)
        eater = jnp.arange(2) == action
        fed = eater & (jax.random.uniform(k_feed) < params.plenty)
        need = jnp.stack([jnp.asarray(params.need), jnp.asarray(params.other_need)])
        dropped = ~eater & (jax.random.uniform(k_drop, (2,)) < need)
        energy = jnp.where(fed, 1, jnp.where(dropped, 0, state.energy))
        return State(energy, jnp.where(energy == 0, state.hungry + 1, 0))

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Observation of the agent, [4]."""
        return _observe(state, 0)

    def reward(self, state: State, action: jax.Array, next_state: State, rng, params: Params):
        """Reward: the agent's own reduction of drive."""
        return _drive_reduction(state, next_state)[0]

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode ends: either body has starved."""
        return (state.hungry >= PATIENCE).any()

    def transition_info(self, state: State, action, next_state: State, params: Params) -> dict:
        """Info: `body`, `harm`, and `other`: body, harm, observations and reward of the partner."""
        starved = (next_state.hungry >= PATIENCE).astype(jnp.float32)
        body = next_state.energy.astype(jnp.float32)
        other = {
            "obs": _observe(state, 1),
            "next_obs": _observe(next_state, 1),
            "reward": _drive_reduction(state, next_state)[1],
            "body": body[1:],
            "harm": starved[1],
        }
        return {"body": body[:1], "harm": starved[0], "other": other}

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether neither body starved before the horizon."""
        return length >= self.horizon

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws two bodies, their energy and patience -> (None, picture uint8 [260, 440, 3])."""
        from envs.draw import Canvas

        canvas = Canvas((440, 260), 100, (0, 200), "#f7f8fa")
        for index, x in enumerate((1.1, 3.3)):
            high, remaining = bool(state.energy[index]), 1 - int(state.hungry[index]) / PATIENCE
            canvas.dot((x, 0.75), 48, FULL if high else EMPTY)
            canvas.text(canvas.pixel((x, 0.85)), "high" if high else "low", "white", 18, "ma")
            canvas.box((x - 0.6, -0.1), (x + 0.6, 0.0), "#dfe3e8")
            if remaining > 0:
                canvas.box(
                    (x - 0.6, -0.1),
                    (x - 0.6 + 1.2 * remaining, 0.0),
                    INK if remaining > 0.3 else BAD,
                )
            label = "starved" if remaining <= 0 else f"{remaining:.0%} patience"
            canvas.text(canvas.pixel((x, -0.2)), label, BAD if remaining <= 0 else INK, 15, "ma")
            canvas.text(
                canvas.pixel((x, 1.75)), ("has the food", "the other")[index], INK, 16, "ma"
            )
        canvas.box((2.05, 0.65), (2.35, 0.85), FOOD, 6)
        return None, canvas.array()


def drive(energy: jax.Array) -> jax.Array:
    """Drive of energies [...] in {0, 1}: -log p(energy)."""
    return jnp.where(energy == 1, HIGH, LOW).astype(jnp.float32)


def _drive_reduction(state: State, next_state: State) -> jax.Array:
    return drive(state.energy) - drive(next_state.energy)


def _observe(state: State, index: int) -> jax.Array:
    """Observation [4] of body `index`: own energy, the other's, own hunger, the other's."""
    hungry = state.hungry.astype(jnp.float32) / PATIENCE
    return jnp.concatenate(
        [jnp.roll(state.energy, -index).astype(jnp.float32), jnp.roll(hungry, -index)]
    )


def suite() -> Suite:
    """Suite FoodShare: equal bodies; shifts of scarcity, either body's need, and the channel."""
    env = FoodShare()
    return Suite(
        name="FoodShare",
        env=env,
        world=World(env.get_default_params()),
        shifts=(
            ramp("scarcity", "dynamics", "params.plenty", to=0.5),
            ramp("own_need", "dynamics", "params.need", to=0.6),
            ramp("partner_need", "social", "params.other_need", to=0.6),
            ramp("noise", "sensor", "channel.noise", to=0.5),
            ramp("dropout", "sensor", "channel.dropout", to=0.5),
            ramp("flip", "actuator", "channel.flip", to=0.5),
        ),
        setpoint=1.0,
    )
