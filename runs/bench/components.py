"""Time parts of training alone: rollouts, advantages, updates, and environment steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

from runs.bench.job import Job, Measure, time_work
from runs.bench.main_job import make_trainer


def time_rollouts(job: Job) -> Measure:
    """Time rollouts and episode statistics of the job `ours`, without updates."""
    trainer = make_trainer(job)
    return _repeat(job, trainer.start(), partial(_time_rollout, trainer=trainer))


def time_advantages(job: Job) -> Measure:
    """Time values, advantages and log-probabilities of one batch of the job `ours`."""
    return _repeat_on_batch(job, _advantages)


def time_updates(job: Job) -> Measure:
    """Time updates of the agent from one batch; they include `time_advantages`."""
    return _repeat_on_batch(job, _update)


def time_env_steps(job: Job) -> Measure:
    """Time environment steps with random actions."""
    from envs import load_suite
    from envs.world import reset_batch
    from runs.engine.train import seed_keys, vmap_seeds

    suite = load_suite(job.world)
    env, worlds = suite.env, lambda key: suite.world
    reset = partial(reset_batch, env=env, worlds=worlds, num_envs=job.num_envs)
    keys = seed_keys(0, range(job.seeds))
    env_states = vmap_seeds(reset, job.seeds, optimise=False)(keys)
    step = partial(_random_steps, env=env, worlds=worlds, num_steps=job.num_steps)
    return _repeat(job, (keys, env_states), step)


def _repeat_on_batch(job: Job, step: Callable) -> Measure:
    from runs.engine.train import vmap_seeds

    trainer = make_trainer(job)
    collect = vmap_seeds(partial(_collect, trainer=trainer), job.seeds, optimise=False)
    return _repeat(job, collect(trainer.start()), partial(step, agent=trainer.run_config.agent))


def _repeat(job: Job, start: Any, step: Callable) -> Measure:
    """Time `step` applied `job.updates` times to its own output; start: leaves [S, ...]."""
    import jax

    from runs.engine.jax_backend import ENVS_AT_ONCE
    from runs.engine.train import vmap_seeds

    def all_updates(start):
        return jax.lax.scan(lambda carry, _: (step(carry), None), start, length=job.updates)[0]

    program = vmap_seeds(all_updates, job.seeds, together=max(ENVS_AT_ONCE // job.num_envs, 1))
    run = partial(program, start)
    time_work(run, job.steps)
    return lambda: time_work(run, job.steps)


def _rollout(run, trainer):
    """One rollout of a run -> (key, env_states, batch)."""
    import jax

    from envs.world import rollout

    key, k_rollout = jax.random.split(run.key)
    env, world, config = trainer.suite.env, trainer.suite.world, trainer.config

    def act(key, obs):
        return config.agent.act(run.learner.agent, key, obs)

    return key, *rollout(k_rollout, env, lambda _: world, act, run.env_states, config.num_steps)


def _time_rollout(run, *, trainer):
    from runs.engine.train import update_stats

    key, env_states, batch = _rollout(run, trainer)
    episode_stats, _ = update_stats(run.episode_stats, batch, trainer.suite.env.success)
    return run._replace(key=key, env_states=env_states, episode_stats=episode_stats)


def _collect(run, *, trainer):
    key, _, batch = _rollout(run, trainer)
    return run.learner.agent, key, batch


def _advantages(carry, *, agent):
    state, key, batch = carry
    samples = agent.samples(state, batch, _no_signals(batch))
    return state, key, batch._replace(obs=batch.obs + 1e-9 * samples.advantage.mean())


def _update(carry, *, agent):
    import jax

    state, key, batch = carry
    key, k_update = jax.random.split(key)
    return agent.update(state, k_update, batch, _no_signals(batch))[0], key, batch


def _random_steps(carry, *, env, worlds, num_steps):
    import jax

    from envs.world import rollout

    key, env_states = carry
    key, k_rollout = jax.random.split(key)

    def act(key, obs):
        return jax.random.randint(key, obs.shape[:1], 0, env.spec.num_actions)

    return key, rollout(k_rollout, env, worlds, act, env_states, num_steps)[0]


def _no_signals(batch):
    """Signals of a blend without heads, [T, B, 0]."""
    import jax.numpy as jnp

    return jnp.zeros((*batch.reward.shape, 0))
