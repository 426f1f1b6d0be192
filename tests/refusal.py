"""What is refused in one line: calls that raise, commands that end with exit code 2."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def refused(error: Any, *words: str, match: str | None = None) -> Iterator[pytest.ExceptionInfo]:
    """Asserts that an error of one line with these words, and of this pattern, is raised inside."""
    with pytest.raises(error, match=match) as caught:
        yield caught
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def refusal(call: Callable, *args: Any, **options: Any) -> str:
    """The line of the `UserError` that a call must raise."""
    from runs.errors import UserError

    with refused(UserError) as caught:
        call(*args, **options)
    return str(caught.value)


def refused_command(
    main: Callable, *argv: Any, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The one line on stderr with which a command ends in this process, and exit code 2."""
    from runs.cli.settings import run_main

    monkeypatch.setattr(sys, "argv", ["command", *map(str, argv)])
    with pytest.raises(SystemExit) as stop:
        run_main(main)
    out, line = capsys.readouterr()
    assert (stop.value.code, out, line.count("\n")) == (2, "", 1) and line.startswith("error: ")
    return line
