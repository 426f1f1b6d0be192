"""Print the list of studies: question, run time on two cores, and last recorded result.

Each study is a module that is run as `python -m runs.NAME`; `--help` lists its settings.
"""

import argparse
import shutil
import signal
import sys
import textwrap
from pathlib import Path

from runs.cli.index import ListedStudy, list_studies

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 240  # characters of a finding, at most


def main(argv: list[str]) -> int:
    """Print the list of studies and tools; return the exit code."""
    argparse.ArgumentParser(prog="python -m runs", description=__doc__).parse_args(argv)
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    studies = list_studies(ROOT)
    for study in studies:
        if study.recorded:
            print(index_entry(study, width))
    print("\nTools, which record no result:")
    for study in studies:
        if not study.recorded:
            print(index_entry(study, width))
    return 0


def index_entry(study: ListedStudy, width: int) -> str:
    """Format a study: name, minutes and summary; below, date and finding of the last result."""
    minutes = "" if study.minutes is None else f"{study.minutes:g} min"
    first = f"{f'runs.{study.name}':<20}{minutes:>7}  {study.summary}"
    lines = textwrap.wrap(first, width, subsequent_indent=" " * 29)
    if study.last is not None:
        day, finding, path = study.last
        finding = textwrap.shorten(finding or f"see {path}", LONGEST, placeholder=" ...")
        indent = " " * 29
        lines += textwrap.wrap(
            f"{day}: {finding}", width, initial_indent=indent, subsequent_indent=indent
        )
    elif study.recorded:
        lines.append(" " * 29 + "never recorded")
    return "\n".join(lines)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as for `python -m runs | head`
    sys.exit(main(sys.argv[1:]))
