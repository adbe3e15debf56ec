"""What all figures drawn by matplotlib share; the same numbers give the same bytes."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpo.report.figures.style import LONGEST_LABEL, shorten

WIDTH = 8.0  # inches; 10-point letters are then 14 pixels high where the picture is shown 800 pixels wide


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
