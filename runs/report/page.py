"""Page of a study: Markdown text and figures, written to a folder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from runs.engine.devices import describe_machine
from runs.lock import replace_file, replacing


class Page(NamedTuple):
    """Result page of a study.

    Attributes:
        name: of its files, without suffix.
        text: in Markdown.
        figures: suffix of the file's name -> function that draws the figure to a path, such as
            `{"": draw, "-curves": draw_curves}` for `name.png` and `name-curves.png`.
        code: exit code of the study.
        tables: suffix of the file's name -> CSV text, such as `{"": text}` for `name.csv`.
    """

    name: str
    text: str
    figures: Mapping[str, Callable[[Path], None]] = MappingProxyType({})
    code: int = 0
    tables: Mapping[str, str] = MappingProxyType({})

    def write(self, folder: Path) -> None:
        """Write all files to a folder, which is made if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / f"{self.name}.md", self.text)
        for suffix, table in self.tables.items():
            replace_file(folder / f"{self.name}{suffix}.csv", table)
        for suffix, draw in self.figures.items():
            with replacing(folder / f"{self.name}{suffix}.png") as part:
                draw(part)


def page_text(title: str, sections: Sequence[str | None], command: str) -> str:
    """Join a title, sections (None is left out), the command and the machine to Markdown text."""
    machine = "; ".join(f"{key} {value}" for key, value in describe_machine().items())
    return "\n\n".join([f"# {title}", *filter(None, sections), f"`{command}`", machine]) + "\n"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown table of text cells; a `|` in a cell is escaped."""
    from tabulate import tabulate

    cells = [[str(cell).replace("|", r"\|") for cell in row] for row in rows]
    return tabulate(cells, list(headings), tablefmt="github", disable_numparse=True)
