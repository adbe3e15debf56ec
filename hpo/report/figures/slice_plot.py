"""Figure 7: the score of every trial against each hyperparameter."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from hpo.analysis.metric import Metric
from hpo.report.figures import plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.history import score_axis, trial_marker
from hpo.report.figures.style import Style, markup, rounded

PADDING = 0.05  # of a range, beyond either end


class SearchedRange(NamedTuple):
    """What a hyperparameter was searched over: the ends of its range, of all its ranges together."""

    low: float
    high: float
    log: bool


@dataclass(frozen=True, kw_only=True)
class Slices(Chart):
    """Scores by hyperparameter: a panel for each hyperparameter.

    Attributes:
        metric: the score.
        hyperparameters: name in words → what its axis shows; in the order of the panels.
        frame: columns configuration, trial (from 1), hyperparameter, value, score.
    """

    number: int = 7
    slug: str = "slices"
    title: str = "Score by hyperparameter"
    frame: pd.DataFrame
    hyperparameters: dict[str, SearchedRange]
    metric: Metric

    @property
    def caption(self) -> str:
        lower = "" if self.metric.direction == "maximize" else " (lower is better)"
        return (
            f"The {self.metric.label} of every trial{lower} against each hyperparameter, while the others vary too. "
            "Trials without a score are left out."
        )

    def draw_plotly(self) -> dict[str, Any]:
        traces = [self._legend_trace(name, style) for name, style in self.styles.items()]
        panels = []
        for index, (hyperparameter, searched) in enumerate(self.hyperparameters.items()):
            rows = self.frame[self.frame["hyperparameter"] == hyperparameter]
            for name, style, trials in self.by_configuration(rows):
                traces.append(self._points_trace(index, hyperparameter, name, style, trials))
            x_axis = {"title": {"text": markup(hyperparameter)}, **_range_axis(searched)}
            y_axis = score_axis(self.metric, self.frame["score"]) | ({"matches": "y"} if index else {})
            panels.append((x_axis, y_axis))
        return plotly_layout.draw(traces, panels, list(self.styles), 240, columns=min(3, len(panels)))

    def _legend_trace(self, name: str, style: Style) -> dict[str, Any]:
        """A trace that draws only its key in the legend."""
        return plotly_layout.scatter(
            0, "markers", [None], [None], name=markup(name), legendgroup=name, hoverinfo="skip",
            marker={"color": style.colour, "symbol": style.marker[1], "size": 8},
        )  # fmt: skip

    def _points_trace(
        self, panel: int, hyperparameter: str, name: str, style: Style, rows: pd.DataFrame
    ) -> dict[str, Any]:
        return plotly_layout.scatter(
            panel, "markers", rounded(rows["value"]), rounded(rows["score"]), marker=trial_marker(style, len(rows)),
            customdata=rows["trial"].tolist(), legendgroup=name, showlegend=False,
            hovertemplate=(
                f"{markup(name)}, trial %{{customdata}}<br>{markup(hyperparameter)} %{{x:.3~g}}: "
                f"%{{y{plotly_layout.hover_format(self.metric.share)}}}<extra></extra>"
            ),
        )  # fmt: skip


def _range_axis(searched: SearchedRange) -> dict[str, Any]:
    low, high = searched.low, searched.high
    if searched.log:
        low, high = math.log10(low), math.log10(high)
    padding = PADDING * (high - low)
    scale = {"type": "log", "dtick": 1 if high - low > 1 else "D2"} if searched.log else {}
    return {**scale, "range": [round(low - padding, 6), round(high + padding, 6)]}
