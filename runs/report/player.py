"""Recorded episodes in an HTML page: stills, curves, and frames that a script plays.

Without JavaScript a page shows ten stills and the curves of an episode. Its one script is
`replay.js`, which the page's content security policy allows by its hash.
"""

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from runs.report import figures
from runs.report.arm_style import ArmStyle
from runs.report.episode_trace import EpisodeTrace
from runs.report.svg import INK, short

SCRIPT = Path(__file__).with_name("replay.js").read_text()
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""Content security policy of a page, which forbids scripts and external resources."""
_DIGEST = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
PLAYER_POLICY = f"{POLICY}; script-src 'sha256-{_DIGEST}'"
"""The same, but for the script of the player, which it allows by its hash."""
MAX_STILLS, WIDTH, PALETTE = 10, 320, 40  # per episode; pixels; colours of a still
MAX_FRAMES, MAX_BYTES = 300, 700_000  # of the sheet of an episode; two of them are in a report


class Sheet(NamedTuple):
    """Frames of an episode as tiles of one picture, row by row.

    Attributes:
        url: the picture, a data URL.
        count: number of frames, at equal distances from the first step to the last.
        columns: number of tiles in a row.
        width, height: of a tile, in pixels.
    """

    url: str
    count: int
    columns: int
    width: int
    height: int


def timelines(
    episodes: Sequence[tuple[str, EpisodeTrace]], styles: Mapping[str, ArmStyle]
) -> Iterator[dict[str, Any]]:
    """Timeline of each episode, as `timeline.jinja` takes it.

    A signal has one scale in all episodes, and the colour of its arm.
    """
    names = dict.fromkeys(name for _, episode in episodes for name in episode.signals)
    ranges = {
        name: figures.extent(e.signals[name] for _, e in episodes if name in e.signals)
        for name in names
    }
    for title, episode in episodes:
        length, signals = len(episode.frames), []
        for name, values in episode.signals.items():
            finite = values[np.isfinite(values)]
            text = f"{short(finite.min())} to {short(finite.max())}" if finite.size else ""
            colour = styles[name].colour if name in styles else INK
            description = f"{name} over the steps of {title}"
            curve = figures.signal_curve(values, ranges[name], colour, episode.blunder, description)
            signals.append((name, text or "no finite value", curve, values_as_json(values)))
        ticks = MaxNLocator(6, integer=True).tick_values(0, max(length - 1, 1))
        yield {
            "title": title,
            "summary": f"{length} steps" + (f", ended: {episode.ended}" if episode.ended else ""),
            "ended": episode.ended,
            "length": length,
            "last": max(length - 1, 1),
            "blunder": episode.blunder,
            "frames": [
                (step, png_data_url(episode.frames[step]))
                for step in steps_to_show(length, episode.blunder)
            ],
            "sheet": sheet_of_frames(episode.frames),
            "signals": signals,
            "ticks": [int(step) for step in ticks if step < length],
        }


def values_as_json(values: np.ndarray) -> str:
    """A signal [T] as a JSON list of numbers of four digits, null where they are not finite."""
    return json.dumps([float(f"{x:.4g}") if np.isfinite(x) else None for x in values])


def steps_to_show(length: int, blunder: int | None) -> list[int]:
    """Steps to show: middles of MAX_STILLS equal spans, but always the blunder and last step."""
    count = min(MAX_STILLS, length)
    edges = np.arange(count + 1) * length / count
    steps = [int((a + b) / 2) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    steps[-1] = length - 1
    if blunder is not None and 0 <= blunder < length:
        steps[int(np.searchsorted(edges, blunder, side="right")) - 1] = blunder
    return sorted(set(steps))


def png_data_url(frame: np.ndarray) -> str:
    """Encodes a frame [H, W, 3] as a PNG at most WIDTH wide, of few colours, in a data URL."""
    from PIL import Image

    image = shrunk(frame)
    if image.width * 2 <= WIDTH:
        times = WIDTH // image.width
        image = image.resize((image.width * times, image.height * times), Image.NEAREST)
    image = image.quantize(PALETTE, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def sheet_of_frames(frames: np.ndarray) -> Sheet:
    """Encodes frames [T, H, W, 3] as tiles of one WebP picture of about MAX_BYTES at most.

    Without loss if that is small enough, else with loss, and then of fewer frames.
    """
    from PIL import Image

    count = min(len(frames), MAX_FRAMES)
    while True:
        steps = np.linspace(0, len(frames) - 1, count).round().astype(int)
        tiles = [shrunk(frames[step]) for step in steps]
        (width, height), columns = tiles[0].size, int(np.ceil(np.sqrt(count)))
        sheet = Image.new("RGB", (width * columns, height * -(-count // columns)))
        for i, tile in enumerate(tiles):
            sheet.paste(tile, (i % columns * width, i // columns * height))
        for options in ({"lossless": True, "quality": 40}, {"quality": 60}):
            buffer = io.BytesIO()
            sheet.save(buffer, "WEBP", method=2, **options)
            if buffer.tell() <= MAX_BYTES:
                break
        if buffer.tell() <= MAX_BYTES or count <= MAX_STILLS:
            url = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
            return Sheet(url, count, columns, width, height)
        count = max(count // 2, MAX_STILLS)


def shrunk(frame: np.ndarray) -> Any:
    """A frame [H, W, 3] as a picture of at most WIDTH pixels across."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(frame, np.uint8))
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.LANCZOS)
    return image
