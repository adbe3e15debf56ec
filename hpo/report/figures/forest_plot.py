"""Figure 4: the mean difference of every rival from the baseline, with its interval, 0 and the margin."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd

from hpo.analysis.metric import Metric
from hpo.analysis.paired_tests import Interval
from hpo.report import formatting
from hpo.report.figures import matplotlib_layout, plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.style import Style, markup, rounded, shorten
from hpo.report.wording import better

LINE = 18  # letters of a row's label on a page, so that a phone has room for the plot


@dataclass(frozen=True, kw_only=True)
class Forest(Chart):
    """Differences of configurations from the baseline.

    Attributes:
        metric: what is compared. margin: δ, in its units.
        several_baselines: whether rows named "A against B" compare with another configuration than the baseline.
        frame: columns configuration, low, middle, high (in the metric's units), pairs, found (`Verdict.found`).
    """

    number: int = 4
    slug: str = "differences"
    title: str = "Differences from the baseline"
    frame: pd.DataFrame
    metric: Metric
    baseline: str
    margin: float
    several_baselines: bool = False

    @property
    def caption(self) -> str:
        separately = ", for each comparison on its own" if len(self.frame) > 1 else ""
        width = formatting.margin(self.margin, self.metric)
        corrected = ", which corrects for all comparisons," if len(self.frame) > 1 else ""
        elsewhere = ", or from the configuration that its row names," if self.several_baselines else ""
        return (
            f"Mean difference of {self.metric.label} from {shorten(self.baseline)}{elsewhere} with its 95% "
            f"interval{separately} ({better(self.metric.direction)}); the line is 0, the band the margin of ±{width}. "
            f"A mark is filled where the verdict{corrected} is better, worse or equivalent, and hollow elsewhere."
        )

    @property
    def scale(self) -> int:
        """The factor on differences on the axis: 100 turns fractions into percentage points."""
        return 100 if self.metric.share else 1

    @property
    def axis_title(self) -> str:
        """The title of a picture's axis."""
        return f"Δ of {self.metric.label}{' in points' * self.metric.share}"

    @property
    def short_axis_title(self) -> str:
        """The title of a page's axis, where the caption names the metric."""
        return f"Δ{' in points' * self.metric.share}"

    def draw_png(self, path: Path) -> None:
        rows = list(self.by_configuration(self.frame))
        figure = matplotlib_layout.new_figure(1.3 + 0.42 * len(rows))
        axes = figure.add_subplot()
        self.draw_rules(axes)
        for height, (_, style, row) in enumerate(rows):
            self.draw_interval(axes, height, style, row)
            axes.annotate(
                self._text(row), (1.02, height), xycoords=("axes fraction", "data"), va="center", annotation_clip=False
            )
        axes.set_xlabel(matplotlib_layout.label(self.axis_title, 60))
        matplotlib_layout.name_rows(axes, [in_lines(name, matplotlib_layout.label, "\n") for name, _, _ in rows])
        matplotlib_layout.save(figure, path)

    def draw_rules(self, axes: Any) -> None:
        """Draws 0 as a line and the margin as a band around it."""
        axes.axvspan(-self.scale * self.margin, self.scale * self.margin, color="#000000", alpha=0.08, linewidth=0)
        axes.axvline(0, color="#000000", linewidth=1.2)

    def draw_interval(self, axes: Any, height: int, style: Style, row: pd.DataFrame) -> None:
        """Draws a difference, one row of the frame: its interval as a line and its mean as a mark."""
        low, middle, high = self._scaled(row)
        axes.plot([low, high], [height, height], color=style.colour, linewidth=2.5, solid_capstyle="butt")
        face = style.colour if row["found"].iloc[0] else "white"
        axes.plot([middle], [height], style.marker[0], color=style.colour, markerfacecolor=face, markersize=8)

    def draw_plotly(self) -> dict[str, Any]:
        rows = list(self.by_configuration(self.frame))
        traces = [self.interval_trace(0, name, height, style, row) for height, (name, style, row) in enumerate(rows)]
        axes = [({"title": {"text": self.short_axis_title}}, row_axis([name for name, _, _ in rows]))]
        return plotly_layout.draw(traces, axes, panel_height=60 + 40 * len(rows), shapes=self.rule_shapes("paper"))

    def interval_trace(self, panel: int, name: str, height: int, style: Style, row: pd.DataFrame) -> dict[str, Any]:
        """A difference, one row of the frame, for plotly."""
        low, middle, high = rounded(self._scaled(row))
        unit = " points" if self.metric.share else ""
        known = math.isfinite(low)  # equal differences have no interval
        ends = {"array": [high - middle], "arrayminus": [middle - low]} if known else {"array": [0.0]}
        return plotly_layout.scatter(
            panel, "markers", [middle], [height], name=markup(name),
            marker=_mark(style, bool(row["found"].iloc[0])),
            error_x={
                "type": "data", "symmetric": False, **ends, **({} if known else {"visible": False}),
                "color": style.colour, "thickness": 2.5, "width": 5,
            },
            hovertemplate=(
                f"{markup(name)}: {self._text(row)}{unit}<br>{int(row['pairs'].iloc[0])} pairs<extra></extra>"
            ),
        )  # fmt: skip

    def rule_shapes(self, yref: str, xref: str = "x") -> list[dict[str, Any]]:
        """0 as a line and the margin as a band around it, for plotly; over the whole height of `yref`."""
        position = {"xref": xref, "yref": yref, "y0": 0, "y1": 1, "layer": "below"}
        end = self.scale * self.margin
        band = {"type": "rect", "x0": -end, "x1": end, "fillcolor": "rgba(128,128,128,0.18)", "line": {"width": 0}}
        zero = {"type": "line", "x0": 0, "x1": 0, "line": {"color": plotly_layout.RULE, "width": 1.5}}
        return [{**band, **position}, {**zero, **position}]

    def _scaled(self, row: pd.DataFrame) -> list[float]:
        return [self.scale * float(row[column].iloc[0]) for column in ("low", "middle", "high")]

    def _text(self, row: pd.DataFrame) -> str:
        low, middle, high = (float(row[column].iloc[0]) for column in ("low", "middle", "high"))
        return formatting.with_interval(middle, Interval(low, high), self.metric)


def in_lines(name: str, shown: Callable[[str], str], line_break: str) -> str:
    """The label of a row: that of a comparison "A against B" takes two lines, so that both names can be read."""
    return f"{line_break}against ".join(shown(part) for part in name.split(" against "))


def _mark(style: Style, found: bool) -> dict[str, Any]:
    """A filled mark for a difference that was found, a hollow one for another, for plotly."""
    hollow = {"symbol": f"{style.marker[1]}-open", "line": {"width": 2}}
    return {"color": style.colour, "symbol": style.marker[1], "size": 11} | ({} if found else hollow)


def row_axis(names: list[str]) -> dict[str, Any]:
    """The y axis of a forest plot, for plotly: a row for each name, from the top."""
    ticks = {"tickvals": list(range(len(names))), "ticktext": [in_lines(name, _wrapped, "<br>") for name in names]}
    return {**ticks, "range": [len(names) - 0.4, -0.6], "showgrid": False}


def _wrapped(name: str) -> str:
    """A name in at most two lines, short enough for a phone."""
    return "<br>".join(markup(line) for line in wrap(shorten(name, 2 * LINE), LINE, max_lines=2, placeholder="…"))
