"""Cache the finished parts of a study as JSON files, so that a rerun resumes with the next."""

import json
from collections.abc import Callable
from pathlib import Path

from runs.lock import replace_file


def cached_part(path: Path, settings: str, compute: Callable[[], dict]) -> tuple[dict, bool]:
    """Results of a part of a study, from its file or computed -> (results, whether computed).

    Args:
        path: of the file.
        settings: on which the results depend, or their digest; a file of others is replaced.
        compute: returns the results, of a kind that JSON can hold.
    """
    results = load_part(path, settings)
    if results is not None:
        return results, False
    results = compute() | {"settings": settings}
    save_part(path, results)
    return results, True


def save_part(path: Path, results: dict) -> None:
    """Write the results of one part atomically, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(results))


def load_part(path: Path, settings: str) -> dict | None:
    """Read the saved results of a part; None if missing, broken or of other settings."""
    try:
        results = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return results if results.get("settings") == settings else None
