"""Takes docs/assets/board-*.png: views of TensorBoard over two small studies, in Chromium.

The studies train CartPole for some minutes and are kept in runs/logs/screens; deleted, they are
trained anew. Run from the root of a checkout: `python -m docs.screens`.
"""

import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from affect import Blend, Curiosity, Fear, Potential
from agents import PPO
from envs import load_suite
from runs import Experiment
from runs.board import board_links, serve, served_folder
from tests.runs.page_browser import CHROMIUM, FLAGS

ASSETS = Path(__file__).parent / "assets"
OUT = Path("runs/logs/screens")
STUDIES = {"fast": PPO(lr=1e-3), "slow": PPO(lr=3e-4)}  # name -> its agent
ARMS = {
    "none": Blend(),
    "fear": Blend(fear=(1.0, Potential(Fear))),
    "curiosity": Blend(new=(0.1, Curiosity)),
}
VIEWS = (  # name of the picture, studies, title of the link, replaced in it
    ("shifts", ("fast",), "every shift, arm by arm", {}),
    ("training", ("fast",), "training, seed by seed", {}),
    ("heads", ("fast",), "training, seed by seed", {"^train/return$": "^train/fear/"}),
    ("studies", ("fast", "slow"), "  length", {}),
)
SIZE, SETTINGS = (1500, 600), 250  # of the window; of the pane at its right, in pixels
COLOURS, MILLISECONDS = 128, 30_000


def main() -> None:
    """Train what is not there yet, serve it, and take a picture of each view."""
    for name, agent in STUDIES.items():
        Experiment(load_suite("CartPole"), ARMS, agent, seeds=5, steps=60_000, out=OUT / name).run()
    for picture, names, title, changes in VIEWS:
        studies = {name: OUT / name for name in names}
        with served_folder(studies) as (folder, _):
            links = dict(board_links([*studies.values()], serve(folder, 0)))
            link = links[title]
            for old, new in changes.items():
                link = link.replace(quote(old, safe=""), quote(new, safe=""))
            take(link, ASSETS / f"board-{picture}.png")


def take(link: str, path: Path) -> None:
    """Write a picture of a page, in few colours, so that it is small."""
    size, time = ",".join(map(str, SIZE)), f"--virtual-time-budget={MILLISECONDS}"
    with tempfile.TemporaryDirectory() as home:
        flags = [*FLAGS, "--disable-3d-apis", time]  # lines are SVG then: no GPU is needed
        flags += [f"--user-data-dir={home}", f"--window-size={size}"]
        command = [CHROMIUM, *flags, f"--screenshot={path}", link]
        subprocess.run(command, check=True, timeout=300, capture_output=True)
    shown = Image.open(path).convert("RGB").crop((0, 0, SIZE[0] - SETTINGS, SIZE[1]))
    shown.quantize(COLOURS).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
