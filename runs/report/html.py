"""A study as one file that a reviewer opens: everything inline, nothing loaded, nothing run."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runs.analysis import robustness, stats
from runs.analysis.robustness import ArmScores
from runs.engine.run_config import RunConfig
from runs.prereg import ledger
from runs.prereg.plan_file import Plan
from runs.report import html_tables, score_figures, severity_curves, signal_figures
from runs.report.arm_style import ArmStyle, arm_label, arm_styles, legend_boxes
from runs.report.signal_figures import EpisodeFigure
from runs.report.svg import Markup, join, node
from runs.report.tables import Table, finite_rows, score_name
from runs.report.verdict import Contrast, declared_contrasts, shifted_means, verdict_sentence

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


class PageContent(NamedTuple):
    """All that there is to show of a study.

    Attributes:
        env: name of the suite.
        rows: score rows, as `runs.engine.arm_runner.read_scores` gives them.
        arms: names, in the order in which they are shown.
        tables: computed already.
        plan: before training; None where nothing was.
        run_config: sizes; None where they are not known.
        command: that made the study.
        without: arms left out on request.
        verified: what does not hold, `runs.prereg.audit.watermark`; None if everything does.
        looked: how often was looked, `runs.prereg.audit.looks_sentence`.
        changed: what was run otherwise than declared.
        timelines: episodes with what was felt in them.
        readouts: rows of what signals know: `signal_figures.validity`, `signal_figures.sizes`.
        recovery: rows of scores since a lasting shift: `severity_curves.recovery`.
        machine: what a result depends on beside the code, `runs.engine.devices.describe_machine`.
    """

    env: str
    rows: list[dict]
    arms: Sequence[str]
    tables: Sequence[Table] = ()
    plan: Plan | None = None
    run_config: RunConfig | None = None
    command: str = ""
    without: Sequence[str] = ()
    verified: str | None = None
    looked: str = ""
    changed: Sequence[str] = ()
    timelines: Sequence[EpisodeFigure] = ()
    readouts: Sequence[Mapping[str, Any]] = ()
    recovery: Sequence[Mapping[str, Any]] = ()
    machine: Mapping[str, str] = {}


def write_page(out: Path, study: PageContent) -> Path:
    """Writes the page of a study into its folder, all of it or nothing -> its path."""
    path = Path(out) / NAME
    beside = path.with_suffix(".part")
    beside.write_bytes(render_page(study, Path(out)).encode("utf-8", "replace"))
    os.replace(beside, path)
    return path


def render_page(study: PageContent, out: Path) -> str:
    """The page as HTML; the same study gives the same page."""
    rows = finite_rows(study.rows)
    seen = {row["arm"] for row in rows}
    counted = {arm: robustness.arm_scores(rows, arm) for arm in study.arms if arm in seen}
    counted = {arm: cells for arm, cells in counted.items() if cells.points}
    found = _contrasts(study, rows)
    parts = [
        _figures_section(counted, study, score_name(rows)) if counted else _empty_note(),
        _signals_section(study),
        _tables_section(study),
        _controls_section(counted, found),
        _provenance_section(study, out),
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


def _figures_section(counted: dict[str, ArmScores], study: PageContent, score: str) -> list[tuple]:
    shown = arm_styles(list(counted))
    panels = severity_curves.severity_curves(counted, shown, score)
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
                legend_boxes(shown, "severity"),
                node("div", *panels, class_="panels"),
            ],
        ),
        (
            "families",
            "Families of shifts",
            [
                _note(f"{scores}. The frame marks the family in which an arm does worst."),
                node("figure", score_figures.heat_map(counted), class_="scroll", tabindex="0"),
            ],
        ),
        (
            "seeds",
            "Every seed",
            [
                _note("A dot a training run; mark and bar are the mean and its t interval, 95 %."),
                node("div", *score_figures.seed_strips(counted, shown), class_="panels wide"),
            ],
        ),
        (
            "robustness",
            "In and out of distribution",
            [
                _note(effective),
                node(
                    "figure",
                    score_figures.home_shift_scatter(counted, shown, score),
                    _keys(shown.values()),
                    class_="one beside",
                ),
            ],
        ),
    ]


def _signals_section(study: PageContent) -> list[tuple]:
    found = []
    shown = arm_styles(list(dict.fromkeys([*study.arms, *(row["arm"] for row in study.recovery)])))
    if study.recovery:
        arms = dict.fromkeys(row["arm"] for row in study.recovery)
        panels = node(
            "div", *severity_curves.recovery_curves(study.recovery, shown), class_="panels"
        )
        inside = [_note("Score since a shift that lasts."), _keys([shown[a] for a in arms]), panels]
        found.append(("recovery", "Recovery", inside))
    known, sizes = (
        signal_figures.validity_figure(study.readouts),
        signal_figures.size_figure(study.readouts),
    )
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
        inside = [_note(said), *signal_figures.episode_figures(study.timelines, shown)]
        found.append(("timeline", "What was felt, step by step", inside))
    return found


def _tables_section(study: PageContent) -> list[tuple]:
    given = [html_tables.from_table(table) for table in study.tables]
    return [("tables", "Tables", given)] if given else []


def _controls_section(counted: dict[str, ArmScores], found: Sequence[Contrast]) -> list[tuple]:
    inside = []
    if found:
        inside.append(html_tables.contrast_table(found))
    split = {arm: cells for arm, cells in counted.items() if html_tables.can_split(cells)}
    if split:
        inside.append(
            _note(
                "A-A: one arm against itself, its even seeds less its odd ones, must show nothing; "
                "one in twenty intervals misses zero by chance. ICC: the share of the variance "
                "that is the seed's. Power: the difference that so many seeds find four times in "
                "five at 5 %, and the seeds that the primary effect, as measured, would take."
            )
        )
        inside.append(html_tables.control_table(split, found))
    return [("controls", "Controls and power", inside)] if inside else []


def _provenance_section(study: PageContent, out: Path) -> list[tuple]:
    command = [node("pre", node("code", study.command), class_="scroll")] if study.command else []
    known = {"environment": study.env, "arms": len(study.arms)}
    if study.run_config is not None:
        known |= {"seeds an arm": study.run_config.seeds}
        known |= {"steps a seed": f"{study.run_config.chunks * study.run_config.chunk_steps:,}"}
        known |= {"episodes a point": study.run_config.episodes}
    if study.plan is not None:
        known |= {"plan, hash": node("code", study.plan.hash)}
    inside = [html_tables.ledger_table(out / ledger.NAME), *command]
    return [("record", "Record", [*inside, html_tables.fact_list({**known, **study.machine})])]


def _empty_note() -> list[tuple]:
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


def _mark(study: PageContent) -> Markup | None:
    if study.verified is None:
        return None
    words, _, why = study.verified.partition(": ")
    return node("div", node("b", words), node("span", why), class_="watermark", role="alert")


def _head(study: PageContent, rows: Sequence[dict], found: Sequence[Contrast]) -> Markup:
    said = verdict_sentence(rows, study.plan, study.looked).replace("[-", "[−").replace(" -", " −")
    first, _, rest = said.partition(": ")
    known = [(f"{c.arm} less {c.less}", c.estimate, "", i == 0) for i, c in enumerate(found)]
    known = [one for one in known if one[1] is not None]
    own = shifted_means(rows, ("none",))["none"]
    if len(own) >= 2 * stats.FEWEST:
        known.append(
            ("A-A control: none, even less odd seeds", stats.split_half_difference(own), "", False)
        )
    lists = [
        _list("Left out on request", study.without),
        _list("Changed since it was declared", study.changed),
    ]
    drawn = (
        node("figure", score_figures.forest_plot(known, FOREST), class_="one") if known else None
    )
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


def _keys(shown: Iterable[ArmStyle]) -> Markup:
    return node("div", join(map(arm_label, shown)), class_="keys")


def _contrasts(study: PageContent, rows: Sequence[dict]) -> list[Contrast]:
    if study.plan is None:
        return []
    return declared_contrasts(shifted_means(rows, study.arms), study.plan)
