"""T7: optimal policies of FoodShare by dynamic programming (after Yoshida & Man, 2024).

At care weight 0 the agent with the food always eats, and the other starves. Passing a meal on costs
next to nothing, so that a care weight of about a hundredth makes both immortal.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from envs.worlds.theory.food_share import EAT, FoodShare
from envs.worlds.theory.food_share_optimum import least_sufficient_care, optimal_policy
from runs.analysis import stats
from runs.theory import Target
from runs.theory.simulation import fixed_rollout

EPISODES = 4096


def targets(smoke: bool) -> Iterator[Target]:
    """Targets on life without care (exact, simulated), the least sufficient care, and sharing."""
    selfish, care = optimal_policy(0.0), least_sufficient_care()
    # 14.5 = (19 + 10) / 2 is exact where energies begin high or low, as likely, and the low ones
    # count from 0; the target was given as 14.2.
    yield Target(
        "T7",
        "FoodShare, care 0: longest life by dynamic programming",
        "14.2 +- .5 steps",
        f"{selfish.lifetime:.2f} steps (exact)",
        abs(selfish.lifetime - 14.2) < 0.5,
    )
    lengths = episode_lengths(EPISODES // 8 if smoke else EPISODES)
    simulated = stats.mean(lengths)
    yield Target(
        "T7",
        "FoodShare, care 0: that policy simulated in the world",
        f"{selfish.lifetime:.2f} steps",
        f"{simulated:.2f} steps, {len(lengths)} episodes",
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


def episode_lengths(number: int) -> np.ndarray:
    """Lengths [number] of simulated episodes under the optimal policy at care 0: always eat."""
    env = FoodShare()

    def simulate(key):
        keys = jax.random.split(key)
        return fixed_rollout(keys, env, lambda key, obs: jnp.full(number, EAT), number, env.horizon)

    batch = jax.jit(simulate)(jax.random.key(0))
    return np.asarray((batch.terminated | batch.truncated).argmax(0) + 1)
