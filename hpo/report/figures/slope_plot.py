"""Figure 3: the result of every seed with the baseline and with a rival, joined by a line."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hpo.analysis.metric import Metric
from hpo.analysis.paired_tests import paired_differences
from hpo.report import formatting
from hpo.report.figures import matplotlib_layout, plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.style import Style, markup, rounded, shorten, translucent

MAX_COLUMNS = 3
PNG_LABEL, PAGE_LABEL = 22, 32  # letters below a panel of a picture and of a page
WIDTHS = (4.5, 6.5, 8.0)  # inches, for one, two and three panels side by side
MANY_LINES = 20  # from here on lines are drawn lighter


@dataclass(frozen=True, kw_only=True)
class Slopes(Chart):
    """Paired values: a panel for each rival.

    Attributes:
        metric: what is compared. baseline: its name. unit: what is paired, "seed" or "tuning run".
        frame: columns configuration (the rival), unit, baseline, rival; sorted.
        styles: those of the baseline and of the rivals.
    """

    number: int = 3
    slug: str = "paired-slopes"
    frame: pd.DataFrame
    metric: Metric
    baseline: str
    unit: str

    @property
    def caption(self) -> str:
        means = "" if self.unit == "seed" else " (the mean over its seeds)"
        return (
            f"{self.title}, {shorten(self.baseline)} on the left of each panel: a line for each {self.unit}{means}, "
            "coloured where the rival is ahead and grey where it is not; the thick line joins the means."
        )

    def draw_png(self, path: Path) -> None:
        panels = list(self.by_configuration(self.frame))
        columns = min(MAX_COLUMNS, len(panels))
        rows = math.ceil(len(panels) / columns)
        figure = matplotlib_layout.new_figure(0.6 + 2.6 * rows if rows > 1 else 3.8, WIDTHS[columns - 1])
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for index, (axes, (name, style, pairs)) in enumerate(zip(grid.flat, panels, strict=False)):
            self._draw_panel(axes, pairs, style)
            left, right = (matplotlib_layout.label(*side) for side in _label_lengths(self.baseline, name, PNG_LABEL))
            axes.set(xticks=[], xlim=(-0.2, 1.2), xlabel=f"{left} → {right}")
            matplotlib_layout.tidy(axes, grid="y")
            if self.metric.share:
                matplotlib_layout.percent_ticks(axes.yaxis)
            if index % columns == 0:
                axes.set_ylabel(matplotlib_layout.label(self.metric.label))
        matplotlib_layout.save(figure, path)

    def _draw_panel(self, axes: Any, pairs: pd.DataFrame, style: Style) -> None:
        from matplotlib.collections import LineCollection

        opacity, grey = 0.75 if len(pairs) <= MANY_LINES else 0.3, self.styles[self.baseline]
        colours = [style.colour if ahead else grey.colour for ahead in self._ahead(pairs)]
        lines = [[(0, left), (1, right)] for left, right in zip(pairs["baseline"], pairs["rival"], strict=True)]
        axes.add_collection(LineCollection(lines, colors=colours, alpha=opacity, linewidths=1.2))
        for x, column, side in ((0, "baseline", grey), (1, "rival", style)):
            axes.plot([x] * len(pairs), pairs[column], side.marker[0], color=side.colour, alpha=opacity, markersize=4)
        means = [pairs["baseline"].mean(), pairs["rival"].mean()]
        axes.plot([0, 1], means, color="#000000", linewidth=3, solid_capstyle="round")

    def draw_plotly(self) -> dict[str, Any]:
        traces: list[dict[str, Any]] = []
        axes = []
        for index, (name, style, pairs) in enumerate(self.by_configuration(self.frame)):
            ahead = self._ahead(pairs)
            traces.append(_lines_trace(index, pairs[ahead], style.colour))
            traces.append(_lines_trace(index, pairs[~ahead], self.styles[self.baseline].colour))
            traces.append(self._means_trace(index, pairs))
            traces += [self._points_trace(index, name, pairs, side) for side in (0, 1)]
            title = " → ".join(markup(*side) for side in _label_lengths(self.baseline, name, PAGE_LABEL))
            x_axis = {"title": {"text": title}, "range": [-0.2, 1.2], "showgrid": False, "showticklabels": False}
            y_axis: dict[str, Any] = {"title": {"text": markup(self.metric.label)}}
            y_axis |= {"tickformat": ".1~%"} if self.metric.share else {}
            y_axis |= {"matches": "y"} if index else {}
            axes.append((x_axis, y_axis))
        return plotly_layout.draw(traces, axes, panel_height=260, columns=MAX_COLUMNS)

    def _means_trace(self, panel: int, pairs: pd.DataFrame) -> dict[str, Any]:
        value = f"%{{y{plotly_layout.hover_format(self.metric.share)}}}"
        return plotly_layout.scatter(
            panel, "lines", [0, 1], rounded([pairs["baseline"].mean(), pairs["rival"].mean()]),
            line={"color": plotly_layout.RULE, "width": 5}, hovertemplate=f"mean: {value}<extra></extra>",
            showlegend=False,
        )  # fmt: skip

    def _points_trace(self, panel: int, name: str, pairs: pd.DataFrame, side: int) -> dict[str, Any]:
        style = self.styles[name if side else self.baseline]
        values = rounded(pairs["baseline"]), rounded(pairs["rival"])
        differences = [formatting.amount(value, self.metric) for value in pairs["rival"] - pairs["baseline"]]
        value_format = plotly_layout.hover_format(self.metric.share)
        return plotly_layout.scatter(
            panel, "markers", [side] * len(pairs), values[side],
            marker={"color": style.colour, "symbol": style.marker[1], "size": 7},
            customdata=[list(row) for row in zip(pairs["unit"].tolist(), *values, differences, strict=True)],
            hovertemplate=(
                f"{self.unit} %{{customdata[0]}}<br>{markup(self.baseline)}: %{{customdata[1]{value_format}}}"
                f"<br>{markup(name)}: %{{customdata[2]{value_format}}}<br>difference: %{{customdata[3]}}<extra></extra>"
            ),
            showlegend=False,
        )  # fmt: skip

    def _ahead(self, pairs: pd.DataFrame) -> "pd.Series[bool]":
        differences = pd.Series(paired_differences(pairs["rival"], pairs["baseline"]), pairs.index)
        return differences > 0 if self.metric.direction == "maximize" else differences < 0


def _label_lengths(baseline: str, rival: str, letters: int) -> list[tuple[str, int]]:
    """Both names and how long each may be: the rival's has the letters that the baseline's leaves."""
    first = min(len(baseline), letters // 2)
    return [(baseline, first), (rival, letters - first)]


def _lines_trace(panel: int, pairs: pd.DataFrame, colour: str) -> dict[str, Any]:
    """One trace for many lines: a gap behind each."""
    heights: list[float | None] = []
    for left, right in zip(rounded(pairs["baseline"]), rounded(pairs["rival"]), strict=True):
        heights += [left, right, None]
    shade = translucent(colour, 0.8 if len(pairs) <= MANY_LINES else 0.35)
    return plotly_layout.scatter(
        panel, "lines", [0, 1, None] * len(pairs), heights, line={"color": shade, "width": 1.5}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
