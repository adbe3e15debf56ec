"""Figures 1 and 2: training loss, and the validation metric that verdicts are about, by epoch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hpo.analysis.descriptors import SMALLEST_LOSS
from hpo.analysis.metric import Metric
from hpo.report.figures import matplotlib_layout, plotly_layout
from hpo.report.figures.style import Style, markup, rounded, translucent

if TYPE_CHECKING:
    import pandas as pd
FEW_EPOCHS = 3  # up to here points are marked, since a line of one point is invisible


class Curves(NamedTuple):
    """Curves by epoch, ready to draw.

    Attributes:
        number, slug, title, y_label, caption: of the figure; the PNG is `figures/{number}-{slug}.png`.
        log: whether the y axis is logarithmic. percent: whether y is a fraction shown in percent.
        frame: columns configuration, epoch, low, middle, high, seeds; sorted.
        styles: configuration → style, in the order of the legend.
    """

    number: int
    slug: str
    title: str
    y_label: str
    caption: str
    log: bool
    percent: bool
    frame: "pd.DataFrame"
    styles: dict[str, Style]


def training_loss(curves: "pd.DataFrame", styles: dict[str, Style]) -> Curves:
    """Figure 1: training loss by epoch on a log axis, from columns configuration, seed, epoch, value."""
    caption = (
        "Training loss by epoch, mean of its minibatches without penalties: geometric mean over the reruns' seeds, "
        "band of ± one SD of its logarithm."
    )
    band = band_over_seeds(curves, log=True)
    return Curves(1, "training-loss", "Training loss", "training loss (log)", caption, True, False, band, styles)


def validation_metric(curves: "pd.DataFrame", styles: dict[str, Style], metric: Metric) -> Curves:
    """Figure 2: a validation metric by epoch, from columns configuration, seed, epoch, value."""
    title = metric.label.capitalize()
    lower = " (lower is better)" if metric.direction == "minimize" else ""
    caption = f"{title} by epoch{lower}: mean over the reruns' seeds, band of ± one SD."
    band = share_over_seeds(curves) if metric.share else band_over_seeds(curves, log=False)
    slug = metric.label.replace(" ", "-")
    return Curves(2, slug, title, metric.label, caption, False, metric.share, band, styles)


def validation_accuracy(curves: "pd.DataFrame", styles: dict[str, Style]) -> Curves:
    """Figure 2 of a study whose verdicts compare accuracy."""
    return validation_metric(curves, styles, Metric("validation_accuracy", "maximize", share=True))


def band_over_seeds(curves: "pd.DataFrame", log: bool) -> "pd.DataFrame":
    """Mean ± SD over seeds by configuration and epoch; in log space it cannot go below 0."""
    values = np.log(curves["value"].clip(lower=SMALLEST_LOSS)) if log else curves["value"]
    groups = curves.assign(value=values).groupby(["configuration", "epoch"])["value"]
    band = groups.agg(["mean", "std", "count"]).reset_index()
    spread = band["std"].fillna(0.0)
    for column, edge in (
        ("low", band["mean"] - spread),
        ("middle", band["mean"]),
        ("high", band["mean"] + spread),
    ):
        band[column] = np.exp(edge) if log else edge
    band = band.rename(columns={"count": "seeds"})
    return band[["configuration", "epoch", "low", "middle", "high", "seeds"]]


def share_over_seeds(curves: "pd.DataFrame") -> "pd.DataFrame":
    """`band_over_seeds` of fractions, kept between none and all."""
    band = band_over_seeds(curves, log=False)
    band["low"], band["high"] = band["low"].clip(lower=0), band["high"].clip(upper=1)
    return band


def draw_png(info: Curves, path: Path) -> None:
    """Draws with matplotlib; the same info gives the same bytes."""
    from matplotlib.ticker import MaxNLocator

    figure = matplotlib_layout.new_figure(4.2)
    axes = figure.add_subplot()
    lines = []
    last = int(info.frame["epoch"].max())
    for name, style, rows in by_configuration(info.frame, info.styles):
        x, (low, middle, high) = rows["epoch"], (rows[column] for column in ("low", "middle", "high"))
        axes.fill_between(x, low, high, color=style.colour, alpha=0.15, linewidth=0)
        marker = "o" if last <= FEW_EPOCHS else ""
        (line,) = axes.plot(x, middle, color=style.colour, linestyle=style.dash[0], linewidth=1.8, marker=marker)
        lines.append((line, matplotlib_layout.label(name)))
    axes.set(xlabel="epoch", ylabel=info.y_label, xlim=(1, last) if last > FEW_EPOCHS else None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if info.log:
        _log_ticks(axes, info)
    if info.percent:
        matplotlib_layout.percent_ticks(axes.yaxis)
    matplotlib_layout.tidy(axes)
    handles, labels = zip(*lines, strict=True)
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    matplotlib_layout.save(figure, path)


def draw_plotly(info: Curves) -> dict[str, Any]:
    """Draws for plotly: the figure as the JSON-able dict that `Plotly.newPlot` takes."""
    axes = [(epoch_axis(info.frame), _y_axis(info))]
    data = band_traces(info.frame, info.styles, info.percent, plotly_layout.on_panel(0), keyed=True)
    return plotly_layout.draw(data, axes, list(info.styles), hovermode="x unified", hoverdistance=-1)


def band_traces(
    frame: "pd.DataFrame", styles: dict[str, Style], percent: bool, panel: dict[str, Any], keyed: bool
) -> list[dict[str, Any]]:
    """A band and a line a configuration, for plotly; `keyed` lines stand in the legend."""
    traces: list[dict[str, Any]] = []
    for name, style, rows in by_configuration(frame, styles):
        x = rows["epoch"].tolist()
        low, middle, high = (rounded(rows[key]) for key in ("low", "middle", "high"))
        traces.append(
            {
                "type": "scatter", "x": x + x[::-1], "y": high + low[::-1], "fill": "toself",
                "fillcolor": translucent(style.colour), "line": {"width": 0}, "mode": "lines", "hoverinfo": "skip",
                "showlegend": False, "legendgroup": name, **panel,
            }
        )  # fmt: skip
        y = "%{y:.2%}" if percent else "%{y:.4g}"
        traces.append(
            {
                "type": "scatter", "x": x, "y": middle, "name": markup(name), "legendgroup": name,
                "showlegend": keyed, "mode": "lines+markers" if len(x) <= FEW_EPOCHS else "lines",
                "line": {"color": style.colour, "dash": style.dash[1], "width": 2},
                "customdata": rows["seeds"].tolist(),
                "hovertemplate": f"{markup(name)}: {y} (%{{customdata}} seeds)<extra></extra>", **panel,
            }
        )  # fmt: skip
    return traces


def epoch_axis(frame: "pd.DataFrame") -> dict[str, Any]:
    """The x axis of curves by epoch, for plotly; whole epochs alone are marked."""
    return {"title": {"text": "epoch"}, **({"dtick": 1} if frame["epoch"].max() <= 10 else {})}


def by_configuration(frame: "pd.DataFrame", styles: dict[str, Style]) -> list[tuple[str, Style, "pd.DataFrame"]]:
    """(configuration, style, its rows) in the legend's order, configurations without a row left out."""
    groups = {str(name): rows for name, rows in frame.groupby("configuration")}
    return [(name, style, groups[name]) for name, style in styles.items() if name in groups]


def _y_axis(info: Curves) -> dict[str, Any]:
    title = {"title": {"text": info.y_label}}
    if info.log:
        return {**title, **plotly_layout.log_ticks(info.frame["low"].min(), info.frame["high"].max())}
    return {**title, "tickformat": ".0%"} if info.percent else title


def _log_ticks(axes: Any, info: Curves) -> None:
    """Plain numbers on a log axis, at least three of them however short it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    decades = float(np.log10(info.frame["high"].max() / info.frame["low"].min()))
    steps = (1,) if decades > 5 else (1, 2, 5) if decades > 1.2 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=steps) if decades > 0.5 else MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
