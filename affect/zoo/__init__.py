"""Trained heads that come with the library, each a file of at most 4 kB but for one whole critic.

`print(affect.zoo.table())` lists them. `affect.zoo.load("drive-value-2x4")` gives one, and
`Potential.from_card(affect.zoo.path("drive-value-2x4"))` pays it with the scale and the shift of
its card. Each card holds the commands that made its file; `python -m runs.zoo`, in a checkout,
makes all of them anew.
"""

from pathlib import Path

from affect import inheritance
from affect.head import Head
from affect.store import Card

SUFFIX = ".safetensors"
COLUMNS = (
    *("name", "head", "reads", "bytes", "world", "steps"),
    *("AUROC", "shifted", "rank", "shifted", "scale", "shift"),
)


def names() -> tuple[str, ...]:
    """Names of the heads, sorted."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob(f"*{SUFFIX}")))


def path(name: str) -> Path:
    """The file of a head, for `Inherited` and `Potential.from_card`.

    Raises:
        ValueError: no head of this name.
    """
    if name not in names():
        raise ValueError(f"the zoo has no {name!r}: it has {', '.join(names())}")
    return Path(__file__).with_name(name + SUFFIX)


def load(name: str) -> Head:
    """A head by its name, such as "drive-value".

    Raises:
        ValueError: no head of this name.
    """
    return inheritance.load(path(name))


def table() -> str:
    """The heads, a line each, as text in columns.

    `reads` is the length of an observation, `steps` of each seed. AUROC of success of an episode
    and rank correlation with its return to come are of the signal, at home and (`shifted`) as the
    mean over shifts, `-` where they are not defined. `scale` and `shift` are for `Potential`.
    """
    rows = [COLUMNS, *(row(name, inheritance.read_card(path(name))) for name in names())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in rows]
    return "\n".join(lines)


def row(name: str, card: Card) -> tuple[str, ...]:
    """Cells of a head in the table, in the order of COLUMNS."""
    sizes = [f"{x:g}" for x in card.settings.get("layers", ())]
    bits = card.settings.get("bits")
    what = card.head.removeprefix("affect.") + (f" {'-'.join(sizes)}" if sizes else "")
    what += f", {bits} bits" if bits else ""
    what += f" {card.settings['horizon']}" if "horizon" in card.settings else ""
    keys = [f"{name}_{part}" for name in ("auroc", "rank") for part in ("home", "shift")]
    measures = [f"{card.measures[key]:.2f}" if key in card.measures else "-" for key in keys]
    start = name, what, str(card.reads["obs"]["shape"][0]), str(path(name).stat().st_size)
    return *start, card.world, f"{card.steps:,}", *measures, f"{card.scale:g}", f"{card.shift:.3g}"
