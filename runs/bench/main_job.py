"""What we measure of our own: training, evaluation, compilation and memory of the main job."""

import dataclasses
import resource
import sys
import time
from functools import partial

from runs.bench.job import WIDTH, Job, Measure, time_work


def time_training(job: Job) -> Measure:
    """Training in CartPole with its 500 steps, by the trainer of the main job."""
    trainer = make_trainer(job)
    run = trainer.start()
    train = partial(trainer.chunk, run, _never)
    time_work(train, job.steps)
    return lambda: time_work(train, job.steps)


def make_trainer(job: Job):
    """The trainer of the main job, in CartPole with its 500 steps, for the sizes of a job."""
    from affect import Blend
    from agents.ppo import PPO
    from runs.engine.arms import Arm, weighted_head
    from runs.engine.jax_backend import JaxBackend
    from runs.engine.run_config import RunConfig

    agent, suite = PPO(width=WIDTH), _cartpole(telling="care" in job.heads)
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


def _cartpole(telling: bool):
    """CartPole with 500 steps; `telling`, it also reports a body and another's seat, its own."""
    import jax.numpy as jnp

    from affect import Innate, Spec
    from envs.suite import Suite
    from envs.world import World
    from envs.worlds.classic.cartpole import CartPole

    class Telling(CartPole):
        spec = Spec(obs_dim=4, num_actions=2, info=("harm", "body", "other"))

        def transition_info(self, state, action, next_state, params):
            told = super().transition_info(state, action, next_state, params)
            return told | {"body": next_state[:2], "other": {"body": next_state[2:]}}

    env = (Telling if telling else CartPole)(horizon=500)
    lean = partial(Innate, fn=lambda batch: -jnp.abs(batch.next_obs[..., 2]))
    return Suite("CartPole-v1", env, World(env.get_default_params()), shifts=(), innate=lean)


def time_evaluation(job: Job, ask: bool = False) -> Measure:
    """Scoring an arm of the main job, trained to its end, at all points of its suite.

    Counts steps up to the horizon; `lived` is the share of them before an episode's end. If it is
    to `ask`, the arm's signals are also asked what they know, as a comparison does.
    """
    import numpy as np

    trainer = _main_job(job)
    run = trainer.start()
    for _ in range(trainer.run_config.chunks):
        run = trainer.chunk(run, _never)[0]
    points, horizon = len(trainer.suite.points()), trainer.suite.env.horizon
    steps = trainer.run_config.seeds * points * trainer.run_config.episodes * horizon

    def measure():
        began = time.perf_counter()
        scores = list(trainer.score(run, 0, _never))
        if ask:
            trainer.ask(run, _never)
        seconds = time.perf_counter() - began
        lived = float(np.mean([score["length"] for _, score in scores])) / horizon
        return {"steps": steps, "seconds": seconds, "lived": lived}

    measure()
    return measure


def time_compilation(job: Job) -> Measure:
    """The first call of the main job's training chunk, less what a second one takes."""
    trainer = _main_job(job)
    run = trainer.start()
    chunk = partial(trainer.chunk, run, _never)

    def measure():
        first, second = (time_work(chunk, 0)["seconds"] for _ in range(2))
        return {"seconds": max(first - second, 1e-3)}

    return measure


def peak_memory(job: Job) -> Measure:
    """The most memory this process ever held, after a whole training of the main job."""
    import jax

    trainer = _main_job(job)
    start = trainer.start()

    def measure():
        run = start
        for _ in range(trainer.run_config.chunks):
            run, metrics, _ = trainer.chunk(run, _never)
            jax.device_get(metrics)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"megabytes": peak / (2**20 if sys.platform == "darwin" else 2**10)}

    return measure


def _main_job(job: Job):
    """A trainer of one arm, as `runs.compare` makes it."""
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


def _never() -> bool:
    return False
