"""HTML report of a study as one self-contained file: no external resource, one script at most."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from runs.analysis import stats
from runs.analysis.robustness import ArmScores, scores_by_arm
from runs.analysis.scores import finite_rows, score_name, seed_means
from runs.engine.devices import describe_machine
from runs.lock import replace_file
from runs.report import figures
from runs.report.arm_style import KINDS, STYLE_SHEET, arm_styles
from runs.report.episode_trace import EpisodeTrace
from runs.report.player import PLAYER_POLICY, POLICY, SCRIPT, timelines
from runs.report.svg import INK
from runs.report.tables import Table
from runs.report.verdict import Study, declared_contrasts, verdict_sentence

NAME = "report.html"
MAX_ENTRIES = 12  # how many of the newest ledger entries are shown
TIMELINE_NOTE = (
    "One episode in each setting, all under the same random key. A signal has the same scale in "
    "all of them. The blunder is the step of a failed episode at which the critic's value fell "
    "furthest below what it expected (its lowest TD error)."
)


def write_page(out: Path, *content: Any, **other: Any) -> Path:
    """Writes the page of `render_page` into the folder of a study atomically -> its path."""
    page = render_page(*content, **other)
    replace_file(Path(out) / NAME, page.encode("utf-8", "replace").decode())
    return Path(out) / NAME


def render_page(
    study: Study,
    rows: Sequence[dict],
    printed: Sequence[Table] = (),
    readouts: Sequence[Mapping[str, Any]] = (),
    episodes: Sequence[tuple[str, EpisodeTrace]] = (),
) -> str:
    """Renders the page as HTML; the same study gives the same page.

    Args:
        study: what is stated beside the scores.
        rows: score rows, as `runs.analysis.scores.read_scores` returns them.
        printed: tables of the study.
        readouts: rows of `figures.validity_figures`.
        episodes: (title, trace) of each recorded episode.
    """
    rows = finite_rows(rows)
    arm_scores = scores_by_arm(rows, study.arms)
    contrasts = declared_contrasts(rows, study)
    estimates = {f"{c.arm} less {c.reference}": c.estimate for c in contrasts if c.estimate}
    baseline = seed_means(rows, ["none"])["none"]
    if len(baseline) >= 2 * stats.FEWEST:
        difference = stats.split_half_difference(baseline)
        estimates["A-A control: none, even less odd seeds"] = difference
    forest_title = "declared contrasts and the A-A control"
    page = _template("html.jinja").render(
        study=study,
        policy=PLAYER_POLICY if episodes else POLICY,
        script=Markup(SCRIPT),
        style_sheet=Markup(STYLE_SHEET),
        timeline_note=TIMELINE_NOTE,
        verdict=_minus(verdict_sentence(rows, study)),
        forest=figures.forest_plot(estimates, forest_title) if estimates else None,
        **(_score_figures(arm_scores, score_name(rows)) if arm_scores else {}),
        validity=figures.validity_figures(readouts),
        episodes=list(timelines(episodes, arm_styles(study.arms))),
        tables=printed,
        ledger=study.ledger[-MAX_ENTRIES:],
        facts={
            "environment": study.env,
            **({"observations": study.reading} if study.reading else {}),
            "arms": len(study.arms),
            "seeds per arm": study.seeds,
            "steps per seed": f"{study.steps:,}",
            "episodes per point": study.episodes,
            **describe_machine(),
        },
    )
    return page.lstrip()


def write_replay(
    path: Path, title: str, episodes: Sequence[tuple[str, EpisodeTrace]], arms: Sequence[str] = ()
) -> Path:
    """Writes a page that plays recorded episodes, and nothing else, atomically -> its path.

    Args:
        path: of the file.
        title: what is played.
        episodes: (title, trace) of each.
        arms: of the study, in its order, for their colours.
    """
    page = _template("replay.jinja").render(
        title=title,
        policy=PLAYER_POLICY,
        script=Markup(SCRIPT),
        style_sheet=Markup(STYLE_SHEET),
        note=TIMELINE_NOTE,
        episodes=list(timelines(episodes, arm_styles(arms))),
    )
    replace_file(path, page.lstrip().encode("utf-8", "replace").decode())
    return path


def _template(name: str) -> Any:
    """A template of this folder, which escapes all texts."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"minus": _minus, "code": _code}
    return environment.get_template(name)


def _score_figures(arm_scores: Mapping[str, ArmScores], score: str) -> dict[str, Any]:
    """Figures of the scores, and their legends: `heads` and `kinds` are (class, swatch, text)."""
    styles = arm_styles(list(arm_scores))
    curves = figures.severity_curves(arm_scores)
    classes = {arm: style.classes.split() for arm, style in styles.items()}
    examples = {style.kind: arm for arm, style in reversed(styles.items())}
    return {
        "score": score,
        "panels": figures.severity_panels(curves, styles, score == "success"),
        "heads": [
            (classes[arm][1], figures.swatch(style, f"{arm} and its controls"), arm)
            for arm, style in styles.items()
            if arm == style.head
        ],
        "kinds": [
            (classes[arm][2], figures.swatch(styles[arm]._replace(colour=INK), label), label)
            for arm, label in ((examples[k], k.label) for k in KINDS if k in examples)
        ],
        "heat_map": figures.heat_map(arm_scores),
        "strips": figures.seed_strips(arm_scores, styles),
        "scatter": figures.home_shift_scatter(arm_scores, styles, score),
        "legend": [(arm, figures.swatch(style, arm)) for arm, style in styles.items()],
    }


# --- filters of the template ----------------------------------------------------------------------


def _minus(text: str) -> str:
    """Text with typographic minus signs before numbers."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def _code(text: str) -> Markup:
    """Text in backquotes set as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))
