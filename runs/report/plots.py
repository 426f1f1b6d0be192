"""Helpers of study figures: matplotlib axes of one style, lines with bands, legends, PNG files."""

from pathlib import Path
from typing import Any

from runs.analysis.stats import mean_and_bounds


def new_figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.0, 4.0), **options: Any
) -> tuple[Any, Any]:
    """New figure and its axes [rows, columns], without pyplot: a notebook's settings stay.

    Args:
        rows: of panels.
        columns: of panels.
        size: of the figure in inches.
        **options: `layout` of the figure, and options of `Figure.subplots`, such as `sharey=True`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout=options.pop("layout", "constrained"))
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def new_panels(
    count: int, columns: int, size: tuple[float, float], extra: float = 0.6, **options: Any
) -> tuple[Any, list[Any]]:
    """New figure with `count` panels of `size` inches in rows of at most `columns` -> its panels.

    `extra` inches are added to the height, for a legend; panels of the last row that are not
    needed are hidden.
    """
    columns = min(columns, max(count, 1))
    rows = -(-count // columns)
    full_size = (size[0] * columns, size[1] * rows + extra)
    figure, axes = new_figure(rows, columns, full_size, **{"sharey": True, **options})
    for axis in list(axes.flat)[count:]:
        axis.axis("off")
    return figure, list(axes.flat)[:count]


def draw_line(
    axis: Any, x: Any, estimates: Any, label: str, color: Any, band: bool = True, **options: Any
) -> None:
    """Draw means over x [N] and, with `band`, their intervals; estimates [N] of (mean, low, high).

    Further options are those of `Axes.plot`.
    """
    middle, low, high = zip(*estimates, strict=True)
    axis.plot(x, middle, color=color, label=label, **options)
    if band:
        axis.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)


def draw_means(axis: Any, x: Any, seeds: Any, label: str, color: Any, **options: Any) -> None:
    """Draw means over seeds of scores [S, N] over x [N] with their t intervals (`draw_line`)."""
    draw_line(axis, x, mean_and_bounds(seeds).T, label, color, **options)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=110)


def save_with_legend(
    figure: Any,
    path: Path,
    x: str = "",
    y: str = "",
    label_size: int = 10,
    columns: int = 5,
    **options: Any,
) -> None:
    """Write a figure as PNG, with labels x, y that all panels share and one legend of all entries.

    `label_size` is in points, `columns` are those of the legend, above the panels by default;
    further options are those of `Figure.legend`.
    """
    for label, draw in ((x, figure.supxlabel), (y, figure.supylabel)):
        if label:
            draw(label, fontsize=label_size)
    entries: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    options = {"loc": "outside upper center", "frameon": False, "fontsize": 8, **options}
    legend = figure.legend(list(entries.values()), list(entries), ncol=columns, **options)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name with $ is no formula
    save_figure(figure, path)
