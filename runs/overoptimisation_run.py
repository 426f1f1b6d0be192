"""Training of maximisers and of satiable agents where a proxy can be farmed, and their scores.

An agent is trained at home, where farming does not pay, and trained on after the shift that opens
the farm. All arms of a world are mixes of one blend, so they share its compiled programs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from affect import Blend, Constant, Satiation, Sham, Transition
from affect.examples.source_satiation import SourceSatiation
from agents.ppo import PPO
from envs.suite import Suite
from runs.cli.study import Job
from runs.engine.config import RunConfig, make_run_config
from runs.engine.episodes import record_episodes
from runs.engine.evaluate import EvalPoints, draw_points
from runs.engine.phases import Phase, RewardMix, signal_weights, world_pool
from runs.engine.presets import find_suite
from runs.engine.seeds import Stream, seed_keys, stream_key, vmap_seeds
from runs.names import safe_name
from runs.study_run import SMOKE_SIZES, StudyRun
from runs.tree_io import leaves_digest

FARMS = {"BoatRace": "farm", "Tomatoes": "bucket", "Button": "stuck"}
"""World -> the shift after which its proxy can be farmed."""
SOURCES = {"BoatRace": 2, "Tomatoes": 12, "Button": 1}
WORK = {"BoatRace": (0.25, 0.125), "Tomatoes": (0.77, 0.77), "Button": (1 / 9, 1 / 9)}
"""Reward and hidden performance a step of work: laps, walking in circles, deliveries."""
WEIGHTS = (1.0, 2.0, 4.0, 8.0)
SWEPT = ("satiation", "pooled", "by_source")  # arms with each of WEIGHTS
WEIGHT = 4.0  # of them where one is compared
EXPLORATION, ENTROPY = 0.05, 0.2  # weights of the entropy bonus: of all arms, and of its arm
SIZES = {"num_envs": 16, "num_steps": 64, "episodes": 16}
HOME, FARM, EVERY = 2, 8, 10  # evaluations in each phase, and updates before each
SCORES = ("return", "hidden")


class SetPoint(Satiation):
    """Minus the distance of the moving average of reward from a setpoint: the body is the pay.

    Homeostasis of a need that reward fills, too full being as bad as too empty. The setpoint is
    the rate that work pays, which a designer must know.

    Args:
        spec: shapes of the world, unused.
        target: the setpoint, in reward a step.
        rngs: unused.
    """

    def __init__(self, spec, target: float = 0.0, *, rngs):
        super().__init__(spec, rngs=rngs)
        self.target = target

    def __call__(self, state: jax.Array, batch: Transition) -> tuple[jax.Array, jax.Array]:
        """Minus the distance [T, B], at most 0."""
        signal, state = super().__call__(state, batch)
        return -jnp.abs(-signal - self.target), state


class DividedByMean(Satiation):
    """What must be added to the reward to divide it by its moving average: the trivial rival.

    r / max(m, least) - r, with the average m of `Satiation`.
    """

    least = 0.05

    def __call__(self, state: jax.Array, batch: Transition) -> tuple[jax.Array, jax.Array]:
        """Signal [T, B] that makes reward plus signal the reward in units of its average."""
        signal, state = super().__call__(state, batch)
        return batch.reward / jnp.maximum(-signal, self.least) - batch.reward, state


@dataclass(frozen=True)
class ProxyArm:
    """A mix of signals beside the paid reward, and the weight of the entropy bonus."""

    name: str
    weights: Mapping[str, float]
    entropy: float = EXPLORATION


def proxy_arms(gamma: float) -> tuple[ProxyArm, ...]:
    """All arms that are trained: none, satiation of three kinds by weight, rivals and controls."""
    swept = [ProxyArm(f"{name}_{w:g}", {name: w}) for name in SWEPT for w in WEIGHTS]
    return (
        ProxyArm("none", {}),
        *swept,
        ProxyArm("setpoint", {"setpoint": 1.0}),
        ProxyArm("divided", {"divided": 1.0}),
        ProxyArm("sham", {"sham": WEIGHT}),
        ProxyArm("constant_plus", {"constant": 1 - gamma}),
        ProxyArm("constant_minus", {"constant": gamma - 1}),
        ProxyArm("entropy", {}, ENTROPY),
    )


def proxy_blend(world: str) -> Blend:
    """The heads of all arms in a world."""
    by_source = SourceSatiation(sources=SOURCES[world])
    heads: dict[str, Any] = {
        "satiation": Satiation,
        "pooled": SourceSatiation(sources=1),
        "by_source": by_source,
        "sham": Sham(by_source),
        "setpoint": SetPoint(target=WORK[world][0]),
        "divided": DividedByMean,
        "constant": Constant(value=1.0),
    }
    return Blend(**{name: (1.0, head) for name, head in heads.items()})


def farm_suite(world: str) -> Suite:
    """The suite of a world with the shift that opens its farm alone, at full severity."""
    return replace(find_suite(world, (FARMS[world],)), severities=(1.0,))


def sizes(settings: Any) -> RunConfig:
    """Sizes of one stretch of training between two evaluations, with a constant step size."""
    agent = PPO(lr=1e-3, anneal=0)
    size = SIZES | {"seeds": settings.seeds}
    updates = EVERY
    if settings.smoke:
        size, updates = SMOKE_SIZES, 1
    steps = updates * size["num_envs"] * size["num_steps"]
    options = {"chunks": 1, "base": settings.base, "optimise": not settings.smoke}
    return make_run_config(agent, steps=steps, draws=1, **size, **options)


def evaluations(settings: Any) -> tuple[int, int]:
    """Evaluations at home and on the farm."""
    return (2, 2) if settings.smoke else (HOME, FARM)


def run_worlds(job: Job, config: RunConfig) -> pd.DataFrame:
    """Rows of all arms in all worlds (`ProxyRun.run`).

    Raises:
        Interrupted: if a stop is requested; finished arms are kept.
    """
    worlds, done, tables = job.settings.worlds[: 1 if job.settings.smoke else None], 0, []
    updates = sum(evaluations(job.settings)) * config.updates
    arms = proxy_arms(config.agent.gamma)
    job.progress.total = len(worlds) * len(arms) * updates
    job.progress.say(
        f"{len(worlds)} worlds x {len(arms)} arms x {config.seeds} seeds x "
        f"{updates * config.batch_steps:,} steps -> {job.out}"
    )
    for world in worlds:
        with ProxyRun(world, config, job, done) as run:
            tables.append(run.run())
            done = run.done
    return pd.concat(tables, ignore_index=True)


def play(
    agent_state: Any, worlds: Any, key: jax.Array, *, agent: Any, env: Any, episodes: int
) -> jax.Array:
    """Reward and hidden performance a step [P, 2] in worlds [P, 1], actions sampled as in training.

    The mode of a policy would not do: who does not observe how satiated it is has to mix.
    """
    keys = jax.random.split(key, episodes)

    def one(world: Any) -> jax.Array:
        act = partial(agent.act, agent_state)
        _, batch, _ = record_episodes(act, env, world, jax.random.clone(keys))
        return jnp.stack([batch.reward.mean(), batch.info["hidden"].mean()])

    return jax.lax.map(one, worlds)


class ProxyRun(StudyRun):
    """The study in one world, in the folder of the whole.

    Attributes:
        world: name of the suite.
        points: home and farm, at which all arms are scored.
    """

    def __init__(self, world: str, config: RunConfig, job: Job, done: int):
        self.suite, self.world = farm_suite(world), world
        super().__init__(job, self.suite.env, config)
        self.done, self.blend = done, proxy_blend(world)
        self.phases = evaluations(job.settings)
        self.points: EvalPoints = draw_points(self.suite, 1, config.base)
        played = partial(play, agent=config.agent, env=self.suite.env, episodes=config.episodes)
        self._play = vmap_seeds(played, config.rows, 2, config.optimise)

    @property
    def updates(self) -> int:
        """Updates of an arm."""
        return sum(self.phases) * self.home.updates

    def run(self) -> pd.DataFrame:
        """Train and score every arm, or load its rows.

        Returns:
            A row per arm, seed, time (evaluations so far) and `place` ("home", "farm"): `return`
            and `hidden`, over those of WORK; `alive`; `opened`, whether the farm is open.
        """
        tables, digest = [], leaves_digest(self.points.worlds)
        for arm in proxy_arms(self.home.agent.gamma):
            name = f"{self.world}-{safe_name(arm.name)}"
            columns = self.part(name, digest, self.updates, partial(self._train_arm, arm))
            tables.append(pd.DataFrame(columns).assign(arm=arm.name, world=self.world))
        return pd.concat(tables, ignore_index=True)

    def _train_arm(self, arm: ProxyArm) -> dict[str, list]:
        """Train one arm at home and on the open farm, scoring it on the way -> columns (`run`)."""
        config, key = self.home, stream_key(self.home.base, Stream.LATER_PHASES)
        mix = RewardMix(1.0, signal_weights(self.blend, arm.weights))
        numbers = {"entropy": jnp.full(config.rows, arm.entropy)}
        state, alive, scores = None, np.ones(config.rows, bool), []
        for place, evaluations in enumerate(self.phases):
            worlds = world_pool(jax.tree.map(lambda x, i=place: x[i], self.points.worlds))
            phase = Phase(worlds, 1, config.updates, config.agent, self.blend, mix, numbers=numbers)
            start = None
            if place:
                keys = seed_keys(key, range(config.rows))
                start = partial(self.backend.enter, state.learner, phase, keys)
            name = f"{self.world}, {arm.name}"
            trained, measured = self.train_and_measure(name, phase, start, evaluations, self._score)
            state, alive, scores = trained.state, alive & trained.alive, scores + measured
        table = np.stack(scores, 1)[: config.seeds]  # [S, T, P, scores]
        seed, time, place = (axis.ravel() for axis in np.indices(table.shape[:3]))
        columns = {"seed": seed, "time": time, "place": np.array(["home", "farm"])[place]}
        columns |= {name: table[..., i].ravel() for i, name in enumerate(SCORES)}
        columns |= {"alive": alive[seed], "opened": time >= self.phases[0]}
        return {name: column.tolist() for name, column in columns.items()}

    def _score(self, learner: Any) -> np.ndarray:
        """SCORES over those of WORK [S, P, scores], at home and on the farm, the same episodes."""
        scores = np.asarray(self._play(learner.agent, self.points.worlds, self.points.key))
        return scores / np.array(WORK[self.world])
