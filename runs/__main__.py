"""What can this laboratory be asked, how long does an answer take, and what was it last time?

Each question is a module that is run as `python -m runs.NAME`, and says more with `--help`.
"""

import argparse
import shutil
import signal
import sys
import textwrap
from pathlib import Path

from runs.cli.index import Study, list_studies

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 240  # characters of a finding


def main(argv: list[str]) -> int:
    """Prints the list; the exit code."""
    argparse.ArgumentParser(prog="python -m runs", description=__doc__).parse_args(argv)
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    found = list_studies(ROOT)
    for question in found:
        if question.recorded:
            print(index_entry(question, width))
    print("\nand, with nothing to record:")
    for question in found:
        if not question.recorded:
            print(index_entry(question, width))
    return 0


def index_entry(question: Study, width: int) -> str:
    """A question's lines: its name, its minutes, what it asks; below, what was found last."""
    minutes = "" if question.minutes is None else f"{question.minutes:g} min"
    first = f"{f'runs.{question.name}':<20}{minutes:>7}  {question.asks}"
    lines = textwrap.wrap(first, width, subsequent_indent=" " * 29)
    if question.last is not None:
        when, said, where = question.last
        said = textwrap.shorten(said or f"see {where}", LONGEST, placeholder=" ...")
        indent = " " * 29
        lines += textwrap.wrap(
            f"{when}: {said}", width, initial_indent=indent, subsequent_indent=indent
        )
    elif question.recorded:
        lines.append(" " * 29 + "never recorded")
    return "\n".join(lines)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads only the head of it may
    sys.exit(main(sys.argv[1:]))
