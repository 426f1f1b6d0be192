"""Hand-over of control: danger signals of a trained agent, an agent that hands over, its episodes.

An agent and heads are trained at home; in each shift a specialist goes on from it with the task's
reward. The agent then acts in the shift, and the specialist wherever a signal is above a threshold.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from affect import Blend, Curiosity, Fear, Lesion, Transition, Untrained
from affect.monitor import conformal_threshold
from affect.predict import harm
from agents.body import observation_hash
from runs.calibrate import FURTHER
from runs.cli.study import Job
from runs.engine.config import head_epochs
from runs.engine.evaluate import draw_points, select_points
from runs.engine.phases import Phase, RewardMix, flat_worlds, one_world, signal_weights, world_pool
from runs.engine.presets import find_suite, preset
from runs.engine.seeds import Stream, stream_key, vmap_seeds
from runs.engine.train import Learner
from runs.engine.training_loop import Trained
from runs.errors import UserError
from runs.probes.baselines import ENSEMBLE, Prediction, disagreement, innate_alarm
from runs.probes.signals import critic_signals, predictions
from runs.probes.success import episode_success
from runs.study_run import StudyDesign, StudyRun, run_configs, seed_rows
from runs.tree_io import leaves_digest

SHIFTS = ("cones", "cross", "aggressive", "ice")  # of Drive, those of the pilot
SHARES = (0.05, 0.1, 0.2, 0.4, 0.7)  # of unassisted steps above a threshold
QUANTILES = (0.8, 0.9, 0.95)  # of successful episodes at home below a threshold
EPISODES = 64  # at each point
WORLDS = 64  # of a shift, in which a specialist is trained
CHUNKS = 8  # of each training
LARGE = 1e30  # a threshold above or below all signals


def make_design(settings: Any) -> StudyDesign:
    """The design that these settings define: heads beside the agent, `further` for specialists.

    Raises:
        UserError: for an unknown environment or shift, or continuous actions.
    """
    default = SHIFTS if settings.env in ("Drive", "Timid") else ()
    suite = replace(find_suite(settings.env, settings.shifts or default), severities=(1.0,))
    if settings.smoke:
        suite = replace(suite, shifts=suite.shifts[:1])
    if not suite.env.spec.num_actions:
        raise UserError(f"--env {settings.env}: the entropy of a policy needs discrete actions")
    sizes = preset(suite)
    at_home = settings.steps or sizes.steps
    steps, chunks = (at_home, round(FURTHER * at_home)), (CHUNKS, CHUNKS)
    episodes = settings.episodes or min(EPISODES, sizes.episodes)
    home, further = run_configs(settings, suite, steps, chunks, episodes, smoke_updates=(2, 1))
    heads = {"fear": Fear, "untrained": Untrained(Fear), "novelty": Curiosity}
    heads |= dict.fromkeys(ENSEMBLE, Fear)
    blend = Blend(**{name: (1.0, Lesion(head)) for name, head in heads.items()})
    return StudyDesign(suite, home, further, blend.with_epochs(head_epochs(home)))


# --- signals ----------------------------------------------------------------------------------


class Units(NamedTuple):
    """Mean and deviation at home of fear and of novelty, [2] each."""

    mean: jax.Array
    deviation: jax.Array


class Dangers(NamedTuple):
    """Static description of the danger signals of an agent.

    Attributes:
        agent: with `policy` and `value`.
        blend: of its heads.
        innate: hand-written alarm of the suite; None if there is none.
    """

    agent: Any
    blend: Blend
    innate: Prediction | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the K signals, in their order."""
        innate = ("innate",) if self.innate is not None else ()
        others = "critic", "entropy", "uncertainty", "disagreement", "novelty", "fear_novelty"
        return ("fear", *others, *innate, "random", "untrained")

    def __call__(self, learner: Learner, units: Units, obs: jax.Array) -> jax.Array:
        """Signals [K, ...] at observations [..., D], high where harm is expected."""
        flat = obs.reshape(1, -1, obs.shape[-1])
        batch = observed(flat)
        heads = predictions(self.blend, learner.blend_state)
        logits, _ = self.agent.policy(learner.agent, flat)
        log_probs = jax.nn.log_softmax(logits)
        signals = {name: heads[name](batch) for name in ("fear", "novelty", "untrained")}
        signals["critic"] = critic_signals(self.agent, learner.agent)["minus_critic"](batch)
        signals["entropy"] = -(jnp.exp(log_probs) * log_probs).sum(-1)
        signals["uncertainty"] = 1 - jnp.exp(log_probs.max(-1))
        signals["disagreement"] = disagreement(heads)(batch)
        signals["fear_novelty"] = sum(
            (signals[name] - units.mean[i]) / units.deviation[i]
            for i, name in enumerate(("fear", "novelty"))
        )
        signals["random"] = hashed(flat)
        if self.innate is not None:
            signals["innate"] = self.innate(batch)
        return jnp.stack([signals[name].reshape(obs.shape[:-1]) for name in self.names])


def observed(obs: jax.Array) -> Transition:
    """Transitions [T, B] that end in observations [T, B, D], of which nothing else is known."""
    zero, no = jnp.zeros(obs.shape[:2]), jnp.zeros(obs.shape[:2], bool)
    return Transition(obs, zero.astype(int), obs, zero, no, no, no)


def hashed(obs: jax.Array) -> jax.Array:
    """Uniform numbers in [0, 1) [...] that are a function of the bits of observations [..., D]."""

    def draw(seed: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.key(seed))

    seeds = observation_hash(obs)
    return jax.vmap(draw)(seeds.reshape(-1)).reshape(seeds.shape)


class HandOverState(NamedTuple):
    """State of an agent that hands over, of one seed.

    Attributes:
        learner: the agent and its heads.
        specialist: state of the agent that acts during an alarm.
        units: of the signals.
        signal: [] int32, which one raises the alarm.
        threshold: [] above which it does.
    """

    learner: Learner
    specialist: Any
    units: Units
    signal: jax.Array
    threshold: jax.Array


@dataclass(frozen=True)
class HandOver:
    """An agent in whose place a specialist acts wherever a signal is above its threshold."""

    agent: Any
    dangers: Dangers

    def act(self, state: HandOverState, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Actions [...] at observations [..., D]."""
        alarm = self.alarm(state, obs)
        own = self.agent.act(state.learner.agent, key, obs)
        return jnp.where(alarm, self.agent.act(state.specialist, key, obs), own)

    def alarm(self, state: HandOverState, obs: jax.Array) -> jax.Array:
        """Whether the specialist acts, bool [...], at observations [..., D]."""
        return self.dangers(state.learner, state.units, obs)[state.signal] > state.threshold


def outcomes(
    state: HandOverState, batch: Transition, alive: jax.Array, *, agent: HandOver, success: Callable
) -> dict[str, jax.Array]:
    """Share of steps handed over, success and harm of whole episodes [T, B] of one seed, [] each.

    `alarmed` is the share of successful episodes with an alarm, NaN without successes.
    """
    alarm = agent.alarm(state, batch.obs) & alive
    succeeded = episode_success(batch, alive, success)
    return {
        "share": alarm.sum() / alive.sum(),
        "success": succeeded.mean(),
        "harm": (harm(batch) & alive).any(0).mean(),
        "alarmed": (alarm.any(0) & succeeded).sum() / succeeded.sum().astype(jnp.float32),
    }


def signal_levels(
    learner: Learner, units: Units, batch: Transition, alive: jax.Array, *, dangers: Dangers
) -> jax.Array:
    """Signals [K, T, B] at the steps of whole episodes of one seed, NaN after their end."""
    return jnp.where(alive[None], dangers(learner, units, batch.obs), jnp.nan)


# --- the study in its folder --------------------------------------------------------------------


class HandOverRun(StudyRun):
    """The study in its folder."""

    def __init__(self, design: StudyDesign, job: Job):
        super().__init__(job, design.suite.env, design.home)
        self.design, agent = design, design.home.agent
        self.dangers = Dangers(agent, design.blend, innate_alarm(design.suite))
        self.agent = HandOver(agent, self.dangers)
        options = {"num_seeds": design.home.rows, "optimise": design.home.optimise}
        success = design.suite.env.success
        measured = partial(outcomes, agent=self.agent, success=success)
        self._succeeded = vmap_seeds(partial(episode_success, success=success), **options)
        self._outcomes = vmap_seeds(measured, **options)
        self._levels = vmap_seeds(partial(signal_levels, dangers=self.dangers), **options)
        base, draws = design.home.base, self.backend.draws
        self.points = draw_points(design.suite, draws, base)
        self.fitting = draw_points(design.suite, draws, stream_key(base, Stream.RECORDING))

    def run(self) -> pd.DataFrame:
        """Train all agents and hand over by every signal and threshold, or load the saved rows.

        Returns:
            A row per shift ("none" at home), signal, `kind` of threshold, `level`, and seed: share,
            success, harm, alarmed (`outcomes`), and `alive`. Kinds: "agent" and "specialist"
            alone; "share" by the share of unassisted steps in the shift that are above; "conformal"
            by the quantile of successful episodes at home.
        """
        design, shifts = self.design, self.design.suite.shifts
        updates = design.home.chunks * design.home.updates
        further = design.further.chunks * design.further.updates
        self.progress.total = updates + len(shifts) * 2 * further
        self.progress.say(
            f"{design.suite.name}: {design.home.seeds} seeds x {design.home.steps:,} steps at "
            f"home, {design.further.steps:,} in each of {len(shifts)} shifts -> {self.out}"
        )
        sizes = design.home.chunks, design.home.updates, design.home.agent
        phase = Phase(one_world(design.suite.world), *sizes, design.blend)
        home = self.train_from("at home", phase)
        units, maxima, home_rows = self._fit(home)
        tables = [home_rows]
        for i, shift in enumerate(shifts):
            special = self._specialist(i, home)
            digest = leaves_digest(
                (home.state.learner, special.state.learner.agent, self.points.worlds)
            )
            compute = partial(self._hand_over, i, home, special, units, maxima)
            columns = self.part(shift.name, digest, further, compute)
            tables.append(pd.DataFrame(columns).assign(shift=shift.name))
        return pd.concat(tables, ignore_index=True)

    def _specialist(self, index: int, home: Trained) -> Trained:
        """The agents from home, trained on in a shift with the task's reward."""
        design, config = self.design, self.design.further
        key = stream_key(config.base, Stream.TRAINING_WORLDS)
        pool = world_pool(flat_worlds(design.suite.worlds(key, WORLDS), [1 + index]))
        sizes = config.chunks, config.updates, config.agent, design.blend
        mix = RewardMix(1.0, signal_weights(design.blend, {}))
        phase = Phase(pool, *sizes, mix, heads="frozen", renew=("optimiser",))
        return self.train_from(design.suite.shifts[index].name, phase, home.state.learner)

    def _fit(self, home: Trained) -> tuple[Units, list[np.ndarray], pd.DataFrame]:
        """Units, highest signals of successful episodes at home [K, N] of each seed, rows at home.

        The rows are those of conformal thresholds, on other episodes than they were fitted to.
        """
        learner, rows = home.state.learner, self.home.rows
        ((batch, alive),) = self.recordings(learner, select_points(self.fitting, [0]))
        one = Units(jnp.zeros((rows, 2)), jnp.ones((rows, 2)))
        raw = np.asarray(self._levels(learner, one, batch, alive))
        pair = raw[:, [self.dangers.names.index(name) for name in ("fear", "novelty")]]
        mean, deviation = (f(pair, axis=(2, 3)) for f in (np.nanmean, np.nanstd))
        units = Units(jnp.asarray(mean), jnp.asarray(np.maximum(deviation, 1e-6)))
        levels = np.asarray(self._levels(learner, units, batch, alive))
        succeeded = np.asarray(self._succeeded(batch, alive))
        maxima = [np.nanmax(levels[s], 1)[:, succeeded[s]] for s in range(rows)]
        plain = HandOverState(learner, learner.agent, units, *self._choice(0, LARGE))
        (episodes,) = self.recordings(learner, select_points(self.points, [0]))
        tables = []
        for signal, quantile in np.ndindex(len(self.dangers.names), len(QUANTILES)):
            threshold = self._conformal(maxima, signal, QUANTILES[quantile])
            state = plain._replace(signal=self._choice(signal, 0.0)[0], threshold=threshold)
            names = self.dangers.names[signal], "conformal", QUANTILES[quantile]
            tables.append(self._rows(names, self._outcomes(state, *episodes), home))
        return units, maxima, pd.concat(tables).assign(shift="none")

    def _choice(self, signal: int, threshold: Any) -> tuple[jax.Array, jax.Array]:
        """A signal and a threshold, a number or [S], for each seed."""
        rows = self.home.rows
        return jnp.full(rows, signal), jnp.broadcast_to(
            jnp.asarray(threshold, jnp.float32), (rows,)
        )

    def _conformal(self, maxima: list[np.ndarray], signal: int, quantile: float) -> jax.Array:
        """Conformal threshold of each seed [S]; no alarm where it has too few successes."""
        thresholds = []
        for highest in maxima:
            try:
                thresholds.append(conformal_threshold(highest[signal], quantile))
            except ValueError:
                thresholds.append(LARGE)
        return jnp.asarray(thresholds, jnp.float32)

    def _hand_over(
        self, index: int, home: Trained, special: Trained, units: Units, maxima: list[np.ndarray]
    ) -> dict[str, list]:
        """Hand over in one shift by every signal and threshold -> columns (`run`)."""
        learner, point = home.state.learner, [1 + index]
        (fitted,) = self.recordings(learner, select_points(self.fitting, point))
        levels = np.asarray(self._levels(learner, units, *fitted))
        levels = levels.reshape(*levels.shape[:2], -1)
        plans = [("none", "agent", 0.0, 0, LARGE), ("none", "specialist", 1.0, 0, -LARGE)]
        for k, name in enumerate(self.dangers.names):
            above = np.nanquantile(levels[:, k], [1 - share for share in SHARES], axis=1)
            plans += [(name, "share", x, k, above[i]) for i, x in enumerate(SHARES)]
            plans += [(name, "conformal", q, k, self._conformal(maxima, k, q)) for q in QUANTILES]
        both, tables = home._replace(alive=home.alive & special.alive), []
        for name, kind, level, signal, threshold in plans:
            choice = self._choice(signal, threshold)
            state = HandOverState(learner, special.state.learner.agent, units, *choice)
            points = select_points(self.points, point)
            (episodes,) = self.recordings(Learner(state, ()), points, self.agent)
            tables.append(self._rows((name, kind, level), self._outcomes(state, *episodes), both))
        return {name: list(x) for name, x in pd.concat(tables).to_dict("list").items()}

    def _rows(
        self, names: tuple[str, str, float], scores: dict[str, jax.Array], trained: Trained
    ) -> pd.DataFrame:
        """Rows of all seeds for a signal, a kind of threshold and its level."""
        labels = dict(zip(("signal", "kind", "level"), names, strict=True))
        return seed_rows(scores, trained, self.home.seeds, **labels)
