"""T1, T3, T4, T14: what shaping must leave alone, and what a feeling must reach.

T1, T3 and T4 are identities, checked on random experience with episodes that end either way. T14 is
checked in the central path itself: PPO on CartPole, feelings and all.
"""

import tempfile
from collections.abc import Iterator
from functools import cache, partial

from runs.theory.target import Target

GAMMA, LAM = 0.99, 0.95
SEEDS, UPDATES = 2, 4


def targets(smoke: bool) -> Iterator[Target]:
    """All of them take seconds, so the quick half is the whole."""
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
    """(head, its signal [T, B] on a batch)."""
    import jax

    from affect import Spec, build

    spec = Spec(obs_dim=batch.obs.shape[-1], num_actions=2, info=tuple(batch.info))
    head = build(factory, spec, jax.random.key(0))
    state = head.initial_state(batch.reward.shape[1])
    return head, jax.jit(lambda state, batch: head(state, batch)[0])(state, batch)


def advantages() -> Iterator[Target]:
    """T1: a critic that knows the potential has the advantages of one that never felt it."""
    import jax.numpy as jnp
    import numpy as np

    from affect import Fear, Potential
    from agents.gae import gae

    batch = experience(seed=1, steps=64)
    head, signal = head_signal(Potential(Fear, gamma=GAMMA), batch)
    ahead, _ = head.inner((), batch)
    here, _ = head.inner((), batch._replace(next_obs=batch.obs))
    noise = np.random.default_rng(2).normal(0, 0.3, (2, *batch.reward.shape))
    value, next_value = map(jnp.asarray, noise.astype(np.float32))

    def advantage(reward, value, next_value):
        channels = (x[..., None] for x in (reward, value, next_value))
        return gae(*channels, batch.terminated, batch.truncated, jnp.array([GAMMA]), LAM)

    reward = 0.3 * batch.reward
    plain = advantage(reward, value, next_value)
    paid = GAMMA * ahead
    shaped = {
        "the potential that Fear emits": signal,
        "phi not 0 beyond a terminal step": signal + paid * batch.terminated,
        "phi zeroed where an episode is cut": signal - paid * batch.truncated,
    }
    for what, extra in shaped.items():
        felt = advantage(reward + extra, value - here, next_value - ahead)
        error = float(jnp.abs(plain - felt).max())
        exact = extra is signal
        yield Target(
            "T1",
            f"GAE(r + F, V - phi) - GAE(r, V), {what}",
            "< 1e-6" if exact else "> 0.1 (it must break)",
            f"{error:.1e}" if exact else f"{error:.2f}",
            error < 1e-6 if exact else error > 0.1,
        )


def grm_sums() -> Target:
    """T3: the discounted sum of what GRM pays in an episode is 0, whatever is felt."""
    import numpy as np

    from affect import GRM, Fear, Innate, Mood

    batch = experience(seed=3, steps=160)
    ended = np.asarray(batch.terminated | batch.truncated)
    worst, episodes = 0.0, 0
    for factory, delays in (
        (partial(Innate, fn=_paid), range(1, 9)),
        (Fear, (1, 5)),
        (Mood, (3, 8)),
    ):
        _, felt = head_signal(factory, batch)
        for delay in delays:
            _, signal = head_signal(GRM(factory, delay=delay, gamma=GAMMA), batch)
            sums = list(discounted(np.asarray(signal), np.asarray(felt), ended))
            worst = max(worst, *(abs(left) / size for left, size in sums))
            episodes += len(sums)
    return Target(
        "T3",
        "GRM, discounted sum over an episode; delays 1 to 8, three feelings",
        "0, < 1e-6 of the sum of |feeling|",
        f"{worst:.1e} at most in {episodes:,} episodes",
        worst < 1e-6,
    )


def discounted(signal, felt, ended):
    """Yields (discounted sum of signal, the same of |felt|) of every episode that ends."""
    import numpy as np

    for b in range(ended.shape[1]):
        start = 0
        for t in np.flatnonzero(ended[:, b]):
            discount = GAMMA ** np.arange(t + 1 - start)
            size = (discount * np.abs(felt[start : t + 1, b])).sum()
            if size > 0:  # Mood feels nothing in an episode of one step
                yield float((discount * signal[start : t + 1, b]).sum()), float(size)
            start = t + 1


def _paid(batch):
    return batch.reward


def drive() -> Target:
    """T4: Keramati & Gutkin's reward is a potential and a little more."""
    import numpy as np

    from affect import Homeostasis, Potential

    batch = experience(seed=4, steps=64)
    homeostasis = partial(Homeostasis, setpoint=(0.5, -1.0, 2.0))
    _, shaped = head_signal(Potential(homeostasis, gamma=GAMMA), batch)
    body = np.asarray(batch.info["body"], np.float64)
    drives = np.linalg.norm(body - np.array([0.5, -1.0, 2.0]), axis=-1)
    inside = ~np.asarray(batch.first | batch.terminated)[1:]
    reduction = (drives[:-1] - drives[1:])[inside]
    ours = (np.asarray(shaped) - (1 - GAMMA) * drives)[1:][inside]
    error = np.abs(ours - reduction).max() / drives.max()
    return Target(
        "T4",
        "drive reduction = potential of -D + (1 - gamma)(-D'), inside an episode",
        "difference < 1e-6 of the largest D",
        f"{error:.1e} over {inside.sum():,} steps",
        bool(error < 1e-6),
    )


# --- the control ------------------------------------------------------------------------------


@cache
def training_programs(*names: str):
    """(start, live): PPO on CartPole, its feelings' weights [K] given as data.

    `start` makes runs [S] of keys [S] and weights, `live` adds a few updates; compiled apart, as
    a study does.
    """
    from affect import Blend, Curiosity, Fear, Hope, Lesion
    from agents.ppo import PPO
    from envs.world import World
    from envs.worlds.classic.cartpole import CartPole
    from runs.engine.train import TrainConfig, init_runner, train, vmap_seeds

    blend_state = {"fear": Fear, "hope": Hope, "curiosity": Lesion(Curiosity)}
    blend = Blend(**{name: (1.0, blend_state[name]) for name in names})
    env = CartPole()
    worlds = partial(_same, World(env.get_default_params()))
    config = TrainConfig(PPO(width=16, epochs=2, lr=1e-3), blend, num_envs=4, num_steps=32)

    def start(key, weights):
        run = init_runner(key, config, env, worlds)
        blend_state = run.learner.blend_state._replace(weights=weights)
        return run._replace(learner=run.learner._replace(blend_state=blend_state))

    def live(run):
        return train(run, config, env, worlds, UPDATES)[0]

    return vmap_seeds(start, SEEDS, shared=1, optimise=False), vmap_seeds(live, SEEDS)


def _same(world, key):
    return world


def lesion_control() -> Iterator[Target]:
    """T14: what is felt reaches the policy, and what is not felt changes no bit."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), SEEDS)
    start, live = training_programs("fear", "hope", "curiosity")
    begun = start(keys, jnp.array([0.0, 0.0, 1.0]))
    silent, felt = live(begun), live(start(keys, jnp.array([0.1, 0.1, 1.0])))
    start_empty, live_empty = training_programs()
    unfeeling = live_empty(start_empty(keys, jnp.zeros(0)))
    what = f"PPO on CartPole, {UPDATES} updates, {SEEDS} seeds: "

    same = _bits(_agent(silent)) == _bits(_agent(unfeeling))
    yield Target(
        "T14",
        what + "weights of 0 and a lesion against an empty blend",
        "the same policy, critic, lives and returns, bit for bit",
        "the same" if same else "different",
        same,
    )
    policies = (run.learner.agent.trained.net.actor for run in (felt, silent))
    pairs = zip(*map(jax.tree.leaves, policies), strict=True)
    moved = [_moved(one, other) for one, other in pairs if one.size]
    yield Target(
        "T14",
        what + "weights of .1 against 0",
        "every parameter array of the policy differs",
        f"moved by {min(moved):.1e} to {max(moved):.1e}",
        min(moved) > 0,
    )
    before, after = (
        run.learner.blend_state.heads["curiosity"].net.inner for run in (begun, silent)
    )
    frozen, learned = (
        _bits(getattr(before, part)) == _bits(getattr(after, part))
        for part in ("random", "predictor")
    )
    yield Target(
        "T14",
        what + "Curiosity's frozen random net, and its predictor",
        "the one never moves, the other does",
        f"{'still' if frozen else 'moved'}, {'still' if learned else 'moved'}",
        frozen and not learned,
    )
    yield resumed_run(silent, live, what)
    yield neighbour_hope()


def resumed_run(run, live, what: str) -> Target:
    """A run that is saved, restored and goes on, against one that just goes on."""
    from pathlib import Path

    from runs.engine.checkpoint import Checkpoints

    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        checkpoints.save(1, run)
        _, restored = checkpoints.restore(run)
    same = _bits(live(restored)) == _bits(live(run))
    return Target(
        "T14",
        what + "saved, restored and gone on, against gone on",
        "the same in every bit",
        "the same" if same else "different",
        same,
    )


def neighbour_hope() -> Target:
    """The neighbour's hope, while an untrained policy lives in CartPole."""
    import jax
    import numpy as np

    from affect import Hope, Sham
    from agents.ppo import PPO
    from envs.world import World, reset_batch, rollout
    from envs.worlds.classic.cartpole import CartPole

    env, agent = CartPole(), PPO(width=16)
    worlds = partial(_same, World(env.get_default_params()))

    def live(key):
        k_agent, k_begin, k_live = jax.random.split(key, 3)
        act = partial(agent.act, agent.init(k_agent, env.spec))
        env_states = reset_batch(k_begin, env, worlds, 64)
        return rollout(k_live, env, worlds, act, env_states, 512)[1]

    batch = jax.jit(live)(jax.random.key(5))
    _, theirs = head_signal(Sham(Hope), batch)
    _, own = head_signal(Hope, batch)
    theirs, own = (np.asarray(x)[128:] for x in (theirs, own))  # begun together, apart by then
    kept = (np.sort(theirs, 1) == np.sort(own, 1)).all()
    correlation = np.corrcoef(theirs.ravel(), own.ravel())[0, 1]
    return Target(
        "T14",
        "Sham(Hope) over 384 steps of 64 CartPoles, against Hope",
        "the same numbers at every step, |correlation| < .1",
        f"{'the same' if kept else 'others'}, {correlation:+.3f}",
        bool(kept and abs(correlation) < 0.1),
    )


def _agent(run):
    """What there is with feelings and without: policy, critic, lives and returns."""
    net = run.learner.agent.trained.net
    return net, run.env_states, run.episode_stats


def _moved(one, other) -> float:
    import jax.numpy as jnp

    return float(jnp.abs(one - other).max())


def _bits(tree) -> list[bytes]:
    import jax
    import numpy as np

    leaves = jax.tree.leaves(tree)
    typed = (jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves)
    pairs = zip(leaves, typed, strict=True)
    return [np.asarray(jax.random.key_data(x) if key else x).tobytes() for x, key in pairs]
