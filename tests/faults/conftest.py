"""Print one table of what the tests of this folder tried, how often, and what was lost."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faults.bench import SMOKE, end, start


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Path:
    """A finished study, of the real command; not to be changed."""
    out = tmp_path_factory.mktemp("smoke") / "-a study's 100% 'ünïcode'"
    ended = end(start(*SMOKE, "--out", out))
    assert ended.code == 0, ended.err
    return out


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
