"""T2: a potential is a first guess (Wiewiora, 2003).

Q-learning with the shaping reward gamma phi(s') - phi(s) and Q-learning without it that begins at
Q0(s, a) = phi(s) learn the same from the same experience: the tables differ by phi, for ever. Here
the shaping comes from `affect.Potential`, and experience has terminal and truncated ends; the
potential of what lies beyond a terminal step is 0, as its value is.
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
    """The largest difference after 20,000 updates, and what a wrong potential would give."""
    del smoke
    off = {broken: difference(broken) for broken in ("", "truncated", "terminal")}
    yield Target(
        "T2",
        "Q-learning with a potential less one begun at Q0 = phi, 20,000 updates",
        "< 1e-5",
        f"{off['']:.1e}; phi zeroed on truncation {off['truncated']:.2f}, "
        f"not zeroed at a terminal {off['terminal']:.2f}",
        bool(off[""] < 1e-5 and min(off["truncated"], off["terminal"]) > 0.1),
    )


def difference(broken: str = "", seed: int = 0) -> float:
    """The largest |Q + phi - Q'| of a table: Q learned with the potential, Q' from Q0 = phi.

    Args:
        broken: "" for shaping as it should be; "truncated" for phi = 0 beyond a cut, "terminal"
            for phi kept beyond an end.
        seed: of world, potential and experience.
    """
    phi = jnp.asarray(np.random.default_rng(seed).normal(size=STATES), jnp.float32)
    batch, agent = experience(seed), QLearning(states=STATES, cell=one_hot_row)
    felt = batch
    if broken == "truncated":
        felt = batch._replace(terminated=batch.terminated | batch.truncated)
    elif broken == "terminal":
        felt = batch._replace(terminated=jnp.zeros_like(batch.terminated))
    head = build(
        Potential(
            partial(Innate, fn=lambda now: phi[one_hot_row(now.next_obs)]), gamma=agent.gamma
        ),
        SPEC,
        jax.random.key(0),
    )
    shaped, _ = head(head.initial_state(1), felt)
    flat = agent.init(jax.random.key(0), SPEC)
    guess = QState(jnp.broadcast_to(phi[:, None], flat.table.shape))
    learn = jax.jit(agent.update)
    key, none = jax.random.key(0), jnp.zeros((*batch.reward.shape, 1))
    one, _ = learn(flat, key, batch, shaped[..., None])
    two, _ = learn(guess, key, batch, none)
    return float(jnp.abs(one.table + guess.table - two.table).max())


def experience(seed: int) -> Transition:
    """A walk [20,000, 1] by random actions in a random world, with ends of both kinds."""
    rng = np.random.default_rng(seed)
    following = rng.integers(STATES, size=(STATES, ACTIONS))
    pays = rng.normal(size=(STATES, ACTIONS))
    actions = rng.integers(ACTIONS, size=UPDATES)
    ends = rng.random(UPDATES)
    terminated, truncated = ends < 0.05, (ends >= 0.05) & (ends < 0.1)
    cut = terminated | truncated
    here = np.zeros(UPDATES + 1, int)
    there = np.zeros(UPDATES, int)
    for t, action in enumerate(actions):
        there[t] = following[here[t], action]
        here[t + 1] = rng.integers(STATES) if cut[t] else there[t]
    batch = Transition(
        obs=np.eye(STATES, dtype=np.float32)[here[:-1]],
        action=actions.astype(np.int32),
        next_obs=np.eye(STATES, dtype=np.float32)[there],
        reward=pays[here[:-1], actions].astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        first=np.concatenate([[True], cut[:-1]]),
    )
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[:, None], batch)
