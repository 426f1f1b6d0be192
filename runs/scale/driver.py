"""Driver of a sweep: runs the cells that are missing, retries lost ones, and lists failures."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runs.errors import Interrupted
from runs.scale.cell import LOG, failure, is_done
from runs.scale.executors import Executor

ATTEMPTS = 3  # of a cell that does not fail for good
PERMANENT = 2  # exit code of settings that cannot be run
SECONDS = 0.2  # between two looks at what has ended, at least
RATE = 100  # cells that are looked at in a second, at most, as a look may be an access to a disk


def run_missing(
    folders: Sequence[Path], executor: Executor, progress: Any, stopped: Callable[[], bool]
) -> dict[Path, str]:
    """Run every cell that is not done, and close the executor -> why cells failed, by folder.

    Settings that cannot be run (exit code 2) are tried once, and by no other driver. A cell that
    fails otherwise is tried ATTEMPTS times.

    Raises:
        Interrupted: if `stopped()` is true; cells resume when the driver is started again.
    """
    failures = {folder: text for folder in folders if (text := failure(folder))}
    waiting = deque(f for f in folders if f not in failures and not is_done(f))
    tries, running = Counter[Path](), dict[Path, Any]()
    progress.advance("cells", len(folders) - len(waiting), False)
    try:
        while waiting or running:
            if stopped():
                raise Interrupted
            free = min(executor.slots - len(running), len(waiting))
            if new := [waiting.popleft() for _ in range(free)]:
                tries.update(new)
                running.update(zip(new, executor.start(new), strict=True))
            for folder, handle in list(running.items()):
                if (code := executor.code(handle)) is None:
                    continue
                del running[folder]
                if code == 0 and is_done(folder):
                    continue
                if code != PERMANENT and tries[folder] < ATTEMPTS:
                    waiting.append(folder)
                    progress.say(f"{folder.name} ended with code {code} and is tried again")
                else:
                    times = f"ended with code {code} {tries[folder]} times; see {folder / LOG}"
                    failures[folder] = failure(folder) or times
                    progress.say(f"{folder.name} failed: {failures[folder]}")
            progress.advance("cells", len(folders) - len(waiting) - len(running))
            time.sleep(max(SECONDS, len(running) / RATE))
    finally:
        executor.close(running.values())
    return failures
