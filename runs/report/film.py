"""An episode as an animation in TensorBoard, above the timeline of what was felt in it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from runs.report.tb_export import delete_files, safe_name
from runs.report.tb_writer import RUN_FILES, EventWriter

FRAMES, WIDTH, STRIP = 150, 300, 54
"""The most pictures, about their width, and the height of a signal, in pixels."""


def write_film(
    out: Path,
    env: str,
    arm: str,
    frames: np.ndarray,
    signals: Mapping[str, np.ndarray],
    fps: float = 25.0,
) -> None:
    """Writes one episode as an animation above the timeline of every signal.

    Long episodes are thinned to at most `FRAMES` pictures and these shrunk or enlarged by a whole
    number to about `WIDTH` pixels, which keeps the GIF of a simple world under a megabyte.

    Args:
      out: directory of the study.
      env: name of the environment.
      arm: the arm whose agent acts.
      frames: uint8 [T, H, W, 3].
      signals: what each head emitted, `{name: float [T]}`; may be empty.
      fps: frames shown a second, before thinning; the episode keeps its pace.

    Raises:
      ValueError: there is no frame, or a signal is not as long as the episode.
    """
    home = Path(out) / "tb" / "compare" / safe_name(env) / safe_name(arm)
    delete_files(home, RUN_FILES + ".rollout")
    frames = np.asarray(frames, np.uint8)
    if not len(frames):
        raise ValueError("an episode without a frame cannot be shown")
    every = -(-len(frames) // FRAMES)
    shrink, grow = max(1, round(frames.shape[2] / WIDTH)), max(1, WIDTH // frames.shape[2])
    shown = frames[::every, ::shrink, ::shrink].repeat(grow, axis=1).repeat(grow, axis=2)
    width = shown.shape[2]
    if signals:
        strips = [_strip(name, values, len(frames), width) for name, values in signals.items()]
        below = np.repeat(np.concatenate(strips)[None], len(shown), axis=0)
        now = np.arange(0, len(frames), every) * (width - 1) // max(1, len(frames) - 1)
        below[np.arange(len(shown)), :, now] = (200, 30, 30)
        shown = np.concatenate([shown, below], axis=1)
    with EventWriter(home, ".rollout") as events:
        events.gif("rollout", shown, step=0, fps=fps / every)


def _strip(name: str, signal: np.ndarray, length: int, width: int) -> np.ndarray:
    """Draws the curve of a signal [T] with its range as a picture uint8 [STRIP, width, 3]."""
    from PIL import Image, ImageDraw, ImageFont

    signal = np.asarray(signal, float)
    if signal.shape != (length,):
        raise ValueError(f"signal {name!r} has shape {signal.shape}, the episode {length} frames")
    finite = signal[np.isfinite(signal)]
    lo, hi = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    height = (np.nan_to_num(signal, nan=lo, posinf=hi, neginf=lo) - lo) / ((hi - lo) or 1.0)
    x = np.arange(length) / max(1, length - 1) * (width - 1)
    y = STRIP - 3 - height * (STRIP - 22)
    picture = Image.new("RGB", (width, STRIP), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    draw.text((3, 1), f"{name}  {lo:.3g} to {hi:.3g}", fill=(0, 0, 0), font=font)
    draw.line(list(zip(x, y, strict=True)), fill=(30, 90, 200), width=2)
    draw.line([(0, 0), (width, 0)], fill=(210, 210, 210))
    return np.asarray(picture)
