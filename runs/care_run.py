"""Train the arms of the care study in Share; measure survival and gifts with unseen partners."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from affect import Blend, Care, Constant, Fear, Homeostasis, Innate, Sham, Transition, Untrained
from affect.care import other_perspective
from affect.examples.inequity_aversion import InequityAversion
from agents.ppo import PPO
from envs import load_suite
from envs.shift import ramp, swap
from envs.suite import Suite
from envs.world import World, mask_finished
from envs.worlds.share.partners import (
    FULL_MEAL,
    GIVE,
    TRAIN_POPULATION,
    partner_population,
    seat_observation,
)
from envs.worlds.share.share import Share
from runs.cli.study import Job
from runs.engine.config import RunConfig, head_epochs, make_run_config
from runs.engine.control_heads import SignalDifference
from runs.engine.evaluate import draw_points
from runs.engine.jax_backend import DRAWS
from runs.engine.phases import Phase, flat_worlds, world_pool
from runs.engine.seeds import Stream, stream_keys, vmap_seeds
from runs.names import safe_name
from runs.study_run import SMOKE_SIZES, StudyRun, seed_rows
from runs.tree_io import leaves_digest

HOME = "passive"  # the partner of training: it cannot forage, and lives on gifts alone
SHIFTS = (
    swap("peers", "social", "params.population", [TRAIN_POPULATION]),
    *(
        swap(name, "social", "params.population", [partner_population(x) for x in partners])
        for name, partners in {
            "erratic": ("random",),
            "nothing_back": ("selfish",),
            "trained": ("spoilt", "keeper"),
        }.items()
    ),
    ramp("partner_need", "social", "params.other_need", to=0.035),
    ramp("own_need", "dynamics", "params.need", to=0.035),
)
"""Partners and needs that no training had: bodies that feed themselves and give (those that the
suite trains among), one that acts at random, one that gives nothing back, two trained policies."""
TWO = "two carers"  # the place where the partner is the agent of the next seed
WIDTHS = (4, 16, 64)  # units of the fear that is read from the other's seat
WEIGHTS = (0.25, 1.0, 4.0)  # of care
SIZES = {"num_envs": 4, "num_steps": 128, "episodes": 128}
CHUNKS, STEPS = 4, 400_000


def worry(batch: Transition) -> jax.Array:
    """What the other wants, told: its reward, less 1 where it starves, [T, B]."""
    other = batch.info["other"]
    return other["reward"] - other["harm"]


def scrambled(batch: Transition) -> Transition:
    """The other's perspective with the numbers of its observations in reverse order."""
    swapped = other_perspective(batch)
    return swapped._replace(obs=swapped.obs[..., ::-1], next_obs=swapped.next_obs[..., ::-1])


def care_heads() -> dict[str, Any]:
    """Name -> head of all arms. Care is paid as its change over a step, undiscounted.

    The change of minus a drive is drive reduction, the reward of Keramati & Gutkin (2014) for a
    body, here the other's; a level below zero at each step would pay for the end of an episode.
    """
    body = Homeostasis(setpoint=1.0)
    change = partial(SignalDifference, gamma=1.0)
    fears = {f"fear_{w}": change(Care(Fear(width=w))) for w in WIDTHS}
    return {
        "care": change(Care(body)),
        "explicit": Innate(fn=worry, reads=("other",)),
        "prosocial": Innate(fn=_others_reward, reads=("other",)),
        "inequity": InequityAversion,
        "sham": Sham(change(Care(body))),
        **fears,
        "scrambled": change(Care(Fear(width=16), swap=scrambled)),
        "untrained": change(Care(Untrained(Fear(width=16)))),
        "constant": Constant(value=1.0),
    }


def _others_reward(batch: Transition) -> jax.Array:
    return batch.info["other"]["reward"]


def care_arms(gamma: float) -> dict[str, Mapping[str, float]]:
    """Name of each arm -> weights of its signals."""
    singles = ("explicit", "prosocial", "inequity", "sham", "scrambled", "untrained")
    return {
        "none": {},
        **{f"care_{w:g}": {"care": w} for w in WEIGHTS},
        **{f"care_fear_{w}": {f"fear_{w}": 1.0} for w in WIDTHS},
        **{name: {name: 1.0} for name in singles},
        "constant_plus": {"constant": 1 - gamma},
        "constant_minus": {"constant": gamma - 1},
    }


@dataclass(frozen=True)
class CareDesign:
    """Everything that the study runs: suite with SHIFTS alone, sizes, and the blend of each arm."""

    suite: Suite
    config: RunConfig
    arms: Mapping[str, Blend]


def make_design(settings: Any) -> CareDesign:
    """The design that these settings define."""
    suite = load_suite("Share")
    params = suite.world.params._replace(population=jnp.array(partner_population(HOME)))
    world = suite.world._replace(params=params)
    suite = replace(suite, world=world, shifts=SHIFTS, severities=(1.0,))
    size, steps = SIZES | {"seeds": settings.seeds}, settings.steps or STEPS
    if settings.smoke:
        size = SMOKE_SIZES
        steps = 2 * size["num_envs"] * size["num_steps"]
    options = {"chunks": CHUNKS, "base": settings.base, "optimise": not settings.smoke}
    config = make_run_config(PPO(lr=1e-3), steps=steps, draws=DRAWS, **size, **options)
    heads, blends = care_heads(), {}
    for arm, weights in care_arms(config.agent.gamma).items():
        blend = Blend(**{name: (weight, heads[name]) for name, weight in weights.items()})
        blends[arm] = blend.with_epochs(head_epochs(config))
    return CareDesign(suite, config, blends)


# --- measures -----------------------------------------------------------------------------------


def behaviour(batch: Transition, alive: jax.Array) -> dict[str, jax.Array]:
    """Survival and gifts in whole episodes [T, B] in Share; NaN where there was no chance to give.

    A chance is a step at which the agent holds berries at most one step from the other, whose hand
    is empty; a gift is one at which it then gives, and its hand is empty afterwards.

    Returns:
        [] each: `own`, `other` and `both`, shares of episodes in which these survive; `gifts` an
        episode; `needy` and `full`, share of the chances to give that are taken while the other has
        at most half of its energy, and more.
    """
    obs, other_died = batch.obs, (batch.info["other"]["harm"] > 0) & alive
    died = (batch.info["harm"] > 0) & alive
    apart = jnp.abs(3 * obs[..., 6:8]).sum(-1)  # own energy, other's, hands, own cell, offset
    chance = alive & (obs[..., 2] > 0) & (obs[..., 3] < 0.5) & (apart < 1.5)
    gift = chance & (batch.action == GIVE) & (batch.next_obs[..., 2] < 0.5)
    needy = obs[..., 1] <= FULL_MEAL
    own, other = died.any(0), other_died.any(0)

    def rate(where: jax.Array) -> jax.Array:
        return (gift & where).sum() / (chance & where).sum().astype(jnp.float32)

    return {
        "own": (~own).mean(),
        "other": (~other).mean(),
        "both": (~own & ~other).mean(),
        "gifts": gift.sum() / alive.shape[1],
        "needy": rate(needy),
        "full": rate(~needy),
    }


def two_agents(
    first: Any, second: Any, key: jax.Array, world: World, *, agent: Any, env: Share, episodes: int
) -> dict[str, jax.Array]:
    """`behaviour` of the first of two agents that act together, by the modes of their policies."""
    k_reset, k_steps = jax.random.split(key)
    params = world.params
    states = jax.vmap(env.initial, (0, None))(jax.random.split(k_reset, episodes), params)
    see = jax.vmap(seat_observation, (0, None))

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, tuple[Transition, jax.Array]]:
        states, alive = carry
        obs = see(states, 0)
        chosen = agent.act(first, None, obs), agent.act(second, None, see(states, 1))
        actions = jnp.stack(chosen, -1).astype(jnp.int32)
        keys = jax.random.split(key, episodes)
        after = jax.vmap(env.both_act, (0, 0, 0, None))(states, actions, keys, params)
        ended = jax.vmap(env.terminal, (0, None, None))(after, None, params)
        info = jax.vmap(env.transition_info, (0, 0, 0, None))(states, actions[:, 0], after, params)
        zero, no = jnp.zeros(episodes), jnp.zeros(episodes, bool)
        batch = Transition(obs, actions[:, 0], see(after, 0), zero, ended, no, no, info)
        return (after, alive & ~ended), (batch, alive)

    initial = states, jnp.ones(episodes, bool)
    keys = jax.random.split(k_steps, env.horizon)
    _, (batch, alive) = jax.lax.scan(step, initial, keys)
    return behaviour(mask_finished(alive, batch), alive)


class CareRun(StudyRun):
    """The study in its folder."""

    def __init__(self, design: CareDesign, job: Job):
        super().__init__(job, design.suite.env, design.config)
        self.design, config = design, design.config
        self.points = draw_points(design.suite, self.backend.draws, config.base)
        self.home_worlds = world_pool(flat_worlds(self.points.worlds, [0]))
        self.places = ("home", *(shift.name for shift in design.suite.shifts), TWO)
        options = {"optimise": config.optimise}
        self._behaviour = vmap_seeds(behaviour, config.rows, **options)
        pair = partial(
            two_agents, agent=config.agent, env=design.suite.env, episodes=config.episodes
        )
        self._two = vmap_seeds(pair, config.rows, 1, **options)

    def run(self) -> pd.DataFrame:
        """Train and measure every arm, or load its rows.

        Returns:
            A row per arm, place and seed: measures of `behaviour`, and whether the seed is `alive`.
        """
        config, tables = self.home, []
        arms, updates = self.design.arms, config.chunks * config.updates
        self.progress.total = len(arms) * updates
        self.progress.say(
            f"Share: {len(arms)} arms x {config.seeds} seeds x {config.steps:,} steps, "
            f"{len(self.places)} places -> {self.out}"
        )
        digest = leaves_digest(self.points.worlds)
        for name, blend in arms.items():
            compute = partial(self._run_arm, name, blend)
            columns = self.part(safe_name(name), digest, updates, compute)
            tables.append(pd.DataFrame(columns).assign(arm=name))
        return pd.concat(tables, ignore_index=True)

    def _run_arm(self, name: str, blend: Blend) -> dict[str, list]:
        """Train one arm and measure what it does in every place -> columns (`run`)."""
        design, config = self.design, self.home
        phase = Phase(self.home_worlds, config.chunks, config.updates, config.agent, blend)
        trained = self.train(name, phase)
        learner = trained.state.learner
        measured = [
            self._behaviour(*episodes) for episodes in self.recordings(learner, self.points)
        ]
        partner = jax.tree.map(lambda leaf: np.roll(np.asarray(leaf), -1, 0), learner.agent)
        keys = stream_keys(config, Stream.PROBE)
        measured.append(self._two(learner.agent, partner, keys, design.suite.world))
        tables = [
            seed_rows(measures, trained, config.seeds, place=place)
            for place, measures in zip(self.places, measured, strict=True)
        ]
        return pd.concat(tables).to_dict("list")
