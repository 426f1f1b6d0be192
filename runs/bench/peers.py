"""PPO of other libraries, with the same task, networks and settings (extra `bench`)."""

import dataclasses
import time
from functools import partial
from typing import Any

from runs.bench.job import WIDTH, Job, Measure, time_work


def rejax(job: Job) -> Measure:
    """Time Rejax's PPO, all seeds under `vmap`, without its evaluations."""
    import jax
    import jax.numpy as jnp
    from rejax import get_algo

    from agents.ppo import PPO

    agent, steps = PPO(width=WIDTH), job.num_envs * job.num_steps * job.updates
    algorithm = get_algo("ppo").create(
        env="CartPole-v1",
        total_timesteps=steps,
        num_envs=job.num_envs,
        num_steps=job.num_steps,
        num_epochs=agent.epochs,
        num_minibatches=agent.minibatches,
        learning_rate=agent.lr,
        gamma=agent.gamma,
        gae_lambda=agent.lam,
        clip_eps=agent.clip,
        ent_coef=agent.entropy,
        vf_coef=agent.critic,
        max_grad_norm=agent.max_norm,
        skip_initial_evaluation=True,
        eval_freq=steps,
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (WIDTH, WIDTH)},
    )
    algorithm = algorithm.replace(eval_callback=lambda algorithm, state, rng: jnp.zeros(()))
    keys = jax.random.split(jax.random.PRNGKey(0), job.seeds)
    train = partial(jax.jit(jax.vmap(algorithm.train)), keys)
    time_work(train, job.steps)
    return lambda: time_work(train, job.steps)


def stable_baselines3(job: Job) -> Measure:
    """Time Stable-Baselines3's PPO, with one thread or torch's default, whichever is faster."""
    import torch
    from stable_baselines3 import PPO

    model = _baseline(PPO, job, torch.nn.Tanh)
    update, rates = dataclasses.replace(job, updates=1), {}
    _learn(model, update)
    for threads in (torch.get_num_threads(), 1):
        torch.set_num_threads(threads)
        rates[threads] = _learn(model, update)["seconds"]
    torch.set_num_threads(min(rates, key=rates.get))
    return lambda: _learn(model, job)


def sbx(job: Job) -> Measure:
    """Time SBX's PPO: Stable-Baselines3 with its gradient steps in JAX."""
    import flax.linen
    from sbx import PPO

    model = _baseline(PPO, job, flax.linen.tanh)
    _learn(model, dataclasses.replace(job, updates=1))
    return lambda: _learn(model, job)


def _baseline(algorithm: Any, job: Job, activation: Any):
    """Model with Stable-Baselines3's interface, all its CartPoles in this process."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv

    from agents.ppo import PPO

    agent = PPO(width=WIDTH)
    return algorithm(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=job.num_envs, seed=0, vec_env_cls=DummyVecEnv),
        n_steps=job.num_steps,
        batch_size=job.num_envs * job.num_steps // agent.minibatches,
        n_epochs=agent.epochs,
        learning_rate=agent.lr,
        gamma=agent.gamma,
        gae_lambda=agent.lam,
        clip_range=agent.clip,
        ent_coef=agent.entropy,
        vf_coef=agent.critic,
        max_grad_norm=agent.max_norm,
        policy_kwargs={"net_arch": [WIDTH, WIDTH], "activation_fn": activation},
        device="cpu",
        seed=0,
    )


def _learn(model: Any, job: Job) -> dict[str, float]:
    steps = job.num_envs * job.num_steps * job.updates
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    return {"steps": steps, "seconds": time.perf_counter() - start}
