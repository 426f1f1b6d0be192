"""The tables of a page: those of the terminal, contrasts, controls, the ledger, the machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from runs.analysis import robustness, stats
from runs.analysis.robustness import ArmScores
from runs.analysis.stats import Estimate
from runs.prereg import ledger
from runs.report.svg import Markup, minus, node
from runs.report.tables import Table
from runs.report.verdict import Contrast

LINES = 12  # of the ledger, the newest
HASH = 10  # digits of one that are shown


def html_table(headings: Sequence, rows: Sequence[Sequence], caption: str) -> Markup:
    """A table under its caption, in a box that scrolls where there is too little room."""
    head = node("tr", *(node("th", heading, scope="col") for heading in headings))
    body = [
        node("tr", node("th", row[0], scope="row"), *(node("td", cell) for cell in row[1:]))
        for row in rows
    ]
    grid = node("table", node("thead", head), node("tbody", *body))
    box = node("div", grid, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return node("div", node("h3", caption), box)


def from_table(table: Table) -> Markup:
    """A table of `runs.report.tables`."""
    rows = [[minus(cell) if _numeric(cell) else cell for cell in row] for row in table.rows]
    return node(
        "section", html_table(table.headings, rows, table.title), _note(table.note), class_="given"
    )


def contrast_table(found: Sequence[Contrast]) -> Markup:
    """The declared contrasts with their adjusted p-values."""
    rows = [
        [
            f"{one.arm} less {one.less}",
            "secondary" if i else "primary",
            "too few seeds" if one.estimate is None else estimate(one.estimate),
            _probability(one.p_value),
        ]
        for i, one in enumerate(found)
    ]
    headings = ("contrast", "declared as", "difference [95 %]", "p (Holm)")
    return html_table(headings, rows, "declared contrasts")


def control_table(counted: Mapping[str, ArmScores], found: Sequence[Contrast]) -> Markup:
    """A-A, ICC and power of every arm with seeds for them: what nothing is, what could be seen."""
    effects = [abs(one.estimate.value) for one in found[:1] if one.estimate]
    rows = [_control(arm, cells, effects) for arm, cells in counted.items() if can_split(cells)]
    headings = [
        *("arm", "A-A: even less odd seeds [95 %]", "ICC", "sd over seeds"),
        *("found 4 times in 5", "seeds for the primary effect"),
    ]
    return html_table(headings, rows, "A-A control, seeds' share of the variance, and power")


def can_split(cells: ArmScores) -> bool:
    """Whether an arm can be split in two that each have an interval."""
    return len(cells.home) >= 2 * stats.FEWEST and len(cells.points) > 1


def ledger_table(path: Path) -> Markup:
    """The newest lines of a ledger, hashes cut short with all of them in their titles."""
    entries = ledger.read_entries(path)
    if not entries:
        return node("p", "There is no ledger: this study was not declared before it was trained.")
    rows = [
        [
            str(one.index),
            one.time.replace("T", " ").removesuffix("+00:00"),
            one.split,
            node("span", _hash(one.commit), " + changes" if one.dirty else ""),
            _hash(one.suite),
            _hash(one.plan),
            _frozen(one.checkpoints),
            str(one.seeds),
            _hash(one.result),
            _hash(one.hash),
        ]
        for one in entries[-LINES:]
    ]
    headings = (
        *("line", "time, UTC", "split", "commit", "suite", "plan", "checkpoints"),
        *("seeds", "result", "line's hash"),
    )
    cut = len(entries) - len(rows)
    caption = f"ledger, {len(entries)} lines" + (f", the first {cut} not shown" if cut else "")
    return html_table(headings, rows, caption)


def fact_list(values: Mapping[str, object]) -> Markup:
    """Words and what they stand for."""
    pairs = [node("div", node("dt", key), node("dd", value)) for key, value in values.items()]
    return node("dl", *pairs, class_="facts")


def estimate(one: Estimate) -> str:
    """With signs that are as wide as a plus."""
    return f"{one:+z.3f}".replace("-", "−")


def _control(arm: str, cells: ArmScores, effects: Sequence[float]) -> list[str]:
    scores = robustness.mean(cells)
    spread = float(scores.std(ddof=1))
    visible = stats.detectable(spread, len(scores)) if spread > 0 else 0.0
    return [
        *(
            arm,
            estimate(stats.split_half_difference(scores)),
            f"{stats.seed_share(cells.away):.2f}",
        ),
        *(f"{spread:.3f}", f"{visible:.3f}"),
        _needed(effects[0], spread) if effects else "–",
    ]


def _needed(effect: float, spread: float) -> str:
    """Seeds an arm for the effect as it was measured; beyond a thousand, that many."""
    if spread <= 0:
        return str(stats.FEWEST)
    if effect < 0.13 * spread:
        return "> 900"
    return str(max(stats.seeds_needed(min(effect, 3 * spread), spread), stats.FEWEST))


def _probability(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _frozen(checkpoints: Mapping[str, str]) -> Markup:
    if not checkpoints:
        return node("span", "none yet")
    said = f"{len(checkpoints)} arm" + ("s" if len(checkpoints) > 1 else "")
    title = "\n".join(f"{arm} {value}" for arm, value in checkpoints.items())
    return node("abbr", said, title=title)


def _hash(value: str | None) -> Markup:
    if not value:
        return node("span", "–")
    return node("abbr", node("code", value[:HASH]), title=value)


def _note(text: str) -> Markup:
    """A note, its `words` set as code."""
    parts = [node("code", part) if i % 2 else part for i, part in enumerate(text.split("`"))]
    return node("p", *parts, class_="note")


def _numeric(cell: str) -> bool:
    return cell[:1] in "+-0123456789" and any(letter.isdigit() for letter in cell)
