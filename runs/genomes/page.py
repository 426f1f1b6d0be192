"""Page of `runs.genome`: findings, one table, the figure of bytes and gains, a formula."""

import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs.worlds.drive.sensors import SENSES
from runs.analysis import stats
from runs.cli.study import Job
from runs.genomes.newborns import FORTY, PERMUTED, GenomeRun, tuned_in
from runs.genomes.results import (
    FULL,
    Results,
    byte_slopes,
    make_results,
    of_equal_numbers,
    sizes_of,
    slope_change,
    smallest_equal,
)
from runs.genomes.road import draw_road, road_values
from runs.inheritance.choices import OWN, Choices, choices_csv
from runs.inheritance.claims import SHARE, Arm, Claim, p_equivalent
from runs.inheritance.design import CONSTANT, VALUE, InheritDesign
from runs.inheritance.page import chosen_table
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_line, new_figure, save_with_legend
from runs.study_run import page_name

# --- text -----------------------------------------------------------------------------------------


def genome_page(
    run: GenomeRun, success: np.ndarray, choices: Choices, table: pd.DataFrame, job: Job
) -> Page:
    """The page of a finished study."""
    design, sizes = run.design, sizes_of(run)
    results, suite = make_results(design, table, sizes), run.design.suite.name
    sections = [
        "\n\n".join(findings(results, choices)),
        setup(design, success, choices),
        gains_table(results),
        "Gain in area over the chosen constant potential with its 95 % interval over pairs: own "
        "body / actions permuted, where newborns have that body. R2 is that of the fit, on samples "
        "held out, mean over parents.",
        "## The smallest that is not worse than the whole\n\n" + smallest_lines(results),
    ]
    figures: dict[str, Any] = {"": partial(draw_gains, results)}
    if suite == "Drive":
        first = design.dev_parents  # the first parent of the comparison
        kernels, biases, _, count = run.distilled(FORTY.name)
        text = formula([x[first] for x in kernels], [x[first] for x in biases], SENSES)
        sections.append(f"## {count} bytes, in full\n\n{FORMULA_NOTE}\n\n```\n{text}\n```")
        values = road_values(run, FORTY.name, first)
        figures["-road"] = partial(draw_road, values, count)
    keys = [(name, body) for body in design.bodies for name in tuned_in(design, body)]
    tuned = choices._replace(chosen={key: choices.chosen[key] for key in keys})
    sections.append("## Chosen numbers\n\n" + chosen_table(tuned))
    of = {name: (x.of, x.num_bytes, x.r2) for name, x in sizes.items()}
    rows = pd.DataFrame([of[name] for name in table["carrier"]], columns=["of", "bytes", "r2"])
    newborns = pd.concat([table.reset_index(drop=True), rows], axis=1).to_csv()
    tables = {"": newborns, "-choices": choices_csv(choices)}
    title = f"Genomes in {suite}: what does a kilobyte of inheritance buy?"
    text = page_text(title, sections, job.command)
    return Page(page_name("genome", suite), text, figures, tables=tables)


def setup(design: InheritDesign, success: np.ndarray, choices: Choices) -> str:
    """How it was measured, in a paragraph."""
    base = "and c = 1 - gamma" if choices.base else "alone"
    again = "; those of teachers again with permuted actions, which change nothing for others"
    again = again if PERMUTED in design.bodies else ""
    return (
        f"{design.parents} parents learn at home (success {success.mean():.2f}). With "
        f"{design.dev_parents} of them, in {' and '.join(place.name for place in design.dev)}, "
        f"the numbers of each carrier were chosen by {design.trials} trials, of which the best "
        f"third goes on after a quarter and after half of the newborns{again}. Each of the other "
        f"{design.pairs} parents is paired with a newborn. Areas are under the learning curve: "
        f"the mean share of training episodes that succeeded. Every newborn gets the task's reward "
        f"{base}. Values are paid as potentials; policies teach by imitation that fades. Nothing "
        f"is corrected for the number of comparisons, and no world is sealed."
    )


def findings(results: Results, choices: Choices) -> list[str]:
    """The two statements that were made before the run, what became of them, and a third."""
    place_areas = {
        name: results.areas.loc[(name, OWN), :].loc[results.places].mean().to_numpy()
        for name in (FORTY.name, VALUE)
    }
    difference = stats.nan_estimate(place_areas[FORTY.name] - place_areas[VALUE])
    margin = SHARE * (choices.chosen[VALUE, OWN].score - choices.chosen[CONSTANT, OWN].score)
    arms = [Arm(name, ()) for name in place_areas]
    finite = np.isfinite(list(place_areas.values())).all(0)
    scores = {name: areas[finite] for name, areas in place_areas.items()}
    p = p_equivalent(scores, Claim(*arms, "", "", margin))
    equal = "are equivalent to" if p < 0.05 else "are not shown to be equivalent to"
    if not margin > 0:
        equal = "cannot be tested, for want of a gain in development, against"
    count, change = results.sizes[FORTY.name].num_bytes, slope_change(results)
    direction = "is not shown, nor its opposite"
    if change.high < 0:
        direction = "holds"
    if change.low > 0:
        direction = "is refuted: the further, the more bytes are worth"
    return [
        f"Finding: {count} bytes {equal} the whole critic with new parents: area "
        f"{difference}, margin {margin:.3f} (a fifth of the critic's gain in development), p = "
        f"{p:.3f} of two one-sided tests, mean over {len(results.places)} worlds, own body.",
        f"That the best genome is smaller the further from home {direction}: what ten times the "
        f"bytes of a value, of 32 bits a weight, add to the area changes by {change} from home to "
        f"severity {max(results.severities.values()):g}.",
        at_equal_numbers(results, choices),
    ]


def at_equal_numbers(results: Results, choices: Choices) -> str:
    """What bytes are worth among values that got the same scale and shift: not stated before."""
    names = of_equal_numbers(results, choices)
    if len(names) < stats.FEWEST:
        return "No three values got the same scale and shift, so bytes and numbers go together."
    slopes = byte_slopes(results, names)
    near, far, change = map(stats.nan_estimate, (slopes[0], slopes[-1], slopes[-1] - slopes[0]))
    numbers = ", ".join(f"{k} {v:.3g}" for k, v in choices.chosen[names[0], OWN].numbers.items())
    return (
        f"Which numbers a genome got from few trials is part of its gain. Among the {len(names)} "
        f"values of 32 bits that got the same ({numbers}), ten times the bytes add {near} to the "
        f"area at home and {far} furthest from it, a change by {change}; this comparison was not "
        "stated before."
    )


def gains_table(results: Results) -> str:
    """Table of all carriers: bytes, R2, gain in each world in both bodies."""
    rows = []
    for name, size in results.sizes.items():
        if name == CONSTANT:
            continue
        gains = [
            " / ".join(
                f"{results.gain(name, body, place):+.2f}"
                for body in (OWN, PERMUTED)
                if (name, body, place) in results.areas.index
            )
            for place in results.places
        ]
        r2 = f"{size.r2:.3f}" if np.isfinite(size.r2) else "-"
        rows.append([name, f"{size.num_bytes:,}", r2, *gains])
    names = [
        f"severity {results.severities[place]:g}" if place in results.severities else place
        for place in results.places
    ]
    return markdown_table(["genome", "bytes", "R2", *names], rows)


PLURAL = {"value": "values", "policy": "policies"}


def smallest_lines(results: Results) -> str:
    """A line for each severity: the smallest value and the smallest policy."""
    lines = []
    for place, severity in results.severities.items():
        cells = []
        for of, full in FULL.items():
            smallest = smallest_equal(results, of, place)
            text = f"of {PLURAL[of]}: none, since the whole gains nothing that can be told from 0"
            if smallest is not None:
                name, estimate = smallest
                count = results.sizes[name].num_bytes
                name = f"the whole {of}" if name == full else name
                text = f"{name} ({count:,} bytes), {estimate} less the whole"
            cells.append(text)
        lines.append(f"- Severity {severity:g}: {'; '.join(cells)}.")
    note = "Few pairs can tell little: a wide interval here is no proof of equality."
    return "\n".join([*lines, "", note])


FORMULA_NOTE = (
    "The value of two units of the first parent that is compared. `near` and `closing` are the "
    "proximity of the nearest box and the speed at which it comes closer, on the ray at so many "
    "degrees from straight ahead, left positive; units are those of `envs.worlds.drive`."
)


def formula(
    kernels: Sequence[np.ndarray], biases: Sequence[np.ndarray], names: Sequence[str]
) -> str:
    """A network of one tanh layer and one output as a formula; weights that are 0 are left out."""
    (inner, outer), (inner_bias, outer_bias) = kernels, biases
    lines = [f"f = {outer_bias[0]:.3g}"]
    for unit in range(inner.shape[1]):
        weights = inner[:, unit]
        order = [i for i in np.argsort(-np.abs(weights), kind="stable") if weights[i] != 0]
        terms = [f"{inner_bias[unit]:.3g}", *(term(weights[i], names[i]) for i in order)]
        line = f"{term(outer[unit, 0], 'tanh(')}{' '.join(terms)})"
        indents = {"initial_indent": "    ", "subsequent_indent": " " * 10}
        lines += textwrap.wrap(line, 96, break_on_hyphens=False, **indents)
    return "\n".join(lines)


def term(weight: float, name: str) -> str:
    """A signed multiple of something, such as - 0.5 speed."""
    return f"{'-' if weight < 0 else '+'} {abs(weight):.3g} {name}"


# --- figure ---------------------------------------------------------------------------------------


def draw_gains(results: Results, path: Path) -> None:
    """Bytes (log) against gain over the constant potential: lines near home, and far from it."""
    steps = list(results.severities)
    figure, axes = new_figure(1, 2, (9.0, 4.2), sharey=True)
    for axis, place in zip(axes[0], (steps[0], steps[-1]), strict=True):
        for of, color in (("value", "C0"), ("policy", "C3")):
            for body, style in ((OWN, "-"), (PERMUTED, "--")):
                if body not in results.bodies:
                    continue
                names = results.by_size(of, in_line=True)
                gains = [results.gain(name, body, place) for name in names]
                label = f"{of}, {'own body' if body == OWN else 'actions permuted'}"
                x = [results.sizes[name].num_bytes for name in names]
                options = {"linestyle": style, "marker": "o", "markersize": 3}
                draw_line(axis, x, gains, label, color, band=body == OWN, **options)
            others = [k for k in results.by_size(of) if not results.sizes[k].in_line]
            x = [results.sizes[name].num_bytes for name in others]
            gains = [results.gain(name, OWN, place).value for name in others]
            axis.plot(x, gains, "x", color=color, markersize=4, label=f"{of}, rounded or pruned")
        axis.axhline(0, color="0.6", linewidth=0.8)
        where = "at home" if place == steps[0] else "far from it"
        title = f"{where}: severity {results.severities[place]:g}"
        axis.set(xscale="log", xlabel="bytes", title=title)
    for name in results.by_size("value", in_line=True):
        label = name.split(", ")[1] if ", " in name else "whole"
        at = results.sizes[name].num_bytes, results.gain(name, OWN, steps[0]).value
        options = {"textcoords": "offset points", "xytext": (0, -12), "ha": "center", "fontsize": 6}
        axes[0, 0].annotate(label, at, color="C0", **options)
    axes[0, 0].set_ylabel("gain in area over the constant potential")
    save_with_legend(figure, path, columns=3)
