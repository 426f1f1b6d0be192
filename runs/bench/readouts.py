"""What it costs to ask all readouts of the same points and episodes that are scored anyway."""

from functools import partial

from runs.bench.job import Job, Measure, timed
from runs.bench.ours import _main_job


def readouts(job: Job) -> Measure:
    """A survey of an arm of the main job, at all points of its suite: scores and all readouts.

    The trainer, its episodes and what is acted are those of `evaluation`; it is counted alike.
    """
    import jax
    import numpy as np

    from runs.asking.readouts import survey
    from runs.harness.jitted import DRAWS
    from runs.harness.train import over_seeds, seed_keys

    trainer = _main_job(job)
    plan, suite = trainer.plan, trainer.suite
    run, draws = trainer.start(), min(DRAWS, plan.episodes)
    for _ in range(min(5, plan.chunks)):
        run = trainer.chunk(run, lambda: False)[0]
    asked = partial(survey, setup=trainer.setup, env=suite.env, episodes=plan.episodes // draws)
    program = over_seeds(asked, plan.rows, shared=2, together=1)
    worlds = suite.worlds(jax.random.key(plan.base + 1), draws)
    made, key = seed_keys(0, np.arange(plan.rows)), jax.random.key(plan.base + 2)
    steps = plan.seeds * len(suite.points()) * plan.episodes * suite.env.horizon
    work = partial(program, run.learner, made, worlds, key)
    timed(work, steps)
    return lambda: timed(work, steps)
