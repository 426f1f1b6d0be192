"""T7: what there is to be learned in FoodShare, by dynamic programming (after Yoshida & Man, 2024).

At care 0 the one who has the food always eats, and the other starves. Passing a meal on costs next
to nothing, so that a care weight of about a hundredth makes both immortal.
"""

from collections.abc import Iterator
from functools import partial

from runs.analysis import stats
from runs.theory.target import Target

LIVES = 4096


def targets(smoke: bool) -> Iterator[Target]:
    """Life without care, exact and lived; the least care that saves both; how often it shares."""
    from envs.worlds.theory.food_share_optimum import least_sufficient_care, optimal_policy

    without, care = optimal_policy(0.0), least_sufficient_care()
    # 14.5 = (19 + 10) / 2 is exact where energies begin high or low, as likely, and the low ones
    # count from 0; the target was given as 14.2.
    yield Target(
        "T7",
        "FoodShare, care 0: best life by dynamic programming",
        "14.2 +- .5 steps",
        f"{without.life:.2f} steps (exact)",
        abs(without.life - 14.2) < 0.5,
    )
    lived = stats.mean(_lives(LIVES // 8 if smoke else LIVES))
    yield Target(
        "T7",
        "FoodShare, care 0: that policy lived in the world",
        f"{without.life:.2f} steps",
        f"{lived:.2f} steps, {LIVES // 8 if smoke else LIVES} lives",
        abs(lived.value - without.life) < 2 * (lived.high - lived.low),
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


def _lives(number: int):
    """Lengths [number] of lives under the best policy at care 0: always eat."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from envs.world import World, reset_batch, rollout
    from envs.worlds.theory.food_share import EAT, FoodShare

    env = FoodShare()
    worlds = partial(_same, World(env.get_default_params()))

    def live(key):
        k_begin, k_live = jax.random.split(key)
        lives = reset_batch(k_begin, env, worlds, number)
        act = partial(_always, jnp.full(number, EAT))
        return rollout(k_live, env, worlds, act, lives, env.horizon)[1]

    batch = jax.jit(live)(jax.random.key(0))
    return np.asarray((batch.terminated | batch.truncated).argmax(0) + 1)


def _same(world, key):
    return world


def _always(action, key, obs):
    return action
