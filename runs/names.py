"""Names of an episode's scores (SCORES), of arms and folders; checks of names given by users."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from runs.errors import UserError

REPORTED_SCORES = ("harm", "hidden", "other_goal")
"""Scores that only some worlds report in `info`; NaN in the others."""
SCORES = ("return", "length", "success", "terminated", "truncated", *REPORTED_SCORES)
"""Scores of an agent at one evaluation point."""
CONSTANT_POTENTIAL = "potential_"
"""How the names of arms paid by a constant potential begin; its level follows."""
RESULTS = Path("runs/results")  # of `--record`
LOGS = Path("runs/logs")  # of studies without `--out`
LARGEST = 10**11  # of whole numbers: more steps of a seed than a machine takes in a week


def closest_name(name: str, choices: Iterable[str]) -> str:
    """Hint for an error message: the closest choice, else all if at most 20, else empty."""
    choices = [str(choice) for choice in choices]
    by_lowercase = {choice.lower(): choice for choice in choices}
    matches = difflib.get_close_matches(name.lower(), by_lowercase, 1)
    if matches:
        return f"; did you mean {by_lowercase[matches[0]]}?"
    return f"; there are {', '.join(choices)}" if len(choices) <= 20 else ""


def checked_choice(kind: str, name: str, choices: Iterable[str]) -> str:
    """Return `name` if it is one of the choices.

    Raises:
        UserError: if not, naming the present name of a renamed arm, else the closest choice.
    """
    choices = list(choices)
    if name in choices:
        return name
    from affect.renamed import renamed_arm

    present = renamed_arm(name)
    renamed = present in choices
    hint = f"; it was renamed: use {present}" if renamed else closest_name(name, choices)
    raise UserError(f"unknown {kind} {name!r}{hint}")


def safe_name(name: str) -> str:
    """Returns `name` as one part of a path, a run name and a tag: other characters become `_`."""
    return re.sub(r"[^A-Za-z0-9_.,=+-]|^\.+", "_", name) or "_"
