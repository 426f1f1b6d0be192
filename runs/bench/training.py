"""Measure our training and its parts, and an arm of a comparison as `runs.compare` runs it."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, Innate, Spec
from agents.ppo import PPO
from envs import load_suite
from envs.channel import Channel, random_actions
from envs.host.pool import HostPool
from envs.host.stepping import choose_workers, measured_seconds
from envs.suite import Suite
from envs.world import World, reset_batch, rollout
from envs.worlds.classic.cartpole import CartPole
from runs.bench.pixels import WORLD, image_env
from runs.bench.timing import Measure, Workload, peak_megabytes, timer
from runs.engine import host_backend
from runs.engine.arms import comparison_arms, weighted_head
from runs.engine.backend import make_backend
from runs.engine.config import RunConfig
from runs.engine.evaluate import draw_points
from runs.engine.host_step import HostStepper, by_seed
from runs.engine.jax_backend import JaxBackend, train_config
from runs.engine.phases import Phase, one_world
from runs.engine.presets import preset
from runs.engine.seeds import ENVS_AT_ONCE, seed_keys, vmap_seeds
from runs.engine.train import Learner, update, update_stats
from runs.engine.training_loop import run_phase
from runs.experiment import Experiment
from runs.probes.probe import probe_arm

HEADS = ("fear", "hope", "curiosity")  # of the comparison that an arm is from


def time_training(load: Workload) -> Measure:
    """Time training in CartPole (500 steps) with the backend of `runs.compare`."""
    backend, phase = _cartpole_training(load)
    return timer(partial(backend.train, backend.init(phase), phase, 0, _never_stop), load.steps)


def time_host_training(load: Workload) -> Measure:
    """Time training in a gymnasium environment, stepped on the host, as `runs.compare` does it."""
    return _time_host(load, load_suite(load.world, [], image="numbers"), _run_config(load))


def time_image_training(load: Workload) -> Measure:
    """Time training on images with the convolution of Mnih et al. (2015), stepped on the host."""
    workers = 0 if load.world == WORLD else None
    suite = load_suite(image_env(load.world), [], workers=workers)
    agent = PPO(width=0, convolution="nature")
    return _time_host(load, suite, replace(_run_config(load), agent=agent))


def time_host_learning(load: Workload) -> Measure:
    """Time the updates of `time_host_training`, each from one and the same batch."""
    suite = load_suite(load.world, [], image="numbers")
    backend, phase, state = _host_training(load, suite, _run_config(load))
    batch = jax.tree.map(lambda x: x[:, 0], backend.record_batches(state, phase, 1, _never_stop))
    update_seeds = backend.updating(phase, state.learner)
    mixes = list(phase.mixes(0))

    def learn() -> Any:
        learner, stats, keys = state.learner, state.episode_stats, state.key
        for mix in mixes:
            learner, stats, keys, *_ = update_seeds(learner, stats, batch, keys, (), mix)
        return learner

    return timer(learn, load.steps)


def _time_host(load: Workload, suite: Suite, run_config: RunConfig) -> Measure:
    """Time training without heads in a host-stepped environment."""
    backend, phase, state = _host_training(load, suite, run_config)

    def train() -> Any:
        nonlocal state
        state, *_ = backend.train(state, phase, 0, _never_stop)
        return state.learner

    return timer(train, load.steps)


def _host_training(load: Workload, suite: Suite, run_config: RunConfig) -> tuple[Any, Phase, Any]:
    """Backend, phase and untrained state of training without heads in an environment."""
    backend = make_backend(suite.env, run_config)
    phase = Phase(one_world(suite.world), 1, load.updates, run_config.agent, Blend())
    return backend, phase, backend.init(phase)


def time_host_steps(load: Workload) -> Measure:
    """Time rollouts of untrained agents in a gymnasium environment; counts steps of all at once."""
    suite, run_config = load_suite(load.world, []), _run_config(load)
    env, count = suite.env, load.seeds * load.num_envs
    stepper = HostStepper(run_config.agent, env, load.seeds)
    keys = seed_keys(jax.random.key(0), range(load.seeds))
    init = partial(run_config.agent.init, spec=env.spec)
    learner, channel = Learner(vmap_seeds(init, load.seeds, optimise=False)(keys), ()), Channel()
    workers = choose_workers(env, count, measured_seconds(env))
    pool = HostPool(env.maker(suite.world), count, 0, name=env.id, workers=workers)
    host_obs = stepper.observe_reset(keys, by_seed(pool.reset(), load.seeds), channel)
    steps = load.num_steps * load.updates

    def roll_out() -> None:
        nonlocal host_obs
        inputs = pool, learner, host_obs, keys, channel, steps, _never_stop
        host_obs, _ = stepper.rollout(*inputs)

    return timer(roll_out, steps)


def _cartpole_training(load: Workload):
    """Backend and phase of training with some heads in CartPole (500 steps)."""
    suite = _cartpole(with_body="care" in load.heads)
    blend = Blend(**{name: weighted_head(name, suite) for name in load.heads})
    run_config = _run_config(load)
    phase = Phase(one_world(suite.world), 1, load.updates, run_config.agent, blend)
    return JaxBackend(suite.env, run_config), phase


def _run_config(load: Workload) -> RunConfig:
    """Sizes of a workload, and PPO with two layers of 64 units."""
    return RunConfig(
        PPO(width=64),
        seeds=load.seeds,
        rows=load.seeds,
        chunks=1,
        updates=load.updates,
        num_envs=load.num_envs,
        num_steps=load.num_steps,
        episodes=1,
    )


class _CartPoleWithBody(CartPole):
    """CartPole with a body and another agent's body in its info."""

    spec = Spec(obs_dim=4, num_actions=2, info=("harm", "body", "other"))

    def transition_info(self, state, action, next_state, params):
        info = super().transition_info(state, action, next_state, params)
        return info | {"body": next_state[:2], "other": {"body": next_state[2:]}}


def _cartpole(with_body: bool):
    """CartPole (500 steps), with or without bodies in its info."""
    env = (_CartPoleWithBody if with_body else CartPole)(horizon=500)
    innate = partial(Innate, fn=lambda batch: -jnp.abs(batch.next_obs[..., 2]))
    return Suite("CartPole-v1", env, World(env.get_default_params()), shifts=(), innate=innate)


def _never_stop() -> bool:
    return False


# --- parts of training ------------------------------------------------------------------------


def time_rollouts(load: Workload) -> Measure:
    """Time rollouts and episode statistics of `time_training`, without updates."""
    backend, phase = _cartpole_training(load)

    def step(state):
        key, env_states, batch = _rollout(backend, phase, state)
        stats, _ = update_stats(state.episode_stats, batch, backend.env.success)
        return state._replace(key=key, env_states=env_states, episode_stats=stats)

    return _timed_loop(load, step, backend.init(phase))


def time_updates(load: Workload) -> Measure:
    """Time updates of the agent, advantages included, from one batch of `time_training`."""
    backend, phase = _cartpole_training(load)
    config = train_config(phase, backend.run_config)

    def collect(state):
        key, _, batch = _rollout(backend, phase, state)
        return state.learner, key, batch

    def step(carry):
        learner, key, batch = carry
        key, k_update = jax.random.split(key)
        return update(config, learner, k_update, batch)[0], key, batch

    first = vmap_seeds(collect, load.seeds, optimise=False)(backend.init(phase))
    return _timed_loop(load, step, first)


def time_env_steps(load: Workload) -> Measure:
    """Time environment steps with random actions."""
    suite = load_suite(load.world)
    env, worlds = suite.env, one_world(suite.world)
    act = partial(random_actions, env.spec)

    def step(carry):
        key, env_states = carry
        key, k_rollout = jax.random.split(key)
        return key, rollout(k_rollout, env, worlds, act, env_states, load.num_steps)[0]

    reset = partial(reset_batch, env=env, worlds=worlds, num_envs=load.num_envs)
    keys = seed_keys(jax.random.key(0), range(load.seeds))
    start = keys, vmap_seeds(reset, load.seeds, optimise=False)(keys)
    return _timed_loop(load, step, start)


def _timed_loop(load: Workload, step: Callable, start: Any) -> Measure:
    """Time `load.updates` steps, each from the output of the one before; start: leaves [S, ...]."""

    def all_updates(start):
        return jax.lax.scan(lambda carry, _: (step(carry), None), start, length=load.updates)[0]

    program = vmap_seeds(all_updates, load.seeds, together=max(ENVS_AT_ONCE // load.num_envs, 1))
    return timer(partial(program, start), load.steps)


def _rollout(backend, phase, state):
    """One rollout of one seed -> (key, environment states, batch [T, B])."""
    key, k_rollout = jax.random.split(state.key)
    act = partial(phase.agent.act, state.learner.agent)
    num_steps = backend.run_config.num_steps
    return key, *rollout(k_rollout, backend.env, phase.worlds, act, state.env_states, num_steps)


# --- an arm of a comparison -------------------------------------------------------------------


def time_readouts(load: Workload) -> Measure:
    """Time the scoring of a fully trained arm and the probing of its signals."""
    return time_evaluation(load, readouts=True)


def time_evaluation(load: Workload, readouts: bool = False) -> Measure:
    """Time the scoring of a fully trained arm at all points of its suite.

    Counts steps up to the horizon; `live_share` is the share of them before the end of their
    episode.
    """
    backend, phase, points = _comparison_arm(load)
    learner = run_phase(backend, phase, partial(backend.init, phase), _never_stop).state.learner
    horizon, episodes = backend.env.horizon, backend.run_config.episodes
    steps = load.seeds * len(points.points) * episodes * horizon

    def measure():
        start = time.perf_counter()
        scores = list(backend.evaluate(learner, phase.agent, points, _never_stop))
        if readouts:
            probe_arm(backend, phase, learner, points, _never_stop)
        seconds = time.perf_counter() - start
        live_share = float(np.mean([score["length"] for score in scores])) / horizon
        return {"steps": steps, "seconds": seconds, "live_share": live_share}

    measure()
    return measure


def time_arm(load: Workload) -> Measure:
    """Time the whole training of an arm."""
    backend, phase, _ = _comparison_arm(load)
    start = partial(backend.init, phase)
    steps = load.seeds * backend.run_config.steps
    return timer(lambda: run_phase(backend, phase, start, _never_stop).state, steps)


def time_evaluation_one_by_one(load: Workload) -> Measure:
    """Time `time_evaluation` of a gymnasium environment with one point at a time."""
    host_backend.GROUPED_ENVS = 0  # of this worker process, which measures nothing else
    return time_evaluation(load)


def time_compilation(load: Workload) -> Measure:
    """Time the compilation of a training chunk: its first call less its second."""
    backend, phase, _ = _comparison_arm(load)
    chunk = partial(backend.train, backend.init(phase), phase, 0, _never_stop)

    def measure():
        start = time.perf_counter()
        call_again = timer(chunk, 0)
        first_call = time.perf_counter() - start
        return {"seconds": max(first_call - call_again()["seconds"], 1e-3)}

    return measure


def peak_memory(load: Workload) -> Measure:
    """Measure the peak memory of this process after a whole training of one arm."""
    backend, phase, _ = _comparison_arm(load)

    def measure():
        run_phase(backend, phase, partial(backend.init, phase), _never_stop)
        return {"megabytes": peak_megabytes()}

    return measure


def _comparison_arm(load: Workload):
    """Backend, phase and evaluation points of one arm of a comparison of HEADS."""
    suite, name = load_suite(load.world), load.heads[0] if load.heads else "none"
    arms = comparison_arms(HEADS, preset(suite).agent.gamma, suite)
    experiment = Experiment(
        suite,
        [arm for arm in arms if arm.name == name],
        seeds=load.seeds,
        steps=load.num_envs * load.num_steps * load.updates or None,
        num_envs=load.num_envs,
        num_steps=load.num_steps,
        episodes=load.episodes,
    )
    backend = experiment.make_backend()
    return backend, experiment.phases[name], draw_points(suite, backend.draws, 0)
