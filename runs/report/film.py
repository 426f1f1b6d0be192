"""TensorBoard animation of one episode, above the curves of the heads' signals."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from runs.names import safe_name
from runs.report.tb_export import delete_files
from runs.report.tb_writer import RUN_FILES, EventWriter

FRAMES, FPS = 150, 25.0  # at most; of an episode, which thinning does not slow down or speed up
WIDTH, STRIP = 300, 54  # pixels: approximate width of a frame, height of a signal


def write_film(
    out: Path, env: str, arm: str, frames: np.ndarray, signals: Mapping[str, np.ndarray]
) -> None:
    """Writes the animation of `draw_film` to TensorBoard; a simple world's has under a megabyte.

    Args:
        out: directory of the study.
        env: name of the environment.
        arm: whose agent acts.
        frames: uint8 [T, H, W, 3].
        signals: signal of each head, `{name: float [T]}`; may be empty.

    Raises:
        ValueError: there is no frame, or a signal is not as long as the episode.
    """
    folder = _folder(out, env, arm)
    delete_files(folder, RUN_FILES + ".rollout")
    film, stride = draw_film(frames, signals)
    with EventWriter(folder, ".rollout") as events:
        events.gif("rollout", film, step=0, fps=FPS / stride)


def draw_film(frames: np.ndarray, signals: Mapping[str, np.ndarray]) -> tuple[np.ndarray, int]:
    """Draws one episode above the curve of every signal -> (frames, steps from one to the next).

    Long episodes are thinned to at most `FRAMES` frames, which are shrunk or enlarged by a whole
    number to about `WIDTH` pixels.

    Args:
        frames: uint8 [T, H, W, 3].
        signals: `{name: float [T]}`; may be empty.

    Raises:
        ValueError: there is no frame, or a signal is not as long as the episode.
    """
    frames = np.asarray(frames, np.uint8)
    if not len(frames):
        raise ValueError("an episode without a frame cannot be shown")
    stride = -(-len(frames) // FRAMES)
    shrink, grow = max(1, round(frames.shape[2] / WIDTH)), max(1, WIDTH // frames.shape[2])
    film = frames[::stride, ::shrink, ::shrink].repeat(grow, axis=1).repeat(grow, axis=2)
    width = film.shape[2]
    if signals:
        strips = [_strip(name, values, len(frames), width) for name, values in signals.items()]
        curves = np.repeat(np.concatenate(strips)[None], len(film), axis=0)
        cursor = np.arange(0, len(frames), stride) * (width - 1) // max(1, len(frames) - 1)
        curves[np.arange(len(film)), :, cursor] = (200, 30, 30)
        film = np.concatenate([film, curves], axis=1)
    return film, stride


def has_film(out: Path, env: str, arm: str) -> bool:
    """Whether there is a film of an arm in the folder of a study."""
    return any(_folder(out, env, arm).glob(RUN_FILES + ".rollout"))


def _folder(out: Path, env: str, arm: str) -> Path:
    """Folder of the event files of an arm."""
    return Path(out) / "tb" / "compare" / safe_name(env) / safe_name(arm)


def _strip(name: str, signal: np.ndarray, length: int, width: int) -> np.ndarray:
    """Draws the curve of a signal [T] and its range as an image uint8 [STRIP, width, 3]."""
    from PIL import Image, ImageDraw, ImageFont

    signal = np.asarray(signal, float)
    if signal.shape != (length,):
        raise ValueError(
            f"signal {name!r} has shape {signal.shape}, but the episode has {length} frames"
        )
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
