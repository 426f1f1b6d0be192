"""What the benchmark measures: ours, the peers and the bare machine, in processes of their own.

`python -m runs.harness.peers` obeys one command a line: `["prepare", job]` builds, compiles and
warms up, `["measure", job]` does it once, `["describe"]` names the machine. It answers each with
one line of JSON and is idle in between, so that two processes can be measured alternately without
a thread of one in the way of the other.
"""

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

OBS, ACTIONS, WIDTH = 4, 2, 64  # of CartPole and of the networks


@dataclasses.dataclass(frozen=True)
class Job:
    """One thing to measure.

    Attributes:
        kind: a key of `KINDS`.
        seeds: training runs at once.
        updates: in one measurement; in the kinds of the main job, of the whole training, 0 for
            as many as it has.
        num_envs: environments a seed.
        num_steps: steps in each of them an update.
        heads: of a blend, by the names of `runs.harness.arms`; in the kinds of the main job the
            first one is the arm.
        episodes: at each point of an evaluation.
    """

    kind: str
    seeds: int
    updates: int
    num_envs: int = 64
    num_steps: int = 128
    heads: tuple[str, ...] = ()
    episodes: int = 256

    @property
    def steps(self) -> int:
        """Environment steps of all seeds in one measurement."""
        return self.seeds * self.num_envs * self.num_steps * self.updates


Measure = Callable[[], dict[str, float]]  # does it once, and says how much in how long


def timed(work: Callable[[], Any], steps: int) -> dict[str, float]:
    """How long the work takes, finished -> {steps, seconds}."""
    import jax

    began = time.perf_counter()
    jax.block_until_ready(work())
    return {"steps": steps, "seconds": time.perf_counter() - began}


# --- ours -------------------------------------------------------------------------------------


def ours(job: Job) -> Measure:
    """Training in CartPole with its 500 steps, by the trainer of the main job."""
    from affect import Blend
    from agents.ppo import PPO
    from envs.cartpole import CartPole
    from envs.suite import Suite
    from envs.world import World
    from runs.harness.arms import Arm, head
    from runs.harness.jitted import Jitted
    from runs.harness.plan import Plan

    agent, env = PPO(width=WIDTH), CartPole(horizon=500)
    blend = Blend(**{name: head(name, agent.gamma) for name in job.heads})
    plan = Plan(
        agent,
        seeds=job.seeds,
        rows=job.seeds,
        chunks=1,
        updates=job.updates,
        num_envs=job.num_envs,
        num_steps=job.num_steps,
        episodes=1,
    )
    suite = Suite("CartPole-v1", env, World(env.get_default_params()), shifts=())
    trainer = Jitted(suite, Arm("benchmark", blend), plan)
    run = trainer.start()
    train = partial(trainer.chunk, run, _never)
    timed(train, job.steps)
    return lambda: timed(train, job.steps)


def evaluation(job: Job) -> Measure:
    """Scoring an arm of the main job, trained for a while, at all points of its suite.

    Counts the steps computed; `lived` is the share of them before an episode's end.
    """
    import numpy as np

    trainer = _main_job(job)
    run = trainer.start()
    for _ in range(min(5, trainer.plan.chunks)):
        run = trainer.chunk(run, _never)[0]
    points, horizon = len(trainer.suite.points()), trainer.suite.env.horizon
    steps = trainer.plan.seeds * points * trainer.plan.episodes * horizon

    def measure():
        began = time.perf_counter()
        scores = list(trainer.score(run, 0, _never))
        seconds = time.perf_counter() - began
        lived = float(np.mean([score["length"] for _, score in scores])) / horizon
        return {"steps": steps, "seconds": seconds, "lived": lived}

    measure()
    return measure


def compilation(job: Job) -> Measure:
    """The first call of the main job's training chunk, less what a second one takes."""
    trainer = _main_job(job)
    run = trainer.start()
    chunk = partial(trainer.chunk, run, _never)

    def measure():
        first, second = (timed(chunk, 0)["seconds"] for _ in range(2))
        return {"seconds": max(first - second, 1e-3)}

    return measure


def memory(job: Job) -> Measure:
    """The most memory this process ever held, after a whole training of the main job."""
    import jax

    trainer = _main_job(job)
    start = trainer.start()

    def measure():
        run = start
        for _ in range(trainer.plan.chunks):
            run, metrics, _ = trainer.chunk(run, _never)
            jax.device_get(metrics)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"megabytes": peak / (2**20 if sys.platform == "darwin" else 2**10)}

    return measure


def _main_job(job: Job):
    """A trainer of one arm, as `runs.compare` makes it."""
    from runs.compare import Settings, design

    steps = job.updates * job.num_envs * job.num_steps
    settings = Settings(seeds=max(job.seeds, 3), steps=steps, episodes=job.episodes)
    suite, trainer, plan, arms = design(settings)
    plan = dataclasses.replace(plan, seeds=job.seeds, rows=_rows(job.seeds))
    name = job.heads[0] if job.heads else "none"
    return trainer(suite, next(arm for arm in arms if arm.name == name), plan)


def _rows(seeds: int) -> int:
    import jax

    return -(-seeds // len(jax.devices())) * len(jax.devices())


def _never() -> bool:
    return False


# --- the peers: the same task, networks and settings --------------------------------------------


def rejax(job: Job) -> Measure:
    """Rejax's PPO, seeds `vmap`ped, without its evaluations."""
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
    timed(train, job.steps)
    return lambda: timed(train, job.steps)


def stable_baselines3(job: Job) -> Measure:
    """Stable-Baselines3's PPO, with one thread or as many as torch likes, whichever is faster."""
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
    """SBX's PPO: Stable-Baselines3 with its gradient steps in JAX."""
    import flax.linen
    from sbx import PPO

    model = _baseline(PPO, job, flax.linen.tanh)
    _learn(model, dataclasses.replace(job, updates=1))
    return lambda: _learn(model, job)


def _baseline(algorithm: Any, job: Job, activation: Any):
    """A model of Stable-Baselines3's interface on 64 CartPoles in this process."""
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
    began = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    return {"steps": steps, "seconds": time.perf_counter() - began}


# --- the bare machine ---------------------------------------------------------------------------


def ceiling(job: Job) -> Measure:
    """Nothing but the matrix products and activations of `ours`, on the same devices."""
    import jax
    import numpy as np

    from agents.ppo import PPO
    from runs.harness.train import over_seeds, seed_keys

    agent = PPO(width=WIDTH)
    program = over_seeds(partial(bare, agent=agent, job=job), job.seeds)
    keys = jax.block_until_ready(seed_keys(0, np.arange(job.seeds)))
    run = partial(program, keys)
    timed(run, job.steps)
    flops = float(job.seeds * job.updates * products(agent, job))
    return lambda: timed(run, job.steps) | {"flops": flops}


def products(agent: Any, job: Job) -> int:
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


def bare(key: Any, agent: Any, job: Job):
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
        obs, lived = jax.lax.scan(partial(_live, actor), obs, length=job.num_steps)
        old, new = (each.reshape(-1, OBS) for each in lived)
        targets = _forward(actor, old)[-1], _forward(critic, old)[-1] + _forward(critic, new)[-1]
        parts = [part.reshape(agent.minibatches, -1, part.shape[-1]) for part in (old, *targets)]
        nets = jax.lax.scan(partial(_epoch, parts), (actor, critic), length=agent.epochs)[0]
        return (nets, obs), None

    return jax.lax.scan(update, (tuple(nets), obs), length=job.updates)[0]


def _live(actor, obs, _):
    after = obs + 1e-6 * _forward(actor, obs)[-1][:, :1]
    return after, (obs, after)


def _epoch(parts, nets, _):
    import jax

    return jax.lax.scan(_minibatch, nets, parts)


def _minibatch(nets, part):
    obs, *targets = part
    return tuple(_descend(net, obs, y) for net, y in zip(nets, targets, strict=True)), None


def _forward(net, obs):
    """Activations of all layers, the inputs first."""
    import jax.numpy as jnp

    first, second, last = net
    one = jnp.tanh(obs @ first)
    two = jnp.tanh(one @ second)
    return obs, one, two, two @ last


def _descend(net, obs, target):
    """One step of gradient descent on the squared error."""
    first, second, last = net
    obs, one, two, out = _forward(net, obs)
    error = (out - target) / len(out)
    second_error = (error @ last.T) * (1 - two * two)
    first_error = (second_error @ second.T) * (1 - one * one)
    grads = obs.T @ first_error, one.T @ second_error, two.T @ error
    return [weights - 1e-3 * grad for weights, grad in zip(net, grads, strict=True)]


# --- the process ----------------------------------------------------------------------------------

PEERS = {"rejax": rejax, "stable_baselines3": stable_baselines3, "sbx": sbx}  # by their modules
OURS = {
    "ours": ours,
    "evaluation": evaluation,
    "compilation": compilation,
    "memory": memory,
    "ceiling": ceiling,
}
KINDS: dict[str, Callable[[Job], Measure]] = OURS | PEERS


def serve() -> None:
    """Obeys until its input ends; an error is an answer too."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    prepared: dict[Job, Measure] = {}
    for line in sys.stdin:
        try:
            answer = obey(prepared, *json.loads(line))
        except Exception as error:
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        answers.write(json.dumps(answer) + "\n")


def obey(prepared: dict[Job, Measure], verb: str, fields: dict | None = None) -> dict:
    """Does what one line says -> the answer."""
    from runs.harness import devices

    if verb == "describe":
        devices.prepare()
        return devices.describe()
    job = Job(**fields | {"heads": tuple(fields["heads"])})
    if verb == "measure":
        return prepared[job]()
    if job.kind in OURS:
        devices.prepare()
    prepared[job] = KINDS[job.kind](job)
    return {}


if __name__ == "__main__":
    serve()
