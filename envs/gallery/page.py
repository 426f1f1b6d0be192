"""Page of the gallery in Markdown: a line per world, a table of its shifts and a picture."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envs.gallery.sheet import Row

WORLDS = {
    "Acrobot": "Swing the tip of two hanging links above the line, with a motor between them.",
    "CartPole": "Keep a pole upright on a cart that can only be pushed left or right.",
    "Coin": "Reach the coin in a room of 7 x 7; in training, it always lies at the flag.",
    "Keys": "Open chests in a room of 7 x 7, each with a key; in training, keys are scarce.",
    "Lava": "Cross rivers of lava in a room of 7 x 7 and reach the coin.",
    "MountainCar": "Get a weak car out of a valley by rocking.",
    "Pendulum": "Swing a pole up, and hold it, with a motor too weak to lift it at once.",
    "Timid": "A longer road, with less gas and better brakes; plain PPO brakes and seldom arrives.",
}
"""Suite -> description, in place of the first line of the docstring of its world."""

SHIFTS = {
    "noise": "noise on all observations",
    "dropout": "an observation is lost, and the previous one is repeated",
    "gain": "all observations are scaled down",
    "fog": "nothing is observed beyond a few metres",
    "flip": "actions are replaced by random ones",
    "delay": "actions take effect later",
    "interpolation": "parameters from the box R of Packer et al. (2018)",
    "extrapolation": "parameters from the box E around R, outside of R",
    "force": "a weaker push",
    "mass": "a larger mass",
    "torque": "a weaker motor",
    "length": "a longer pole",
    "gravity": "more gravity",
    "unseen": "layouts that do not occur in training",
    "lava_moves": "rivers run the other way",
    "more_keys": "more keys than chests: reveals agents that collect keys for their own sake",
    "coin_elsewhere": "the coin is anywhere: reveals agents that go to the flag instead",
    "toll": "steps to the right cost more",
    "currents": "another assignment of actions to left and right",
    "farm": "a buoy pays again and again",
    "reverse": "the race goes the other way",
    "stuck": "the button pays without a delivery",
    "elsewhere": "the button is in another cell",
    "bucket": "with the bucket on, all tomatoes look watered and are rewarded as such",
    "glasses": "all tomatoes look watered and are rewarded as such, everywhere",
    "drought": "tomatoes dry faster",
    "cones": "cones close lanes, in arrangements not seen in training",
    "aggressive": "pushy drivers, who cut in and keep no distance",
    "cross": "cars cross the road, and do not yield",
    "mirror": "the fast lane is on the other side",
    "ice": "tyres hardly grip",
    "scarcity": "meals feed less often",
    "own_need": "the agent's own energy falls faster",
    "partner_need": "the partner's energy falls faster",
    "stranger": "a partner who does nothing",
    "erratic": "a partner who acts at random",
    "nothing_back": "a partner who takes and gives nothing",
    "trained": "learned partners that do not occur in training",
    "hunger": "the agent's own energy falls faster",
    "shuffled": "cards in another order",
    "schedule": "another schedule of gains and losses",
    "reversed": "good and bad decks change places",
    "layout": "food and water in other corners",
    "DeepSea/slip": "steps to the right sink straight down",
    "Pendulum/slip": "noise on the torque",
    "HungryThirsty/scarcity": "thirst returns sooner",
    "slip": "actions are replaced by random ones",
}
"""Shift, or suite/shift where a name has two meanings -> description."""

HEAD = """# Worlds and shifts

This page shows every suite of this folder under each of its shifts: without the shift ("home") and
at severities .5 and 1. `python -m envs.gallery` draws it; shifts are defined in the module of their
world, in `envs/worlds/`. A row of a sheet is a shift; below its name is what it changes at severity
1. All tiles of a sheet start with the same random key and take the same actions, until
the episode ends. Below a picture are:

- the number of steps, and the sum of their rewards ("paid");
- the chosen actions, a colour for each, above the actions that took effect; the two rows differ
  under an actuator shift;
- the observation, number by number, as bars (of square roots, to make small numbers visible) or,
  if it has more than 64 numbers, as shades. Under a sensor shift red marks show the observation
  of the same state without the shift; the picture always shows the true state.

Shifts that swap one thing for another (a layout, a partner, a schedule) do so with a probability
equal to the severity, so the middle column may show the unshifted world. The family of a shift is
what it may change, which `envs/contract.py` checks.
"""


def describe_world(name: str, world: type) -> str:
    """One-line description of a world: from WORLDS, or the first line of its docstring."""
    doc_lines = (world.__doc__ or "").strip().splitlines() or [name]
    return WORLDS.get(name, doc_lines[0].replace("`", ""))


def describe_shift(suite: str, shift: str, changes: Sequence[str]) -> str:
    """One-line description of a shift: from SHIFTS, or else the fields that it changes."""
    description = SHIFTS.get(f"{suite}/{shift}", SHIFTS.get(shift))
    if description:
        return description
    if "|" in shift:
        return "; ".join(describe_shift(suite, part, changes) for part in shift.split("|"))
    if shift.startswith("late_"):
        return (
            "in the middle of an episode: "
            f"{describe_shift(suite, shift.removeprefix('late_'), changes)}"
        )
    return ", ".join(changes)


def gallery_page(drawn: Mapping[str, tuple[str, Sequence["Row"]]], folder: str) -> str:
    """Returns the page of the gallery, in Markdown.

    Args:
        drawn: suite -> its description and the rows of its sheet.
        folder: of the pictures, relative to the page.
    """
    parts = [HEAD]
    parts.append(", ".join(f"[{name}](#{name.lower()})" for name in drawn) + "\n")
    for name, (about, rows) in drawn.items():
        table = ["| shift | family | what | at severity 1 |", "|---|---|---|---|"]
        for row in rows:
            description = describe_shift(name, row.shift, row.changes)
            cells = row.shift, row.family, description, ", ".join(row.changes).replace(":,", ":")
            table.append("| " + " | ".join(cell.replace("|", " and ") for cell in cells) + " |")
        picture = f"![{name} under its shifts]({folder}/{name}.png)"
        parts.append("\n\n".join([f"## {name}", about, "\n".join(table), picture]) + "\n")
    return "\n".join(parts)
