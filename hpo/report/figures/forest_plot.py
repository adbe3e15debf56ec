"""Figure 4: the mean difference of every rival from the baseline, with its interval, 0 and the margin."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hpo.analysis.metric import Metric
from hpo.report.figures import axis, matplotlib_layout, plotly_layout
from hpo.report.figures.curves import by_configuration
from hpo.report.figures.style import Style, markup, rounded, shorten

if TYPE_CHECKING:
    import pandas as pd

PAGE_LABELS = {True: "Δ in points", False: "Δ"}  # of a page's axis, by whether the metric is a share


class Forest(NamedTuple):
    """Differences, ready to draw.

    Attributes:
        metric: what is compared. x_label: what the axis shows. margin: δ, in the units of the frame.
        frame: columns configuration, low, middle, high, pairs; differences of fractions are in percentage points.
        styles: configuration → style; the rows are drawn in this order, from the top.
    """

    number: int
    slug: str
    title: str
    x_label: str
    caption: str
    metric: Metric
    margin: float
    frame: "pd.DataFrame"
    styles: dict[str, Style]


def forest(
    differences: "pd.DataFrame", styles: dict[str, Style], metric: Metric, baseline: str, margin: float
) -> Forest:
    """Figure 4, from columns configuration, low, middle, high, pairs; they and `margin` as differences are measured."""
    family = ", each of its comparison alone" if len(differences) > 1 else ""
    scaled = axis.scale(metric) * margin
    width = f"{scaled:g}{axis.unit(metric)}".removesuffix("s" if scaled == 1 else "?")
    caption = (
        f"Mean difference of {metric.label} from {shorten(baseline)} with its 95% interval{family} "
        f"({'higher' if metric.direction == 'maximize' else 'lower'} is better); the line is 0, the band the margin "
        f"of ±{width}."
    )
    frame = differences.copy()
    frame[["low", "middle", "high"]] *= axis.scale(metric)
    label = f"Δ of {metric.label}{' in points' if metric.share else ''}"
    title = "Differences from the baseline"
    return Forest(4, "differences", title, label, caption, metric, scaled, frame, styles)


def draw_png(info: Forest, path: Path) -> None:
    """Draws with matplotlib; the same info gives the same bytes."""
    rows = by_configuration(info.frame, info.styles)
    figure = matplotlib_layout.new_figure(1.3 + 0.42 * len(rows))
    axes = figure.add_subplot()
    draw_rules(axes, info.margin)
    names = []
    for place, (name, style, found) in enumerate(reversed(rows)):
        draw_interval(axes, place, style, found)
        text = _words(info.metric, found)
        axes.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
        names.append(matplotlib_layout.label(name))
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel=matplotlib_layout.label(info.x_label, 60), ylim=(-0.7, len(names) - 0.3))
    matplotlib_layout.tidy(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    matplotlib_layout.save(figure, path)


def draw_rules(axes: Any, margin: float) -> None:
    """0 as a line and the margin as a band around it."""
    axes.axvspan(-margin, margin, color="#000000", alpha=0.08, linewidth=0)
    axes.axvline(0, color="#000000", linewidth=1.2)


def draw_interval(axes: Any, place: int, style: Style, found: "pd.DataFrame") -> None:
    """One difference, a row of the frame, at a height: its interval as a line and its mean as a mark."""
    low, middle, high = _ends(found)
    axes.plot([low, high], [place, place], color=style.colour, linewidth=2.5, solid_capstyle="butt")
    axes.plot([middle], [place], style.marker[0], color=style.colour, markersize=8)


def draw_plotly(info: Forest) -> dict[str, Any]:
    """Draws for plotly: a row a rival, from the top."""
    rows = by_configuration(info.frame, info.styles)
    data = [interval_trace(info, name, place, style, found) for place, (name, style, found) in enumerate(rows)]
    names = [markup(name, 18) for name, _, _ in rows]
    ticks = {"tickvals": list(range(len(rows))), "ticktext": names, "range": [len(rows) - 0.4, -0.6]}
    axes = ({"title": {"text": PAGE_LABELS[info.metric.share]}}, {**ticks, "showgrid": False})
    return plotly_layout.draw(data, [axes], [], 60 + 36 * len(rows), shapes=rules(info.margin), hovermode="closest")


def interval_trace(info: Forest, name: str, place: int, style: Style, found: "pd.DataFrame") -> dict[str, Any]:
    """One difference, a row of the frame, at a height."""
    low, middle, high = rounded(_ends(found))
    return {
        "type": "scatter", "mode": "markers", "x": [middle], "y": [place], "name": markup(name),
        "marker": {"color": style.colour, "symbol": style.marker[1], "size": 11},
        "error_x": {
            "type": "data", "symmetric": False, "array": [high - middle], "arrayminus": [middle - low],
            "color": style.colour, "thickness": 2.5, "width": 5,
        },
        "hovertemplate": (
            f"{markup(name)}: {_words(info.metric, found)}{axis.unit(info.metric)}"
            f"<br>{int(found['pairs'].iloc[0])} pairs<extra></extra>"
        ),
    }  # fmt: skip


def rules(margin: float) -> list[dict[str, Any]]:
    """0 as a line and the margin as a band around it, for plotly; over the height of the whole figure."""
    across = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    band = {"type": "rect", "x0": -margin, "x1": margin, "fillcolor": "rgba(128,128,128,0.18)", "line": {"width": 0}}
    zero = {"type": "line", "x0": 0, "x1": 0, "line": {"color": plotly_layout.RULE, "width": 1.5}}
    return [{**band, **across}, {**zero, **across}]


def _words(metric: Metric, found: "pd.DataFrame") -> str:
    low, middle, high = _ends(found)
    ends = f"[{axis.difference(low, metric, False)}, {axis.difference(high, metric, False)}]"
    return f"{axis.difference(middle, metric)} {ends}"


def _ends(found: "pd.DataFrame") -> tuple[float, float, float]:
    """Low, middle and high of a row."""
    low, middle, high = (float(found[column].iloc[0]) for column in ("low", "middle", "high"))
    return low, middle, high
