"""T13: Fear, trained as any agent's fear is, says what probability theory says.

In a corridor with harm at its left end, Fear must come to E[gamma_h^k], k the steps to harm:
gamma_h^k where the agent marches there, the solution of a linear system where it walks at random.
It is trained by the ordinary rollout and blend, and read in every cell that is visited, the ends
included. Its step size falls to 0, from that of every blend: held constant it hovers about the
solution of the random walk, .02 away in the worst cell of the median seed and .05 in that of the
worst of eight.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from runs.theory.target import Target

CELLS, HORIZON, TOLERANCE = 9, 10, 0.02
NUM_ENVS, NUM_STEPS = 64, 32
STEP_SIZE, HEAD_STEPS = 3e-3, 2  # those of a blend
WALKS = {"marching to harm: gamma_h^k": 0.0, "a random walk: linear system": 1.0}  # -> slip


def targets(smoke: bool) -> Iterator[Target]:
    """The largest error over the cells, of the worst seed."""
    import numpy as np

    from envs.worlds.theory.corridor import Corridor, always_left_value, hitting_value

    seeds, updates = (2, 300) if smoke else (8, 800)
    gamma = 1 - 1 / HORIZON
    found = learned_fear(Corridor(CELLS), tuple(WALKS.values()), seeds, updates)
    exact = (
        always_left_value(CELLS, gamma)[:-1],
        hitting_value(CELLS, gamma),
    )  # none marches from the right end
    for what, fear, expected in zip(WALKS, found, exact, strict=True):
        error = np.abs(fear[:, : len(expected)] - expected).max(1)
        yield Target(
            "T13",
            f"Fear in a corridor of {CELLS} cells, horizon {HORIZON}, {what}",
            f"error < {TOLERANCE} in every cell",
            f"{error.max():.4f} at most, {seeds} seeds, median {np.median(error):.4f}",
            bool(error.max() < TOLERANCE),
        )


def learned_fear(env, slips: Sequence[float], seeds: int, updates: int):
    """What fear says in each cell [slips, seeds, n] of an agent that goes left, or slips."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from affect import Blend, Fear
    from envs.world import World, reset_batch, rollout

    falling = optax.cosine_decay_schedule(STEP_SIZE, updates * HEAD_STEPS)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(falling))
    blend = Blend(tx, HEAD_STEPS, fear=(1.0, partial(Fear, horizon=HORIZON)))
    left = partial(_always, jnp.zeros(NUM_ENVS, jnp.int32))

    def update(worlds, carry, key):
        blend_state, env_states = carry
        env_states, batch = rollout(key, env, worlds, left, env_states, NUM_STEPS)
        _, blend_state, _ = blend.update(blend_state, batch)
        return (blend_state, env_states), None

    def train(slip, key):
        k_heads, k_begin, k_live = jax.random.split(key, 3)
        worlds = partial(_same, World(env.get_default_params(slip=slip)))
        start = blend.init(k_heads, env.spec, NUM_ENVS), reset_batch(k_begin, env, worlds, NUM_ENVS)
        keys = jax.random.split(k_live, updates)
        (blend_state, _), _ = jax.lax.scan(partial(update, worlds), start, keys)
        return blend_state.heads["fear"].net.predictor(jnp.eye(env.n))

    of_seeds = jax.vmap(train, (None, 0))
    of_slips = jax.jit(jax.vmap(of_seeds, (0, None)))
    keys = jax.random.split(jax.random.key(0), seeds)
    return np.asarray(of_slips(jnp.asarray(slips, jnp.float32), keys))


def _same(world, key):
    return world


def _always(action, key, obs):
    return action
