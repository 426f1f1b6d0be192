"""Signals of `runs.validity`: a head and its baselines, online and trained offline, as alarms."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, BlendState, Fear, Transition
from affect.observation import read_obs
from envs.host.suite import HostEnv
from envs.suite import Suite
from runs.engine.backend import Backend
from runs.engine.config import RunConfig, head_spec
from runs.engine.evaluate import draw_points
from runs.engine.phases import Phase
from runs.engine.seeds import Stream, stream_keys, vmap_seeds
from runs.engine.train import Learner
from runs.errors import Interrupted
from runs.probes import baselines, offline
from runs.probes.baselines import SIZES, sub_blend
from runs.probes.probe import Signals, probe_recordings
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
    samples: int = offline.SAMPLES
    fitting: int = offline.FITTING

    @property
    def batches(self) -> int:
        """Number N of batches in a data set."""
        return max(self.samples // self.run_config.batch_steps, 1)

    def readouts(
        self,
        backend: Backend,
        phase: Phase,
        state: Any,
        stopped: Callable[[], bool],
        on_point: Callable[[int], None],
    ) -> dict[str, np.ndarray]:
        """Train the offline heads of all seeds; compute readouts [S, P, ...] and `memory`.

        Args:
            backend: that trained the learners.
            phase: in which it trained them.
            state: after training.
            stopped: returns whether to stop.
            on_point: receives the number of finished points after each of them.

        Raises:
            Interrupted: if `stopped` returned True.
        """
        run_config, agent, learner = self.run_config, phase.agent, state.learner
        options = {"optimise": run_config.optimise, "together": 1}
        keys, inputs = stream_keys(run_config, Stream.PROBE), ()
        if isinstance(self.suite.env, HostEnv):
            inputs = (backend.record_batches(state, phase, self.batches, stopped),)
        train = self.train_heads if inputs else self.record_and_train
        heads = vmap_seeds(train, run_config.rows, **options)(learner, keys, *inputs)
        points = draw_points(self.suite, backend.draws, run_config.base)
        recordings = backend.record(learner, agent, points, stopped, run_config.episodes)
        readouts = probe_recordings(
            self.signals,
            (learner, heads),
            _counted(recordings, stopped, on_point),
            self.suite.env.spec,
            self.horizon,
            agent.gamma,
            ranked=False,
            **options,
        )
        return readouts | {"memory": np.asarray(heads.memory)}

    def record_and_train(self, learner: Learner, key: jax.Array) -> OfflineHeads:
        """Record one seed's policy in jitted worlds, at home and randomised; train its heads."""
        suite, run_config, agent = self.suite, self.run_config, self.run_config.agent
        k_home, k_random, key = jax.random.split(key, 3)
        record = partial(
            offline.record_batches,
            env=suite.env,
            act=partial(agent.act, learner.agent),
            num_envs=run_config.num_envs,
            num_steps=run_config.num_steps,
            number=self.batches,
        )
        home_batches, random_batches = record(k_home, worlds=lambda _: suite.world), None
        if suite.randomised is not None:
            worlds = partial(suite.randomised, suite.world, 1.0)
            random_batches = record(k_random, worlds=worlds)
        return self.train_heads(learner, key, home_batches, random_batches)

    def train_heads(
        self,
        learner: Learner,
        key: jax.Array,
        home_batches: Transition,
        random_batches: Transition | None = None,
    ) -> OfflineHeads:
        """Train one seed's heads on recorded batches [N, T, B], and fit slopes and memory."""
        k_offline, k_random, k_label, k_made = jax.random.split(key, 4)
        agent = self.run_config.agent
        spec = head_spec(self.suite.env.spec, agent)
        updates = self.run_config.chunks * self.run_config.updates
        train = partial(offline.train_offline, spec=spec, updates=updates)
        blend, randomised = sub_blend(self.blend, (self.head, *SIZES)), None
        at_home = train(blend, k_offline, batches=home_batches)
        if random_batches is not None:
            head_alone = sub_blend(self.blend, (self.head,))
            randomised = train(head_alone, k_random, batches=random_batches)
        steps = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), home_batches)
        minus_critic = critic_signals(agent, learner.agent)["minus_critic"](steps)
        progress = baselines.progress(self.suite)(steps)
        counted = ~steps.terminated & ~steps.truncated
        slopes = baselines.fit_line(minus_critic, progress, counted)
        untrained = self.blend.init(k_made, spec, 2)
        obs = read_obs(self.suite.env.spec, offline.spread_observations(home_batches)[None])[0]
        fit = partial(offline.memorisation, obs=obs, steps=self.fitting)
        memory = [fit(unwrapped(untrained.heads[size].net, ())[0], k_label) for size in SIZES]
        return OfflineHeads(untrained, at_home, randomised, slopes, jnp.stack(memory))

    def signals(self, learner: Learner, heads: OfflineHeads) -> Signals:
        """Alarm signals of one seed by name, and the names of the probabilities of harm."""
        online, fears = self._alarms(learner.blend_state), set()
        for name, state in learner.blend_state.heads.items():
            if isinstance(unwrapped(state.net, learner.blend_state.carry[name])[0], Fear):
                fears |= {name, f"{name}_offline", f"{name}_random"}
        signals = {
            name: signal for name, signal in online.items() if name not in baselines.ENSEMBLE
        }
        for suffix, state in (("offline", heads.offline), ("random", heads.randomised)):
            trained = {} if state is None else self._alarms(state)
            signals |= {f"{name}_{suffix}": signal for name, signal in trained.items()}
        critic = critic_signals(self.run_config.agent, learner.agent)["minus_critic"]
        progress = baselines.progress(self.suite)
        signals |= {
            f"{self.head}_untrained": self._alarms(heads.untrained)[self.head],
            "disagreement": baselines.disagreement(online),
            "minus_critic": critic,
            "minus_critic_residual": baselines.residual(critic, progress, heads.slopes),
        }
        innate = baselines.innate_alarm(self.suite)
        signals |= {"innate": innate} if innate is not None else {}
        return signals, tuple(name for name in signals if name in fears)

    def _alarms(self, blend_state: BlendState) -> dict[str, Prediction]:
        """Alarm of each head by name, `minus_` before the name of a baseline that is turned."""
        names = tuple(name for name in self.blend.names if name in blend_state.heads)
        alarms = {}
        for name, signal in predictions(sub_blend(self.blend, names), blend_state).items():
            head = unwrapped(blend_state.heads[name].net, blend_state.carry[name])[0]
            prefix = "" if head.sign or name == self.head else "minus_"
            alarms[prefix + name] = baselines.as_alarm(head, signal)
        return alarms


def _counted(
    recordings: Iterator, stopped: Callable[[], bool], on_point: Callable[[int], None]
) -> Iterator:
    """Pass recordings on; report each that was used, and raise Interrupted on a stop request."""
    for i, recording in enumerate(recordings):
        if stopped():
            raise Interrupted
        yield recording
        on_point(i + 1)
