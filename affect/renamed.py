"""Old names of version 0.1, so that the use of one raises an error that gives the new name."""

PUBLIC = {
    "COUPLINGS": "WRAPPERS",
    "Feelings": "BlendState",
    "Scrambled": "Untrained",
    "Trained": "TrainState",
    "descend": "gradient_step",
    "trainable": "TrainState.create",
}
"""Of `affect`."""

STUDIES = {
    "gaming": "selection_bias",
    "life": "continual",
    "null": "type1_error",
    "unpaid": "reward_free",
}
"""Of `python -m runs.NAME`, of folders in runs/logs and of files in runs/results."""

ARMS = {"scrambled": "untrained"}
"""Endings of the names of arms: `fear_scrambled` is `fear_untrained`."""


def renamed_arm(name: str) -> str | None:
    """The present name of an arm of version 0.1; None if it was not renamed."""
    stem, _, ending = name.rpartition("_")
    new = ARMS.get(ending)
    return None if new is None else f"{stem}_{new}".lstrip("_")
