"""Cache the finished parts of a study as JSON files, so that a rerun resumes with the next."""

import json
import os
from pathlib import Path


def save_part(path: Path, results: dict) -> None:
    """Write the results of one part atomically, as JSON."""
    partial_file = path.with_suffix(".part")
    partial_file.write_text(json.dumps(results))
    os.replace(partial_file, path)


def load_part(path: Path, settings: str) -> dict | None:
    """Read the saved results of a part; None if missing, broken or of other settings."""
    try:
        results = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return results if results.get("settings") == settings else None
