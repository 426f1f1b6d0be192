"""The bare machine: nothing but the matrix products and activations of PPO."""

from functools import partial
from typing import Any

from runs.bench.job import ACTIONS, OBS, WIDTH, Job, Measure, time_work


def matmul_training(job: Job) -> Measure:
    """Nothing but the matrix products and activations of `ours`, on the same devices."""
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

    A product [m, k] x [k, n] counts 2 m k n. Forward: the actor on every step as it is lived and
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
    """All updates of one seed: the products of PPO without its world, loss and optimiser.

    The networks are fitted to something of the right shape by hand-written gradient descent, so
    that every product depends on the one before it and none can be left out.
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
        obs, lived = jax.lax.scan(partial(_rollout, actor), obs, length=job.num_steps)
        old, new = (each.reshape(-1, OBS) for each in lived)
        targets = _forward(actor, old)[-1], _forward(critic, old)[-1] + _forward(critic, new)[-1]
        parts = [part.reshape(agent.minibatches, -1, part.shape[-1]) for part in (old, *targets)]
        nets = jax.lax.scan(partial(_epoch, parts), (actor, critic), length=agent.epochs)[0]
        return (nets, obs), None

    return jax.lax.scan(update, (tuple(nets), obs), length=job.updates)[0]


def _rollout(actor, obs, _):
    after = obs + 1e-6 * _forward(actor, obs)[-1][:, :1]
    return after, (obs, after)


def _epoch(parts, nets, _):
    import jax

    return jax.lax.scan(_minibatch, nets, parts)


def _minibatch(nets, part):
    obs, *targets = part
    return tuple(_sgd_step(net, obs, y) for net, y in zip(nets, targets, strict=True)), None


def _forward(net, obs):
    """Activations of all layers, the inputs first."""
    import jax.numpy as jnp

    first, second, last = net
    one = jnp.tanh(obs @ first)
    two = jnp.tanh(one @ second)
    return obs, one, two, two @ last


def _sgd_step(net, obs, target):
    """One step of gradient descent on the squared error."""
    from agents.dense_vjp import kernel_gradient

    first, second, last = net
    obs, one, two, out = _forward(net, obs)
    error = (out - target) / len(out)
    second_error = (error @ last.T) * (1 - two * two)
    first_error = (second_error @ second.T) * (1 - one * one)
    grads = (
        kernel_gradient(obs, first_error),
        kernel_gradient(one, second_error),
        kernel_gradient(two, error),
    )
    return [weights - 1e-3 * grad for weights, grad in zip(net, grads, strict=True)]
