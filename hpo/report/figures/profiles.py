"""Performance profiles: the share of studies in which a configuration is at most τ times as slow as the fastest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hpo.report.figures import matplotlib_layout, plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.style import markup, rounded

X_LABEL, Y_LABEL = "τ, in times the epochs of the fastest", "share of the studies"


@dataclass(frozen=True, kw_only=True)
class Profiles(Chart):
    """Performance profiles.

    Attributes:
        frame: columns configuration, ratio, share; steps to the right, ratios rising from 1.
    """

    number: int = 2
    slug: str = "performance-profiles"
    title: str = "Performance profiles"
    frame: pd.DataFrame

    @property
    def caption(self) -> str:
        return (
            "Performance profiles: the share of the studies in which a configuration reaches the target within τ times "
            "the epochs of the fastest one."
        )

    def draw_png(self, path: Path) -> None:
        figure = matplotlib_layout.new_figure(3.8)
        axes = figure.add_subplot()
        for name, style, rows in self.by_configuration(self.frame):
            axes.step(
                rows["ratio"], rows["share"], where="post", label=matplotlib_layout.label(name), color=style.colour,
                linestyle=style.dash[0], marker=style.marker[0], markersize=4, linewidth=2,
            )  # fmt: skip
        axes.set(xlabel=X_LABEL, ylabel=Y_LABEL, ylim=(-0.04, 1.04))
        matplotlib_layout.percent_ticks(axes.yaxis)
        matplotlib_layout.tidy(axes)
        matplotlib_layout.add_legend(figure)
        matplotlib_layout.save(figure, path)

    def draw_plotly(self) -> dict[str, Any]:
        traces = [
            plotly_layout.scatter(
                0, "lines+markers", rounded(rows["ratio"]), rounded(rows["share"]), name=markup(name),
                line={"color": style.colour, "dash": style.dash[1], "width": 2, "shape": "hv"},
                marker={"color": style.colour, "symbol": style.marker[1], "size": 6},
                hovertemplate=f"{markup(name)}: %{{y:.0%}} within τ = %{{x:.3g}}<extra></extra>",
            )
            for name, style, rows in self.by_configuration(self.frame)
        ]  # fmt: skip
        x_axis = {"title": {"text": X_LABEL}}
        y_axis = {"title": {"text": Y_LABEL}, "tickformat": ".0%", "range": [-0.04, 1.04]}
        return plotly_layout.draw(traces, [(x_axis, y_axis)], list(self.styles))
