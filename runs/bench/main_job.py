"""Measure our own training, evaluation, compilation and memory, as used by `runs.compare`."""

import dataclasses
import resource
import sys
import time
from functools import partial

from runs.bench.job import WIDTH, Job, Measure, time_work


def time_training(job: Job) -> Measure:
    """Time training in CartPole (500 steps) with the backend of `runs.compare`."""
    trainer = make_trainer(job)
    run = trainer.start()
    train = partial(trainer.chunk, run, _never_stop)
    time_work(train, job.steps)
    return lambda: time_work(train, job.steps)


def make_trainer(job: Job):
    """Backend of `runs.compare` in CartPole (500 steps), with the sizes of a job."""
    from affect import Blend
    from agents.ppo import PPO
    from runs.engine.arms import Arm, weighted_head
    from runs.engine.jax_backend import JaxBackend
    from runs.engine.run_config import RunConfig

    agent, suite = PPO(width=WIDTH), _cartpole(with_body="care" in job.heads)
    blend = Blend(**{name: weighted_head(name, agent.gamma, suite) for name in job.heads})
    run_config = RunConfig(
        agent,
        seeds=job.seeds,
        rows=job.seeds,
        chunks=1,
        updates=job.updates,
        num_envs=job.num_envs,
        num_steps=job.num_steps,
        episodes=1,
    )
    return JaxBackend(suite, Arm("benchmark", blend), run_config)


def _cartpole(with_body: bool):
    """CartPole (500 steps); `with_body` adds a body and another agent's body to its info."""
    import jax.numpy as jnp

    from affect import Innate, Spec
    from envs.suite import Suite
    from envs.world import World
    from envs.worlds.classic.cartpole import CartPole

    class CartPoleWithBody(CartPole):
        spec = Spec(obs_dim=4, num_actions=2, info=("harm", "body", "other"))

        def transition_info(self, state, action, next_state, params):
            info = super().transition_info(state, action, next_state, params)
            return info | {"body": next_state[:2], "other": {"body": next_state[2:]}}

    env = (CartPoleWithBody if with_body else CartPole)(horizon=500)
    innate = partial(Innate, fn=lambda batch: -jnp.abs(batch.next_obs[..., 2]))
    return Suite("CartPole-v1", env, World(env.get_default_params()), shifts=(), innate=innate)


def time_evaluation(job: Job, readouts: bool = False) -> Measure:
    """Time the scoring of a fully trained arm at all points of its suite.

    Counts steps up to the horizon; `lived` is the share of them before the end of their episode.
    With `readouts`, the arm's signals are also probed, as in a comparison.
    """
    import numpy as np

    trainer = _comparison_trainer(job)
    run = trainer.start()
    for _ in range(trainer.run_config.chunks):
        run = trainer.chunk(run, _never_stop)[0]
    points, horizon = len(trainer.suite.points()), trainer.suite.env.horizon
    steps = trainer.run_config.seeds * points * trainer.run_config.episodes * horizon

    def measure():
        start = time.perf_counter()
        scores = list(trainer.score(run, 0, _never_stop))
        if readouts:
            trainer.ask(run, _never_stop)
        seconds = time.perf_counter() - start
        live_share = float(np.mean([score["length"] for _, score in scores])) / horizon
        return {"steps": steps, "seconds": seconds, "lived": live_share}

    measure()
    return measure


def time_compilation(job: Job) -> Measure:
    """Time the compilation of a training chunk: its first call less its second."""
    trainer = _comparison_trainer(job)
    run = trainer.start()
    chunk = partial(trainer.chunk, run, _never_stop)

    def measure():
        first, second = (time_work(chunk, 0)["seconds"] for _ in range(2))
        return {"seconds": max(first - second, 1e-3)}

    return measure


def peak_memory(job: Job) -> Measure:
    """Measure the peak memory of this process after a whole training of one arm."""
    import jax

    trainer = _comparison_trainer(job)
    start = trainer.start()

    def measure():
        run = start
        for _ in range(trainer.run_config.chunks):
            run, metrics, _ = trainer.chunk(run, _never_stop)
            jax.device_get(metrics)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"megabytes": peak / (2**20 if sys.platform == "darwin" else 2**10)}

    return measure


def _comparison_trainer(job: Job):
    """Backend of one arm, built as in `runs.compare`."""
    from runs.compare import Settings, design

    steps = job.updates * job.num_envs * job.num_steps
    settings = Settings(job.world, seeds=max(job.seeds, 3), steps=steps, episodes=job.episodes)
    suite, trainer, run_config, arms, *_ = design(settings)
    run_config = dataclasses.replace(run_config, seeds=job.seeds, rows=_rows(job.seeds))
    name = job.heads[0] if job.heads else "none"
    return trainer(suite, next(arm for arm in arms if arm.name == name), run_config)


def _rows(seeds: int) -> int:
    import jax

    return -(-seeds // len(jax.devices())) * len(jax.devices())


def _never_stop() -> bool:
    return False
