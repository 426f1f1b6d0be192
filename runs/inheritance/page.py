"""Page of `runs.inherit`: claims in sentences, tables, heat map of gains, learning curves."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from runs.analysis import stats
from runs.cli.study import Job
from runs.inheritance.bodies import EXTRA_NOTE, body_label
from runs.inheritance.choices import OWN, Choices, choices_csv
from runs.inheritance.claims import Verdict, detectable
from runs.inheritance.design import BESIDE, CONSTANT, MISLED, SIX, SMALL, VALUE, InheritDesign
from runs.inheritance.exploratory import OF_STOPPED
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_means, new_figure, new_panels, save_figure, save_with_legend
from runs.study_run import page_name

SHOWN = ("none", CONSTANT, VALUE, SMALL, "teacher", "trunk + critic")  # learning curves


def inherit_page(
    design: InheritDesign,
    success: np.ndarray,
    choices: Choices,
    results: Sequence[Verdict],
    explored: pd.DataFrame | None,
    job: Job,
) -> Page:
    """The page of a study, of its claims and of its exploratory part, unless either is left out."""
    name = page_name("inherit" if results else "inherit-explored", design.suite.name)
    title = f"Inheritance in {design.suite.name}: what should a newborn be given?"
    setup = (
        f"{design.parents} parents learn at home (success {success.mean():.2f}). {design.pairs} of "
        f"them are paired with a newborn each in the claims; with the others, numbers were chosen "
        f"in "
        f"{' and '.join(place.name for place in design.dev)}. Scores are areas under the learning "
        f"curve: the mean share of training episodes that succeeded. Every newborn gets the task's "
        f"reward {'and c = 1 - gamma' if choices.base else 'alone'}, as chosen in development."
    )
    sections = [setup, *(claim_sections(design, choices, results) if results else ())]
    sections += ["## Chosen numbers\n\n" + chosen_table(choices), misfit_section(choices)]
    tables, figures = {"-choices": choices_csv(choices)}, {}
    if explored is not None:
        sections += explored_sections(design, explored)
        tables[""] = explored.to_csv()
        figures[""] = partial(draw_gains, design, explored)
        figures["-curves"] = partial(draw_curves, design, explored)
    sections += ["Protocol and literature: `runs/inheritance/README.md`."]
    return Page(name, page_text(title, sections, job.command), figures, tables=tables)


def claim_sections(
    design: InheritDesign, choices: Choices, results: Sequence[Verdict]
) -> list[str]:
    """Sections of the claims: a sentence each, and their table."""
    sentences = "\n".join(f"{i}. {sentence(v)}" for i, v in enumerate(results, 1))
    return [f"## Claims\n\n{sentences}", claims_table(results, design, choices)]


def explored_sections(design: InheritDesign, explored: pd.DataFrame) -> list[str]:
    """Sections of the exploratory part."""
    return [
        "## Exploratory: all carriers in the parents' own body\n\n"
        + worlds_table(design, explored),
        speed_table(design, explored),
        "## Exploratory: six carriers in every body, gain over the constant potential\n\n"
        + gains_table(design, explored),
        "## Exploratory: parents that were stopped\n\n" + stopped_table(design, explored),
    ]


def sentence(verdict: Verdict) -> str:
    """One claim in a sentence, whichever way it fell."""
    claim, row = verdict.claim, verdict.contrast
    stands = "stands" if verdict.holds else "is not shown"
    p_value = "< .001" if row.p_holm < 0.001 else f"= {row.p_holm:.3f}"
    numbers = f"{row.estimate}, p {p_value} after Holm"
    return f"{claim.title}: {numbers}. The claim {stands}: {claim.mechanism}."


def claims_table(results: Sequence[Verdict], design: InheritDesign, choices: Choices) -> str:
    """Table of the claims: areas, difference, p, what is detectable and what would refute them."""
    rows = [
        [
            v.claim.arm.name,
            f"{v.areas[0]:.3f}",
            v.claim.reference.name,
            f"{v.areas[1]:.3f}",
            f"{v.contrast.estimate}",
            f"{v.contrast.p_value:.4f}",
            f"{v.contrast.p_holm:.4f}",
            f"{detectable(v.claim, choices, design.pairs):.3f}",
            v.claim.refuted,
        ]
        for v in results
    ]
    headings = ["arm", "area", "less", "its area", "difference [95 %]", "p", "p (Holm)"]
    headings += ["detectable", "refuted by"]
    margins = [v.claim.margin for v in results if v.claim.margin is not None]
    notes = [f"The last claim is one of equivalence, with the margin {x:.3f}." for x in margins]
    return "\n\n".join([markdown_table(headings, rows), *notes])


def chosen_table(choices: Choices) -> str:
    """Table of the chosen numbers of each carrier in each body."""
    rows = []
    for (carrier, body), choice in choices.chosen.items():
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in choice.numbers.items())
        edge = ", ".join(choice.at_edge)
        rows.append([carrier, body, numbers, f"{choice.score:.3f}", str(choice.tried), edge])
    headings = ["carrier", "body", "numbers", "area", "trials", "at the edge of its interval"]
    return markdown_table(headings, rows)


def misfit_section(choices: Choices) -> str | None:
    """What cannot enter which body, and why."""
    lines = [f"- {carrier}, {body}: {why}" for (carrier, body), why in choices.misfits.items()]
    return "\n".join(["Impossible:", "", *lines]) if lines else None


def worlds_table(design: InheritDesign, explored: pd.DataFrame) -> str:
    """Area, success, crashes and time-outs at the end by carrier and world; and under shift."""
    rows = []
    table = explored[explored["part"] == "worlds"]
    for carrier, of_carrier in table.groupby("carrier", sort=False):
        cells = [str(carrier)]
        for place in (*design.dev, *design.shown):
            part = of_carrier[of_carrier["place"] == place.name]
            late = 1 - part["success"] - part["harm"]
            ends = "/".join(f"{x.mean():.2f}" for x in (part["success"], part["harm"], late))
            cells.append(f"{stats.nan_estimate(part['area'].to_numpy()).value:.3f} ({ends})")
        shifted = of_carrier["shifted"].mean() if "shifted" in of_carrier else np.nan
        rows.append([*cells, f"{shifted:.3f}"])
    headings = ["carrier", *(place.name for place in (*design.dev, *design.shown)), "under shift"]
    note = "Area under the learning curve (success / crashes / time-outs at the end)."
    return f"{markdown_table(headings, rows)}\n\n{note}"


def speed_table(design: InheritDesign, explored: pd.DataFrame) -> str:
    """Steps until a share of .5 and of .8 of training episodes succeeded, by carrier and world."""
    table, rows = explored[explored["part"] == "worlds"], []
    places, columns = [place.name for place in (*design.dev, *design.shown)], curve_columns(table)
    steps = design.newborn_config.chunk_steps * np.arange(1, 1 + len(columns))
    for carrier, of_carrier in table.groupby("carrier", sort=False):
        cells = [str(carrier)]
        for place in places:
            curves = of_carrier[of_carrier["place"] == place][columns].to_numpy()
            until = [stats.median_time(curves, share, steps) for share in (0.5, 0.8)]
            cells.append(" / ".join(f"{x / 1e3:.0f}" if np.isfinite(x) else "never" for x in until))
        rows.append(cells)
    note = "Thousand steps until .5 / .8 of training episodes succeeded, median over pairs."
    return f"{markdown_table(['carrier', *places], rows)}\n\n{note}"


def curve_columns(table: pd.DataFrame) -> list[str]:
    """Names of the columns of a learning curve, in order."""
    return sorted((name for name in table if name.startswith("curve_")), key=lambda n: int(n[6:]))


def stopped_table(design: InheritDesign, explored: pd.DataFrame) -> str:
    """Area by carrier (columns) and by the share of their training after which parents stopped."""
    worlds = [place.name for place in design.dev]
    full = (explored["part"] == "worlds") & explored["place"].isin(worlds)
    table = explored[full | (explored["part"] == "parents")]
    rows = []
    for source, of_source in table.groupby("source", sort=False):
        cells = [str(source) or "parents at 100%"]
        for carrier in OF_STOPPED:
            areas = of_source[of_source["carrier"] == carrier].groupby("pair")["area"].mean()
            cells.append(f"{stats.nan_estimate(areas.to_numpy()):.3f}")
        rows.append(cells)
    return markdown_table(["parents", *OF_STOPPED], rows)


def gains(design: InheritDesign, explored: pd.DataFrame) -> pd.DataFrame:
    """Gain in area over the chosen constant potential: a row a carrier, body and pair."""
    worlds = [place.name for place in design.dev]
    own = (explored["part"] == "worlds") & explored["place"].isin(worlds)
    table = explored[own | (explored["part"] == "bodies")]
    areas = table.groupby(["body", "carrier", "pair"], sort=False)["area"].mean()
    reference = areas.xs(CONSTANT, level="carrier")
    return (areas - reference).rename("gain").reset_index()


def gains_table(design: InheritDesign, explored: pd.DataFrame) -> str:
    """Gain over the chosen constant potential by body (rows) and carrier, with its interval."""
    table, rows = gains(design, explored), []
    for body, kind in design.bodies.items():
        cells = [body_label(body, kind)]
        for carrier in (*SIX, *BESIDE):
            part = table[(table["body"] == body) & (table["carrier"] == carrier)]["gain"].to_numpy()
            enough = np.isfinite(part).sum() >= stats.FEWEST
            reason = "impossible" if is_raised(carrier, body) else ""
            cells.append(f"{stats.nan_estimate(part)}" if enough else reason)
        rows.append(cells)
    return f"{markdown_table(['body', *SIX, *BESIDE], rows)}\n\n{EXTRA_NOTE}"


def is_raised(carrier: str, body: str) -> bool:
    """Whether newborns of a carrier are raised in a body, if that is possible."""
    return body == OWN or carrier in SIX or (carrier in BESIDE and body in MISLED)


def draw_gains(design: InheritDesign, explored: pd.DataFrame, path: Path) -> None:
    """Heat map of gains over the chosen constant potential, carriers x bodies; x is impossible."""
    table = gains(design, explored).groupby(["carrier", "body"], sort=False)["gain"].mean()
    carriers = list(design.carriers)
    grid = table.unstack("body").reindex(index=carriers, columns=list(design.bodies))
    figure, axes = new_figure(size=(9.0, 8.0))
    axis = axes[0, 0]
    limit = float(np.nanmax(np.abs(grid.to_numpy()))) or 1.0
    image = axis.imshow(grid, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), value in np.ndenumerate(grid.to_numpy()):
        impossible = "×" if is_raised(carriers[i], grid.columns[j]) else ""
        text = f"{value:+.2f}" if np.isfinite(value) else impossible
        axis.text(j, i, text, ha="center", va="center", fontsize=7)
    labels = [body_label(body, kind) for body, kind in design.bodies.items()]
    axis.set_xticks(range(grid.shape[1]), labels, rotation=30, ha="right")
    axis.set_yticks(range(grid.shape[0]), grid.index)
    figure.colorbar(image, label="gain in area over the chosen constant potential")
    axis.set_title("×: impossible, blank: not raised", fontsize=8, loc="left")
    save_figure(figure, path)


def draw_curves(design: InheritDesign, explored: pd.DataFrame, path: Path) -> None:
    """Learning curves of some carriers in the parents' own body, a panel a world."""
    places = (*design.dev, *design.shown)
    figure, axes = new_panels(len(places), 2, (4.2, 3.0))
    table = explored[explored["part"] == "worlds"]
    columns = curve_columns(table)
    steps = design.newborn_config.chunk_steps * (1 + np.arange(len(columns))) / 1e3
    for place, axis in zip(places, axes, strict=True):
        for i, carrier in enumerate(SHOWN):
            rows = table[(table["place"] == place.name) & (table["carrier"] == carrier)]
            draw_means(axis, steps, rows[columns].to_numpy(), carrier, f"C{i}")
        axis.set(title=place.name, xlabel="thousand steps", ylabel="success", ylim=(0, 1))
    save_with_legend(figure, path)
