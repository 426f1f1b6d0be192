"""Draws docs/assets/newborns.gif: two agents after the same training, one with a given value.

Both learn to drive from scratch. In `given` the value function of another agent (`affect.zoo`) is
paid as a potential; in `alone` it is computed and pays nothing. Run from the root of a checkout.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import affect
from affect import Blend, Lesion, Potential
from envs import load_suite
from runs import Experiment
from runs.report.film import draw_film

PATH = Path(__file__).parent / "assets" / "newborns.gif"
OUT = Path("runs/logs/newborns")
STEPS, SEED, MILLISECONDS, COLOURS, PAUSE = 28_672, 0, 80, 48, 12
TITLES = {"alone": "learned from reward alone", "given": "was also given a value"}


def main() -> None:
    """Train both, record one episode of each under one key, and write the animation."""
    value = Potential.from_card(affect.zoo.path("drive-value"))
    arms = {"alone": Blend(value=(1.0, Lesion(value))), "given": Blend(value=(1.0, value))}
    drive = load_suite("Drive")
    drive = replace(drive, shifts=drive.shifts[:1], severities=(1.0,))  # no more than is allowed
    options = {"seeds": 3, "steps": STEPS, "episodes": 8, "out": OUT, "recordings": False}
    result = Experiment(drive, arms, **options).run()
    print(result.curves.groupby(["arm", "step"])["success"].mean().unstack("arm"))
    films = [film(result, arm) for arm in arms]
    length = max(map(len, films)) + PAUSE
    both = np.concatenate([padded(one, length) for one in films], axis=2)
    pictures = [
        Image.fromarray(frame).quantize(COLOURS, dither=Image.Dither.NONE) for frame in both
    ]
    options = {"duration": MILLISECONDS, "loop": 0, "optimize": True}
    pictures[0].save(PATH, save_all=True, append_images=pictures[1:], **options)
    print(f"{PATH}: {len(both)} frames, {PATH.stat().st_size:,} bytes")


def film(result: object, arm: str) -> np.ndarray:
    """Frames [T, H, W, 3] of an episode of an arm: its title, the world, and the signals."""
    _, trace = result.episode(arm, seed=SEED)
    frames, _ = draw_film(trace.frames, {name: trace.signals[name] for name in ("value", "critic")})
    title = Image.new("RGB", (frames.shape[2], 26), "white")
    text = f"{TITLES[arm]}: {trace.ended}"
    ImageDraw.Draw(title).text((4, 4), text, fill="black", font=ImageFont.load_default(14))
    above = np.repeat(np.asarray(title)[None], len(frames), axis=0)
    margin = np.full((len(frames), frames.shape[1] + 26, 8, 3), 255, np.uint8)
    return np.concatenate([np.concatenate([above, frames], axis=1), margin], axis=2)


def padded(frames: np.ndarray, length: int) -> np.ndarray:
    """Frames with the last one repeated up to a length."""
    return np.concatenate([frames, np.repeat(frames[-1:], length - len(frames), axis=0)])


if __name__ == "__main__":
    main()
