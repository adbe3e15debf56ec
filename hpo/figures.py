"""Figures: an info tuple is computed first and drawn second, with matplotlib (PNG) and plotly (HTML)."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

BASELINE_COLOUR = "#767676"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito, without yellow
DASHES = (("solid", "solid"), ("dashed", "dash"), ("dotted", "dot"))  # matplotlib's and plotly's names
SMALLEST_LOSS = 1e-12  # what a loss of exactly 0 is drawn as on a log axis
LONGEST_LABEL = 28
FEW_EPOCHS = 3  # up to here points are marked, since a line of one point is invisible


class Style(NamedTuple):
    """How one configuration is drawn everywhere: its colour and dash (matplotlib's name, plotly's name)."""

    colour: str
    dash: tuple[str, str]


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


def assign_styles(configurations: Sequence[str], baseline: str) -> dict[str, Style]:
    """Gives every configuration its style, in the study's order; the baseline is grey.

    Six colours that colour-blind readers can tell apart; the dash changes when they start again.
    """
    rivals = [name for name in configurations if name != baseline]
    styles = {
        name: Style(COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)])
        for index, name in enumerate(rivals)
    }
    return {name: styles.get(name, Style(BASELINE_COLOUR, DASHES[0])) for name in configurations}


def training_loss(curves: "pd.DataFrame", styles: dict[str, Style]) -> Curves:
    """Figure 1: training loss by epoch on a log axis, from columns configuration, seed, epoch, value."""
    caption = (
        "Training loss by epoch, mean of its minibatches without penalties: geometric mean over the reruns' seeds, "
        "band of ± one SD of its logarithm."
    )
    band = _band(curves, log=True)
    return Curves(1, "training-loss", "Training loss", "training loss (log)", caption, True, False, band, styles)


def validation_accuracy(curves: "pd.DataFrame", styles: dict[str, Style]) -> Curves:
    """Figure 2: validation accuracy by epoch, from columns configuration, seed, epoch, value."""
    caption = "Validation accuracy by epoch: mean over the reruns' seeds, band of ± one SD."
    band = _band(curves, log=False)
    band["low"], band["high"] = band["low"].clip(lower=0), band["high"].clip(upper=1)
    title = "Validation accuracy"
    return Curves(2, "validation-accuracy", title, title.lower(), caption, False, True, band, styles)


def _band(curves: "pd.DataFrame", log: bool) -> "pd.DataFrame":
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


def draw_png(info: Curves, path: Path) -> None:
    """Draws with matplotlib; the same info gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(8, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lines = []
    last = int(info.frame["epoch"].max())
    for name, style, rows in _parts(info):
        x, (low, middle, high) = rows["epoch"], (rows[column] for column in ("low", "middle", "high"))
        axes.fill_between(x, low, high, color=style.colour, alpha=0.15, linewidth=0)
        marker = "o" if last <= FEW_EPOCHS else ""
        (line,) = axes.plot(x, middle, color=style.colour, linestyle=style.dash[0], linewidth=1.8, marker=marker)
        lines.append((line, _matplotlib_label(name)))
    axes.set(xlabel="epoch", ylabel=info.y_label, xlim=(1, last) if last > FEW_EPOCHS else None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if info.log:
        _log_ticks(axes, info)
    if info.percent:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    axes.grid(color="#000000", alpha=0.12, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = zip(*lines, strict=True)
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script the font lacks
        figure.savefig(path, metadata={"Software": None})


def draw_plotly(info: Curves) -> dict[str, Any]:
    """Draws with plotly: the figure as the JSON-able dict that `Plotly.newPlot` takes."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": None})
    for name, style, rows in _parts(info):
        label, x = _shorten(name).replace("<", "&lt;"), rows["epoch"].tolist()
        low, middle, high = ([float(f"{value:.6g}") for value in rows[key]] for key in ("low", "middle", "high"))
        figure.add_scatter(
            x=x + x[::-1], y=high + low[::-1], fill="toself", fillcolor=_translucent(style.colour),
            line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False, legendgroup=name,
        )  # fmt: skip
        y = "%{y:.2%}" if info.percent else "%{y:.4g}"
        figure.add_scatter(
            x=x, y=middle, name=label, legendgroup=name, mode="lines+markers" if len(x) <= FEW_EPOCHS else "lines",
            line={"color": style.colour, "dash": style.dash[1], "width": 2},
            customdata=rows["seeds"].tolist(),
            hovertemplate=f"{label}: {y} (%{{customdata}} seeds)<extra></extra>",
        )  # fmt: skip
    grid = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False, "automargin": True}
    figure.update_layout(
        height=400 + 20 * len(info.styles),  # the legend below takes a line a name on a narrow screen
        margin={"l": 50, "r": 10, "t": 10, "b": 10},
        hovermode="x",
        legend={"orientation": "h", "y": -0.18, "yanchor": "top", "x": 0},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        xaxis={"title": {"text": "epoch"}, "dtick": 1 if info.frame["epoch"].max() <= 10 else None, **grid},
        yaxis={"title": {"text": info.y_label}, "tickformat": ".0%" if info.percent else "", **grid},
    )
    if info.log:
        figure.update_yaxes(type="log", dtick=None, tickformat="~g")
    return figure.to_plotly_json()


def _log_ticks(axes: Any, info: Curves) -> None:
    """Plain numbers on a log axis, at least three of them however short it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    decades = float(np.log10(info.frame["high"].max() / info.frame["low"].min()))
    steps = (1,) if decades > 5 else (1, 2, 5) if decades > 1.2 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=steps) if decades > 0.5 else MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _matplotlib_label(name: str) -> str:
    """A name that matplotlib shows as it is: no formula between dollars, not hidden by a leading underscore."""
    label = _shorten(name).replace("$", r"\$")
    return f" {label}" if label.startswith("_") else label


def _parts(info: Curves) -> list[tuple[str, Style, "pd.DataFrame"]]:
    """(configuration, style, its rows) in the legend's order, configurations without a row left out."""
    groups = {str(name): rows for name, rows in info.frame.groupby("configuration")}
    return [(name, style, groups[name]) for name, style in info.styles.items() if name in groups]


def _shorten(name: str) -> str:
    """A label that leaves the plot its room; the end of a long name stays, where variants differ."""
    name = " ".join(name.split())
    half = LONGEST_LABEL // 2
    return name if len(name) <= LONGEST_LABEL else f"{name[: half - 1]}…{name[-half:]}"


def _translucent(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
