"""A sheet of the gallery: tiles of what was seen, sensed, asked, done and paid."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HIGH, WIDE, NARROW = 225, 400, 225  # pixels: the most of a picture, the least width of a tile
LEFT, TOP, GAP = 176, 146, 14  # pixels: labels, head, space
SENSES, CELL, CAPTION = 34, 7, 17  # pixels: height of bars, of a row of actions, of a caption
BARS = 64  # numbers that are shown as bars; more are shown as shades
INK, FAINT, LINE, PAPER = "#2b2f36", "#7a828d", "#dfe3e8", "white"
BAR, TRUTH = "#5f93c9", "#c8322b"
ACTIONS = (
    *("#d9a441", "#5f93c9", "#8b929c", "#6aa879", "#c8322b", "#b06fc4"),
    *("#e8862e", "#2f7d4f", "#2b4b7d"),
)

LEGEND = (
    "One episode, begun alike and with the same actions everywhere.",
    "Coloured: the actions asked for, above those that took effect.",
    "Bars (roots of numbers) or shades: what the agent senses; red: what it would sense at home.",
)


class Tile(NamedTuple):
    """What is shown of an episode.

    Attributes:
        picture: uint8 [H, W, 3], of its last state.
        sensed: [D] by the agent.
        truth: [D] what would be sensed of the same state without the shift.
        asked: [T] or [T, A], the actions that the agent chose.
        done: those that took effect.
        paid: sum of rewards.
        over: whether the episode has ended.
    """

    picture: np.ndarray
    sensed: np.ndarray
    truth: np.ndarray
    asked: np.ndarray
    done: np.ndarray
    paid: float
    over: bool


class Row(NamedTuple):
    """A shift: its name, family, what it changes, and a tile for each severity."""

    shift: str
    family: str
    changes: Sequence[str]
    tiles: Sequence[Tile]


def draw_sheet(
    name: str, about: str, severities: Sequence[float], rows: Sequence[Row]
) -> Image.Image:
    """Draws a sheet.

    Args:
        name: of the suite.
        about: it, in a line.
        severities: of the columns.
        rows: a shift each.
    """
    tiles = [tile for row in rows for tile in row.tiles]
    high, wide = tiles[0].picture.shape[:2]
    reduced = min(HIGH / high, WIDE / wide)
    shown = round(wide * reduced), round(high * reduced)
    width = max(shown[0], NARROW) + GAP
    height = shown[1] + SENSES + 2 * CELL + CAPTION + 2 * GAP
    image = Image.new("RGB", (LEFT + width * len(severities), TOP + height * len(rows)), PAPER)
    pen = ImageDraw.Draw(image)
    _head(pen, name, about, severities, width)
    reach = np.abs([tile.truth for tile in tiles]).max(0)
    scale = np.where(reach > 0, reach, max(reach.max(), 1e-6))
    for r, row in enumerate(rows):
        top = TOP + r * height
        pen.line((12, top - GAP, image.width - 12, top - GAP), LINE)
        _label(pen, top, row)
        for c, tile in enumerate(row.tiles):
            _tile(image, pen, (LEFT + c * width, top), shown, tile, scale)
    return image.quantize(128, dither=Image.Dither.NONE)


def _head(pen: Any, name: str, about: str, severities: Sequence[float], width: int) -> None:
    _write(pen, (12, 8), name, INK, 22)
    _write(pen, (12, 36), about, INK, 14)
    for n, words in enumerate(LEGEND):
        _write(pen, (12, 56 + 16 * n), words, FAINT, 12)
    for c, severity in enumerate(severities):
        words = f"severity {severity:g}" + ("" if severity else ", home")
        _write(pen, (LEFT + c * width, TOP - 34), words, INK, 14)


def _label(pen: Any, top: float, row: Row) -> None:
    names = row.shift.replace("|", "|and ").split("|")
    lines = [(name, INK, 16) for name in names] + [(row.family.replace("|", ", "), FAINT, 12)]
    for words, fill, size in lines + [(line, INK, 12) for line in row.changes[:8]]:
        _write(pen, (12, top), words, fill, size)
        top += 1.3 * size


def _tile(
    image: Image.Image, pen: Any, corner: tuple[int, int], size: tuple[int, int], tile: Tile, scale
) -> None:
    left, top = corner
    wide = max(size[0], NARROW)
    small = Image.fromarray(tile.picture).resize(size, Image.Resampling.LANCZOS)
    image.paste(small, (left, top))
    pen.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=LINE)
    top += size[1] + 3
    words = f"{len(tile.asked)} steps, paid {tile.paid:+.4g}" + (", over" if tile.over else "")
    _write(pen, (left, top), words, FAINT, 12)
    top += CAPTION
    _actions(pen, (left, top), wide, tile)
    top += 2 * CELL + 4
    _senses(image, pen, (left, top), wide, tile, scale)


def _actions(pen: Any, corner: tuple[int, int], wide: int, tile: Tile) -> None:
    """Actions as coloured cells, those asked for above those that took effect."""
    left, top = corner
    step = min(wide / max(len(tile.asked), 1), 14.0)
    for row, actions in enumerate((tile.asked, tile.done)):
        for t, action in enumerate(actions):
            box = (left + t * step, top + row * CELL, left + (t + 1) * step - 1, 0)
            pen.rectangle((*box[:3], box[1] + CELL - 2), fill=_colour(action))


def _colour(action: np.ndarray) -> str:
    """Of an index; or of a number, from one hue at -1 over grey to another at 1."""
    if np.issubdtype(action.dtype, np.integer):
        return ACTIONS[int(action) % len(ACTIONS)]
    value = float(np.clip(action.ravel()[0], -1, 1))
    ends = (217, 164, 65) if value < 0 else (43, 75, 125)
    return "#" + "".join(f"{round(225 + abs(value) * (end - 225)):02x}" for end in ends)


def _senses(
    image: Image.Image, pen: Any, corner: tuple[int, int], wide: int, tile: Tile, scale: np.ndarray
) -> None:
    """What is sensed as bars about a middle line, ticks where the truth is; or as shades."""
    left, top = corner
    sensed, truth = (np.clip(seen / scale, -1, 1) for seen in (tile.sensed, tile.truth))
    if len(sensed) > BARS:
        across = -(-len(sensed) // 8)
        shades = np.zeros(8 * across)
        shades[: len(sensed)] = sensed
        grey = np.uint8(245 - 200 * np.abs(shades)).reshape(8, across)
        picture = Image.fromarray(grey).resize((wide, SENSES), Image.Resampling.NEAREST)
        image.paste(picture.convert("RGB"), (left, top))
        return
    step, middle, half = wide / len(sensed), top + SENSES / 2, SENSES / 2 - 1
    pen.line((left, middle, left + wide, middle), LINE)
    roots = (np.sign(seen) * np.sqrt(np.abs(seen)) for seen in (sensed, truth))
    for d, (value, true) in enumerate(zip(*roots, strict=True)):
        low, high = sorted((middle - half * value, middle))
        x, end = left + d * step, left + (d + 1) * step - max(1, step / 5)
        pen.rectangle((x, low, end, high), fill=BAR)
        if abs(value - true) > 0.02:
            pen.line((x, middle - half * true, end, middle - half * true), TRUTH, 2)


def _write(pen: Any, corner: tuple[float, float], words: str, fill: str, size: int) -> None:
    pen.text(corner, words, fill, ImageFont.load_default(size))
