"""HTML tables of the page: printed tables, contrasts, controls, ledger and machine."""

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

MAX_ENTRIES = 12  # how many of the newest ledger entries are shown
HASH_DIGITS = 10  # how many digits of a hash are shown


def html_table(headings: Sequence, rows: Sequence[Sequence], caption: str) -> Markup:
    """HTML table under its caption, in a box that scrolls sideways if the table is too wide."""
    head = node("tr", *(node("th", heading, scope="col") for heading in headings))
    body = [
        node("tr", node("th", row[0], scope="row"), *(node("td", cell) for cell in row[1:]))
        for row in rows
    ]
    grid = node("table", node("thead", head), node("tbody", *body))
    box = node("div", grid, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return node("div", node("h3", caption), box)


def from_table(table: Table) -> Markup:
    """HTML of a `runs.report.tables.Table` with its note."""
    rows = [[minus(cell) if _numeric(cell) else cell for cell in row] for row in table.rows]
    return node(
        "section", html_table(table.headings, rows, table.title), _note(table.note), class_="given"
    )


def contrast_table(contrasts: Sequence[Contrast]) -> Markup:
    """Table of the declared contrasts with Holm-adjusted p-values."""
    rows = [
        [
            f"{contrast.arm} less {contrast.reference}",
            "secondary" if i else "primary",
            "too few seeds" if contrast.estimate is None else estimate(contrast.estimate),
            _p_value_text(contrast.p_value),
        ]
        for i, contrast in enumerate(contrasts)
    ]
    headings = ("contrast", "declared as", "difference [95 %]", "p (Holm)")
    return html_table(headings, rows, "declared contrasts")


def control_table(arm_scores: Mapping[str, ArmScores], contrasts: Sequence[Contrast]) -> Markup:
    """Table of A-A difference, ICC and power for every arm with enough seeds."""
    effects = [abs(contrast.estimate.value) for contrast in contrasts[:1] if contrast.estimate]
    rows = [
        _control_row(arm, scores, effects)
        for arm, scores in arm_scores.items()
        if can_split(scores)
    ]
    headings = [
        *("arm", "A-A: even less odd seeds [95 %]", "ICC", "sd over seeds"),
        *("detected at 80 % power", "seeds for the primary effect"),
    ]
    return html_table(headings, rows, "A-A control, ICC (seeds' share of the variance) and power")


def can_split(scores: ArmScores) -> bool:
    """Whether each half of an arm's seeds suffices for an interval, and it has several points."""
    return len(scores.home) >= 2 * stats.FEWEST and len(scores.points) > 1


def ledger_table(path: Path) -> Markup:
    """Table of the newest entries of a ledger; a tooltip shows each shortened hash in full."""
    entries = ledger.read_entries(path)
    if not entries:
        return node("p", "There is no ledger: this study was not declared before it was trained.")
    rows = [
        [
            str(entry.index),
            entry.time.replace("T", " ").removesuffix("+00:00"),
            entry.split,
            node("span", _hash_cell(entry.commit), " + changes" if entry.dirty else ""),
            _hash_cell(entry.suite),
            _hash_cell(entry.plan),
            _checkpoint_cell(entry.checkpoints),
            str(entry.seeds),
            _hash_cell(entry.result),
            _hash_cell(entry.hash),
        ]
        for entry in entries[-MAX_ENTRIES:]
    ]
    headings = (
        *("line", "time, UTC", "split", "commit", "suite", "plan", "checkpoints"),
        *("seeds", "result", "line's hash"),
    )
    omitted = len(entries) - len(rows)
    caption = f"ledger, {len(entries)} lines" + (
        f", the first {omitted} not shown" if omitted else ""
    )
    return html_table(headings, rows, caption)


def fact_list(values: Mapping[str, object]) -> Markup:
    """Definition list of named values."""
    pairs = [node("div", node("dt", key), node("dd", value)) for key, value in values.items()]
    return node("dl", *pairs, class_="facts")


def estimate(value: Estimate) -> str:
    """Formats an estimate with its interval, with typographic minus signs."""
    return f"{value:+z.3f}".replace("-", "−")


def _control_row(arm: str, arm_scores: ArmScores, effects: Sequence[float]) -> list[str]:
    scores = robustness.mean(arm_scores)
    spread = float(scores.std(ddof=1))
    detectable = stats.detectable(spread, len(scores)) if spread > 0 else 0.0
    return [
        *(
            arm,
            estimate(stats.split_half_difference(scores)),
            f"{stats.seed_share(arm_scores.away):.2f}",
        ),
        *(f"{spread:.3f}", f"{detectable:.3f}"),
        _seeds_text(effects[0], spread) if effects else "–",
    ]


def _seeds_text(effect: float, spread: float) -> str:
    """Seeds per arm that detect the measured effect, as text; "> 900" for very small effects."""
    if spread <= 0:
        return str(stats.FEWEST)
    if effect < 0.13 * spread:
        return "> 900"
    return str(max(stats.seeds_needed(min(effect, 3 * spread), spread), stats.FEWEST))


def _p_value_text(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _checkpoint_cell(checkpoints: Mapping[str, str]) -> Markup:
    if not checkpoints:
        return node("span", "none yet")
    text = f"{len(checkpoints)} arm" + ("s" if len(checkpoints) > 1 else "")
    title = "\n".join(f"{arm} {value}" for arm, value in checkpoints.items())
    return node("abbr", text, title=title)


def _hash_cell(value: str | None) -> Markup:
    if not value:
        return node("span", "–")
    return node("abbr", node("code", value[:HASH_DIGITS]), title=value)


def _note(text: str) -> Markup:
    """Paragraph of a note, with text in backquotes set as code."""
    parts = [node("code", part) if i % 2 else part for i, part in enumerate(text.split("`"))]
    return node("p", *parts, class_="note")


def _numeric(cell: str) -> bool:
    return cell[:1] in "+-0123456789" and any(letter.isdigit() for letter in cell)
