"""One agent is examined: its head and all rivals, everywhere, on the same episodes."""

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
    """What was learned afterwards, of one seed.

    Attributes:
        untrained: all heads as they were made anew.
        offline: the head and the fears of all sizes, from what the agent lives through at home.
        randomised: the head, from what the agent lives through in randomised worlds; None where
            there are none.
        slopes: of minus the critic on progress, at home.
        memory: [sizes, 2], `runs.probes.offline.memorisation`.
    """

    untrained: BlendState
    offline: BlendState
    randomised: BlendState | None
    slopes: jax.Array
    memory: jax.Array


@dataclass(frozen=True)
class ValidityProbe:
    """What is asked, of whom, and where.

    Attributes:
        head: the name of the head in the blend.
        blend: of the agent, the head and its rivals (`runs.probes.baselines.baseline_blend`).
        suite: of worlds.
        run_config: sizes.
        horizon: of the event, in steps.
        samples: steps in the data set of those who learn afterwards.
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
        """Those that also learn afterwards."""
        return sub_blend(self.blend, (self.head, *SIZES))

    @property
    def batches(self) -> int:
        """N, in a data set."""
        return max(self.samples // (self.run_config.num_envs * self.run_config.num_steps), 1)

    def everything(
        self, learner: Learner, key: jax.Array, worlds: World, episodes: jax.Array
    ) -> dict[str, jax.Array]:
        """Teaches and examines one seed in jitted worlds -> `readouts` [P], and `memory`.

        Args:
            learner: that has learned.
            key: of what is learned afterwards.
            worlds: [P, draws], home first.
            episodes: key of the episodes, the same for all seeds.
        """
        run_config, agent = self.run_config, self.run_config.agent
        k_home, k_random, key = jax.random.split(key, 3)
        sizes = run_config.num_envs, run_config.num_steps, self.batches
        record = partial(record_batches, env=self.suite.env, act=partial(agent.act, learner.agent))
        sizes = dict(zip(("num_envs", "num_steps", "number"), sizes, strict=True))
        at_home = record(k_home, worlds=lambda _: self.suite.world, **sizes)
        elsewhere = None
        if self.suite.randomised is not None:
            elsewhere = record(
                k_random, worlds=lambda k: self.suite.randomised(self.suite.world, 1.0, k), **sizes
            )
        pupils = self.teach(learner, key, at_home, elsewhere)
        signals, fears = self.signals(learner, pupils)

        def act(key, obs):
            return agent.act(learner.agent, None, obs)

        each = run_config.episodes // worlds.channel.noise.shape[1]
        told = readouts(
            *(signals, act, self.suite.env, worlds, episodes, each, fears, self.horizon),
            *(agent.gamma, False),
        )
        return told | {"memory": pupils.memory}

    def teach(
        self, learner: Learner, key: jax.Array, at_home: Transition, elsewhere: Transition | None
    ) -> OfflineHeads:
        """What one seed's heads learn afterwards from batches [N, T, B]."""
        k_offline, k_random, k_label, k_made = jax.random.split(key, 4)
        spec, run_config = self.suite.env.spec, self.run_config
        updates = run_config.chunks * run_config.updates
        offline = train_offline(self.offline, k_offline, spec, at_home, updates)
        randomised = None
        if elsewhere is not None:
            alone = sub_blend(self.blend, (self.head,))
            randomised = train_offline(alone, k_random, spec, elsewhere, updates)
        joined = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), at_home)
        counted = ~joined.terminated & ~joined.truncated
        afraid = critic_signals(run_config.agent, learner.agent)["minus_critic"]
        slopes = fit_line(afraid(joined), progress(self.suite)(joined), counted)
        untrained = self.blend.init(k_made, spec, 2)
        fit = partial(memorisation, obs=spread_observations(at_home), steps=self.fitting)
        memory = [fit(unwrapped(untrained.heads[size].net, ())[0], k_label) for size in SIZES]
        return OfflineHeads(untrained, offline, randomised, slopes, jnp.stack(memory))

    def question(
        self,
        learner: Learner,
        pupils: OfflineHeads,
        batch: Transition,
        alive: jax.Array,
        ground: HomeStatistics,
        at_home: jax.Array,
    ) -> tuple[HomeStatistics, dict[str, jax.Array]]:
        """`runs.probes.readouts.point_readouts` of one seed's episodes [T, B] at one point."""
        signals, fears = self.signals(learner, pupils)
        how = fears, self.horizon, self.run_config.agent.gamma, False
        return point_readouts(signals, batch, alive, ground, at_home, *how)

    def signals(
        self, learner: Learner, pupils: OfflineHeads
    ) -> tuple[dict[str, Prediction], tuple[str, ...]]:
        """All alarms of one seed by name, and which of them are probabilities of harm."""
        online = self._alarms(self.blend, learner.blend_state)
        fears = [name for name in online if self._fears(learner.blend_state, name)]
        found = {name: said for name, said in online.items() if name not in ENSEMBLE}
        scheduled = {"offline": pupils.offline, "random": pupils.randomised}
        for how, blend_state in scheduled.items():
            if blend_state is None:
                continue
            blend = sub_blend(self.blend, tuple(blend_state.heads))
            for name, said in self._alarms(blend, blend_state).items():
                found[f"{name}_{how}"] = said
                fears += [f"{name}_{how}"] if name in fears else []
        untrained = self._alarms(self.blend, pupils.untrained)[self.head]
        critic = critic_signals(self.run_config.agent, learner.agent)["minus_critic"]
        found |= {
            f"{self.head}_untrained": untrained,
            "disagreement": disagreement(online),
            "minus_critic": critic,
            "minus_critic_residual": residual(critic, progress(self.suite), pupils.slopes),
        }
        given = innate_alarm(self.suite)
        found |= {"innate": given} if given is not None else {}
        return found, tuple(name for name in fears if name in found)

    def _alarms(self, blend: Blend, blend_state: BlendState) -> dict[str, Prediction]:
        said = predictions(blend, blend_state)
        return {
            ("minus_" if not self._bare(blend_state, name).sign and name != self.head else "")
            + name: as_alarm(self._bare(blend_state, name), signal)
            for name, signal in said.items()
        }

    def _fears(self, blend_state: BlendState, name: str) -> bool:
        return name in blend_state.heads and isinstance(self._bare(blend_state, name), Fear)

    @staticmethod
    def _bare(blend_state: BlendState, name: str) -> Any:
        return unwrapped(blend_state.heads[name].net, blend_state.carry[name])[0]
