"""Probe of one agent in `runs.validity`: a head and its baselines at all points, same episodes."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from affect import Blend, BlendState, Fear, Transition
from envs.suite import Suite
from envs.world import World
from runs.engine.run_config import RunConfig
from runs.engine.train import Learner
from runs.probes.baselines import (
    ENSEMBLE,
    SIZES,
    as_alarm,
    disagreement,
    fit_line,
    innate_alarm,
    progress,
    residual,
    sub_blend,
)
from runs.probes.offline import (
    FITTING,
    SAMPLES,
    memorisation,
    record_batches,
    spread_observations,
    train_offline,
)
from runs.probes.readouts import HomeStatistics, point_readouts, readouts
from runs.probes.signals import Prediction, critic_signals, predictions, unwrapped


class OfflineHeads(NamedTuple):
    """Heads and statistics that are fitted after the training of the agent, of one seed.

    Attributes:
        untrained: all heads, newly initialised.
        offline: the head and the fears of all sizes, trained on batches from the unshifted world.
        randomised: the head, trained on batches from randomised worlds; None if there are none.
        slopes: of minus the critic on progress, in the unshifted world.
        memory: [sizes, 2], `runs.probes.offline.memorisation`.
    """

    untrained: BlendState
    offline: BlendState
    randomised: BlendState | None
    slopes: jax.Array
    memory: jax.Array


@dataclass(frozen=True)
class ValidityProbe:
    """Specification of a validity probe: which signals are computed, and in which worlds.

    Attributes:
        head: the name of the head in the blend.
        blend: of the agent, the head and its baselines (`runs.probes.baselines.baseline_blend`).
        suite: of worlds.
        run_config: sizes.
        horizon: of the event, in steps.
        samples: steps in the data set of the offline heads.
        fitting: gradient steps in which random labels are learned.
    """

    head: str
    blend: Blend
    suite: Suite
    run_config: RunConfig
    horizon: int
    samples: int = SAMPLES
    fitting: int = FITTING

    @property
    def offline(self) -> Blend:
        """Blend of the heads that are also trained offline."""
        return sub_blend(self.blend, (self.head, *SIZES))

    @property
    def batches(self) -> int:
        """Number N of batches in a data set."""
        return max(self.samples // (self.run_config.num_envs * self.run_config.num_steps), 1)

    def train_and_probe(
        self, learner: Learner, key: jax.Array, worlds: World, episodes: jax.Array
    ) -> dict[str, jax.Array]:
        """Train one seed's offline heads; compute its `readouts` [P] and `memory` in jitted worlds.

        Args:
            learner: trained.
            key: of the recorded batches and the offline heads.
            worlds: [P, draws], home first.
            episodes: key of the episodes, the same for all seeds.
        """
        run_config, agent = self.run_config, self.run_config.agent
        k_home, k_random, key = jax.random.split(key, 3)
        sizes = run_config.num_envs, run_config.num_steps, self.batches
        record = partial(record_batches, env=self.suite.env, act=partial(agent.act, learner.agent))
        sizes = dict(zip(("num_envs", "num_steps", "number"), sizes, strict=True))
        home_batches = record(k_home, worlds=lambda _: self.suite.world, **sizes)
        random_batches = None
        if self.suite.randomised is not None:
            random_batches = record(
                k_random, worlds=lambda k: self.suite.randomised(self.suite.world, 1.0, k), **sizes
            )
        heads = self.train_heads(learner, key, home_batches, random_batches)
        signals, fears = self.signals(learner, heads)

        def act(key, obs):
            return agent.act(learner.agent, None, obs)

        per_draw = run_config.episodes // worlds.channel.noise.shape[1]
        metrics = readouts(
            *(signals, act, self.suite.env, worlds, episodes, per_draw, fears, self.horizon),
            *(agent.gamma, False),
        )
        return metrics | {"memory": heads.memory}

    def train_heads(
        self,
        learner: Learner,
        key: jax.Array,
        home_batches: Transition,
        random_batches: Transition | None,
    ) -> OfflineHeads:
        """Train one seed's heads on recorded batches [N, T, B], and fit slopes and memory."""
        k_offline, k_random, k_label, k_made = jax.random.split(key, 4)
        spec, run_config = self.suite.env.spec, self.run_config
        updates = run_config.chunks * run_config.updates
        offline = train_offline(self.offline, k_offline, spec, home_batches, updates)
        randomised = None
        if random_batches is not None:
            head_alone = sub_blend(self.blend, (self.head,))
            randomised = train_offline(head_alone, k_random, spec, random_batches, updates)
        steps = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), home_batches)
        counted = ~steps.terminated & ~steps.truncated
        minus_critic = critic_signals(run_config.agent, learner.agent)["minus_critic"]
        slopes = fit_line(minus_critic(steps), progress(self.suite)(steps), counted)
        untrained = self.blend.init(k_made, spec, 2)
        fit = partial(memorisation, obs=spread_observations(home_batches), steps=self.fitting)
        memory = [fit(unwrapped(untrained.heads[size].net, ())[0], k_label) for size in SIZES]
        return OfflineHeads(untrained, offline, randomised, slopes, jnp.stack(memory))

    def probe_point(
        self,
        learner: Learner,
        heads: OfflineHeads,
        batch: Transition,
        alive: jax.Array,
        statistics: HomeStatistics,
        at_home: jax.Array,
    ) -> tuple[HomeStatistics, dict[str, jax.Array]]:
        """`runs.probes.readouts.point_readouts` of one seed's episodes [T, B] at one point."""
        signals, fears = self.signals(learner, heads)
        options = fears, self.horizon, self.run_config.agent.gamma, False
        return point_readouts(signals, batch, alive, statistics, at_home, *options)

    def signals(
        self, learner: Learner, heads: OfflineHeads
    ) -> tuple[dict[str, Prediction], tuple[str, ...]]:
        """Alarm signals of one seed by name, and the names of the probabilities of harm."""
        online = self._alarms(self.blend, learner.blend_state)
        fears = [name for name in online if self._is_fear(learner.blend_state, name)]
        signals = {name: signal for name, signal in online.items() if name not in ENSEMBLE}
        fitted_later = {"offline": heads.offline, "random": heads.randomised}
        for suffix, blend_state in fitted_later.items():
            if blend_state is None:
                continue
            blend = sub_blend(self.blend, tuple(blend_state.heads))
            for name, signal in self._alarms(blend, blend_state).items():
                signals[f"{name}_{suffix}"] = signal
                fears += [f"{name}_{suffix}"] if name in fears else []
        untrained = self._alarms(self.blend, heads.untrained)[self.head]
        critic = critic_signals(self.run_config.agent, learner.agent)["minus_critic"]
        signals |= {
            f"{self.head}_untrained": untrained,
            "disagreement": disagreement(online),
            "minus_critic": critic,
            "minus_critic_residual": residual(critic, progress(self.suite), heads.slopes),
        }
        innate = innate_alarm(self.suite)
        signals |= {"innate": innate} if innate is not None else {}
        return signals, tuple(name for name in fears if name in signals)

    def _alarms(self, blend: Blend, blend_state: BlendState) -> dict[str, Prediction]:
        signals = predictions(blend, blend_state)
        return {
            ("minus_" if not self._inner(blend_state, name).sign and name != self.head else "")
            + name: as_alarm(self._inner(blend_state, name), signal)
            for name, signal in signals.items()
        }

    def _is_fear(self, blend_state: BlendState, name: str) -> bool:
        return name in blend_state.heads and isinstance(self._inner(blend_state, name), Fear)

    @staticmethod
    def _inner(blend_state: BlendState, name: str) -> Any:
        return unwrapped(blend_state.heads[name].net, blend_state.carry[name])[0]
