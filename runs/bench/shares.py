"""Parts of training by themselves: where the time goes, and how fast a world steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

from runs.bench.job import Job, Measure, timed
from runs.bench.ours import trainer_of


def living(job: Job) -> Measure:
    """Acting, stepping and counting episodes, as in `ours`, without learning."""
    trainer = trainer_of(job)
    return _repeated(job, trainer.start(), partial(_lived, trainer=trainer))


def judging(job: Job) -> Measure:
    """Values, advantages and log-probabilities of a batch, as in `ours`."""
    return _from_a_batch(job, _judged)


def learning(job: Job) -> Measure:
    """Updates of the agent from a batch, as in `ours`; `judging` is a part of them."""
    return _from_a_batch(job, _learned)


def wandering(job: Job) -> Measure:
    """Stepping a world by random actions."""
    from envs import load_suite
    from envs.world import begin
    from runs.harness.train import over_seeds, seed_keys

    suite = load_suite(job.world)
    env, worlds = suite.env, lambda key: suite.world
    starting = partial(begin, env=env, worlds=worlds, num_envs=job.num_envs)
    keys = seed_keys(0, range(job.seeds))
    lives = over_seeds(starting, job.seeds, optimise=False)(keys)
    step = partial(_wandered, env=env, worlds=worlds, num_steps=job.num_steps)
    return _repeated(job, (keys, lives), step)


def _from_a_batch(job: Job, step: Callable) -> Measure:
    from runs.harness.train import over_seeds

    trainer = trainer_of(job)
    collecting = over_seeds(partial(_collected, trainer=trainer), job.seeds, optimise=False)
    return _repeated(job, collecting(trainer.start()), partial(step, agent=trainer.plan.agent))


def _repeated(job: Job, start: Any, step: Callable) -> Measure:
    """`step` of what it made before, in all updates of all seeds; start: leaves [S, ...]."""
    import jax

    from runs.harness.jitted import TOGETHER
    from runs.harness.train import over_seeds

    def all_updates(start):
        return jax.lax.scan(lambda now, _: (step(now), None), start, length=job.updates)[0]

    program = over_seeds(all_updates, job.seeds, together=max(TOGETHER // job.num_envs, 1))
    run = partial(program, start)
    timed(run, job.steps)
    return lambda: timed(run, job.steps)


def _rolled_out(run, trainer):
    """One rollout of a run -> (key, lives, batch)."""
    import jax

    from envs.world import rollout

    key, k_rollout = jax.random.split(run.key)
    env, world, setup = trainer.suite.env, trainer.suite.world, trainer.setup

    def act(key, obs):
        return setup.agent.act(run.learner.agent, key, obs)

    return key, *rollout(k_rollout, env, lambda _: world, act, run.lives, setup.num_steps)


def _lived(run, *, trainer):
    from runs.harness.train import count

    key, lives, batch = _rolled_out(run, trainer)
    tally, _ = count(run.tally, batch, trainer.suite.env.success)
    return run._replace(key=key, lives=lives, tally=tally)


def _collected(run, *, trainer):
    key, _, batch = _rolled_out(run, trainer)
    return run.learner.agent, key, batch


def _judged(now, *, agent):
    state, key, batch = now
    found = agent.samples(state, batch, _silence(batch))
    return state, key, batch._replace(obs=batch.obs + 1e-9 * found.advantage.mean())


def _learned(now, *, agent):
    import jax

    state, key, batch = now
    key, k_update = jax.random.split(key)
    return agent.update(state, k_update, batch, _silence(batch))[0], key, batch


def _wandered(now, *, env, worlds, num_steps):
    import jax

    from envs.world import rollout

    key, lives = now
    key, k_rollout = jax.random.split(key)

    def act(key, obs):
        return jax.random.randint(key, obs.shape[:1], 0, env.spec.num_actions)

    return key, rollout(k_rollout, env, worlds, act, lives, num_steps)[0]


def _silence(batch):
    """No signals, [T, B, 0]."""
    import jax.numpy as jnp

    return jnp.zeros((*batch.reward.shape, 0))
