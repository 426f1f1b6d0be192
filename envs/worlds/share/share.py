"""Share: two bodies forage on a grid and may give each other food."""

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
    MAX_BALANCE,
    MOVES,
    PARTNERS,
    SIDE,
    TRAIN_POPULATION,
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
    """Energy used per step by each body, and distribution of partners.

    Attributes:
        need: energy that the agent's body uses per step.
        other_need: energy that the partner's body uses per step.
        population: [8] weight of each of `envs.worlds.share.partners.PARTNERS`, unnormalised.
    """

    need: jax.Array | float = 0.03
    other_need: jax.Array | float = 0.03
    population: jax.Array | tuple[float, ...] = TRAIN_POPULATION


class Share(Env):
    """Agent and partner forage on a grid of 4 x 4 with two bushes; each may feed the other.

    Actions: up, down, left, right, wait, eat, give. A body that steps on a ripe bush with an
    empty hand picks its berries; it can eat them, for .5 of energy up to 1, or give them to the
    other, who must be at most one step away with an empty hand. The episode ends when either
    energy is 0. Reward is the energy that a meal restores to the agent; that of the partner's meals
    is `info["other"]["reward"]`. The partner, a script or a trained policy, is drawn for each
    episode.

    Observation [11] from either perspective: energies, hands (own, then the other's), own row and
    column, the other's relative to them (in sides), which bush is ripe, gifts made minus received.
    `info["body"]` [1] is energy in [0, 1]; `info["harm"]` is 1 where the agent starves;
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
        """Defaults: equal needs; the partner is generous, tit-for-tat or peer."""
        params = Params(**kwargs)
        return params._replace(population=jnp.asarray(params.population, jnp.float32))

    def initial(self, rng: jax.Array, params: Params) -> State:
        """Initial state: random cells, energies in [.5, 1), ripe bushes, a random partner."""
        k_cell, k_energy, k_partner = jax.random.split(rng, 3)
        return State(
            cell=jax.random.randint(k_cell, (2, 2), 0, SIDE),
            hand=jnp.zeros((2,), jnp.int32),
            energy=jax.random.uniform(k_energy, (2,), minval=0.5),
            ripe=jnp.ones((2,), bool),
            balance=jnp.int32(0),
            partner=jax.random.categorical(k_partner, jnp.log(jnp.asarray(params.population))),
        )

    def transition(self, state: State, action: jax.Array, rng: jax.Array, params: Params) -> State:
        """Both bodies act simultaneously; if both reach a bush, the agent picks it."""
        k_partner, k_grow = jax.random.split(rng)
        actions = jnp.stack([action, partner_action(state, k_partner)]).astype(jnp.int32)
        return self.both_act(state, actions, k_grow, params)

    def both_act(self, state: State, actions: jax.Array, rng: jax.Array, params: Params) -> State:
        """State after the actions [2] of both bodies, whoever chooses those of the second."""
        cell = jnp.clip(state.cell + jnp.array(MOVES)[actions], 0, SIDE - 1)
        on_bush = (cell[:, None] == jnp.array(BUSHES)[None]).all(-1)  # [body, bush]
        reach = on_bush & state.ripe[None] & (state.hand == 0)[:, None]
        picks = reach.at[1].set(reach[1] & ~reach[0])
        holds, free = state.hand == 1, (state.hand == 0) & ~picks.any(1)
        eats = holds & (actions == EAT)
        gives = holds & (actions == GIVE) & free[::-1] & within_one_step(cell)
        hand = state.hand + picks.any(1) - eats - gives + gives[::-1]
        grows = jax.random.uniform(rng, (2,)) < REGROWTH
        balance = state.balance + gives[0].astype(jnp.int32) - gives[1].astype(jnp.int32)
        return State(
            cell=cell,
            hand=hand.astype(jnp.int32),
            energy=jnp.minimum(_energy_without_meal(state, params) + MEAL * eats, 1.0),
            ripe=jnp.where(state.ripe, ~picks.any(0), grows),
            balance=jnp.clip(balance, -MAX_BALANCE, MAX_BALANCE),
            partner=state.partner,
        )

    def observation(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Observation of the agent, [11]."""
        return seat_observation(state, 0)

    def reward(self, state: State, action, next_state: State, rng, params: Params) -> jax.Array:
        """Reward: the energy that a meal restored to the agent."""
        return _restored(state, next_state, params)[0]

    def terminal(self, state: State, rng: jax.Array, params: Params) -> jax.Array:
        """Whether the episode ends: either body has starved."""
        return (state.energy <= 0).any()

    def transition_info(self, state: State, action, next_state: State, params: Params) -> dict:
        """Info: `body`, `harm`, and `other`: body, harm, observations and reward of the partner."""
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
        """Whether neither body starved before the horizon."""
        return length >= self.horizon

    def render_image(self, state: State, render_state: None, params: Params | None = None):
        """Draws grid, bushes, bodies and energies -> (None, picture uint8 [360, 520, 3])."""
        from envs.draw import Canvas

        canvas = Canvas((520, 360), 80.0, (20, 340), "#e4e7eb")
        for row, column in np.ndindex(SIDE, SIDE):
            x, y = column, SIDE - 1 - row
            canvas.box((x + 0.02, y + 0.02), (x + 0.98, y + 0.98), FLOOR, 5)
        for (row, column), ripe in zip(BUSHES, np.asarray(state.ripe), strict=True):
            x, y = column + 0.5, SIDE - 0.5 - row
            for left, up in ((-0.2, -0.1), (0.2, -0.1), (0.0, 0.15)):
                canvas.dot((x + left, y + up), 20, LEAF)
            for left, up in ((-0.2, -0.05), (0.15, -0.15), (0.02, 0.2)) if ripe else ():
                canvas.dot((x + left, y + up), 6, BERRY)
        names = ("learner", f"partner: {PARTNERS[int(state.partner)]}")
        for index, (colour, name) in enumerate(zip(BODIES, names, strict=True)):
            (row, column), energy = map(int, state.cell[index]), float(state.energy[index])
            x, y = column + (0.3, 0.7)[index], SIDE - 0.5 - row
            canvas.dot((x, y), 15, colour)
            for side in (-0.06, 0.06):
                canvas.dot((x + side, y + 0.05), 2.5, "white")
            if int(state.hand[index]):
                canvas.dot((x, y + 0.27), 7, BERRY)
            bottom = 2.6 - 1.4 * index
            canvas.text(canvas.pixel((4.2, bottom + 0.62)), name.partition(":")[0], colour, 16)
            canvas.text(canvas.pixel((4.2, bottom + 0.36)), name.partition(": ")[2], INK, 13)
            canvas.box((4.2, bottom - 0.15), (6.0, bottom), FLOOR, 3)
            if energy > 0.02:
                bar = (4.2 + 1.8 * energy, bottom)
                canvas.box((4.2, bottom - 0.15), bar, colour if energy > 0.25 else BAD, 3)
            label = "starved" if energy <= 0 else f"{energy:.0%} energy"
            canvas.text(
                canvas.pixel((4.2, bottom - 0.2)), label, BAD if energy <= 0.25 else INK, 13
            )
        return None, canvas.array()


def _energy_without_meal(state: State, params: Params) -> jax.Array:
    """Energies [2] after a step without a meal."""
    need = jnp.stack([jnp.asarray(params.need), jnp.asarray(params.other_need)])
    return jnp.maximum(state.energy - need, 0.0)


def _restored(state: State, next_state: State, params: Params) -> jax.Array:
    """Energy restored by the meals of each body, [2]."""
    return next_state.energy - _energy_without_meal(state, params)


EASY = {"need": (0.02, 0.04), "other_need": (0.02, 0.04)}
"""Training distribution of the arm `random`: needs around the default."""


def suite() -> Suite:
    """Suite Share: partners of training; shifts to held-out partners, greater needs, channel."""
    env = Share()
    selfish = _partners("nothing_back", "selfish")
    return Suite(
        name="Share",
        env=env,
        world=World(env.get_default_params()),
        randomised=box("easy", "dynamics|social", "params", outer=EASY),
        shifts=(
            _partners("stranger", "passive"),
            _partners("erratic", "random"),
            selfish,
            _partners("trained", "spoilt", "keeper"),
            ramp("partner_need", "social", "params.other_need", to=0.055),
            ramp("own_need", "dynamics", "params.need", to=0.055),
            selfish | ramp("hunger", "dynamics", "params.need", to=0.045),
            ramp("noise", "sensor", "channel.noise", to=1.0),
            ramp("flip", "actuator", "channel.flip", to=0.6),
        ),
        setpoint=1.0,
    )


def _partners(name: str, *partners: str) -> Shift:
    """Shift after which the partner is one of these, each as likely."""
    return swap(
        name, "social", "params.population", [partner_population(partner) for partner in partners]
    )
