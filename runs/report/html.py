"""HTML report of a study as one self-contained file, without scripts or external resources."""

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from runs.analysis import stats
from runs.analysis.robustness import ArmScores, scores_by_arm
from runs.analysis.scores import finite_rows, score_name, seed_means
from runs.engine.devices import describe_machine
from runs.lock import replace_file
from runs.report import figures
from runs.report.arm_style import KINDS, STYLE_SHEET, ArmStyle, arm_styles
from runs.report.episode_trace import EpisodeTrace
from runs.report.svg import INK, short
from runs.report.tables import Table
from runs.report.verdict import Study, declared_contrasts, verdict_sentence

NAME = "report.html"
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""Content security policy of the page, which forbids scripts and external resources."""
MAX_ENTRIES = 12  # how many of the newest ledger entries are shown
MAX_FRAMES, WIDTH, PALETTE = 10, 320, 40  # frames per episode; pixels; colours of a frame


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
    loader = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template.filters |= {"minus": _minus, "code": _code}
    page = template.get_template("html.jinja").render(
        study=study,
        policy=POLICY,
        style_sheet=Markup(STYLE_SHEET),
        verdict=_minus(verdict_sentence(rows, study)),
        forest=figures.forest_plot(estimates, forest_title) if estimates else None,
        **(_score_figures(arm_scores, score_name(rows)) if arm_scores else {}),
        validity=figures.validity_figures(readouts),
        episodes=list(_timelines(episodes, arm_styles(study.arms))),
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


# --- episodes -------------------------------------------------------------------------------------


def _timelines(
    episodes: Sequence[tuple[str, EpisodeTrace]], styles: Mapping[str, ArmStyle]
) -> Iterator[dict[str, Any]]:
    """Timeline of each episode; a signal has one scale in all, and the colour of its arm."""
    names = dict.fromkeys(name for _, episode in episodes for name in episode.signals)
    ranges = {
        name: figures.extent(e.signals[name] for _, e in episodes if name in e.signals)
        for name in names
    }
    for title, episode in episodes:
        length, signals = len(episode.frames), []
        for name, values in episode.signals.items():
            finite = values[np.isfinite(values)]
            text = f"{short(finite.min())} to {short(finite.max())}" if finite.size else ""
            colour = styles[name].colour if name in styles else INK
            description = f"{name} over the steps of {title}"
            curve = figures.signal_curve(values, ranges[name], colour, episode.blunder, description)
            signals.append((name, text or "no finite value", curve))
        ticks = MaxNLocator(6, integer=True).tick_values(0, max(length - 1, 1))
        yield {
            "title": title,
            "summary": f"{length} steps" + (f", ended: {episode.ended}" if episode.ended else ""),
            "last": max(length - 1, 1),
            "blunder": episode.blunder,
            "frames": [
                (step, png_data_url(episode.frames[step]))
                for step in steps_to_show(length, episode.blunder)
            ],
            "signals": signals,
            "ticks": [int(step) for step in ticks if step < length],
        }


def steps_to_show(length: int, blunder: int | None) -> list[int]:
    """Steps to show: middles of MAX_FRAMES equal spans, but always the blunder and last step."""
    count = min(MAX_FRAMES, length)
    edges = np.arange(count + 1) * length / count
    steps = [int((a + b) / 2) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    steps[-1] = length - 1
    if blunder is not None and 0 <= blunder < length:
        steps[int(np.searchsorted(edges, blunder, side="right")) - 1] = blunder
    return sorted(set(steps))


def png_data_url(frame: np.ndarray) -> str:
    """Encodes a frame [H, W, 3] as a PNG at most WIDTH wide, of few colours, in a data URL."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(frame, np.uint8))
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.LANCZOS)
    elif image.width * 2 <= WIDTH:
        times = WIDTH // image.width
        image = image.resize((image.width * times, image.height * times), Image.NEAREST)
    image = image.quantize(PALETTE, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


# --- filters of the template ----------------------------------------------------------------------


def _minus(text: str) -> str:
    """Text with typographic minus signs before numbers."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def _code(text: str) -> Markup:
    """Text in backquotes set as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))
