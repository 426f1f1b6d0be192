"""A study as one file that a reviewer opens: everything inline, nothing loaded, nothing run."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runs.harness import robustness, stats
from runs.harness.plan import Plan
from runs.harness.robustness import Cells
from runs.harness.tables import Table, counting, score_name
from runs.page import curves, felt, figures, tables
from runs.page.felt import Timeline
from runs.page.looks import Look, key, legend, looks
from runs.page.svg import Markup, join, node
from runs.page.verdict import Contrast, away, contrasts, verdict
from runs.sealing import ledger
from runs.sealing.plan_file import Declared

NAME = "report.html"
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""What the page may load and run: nothing."""
BOXES = (
    "Bands are t intervals, 95 %. Unticked arms are hidden, and those pointed at are singled out."
)
FOREST = "declared contrasts and the A-A control"


class Shown(NamedTuple):
    """All that there is to show of a study.

    Attributes:
        env: name of the suite.
        rows: score rows, as `runs.harness.study.read_scores` gives them.
        arms: names, in the order in which they are shown.
        tables: computed already.
        declared: before training; None where nothing was.
        plan: sizes; None where they are not known.
        command: that made the study.
        without: arms left out on request.
        verified: what does not hold, `runs.sealing.audit.watermark`; None if everything does.
        looked: how often was looked, `runs.sealing.audit.looked`.
        changed: what was run otherwise than declared.
        timelines: episodes with what was felt in them.
        readouts: rows of what signals know: `felt.validity`, `felt.sizes`.
        recovery: rows of scores since a lasting shift: `curves.recovery`.
        machine: what a result depends on beside the code, `runs.harness.devices.describe`.
    """

    env: str
    rows: list[dict]
    arms: Sequence[str]
    tables: Sequence[Table] = ()
    declared: Declared | None = None
    plan: Plan | None = None
    command: str = ""
    without: Sequence[str] = ()
    verified: str | None = None
    looked: str = ""
    changed: Sequence[str] = ()
    timelines: Sequence[Timeline] = ()
    readouts: Sequence[Mapping[str, Any]] = ()
    recovery: Sequence[Mapping[str, Any]] = ()
    machine: Mapping[str, str] = {}


def write(out: Path, study: Shown) -> Path:
    """Writes the page of a study into its folder, all of it or nothing -> its path."""
    path = Path(out) / NAME
    beside = path.with_suffix(".part")
    beside.write_bytes(page(study, Path(out)).encode("utf-8", "replace"))
    os.replace(beside, path)
    return path


def page(study: Shown, out: Path) -> str:
    """The page as HTML; the same study gives the same page."""
    rows = counting(study.rows)
    seen = {row["arm"] for row in rows}
    counted = {arm: robustness.cells(rows, arm) for arm in study.arms if arm in seen}
    counted = {arm: cells for arm, cells in counted.items() if cells.points}
    found = _contrasts(study, rows)
    parts = [
        _figures(counted, study, score_name(rows)) if counted else _nothing(),
        _felt(study),
        _tables(study),
        _controls(counted, found),
        _record(study, out),
    ]
    sections = [section for part in parts for section in part]
    body = [
        _mark(study),
        _head(study, rows, found),
        node("nav", *(node("a", title, href=f"#{name}") for name, title, _ in sections)),
        node("main", *(_section(*section) for section in sections)),
        node("footer", "Made by affect-heads. One file, no script, nothing loaded from anywhere."),
    ]
    title = f"{study.env}: report"
    return f"<!doctype html>\n{node('html', _meta(title), node('body', *body), lang='en')}\n"


# --- its parts, each a list of (name, title, what is in it) ---------------------------------------


def _figures(counted: dict[str, Cells], study: Shown, score: str) -> list[tuple]:
    shown = looks(list(counted))
    panels = curves.severity(counted, shown, score)
    scores = f"{score}, mean over seeds"
    effective = (
        "Small dots are seeds, marks are arms. The dashed line is what the score in distribution "
        "predicts from none and random; what lies above it is effective robustness."
    )
    return [
        (
            "severity",
            "Severity",
            [
                _note(f"{scores}, from in distribution at 0 on. {BOXES}"),
                legend(shown, "severity"),
                node("div", *panels, class_="panels"),
            ],
        ),
        (
            "families",
            "Families of shifts",
            [
                _note(f"{scores}. The frame marks the family in which an arm does worst."),
                node("figure", figures.heat(counted), class_="scroll", tabindex="0"),
            ],
        ),
        (
            "seeds",
            "Every seed",
            [
                _note("A dot a training run; mark and bar are the mean and its t interval, 95 %."),
                node("div", *figures.strips(counted, shown), class_="panels wide"),
            ],
        ),
        (
            "robustness",
            "In and out of distribution",
            [
                _note(effective),
                node(
                    "figure",
                    figures.scatter(counted, shown, score),
                    _keys(shown.values()),
                    class_="one beside",
                ),
            ],
        ),
    ]


def _felt(study: Shown) -> list[tuple]:
    found = []
    shown = looks(list(dict.fromkeys([*study.arms, *(row["arm"] for row in study.recovery)])))
    if study.recovery:
        arms = dict.fromkeys(row["arm"] for row in study.recovery)
        panels = node("div", *curves.recovery(study.recovery, shown), class_="panels")
        inside = [_note("Score since a shift that lasts."), _keys([shown[a] for a in arms]), panels]
        found.append(("recovery", "Recovery", inside))
    known, sizes = felt.validity(study.readouts), felt.sizes(study.readouts)
    if known:
        said = (
            "What a signal knows. Ring: in distribution. Disc and bar: mean over shifts, with its "
            "interval over seeds. Tick: the worst shift. Dashed: knowing nothing."
        )
        inside = [_note(said), node("div", *known, class_="panels wide")]
        found.append(("validity", "What the feelings know", inside))
    if sizes:
        said = "Dots are runs; marks and bars are means and their t intervals."
        inside = [_note(said), node("div", *sizes, class_="panels wide")]
        found.append(("size", "Size of the head", inside))
    if study.timelines:
        said = (
            "One episode of the first seed in each place; a signal has the same scale in all of "
            "them. The blunder is marked by a line through all signals."
        )
        inside = [_note(said), *felt.timelines(study.timelines, shown)]
        found.append(("timeline", "What was felt, step by step", inside))
    return found


def _tables(study: Shown) -> list[tuple]:
    given = [tables.given(table) for table in study.tables]
    return [("tables", "Tables", given)] if given else []


def _controls(counted: dict[str, Cells], found: Sequence[Contrast]) -> list[tuple]:
    inside = []
    if found:
        inside.append(tables.contrasted(found))
    split = {arm: cells for arm, cells in counted.items() if tables.enough(cells)}
    if split:
        inside.append(
            _note(
                "A-A: one arm against itself, its even seeds less its odd ones, must show nothing; "
                "one in twenty intervals misses zero by chance. ICC: the share of the variance "
                "that is the seed's. Power: the difference that so many seeds find four times in "
                "five at 5 %, and the seeds that the primary effect, as measured, would take."
            )
        )
        inside.append(tables.controlled(split, found))
    return [("controls", "Controls and power", inside)] if inside else []


def _record(study: Shown, out: Path) -> list[tuple]:
    command = [node("pre", node("code", study.command), class_="scroll")] if study.command else []
    known = {"environment": study.env, "arms": len(study.arms)}
    if study.plan is not None:
        known |= {"seeds an arm": study.plan.seeds}
        known |= {"steps a seed": f"{study.plan.chunks * study.plan.chunk_steps:,}"}
        known |= {"episodes a point": study.plan.episodes}
    if study.declared is not None:
        known |= {"plan, hash": node("code", study.declared.hash)}
    inside = [tables.booked(out / ledger.NAME), *command]
    return [("record", "Record", [*inside, tables.facts({**known, **study.machine})])]


def _nothing() -> list[tuple]:
    return [("scores", "Scores", [node("p", "No seed counts under any shift: nothing to draw.")])]


# --- its head -------------------------------------------------------------------------------------


def _meta(title: str) -> Markup:
    style = Markup(Path(__file__).with_suffix(".css").read_text())
    return node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", http_equiv="Content-Security-Policy", content=POLICY),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", name="color-scheme", content="light dark"),
        node("link", rel="icon", href="data:,"),
        node("title", title),
        node("style", style),
    )


def _mark(study: Shown) -> Markup | None:
    if study.verified is None:
        return None
    words, _, why = study.verified.partition(": ")
    return node("div", node("b", words), node("span", why), class_="watermark", role="alert")


def _head(study: Shown, rows: Sequence[dict], found: Sequence[Contrast]) -> Markup:
    said = verdict(rows, study.declared, study.looked).replace("[-", "[−").replace(" -", " −")
    first, _, rest = said.partition(": ")
    known = [(f"{c.arm} less {c.less}", c.estimate, "", i == 0) for i, c in enumerate(found)]
    known = [one for one in known if one[1] is not None]
    own = away(rows, ("none",))["none"]
    if len(own) >= 2 * stats.FEWEST:
        known.append(("A-A control: none, even less odd seeds", stats.a_a(own), "", False))
    lists = [
        _list("Left out on request", study.without),
        _list("Changed since it was declared", study.changed),
    ]
    drawn = node("figure", figures.forest(known, FOREST), class_="one") if known else None
    told = node("div", *lists) if study.without or study.changed else None
    return node(
        "header",
        node("p", study.env, " · ", f"{len(study.arms)} arms", class_="kicker"),
        node("h1", node("b", first), f": {rest}"),
        node("div", drawn, told, class_="top") if drawn or told else None,
    )


def _list(title: str, words: Sequence[str]) -> Markup | None:
    if not words:
        return None
    return node("aside", node("b", title), node("ul", *(node("li", word) for word in words)))


def _section(name: str, title: str, inside: Sequence[Markup]) -> Markup:
    return node("section", node("h2", title), *inside, id=name)


def _note(words: str) -> Markup:
    return node("p", words, class_="note")


def _keys(shown: Iterable[Look]) -> Markup:
    return node("div", join(map(key, shown)), class_="keys")


def _contrasts(study: Shown, rows: Sequence[dict]) -> list[Contrast]:
    if study.declared is None:
        return []
    return contrasts(away(rows, study.arms), study.declared)
