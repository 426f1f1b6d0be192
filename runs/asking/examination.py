"""One agent is examined: its head and all rivals, everywhere, on the same episodes."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from affect import Blend, Fear, Feelings, Transition
from envs.suite import Suite
from envs.world import World
from runs.asking.readouts import Ground, questioned, readouts
from runs.asking.rivals import (
    ENSEMBLE,
    SIZES,
    alarming,
    disagreement,
    innate,
    line,
    part,
    passed,
    residual,
)
from runs.asking.schooling import FITTING, SAMPLES, memorised, recorded, schooled, some
from runs.asking.signals import Prediction, bare, critics, predictions
from runs.harness.plan import Plan
from runs.harness.train import Learner


class Pupils(NamedTuple):
    """What was learned afterwards, of one seed.

    Attributes:
        untrained: all heads as they were made anew.
        offline: the head and the fears of all sizes, from what the agent lives through at home.
        randomised: the head, from what the agent lives through in randomised worlds; None where
            there are none.
        slopes: of minus the critic on progress, at home.
        memory: [sizes, 2], `runs.asking.schooling.memorised`.
    """

    untrained: Feelings
    offline: Feelings
    randomised: Feelings | None
    slopes: jax.Array
    memory: jax.Array


@dataclass(frozen=True)
class Examination:
    """What is asked, of whom, and where.

    Attributes:
        head: the name of the head in the blend.
        blend: of the agent, the head and its rivals (`runs.asking.rivals.rivals`).
        suite: of worlds.
        plan: sizes.
        horizon: of the event, in steps.
        samples: steps in the data set of those who learn afterwards.
        fitting: gradient steps in which random labels are learned.
    """

    head: str
    blend: Blend
    suite: Suite
    plan: Plan
    horizon: int
    samples: int = SAMPLES
    fitting: int = FITTING

    @property
    def offline(self) -> Blend:
        """Those that also learn afterwards."""
        return part(self.blend, (self.head, *SIZES))

    @property
    def batches(self) -> int:
        """N, in a data set."""
        return max(self.samples // (self.plan.num_envs * self.plan.num_steps), 1)

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
        plan, agent = self.plan, self.plan.agent
        k_home, k_random, key = jax.random.split(key, 3)
        sizes = plan.num_envs, plan.num_steps, self.batches
        record = partial(recorded, env=self.suite.env, act=partial(agent.act, learner.agent))
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

        each = plan.episodes // worlds.channel.noise.shape[1]
        told = readouts(
            *(signals, act, self.suite.env, worlds, episodes, each, fears, self.horizon),
            *(agent.gamma, False),
        )
        return told | {"memory": pupils.memory}

    def teach(
        self, learner: Learner, key: jax.Array, at_home: Transition, elsewhere: Transition | None
    ) -> Pupils:
        """What one seed's heads learn afterwards from batches [N, T, B]."""
        k_offline, k_random, k_label, k_made = jax.random.split(key, 4)
        spec, plan = self.suite.env.spec, self.plan
        updates = plan.chunks * plan.updates
        offline = schooled(self.offline, k_offline, spec, at_home, updates)
        randomised = None
        if elsewhere is not None:
            alone = part(self.blend, (self.head,))
            randomised = schooled(alone, k_random, spec, elsewhere, updates)
        joined = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), at_home)
        counted = ~joined.terminated & ~joined.truncated
        afraid = critics(plan.agent, learner.agent)["minus_critic"]
        slopes = line(afraid(joined), passed(self.suite)(joined), counted)
        untrained = self.blend.init(k_made, spec, 2)
        fit = partial(memorised, obs=some(at_home), steps=self.fitting)
        memory = [fit(bare(untrained.heads[size].net, ())[0], k_label) for size in SIZES]
        return Pupils(untrained, offline, randomised, slopes, jnp.stack(memory))

    def question(
        self,
        learner: Learner,
        pupils: Pupils,
        batch: Transition,
        alive: jax.Array,
        ground: Ground,
        at_home: jax.Array,
    ) -> tuple[Ground, dict[str, jax.Array]]:
        """`runs.asking.readouts.questioned` of one seed's episodes [T, B] at one point."""
        signals, fears = self.signals(learner, pupils)
        how = fears, self.horizon, self.plan.agent.gamma, False
        return questioned(signals, batch, alive, ground, at_home, *how)

    def signals(
        self, learner: Learner, pupils: Pupils
    ) -> tuple[dict[str, Prediction], tuple[str, ...]]:
        """All alarms of one seed by name, and which of them are probabilities of harm."""
        online = self._alarms(self.blend, learner.feelings)
        fears = [name for name in online if self._fears(learner.feelings, name)]
        found = {name: said for name, said in online.items() if name not in ENSEMBLE}
        later = {"offline": pupils.offline, "random": pupils.randomised}
        for how, feelings in later.items():
            if feelings is None:
                continue
            blend = part(self.blend, tuple(feelings.heads))
            for name, said in self._alarms(blend, feelings).items():
                found[f"{name}_{how}"] = said
                fears += [f"{name}_{how}"] if name in fears else []
        untrained = self._alarms(self.blend, pupils.untrained)[self.head]
        critic = critics(self.plan.agent, learner.agent)["minus_critic"]
        found |= {
            f"{self.head}_untrained": untrained,
            "disagreement": disagreement(online),
            "minus_critic": critic,
            "minus_critic_residual": residual(critic, passed(self.suite), pupils.slopes),
        }
        given = innate(self.suite)
        found |= {"innate": given} if given is not None else {}
        return found, tuple(name for name in fears if name in found)

    def _alarms(self, blend: Blend, feelings: Feelings) -> dict[str, Prediction]:
        said = predictions(blend, feelings)
        return {
            ("minus_" if not self._bare(feelings, name).sign and name != self.head else "")
            + name: alarming(self._bare(feelings, name), signal)
            for name, signal in said.items()
        }

    def _fears(self, feelings: Feelings, name: str) -> bool:
        return name in feelings.heads and isinstance(self._bare(feelings, name), Fear)

    @staticmethod
    def _bare(feelings: Feelings, name: str) -> Any:
        return bare(feelings.heads[name].net, feelings.carry[name])[0]
