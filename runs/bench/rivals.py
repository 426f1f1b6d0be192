"""What our training is compared with: PPO of other libraries, and its bare matrix products.

The libraries (extra `bench`) get the same task, networks and settings.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from subprocess import PIPE, Popen
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend
from agents.dense_vjp import kernel_gradient
from agents.ppo import PPO
from envs import load_suite
from envs.host.make import make_env
from runs.bench.pixels import image_env
from runs.bench.timing import Measure, Workload, timer
from runs.engine.arms import weighted_head
from runs.engine.seeds import seed_keys, vmap_seeds

OBS, ACTIONS, WIDTH = 4, 2, 64  # of CartPole and of the networks
AGENT = PPO(width=WIDTH)
DONE = "done"  # line with which a process of `_two_processes` answers
SETTINGS = {  # by names that the libraries share
    "learning_rate": AGENT.lr,
    "gamma": AGENT.gamma,
    "gae_lambda": AGENT.lam,
    "ent_coef": AGENT.entropy,
    "vf_coef": AGENT.critic,
    "max_grad_norm": AGENT.max_norm,
}


def rejax(load: Workload) -> Measure:
    """Time Rejax's PPO, all seeds under `vmap`, without its evaluations."""
    from rejax import get_algo

    steps = load.num_envs * load.num_steps * load.updates
    algorithm = get_algo("ppo").create(
        env="CartPole-v1",
        total_timesteps=steps,
        num_envs=load.num_envs,
        num_steps=load.num_steps,
        num_epochs=AGENT.epochs,
        num_minibatches=AGENT.minibatches,
        clip_eps=AGENT.clip,
        skip_initial_evaluation=True,
        eval_freq=steps,
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (WIDTH, WIDTH)},
        **SETTINGS,
    )
    algorithm = algorithm.replace(eval_callback=lambda algorithm, state, rng: jnp.zeros(()))
    keys = jax.random.split(jax.random.PRNGKey(0), load.seeds)
    return timer(partial(jax.jit(jax.vmap(algorithm.train)), keys), load.steps)


def stable_baselines3(load: Workload, images: bool = False) -> Measure:
    """Time Stable-Baselines3's PPO, with one thread or torch's default, whichever is faster.

    On `images` it has the same convolution as ours.
    """
    import torch
    from stable_baselines3 import PPO as SB3

    measure, seconds = _learn(SB3, load, None if images else torch.nn.Tanh), {}
    for threads in (torch.get_num_threads(), 1):
        torch.set_num_threads(threads)
        seconds[threads] = measure()["seconds"]
    torch.set_num_threads(min(seconds, key=seconds.get))
    return measure


stable_baselines3_images = partial(stable_baselines3, images=True)


def stable_baselines3_thread(load: Workload) -> Measure:
    """Time Stable-Baselines3's PPO with one thread, paid by the heads of the workload if any."""
    return timer(learner(load), load.steps)


def stable_baselines3_pair(load: Workload) -> Measure:
    """Time two of Stable-Baselines3's PPOs at once, each in a process with one thread."""
    return timer(_two_processes("learner", load), 2 * load.steps)


def bare_environments(load: Workload) -> Measure:
    """Time half the environments in each of two processes, with random actions and no agent."""
    half = replace(load, seeds=load.seeds // 2)
    return timer(_two_processes("stepper", half), 2 * half.steps)


def _two_processes(work: str, load: Workload) -> Callable[[], None]:
    """Function that has two processes of one thread each do work at once, and waits for both.

    Args:
        work: name of a function below: workload -> the work, prepared, without arguments.
        load: of each process.
    """
    program = f"from runs.bench.rivals import work_on_request as w; w({work!r}, {asdict(load)})"
    command, pipes = [sys.executable, "-c", program], {"stdin": PIPE, "stdout": PIPE}
    path = os.pathsep.join(map(str, sys.path))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    workers = [Popen(command, text=True, env=environment, **pipes) for _ in range(2)]

    def work_both() -> None:
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
        for worker in workers:
            while (line := worker.stdout.readline()) != f"{DONE}\n":
                if not line:
                    raise RuntimeError(f"a process of the benchmark died: {work}")

    return work_both


def work_on_request(work: str, load: dict) -> None:
    """Work once for each line of standard input, until that is closed.

    A process of `_two_processes`; `load` has the attributes of its workload.
    """
    once = {"learner": learner, "stepper": stepper}[work](Workload(**load))
    for _ in sys.stdin:
        once()
        print(DONE, flush=True)


def learner(load: Workload) -> Callable[[], Any]:
    """Training of a model of Stable-Baselines3 with one thread, further at each call."""
    import torch
    from stable_baselines3 import PPO as SB3

    torch.set_num_threads(1)
    model = _model_of(SB3, load, torch.nn.Tanh)
    callback = None
    if load.heads:
        from affect.bridges.stable_baselines3 import AffectCallback

        callback = AffectCallback()
    return partial(model.learn, load.steps, callback, reset_num_timesteps=False)


def stepper(load: Workload) -> Callable[[], None]:
    """Steps of all environments of all seeds, one after another, with random actions."""
    envs = [make_env(load.world, image="numbers") for _ in range(load.seeds * load.num_envs)]
    steps = load.num_steps * load.updates
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
    envs[0].action_space.seed(0)
    actions = [envs[0].action_space.sample() for _ in range(steps)]

    def step_all() -> None:
        for action in actions:
            for env in envs:
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()

    return step_all


def sbx(load: Workload) -> Measure:
    """Time SBX's PPO: Stable-Baselines3 with its gradient steps in JAX."""
    import flax.linen
    from sbx import PPO as SBX

    return _learn(SBX, load, flax.linen.tanh)


def _learn(algorithm: Any, load: Workload, activation: Any) -> Measure:
    """Time an algorithm with Stable-Baselines3's interface."""
    model = _model_of(algorithm, load, activation)
    return timer(partial(model.learn, load.steps, reset_num_timesteps=False), load.steps)


def _model_of(algorithm: Any, load: Workload, activation: Any) -> Any:
    """Untrained model of an algorithm with that interface, all its environments in this process.

    Args:
        algorithm: class of the model.
        load: its sizes.
        activation: of two layers; None for convolutions over images.
    """
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv

    env = {"CartPole": "CartPole-v1"}.get(load.world, load.world)
    if env.startswith("MiniGrid"):  # its observations are flattened as ours are
        env = partial(make_env, env, image="numbers")
    policy, networks = "MlpPolicy", {"net_arch": [WIDTH, WIDTH], "activation_fn": activation}
    if activation is None:  # the layers of Mnih et al. (2015)
        policy, networks, env = "CnnPolicy", {}, image_env(load.world)
    venv = make_vec_env(env, n_envs=load.num_envs, seed=0, vec_env_cls=DummyVecEnv)
    if load.heads:
        from affect.bridges.stable_baselines3 import VecAffectReward

        suite = load_suite(load.world)
        blend = Blend(**{name: weighted_head(name, suite) for name in load.heads})
        venv = VecAffectReward(venv, blend)
    return algorithm(
        policy,
        venv,
        n_steps=load.num_steps,
        batch_size=load.num_envs * load.num_steps // AGENT.minibatches,
        n_epochs=AGENT.epochs,
        clip_range=AGENT.clip,
        policy_kwargs=networks,
        device="cpu",
        seed=0,
        **SETTINGS,
    )


# --- bare environments ------------------------------------------------------------------------


def time_vector_steps(load: Workload) -> Measure:
    """Time gymnasium's vector of all environments of all seeds with random actions, no agent."""
    count, steps = load.seeds * load.num_envs, load.num_steps * load.updates
    envs = gymnasium.make_vec(load.world, count, vectorization_mode="sync")
    actions = np.random.default_rng(0).integers(envs.single_action_space.n, size=(steps, count))

    def step_all() -> None:
        envs.reset(seed=0)
        for action in actions:
            envs.step(action)

    return timer(step_all, steps)


# --- bare matrix products ---------------------------------------------------------------------


def time_products(load: Workload) -> Measure:
    """Time only the matrix products and activations of the kind `ours`, on the same devices."""
    program = vmap_seeds(partial(product_updates, agent=AGENT, load=load), load.seeds)
    keys = jax.block_until_ready(seed_keys(jax.random.key(0), range(load.seeds)))
    return timer(partial(program, keys), load.steps)


def product_updates(key: Any, agent: Any, load: Workload):
    """All updates of one seed: the matrix products of PPO, no environment, loss or optimiser.

    The networks are fitted to targets of the right shape by hand-written gradient descent, so that
    every product depends on the one before it and the compiler can leave none out.
    """
    layers = [(OBS, agent.width), (agent.width, agent.width)]
    shapes = [[*layers, (agent.width, outputs)] for outputs in (ACTIONS, 1)]
    keys = iter(jax.random.split(key, 7))
    nets = [[jax.random.normal(next(keys), (m, n)) / jnp.sqrt(m) for m, n in net] for net in shapes]
    obs = jax.random.normal(next(keys), (load.num_envs, OBS))

    def update(carry, _):
        (actor, critic), obs = carry
        obs, transitions = jax.lax.scan(partial(_rollout, actor), obs, length=load.num_steps)
        old, new = (side.reshape(-1, OBS) for side in transitions)
        targets = _forward(actor, old)[-1], _forward(critic, old)[-1] + _forward(critic, new)[-1]
        parts = [part.reshape(agent.minibatches, -1, part.shape[-1]) for part in (old, *targets)]
        nets = jax.lax.scan(partial(_epoch, parts), (actor, critic), length=agent.epochs)[0]
        return (nets, obs), None

    return jax.lax.scan(update, (tuple(nets), obs), length=load.updates)[0]


def _rollout(actor, obs, _):
    next_obs = obs + 1e-6 * _forward(actor, obs)[-1][:, :1]
    return next_obs, (obs, next_obs)


def _epoch(parts, nets, _):
    return jax.lax.scan(_minibatch, nets, parts)


def _minibatch(nets, part):
    obs, *targets = part
    return tuple(_sgd_step(net, obs, y) for net, y in zip(nets, targets, strict=True)), None


def _forward(net, obs):
    """Inputs and the activations of all layers, in order."""
    first, second, last = net
    hidden_1 = jnp.tanh(obs @ first)
    hidden_2 = jnp.tanh(hidden_1 @ second)
    return obs, hidden_1, hidden_2, hidden_2 @ last


def _sgd_step(net, obs, target):
    """One step of gradient descent on the mean squared error."""
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
