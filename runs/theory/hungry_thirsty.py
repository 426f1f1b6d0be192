"""T5: fitness of a Q-learner in Hungry-Thirsty under seven rewards (Singh, Lewis & Barto, 2009).

Every reward here depends only on what the animal lacks before a step and after it, so a reward is a
table `pay[needs, next needs]`, and one program simulates all lifetimes of all rewards. It runs
`QLearning`'s own choice and update around the environment's own step, with the random numbers of
many steps drawn at once. Lifetimes are paired: a seed's random numbers do not depend on the reward.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents.qlearning import QLearning, epsilon_greedy, mixed_radix_row, td_update
from envs.worlds.theory.hungry_thirsty import (
    DRINK,
    EAT,
    LAYOUTS,
    NEXT,
    SIDE,
    HungryThirsty,
    Params,
    State,
)
from runs.engine.train import seed_keys, vmap_seeds
from runs.theory.target import Target

STEPS, SEEDS, CHUNK = 75_000, 4, 500
NEEDS = ((0, 0), (0, 1), (1, 0), (1, 1))  # (hungry, thirsty), in the order of the learner's rows
ENV = HungryThirsty()
LEARNER = QLearning(states=SIDE * SIDE * len(NEEDS), cell=mixed_radix_row(SIDE, SIDE, 2, 2))
GAMMA = LEARNER.gamma
REFERENCE, LEAST_SPEEDUP = 0.25, 50  # seconds a life of a plain-Python implementation
OPTIMUM = (19_732, 8_138, 29_238)  # mean, least and most over layouts

Need = tuple[int, int]


def pay_table(reward: Callable[[Need, Need], float]) -> np.ndarray:
    """Table [needs, next needs] of a reward as a function of (hungry, thirsty) and the next."""
    return np.array([[reward(now, then) for then in NEEDS] for now in NEEDS], np.float32)


def fitness_of_step(then: Need) -> float:
    """The fitness of a step: 1 when it leaves the animal not hungry."""
    return 1.0 - then[0]


def drive(need: Need) -> float:
    """Euclidean distance to lacking nothing (Keramati & Gutkin, 2014, with m = n = 2)."""
    return float(np.hypot(*need))


def with_constant(value: float) -> np.ndarray:
    """Reward table of fitness plus a constant at every step."""
    return pay_table(lambda now, then: fitness_of_step(then) + value)


def with_potential(level: float) -> np.ndarray:
    """Reward table of fitness + gamma phi' - phi, phi = level - drive (Ng et al., 1999)."""
    return pay_table(
        lambda now, then: (
            fitness_of_step(then) + GAMMA * (level - drive(then)) - (level - drive(now))
        )
    )


EVOLVED = {(1, 1): -0.05, (1, 0): -0.01, (0, 1): 1.0, (0, 0): 0.5}

ROWS = {
    "fitness": with_constant(0.0),
    "fitness - .01": with_constant(-0.01),
    "fitness + .01": with_constant(0.01),
    "evolved four-tuple": pay_table(lambda now, then: EVOLVED[then]),
    "drive reduction alone": pay_table(lambda now, then: drive(now) - drive(then)),
    "fitness + PBRS, phi = -D": with_potential(0.0),
    "fitness + PBRS, phi = 2 - D": with_potential(2.0),
}
"""Name -> pay [4, 4]: the seven rewards of the table."""

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
    program, args = lifetime_program(base, seeds, rows, steps)
    lifetimes = np.asarray(program(*args).fitness)
    by_reward = lifetimes.reshape(len(rows), len(LAYOUTS), len(seeds))
    return dict(zip(rows, by_reward, strict=True))


def lifetime_program(base: int, seeds: Sequence[int], rows: Mapping[str, np.ndarray], steps: int):
    """Program of N lifetimes and its arguments: keys [N], layouts [N], pays [N, 4, 4]."""
    if steps % CHUNK:
        raise ValueError(f"{steps} steps are no multiple of {CHUNK}: take one")
    lifetimes = len(LAYOUTS) * len(seeds)
    numbers = np.arange(len(LAYOUTS))[:, None] * 1_000_003 + np.asarray(seeds)
    keys = seed_keys(base, np.tile(numbers.ravel(), len(rows)))
    layouts = jnp.tile(jnp.repeat(jnp.arange(len(LAYOUTS)), len(seeds)), len(rows))
    pays = jnp.repeat(jnp.stack([jnp.asarray(table) for table in rows.values()]), lifetimes, axis=0)
    return _program(len(rows) * lifetimes, steps), (keys, layouts, pays)


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
    value, increase = np.zeros(successors.shape[:2]), np.zeros(successors.shape[:2])
    for _ in range(min(steps, settle)):
        next_value = value[np.arange(len(LAYOUTS))[:, None, None, None], successors]
        new_value = (chance * (reward + next_value)).sum(-1).max(-1)
        value, increase = new_value, new_value - value
    value = value + max(steps - settle, 0) * increase
    start = len(NEEDS) * np.arange(SIDE * SIDE) + NEEDS.index((1, 1))
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


# --- the same in plain Python -----------------------------------------------------------------


def simulate_in_python(
    cell: int, layout: int, pays: np.ndarray, words: Iterable[int], chances: Iterable[float]
) -> tuple[list[list[float]], int]:
    """One lifetime without JAX: the oracle of `simulate_lifetime`, and the reference of its speed.

    Args:
        cell: where it begins.
        layout: index of LAYOUTS.
        pays: [4, 4] the reward.
        words: a random word a step, for the choice; as many as there are steps.
        chances: a number in [0, 1) a step, for thirst.

    Returns:
        (table, fitness).
    """
    food, water = LAYOUTS[layout]
    next_cell, rewards, actions = NEXT.tolist(), pays.tolist(), range(6)
    alpha, gamma, bound = LEARNER.alpha, GAMMA, LEARNER.epsilon * 2**20
    table = [[0.0] * 6 for _ in range(LEARNER.states)]
    needs, total = 3, 0
    values = table[4 * cell + needs]
    for word, chance in zip(words, chances, strict=False):
        best = max(values)
        eligible = actions if word >> 12 < bound else [a for a in actions if values[a] == best]
        action = eligible[(word & 0xFFF) * len(eligible) >> 12]
        hungry, thirsty = 2, needs & 1
        if action == EAT and cell == food and not thirsty:
            hungry, total = 0, total + 1
        if action == DRINK and cell == water:
            thirsty = 0
        elif chance < 0.1:
            thirsty = 1
        cell = next_cell[cell][action]
        next_values = table[4 * cell + hungry + thirsty]
        target = rewards[needs][hungry + thirsty] + gamma * max(next_values)
        values[action] += alpha * (target - values[action])
        needs, values = hungry + thirsty, next_values
    return table, total


def time_against_python(repeats: int) -> tuple[float, float]:
    """Seconds a lifetime, (plain Python's, ours): timed alternately, the minimum of each.

    Ours simulates all lifetimes of `ROWS` and is compiled already if `fitness` ran before.
    """
    program, args = lifetime_program(0, range(SEEDS), ROWS, STEPS)
    count, rng = args[1].size, random.Random(0)
    plain, ours = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        words = (rng.getrandbits(32) for _ in range(STEPS))
        simulate_in_python(7, 0, ROWS["fitness - .01"], words, iter(rng.random, None))
        plain.append(time.perf_counter() - start)
        start = time.perf_counter()
        jax.block_until_ready(program(*args))
        ours.append((time.perf_counter() - start) / count)
    return min(plain), min(ours)


# --- the targets ------------------------------------------------------------------------------


def targets(smoke: bool) -> Iterator[Target]:
    """Targets on the optimum, the seven rewards, two contrasts between them, and the speed."""
    yield _optimum()
    results = fitness(0, range(SEEDS), ROWS)
    yield from (_row_of_the_table(name, results[name]) for name in ROWS)
    yield _potential_beats_constant(results)
    yield _constant_is_evolved(results)
    yield _speed(repeats=2 if smoke else 5)


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


def _row_of_the_table(name: str, results: np.ndarray) -> Target:
    """T5 on one reward: within the error of a difference of two such means, equal layouts."""
    published = np.ravel(PUBLISHED[name])
    error = within_layouts(results)
    tolerance = 1.96 * np.sqrt(2) * error + 1.0
    return Target(
        "T5",
        f"Hungry-Thirsty, mean fitness, {name}",
        " to ".join(f"{value:,.0f}" for value in published),
        f"{results.mean():,.0f} +- {1.96 * error:,.0f} ({results.size} lives)",
        bool(published.min() - tolerance <= results.mean() <= published.max() + tolerance),
    )


def within_layouts(results: np.ndarray) -> float:
    """Standard error over seeds of the mean of [12, S], for fixed layouts."""
    return float(np.sqrt((results.var(1, ddof=1) / results.shape[1]).sum()) / len(results))


def _potential_beats_constant(results: Mapping[str, np.ndarray]) -> Target:
    """T5: the paired difference agrees with the published one and excludes 0."""
    gain = results["fitness + PBRS, phi = 2 - D"] - results["fitness - .01"]
    error = within_layouts(gain)
    return Target(
        "T5",
        "Hungry-Thirsty, phi = 2 - D less fitness - .01, paired by layout and seed",
        "4,418 +- 262 (more in 48 of 48)",
        f"{gain.mean():,.0f} +- {1.96 * error:,.0f}, more in {(gain > 0).sum()} of {gain.size}",
        bool(gain.mean() > 1.96 * error and abs(gain.mean() - 4418) < np.hypot(262, 1.96 * error)),
    )


def _constant_is_evolved(results: Mapping[str, np.ndarray]) -> Target:
    """T5: the deficit agrees with the published one, taken as uncertain as ours."""
    plain, constant = results["fitness"], results["fitness - .01"]
    evolved = results["evolved four-tuple"]
    deficit = evolved - constant
    error = 1.96 * within_layouts(deficit)
    share = (constant - plain).mean() / (evolved - plain).mean()
    return Target(
        "T5",
        "Hungry-Thirsty, a constant -.01 in the place of the evolved reward",
        "106 steps less (99 % of the gain)",
        f"{deficit.mean():,.0f} +- {error:,.0f} steps less, paired ({share:.0%} of the gain)",
        bool(abs(deficit.mean() - 106) < np.sqrt(2) * error),
    )


def _speed(repeats: int) -> Target:
    """T5: seconds a lifetime against a plain-Python reference."""
    plain, ours = time_against_python(repeats)
    return Target(
        "T5",
        "Hungry-Thirsty, one life of 75,000 steps, 336 at once",
        f"50 x faster than a plain-Python reference's {REFERENCE:.2f} s",
        f"{ours * 1e3:.1f} ms: {REFERENCE / ours:.0f} x that; {plain / ours:.0f} x our own plain "
        f"Python, {plain * 1e3:.0f} ms here",
        bool(REFERENCE / ours >= LEAST_SPEEDUP),
    )
