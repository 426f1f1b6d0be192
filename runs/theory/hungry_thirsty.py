"""T5: fitness of a Q-learner in Hungry-Thirsty under seven rewards (Singh, Lewis & Barto, 2009).

Every reward here depends only on what the animal lacks before a step and after it, so a reward is a
table `pay[needs, next needs]`, and one program simulates all lifetimes of all rewards. It runs
`QLearning`'s own choice and update around the environment's own step, with the random numbers of
many steps drawn at once. Lifetimes are paired: a seed's random numbers do not depend on the reward.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents.qlearning import QLearning, epsilon_greedy, mixed_radix_row, td_update
from envs.worlds.theory.hungry_thirsty import LAYOUTS, SIDE, HungryThirsty, Params, State
from runs.engine.seeds import seed_keys, vmap_seeds
from runs.theory import Target

STEPS, SEEDS, CHUNK = 75_000, 4, 500
NEEDS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])  # (hungry, thirsty), as in the learner's rows
ENV = HungryThirsty()
LEARNER = QLearning(states=SIDE * SIDE * len(NEEDS), cell=mixed_radix_row(SIDE, SIDE, 2, 2))
GAMMA = LEARNER.gamma
FITNESS = np.tile(1.0 - NEEDS[:, 0], (4, 1))  # 1 for a step that leaves the animal not hungry
DRIVE = np.hypot(*NEEDS.T)  # distance to lacking nothing (Keramati & Gutkin, 2014, m = n = 2)
REFERENCE, LEAST_SPEEDUP = 0.25, 50  # seconds a lifetime of a plain-Python implementation
OPTIMUM = (19_732, 8_138, 29_238)  # mean, least and most over layouts


def with_constant(value: float) -> np.ndarray:
    """Reward table of fitness plus a constant at every step."""
    return np.float32(FITNESS + value)


def with_potential(level: float) -> np.ndarray:
    """Reward table of fitness + gamma phi' - phi, phi = level - drive (Ng et al., 1999)."""
    phi = level - DRIVE
    return np.float32(FITNESS + GAMMA * phi - phi[:, None])


ROWS = {
    "fitness": with_constant(0.0),
    "fitness - .01": with_constant(-0.01),
    "fitness + .01": with_constant(0.01),
    "evolved four-tuple": np.tile(np.float32([0.5, 1.0, -0.01, -0.05]), (4, 1)),  # by next needs
    "drive reduction alone": np.float32(DRIVE[:, None] - DRIVE),
    "fitness + PBRS, phi = -D": with_potential(0.0),
    "fitness + PBRS, phi = 2 - D": with_potential(2.0),
}
"""Name -> pay [4, 4], by needs and next needs: the seven rewards of the table."""

PUBLISHED = dict(zip(ROWS, (496, 7652, 0, 7758, 1, 0, (11989, 12118)), strict=True))
"""Name -> mean fitness, measured by an independent implementation."""


class LifetimeState(NamedTuple):
    """State of a lifetime: the table [states, actions], the row of the state, the fitness."""

    table: jax.Array
    row: jax.Array
    fitness: jax.Array


def fitness(
    base: int, seeds: Sequence[int], rows: Mapping[str, np.ndarray], steps: int = STEPS
) -> dict[str, np.ndarray]:
    """Simulate a lifetime for every reward, layout and seed in one program.

    Args:
        base: of the random numbers.
        seeds: S of them; a seed's numbers depend on neither the others nor the reward.
        rows: name -> pay [4, 4], such as `ROWS` or `{"-.02": with_constant(-.02)}`.
        steps: of a lifetime, a multiple of 500.

    Returns:
        name -> steps not hungry [12, S], by layout and seed.

    Raises:
        ValueError: for a number of steps that is no multiple of 500.
    """
    if steps % CHUNK:
        raise ValueError(f"{steps} steps are no multiple of {CHUNK}: take one")
    shape = len(rows), len(LAYOUTS), len(seeds)
    numbers = np.arange(len(LAYOUTS))[:, None] * 1_000_003 + np.asarray(seeds)
    keys = seed_keys(jax.random.key(base), np.broadcast_to(numbers, shape).ravel())
    layouts = np.broadcast_to(np.arange(len(LAYOUTS))[:, None], shape).ravel()
    pays = np.repeat(np.stack(list(rows.values())), numbers.size, axis=0)
    lifetimes = _program(layouts.size, steps)(keys, layouts, pays)
    return dict(zip(rows, np.asarray(lifetimes.fitness).reshape(shape), strict=True))


@cache
def _program(count: int, steps: int) -> Callable:
    return vmap_seeds(partial(simulate_lifetime, steps=steps), count)


def simulate_lifetime(
    key: jax.Array, layout: jax.Array, pays: jax.Array, steps: int
) -> LifetimeState:
    """Simulate one lifetime of epsilon-greedy Q-learning over (cell, hungry, thirsty).

    Transitions are looked up in the table of `tabulate`.

    Args:
        key: random key.
        layout: [] index of LAYOUTS.
        pays: [4, 4] the reward.
        steps: of the lifetime, a multiple of 500.
    """
    successors, _, _ = tabulate()
    world = jnp.asarray(successors)
    k_start, k_table, k_steps = jax.random.split(key, 3)

    def chunk(lifetime, key):
        return jax.lax.scan(step, lifetime, lifetime_randomness(key))

    def step(lifetime, randomness):
        table, row, total = lifetime
        word, chance = randomness
        action = epsilon_greedy(table[row], word, LEARNER.epsilon)
        after = world[layout, row, action, (chance >= ENV.default_params.thirst).astype(jnp.int32)]
        reward = pays[row & 3, after & 3]
        table, _ = td_update(table, row, action, reward, after, GAMMA, LEARNER.alpha)
        return LifetimeState(table, after, total + 1 - (after >> 1 & 1)), None

    start = _row(ENV.initial(k_start, Params(layout)))
    initial = LifetimeState(LEARNER.init(k_table, ENV.spec).table, start, jnp.zeros((), jnp.int32))
    return jax.lax.scan(chunk, initial, jax.random.split(k_steps, steps // CHUNK))[0]


def lifetime_randomness(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Random numbers of 500 steps: words for the choice, uniform numbers for thirst."""
    k_choice, k_thirst = jax.random.split(key)
    return jax.random.bits(k_choice, (CHUNK,)), jax.random.uniform(k_thirst, (CHUNK,))


def _row(state: State) -> jax.Array:
    """`LEARNER.cell` of the observation, without making the observation."""
    return len(NEEDS) * state.cell + 2 * state.hungry + state.thirsty


# --- the optimum ------------------------------------------------------------------------------


def optimum(steps: int = STEPS, settle: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Optimal expected fitness of a lifetime by dynamic programming, for each layout.

    Backward induction in double precision over the environment's own transitions, from the last
    step. After `settle` steps the value grows by the same amount every step, the best average rate,
    and the rest of a longer lifetime is added at that rate.

    Args:
        steps: of a lifetime.
        settle: of them that are computed one by one.

    Returns:
        (expected fitness from a random cell, hungry and thirsty [12], the best average rate times
        `steps` [12]).
    """
    successors, chance, reward = tabulate()
    entries = len(LAYOUTS) * successors + np.arange(len(LAYOUTS))[:, None, None, None]
    entries, reward = (np.ascontiguousarray(table.T) for table in (entries, reward))
    chance, value = chance[:, None, None, None], np.zeros(entries.shape[2:])  # [rows, layouts]
    for _ in range(min(steps, settle)):
        previous, value = value, (chance * (reward + value.take(entries))).sum(0).max(0)
    value, increase = (np.ascontiguousarray(x.T) for x in (value, value - previous))
    value = value + max(steps - settle, 0) * increase
    start = len(NEEDS) * np.arange(SIDE * SIDE) + (len(NEEDS) - 1)
    return value[:, start].mean(1), increase.mean(1) * steps


@cache
def tabulate() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transition table of the environment over (layout, row, action, whether thirst sets in).

    Returns:
        (successor's row [12, 144, 6, 2], its probability [2], reward [12, 144, 6, 2]).
    """
    params = Params()

    def step(layout, state, action, chance):
        after = ENV.after(state, action, chance, Params(layout))
        return _row(after), ENV.reward(state, action, after, None, params)

    for axis in (3, 2, 1, 0):
        step = jax.vmap(step, in_axes=[0 if axis == k else None for k in range(4)])
    with jax.ensure_compile_time_eval():  # it is called while `simulate_lifetime` is traced
        rows = jnp.arange(LEARNER.states)
        states = State(rows // 4, rows // 2 % 2, rows % 2)
        chances = jnp.array([params.thirst / 2, (1 + params.thirst) / 2])
        table = jax.jit(step)(jnp.arange(len(LAYOUTS)), states, jnp.arange(6), chances)
        successors, reward = map(np.asarray, table)
    return successors, np.array([params.thirst, 1 - params.thirst]), reward.astype(np.float64)


# --- the targets ------------------------------------------------------------------------------


def targets(smoke: bool) -> Iterator[Target]:
    """Targets on the optimum, the seven rewards, two contrasts between them, and the speed."""
    yield _optimum()
    results = fitness(0, range(SEEDS), ROWS)
    yield from (_row_of_the_table(name, results[name]) for name in ROWS)
    yield from _contrasts(results)
    lifetimes = sum(each.size for each in results.values())
    yield _speed(lifetimes, repeats=1 if smoke else 5)


def _optimum() -> Target:
    """T5 on the optimum, within half a percent; the given numbers are a third of a percent lower.

    Ours agree with a separate policy evaluation, and are the same for the best policy at a discount
    of .9 to .999. Backward induction in single precision falls short in the same pattern (19,782;
    8,146; 29,304), which suggests rounding, and does not prove it.
    """
    best, rate = optimum()
    return Target(
        "T5",
        "Hungry-Thirsty, optimum by dynamic programming, mean over 12 layouts",
        f"{OPTIMUM[0]:,.0f} ({OPTIMUM[1]:,.0f} to {OPTIMUM[2]:,.0f}), within .5 %",
        f"{best.mean():,.0f} ({best.min():,.0f} to {best.max():,.0f}); "
        f"average rate x steps {rate.mean():,.0f}",
        bool(np.allclose([best.mean(), best.min(), best.max()], OPTIMUM, rtol=0.005)),
    )


def mean_within_layouts(results: np.ndarray) -> tuple[float, float]:
    """Mean of [12, S] for fixed layouts, and half of its 95 % interval over seeds."""
    variance = (results.var(1, ddof=1) / results.shape[1]).sum()
    return float(results.mean()), float(1.96 * np.sqrt(variance) / len(results))


def _row_of_the_table(name: str, results: np.ndarray) -> Target:
    """T5 on one reward: within the error of a difference of two such means, equal layouts."""
    published = np.ravel(PUBLISHED[name])
    mean, half = mean_within_layouts(results)
    tolerance = np.sqrt(2) * half + 1.0
    return Target(
        "T5",
        f"Hungry-Thirsty, mean fitness, {name}",
        " to ".join(f"{value:,.0f}" for value in published),
        f"{mean:,.0f} +- {half:,.0f} ({results.size} lifetimes)",
        bool(published.min() - tolerance <= mean <= published.max() + tolerance),
    )


def _contrasts(results: Mapping[str, np.ndarray]) -> Iterator[Target]:
    """T5: paired differences between rewards, against the published ones.

    The gain by the potential must exclude 0; the published error of the second is not known, and
    taken as ours.
    """
    fitness_only, constant = results["fitness"], results["fitness - .01"]
    gain = results["fitness + PBRS, phi = 2 - D"] - constant
    mean, half = mean_within_layouts(gain)
    yield Target(
        "T5",
        "Hungry-Thirsty, phi = 2 - D less fitness - .01, paired by layout and seed",
        "4,418 +- 262 (more in 48 of 48)",
        f"{mean:,.0f} +- {half:,.0f}, more in {(gain > 0).sum()} of {gain.size}",
        bool(mean > half and abs(mean - 4418) < np.hypot(262, half)),
    )
    evolved = results["evolved four-tuple"]
    deficit, half = mean_within_layouts(evolved - constant)
    share = (constant - fitness_only).mean() / (evolved - fitness_only).mean()
    yield Target(
        "T5",
        "Hungry-Thirsty, a constant -.01 in the place of the evolved reward",
        "106 steps less (99 % of the gain)",
        f"{deficit:,.0f} +- {half:,.0f} steps less, paired ({share:.0%} of the gain)",
        bool(abs(deficit - 106) < np.sqrt(2) * half),
    )


def _speed(count: int, repeats: int) -> Target:
    """T5: seconds a lifetime of the simulation above, now compiled, against plain Python."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        fitness(0, range(SEEDS), ROWS)
        seconds.append((time.perf_counter() - start) / count)
    return Target(
        "T5",
        f"Hungry-Thirsty, one lifetime of 75,000 steps, {count} at once",
        f"{LEAST_SPEEDUP} x faster than a plain-Python reference's {REFERENCE:.2f} s",
        f"{min(seconds) * 1e3:.1f} ms: {REFERENCE / min(seconds):.0f} x that",
        bool(REFERENCE / min(seconds) >= LEAST_SPEEDUP),
    )
