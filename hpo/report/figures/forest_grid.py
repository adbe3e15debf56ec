"""Differences of several studies side by side: a panel for each study, and the same rows where studies are alike."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hpo.report.figures import matplotlib_layout, plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.forest_plot import Forest, in_lines, row_axis
from hpo.report.figures.style import BASELINE_COLOUR, markup
from hpo.report.wording import better

PNG_COLUMNS, PAGE_COLUMNS = 3, 2  # at most; on a page every panel names its rows
COMMON_SHARE = 0.5  # of a study's configurations, and of its block's rows
MAX_WIDTH_RATIO = 10  # above this ratio of the panels' widths, every panel has its own axis


class Block(NamedTuple):
    """Studies that have at least half of their configurations in common; the rows of all of their panels.

    In the order given, a study joins the first block with which it shares half of its configurations and half of the
    block's rows; if there is none, it begins a new block. One block for all studies would have mostly empty rows.
    """

    studies: list[str]
    rows: list[str]

    @property
    def columns(self) -> int:
        """Panels side by side in a picture of this block: as many in every line as possible."""
        return math.ceil(len(self.studies) / math.ceil(len(self.studies) / PNG_COLUMNS))

    def split(self, columns: int) -> list["Block"]:
        """Blocks of at most so many studies, one for each line of panels."""
        starts = range(0, len(self.studies), columns)
        return [self._replace(studies=self.studies[start : start + columns]) for start in starts]


@dataclass(frozen=True, kw_only=True)
class ForestGrid(Chart):
    """The differences of several studies.

    Attributes:
        panels: study → its differences. baselines: study → the configuration that they are from, drawn at 0.
    """

    number: int = 1
    slug: str = "differences"
    title: str = "Differences by study"
    panels: dict[str, Forest]
    baselines: dict[str, str]

    @property
    def caption(self) -> str:
        directions = {panel.metric.direction for panel in self.panels.values()}
        direction = f" ({better(directions.pop())})" if len(directions) == 1 else ""
        return (
            f"Mean difference from the study's baseline (grey circle), with its 95% interval{direction}; a panel for "
            "each study, the band is its margin. Each interval is that of one comparison, and one that excludes 0 is "
            "not yet a verdict, which takes all comparisons of the study into account. A mark is filled where the "
            "verdict is better, worse or equivalent, and hollow elsewhere. A row without a mark: the study does not "
            "have that configuration, or has fewer than two pairs of reruns of it."
        )

    @property
    def one_axis(self) -> bool:
        """Whether the panels can share an axis: they show the same metric, and none would flatten another."""
        frames = [panel.frame for panel in self.panels.values()]
        widths = [max(frame["high"].max(), 0) - min(frame["low"].min(), 0) for frame in frames]
        titles = {panel.axis_title for panel in self.panels.values()}
        return len(titles) == 1 and max(widths) <= MAX_WIDTH_RATIO * min(widths)

    @property
    def blocks(self) -> list[Block]:
        """The studies in groups that have the same rows; see `Block`."""
        groups: list[tuple[list[str], set[str]]] = []
        for study, panel in self.panels.items():
            names = {*panel.frame["configuration"], self.baselines[study]}
            for studies, rows in groups:
                if len(names & rows) >= COMMON_SHARE * max(len(names), len(rows)):
                    studies.append(study)
                    rows |= names
                    break
            else:
                groups.append(([study], names))
        return [Block(studies, [name for name in self.styles if name in rows]) for studies, rows in groups]

    def draw_png(self, path: Path) -> None:
        columns = max(block.columns for block in self.blocks)
        lines = [line for block in self.blocks for line in block.split(columns)]
        heights = [1.0 + 0.3 * len(line.rows) for line in lines]
        figure = matplotlib_layout.new_figure(sum(heights))
        grid = figure.subplots(
            len(lines), columns, sharey="row", sharex=self.one_axis, squeeze=False, height_ratios=heights
        )
        for line, cells in zip(lines, grid, strict=True):
            for axes, study in zip(cells, line.studies, strict=False):
                self._draw_panel(axes, study, line.rows)
            for axes in cells[len(line.studies) :]:
                axes.set_visible(False)
        matplotlib_layout.save(figure, path)

    def _draw_panel(self, axes: Any, study: str, rows: list[str]) -> None:
        panel = self.panels[study]
        panel.draw_rules(axes)
        baseline = rows.index(self.baselines[study])
        axes.plot([0], [baseline], "o", markerfacecolor="white", markeredgecolor=BASELINE_COLOUR, markersize=8)
        for name, style, row in self.by_configuration(panel.frame):
            panel.draw_interval(axes, rows.index(name), style, row)
        axes.set_title(matplotlib_layout.label(study), fontsize="medium")
        axes.set_xlabel(matplotlib_layout.label(panel.axis_title, 60))
        axes.tick_params(axis="x", labelbottom=True)
        shown = partial(matplotlib_layout.label, longest=20)
        matplotlib_layout.name_rows(axes, [in_lines(name, shown, "\n") for name in rows])

    def draw_plotly(self) -> dict[str, Any]:
        traces, axes, shapes = [], [], []
        panels = [(study, block.rows) for block in self.blocks for study in block.studies]
        for index, (study, rows) in enumerate(panels):
            panel, suffix = self.panels[study], plotly_layout.axis_suffix(index)
            for name, style, row in self.by_configuration(panel.frame):
                traces.append(panel.interval_trace(index, name, rows.index(name), style, row))
            traces.append(_baseline_trace(index, self.baselines[study], rows.index(self.baselines[study])))
            title = f"{markup(study)}: {panel.short_axis_title}"
            matches = {"matches": "x"} if index and self.one_axis else {}
            axes.append(({"title": {"text": title}, **matches}, row_axis(rows)))
            shapes += panel.rule_shapes(f"y{suffix} domain", f"x{suffix}")
        height = 40 + 30 * max(len(rows) for _, rows in panels)
        return plotly_layout.draw(traces, axes, panel_height=height, columns=PAGE_COLUMNS, shapes=shapes)


def _baseline_trace(panel: int, name: str, height: int) -> dict[str, Any]:
    return plotly_layout.scatter(
        panel, "markers", [0], [height], name=markup(name),
        marker={"color": BASELINE_COLOUR, "symbol": "circle-open", "size": 11, "line": {"width": 2}},
        hovertemplate=f"{markup(name)}: the baseline<extra></extra>",
    )  # fmt: skip
