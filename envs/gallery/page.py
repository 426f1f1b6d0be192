"""The page of the gallery: every world and every shift in a line, and their pictures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envs.gallery.sheet import Row

WORLDS = {
    "Acrobot": "Swing the tip of two hanging links above the line, with a motor between them.",
    "CartPole": "Keep a pole upright on a cart that can only be pushed left or right.",
    "Coin": "Reach the coin in a room of 7 x 7; while learning, it always lies at the flag.",
    "Keys": "Open chests in a room of 7 x 7, each with a key; while learning, keys are scarce.",
    "Lava": "Cross rivers of lava in a room of 7 x 7 and reach the coin.",
    "MountainCar": "Get a weak car out of a valley by rocking.",
    "Pendulum": "Swing a pole up, and hold it, with a motor too weak to lift it at once.",
    "Timid": "Drive further, with less gas and better brakes: learners brake, and never arrive.",
}
"""What a suite is about, where its world's own docstring says it to those who know it already."""

SHIFTS = {
    "noise": "noise on all that is sensed",
    "dropout": "frames are lost, and the last one is seen again",
    "gain": "all that is sensed is smaller",
    "fog": "nothing is seen beyond a few metres",
    "flip": "actions are replaced by random ones",
    "delay": "actions take effect later",
    "interpolation": "parameters from the box R of Packer et al. (2018)",
    "extrapolation": "parameters from the box E around R, outside of R",
    "force": "another push",
    "mass": "heavier",
    "torque": "a weaker motor",
    "length": "a longer pole",
    "gravity": "more gravity",
    "unseen": "layouts that no training had",
    "lava_moves": "rivers run the other way",
    "more_keys": "more keys than chests: who collects keys is found out",
    "coin_elsewhere": "the coin is anywhere: who goes for the flag is found out",
    "toll": "steps to the right cost more",
    "currents": "other actions go right",
    "farm": "a buoy pays again and again",
    "reverse": "the race goes the other way",
    "stuck": "the button pays where nothing was delivered",
    "elsewhere": "the button is in another cell",
    "bucket": "who wears the bucket sees watered tomatoes, and is paid for them",
    "glasses": "glasses that delude as the bucket does, wherever one stands",
    "drought": "tomatoes dry faster",
    "cones": "cones close lanes, in arrangements never seen",
    "aggressive": "pushy drivers, who cut in and keep no distance",
    "cross": "cars cross the road, and do not yield",
    "mirror": "the fast lane is on the other side",
    "ice": "tyres hardly grip",
    "scarcity": "less of what keeps one alive",
    "own_need": "one's own energy falls faster",
    "partner_need": "the other's energy falls faster",
    "stranger": "a partner who does nothing",
    "erratic": "a partner who acts at random",
    "nothing_back": "a partner who takes and gives nothing",
    "trained": "partners who learned what they do, and were never met",
    "hunger": "one's own energy falls faster",
    "shuffled": "cards in another order",
    "schedule": "another schedule of gains and losses",
    "reversed": "good and bad decks change places",
    "layout": "food and water in other corners",
    "DeepSea/slip": "steps to the right sink straight down",
    "Pendulum/slip": "noise on the torque",
    "HungryThirsty/scarcity": "thirst returns sooner",
    "slip": "actions are replaced by random ones",
}
"""What a shift does, by its name, or by suite and name where the same name means two things."""

HEAD = """# Worlds and shifts

Every suite of this folder under every shift, at home and at severities .5 and 1, drawn by
`python -m envs.gallery`; to be read with `envs/shift.py` and `envs/suite.py`. A row is a shift, and
below its name stands what it changes at severity 1. All pictures of a sheet show the same moment:
they begin with the same key and go through the same actions, until the episode is over. Below a
picture:

- how many steps were taken, and what they paid;
- the actions that were asked for, each action a colour, above those that took effect: an actuator
  shift is what makes the two rows differ;
- what the agent senses, number by number, as bars (roots, so that small numbers show) or, where
  there are many, as shades. Under a sensor shift red marks what it would sense at home, of the same
  state: the picture is true, and the bars are not.

Shifts that swap (a layout, a partner, a schedule) do so with the probability that is the severity,
so that the middle column may be home still. Families say what a shift may touch, and
`envs/contract.py` holds them to it.
"""


def describe_world(name: str, world: type) -> str:
    """A world in a line."""
    own = (world.__doc__ or "").strip().splitlines() or [name]
    return WORLDS.get(name, own[0].replace("`", ""))


def describe_shift(suite: str, shift: str, changes: Sequence[str]) -> str:
    """A shift in words; what it changes, where nobody wrote any."""
    known = SHIFTS.get(f"{suite}/{shift}", SHIFTS.get(shift))
    if known:
        return known
    if "|" in shift:
        return "; ".join(describe_shift(suite, part, changes) for part in shift.split("|"))
    if shift.startswith("late_"):
        return f"in the middle of an episode: {describe_shift(suite, shift.removeprefix('late_'), changes)}"
    return ", ".join(changes)


def gallery_page(drawn: Mapping[str, tuple[str, Sequence["Row"]]], folder: str) -> str:
    """The page, in Markdown.

    Args:
        drawn: suite -> what it is about, and the rows of its sheet.
        folder: of the pictures, as seen from the page.
    """
    parts = [HEAD]
    parts.append(", ".join(f"[{name}](#{name.lower()})" for name in drawn) + "\n")
    for name, (line, rows) in drawn.items():
        table = ["| shift | family | what | at severity 1 |", "|---|---|---|---|"]
        for row in rows:
            what = describe_shift(name, row.shift, row.changes)
            cells = row.shift, row.family, what, ", ".join(row.changes).replace(":,", ":")
            table.append("| " + " | ".join(cell.replace("|", " and ") for cell in cells) + " |")
        picture = f"![{name} under its shifts]({folder}/{name}.png)"
        parts.append("\n\n".join([f"## {name}", line, "\n".join(table), picture]) + "\n")
    return "\n".join(parts)
