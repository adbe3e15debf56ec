"""Figure 3: what every seed reached with the baseline and with a rival, joined by a line."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hpo.analysis.metric import Metric
from hpo.report.figures import axis, matplotlib_layout, plotly_layout
from hpo.report.figures.curves import by_configuration
from hpo.report.figures.style import Style, markup, rounded, shorten, translucent

if TYPE_CHECKING:
    import pandas as pd

Panels = list[tuple[str, Style, "pd.DataFrame"]]

MOST_COLUMNS = 3
PICTURE_LABEL, PAGE_LABEL = 26, 32  # letters below a panel of a picture and of a page
WIDTHS = (4.5, 6.5, 8.0)  # inches, for one, two and three panels side by side
MANY_LINES = 20  # from here on lines are drawn lighter


class Slopes(NamedTuple):
    """Paired values, ready to draw: a panel a rival.

    Attributes:
        metric: what is compared. baseline: its name. unit: what is paired, "seed" or "tuning run".
        frame: columns configuration (the rival), unit, baseline, rival; sorted.
        styles: configuration → style, the baseline's too.
    """

    number: int
    slug: str
    title: str
    caption: str
    metric: Metric
    baseline: str
    unit: str
    frame: "pd.DataFrame"
    styles: dict[str, Style]


def paired_slopes(pairs: "pd.DataFrame", styles: dict[str, Style], metric: Metric, baseline: str, unit: str) -> Slopes:
    """Figure 3, from columns configuration, unit, baseline, rival."""
    means = "" if unit == "seed" else " (the mean over its seeds)"
    caption = (
        f"{metric.label.capitalize()} {unit} by {unit}, {shorten(baseline)} on the left of each panel: a line a "
        f"{unit}{means}, coloured where the rival is ahead and grey where it is not; the thick line joins the means."
    )
    frame = pairs.sort_values(["configuration", "unit"], kind="stable", ignore_index=True)
    title = f"{metric.label.capitalize()}, {unit} by {unit}"
    return Slopes(3, "paired-slopes", title, caption, metric, baseline, unit, frame, styles)


def draw_png(info: Slopes, path: Path) -> None:
    """Draws with matplotlib; the same info gives the same bytes."""
    panels: Panels = by_configuration(info.frame, info.styles)
    columns = min(MOST_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = matplotlib_layout.new_figure(0.6 + 2.6 * rows if rows > 1 else 3.8, WIDTHS[columns - 1])
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for index, (axes, (name, style, pairs)) in enumerate(zip(grid.flat, panels, strict=False)):
        _panel(axes, pairs, style, info)
        left, right = (matplotlib_layout.label(side, room) for side, room in _rooms(info.baseline, name, PICTURE_LABEL))
        axes.set(xticks=[], xlim=(-0.2, 1.2), xlabel=f"{left} → {right}")
        matplotlib_layout.tidy(axes, grid="y")
        if info.metric.share:
            matplotlib_layout.percent_ticks(axes.yaxis)
        if index % columns == 0:
            axes.set_ylabel(matplotlib_layout.label(info.metric.label))
    matplotlib_layout.save(figure, path)


def _rooms(baseline: str, rival: str, letters: int) -> list[tuple[str, int]]:
    """Both names and how long each may be: the rival's takes what the baseline's leaves."""
    first = min(len(baseline), letters // 2)
    return [(baseline, first), (rival, letters - first)]


def _ahead(info: Slopes, pairs: "pd.DataFrame") -> "pd.Series[bool]":
    gains = pairs["rival"] - pairs["baseline"]
    return gains > 0 if info.metric.direction == "maximize" else gains < 0


def _panel(axes: Any, pairs: "pd.DataFrame", style: Style, info: Slopes) -> None:
    from matplotlib.collections import LineCollection

    opacity, baseline = 0.75 if len(pairs) <= MANY_LINES else 0.3, info.styles[info.baseline]
    colours = [style.colour if ahead else baseline.colour for ahead in _ahead(info, pairs)]
    lines = [[(0, left), (1, right)] for left, right in zip(pairs["baseline"], pairs["rival"], strict=True)]
    axes.add_collection(LineCollection(lines, colors=colours, alpha=opacity, linewidths=1.2))
    for place, column, drawn in ((0, "baseline", baseline), (1, "rival", style)):
        axes.plot([place] * len(pairs), pairs[column], drawn.marker[0], color=drawn.colour, alpha=opacity, markersize=4)
    means = [pairs["baseline"].mean(), pairs["rival"].mean()]
    axes.plot([0, 1], means, color="#000000", linewidth=3, solid_capstyle="round")


def draw_plotly(info: Slopes) -> dict[str, Any]:
    """Draws for plotly: hovering a point tells both values of its seed."""
    data: list[dict[str, Any]] = []
    axes = []
    matching = {"matches": "y"}
    panels: Panels = by_configuration(info.frame, info.styles)
    for index, (name, style, pairs) in enumerate(panels):
        panel = plotly_layout.on_panel(index)
        grey = info.styles[info.baseline].colour
        ahead = _ahead(info, pairs)
        data += [_lines(pairs[ahead], style.colour, panel), _lines(pairs[~ahead], grey, panel)]
        data.append(_means(pairs, info.metric, panel))
        data += [_points(info, name, pairs, side, panel) for side in (0, 1)]
        title = " → ".join(markup(side, room) for side, room in _rooms(info.baseline, name, PAGE_LABEL))
        axes.append(
            (
                {"title": {"text": title}, "range": [-0.2, 1.2], "showgrid": False, "showticklabels": False},
                {
                    **axis.ticks(info.metric),
                    "title": {"text": markup(info.metric.label)},
                    **(matching if index else {}),
                },
            )
        )
    return plotly_layout.draw(data, axes, [], 260, columns=MOST_COLUMNS)


def _lines(pairs: "pd.DataFrame", colour: str, panel: dict[str, Any]) -> dict[str, Any]:
    """One trace for many lines: a gap behind each."""
    heights: list[float | None] = []
    for left, right in zip(rounded(pairs["baseline"]), rounded(pairs["rival"]), strict=True):
        heights += [left, right, None]
    shade = translucent(colour, 0.8 if len(pairs) <= MANY_LINES else 0.35)
    return {
        "type": "scatter", "mode": "lines", "x": [0, 1, None] * len(pairs), "y": heights,
        "line": {"color": shade, "width": 1.5}, "hoverinfo": "skip", "showlegend": False, **panel,
    }  # fmt: skip


def _points(info: Slopes, name: str, pairs: "pd.DataFrame", side: int, panel: dict[str, Any]) -> dict[str, Any]:
    style = info.styles[name if side else info.baseline]
    left, right = rounded(pairs["baseline"]), rounded(pairs["rival"])
    words = (
        f"{info.unit} %{{customdata[0]}}<br>{markup(info.baseline)}: %{{customdata[1]{axis.hover(info.metric)}}}"
        f"<br>{markup(name)}: %{{customdata[2]{axis.hover(info.metric)}}}<br>difference: %{{customdata[3]}}"
        f"{axis.unit(info.metric)}<extra></extra>"
    )
    gains = [
        axis.difference(gain, info.metric) for gain in axis.scale(info.metric) * (pairs["rival"] - pairs["baseline"])
    ]
    return {
        "type": "scatter", "mode": "markers", "x": [side] * len(pairs), "y": right if side else left,
        "marker": {"color": style.colour, "symbol": style.marker[1], "size": 7},
        "customdata": [list(row) for row in zip(pairs["unit"].tolist(), left, right, gains, strict=True)],
        "hovertemplate": words, "showlegend": False, **panel,
    }  # fmt: skip


def _means(pairs: "pd.DataFrame", metric: Metric, panel: dict[str, Any]) -> dict[str, Any]:
    means = rounded([pairs["baseline"].mean(), pairs["rival"].mean()])
    return {
        "type": "scatter", "mode": "lines", "x": [0, 1], "y": means, "line": {"color": plotly_layout.RULE, "width": 5},
        "hovertemplate": f"mean: %{{y{axis.hover(metric)}}}<extra></extra>", "showlegend": False, **panel,
    }  # fmt: skip
