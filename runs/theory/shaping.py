"""T1 to T4: identities of potential-based shaping, checked on random experience.

T2 (Wiewiora, 2003): Q-learning with the shaping reward gamma phi(s') - phi(s) and Q-learning
without it from Q0(s, a) = phi(s) learn the same from the same experience: the tables always differ
by phi. Experience has terminal and truncated ends; the potential beyond a terminal step is 0, as
its value is.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from affect import GRM, Fear, Homeostasis, Innate, Mood, Potential, Spec, Transition
from agents.gae import gae
from agents.qlearning import QLearning, QState, one_hot_row
from runs.theory import Target
from runs.theory.simulation import head_output

GAMMA, LAM = 0.99, 0.95
STATES, ACTIONS, UPDATES = 12, 3, 20_000  # of T2


def targets(smoke: bool) -> Iterator[Target]:
    """All targets; they take seconds, so `smoke` changes nothing."""
    del smoke
    yield from advantages()
    yield initial_values()
    yield grm_sums()
    yield drive_reduction()


def experience(seed: int, steps: int, envs: int = 32) -> Transition:
    """Random experience [T, B]; episodes last 4 steps on average and end either way."""
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, steps, envs, 4))
    terminated = rng.random((steps, envs)) < 0.12
    truncated = ~terminated & (rng.random((steps, envs)) < 0.12)
    first = np.concatenate([np.ones((1, envs), bool), (terminated | truncated)[:-1]])
    obs[1:] = np.where(first[1:, :, None], obs[1:], next_obs[:-1])
    reward, body = rng.normal(size=(steps, envs)), rng.normal(size=(steps, envs, 3)).cumsum(0)
    info = {"body": body.astype(np.float32)}
    obs, next_obs, reward = (x.astype(np.float32) for x in (obs, next_obs, reward))
    action = np.zeros((steps, envs), np.int32)
    batch = Transition(obs, action, next_obs, reward, terminated, truncated, first, info)
    return jax.tree.map(jnp.asarray, batch)


# --- T1: advantages ---------------------------------------------------------------------------


def advantages() -> Iterator[Target]:
    """T1: GAE with shaping and critic V - phi equals GAE without either."""
    batch = experience(seed=1, steps=64)
    head, signal, _ = head_output(Potential(Fear, gamma=GAMMA), batch)
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
        with_phi = advantage(reward + extra, value - potential, next_value - next_potential)
        error = float(jnp.abs(plain - with_phi).max())
        exact = extra is signal
        yield Target(
            "T1",
            f"GAE(r + F, V - phi) - GAE(r, V), {name}",
            "< 1e-6" if exact else "> 0.1 (it must break)",
            f"{error:.1e}" if exact else f"{error:.2f}",
            error < 1e-6 if exact else error > 0.1,
        )


# --- T2: initial values -----------------------------------------------------------------------


def initial_values() -> Target:
    """T2: the largest difference after 20,000 updates, also with two wrong potentials."""
    exact, truncated, terminal = map(table_difference, ("", "truncated", "terminal"))
    return Target(
        "T2",
        "Q-learning with a potential less one begun at Q0 = phi, 20,000 updates",
        "< 1e-5",
        f"{exact:.1e}; phi zeroed on truncation {truncated:.2f}, "
        f"not zeroed at a terminal {terminal:.2f}",
        exact < 1e-5 and min(truncated, terminal) > 0.1,
    )


def table_difference(broken: str) -> float:
    """Largest |Q + phi - Q'| of a table: Q learned with the potential, Q' from Q0 = phi.

    Args:
        broken: "" for correct shaping; "truncated" for phi = 0 beyond a truncation, "terminal" for
            phi kept beyond a terminal step.
    """
    phi = jnp.asarray(np.random.default_rng(0).normal(size=STATES), jnp.float32)
    batch, agent = random_walk(0), QLearning(states=STATES, cell=one_hot_row)
    ends = {
        "": batch.terminated,
        "truncated": batch.terminated | batch.truncated,
        "terminal": jnp.zeros_like(batch.terminated),
    }
    inner = partial(Innate, fn=lambda now: phi[one_hot_row(now.next_obs)])
    head_batch = batch._replace(terminated=ends[broken])
    shaped = head_output(Potential(inner, gamma=agent.gamma), head_batch).signal
    zero_state = agent.init(jax.random.key(0), Spec(obs_dim=STATES, num_actions=ACTIONS))
    phi_state = QState(jnp.broadcast_to(phi[:, None], zero_state.table.shape))
    update = jax.jit(agent.update)
    key, no_signal = jax.random.key(0), jnp.zeros((*batch.reward.shape, 1))
    shaped_result, _ = update(zero_state, key, batch, shaped[..., None])
    plain_result, _ = update(phi_state, key, batch, no_signal)
    return float(jnp.abs(shaped_result.table + phi_state.table - plain_result.table).max())


def random_walk(seed: int) -> Transition:
    """Random walk [20,000, 1] in a random environment, with ends of both kinds."""
    rng = np.random.default_rng(seed)
    successors = rng.integers(STATES, size=(STATES, ACTIONS))
    rewards = rng.normal(size=(STATES, ACTIONS))
    actions = rng.integers(ACTIONS, size=UPDATES)
    ends = rng.random(UPDATES)
    terminated, truncated = ends < 0.05, (ends >= 0.05) & (ends < 0.1)
    done = terminated | truncated
    states = np.zeros(UPDATES + 1, int)
    next_states = np.zeros(UPDATES, int)
    for t, action in enumerate(actions):
        next_states[t] = successors[states[t], action]
        states[t + 1] = rng.integers(STATES) if done[t] else next_states[t]
    batch = Transition(
        obs=np.eye(STATES, dtype=np.float32)[states[:-1]],
        action=actions.astype(np.int32),
        next_obs=np.eye(STATES, dtype=np.float32)[next_states],
        reward=rewards[states[:-1], actions].astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        first=np.concatenate([[True], done[:-1]]),
    )
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[:, None], batch)


# --- T3, T4: GRM and drive reduction ----------------------------------------------------------


def grm_sums() -> Target:
    """T3: the discounted sum of GRM's signal over an episode is 0, for any inner head."""
    batch = experience(seed=3, steps=160)
    ended = np.asarray(batch.terminated | batch.truncated)
    worst, episodes = 0.0, 0
    for factory, delays in (
        (partial(Innate, fn=lambda batch: batch.reward), range(1, 9)),
        (Fear, (1, 5)),
        (Mood, (3, 8)),
    ):
        inner_signal = np.asarray(head_output(factory, batch).signal)
        for delay in delays:
            signal = np.asarray(head_output(GRM(factory, delay=delay, gamma=GAMMA), batch).signal)
            sums = list(episode_sums(signal, inner_signal, ended))
            worst = max(worst, *(abs(total) / size for total, size in sums))
            episodes += len(sums)
    return Target(
        "T3",
        "GRM, discounted sum over an episode; delays 1 to 8, three feelings",
        "0, < 1e-6 of the sum of |feeling|",
        f"{worst:.1e} at most in {episodes:,} episodes",
        worst < 1e-6,
    )


def episode_sums(
    signal: np.ndarray, inner_signal: np.ndarray, ended: np.ndarray
) -> Iterator[tuple[float, float]]:
    """Yield (discounted sum of signal, that of |inner signal|) of every episode that ends."""
    for b in range(ended.shape[1]):
        start = 0
        for t in np.flatnonzero(ended[:, b]):
            discount = GAMMA ** np.arange(t + 1 - start)
            size = (discount * np.abs(inner_signal[start : t + 1, b])).sum()
            if size > 0:  # Mood is 0 in an episode of one step
                yield float((discount * signal[start : t + 1, b]).sum()), float(size)
            start = t + 1


def drive_reduction() -> Target:
    """T4: Keramati & Gutkin's drive reduction is the potential of -D less (1 - gamma) D'."""
    setpoint = (0.5, -1.0, 2.0)
    batch = experience(seed=4, steps=64)
    homeostasis = partial(Homeostasis, setpoint=setpoint)
    shaped = np.asarray(head_output(Potential(homeostasis, gamma=GAMMA), batch).signal)
    body = np.asarray(batch.info["body"], np.float64)
    drives = np.linalg.norm(body - np.array(setpoint), axis=-1)
    mask = ~np.asarray(batch.first | batch.terminated)[1:]
    reduction = (drives[:-1] - drives[1:])[mask]
    ours = (shaped - (1 - GAMMA) * drives)[1:][mask]
    error = np.abs(ours - reduction).max() / drives.max()
    return Target(
        "T4",
        "drive reduction = potential of -D + (1 - gamma)(-D'), inside an episode",
        "difference < 1e-6 of the largest D",
        f"{error:.1e} over {mask.sum():,} steps",
        bool(error < 1e-6),
    )
