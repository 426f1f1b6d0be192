"""Pictures of worlds, drawn in metres with Pillow: no display, no GL, no game library."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FINE = 3  # drawn so many times larger, then reduced: smooth edges
Point: TypeAlias = tuple[float, float]  # metres, y upwards


class Canvas:
    """A sheet to draw on; positions are in metres, thickness and text in pixels.

    Args:
        size: pixels, (width, height).
        scale: pixels in a metre.
        origin: pixels of the position (0, 0), from the upper left corner.
        paper: colour of the sheet.
    """

    def __init__(self, size: tuple[int, int], scale: float, origin: Point, paper: str = "white"):
        self.scale, self._origin = scale, origin
        self._image = Image.new("RGB", (size[0] * FINE, size[1] * FINE), paper)
        self._draw = ImageDraw.Draw(self._image, "RGBA")

    def pixel(self, point: Point) -> Point:
        """The pixel of a position."""
        x, y = (float(np.clip(metres, -1e3, 1e3)) * self.scale for metres in point)
        return self._origin[0] + x, self._origin[1] - y

    def _at(self, point: Point) -> Point:
        x, y = self.pixel(point)
        return FINE * x, FINE * y

    def polygon(self, points: Sequence[Point], fill: str) -> None:
        """Fills a polygon."""
        self._draw.polygon([self._at(point) for point in points], fill=fill)

    def box(self, low: Point, high: Point, fill: str, rounding: float = 0) -> None:
        """Fills the box between two corners, its corners rounded by so many pixels."""
        (left, bottom), (right, top) = self._at(low), self._at(high)
        self._draw.rounded_rectangle((left, top, right, bottom), rounding * FINE, fill=fill)

    def line(self, start: Point, end: Point, fill: str, width: float = 1) -> None:
        """Draws a line with round ends."""
        points = [self._at(start), self._at(end)]
        self._draw.line(points, fill=fill, width=round(width * FINE))
        for x, y in points:
            self._dot(x, y, width / 2, fill)

    def dot(self, centre: Point, radius: float, fill: str) -> None:
        """Fills a circle of so many pixels."""
        self._dot(*self._at(centre), radius, fill)

    def _dot(self, x: float, y: float, radius: float, fill: str) -> None:
        reach = radius * FINE
        self._draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)

    def text(self, pixel: Point, words: str, fill: str, size: float = 16, anchor: str = "la"):
        """Writes at a pixel; `anchor` as in Pillow: "la" left, "ma" middle, "ra" right, all top."""
        font = ImageFont.load_default(size * FINE)
        self._draw.text((pixel[0] * FINE, pixel[1] * FINE), words, fill, font, anchor)

    def array(self) -> np.ndarray:
        """The picture, uint8 [height, width, 3]."""
        return np.array(self._image.reduce(FINE))
