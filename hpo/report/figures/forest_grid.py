"""Differences of several studies side by side: a panel a study, a row a configuration, where studies are alike."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hpo.report.figures import forest_plot, matplotlib_layout, plotly_layout
from hpo.report.figures.curves import by_configuration
from hpo.report.figures.forest_plot import Forest
from hpo.report.figures.style import BASELINE_COLOUR, Style, markup

MOST_COLUMNS, PAGE_COLUMNS = 3, 2  # of a picture, and of a page, where every panel names its rows
ALIKE = 0.5  # the share of a study's and of its block's configurations that both have
FLATTENED = 10  # a panel so many times as wide as another has an axis of its own, and so has every one


class Forests(NamedTuple):
    """The differences of several studies, ready to draw.

    Attributes:
        panels: study → its differences. baselines: study → the configuration that they are from, drawn at 0.
        styles: configuration → style, in the order of the rows, from the top.
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
    def blocks(self) -> list["Block"]:
        """The studies in groups of which each has the same rows; see `Block`."""
        found: list[tuple[list[str], set[str]]] = []
        for study, panel in self.panels.items():
            own = {*panel.frame["configuration"], self.baselines[study]}
            for studies, names in found:
                if len(own & names) >= ALIKE * max(len(own), len(names)):
                    studies.append(study)
                    names |= own
                    break
            else:
                found.append(([study], own))
        return [Block(studies, [name for name in self.styles if name in names]) for studies, names in found]


class Block(NamedTuple):
    """Studies that have a good part of their configurations in common, and all of these as rows of every panel.

    In the order given, a study joins the first block that has half of its rows, and half of whose rows it has; else it
    begins another, or most rows would be empty.
    """

    studies: list[str]
    rows: list[str]

    @property
    def columns(self) -> int:
        """Panels side by side, where the block is drawn alone: as many in every line as it can be."""
        return math.ceil(len(self.studies) / math.ceil(len(self.studies) / MOST_COLUMNS))

    def split(self, columns: int) -> list["Block"]:
        """Blocks of at most so many studies, one for each line of panels."""
        starts = range(0, len(self.studies), columns)
        return [self._replace(studies=self.studies[start : start + columns]) for start in starts]


def forests(panels: Mapping[str, Forest], baselines: Mapping[str, str], styles: Mapping[str, Style]) -> Forests:
    """The figure of what the studies found; configurations that no panel shows get no row."""
    shown = {name for panel in panels.values() for name in panel.frame["configuration"]} | set(baselines.values())
    directions = {panel.metric.direction for panel in panels.values()}
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
    columns = max(block.columns for block in info.blocks)
    lines = [line for block in info.blocks for line in block.split(columns)]
    heights = [1.0 + 0.3 * len(line.rows) for line in lines]
    figure = matplotlib_layout.new_figure(sum(heights))
    grid = figure.subplots(
        len(lines), columns, sharey="row", sharex=info.one_axis, squeeze=False, height_ratios=heights
    )
    for line, cells in zip(lines, grid, strict=True):
        for axes, study in zip(cells, line.studies, strict=False):
            _draw_panel(axes, info, study, line.rows)
        for axes in cells[len(line.studies) :]:
            axes.set_visible(False)
    matplotlib_layout.save(figure, path)


def _draw_panel(axes: Any, info: Forests, study: str, rows: Sequence[str]) -> None:
    panel, places = info.panels[study], _places(rows)
    forest_plot.draw_rules(axes, panel.margin)
    baseline = places[info.baselines[study]]
    axes.plot([0], [baseline], "o", markerfacecolor="white", markeredgecolor=BASELINE_COLOUR, markersize=8)
    for name, style, found in by_configuration(panel.frame, info.styles):
        forest_plot.draw_interval(axes, places[name], style, found)
    axes.set_yticks(list(places.values()), [matplotlib_layout.label(name, 20) for name in places])
    axes.set(ylim=(len(places) - 0.4, -0.6))
    axes.set_title(matplotlib_layout.label(study), fontsize="medium")
    axes.set_xlabel(matplotlib_layout.label(panel.x_label, 60))
    axes.tick_params(axis="x", labelbottom=True)
    axes.tick_params(axis="y", length=0)
    matplotlib_layout.tidy(axes, grid="x")
    axes.spines["left"].set_visible(False)


def draw_plotly(info: Forests) -> dict[str, Any]:
    """Draws for plotly: hovering a point tells the difference, its interval and the number of pairs."""
    data, axes, shapes = [], [], []
    panels = [(study, block.rows) for block in info.blocks for study in block.studies]
    for index, (study, rows) in enumerate(panels):
        panel, places = info.panels[study], _places(rows)
        own, end = plotly_layout.on_panel(index), plotly_layout.axis_end(index)
        for name, style, found in by_configuration(panel.frame, info.styles):
            data.append({**forest_plot.interval_trace(panel, name, places[name], style, found), **own})
        data.append(_baseline(places[info.baselines[study]], info.baselines[study], own))
        title = f"{markup(study)}: {forest_plot.PAGE_LABELS[panel.metric.share]}"
        matching = {"matches": "x"} if index and info.one_axis else {}
        axes.append(({"title": {"text": title}, **matching}, _ticks(places)))
        for shape in forest_plot.rules(panel.margin):
            shapes.append({**shape, "xref": f"x{end}", "yref": f"y{end} domain"})
    height = 40 + 26 * max(len(rows) for _, rows in panels)
    return plotly_layout.draw(data, axes, [], height, columns=PAGE_COLUMNS, shapes=shapes, hovermode="closest")


def _baseline(place: int, name: str, panel: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": [0], "y": [place], "name": markup(name),
        "marker": {"color": BASELINE_COLOUR, "symbol": "circle-open", "size": 11, "line": {"width": 2}},
        "hovertemplate": f"{markup(name)}: the baseline<extra></extra>", **panel,
    }  # fmt: skip


def _ticks(places: Mapping[str, int]) -> dict[str, Any]:
    names = [markup(name, 18) for name in places]
    return {"tickvals": list(places.values()), "ticktext": names, "range": [len(names) - 0.4, -0.6], "showgrid": False}


def _places(rows: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(rows)}
