"""What all figures drawn by matplotlib share; the same numbers give the same bytes."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpo.analysis.metric import Metric
from hpo.report.figures.style import LONGEST_LABEL, MANY_POINTS, Style, shorten, spans_decades

WIDTH = 8.0  # inches; 10-point letters are then 14 pixels high where the picture is shown 800 pixels wide
LEGEND_LINE, LEGEND_PADDING = 0.215, 0.15  # inches


def new_figure(height: float, width: float = WIDTH) -> Any:
    """An empty matplotlib Figure; height and width in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Any, grid: str = "both") -> None:
    """Draws a light grid, and of the frame only the axes."""
    axes.grid(axis=grid, color="#000000", alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """Names the rows of a forest plot, from the top; without an axis line."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    tidy(axes, grid="x")
    axes.spines["left"].set_visible(False)


def save(figure: Any, path: Path) -> None:
    """Writes the PNG."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script the font lacks
        figure.savefig(path, metadata={"Software": None})


def label(name: str, longest: int = LONGEST_LABEL) -> str:
    """A name that matplotlib shows literally: without a formula between dollars, not hidden by a leading underscore."""
    short = shorten(name, longest).replace("$", r"\$")
    return f" {short}" if short.startswith("_") else short


def percent_ticks(axis: Any) -> None:
    """Shows fractions as 47.5%."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))


def log_ticks(axes: Any, low: float, high: float) -> None:
    """Plain numbers on a log axis, at least three of them however short it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    decades = math.log10(high / low)
    steps = (1,) if decades > 5 else (1, 2, 5) if decades > 1.2 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=steps) if decades > 0.5 else MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def legend(figure: Any, styles: Mapping[str, Style], marks: bool) -> None:
    """A legend at the right: a mark for each configuration, or a line."""
    from matplotlib.lines import Line2D

    handles = []
    for name, style in styles.items():
        mark: dict[str, Any] = {"marker": style.marker[0], "linestyle": ""} if marks else {"linestyle": style.dash[0]}
        handles.append(Line2D([], [], color=style.colour, label=label(name), linewidth=1.8, **mark))
    add_legend(figure, handles=handles)


def add_legend(figure: Any, **options: Any) -> None:
    """A legend at the right of what the axes label, or of `handles`; the figure becomes as high as it needs."""
    added = figure.legend(loc="outside right upper", frameon=False, **options)
    figure.set_figheight(max(figure.get_figheight(), LEGEND_LINE * len(added.get_texts()) + LEGEND_PADDING))


def score_axis(axes: Any, metric: Metric, scores: "pd.Series[float]") -> None:
    """The y axis of a score; logarithmic where the scores span a wide range."""
    axes.set_ylabel(shorten(metric.label, 40).replace("$", r"\$"))
    if metric.share:
        percent_ticks(axes.yaxis)
    elif spans_decades(metric, scores):
        log_ticks(axes, scores.min(), scores.max())


def scatter(axes: Any, style: Style, x: Sequence[float], y: Sequence[float]) -> None:
    """The trials of a configuration."""
    size = 16 if len(x) <= MANY_POINTS else 4
    places = np.asarray(x, dtype=float), np.asarray(y, dtype=float)  # for lists, matplotlib makes an array per number
    axes.scatter(*places, s=size, color=style.colour, alpha=0.65, marker=style.marker[0], linewidths=0)
