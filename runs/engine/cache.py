"""Cache the finished parts of a study as JSON files, so that a rerun resumes with the next."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from runs.lock import replace_file


def cached_part(path: Path, settings: str, compute: Callable[[], dict]) -> tuple[dict, bool]:
    """Results of a part of a study, from its file or computed -> (results, whether computed).

    Args:
        path: of the file; one that is broken is replaced.
        settings: on which the results depend, or their digest; a file of others is replaced.
        compute: returns the results, of a kind that JSON can hold.
    """
    with suppress(FileNotFoundError, json.JSONDecodeError):
        results = json.loads(path.read_text())
        if results.get("settings") == settings:
            return results, False
    results = compute() | {"settings": settings}
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(results))
    return results, True
