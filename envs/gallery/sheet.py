"""Draws a sheet of the gallery: tiles with picture, observations, actions and reward."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MAX_HEIGHT, MAX_WIDTH, MIN_TILE = 225, 400, 225  # pixels: of a picture; width of a tile
LEFT, TOP, GAP = 176, 146, 14  # pixels: row labels, head, space between tiles
OBS_HEIGHT, CELL, CAPTION = 34, 7, 17  # pixels: heights of observation, action row, caption
BARS = 64  # most numbers that are drawn as bars; more are drawn as shades
INK, FAINT, LINE, PAPER = "#2b2f36", "#7a828d", "#dfe3e8", "white"
BAR, UNSHIFTED = "#5f93c9", "#c8322b"
ACTIONS = (
    *("#d9a441", "#5f93c9", "#8b929c", "#6aa879", "#c8322b", "#b06fc4"),
    *("#e8862e", "#2f7d4f", "#2b4b7d"),
)

LEGEND = (
    "All tiles start with the same random key and take the same actions.",
    "Coloured rows: the chosen actions, above the actions that took effect.",
    "Bars (of square roots) or shades: the observation; red: without the shift.",
)


class Tile(NamedTuple):
    """Last state of an episode, with its actions and its return.

    Attributes:
        picture: uint8 [H, W, 3], of the last state.
        obs: [D] observation of the agent.
        unshifted_obs: [D] observation of the same state without the shift.
        chosen: [T] or [T, A], the actions that the agent chose.
        applied: the actions that took effect, of the same shape.
        total_reward: sum of rewards.
        ended: whether the episode has ended.
    """

    picture: np.ndarray
    obs: np.ndarray
    unshifted_obs: np.ndarray
    chosen: np.ndarray
    applied: np.ndarray
    total_reward: float
    ended: bool


class Row(NamedTuple):
    """Row of a sheet: name and family of a shift, lines of what it changes, a tile per severity."""

    shift: str
    family: str
    changes: Sequence[str]
    tiles: Sequence[Tile]


def draw_sheet(
    name: str, about: str, severities: Sequence[float], rows: Sequence[Row]
) -> Image.Image:
    """Draws the sheet of a suite.

    Args:
        name: of the suite.
        about: description of the suite in a line.
        severities: of the columns.
        rows: one per shift.
    """
    tiles = [tile for row in rows for tile in row.tiles]
    height, width = tiles[0].picture.shape[:2]
    factor = min(MAX_HEIGHT / height, MAX_WIDTH / width)
    size = round(width * factor), round(height * factor)
    tile_width = max(size[0], MIN_TILE) + GAP
    tile_height = size[1] + OBS_HEIGHT + 2 * CELL + CAPTION + 2 * GAP
    image = Image.new(
        "RGB", (LEFT + tile_width * len(severities), TOP + tile_height * len(rows)), PAPER
    )
    pen = ImageDraw.Draw(image)
    _draw_head(pen, name, about, severities, tile_width)
    largest = np.abs([tile.unshifted_obs for tile in tiles]).max(0)
    scale = np.where(largest > 0, largest, max(largest.max(), 1e-6))
    for r, row in enumerate(rows):
        top = TOP + r * tile_height
        pen.line((12, top - GAP, image.width - 12, top - GAP), LINE)
        _draw_labels(pen, top, row)
        for c, tile in enumerate(row.tiles):
            _draw_tile(image, pen, (LEFT + c * tile_width, top), size, tile, scale)
    return image.quantize(128, dither=Image.Dither.NONE)


def _draw_head(pen: Any, name: str, about: str, severities: Sequence[float], width: int) -> None:
    """Draws name, description, legend and the severity above each column."""
    _write(pen, (12, 8), name, INK, 22)
    _write(pen, (12, 36), about, INK, 14)
    for n, text in enumerate(LEGEND):
        _write(pen, (12, 56 + 16 * n), text, FAINT, 12)
    for c, severity in enumerate(severities):
        text = f"severity {severity:g}" + ("" if severity else ", home")
        _write(pen, (LEFT + c * width, TOP - 34), text, INK, 14)


def _draw_labels(pen: Any, top: float, row: Row) -> None:
    """Draws name, family and changes of a shift to the left of its row."""
    names = row.shift.replace("|", "|and ").split("|")
    lines = [(name, INK, 16) for name in names] + [(row.family.replace("|", ", "), FAINT, 12)]
    for text, fill, size in lines + [(line, INK, 12) for line in row.changes[:8]]:
        _write(pen, (12, top), text, fill, size)
        top += 1.3 * size


def _draw_tile(
    image: Image.Image, pen: Any, corner: tuple[int, int], size: tuple[int, int], tile: Tile, scale
) -> None:
    """Draws a tile: picture, caption, actions and observation."""
    left, top = corner
    width = max(size[0], MIN_TILE)
    thumbnail = Image.fromarray(tile.picture).resize(size, Image.Resampling.LANCZOS)
    image.paste(thumbnail, (left, top))
    pen.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=LINE)
    top += size[1] + 3
    text = f"{len(tile.chosen)} steps, paid {tile.total_reward:+.4g}" + (
        ", over" if tile.ended else ""
    )
    _write(pen, (left, top), text, FAINT, 12)
    top += CAPTION
    _draw_actions(pen, (left, top), width, tile)
    top += 2 * CELL + 4
    _draw_obs(image, pen, (left, top), width, tile, scale)


def _draw_actions(pen: Any, corner: tuple[int, int], width: int, tile: Tile) -> None:
    """Draws actions as coloured cells, the chosen ones above those that took effect."""
    left, top = corner
    cell_width = min(width / max(len(tile.chosen), 1), 14.0)
    for row, actions in enumerate((tile.chosen, tile.applied)):
        for t, action in enumerate(actions):
            box = (left + t * cell_width, top + row * CELL, left + (t + 1) * cell_width - 1, 0)
            pen.rectangle((*box[:3], box[1] + CELL - 2), fill=_colour(action))


def _colour(action: np.ndarray) -> str:
    """Colour of an action: of its index, or of its first number, from -1 over grey to 1."""
    if np.issubdtype(action.dtype, np.integer):
        return ACTIONS[int(action) % len(ACTIONS)]
    value = float(np.clip(action.ravel()[0], -1, 1))
    ends = (217, 164, 65) if value < 0 else (43, 75, 125)
    return "#" + "".join(f"{round(225 + abs(value) * (to - 225)):02x}" for to in ends)


def _draw_obs(
    image: Image.Image, pen: Any, corner: tuple[int, int], width: int, tile: Tile, scale: np.ndarray
) -> None:
    """Draws an observation as bars, with ticks at the unshifted one, or as shades of grey."""
    left, top = corner
    obs, unshifted = (np.clip(values / scale, -1, 1) for values in (tile.obs, tile.unshifted_obs))
    if len(obs) > BARS:
        columns = -(-len(obs) // 8)
        shades = np.zeros(8 * columns)
        shades[: len(obs)] = obs
        grey = np.uint8(245 - 200 * np.abs(shades)).reshape(8, columns)
        picture = Image.fromarray(grey).resize((width, OBS_HEIGHT), Image.Resampling.NEAREST)
        image.paste(picture.convert("RGB"), (left, top))
        return
    bar_width, middle, half = width / len(obs), top + OBS_HEIGHT / 2, OBS_HEIGHT / 2 - 1
    pen.line((left, middle, left + width, middle), LINE)
    roots = (np.sign(values) * np.sqrt(np.abs(values)) for values in (obs, unshifted))
    for d, (value, other) in enumerate(zip(*roots, strict=True)):
        low, high = sorted((middle - half * value, middle))
        x, end = left + d * bar_width, left + (d + 1) * bar_width - max(1, bar_width / 5)
        pen.rectangle((x, low, end, high), fill=BAR)
        if abs(value - other) > 0.02:
            pen.line((x, middle - half * other, end, middle - half * other), UNSHIFTED, 2)


def _write(pen: Any, corner: tuple[float, float], text: str, fill: str, size: int) -> None:
    """Draws a line of text with its upper left corner at `corner`."""
    pen.text(corner, text, fill, ImageFont.load_default(size))
