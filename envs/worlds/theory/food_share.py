"""FoodShare: one agent has the food, two must live (Yoshida & Man, 2024)."""

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
PATIENCE = 10  # steps in a row at low energy that end a life
WANTED = 0.95  # probability p of high energy in the distribution that a body is to keep to
HIGH, LOW = -np.log(WANTED), -np.log(1 - WANTED)  # drives


class Params(NamedTuple):
    """How bodies run down, and how good the food is. One's own first, then the other's."""

    need: jax.Array | float = 0.1  # probability a step that one's own high energy drops
    other_need: jax.Array | float = 0.1  # and that the other's does
    plenty: jax.Array | float = 1.0  # probability that a meal feeds


class State(NamedTuple):
    """Energies [2] int32 in {0, 1} and steps in a row at low energy [2] int32: own, other's."""

    energy: jax.Array
    hungry: jax.Array


class FoodShare(Env):
    """Two bodies and one meal a step. The agent eats (0) or passes the meal on (1).

    Who gets the meal has high energy; the energy of who does not, if it is high, drops with
    probability .1. Life ends, for both, when either has been low for 10 steps in a row.
    Reward is the agent's own reduction of drive, d(energy) - d(next energy), d = -log p with
    p = .95 for high and .05 for low energy (Keramati & Gutkin, 2014). What the other gets out of
    it is `info["other"]["reward"]`: utility is reward + care weight x that, and care is a
    feeling's business, not the world's.

    Observation [4] from either seat: own energy, the other's, and the share of patience that each
    has used up. `info["body"]` [1] is the energy in {0, 1}, `info["harm"]` 1 where the agent
    itself starves; `info["other"]` has obs, next_obs, reward, body and harm of the other.

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
        """The two bodies are alike, and meals always feed."""
        return Params(**kwargs)

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Each energy high or low, as likely."""
        energy = jax.random.bernoulli(rng, shape=(2,)).astype(jnp.int32)
        return State(energy, jnp.zeros((2,), jnp.int32))

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """One is fed, the other runs down."""
        k_feed, k_drop = jax.random.split(rng)
        eater = jnp.arange(2) == action
        fed = eater & (jax.random.uniform(k_feed) < params.plenty)
        need = jnp.stack([jnp.asarray(params.need), jnp.asarray(params.other_need)])
        dropped = ~eater & (jax.random.uniform(k_drop, (2,)) < need)
        energy = jnp.where(fed, 1, jnp.where(dropped, 0, state.energy))
        return State(energy, jnp.where(energy == 0, state.hungry + 1, 0))

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """What the agent sees, [4]."""
        return _seat(state, 0)

    def reward(self, state: State, action: jax.Array, next_state: State, rng, params: Params):
        """The agent's own reduction of drive."""
        return _relief(state, next_state)[0]

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Either has starved."""
        return (state.hungry >= PATIENCE).any()

    def transition_info(self, state: State, action, next_state: State, params: Params) -> dict:
        """`body`, `harm`, and the same of the `other` beside its observations and reward."""
        starved = (next_state.hungry >= PATIENCE).astype(jnp.float32)
        body = next_state.energy.astype(jnp.float32)
        other = {
            "obs": _seat(state, 1),
            "next_obs": _seat(next_state, 1),
            "reward": _relief(state, next_state)[1],
            "body": body[1:],
            "harm": starved[1],
        }
        return {"body": body[:1], "harm": starved[0], "other": other}

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Both lived to the horizon."""
        return length >= self.horizon

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws two bodies, their energy and patience -> (None, picture uint8 [260, 440, 3])."""
        from envs.draw import Canvas

        sheet = Canvas((440, 260), 100, (0, 200), "#f7f8fa")
        for who, x in enumerate((1.1, 3.3)):
            high, left = bool(state.energy[who]), 1 - int(state.hungry[who]) / PATIENCE
            sheet.dot((x, 0.75), 48, FULL if high else EMPTY)
            sheet.text(sheet.pixel((x, 0.85)), "high" if high else "low", "white", 18, "ma")
            sheet.box((x - 0.6, -0.1), (x + 0.6, 0.0), "#dfe3e8")
            if left > 0:
                sheet.box((x - 0.6, -0.1), (x - 0.6 + 1.2 * left, 0.0), INK if left > 0.3 else BAD)
            word = "starved" if left <= 0 else f"{left:.0%} patience"
            sheet.text(sheet.pixel((x, -0.2)), word, BAD if left <= 0 else INK, 15, "ma")
            sheet.text(sheet.pixel((x, 1.75)), ("has the food", "the other")[who], INK, 16, "ma")
        sheet.box((2.05, 0.65), (2.35, 0.85), FOOD, 6)
        return None, sheet.array()


def drive(energy: jax.Array) -> jax.Array:
    """-log p of energies [...] in {0, 1}."""
    return jnp.where(energy == 1, HIGH, LOW).astype(jnp.float32)


def _relief(state: State, next_state: State) -> jax.Array:
    return drive(state.energy) - drive(next_state.energy)


def _seat(state: State, who: int) -> jax.Array:
    """What is seen from a seat: own, then the other's."""
    hungry = state.hungry.astype(jnp.float32) / PATIENCE
    return jnp.concatenate(
        [jnp.roll(state.energy, -who).astype(jnp.float32), jnp.roll(hungry, -who)]
    )


def suite() -> Suite:
    """The two bodies alike, under scarcity, needs of either, and at the channel."""
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
