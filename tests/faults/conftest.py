"""Print one table of what the tests of this folder tried, how often, and what was lost."""

from collections import Counter
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Sums the rows that tests reported by `tests.faults.bench.report`."""
    tried, lost = Counter(), Counter()
    for outcome in ("passed", "failed"):
        for result in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(result, "user_properties", ()):
                if name == "faults":
                    tried[value[0]] += value[1]
                    lost[value[0]] += value[2]
    if tried:
        terminalreporter.write_line("\n| what was tried | times | lost |\n| --- | ---: | ---: |")
        for what in sorted(tried):
            terminalreporter.write_line(f"| {what} | {tried[what]} | {lost[what]} |")
