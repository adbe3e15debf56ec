"""Differences of several studies side by side: a panel a study, the same configuration at the same height in each."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hpo.figures import differences, interactive, still
from hpo.figures.curves import by_configuration
from hpo.figures.differences import Forest
from hpo.figures.style import BASELINE_COLOUR, Style, markup

MOST_COLUMNS, PAGE_COLUMNS = 3, 2  # of a picture, and of a page, where every panel names its rows
FLATTENED = 10  # a panel so many times as wide as another has an axis of its own, and so has every one


class Forests(NamedTuple):
    """The differences of several studies, ready to draw.

    Attributes:
        panels: study → its differences. baselines: study → the configuration that they are from, drawn at 0.
        styles: configuration → style; every panel has them all as rows, in this order, from the top.
    """

    number: int
    slug: str
    title: str
    caption: str
    panels: dict[str, Forest]
    baselines: dict[str, str]
    styles: dict[str, Style]

    @property
    def one_axis(self) -> bool:
        """Whether the panels can share an axis: they measure the same, and none would flatten another."""
        frames = [panel.frame for panel in self.panels.values()]
        widths = [max(frame["high"].max(), 0) - min(frame["low"].min(), 0) for frame in frames]
        return len({panel.x_label for panel in self.panels.values()}) == 1 and max(widths) <= FLATTENED * min(widths)

    @property
    def columns(self) -> int:
        """Panels side by side: as many in every row as it can be."""
        return math.ceil(len(self.panels) / math.ceil(len(self.panels) / MOST_COLUMNS))


def forests(panels: Mapping[str, Forest], baselines: Mapping[str, str], styles: Mapping[str, Style]) -> Forests:
    """The figure of what the studies found; configurations that no panel shows get no row."""
    shown = {name for panel in panels.values() for name in panel.frame["configuration"]} | set(baselines.values())
    directions = {panel.measure.direction for panel in panels.values()}
    better = " (higher is better)" if directions == {"maximize"} else " (lower is better)" * (len(directions) == 1)
    caption = (
        "Mean difference from the study's baseline, the open circle, with its 95% interval, each of its comparison "
        f"alone{better}; a panel a study, the band its margin. An interval beside 0 is not yet a verdict, for which "
        "all comparisons of a study count. A row without a mark: the study does not have that configuration, or has no "
        "two pairs of reruns of it."
    )
    rows = {name: style for name, style in styles.items() if name in shown}
    return Forests(1, "differences", "Differences by study", caption, dict(panels), dict(baselines), rows)


def draw_png(info: Forests, path: Path) -> None:
    """Draws with matplotlib; the same info gives the same bytes."""
    lines = math.ceil(len(info.panels) / info.columns)
    figure = still.new_figure(lines * (1.0 + 0.3 * len(info.styles)))
    grid = figure.subplots(lines, info.columns, sharey=True, sharex=info.one_axis, squeeze=False)
    for axes in grid.flat[len(info.panels) :]:
        axes.set_visible(False)
    places = _places(info)
    for axes, (study, panel) in zip(grid.flat, info.panels.items(), strict=False):
        differences.draw_rules(axes, panel.margin)
        baseline = places[info.baselines[study]]
        axes.plot([0], [baseline], "o", markerfacecolor="white", markeredgecolor=BASELINE_COLOUR, markersize=8)
        for name, style, found in by_configuration(panel.frame, info.styles):
            differences.draw_interval(axes, places[name], style, found)
        axes.set_yticks(list(places.values()), [still.label(name, 20) for name in places])
        axes.set(ylim=(len(places) - 0.4, -0.6))
        axes.set_title(still.label(study), fontsize="medium")
        axes.set_xlabel(still.label(panel.x_label, 60))
        axes.tick_params(axis="x", labelbottom=True)
        axes.tick_params(axis="y", length=0)
        still.tidy(axes, grid="x")
        axes.spines["left"].set_visible(False)
    still.save(figure, path)


def draw_plotly(info: Forests) -> dict[str, Any]:
    """Draws for plotly: hovering a point tells the difference, its interval and the number of pairs."""
    data, axes, shapes = [], [], []
    places, names = _places(info), [markup(name, 18) for name in info.styles]
    ticks = {"tickvals": list(places.values()), "ticktext": names, "range": [len(names) - 0.4, -0.6], "showgrid": False}
    for index, (study, panel) in enumerate(info.panels.items()):
        own, end = interactive.on_panel(index), interactive.axis_end(index)
        for name, style, found in by_configuration(panel.frame, info.styles):
            data.append({**differences.interval_trace(panel, name, places[name], style, found), **own})
        data.append(_baseline(places[info.baselines[study]], info.baselines[study], own))
        title = f"{markup(study)}: {differences.PAGE_LABELS[panel.measure.share]}"
        matching = {"matches": "x"} if index and info.one_axis else {}
        axes.append(({"title": {"text": title}, **matching}, ticks))
        for shape in differences.rules(panel.margin):
            shapes.append({**shape, "xref": f"x{end}", "yref": f"y{end} domain"})
    height = 40 + 26 * len(names)
    return interactive.draw(data, axes, [], height, columns=PAGE_COLUMNS, shapes=shapes, hovermode="closest")


def _baseline(place: int, name: str, panel: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": [0], "y": [place], "name": markup(name),
        "marker": {"color": BASELINE_COLOUR, "symbol": "circle-open", "size": 11, "line": {"width": 2}},
        "hovertemplate": f"{markup(name)}: the baseline<extra></extra>", **panel,
    }  # fmt: skip


def _places(info: Forests) -> dict[str, int]:
    return {name: place for place, name in enumerate(info.styles)}
