"""Share: two bodies forage on a grid, and one may feed the other."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from affect import Spec
from envs.shift import Shift, box, ramp, swap
from envs.suite import Suite
from envs.world import Env, World
from envs.worlds.share.partners import (
    BUSHES,
    EAT,
    GIVE,
    MEET,
    MOST,
    MOVES,
    PARTNERS,
    SIDE,
    State,
    partner_action,
    partner_population,
    seat_observation,
    within_one_step,
)

MEAL, REGROWTH = 0.5, 0.15  # energy; probability a step
INK, FLOOR, LEAF, BERRY, BAD = "#2b2f36", "white", "#6aa879", "#b5446e", "#c8322b"
BODIES = ("#41597a", "#d98324")


class Params(NamedTuple):
    """How bodies run down, and who the partner may be.

    Attributes:
        need: energy that one's own body uses up a step.
        other_need: and the partner's.
        population: [8] how often each of `envs.worlds.share.partners.PARTNERS` is met, in any unit.
    """

    need: jax.Array | float = 0.03
    other_need: jax.Array | float = 0.03
    population: jax.Array | tuple[float, ...] = MEET


class Share(Env):
    """The learner and a partner on a grid of 4 x 4 with two bushes.

    Actions: up, down, left, right, wait, eat, give. Who steps on a ripe bush with an empty hand
    picks its berries; they are eaten, for .5 of energy up to 1, or given to the other, who must
    be at most one step away with an empty hand. Life ends, for both, when either energy is 0.
    Reward is the energy that a meal restores to the learner itself; that of the partner's meals
    is `info["other"]["reward"]`. Who the partner is, a
    script or a trained policy, is drawn for each episode.

    Observation [11] from either seat: energies, hands (own, then the other's), own row and column,
    the other's relative to them (in sides), which bush is ripe, gifts given less gifts received.
    `info["body"]` [1] is energy in [0, 1]; `info["harm"]` is 1 where the learner starves;
    `info["other"]` has obs, next_obs, reward, body and harm of the partner.

    Args:
        horizon: steps after which an episode is truncated.
    """

    spec = Spec(obs_dim=11, num_actions=7, info=("body", "harm", "other"))
    obs_scale = (1.0,) * 11
    observation_space = spaces.Box(-1.0, 1.0, (11,), np.float32)
    action_space = spaces.Discrete(7)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, horizon: int = 200):
        super().__init__()
        self.horizon = horizon

    def get_default_params(self, **kwargs: float) -> Params:
        """Bodies alike; the partner gives, or gives back."""
        params = Params(**kwargs)
        return params._replace(population=jnp.asarray(params.population, jnp.float32))

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Two bodies anywhere, half fed or more, bushes ripe, a partner drawn."""
        k_cell, k_energy, k_partner = jax.random.split(rng, 3)
        return State(
            cell=jax.random.randint(k_cell, (2, 2), 0, SIDE),
            hand=jnp.zeros((2,), jnp.int32),
            energy=jax.random.uniform(k_energy, (2,), minval=0.5),
            ripe=jnp.ones((2,), bool),
            given=jnp.int32(0),
            partner=jax.random.categorical(k_partner, jnp.log(jnp.asarray(params.population))),
        )

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """Both act at once; where both reach for one bush, the learner has it."""
        k_partner, k_grow = jax.random.split(rng)
        actions = jnp.stack([action, partner_action(state, k_partner)]).astype(jnp.int32)
        cell = jnp.clip(state.cell + jnp.array(MOVES)[actions], 0, SIDE - 1)
        at = (cell[:, None] == jnp.array(BUSHES)[None]).all(-1)  # [who, bush]
        reach = at & state.ripe[None] & (state.hand == 0)[:, None]
        picks = reach.at[1].set(reach[1] & ~reach[0])
        full, free = state.hand == 1, (state.hand == 0) & ~picks.any(1)
        eats = full & (actions == EAT)
        gives = full & (actions == GIVE) & free[::-1] & within_one_step(cell)
        hand = state.hand + picks.any(1) - eats - gives + gives[::-1]
        grows = jax.random.uniform(k_grow, (2,)) < REGROWTH
        given = state.given + gives[0].astype(jnp.int32) - gives[1].astype(jnp.int32)
        return State(
            cell=cell,
            hand=hand.astype(jnp.int32),
            energy=jnp.minimum(_hungry(state, params) + MEAL * eats, 1.0),
            ripe=jnp.where(state.ripe, ~picks.any(0), grows),
            given=jnp.clip(given, -MOST, MOST),
            partner=state.partner,
        )

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """What the learner sees, [11]."""
        return seat_observation(state, 0)

    def reward(self, state: State, action, next_state: State, rng, params: Params) -> jax.Array:
        """The energy that a meal restored."""
        return _restored(state, next_state, params)[0]

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Either has starved."""
        return (state.energy <= 0).any()

    def transition_info(self, state: State, action, next_state: State, params: Params) -> dict:
        """`body`, `harm`, and the same of the `other` beside its observations and reward."""
        starved = (next_state.energy <= 0).astype(jnp.float32)
        other = {
            "obs": seat_observation(state, 1),
            "next_obs": seat_observation(next_state, 1),
            "reward": _restored(state, next_state, params)[1],
            "body": next_state.energy[1:],
            "harm": starved[1],
        }
        return {"body": next_state.energy[:1], "harm": starved[0], "other": other}

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Both lived to the horizon."""
        return length >= self.horizon

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws grid, bushes, bodies and energies -> (None, picture uint8 [360, 520, 3])."""
        from envs.draw import Canvas

        sheet = Canvas((520, 360), 80.0, (20, 340), "#e4e7eb")
        for row, column in np.ndindex(SIDE, SIDE):
            x, y = column, SIDE - 1 - row
            sheet.box((x + 0.02, y + 0.02), (x + 0.98, y + 0.98), FLOOR, 5)
        for (row, column), ripe in zip(BUSHES, np.asarray(state.ripe), strict=True):
            x, y = column + 0.5, SIDE - 0.5 - row
            for left, up in ((-0.2, -0.1), (0.2, -0.1), (0.0, 0.15)):
                sheet.dot((x + left, y + up), 20, LEAF)
            for left, up in ((-0.2, -0.05), (0.15, -0.15), (0.02, 0.2)) if ripe else ():
                sheet.dot((x + left, y + up), 6, BERRY)
        names = ("learner", f"partner: {PARTNERS[int(state.partner)]}")
        for who, (colour, name) in enumerate(zip(BODIES, names, strict=True)):
            (row, column), energy = map(int, state.cell[who]), float(state.energy[who])
            x, y = column + (0.3, 0.7)[who], SIDE - 0.5 - row
            sheet.dot((x, y), 15, colour)
            for side in (-0.06, 0.06):
                sheet.dot((x + side, y + 0.05), 2.5, "white")
            if int(state.hand[who]):
                sheet.dot((x, y + 0.27), 7, BERRY)
            bottom = 2.6 - 1.4 * who
            sheet.text(sheet.pixel((4.2, bottom + 0.62)), name.partition(":")[0], colour, 16)
            sheet.text(sheet.pixel((4.2, bottom + 0.36)), name.partition(": ")[2], INK, 13)
            sheet.box((4.2, bottom - 0.15), (6.0, bottom), FLOOR, 3)
            if energy > 0.02:
                bar = (4.2 + 1.8 * energy, bottom)
                sheet.box((4.2, bottom - 0.15), bar, colour if energy > 0.25 else BAD, 3)
            words = "starved" if energy <= 0 else f"{energy:.0%} energy"
            sheet.text(sheet.pixel((4.2, bottom - 0.2)), words, BAD if energy <= 0.25 else INK, 13)
        return None, sheet.array()


def _hungry(state: State, params: Params) -> jax.Array:
    """Energies [2] after a step without a meal."""
    need = jnp.stack([jnp.asarray(params.need), jnp.asarray(params.other_need)])
    return jnp.maximum(state.energy - need, 0.0)


def _restored(state: State, next_state: State, params: Params) -> jax.Array:
    """What meals restored, [2]."""
    return next_state.energy - _hungry(state, params)


EASY = {"need": (0.02, 0.04), "other_need": (0.02, 0.04)}
"""The training distribution of the arm `random`: everyday appetites."""


def suite() -> Suite:
    """Partners as they are met, under partners held out, partners in need, and scarcity."""
    env = Share()
    nothing_back = _partners("nothing_back", "selfish")
    return Suite(
        name="Share",
        env=env,
        world=World(env.get_default_params()),
        randomised=box("easy", "dynamics|social", "params", outer=EASY),
        shifts=(
            _partners("stranger", "passive"),
            _partners("erratic", "random"),
            nothing_back,
            _partners("trained", "spoilt", "keeper"),
            ramp("partner_need", "social", "params.other_need", to=0.055),
            ramp("own_need", "dynamics", "params.need", to=0.055),
            nothing_back | ramp("hunger", "dynamics", "params.need", to=0.045),
            ramp("noise", "sensor", "channel.noise", to=1.0),
            ramp("flip", "actuator", "channel.flip", to=0.6),
        ),
        setpoint=1.0,
    )


def _partners(name: str, *partners: str) -> Shift:
    """Nobody is met but one of these."""
    return swap(
        name, "social", "params.population", [partner_population(partner) for partner in partners]
    )
