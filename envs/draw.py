"""Canvas to draw worlds on, in metres, with Pillow: no display, no GL, no game library."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ZOOM = 3  # pictures are drawn so many times larger, then reduced: smooth edges
Point: TypeAlias = tuple[float, float]  # metres, y upwards


class Canvas:
    """Canvas of fixed size; positions are in metres, line widths and text sizes in pixels.

    Args:
        size: pixels, (width, height).
        scale: pixels in a metre.
        origin: pixels of the position (0, 0), from the upper left corner.
        paper: background colour.
    """

    def __init__(self, size: tuple[int, int], scale: float, origin: Point, paper: str = "white"):
        self.scale, self._origin = scale, origin
        self._image = Image.new("RGB", (size[0] * ZOOM, size[1] * ZOOM), paper)
        self._draw = ImageDraw.Draw(self._image, "RGBA")

    def pixel(self, point: Point) -> Point:
        """Converts a position in metres to pixels."""
        x, y = (float(np.clip(metres, -1e3, 1e3)) * self.scale for metres in point)
        return self._origin[0] + x, self._origin[1] - y

    def _at(self, point: Point) -> Point:
        x, y = self.pixel(point)
        return ZOOM * x, ZOOM * y

    def polygon(self, points: Sequence[Point], fill: str) -> None:
        """Fills a polygon given its corners."""
        self._draw.polygon([self._at(point) for point in points], fill=fill)

    def box(self, low: Point, high: Point, fill: str, rounding: float = 0) -> None:
        """Fills a box between two corners; `rounding` is the radius of its corners in pixels."""
        (left, bottom), (right, top) = self._at(low), self._at(high)
        self._draw.rounded_rectangle((left, top, right, bottom), rounding * ZOOM, fill=fill)

    def line(self, start: Point, end: Point, fill: str, width: float = 1) -> None:
        """Draws a line with round ends."""
        points = [self._at(start), self._at(end)]
        self._draw.line(points, fill=fill, width=round(width * ZOOM))
        for x, y in points:
            self._dot(x, y, width / 2, fill)

    def dot(self, centre: Point, radius: float, fill: str) -> None:
        """Fills a circle; `radius` in pixels."""
        self._dot(*self._at(centre), radius, fill)

    def _dot(self, x: float, y: float, radius: float, fill: str) -> None:
        reach = radius * ZOOM
        self._draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)

    def text(self, pixel: Point, text: str, fill: str, size: float = 16, anchor: str = "la"):
        """Writes text at a pixel; `anchor` of the top edge as in Pillow: "la", "ma" or "ra"."""
        font = ImageFont.load_default(size * ZOOM)
        self._draw.text((pixel[0] * ZOOM, pixel[1] * ZOOM), text, fill, font, anchor)

    def array(self) -> np.ndarray:
        """Returns the picture, uint8 [height, width, 3]."""
        return np.array(self._image.reduce(ZOOM))
