"""Figures 1 and 2: training loss, and the validation metric that verdicts are about, by epoch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpo.analysis.descriptors import SMALLEST_LOSS
from hpo.analysis.metric import Metric
from hpo.report.figures import matplotlib_layout, plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.style import markup, rounded, translucent

FEW_EPOCHS = 3  # up to here points are marked, since a line of one point is invisible


@dataclass(frozen=True, kw_only=True)
class Curves(Chart):
    """Curves by epoch.

    Attributes:
        frame: as `band_over_seeds` returns it. metric: what it holds. log: whether the y axis is logarithmic.
    """

    frame: pd.DataFrame
    metric: Metric
    log: bool = False

    @property
    def caption(self) -> str:
        if self.log:
            return (
                f"{self.title} by epoch (mean over minibatches, without penalties): geometric mean over the rerun "
                "seeds; the band is ± one SD of the logarithm."
            )
        lower = " (lower is better)" if self.metric.direction == "minimize" else ""
        return f"{self.title} by epoch{lower}: mean over the rerun seeds; the band is ± one SD."

    @property
    def y_label(self) -> str:
        return f"{self.metric.label} (log)" if self.log else self.metric.label

    def draw_png(self, path: Path) -> None:
        figure = matplotlib_layout.new_figure(4.2)
        axes = figure.add_subplot()
        draw_bands(self, self.frame, axes, self.y_label)
        if self.log:
            matplotlib_layout.log_ticks(axes, self.frame["low"].min(), self.frame["high"].max())
        if self.metric.share:
            matplotlib_layout.percent_ticks(axes.yaxis)
        matplotlib_layout.add_legend(figure)
        matplotlib_layout.save(figure, path)

    def draw_plotly(self) -> dict[str, Any]:
        y_axis: dict[str, Any] = {"title": {"text": self.y_label}}
        if self.log:
            y_axis |= plotly_layout.log_ticks(self.frame["low"].min(), self.frame["high"].max())
        if self.metric.share:
            y_axis["tickformat"] = ".0%"
        traces = band_traces(self, self.frame, self.metric.share, 0)
        axes = [(epoch_axis(self.frame), y_axis)]
        return plotly_layout.draw(traces, axes, list(self.styles), hovermode="x unified", hoverdistance=-1)


def band_over_seeds(curves: pd.DataFrame, log: bool = False, share: bool = False) -> pd.DataFrame:
    """Mean ± SD over seeds: columns configuration, epoch, low, middle, high, seeds; sorted.

    Args:
        log: computes them of the logarithm, so that the band stays above 0. share: keeps the band between 0 and 1.
    """
    values = np.log(curves["value"].clip(lower=SMALLEST_LOSS)) if log else curves["value"]
    groups = curves.assign(value=values).groupby(["configuration", "epoch"])["value"]
    band = groups.agg(middle="mean", sd="std", seeds="count").reset_index()
    sd = band.pop("sd").fillna(0.0)
    band = band.assign(low=band["middle"] - sd, high=band["middle"] + sd)
    ends = ["low", "middle", "high"]
    if log:
        band[ends] = np.exp(band[ends])
    if share:
        band[ends] = band[ends].clip(0, 1)
    return band


def draw_bands(chart: Chart, frame: pd.DataFrame, axes: Any, y_label: str) -> None:
    """A band and a line for each configuration, by matplotlib."""
    from matplotlib.ticker import MaxNLocator

    last = int(frame["epoch"].max())
    for name, style, rows in chart.by_configuration(frame):
        axes.fill_between(rows["epoch"], rows["low"], rows["high"], color=style.colour, alpha=0.15, linewidth=0)
        axes.plot(
            rows["epoch"], rows["middle"], color=style.colour, linestyle=style.dash[0], linewidth=1.8,
            marker="o" if last <= FEW_EPOCHS else "", label=matplotlib_layout.label(name),
        )  # fmt: skip
    axes.set(xlabel="epoch", ylabel=y_label, xlim=(1, last) if last > FEW_EPOCHS else None)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    matplotlib_layout.tidy(axes)


def band_traces(chart: Chart, frame: pd.DataFrame, share: bool, panel: int) -> list[dict[str, Any]]:
    """A band and a line for each configuration, for plotly; the lines of the first panel stand in the legend."""
    traces = []
    for name, style, rows in chart.by_configuration(frame):
        epochs = rows["epoch"].tolist()
        low, middle, high = (rounded(rows[column]) for column in ("low", "middle", "high"))
        band = plotly_layout.scatter(
            panel, "lines", epochs + epochs[::-1], high + low[::-1], fill="toself", line={"width": 0},
            fillcolor=translucent(style.colour), hoverinfo="skip", showlegend=False, legendgroup=name,
        )  # fmt: skip
        value = f"%{{y{plotly_layout.hover_format(share)}}}"
        line = plotly_layout.scatter(
            panel, "lines+markers" if len(epochs) <= FEW_EPOCHS else "lines", epochs, middle,
            name=markup(name), legendgroup=name, showlegend=panel == 0,
            line={"color": style.colour, "dash": style.dash[1], "width": 2}, customdata=rows["seeds"].tolist(),
            hovertemplate=f"{markup(name)}: {value} (%{{customdata}} seeds)<extra></extra>",
        )  # fmt: skip
        traces += [band, line]
    return traces


def epoch_axis(frame: pd.DataFrame) -> dict[str, Any]:
    """The x axis of curves by epoch, for plotly; only whole epochs are marked."""
    return {"title": {"text": "epoch"}, **({"dtick": 1} if frame["epoch"].max() <= 10 else {})}
