"""HTML report of a study as one self-contained file, without scripts or external resources."""

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
"""Content security policy of the page, which forbids scripts and external resources."""
LEGEND_NOTE = "Bands are 95 % t intervals. Untick an arm to hide it; point at it to single it out."
FOREST_TITLE = "declared contrasts and the A-A control"


class PageContent(NamedTuple):
    """Content of the HTML page of a study.

    Attributes:
        env: name of the suite.
        rows: score rows, as `runs.analysis.scores.read_scores` returns them.
        arms: names of the arms, in the order in which they are shown.
        tables: printed tables of the study.
        plan: plan declared before training; None if there was none.
        run_config: sizes of the runs; None if unknown.
        command: command line that made the study.
        without: arms left out on request.
        watermark: failed checks, `runs.prereg.audit.watermark`; None if all hold.
        looks: number of looks at the scores, `runs.prereg.audit.looks_sentence`.
        changes: differences between the declared plan and the run.
        timelines: episodes with the signals of the heads.
        readouts: rows of `signal_figures.validity_figure`.
        machine: hardware and versions, `runs.engine.devices.describe_machine`.
    """

    env: str
    rows: list[dict]
    arms: Sequence[str]
    tables: Sequence[Table] = ()
    plan: Plan | None = None
    run_config: RunConfig | None = None
    command: str = ""
    without: Sequence[str] = ()
    watermark: str | None = None
    looks: str = ""
    changes: Sequence[str] = ()
    timelines: Sequence[EpisodeFigure] = ()
    readouts: Sequence[Mapping[str, Any]] = ()
    machine: Mapping[str, str] = {}


def write_page(out: Path, study: PageContent) -> Path:
    """Writes the HTML page of a study into its folder atomically -> its path."""
    path = Path(out) / NAME
    partial = path.with_suffix(".part")
    partial.write_bytes(render_page(study, Path(out)).encode("utf-8", "replace"))
    os.replace(partial, path)
    return path


def render_page(study: PageContent, out: Path) -> str:
    """Renders the page as HTML; the same study and ledger give the same page."""
    rows = finite_rows(study.rows)
    present = {row["arm"] for row in rows}
    arm_scores = {arm: robustness.arm_scores(rows, arm) for arm in study.arms if arm in present}
    arm_scores = {arm: scores for arm, scores in arm_scores.items() if scores.points}
    contrasts = _contrasts(study, rows)
    parts = [
        _figures_section(arm_scores, study, score_name(rows)) if arm_scores else _empty_note(),
        _signals_section(study),
        _tables_section(study),
        _controls_section(arm_scores, contrasts),
        _provenance_section(study, out),
    ]
    sections = [section for part in parts for section in part]
    body = [
        _watermark(study),
        _page_header(study, rows, contrasts),
        node("nav", *(node("a", title, href=f"#{name}") for name, title, _ in sections)),
        node("main", *(_section(*section) for section in sections)),
        node("footer", "Made by affect-heads. One file, no scripts, no external resources."),
    ]
    title = f"{study.env}: report"
    return f"<!doctype html>\n{node('html', _html_head(title), node('body', *body), lang='en')}\n"


# --- sections, each a list of (id, title, content) ------------------------------------------------


def _figures_section(
    arm_scores: dict[str, ArmScores], study: PageContent, score: str
) -> list[tuple]:
    styles = arm_styles(list(arm_scores))
    panels = severity_curves.severity_curves(arm_scores, styles, score)
    score_text = f"{score}, mean over seeds"
    scatter_note = (
        "Small dots are seeds, marks are arms. The dashed line predicts the shifted score from the "
        "in-distribution score, fitted on none and random; the height above it is "
        "effective robustness."
    )
    return [
        (
            "severity",
            "Severity",
            [
                _note(f"{score_text}, against severity; 0 is in distribution. {LEGEND_NOTE}"),
                legend_boxes(styles, "severity"),
                node("div", *panels, class_="panels"),
            ],
        ),
        (
            "families",
            "Families of shifts",
            [
                _note(f"{score_text}. The frame marks each arm's worst family."),
                node("figure", score_figures.heat_map(arm_scores), class_="scroll", tabindex="0"),
            ],
        ),
        (
            "seeds",
            "Scores by seed",
            [
                _note(
                    "Dots are training runs; marks and bars are means and their 95 % t intervals."
                ),
                node("div", *score_figures.seed_strips(arm_scores, styles), class_="panels wide"),
            ],
        ),
        (
            "robustness",
            "In and out of distribution",
            [
                _note(scatter_note),
                node(
                    "figure",
                    score_figures.home_shift_scatter(arm_scores, styles, score),
                    _legend(styles.values()),
                    class_="one beside",
                ),
            ],
        ),
    ]


def _signals_section(study: PageContent) -> list[tuple]:
    sections = []
    validity = signal_figures.validity_figure(study.readouts)
    if validity:
        note = (
            "How well each signal predicts. Ring: in distribution. Disc and bar: mean over shifts "
            "with its 95 % t interval over seeds. Tick: worst shift. Dashed line: chance."
        )
        content = [_note(note), node("div", *validity, class_="panels wide")]
        sections.append(("validity", "Validity of the signals", content))
    if study.timelines:
        note = (
            "One episode of the first seed in each setting; a signal has the same scale in all of "
            "them. The vertical line marks the blunder, the step with the critic's lowest TD error."
        )
        styles = arm_styles(study.arms)
        content = [_note(note), *signal_figures.episode_figures(study.timelines, styles)]
        sections.append(("timeline", "Signals during an episode", content))
    return sections


def _tables_section(study: PageContent) -> list[tuple]:
    tables = [html_tables.from_table(table) for table in study.tables]
    return [("tables", "Tables", tables)] if tables else []


def _controls_section(
    arm_scores: dict[str, ArmScores], contrasts: Sequence[Contrast]
) -> list[tuple]:
    content = []
    if contrasts:
        content.append(html_tables.contrast_table(contrasts))
    splittable = {
        arm: scores for arm, scores in arm_scores.items() if html_tables.can_split(scores)
    }
    if splittable:
        content.append(
            _note(
                "A-A: the even seeds of an arm less its odd seeds; the true difference is zero, "
                "and one in twenty intervals excludes it by chance. ICC: the share of the variance "
                "due to the seeds. Power: the difference that so many seeds detect with 80 % power "
                "at the 5 % level, and the seeds per arm that the measured primary effect needs."
            )
        )
        content.append(html_tables.control_table(splittable, contrasts))
    return [("controls", "Controls and power", content)] if content else []


def _provenance_section(study: PageContent, out: Path) -> list[tuple]:
    command = [node("pre", node("code", study.command), class_="scroll")] if study.command else []
    facts = {"environment": study.env, "arms": len(study.arms)}
    if study.run_config is not None:
        facts |= {"seeds per arm": study.run_config.seeds}
        facts |= {"steps per seed": f"{study.run_config.chunks * study.run_config.chunk_steps:,}"}
        facts |= {"episodes per point": study.run_config.episodes}
    if study.plan is not None:
        facts |= {"plan, hash": node("code", study.plan.hash)}
    content = [html_tables.ledger_table(out / ledger.NAME), *command]
    return [("record", "Provenance", [*content, html_tables.fact_list({**facts, **study.machine})])]


def _empty_note() -> list[tuple]:
    return [
        (
            "scores",
            "Scores",
            [node("p", "No seed has finite scores under any shift: nothing to draw.")],
        )
    ]


# --- header and parts -----------------------------------------------------------------------------


def _html_head(title: str) -> Markup:
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


def _watermark(study: PageContent) -> Markup | None:
    if study.watermark is None:
        return None
    status, _, reasons = study.watermark.partition(": ")
    return node("div", node("b", status), node("span", reasons), class_="watermark", role="alert")


def _page_header(study: PageContent, rows: Sequence[dict], contrasts: Sequence[Contrast]) -> Markup:
    sentence = (
        verdict_sentence(rows, study.plan, study.looks).replace("[-", "[−").replace(" -", " −")
    )
    first, _, rest = sentence.partition(": ")
    differences = [
        (f"{c.arm} less {c.reference}", c.estimate, "", i == 0) for i, c in enumerate(contrasts)
    ]
    differences = [item for item in differences if item[1] is not None]
    scores = shifted_means(rows, ("none",))["none"]
    if len(scores) >= 2 * stats.FEWEST:
        differences.append(
            (
                "A-A control: none, even less odd seeds",
                stats.split_half_difference(scores),
                "",
                False,
            )
        )
    lists = [
        _list("Left out on request", study.without),
        _list("Changed since the declaration", study.changes),
    ]
    figure = (
        node("figure", score_figures.forest_plot(differences, FOREST_TITLE), class_="one")
        if differences
        else None
    )
    notices = node("div", *lists) if study.without or study.changes else None
    return node(
        "header",
        node("p", study.env, " · ", f"{len(study.arms)} arms", class_="kicker"),
        node("h1", node("b", first), f": {rest}"),
        node("div", figure, notices, class_="top") if figure or notices else None,
    )


def _list(title: str, items: Sequence[str]) -> Markup | None:
    if not items:
        return None
    return node("aside", node("b", title), node("ul", *(node("li", item) for item in items)))


def _section(name: str, title: str, content: Sequence[Markup]) -> Markup:
    return node("section", node("h2", title), *content, id=name)


def _note(text: str) -> Markup:
    return node("p", text, class_="note")


def _legend(styles: Iterable[ArmStyle]) -> Markup:
    return node("div", join(map(arm_label, styles)), class_="keys")


def _contrasts(study: PageContent, rows: Sequence[dict]) -> list[Contrast]:
    if study.plan is None:
        return []
    return declared_contrasts(shifted_means(rows, study.arms), study.plan)
