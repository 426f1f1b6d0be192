"""What makes an observation an image, by shape, dtype and bounds: decided here and nowhere else.

An image is a `Box` of uint8 with three axes, or with two of at least PIXELS. Its channels are the
last axis, or the first if that is the shorter one. If the shorter side has at least PIXELS and the
upper bound is 255, bytes are brightness, which networks get divided by 255. Otherwise they are
symbols, such as the codes of the cells of a 7 x 7 x 3 grid, which networks get as they are.

An image that cannot be taken is refused: of other numbers up to 255, of one pixel, of four axes as
stacked frames have them, and one inside of a `Tuple` or of a `Dict` in a `Dict`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from gymnasium import spaces

PIXELS = 12  # of the shorter side of an image, from which bytes are brightness and no symbols
KINDS = ("pixels", "symbols", "numbers")
"""What a user may say an image is: brightness, symbols, or a vector of numbers like any other."""
NUMBERS = "gymnasium.wrappers.TransformObservation, or take it for numbers by image='numbers'"


class ImageFacts(NamedTuple):
    """An image in an observation: the fields of `affect.Image`, and where it is.

    Attributes:
        height, width, channels, unit, channel_first: as in `affect.Image`.
        key: of the image in a `Dict`; None if it is the whole observation.
    """

    height: int
    width: int
    channels: int
    unit: float
    channel_first: bool
    key: str | None = None


def image_facts(space: spaces.Space, id: str, kind: str | None = None) -> ImageFacts | None:
    """The image of an observation space; None if there is none.

    Args:
        space: of observations; in a `Dict`, one entry may be an image.
        id: of the environment, for messages.
        kind: one of KINDS, in the place of the rule; None for the rule.

    Raises:
        ValueError: for a kind that is none or a space without an image, several images, and an
            image that cannot be taken.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"{id}: image={kind!r}, expected None or one of {', '.join(KINDS)}")
    if kind == "numbers":
        return None
    entries = dict(space.items()) if isinstance(space, spaces.Dict) else {None: space}
    for part in filter(_is_nested, entries.values()):
        if any(_is_image(box, id, kind) for box in _boxes(part)):
            raise ValueError(
                f"{id}: an image inside of a {type(part).__name__}: observe a Dict of it and of "
                f"numbers, by {NUMBERS}"
            )
    boxes = {key: part for key, part in entries.items() if isinstance(part, spaces.Box)}
    facts = [
        _box_facts(box, id, kind)._replace(key=key)
        for key, box in boxes.items()
        if _is_image(box, id, kind)
    ]
    if len(facts) > 1:
        keys = ", ".join(repr(one.key) for one in facts)
        raise ValueError(
            f"{id}: an observation has {len(facts)} images, {keys}, expected one: keep one by "
            "gymnasium.wrappers.FilterObservation, or take them for numbers by image='numbers'"
        )
    if kind is not None and not facts:
        raise ValueError(f"{id}: image={kind!r}, but no part of {space} is a Box of uint8 pixels")
    return facts[0] if facts else None


def _is_image(box: spaces.Box, id: str, kind: str | None) -> bool:
    """Whether a box holds an image; ValueError for one that cannot be taken as it is."""
    axes, sides = len(box.shape), sorted(_sides(box.shape)[0])
    large = axes in (2, 3, 4) and sides[-2] >= PIXELS
    if box.dtype != np.uint8:
        if large and axes < 4 and (box.low == 0).all() and (box.high == 255).all():
            raise ValueError(
                f"{id}: an image of {box.dtype} in [0, 255], of shape {box.shape}: expected uint8; "
                f"convert it by {NUMBERS}"
            )
        return False
    if axes == 3 and sorted(box.shape)[1] == 1:
        raise ValueError(
            f"{id}: an image of one pixel, of shape {box.shape}: observe its {max(box.shape)} "
            f"numbers as a vector, by {NUMBERS}"
        )
    if axes == 4 and large:
        raise ValueError(
            f"{id}: an image of four axes, of shape {box.shape}, such as stacked frames: expected "
            f"three; move frames to the channels by {NUMBERS}"
        )
    return axes == 3 or (axes == 2 and (large or kind is not None))


def _is_nested(space: spaces.Space) -> bool:
    """Whether a space has parts."""
    return isinstance(space, spaces.Dict | spaces.Tuple)


def _boxes(space: spaces.Space) -> list[spaces.Box]:
    """All boxes in a space, in its parts and in theirs."""
    if not _is_nested(space):
        return [space] if isinstance(space, spaces.Box) else []
    parts = space.values() if isinstance(space, spaces.Dict) else space
    return [box for part in parts for box in _boxes(part)]


def _box_facts(box: spaces.Box, id: str, kind: str | None) -> ImageFacts:
    """Facts of a box that holds an image."""
    (height, width), channels, channel_first = _sides(box.shape)
    brightness = min(height, width) >= PIXELS and (box.high == 255).all()
    if kind is not None:
        brightness = kind == "pixels"
    return ImageFacts(height, width, channels, 255.0 if brightness else 1.0, channel_first)


def _sides(shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, bool]:
    """((height, width), channels, whether these come first) of the shape of an image."""
    if len(shape) != 3:
        return shape, 1, False
    first = shape[0] < shape[2]
    return (shape[1:], shape[0], True) if first else (shape[:2], shape[2], False)
