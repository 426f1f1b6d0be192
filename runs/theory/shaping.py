"""T1, T3, T4, T14: invariances of potential-based shaping, and the paths by which signals act.

T1, T3 and T4 are identities, checked on random experience with terminal and truncated episodes. T14
is checked on the training code itself: PPO on CartPole with heads.
"""

import tempfile
from collections.abc import Iterator
from functools import cache, partial

from runs.theory.target import Target

GAMMA, LAM = 0.99, 0.95
SEEDS, UPDATES = 2, 4


def targets(smoke: bool) -> Iterator[Target]:
    """All targets; they take seconds, so `smoke` changes nothing."""
    del smoke
    yield from advantages()
    yield grm_sums()
    yield drive()
    yield from lesion_control()


# --- identities -------------------------------------------------------------------------------


def experience(seed: int, steps: int, envs: int = 32):
    """Random experience [T, B]; episodes last 4 steps on average and end either way."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from affect import Transition

    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, steps, envs, 4))
    terminated = rng.random((steps, envs)) < 0.12
    truncated = ~terminated & (rng.random((steps, envs)) < 0.12)
    first = np.concatenate([np.ones((1, envs), bool), (terminated | truncated)[:-1]])
    obs[1:] = np.where(first[1:, :, None], obs[1:], next_obs[:-1])
    reward, body = rng.normal(size=(steps, envs)), rng.normal(size=(steps, envs, 3)).cumsum(0)
    info = {"body": body.astype(np.float32)}
    floats = (x.astype(np.float32) for x in (obs, next_obs, reward))
    obs, next_obs, reward = floats
    action = np.zeros((steps, envs), np.int32)
    batch = Transition(obs, action, next_obs, reward, terminated, truncated, first, info)
    return jax.tree.map(jnp.asarray, batch)


def head_signal(factory, batch):
    """Build a head -> (head, its signal [T, B] on a batch)."""
    import jax

    from affect import Spec, build

    spec = Spec(obs_dim=batch.obs.shape[-1], num_actions=2, info=tuple(batch.info))
    head = build(factory, spec, jax.random.key(0))
    state = head.initial_state(batch.reward.shape[1])
    return head, jax.jit(lambda state, batch: head(state, batch)[0])(state, batch)


def advantages() -> Iterator[Target]:
    """T1: GAE with shaping and critic V - phi equals GAE without either."""
    import jax.numpy as jnp
    import numpy as np

    from affect import Fear, Potential
    from agents.gae import gae

    batch = experience(seed=1, steps=64)
    head, signal = head_signal(Potential(Fear, gamma=GAMMA), batch)
    next_potential, _ = head.inner((), batch)
    potential, _ = head.inner((), batch._replace(next_obs=batch.obs))
    noise = np.random.default_rng(2).normal(0, 0.3, (2, *batch.reward.shape))
    value, next_value = map(jnp.asarray, noise.astype(np.float32))

    def advantage(reward, value, next_value):
        channels = (x[..., None] for x in (reward, value, next_value))
        return gae(*channels, batch.terminated, batch.truncated, jnp.array([GAMMA]), LAM)

    reward = 0.3 * batch.reward
    plain = advantage(reward, value, next_value)
    discounted_next = GAMMA * next_potential
    shaped = {
        "the potential that Fear emits": signal,
        "phi not 0 beyond a terminal step": signal + discounted_next * batch.terminated,
        "phi zeroed where an episode is cut": signal - discounted_next * batch.truncated,
    }
    for name, extra in shaped.items():
        shaped_advantages = advantage(
            reward + extra, value - potential, next_value - next_potential
        )
        error = float(jnp.abs(plain - shaped_advantages).max())
        exact = extra is signal
        yield Target(
            "T1",
            f"GAE(r + F, V - phi) - GAE(r, V), {name}",
            "< 1e-6" if exact else "> 0.1 (it must break)",
            f"{error:.1e}" if exact else f"{error:.2f}",
            error < 1e-6 if exact else error > 0.1,
        )


def grm_sums() -> Target:
    """T3: the discounted sum of GRM's signal over an episode is 0, for any inner head."""
    import numpy as np

    from affect import GRM, Fear, Innate, Mood

    batch = experience(seed=3, steps=160)
    ended = np.asarray(batch.terminated | batch.truncated)
    worst, episodes = 0.0, 0
    for factory, delays in (
        (partial(Innate, fn=_task_reward), range(1, 9)),
        (Fear, (1, 5)),
        (Mood, (3, 8)),
    ):
        _, inner_signal = head_signal(factory, batch)
        for delay in delays:
            _, signal = head_signal(GRM(factory, delay=delay, gamma=GAMMA), batch)
            sums = list(discounted(np.asarray(signal), np.asarray(inner_signal), ended))
            worst = max(worst, *(abs(total) / size for total, size in sums))
            episodes += len(sums)
    return Target(
        "T3",
        "GRM, discounted sum over an episode; delays 1 to 8, three feelings",
        "0, < 1e-6 of the sum of |feeling|",
        f"{worst:.1e} at most in {episodes:,} episodes",
        worst < 1e-6,
    )


def discounted(signal, inner_signal, ended):
    """Yield (discounted sum of signal, that of |inner signal|) of every episode that ends."""
    import numpy as np

    for b in range(ended.shape[1]):
        start = 0
        for t in np.flatnonzero(ended[:, b]):
            discount = GAMMA ** np.arange(t + 1 - start)
            size = (discount * np.abs(inner_signal[start : t + 1, b])).sum()
            if size > 0:  # Mood is 0 in an episode of one step
                yield float((discount * signal[start : t + 1, b]).sum()), float(size)
            start = t + 1


def _task_reward(batch):
    return batch.reward


def drive() -> Target:
    """T4: Keramati & Gutkin's drive reduction is the potential of -D less (1 - gamma) D'."""
    import numpy as np

    from affect import Homeostasis, Potential

    batch = experience(seed=4, steps=64)
    homeostasis = partial(Homeostasis, setpoint=(0.5, -1.0, 2.0))
    _, shaped = head_signal(Potential(homeostasis, gamma=GAMMA), batch)
    body = np.asarray(batch.info["body"], np.float64)
    drives = np.linalg.norm(body - np.array([0.5, -1.0, 2.0]), axis=-1)
    mask = ~np.asarray(batch.first | batch.terminated)[1:]
    reduction = (drives[:-1] - drives[1:])[mask]
    ours = (np.asarray(shaped) - (1 - GAMMA) * drives)[1:][mask]
    error = np.abs(ours - reduction).max() / drives.max()
    return Target(
        "T4",
        "drive reduction = potential of -D + (1 - gamma)(-D'), inside an episode",
        "difference < 1e-6 of the largest D",
        f"{error:.1e} over {mask.sum():,} steps",
        bool(error < 1e-6),
    )


# --- the control ------------------------------------------------------------------------------


@cache
def training_programs(*names: str):
    """Compiled (start, update): PPO on CartPole, with the signals' weights [K] as data.

    `start` makes runs [S] from keys [S] and weights, `update` trains for a few updates; compiled
    apart, as in a study.
    """
    from affect import Blend, Curiosity, Fear, Hope, Lesion
    from agents.ppo import PPO
    from envs.world import World
    from envs.worlds.classic.cartpole import CartPole
    from runs.engine.train import TrainConfig, init_runner, train, vmap_seeds

    blend_state = {"fear": Fear, "hope": Hope, "curiosity": Lesion(Curiosity)}
    blend = Blend(**{name: (1.0, blend_state[name]) for name in names})
    env = CartPole()
    worlds = partial(_fixed_world, World(env.get_default_params()))
    config = TrainConfig(PPO(width=16, epochs=2, lr=1e-3), blend, num_envs=4, num_steps=32)

    def start(key, weights):
        run = init_runner(key, config, env, worlds)
        blend_state = run.learner.blend_state._replace(weights=weights)
        return run._replace(learner=run.learner._replace(blend_state=blend_state))

    def update(run):
        return train(run, config, env, worlds, UPDATES)[0]

    return vmap_seeds(start, SEEDS, shared=1, optimise=False), vmap_seeds(update, SEEDS)


def _fixed_world(world, key):
    return world


def lesion_control() -> Iterator[Target]:
    """T14: weighted signals reach the policy; lesioned or zero-weight heads change no bit."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), SEEDS)
    start, update = training_programs("fear", "hope", "curiosity")
    initial = start(keys, jnp.array([0.0, 0.0, 1.0]))
    zero_weight, weighted = update(initial), update(start(keys, jnp.array([0.1, 0.1, 1.0])))
    start_empty, update_empty = training_programs()
    without_heads = update_empty(start_empty(keys, jnp.zeros(0)))
    prefix = f"PPO on CartPole, {UPDATES} updates, {SEEDS} seeds: "

    same = _leaf_bytes(_training_state(zero_weight)) == _leaf_bytes(_training_state(without_heads))
    yield Target(
        "T14",
        prefix + "weights of 0 and a lesion against an empty blend",
        "the same policy, critic, lives and returns, bit for bit",
        "the same" if same else "different",
        same,
    )
    policies = (run.learner.agent.train_state.net.actor for run in (weighted, zero_weight))
    pairs = zip(*map(jax.tree.leaves, policies), strict=True)
    changes = [_max_change(leaf, other_leaf) for leaf, other_leaf in pairs if leaf.size]
    yield Target(
        "T14",
        prefix + "weights of .1 against 0",
        "every parameter array of the policy differs",
        f"moved by {min(changes):.1e} to {max(changes):.1e}",
        min(changes) > 0,
    )
    before, after = (
        run.learner.blend_state.heads["curiosity"].net.inner for run in (initial, zero_weight)
    )
    random_same, predictor_same = (
        _leaf_bytes(getattr(before, part)) == _leaf_bytes(getattr(after, part))
        for part in ("random", "predictor")
    )
    yield Target(
        "T14",
        prefix + "Curiosity's frozen random net, and its predictor",
        "the one never moves, the other does",
        f"{'still' if random_same else 'moved'}, {'still' if predictor_same else 'moved'}",
        random_same and not predictor_same,
    )
    yield resumed_run(zero_weight, update, prefix)
    yield neighbour_hope()


def resumed_run(run, update, prefix: str) -> Target:
    """T14: a run that is saved, restored and resumed, against an uninterrupted one."""
    from pathlib import Path

    from runs.engine.checkpoint import Checkpoints

    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        checkpoints.save(1, run)
        _, restored = checkpoints.restore(run)
    same = _leaf_bytes(update(restored)) == _leaf_bytes(update(run))
    return Target(
        "T14",
        prefix + "saved, restored and gone on, against gone on",
        "the same in every bit",
        "the same" if same else "different",
        same,
    )


def neighbour_hope() -> Target:
    """T14: the sham of hope against hope, for an untrained policy in CartPole."""
    import jax
    import numpy as np

    from affect import Hope, Sham
    from agents.ppo import PPO
    from envs.world import World, reset_batch, rollout
    from envs.worlds.classic.cartpole import CartPole

    env, agent = CartPole(), PPO(width=16)
    worlds = partial(_fixed_world, World(env.get_default_params()))

    def simulate(key):
        k_agent, k_reset, k_rollout = jax.random.split(key, 3)
        act = partial(agent.act, agent.init(k_agent, env.spec))
        env_states = reset_batch(k_reset, env, worlds, 64)
        return rollout(k_rollout, env, worlds, act, env_states, 512)[1]

    batch = jax.jit(simulate)(jax.random.key(5))
    _, sham = head_signal(Sham(Hope), batch)
    _, own = head_signal(Hope, batch)
    sham, own = (np.asarray(x)[128:] for x in (sham, own))  # all start alike; by then they differ
    same_values = (np.sort(sham, 1) == np.sort(own, 1)).all()
    correlation = np.corrcoef(sham.ravel(), own.ravel())[0, 1]
    return Target(
        "T14",
        "Sham(Hope) over 384 steps of 64 CartPoles, against Hope",
        "the same numbers at every step, |correlation| < .1",
        f"{'the same' if same_values else 'others'}, {correlation:+.3f}",
        bool(same_values and abs(correlation) < 0.1),
    )


def _training_state(run):
    """What exists with and without heads: policy, critic, environment states and returns."""
    net = run.learner.agent.train_state.net
    return net, run.env_states, run.episode_stats


def _max_change(leaf, other) -> float:
    """Largest absolute difference of two arrays."""
    import jax.numpy as jnp

    return float(jnp.abs(leaf - other).max())


def _leaf_bytes(tree) -> list[bytes]:
    """Bytes of every leaf of a tree."""
    import jax
    import numpy as np

    leaves = jax.tree.leaves(tree)
    typed = (jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves)
    pairs = zip(leaves, typed, strict=True)
    return [np.asarray(jax.random.key_data(x) if key else x).tobytes() for x, key in pairs]
