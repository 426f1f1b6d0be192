"""T5: what a learner lives on depends on what it is paid (Singh, Lewis & Barto, 2009).

Every reward here depends on what the animal lacks before a step and after it, and on nothing else,
so a reward is a table `pay[needs, next needs]`, and one program lives all lives of all rewards. A
life is `QLearning`'s own choice and update around the world's own step, with the random numbers of
many steps drawn at once. Lives are paired: a seed's random numbers do not depend on the reward.
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
    """The table [needs, next needs] of a reward of ((hungry, thirsty), the same after the step)."""
    return np.array([[reward(now, then) for then in NEEDS] for now in NEEDS], np.float32)


def fitness_of_step(then: Need) -> float:
    """The fitness of a step: 1 when it leaves the animal not hungry."""
    return 1.0 - then[0]


def drive(need: Need) -> float:
    """The Euclidean distance to lacking nothing (Keramati & Gutkin, 2014, with m = n = 2)."""
    return float(np.hypot(*need))


def with_constant(value: float) -> np.ndarray:
    """Fitness, and the same pay for every step."""
    return pay_table(lambda now, then: fitness_of_step(then) + value)


def with_potential(level: float) -> np.ndarray:
    """Fitness, and the potential phi = level - drive: gamma phi' - phi (Ng et al., 1999)."""
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
    """A life so far: the table [states, actions], the row of the state, and the fitness."""

    table: jax.Array
    row: jax.Array
    fitness: jax.Array


def fitness(
    base: int, seeds: Sequence[int], rows: Mapping[str, np.ndarray], steps: int = STEPS
) -> dict[str, np.ndarray]:
    """Lives a life for every reward, layout and seed, all in one program.

    Args:
        base: of the random numbers.
        seeds: S of them; a seed's numbers depend on neither the others nor the reward.
        rows: name -> pay [4, 4], such as `ROWS` or `{"-.02": with_constant(-.02)}`.
        steps: of a life, a multiple of 500.

    Returns:
        name -> steps not hungry [12, S], by layout and seed.

    Raises:
        ValueError: for a number of steps that is no multiple of 500.
    """
    program, args = lifetime_program(base, seeds, rows, steps)
    lived = np.asarray(program(*args).fitness)
    found = lived.reshape(len(rows), len(LAYOUTS), len(seeds))
    return dict(zip(rows, found, strict=True))


def lifetime_program(base: int, seeds: Sequence[int], rows: Mapping[str, np.ndarray], steps: int):
    """The program of N lives and its arguments: keys [N], layouts [N], pays [N, 4, 4]."""
    if steps % CHUNK:
        raise ValueError(f"{steps} steps are no multiple of {CHUNK}: take one")
    each = len(LAYOUTS) * len(seeds)
    numbers = np.arange(len(LAYOUTS))[:, None] * 1_000_003 + np.asarray(seeds)
    keys = seed_keys(base, np.tile(numbers.ravel(), len(rows)))
    layouts = jnp.tile(jnp.repeat(jnp.arange(len(LAYOUTS)), len(seeds)), len(rows))
    pays = jnp.repeat(jnp.stack([jnp.asarray(table) for table in rows.values()]), each, axis=0)
    return _program(len(rows) * each, steps), (keys, layouts, pays)


@cache
def _program(count: int, steps: int) -> Callable:
    return vmap_seeds(partial(simulate_lifetime, steps=steps), count)


def simulate_lifetime(
    key: jax.Array, layout: jax.Array, pays: jax.Array, steps: int
) -> LifetimeState:
    """One life by epsilon-greedy Q-learning over (cell, hungry, thirsty).

    The world is looked up in the table that `tabulate` makes of it.

    Args:
        key: random key.
        layout: [] index of LAYOUTS.
        pays: [4, 4] the reward.
        steps: of the life, a multiple of 500.
    """
    there, _, _ = tabulate()
    world = jnp.asarray(there)
    k_start, k_table, k_steps = jax.random.split(key, 3)

    def chunk(lived, key):
        return jax.lax.scan(step, lived, lifetime_randomness(key))

    def step(lived, drawn):
        table, row, total = lived
        word, chance = drawn
        action = epsilon_greedy(table[row], word, LEARNER.epsilon)
        after = world[layout, row, action, (chance >= ENV.default_params.thirst).astype(jnp.int32)]
        reward = pays[row & 3, after & 3]
        table, _ = td_update(table, row, action, reward, after, GAMMA, LEARNER.alpha)
        return LifetimeState(table, after, total + 1 - (after >> 1 & 1)), None

    start = _row(ENV.initial(k_start, Params(layout)))
    begun = LifetimeState(LEARNER.init(k_table, ENV.spec).table, start, jnp.zeros((), jnp.int32))
    return jax.lax.scan(chunk, begun, jax.random.split(k_steps, steps // CHUNK))[0]


def lifetime_randomness(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The random numbers of 500 steps: words for the choice, uniform numbers for thirst."""
    k_choice, k_thirst = jax.random.split(key)
    return jax.random.bits(k_choice, (CHUNK,)), jax.random.uniform(k_thirst, (CHUNK,))


def _row(state: State) -> jax.Array:
    """`LEARNER.cell` of the observation, without making the observation."""
    return len(NEEDS) * state.cell + 2 * state.hungry + state.thirsty


# --- the optimum ------------------------------------------------------------------------------


def optimum(steps: int = STEPS, settle: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """The most that any policy can expect of a life, by dynamic programming, for each layout.

    Backward induction in double precision over the world's own transitions, from the last step.
    After `settle` steps the value grows by the same amount every step, the best average rate, and
    the rest of a longer life is added at that rate.

    Args:
        steps: of a life.
        settle: of them that are computed one by one.

    Returns:
        (expected fitness of a life that begins on a random cell, hungry and thirsty [12], the
        best average rate times `steps` [12]).
    """
    there, chance, reward = tabulate()
    value, gained = np.zeros(there.shape[:2]), np.zeros(there.shape[:2])
    for _ in range(min(steps, settle)):
        ahead = value[np.arange(len(LAYOUTS))[:, None, None, None], there]
        better = (chance * (reward + ahead)).sum(-1).max(-1)
        value, gained = better, better - value
    value = value + max(steps - settle, 0) * gained
    start = len(NEEDS) * np.arange(SIDE * SIDE) + NEEDS.index((1, 1))
    return value[:, start].mean(1), gained.mean(1) * steps


@cache
def tabulate() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The world as a table over (layout, row, action, whether thirst sets in).

    Returns:
        (successor's row [12, 144, 6, 2], its probability [2], reward [12, 144, 6, 2]).
    """
    params = Params()

    def one(layout, state, action, chance):
        after = ENV.after(state, action, chance, Params(layout))
        return _row(after), ENV.reward(state, action, after, None, params)

    for axis in (3, 2, 1, 0):
        one = jax.vmap(one, in_axes=[0 if axis == k else None for k in range(4)])
    with jax.ensure_compile_time_eval():  # `simulate_lifetime` asks for it while it is traced
        rows = jnp.arange(LEARNER.states)
        states = State(rows // 4, rows // 2 % 2, rows % 2)
        chances = jnp.array([params.thirst / 2, (1 + params.thirst) / 2])
        found = jax.jit(one)(jnp.arange(len(LAYOUTS)), states, jnp.arange(6), chances)
        there, reward = map(np.asarray, found)
    return there, np.array([params.thirst, 1 - params.thirst]), reward.astype(np.float64)


# --- the same in plain Python -----------------------------------------------------------------


def simulate_in_python(
    cell: int, layout: int, pays: np.ndarray, words: Iterable[int], chances: Iterable[float]
) -> tuple[list[list[float]], int]:
    """One life without JAX: the oracle of `simulate_lifetime`, and the yardstick of its speed.

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
    following, paid, actions = NEXT.tolist(), pays.tolist(), range(6)
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
        cell = following[cell][action]
        ahead = table[4 * cell + hungry + thirsty]
        target = paid[needs][hungry + thirsty] + gamma * max(ahead)
        values[action] += alpha * (target - values[action])
        needs, values = hungry + thirsty, ahead
    return table, total


def time_against_python(repeats: int) -> tuple[float, float]:
    """Seconds a life, (plain Python's, ours): they take turns, and the quickest turn counts.

    Ours lives all lives of `ROWS` and is compiled already if `fitness` ran before.
    """
    program, args = lifetime_program(0, range(SEEDS), ROWS, STEPS)
    count, rng = args[1].size, random.Random(0)
    plain, ours = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        words = (rng.getrandbits(32) for _ in range(STEPS))
        simulate_in_python(7, 0, ROWS["fitness - .01"], words, iter(rng.random, None))
        plain.append(time.perf_counter() - began)
        began = time.perf_counter()
        jax.block_until_ready(program(*args))
        ours.append((time.perf_counter() - began) / count)
    return min(plain), min(ours)


# --- the targets ------------------------------------------------------------------------------


def targets(smoke: bool) -> Iterator[Target]:
    """The optimum, the seven rows, what follows from them, and the speed of it all."""
    yield _optimum()
    lived = fitness(0, range(SEEDS), ROWS)
    yield from (_row_of_the_table(name, lived[name]) for name in ROWS)
    yield _potential_beats_constant(lived)
    yield _constant_is_evolved(lived)
    yield _speed(repeats=2 if smoke else 5)


def _optimum() -> Target:
    """Passes within half a percent: the given numbers lie a third of a percent below ours.

    Ours agree with a policy evaluated by itself, and are the same for the best policy at a discount
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


def _row_of_the_table(name: str, lived: np.ndarray) -> Target:
    """Passes within the error of a difference of two such means, layouts being the same."""
    published = np.ravel(PUBLISHED[name])
    error = within_layouts(lived)
    reach = 1.96 * np.sqrt(2) * error + 1.0
    return Target(
        "T5",
        f"Hungry-Thirsty, mean fitness, {name}",
        " to ".join(f"{value:,.0f}" for value in published),
        f"{lived.mean():,.0f} +- {1.96 * error:,.0f} ({lived.size} lives)",
        bool(published.min() - reach <= lived.mean() <= published.max() + reach),
    )


def within_layouts(lived: np.ndarray) -> float:
    """Standard error of the mean of [12, S] over seeds, the layouts being given."""
    return float(np.sqrt((lived.var(1, ddof=1) / lived.shape[1]).sum()) / len(lived))


def _potential_beats_constant(lived: Mapping[str, np.ndarray]) -> Target:
    """Passes if the paired difference agrees with the published one and excludes 0."""
    gain = lived["fitness + PBRS, phi = 2 - D"] - lived["fitness - .01"]
    error = within_layouts(gain)
    return Target(
        "T5",
        "Hungry-Thirsty, phi = 2 - D less fitness - .01, paired by layout and seed",
        "4,418 +- 262 (more in 48 of 48)",
        f"{gain.mean():,.0f} +- {1.96 * error:,.0f}, more in {(gain > 0).sum()} of {gain.size}",
        bool(gain.mean() > 1.96 * error and abs(gain.mean() - 4418) < np.hypot(262, 1.96 * error)),
    )


def _constant_is_evolved(lived: Mapping[str, np.ndarray]) -> Target:
    """Passes if what it lacks agrees with the published lack, which was as uncertain as ours."""
    plain, constant = lived["fitness"], lived["fitness - .01"]
    evolved = lived["evolved four-tuple"]
    less = evolved - constant
    error = 1.96 * within_layouts(less)
    share = (constant - plain).mean() / (evolved - plain).mean()
    return Target(
        "T5",
        "Hungry-Thirsty, a constant -.01 in the place of the evolved reward",
        "106 steps less (99 % of the gain)",
        f"{less.mean():,.0f} +- {error:,.0f} steps less, paired ({share:.0%} of the gain)",
        bool(abs(less.mean() - 106) < np.sqrt(2) * error),
    )


def _speed(repeats: int) -> Target:
    plain, ours = time_against_python(repeats)
    return Target(
        "T5",
        "Hungry-Thirsty, one life of 75,000 steps, 336 at once",
        f"50 x faster than a plain-Python reference's {REFERENCE:.2f} s",
        f"{ours * 1e3:.1f} ms: {REFERENCE / ours:.0f} x that; {plain / ours:.0f} x our own plain "
        f"Python, {plain * 1e3:.0f} ms here",
        bool(REFERENCE / ours >= LEAST_SPEEDUP),
    )
