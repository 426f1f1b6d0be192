"""Parts of a study that are done: kept in a file each, so that it goes on with the next."""

import json
import os
from pathlib import Path


def save_part(path: Path, found: dict) -> None:
    """Writes what a training came to, all of it or nothing."""
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(found))
    os.replace(beside, path)


def load_part(path: Path, recipe: str) -> dict | None:
    """What the same training came to before, if it did."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found if found.get("recipe") == recipe else None
