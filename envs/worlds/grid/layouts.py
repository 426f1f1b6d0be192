"""Random solvable layouts of the grid worlds, split into training and test by content.

A layout is a set of bits for every cell of a torus, [SIDE, SIDE] uint8. Row 0 and column 0 are
wall, which closes the torus to a room of 7 x 7; rolling it puts the agent at the centre.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import sha256

import numpy as np

SIDE = 8
WALL, LAVA, FLAG, COIN, KEY, CHEST, START = (1 << bit for bit in range(7))
CODES = {
    ".": 0,
    "#": WALL,
    "~": LAVA,
    "F": FLAG,
    "C": COIN,
    "G": FLAG | COIN,
    "k": KEY,
    "c": CHEST,
    "S": START,
}
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right
NUM = 32  # layouts in a bank: so few that other layouts are a real shift
Draw = Callable[[np.random.Generator], np.ndarray]


def parse(rows: Sequence[str]) -> np.ndarray:
    """Parses a room of 7 x 7 from its rows, in the letters of CODES -> a layout.

    Raises:
        ValueError: for a room of another size, an unknown letter, or other than one start.
    """
    letters = "".join(rows)
    if [len(row) for row in rows] != [SIDE - 1] * (SIDE - 1) or set(letters) - set(CODES):
        raise ValueError(f"a room has 7 rows of 7 of {''.join(CODES)}, not {list(rows)}")
    if letters.count("S") != 1:
        raise ValueError(f"a room has one start S, not {letters.count('S')}")
    inside = np.array([CODES[letter] for letter in letters], np.uint8).reshape(SIDE - 1, SIDE - 1)
    return np.pad(inside, ((1, 0), (1, 0)), constant_values=WALL)


def digest(layout: np.ndarray) -> str:
    """Identifier of a layout: hash of its content."""
    return sha256(np.ascontiguousarray(layout, np.uint8).tobytes()).hexdigest()[:16]


def is_test_layout(layout: np.ndarray) -> bool:
    """Whether a layout belongs to the test split: one in four, by the hash of its content."""
    return int(digest(layout), 16) % 4 == 0


def distances(layouts: np.ndarray) -> np.ndarray:
    """Steps from the start to every cell of layouts [..., SIDE, SIDE]; -1 if unreachable.

    Walls cannot be entered. Lava, coin and flag end an episode, so no path leads through them.
    """
    steps = np.where(layouts & START, 0, -1)
    passed = layouts & (LAVA | FLAG | COIN) == 0
    while True:
        front = (steps == steps.max()) & passed
        ahead = np.any([np.roll(front, move, (-2, -1)) for move in MOVES], 0)
        fresh = ahead & (steps < 0) & (layouts & WALL == 0)
        if not fresh.any():
            return steps
        steps[fresh] = steps.max() + 1


def layout_bank(layouts: Iterable[np.ndarray]) -> np.ndarray:
    """Stacks layouts and checks that each can be solved -> [M, SIDE, SIDE] uint8.

    Raises:
        ValueError: for no layout, one of another size, one without a task, or one with a coin, key
            or chest out of reach.
    """
    layouts = [np.asarray(layout, np.uint8) for layout in layouts]
    shapes = {layout.shape for layout in layouts}
    if shapes != {(SIDE, SIDE)}:
        raise ValueError(
            f"layouts are {SIDE} x {SIDE}, as parse makes them, not {shapes or 'none'}"
        )
    stacked = np.stack(layouts)
    for number, (layout, steps) in enumerate(zip(stacked, distances(stacked), strict=True)):
        reason = _why_unsolvable(layout, steps)
        if reason:
            raise ValueError(f"layout {number} cannot be solved: {reason}")
    return stacked


def _why_unsolvable(layout: np.ndarray, steps: np.ndarray) -> str:
    """Reason why a layout with these distances from its start is unsolvable; empty if solvable."""
    if np.count_nonzero(layout & START) != 1:
        return "it must have one start; add or remove S"
    if not (layout & COIN).any() and not ((layout & KEY).any() and (layout & CHEST).any()):
        return "nothing in it pays; add a coin, or a key and a chest"
    for name, bit in (("coin", COIN), ("key", KEY), ("chest", CHEST)):
        for row, column in np.argwhere((layout & bit > 0) & (steps < 0)):
            return f"no way leads to the {name} in row {row}, column {column}; open one"
    return ""


@cache
def sample_layouts(kind: str, test: bool = False, seed: int = 0, num: int = NUM) -> np.ndarray:
    """Samples `num` different layouts of a kind ("lava", "keys" or "coin") from one split.

    Raises:
        ValueError: for an unknown kind.
    """
    if kind not in DRAWS:
        raise ValueError(f"there are no layouts {kind!r}; there are {', '.join(DRAWS)}")
    rng, unique = np.random.default_rng(seed), {}
    while len(unique) < num:
        layouts = np.stack([DRAWS[kind](rng) for _ in range(num)])
        for layout, steps in zip(layouts, distances(layouts), strict=True):
            if is_test_layout(layout) == test and not _why_unsolvable(layout, steps):
                unique.setdefault(digest(layout), layout)
    return layout_bank(list(unique.values())[:num])


def _lava(rng: np.random.Generator) -> np.ndarray:
    """Room with one or two rivers of lava from north to south, each with one or two fords."""
    room = _room(0.0, rng)
    room[-1, -1] = FLAG | COIN
    for column in rng.choice(np.arange(3, 7), rng.integers(1, 3), replace=False):
        room[1:, column] = LAVA
        room[rng.choice(np.arange(1, SIDE), rng.integers(1, 3), replace=False), column] = 0
    _scatter(room, [START], rng)
    return room


def _coin(rng: np.random.Generator) -> np.ndarray:
    """Room with scattered walls, start in the upper left, coin and flag in the lower right."""
    room = _room(0.2, rng)
    room[tuple(rng.integers(1, 4, 2))] = START
    room[-1, -1] = FLAG | COIN
    return room


def _keys(rng: np.random.Generator) -> np.ndarray:
    """Room with scattered walls, 2 keys and 4 chests, so keys are scarce."""
    room = _room(0.1, rng)
    _scatter(room, [START, KEY, KEY, CHEST, CHEST, CHEST, CHEST], rng)
    return room


DRAWS: dict[str, Draw] = {"lava": _lava, "keys": _keys, "coin": _coin}


def lava_moves(layouts: np.ndarray) -> np.ndarray:
    """Mirrors layouts at the diagonal, so that rivers of lava run from west to east."""
    return layout_bank(layouts.swapaxes(1, 2))


def more_keys_than_chests(layouts: np.ndarray) -> np.ndarray:
    """Exchanges keys and chests."""
    swapped = (layouts & KEY) * (CHEST // KEY) + (layouts & CHEST) // (CHEST // KEY)
    return layout_bank(layouts & ~np.uint8(KEY | CHEST) | swapped.astype(np.uint8))


def coin_elsewhere(layouts: np.ndarray) -> np.ndarray:
    """Moves the coin to a random free reachable cell; the flag stays in its corner."""
    rng = np.random.default_rng(0)
    moved = layouts & ~np.uint8(COIN)
    for room in moved:
        free = np.argwhere((room == 0) & (distances(room) > 1))
        room[tuple(rng.choice(free))] = COIN
    return layout_bank(moved)


def _room(walls: float, rng: np.random.Generator) -> np.ndarray:
    """Room whose cells are walls with probability `walls`."""
    room = np.full((SIDE, SIDE), WALL, np.uint8)
    room[1:, 1:] = WALL * (rng.random((SIDE - 1, SIDE - 1)) < walls)
    return room


def _scatter(room: np.ndarray, things: list[int], rng: np.random.Generator) -> None:
    """Puts things on random free cells of a room, in place."""
    cells = rng.permutation(np.argwhere(room == 0))[: len(things)]
    for cell, thing in zip(cells, things, strict=True):
        room[tuple(cell)] = thing
