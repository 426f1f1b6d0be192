"""T13: Fear, trained as in any agent, equals discounted hitting probabilities in a corridor.

In a corridor with harm at its left end, Fear must converge to E[gamma_h^k], k the steps to harm:
gamma_h^k where the agent always goes left, the solution of a linear system where it walks at
random. It is trained by the ordinary rollout and blend, and evaluated in every visited cell, the
ends included. Its step size decays to 0: at a constant one it fluctuates about the solution of the
random walk, .02 away in the worst cell of the median seed and .05 in that of the worst of eight.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from affect import Blend, Fear
from envs.world import reset_batch, rollout
from envs.worlds.theory.corridor import Corridor, always_left_value, hitting_value
from runs.theory import Target
from runs.theory.simulation import fixed_world

CELLS, HORIZON, TOLERANCE = 9, 10, 0.02
NUM_ENVS, NUM_STEPS = 64, 32
STEP_SIZE, HEAD_STEPS = 3e-3, 2
WALKS = {"marching to harm: gamma_h^k": 0.0, "a random walk: linear system": 1.0}  # -> slip


def targets(smoke: bool) -> Iterator[Target]:
    """Targets on the largest error over the cells, of the worst seed."""
    seeds, updates = (2, 300) if smoke else (8, 800)
    gamma = 1 - 1 / HORIZON
    learned = learned_fear(Corridor(CELLS), tuple(WALKS.values()), seeds, updates)
    # The agent that always goes left never starts at the right end.
    exact = always_left_value(CELLS, gamma)[:-1], hitting_value(CELLS, gamma)
    for walk, fear, expected in zip(WALKS, learned, exact, strict=True):
        error = np.abs(fear[:, : len(expected)] - expected).max(1)
        yield Target(
            "T13",
            f"Fear in a corridor of {CELLS} cells, horizon {HORIZON}, {walk}",
            f"error < {TOLERANCE} in every cell",
            f"{error.max():.4f} at most, {seeds} seeds, median {np.median(error):.4f}",
            bool(error.max() < TOLERANCE),
        )


def learned_fear(env: Corridor, slips: Sequence[float], seeds: int, updates: int) -> np.ndarray:
    """Learned fear in each cell [slips, seeds, n] of an agent that goes left or slips."""
    decay = optax.cosine_decay_schedule(STEP_SIZE, updates * HEAD_STEPS)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(decay))
    blend = Blend(tx, HEAD_STEPS, fear=(1.0, partial(Fear, horizon=HORIZON)))

    def update(worlds, carry, key):
        blend_state, env_states = carry
        env_states, batch = rollout(key, env, worlds, go_left, env_states, NUM_STEPS)
        _, blend_state, _ = blend.update(blend_state, batch)
        return (blend_state, env_states), None

    def train(slip, key):
        k_heads, k_reset, k_train = jax.random.split(key, 3)
        worlds = fixed_world(env, slip=slip)
        start = blend.init(k_heads, env.spec, NUM_ENVS), reset_batch(k_reset, env, worlds, NUM_ENVS)
        keys = jax.random.split(k_train, updates)
        (blend_state, _), _ = jax.lax.scan(partial(update, worlds), start, keys)
        return blend_state.heads["fear"].net.predictor(jnp.eye(env.n))

    over_seeds = jax.vmap(train, (None, 0))
    over_slips = jax.jit(jax.vmap(over_seeds, (0, None)))
    keys = jax.random.split(jax.random.key(0), seeds)
    return np.asarray(over_slips(jnp.asarray(slips, jnp.float32), keys))


def go_left(key: jax.Array, obs: jax.Array) -> jax.Array:
    """Policy that always goes left."""
    return jnp.zeros(NUM_ENVS, jnp.int32)
