"""Ceiling on training speed: only the matrix products and activations of PPO."""

from functools import partial
from typing import Any

from runs.bench.job import ACTIONS, OBS, WIDTH, Job, Measure, time_work


def matmul_training(job: Job) -> Measure:
    """Time only the matrix products and activations of the job `ours`, on the same devices."""
    import jax
    import numpy as np

    from agents.ppo import PPO
    from runs.engine.train import seed_keys, vmap_seeds

    agent = PPO(width=WIDTH)
    program = vmap_seeds(partial(matmul_updates, agent=agent, job=job), job.seeds)
    keys = jax.block_until_ready(seed_keys(0, np.arange(job.seeds)))
    run = partial(program, keys)
    time_work(run, job.steps)
    flops = float(job.seeds * job.updates * matmul_flops(agent, job))
    return lambda: time_work(run, job.steps) | {"flops": flops}


def matmul_flops(agent: Any, job: Job) -> int:
    """Floating-point operations in the matrix products of one update of one seed without heads.

    A product [m, k] x [k, n] counts 2 m k n. Forward: the actor at every step of the rollout and
    once more for the old log-probability, the critic on every observation and its successor, and
    both in each epoch. Backward, in each epoch: every layer's weights, and its inputs but for
    the first layer's.
    """
    samples = job.num_envs * job.num_steps
    inner, total = agent.width * agent.width, 0
    for outputs, before in ((ACTIONS, 2), (1, 2)):
        first, last = OBS * agent.width, agent.width * outputs
        forward, backward = first + inner + last, first + 2 * inner + 2 * last
        total += 2 * samples * ((before + agent.epochs) * forward + agent.epochs * backward)
    return total


def matmul_updates(key: Any, agent: Any, job: Job):
    """All updates of one seed: the matrix products of PPO, no environment, loss or optimiser.

    The networks are fitted to targets of the right shape by hand-written gradient descent, so that
    every product depends on the one before it and the compiler can leave none out.
    """
    import jax
    import jax.numpy as jnp

    layers = [(OBS, agent.width), (agent.width, agent.width)]
    shapes = [[*layers, (agent.width, outputs)] for outputs in (ACTIONS, 1)]
    keys = iter(jax.random.split(key, 7))
    nets = [[jax.random.normal(next(keys), (m, n)) / jnp.sqrt(m) for m, n in net] for net in shapes]
    obs = jax.random.normal(next(keys), (job.num_envs, OBS))

    def update(carry, _):
        (actor, critic), obs = carry
        obs, transitions = jax.lax.scan(partial(_rollout, actor), obs, length=job.num_steps)
        old, new = (side.reshape(-1, OBS) for side in transitions)
        targets = _forward(actor, old)[-1], _forward(critic, old)[-1] + _forward(critic, new)[-1]
        parts = [part.reshape(agent.minibatches, -1, part.shape[-1]) for part in (old, *targets)]
        nets = jax.lax.scan(partial(_epoch, parts), (actor, critic), length=agent.epochs)[0]
        return (nets, obs), None

    return jax.lax.scan(update, (tuple(nets), obs), length=job.updates)[0]


def _rollout(actor, obs, _):
    next_obs = obs + 1e-6 * _forward(actor, obs)[-1][:, :1]
    return next_obs, (obs, next_obs)


def _epoch(parts, nets, _):
    import jax

    return jax.lax.scan(_minibatch, nets, parts)


def _minibatch(nets, part):
    obs, *targets = part
    return tuple(_sgd_step(net, obs, y) for net, y in zip(nets, targets, strict=True)), None


def _forward(net, obs):
    """Inputs and the activations of all layers, in order."""
    import jax.numpy as jnp

    first, second, last = net
    hidden_1 = jnp.tanh(obs @ first)
    hidden_2 = jnp.tanh(hidden_1 @ second)
    return obs, hidden_1, hidden_2, hidden_2 @ last


def _sgd_step(net, obs, target):
    """One step of gradient descent on the mean squared error."""
    from agents.dense_vjp import kernel_gradient

    first, second, last = net
    obs, hidden_1, hidden_2, out = _forward(net, obs)
    error = (out - target) / len(out)
    second_error = (error @ last.T) * (1 - hidden_2 * hidden_2)
    first_error = (second_error @ second.T) * (1 - hidden_1 * hidden_1)
    grads = (
        kernel_gradient(obs, first_error),
        kernel_gradient(hidden_1, second_error),
        kernel_gradient(hidden_2, error),
    )
    return [weights - 1e-3 * grad for weights, grad in zip(net, grads, strict=True)]
