"""T7: optimal policies of FoodShare by dynamic programming (after Yoshida & Man, 2024).

At care weight 0 the agent with the food always eats, and the other starves. Passing a meal on costs
next to nothing, so that a care weight of about a hundredth makes both immortal.
"""

from collections.abc import Iterator
from functools import partial

from runs.analysis import stats
from runs.theory.target import Target

EPISODES = 4096


def targets(smoke: bool) -> Iterator[Target]:
    """Targets on life without care (exact, simulated), the least sufficient care, and sharing."""
    from envs.worlds.theory.food_share_optimum import least_sufficient_care, optimal_policy

    selfish, care = optimal_policy(0.0), least_sufficient_care()
    # 14.5 = (19 + 10) / 2 is exact where energies begin high or low, as likely, and the low ones
    # count from 0; the target was given as 14.2.
    yield Target(
        "T7",
        "FoodShare, care 0: best life by dynamic programming",
        "14.2 +- .5 steps",
        f"{selfish.lifetime:.2f} steps (exact)",
        abs(selfish.lifetime - 14.2) < 0.5,
    )
    simulated = stats.mean(_episode_lengths(EPISODES // 8 if smoke else EPISODES))
    yield Target(
        "T7",
        "FoodShare, care 0: that policy lived in the world",
        f"{selfish.lifetime:.2f} steps",
        f"{simulated:.2f} steps, {EPISODES // 8 if smoke else EPISODES} lives",
        abs(simulated.value - selfish.lifetime) < 2 * (simulated.high - simulated.low),
    )
    yield Target(
        "T7",
        "FoodShare: least care weight at which nobody ever starves (gamma .99)",
        "0.011 +- .0005",
        f"{care:.4f} (exact)",
        abs(care - 0.011) < 0.0005,
    )
    share = optimal_policy(care).share
    yield Target(
        "T7",
        "FoodShare: share of meals passed on at that weight",
        "0.091 +- .001",
        f"{share:.4f} (exact)",
        abs(share - 0.091) < 0.001,
    )


def _episode_lengths(number: int):
    """Lengths [number] of simulated episodes under the optimal policy at care 0: always eat."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from envs.world import World, reset_batch, rollout
    from envs.worlds.theory.food_share import EAT, FoodShare

    env = FoodShare()
    worlds = partial(_fixed_world, World(env.get_default_params()))

    def simulate(key):
        k_reset, k_rollout = jax.random.split(key)
        env_states = reset_batch(k_reset, env, worlds, number)
        act = partial(_fixed_action, jnp.full(number, EAT))
        return rollout(k_rollout, env, worlds, act, env_states, env.horizon)[1]

    batch = jax.jit(simulate)(jax.random.key(0))
    return np.asarray((batch.terminated | batch.truncated).argmax(0) + 1)


def _fixed_world(world, key):
    return world


def _fixed_action(action, key, obs):
    return action
