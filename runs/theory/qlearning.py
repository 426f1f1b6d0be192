"""T2: potential-based shaping equals initialising Q with the potential (Wiewiora, 2003).

Q-learning with the shaping reward gamma phi(s') - phi(s) and Q-learning without it from
Q0(s, a) = phi(s) learn the same from the same experience: the tables always differ by phi. Here
the shaping comes from `affect.Potential`, and experience has terminal and truncated ends; the
potential beyond a terminal step is 0, as its value is.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from affect import Innate, Potential, Spec, Transition, build
from agents.qlearning import QLearning, QState, one_hot_row
from runs.theory.target import Target

STATES, ACTIONS, UPDATES = 12, 3, 20_000
SPEC = Spec(obs_dim=STATES, num_actions=ACTIONS)


def targets(smoke: bool) -> Iterator[Target]:
    """Target on the largest difference after 20,000 updates, also with two wrong potentials."""
    del smoke
    errors = {broken: difference(broken) for broken in ("", "truncated", "terminal")}
    yield Target(
        "T2",
        "Q-learning with a potential less one begun at Q0 = phi, 20,000 updates",
        "< 1e-5",
        f"{errors['']:.1e}; phi zeroed on truncation {errors['truncated']:.2f}, "
        f"not zeroed at a terminal {errors['terminal']:.2f}",
        bool(errors[""] < 1e-5 and min(errors["truncated"], errors["terminal"]) > 0.1),
    )


def difference(broken: str = "", seed: int = 0) -> float:
    """Largest |Q + phi - Q'| of a table: Q learned with the potential, Q' from Q0 = phi.

    Args:
        broken: "" for correct shaping; "truncated" for phi = 0 beyond a truncation, "terminal" for
            phi kept beyond a terminal step.
        seed: of environment, potential and experience.
    """
    phi = jnp.asarray(np.random.default_rng(seed).normal(size=STATES), jnp.float32)
    batch, agent = experience(seed), QLearning(states=STATES, cell=one_hot_row)
    head_batch = batch
    if broken == "truncated":
        head_batch = batch._replace(terminated=batch.terminated | batch.truncated)
    elif broken == "terminal":
        head_batch = batch._replace(terminated=jnp.zeros_like(batch.terminated))
    head = build(
        Potential(
            partial(Innate, fn=lambda now: phi[one_hot_row(now.next_obs)]), gamma=agent.gamma
        ),
        SPEC,
        jax.random.key(0),
    )
    shaped, _ = head(head.initial_state(1), head_batch)
    zero_state = agent.init(jax.random.key(0), SPEC)
    phi_state = QState(jnp.broadcast_to(phi[:, None], zero_state.table.shape))
    update = jax.jit(agent.update)
    key, no_signal = jax.random.key(0), jnp.zeros((*batch.reward.shape, 1))
    shaped_result, _ = update(zero_state, key, batch, shaped[..., None])
    plain_result, _ = update(phi_state, key, batch, no_signal)
    return float(jnp.abs(shaped_result.table + phi_state.table - plain_result.table).max())


def experience(seed: int) -> Transition:
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
