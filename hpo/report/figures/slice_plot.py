"""Figure 7: the score of every trial against each hyperparameter."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from hpo.analysis.metric import Metric
from hpo.report.figures import axis, plotly_layout
from hpo.report.figures.curves import by_configuration
from hpo.report.figures.history import MANY_POINTS, score_axis, spans_decades
from hpo.report.figures.style import Style, markup, rounded, translucent

if TYPE_CHECKING:
    import pandas as pd


PADDING = 0.05  # of a range, beyond either end


class Searched(NamedTuple):
    """What a hyperparameter was searched over: the ends of its range, of all its ranges together."""

    low: float
    high: float
    log: bool


class Slices(NamedTuple):
    """Scores by hyperparameter, ready to draw: a panel a hyperparameter.

    Attributes:
        metric: the score. log: whether its axis is logarithmic.
        hyperparameters: name in words → what it was searched over, which its axis shows; in the panels' order.
        frame: columns configuration, trial (from 1), hyperparameter, value, score.
        styles: configuration → style, in the order of the legend.
    """

    number: int
    slug: str
    title: str
    caption: str
    metric: Metric
    log: bool
    hyperparameters: dict[str, Searched]
    frame: "pd.DataFrame"
    styles: dict[str, Style]


def slices(
    frame: "pd.DataFrame", hyperparameters: dict[str, Searched], styles: dict[str, Style], metric: Metric
) -> Slices:
    """Figure 7, from the columns of `Slices.frame`."""
    lower = "" if metric.direction == "maximize" else " (lower is better)"
    caption = (
        f"The {metric.label} of every trial{lower} against each hyperparameter, the others varying along with it. "
        "Trials without a score are left out."
    )
    log = spans_decades(frame["score"])
    shown = {name: over for name, over in hyperparameters.items() if (frame["hyperparameter"] == name).any()}
    return Slices(7, "slices", "Score by hyperparameter", caption, metric, log, shown, frame, styles)


def draw_plotly(info: Slices) -> dict[str, Any]:
    """Draws for plotly: a panel a hyperparameter, all with the same scores upwards."""
    data = plotly_layout.keys(info.styles, "markers")
    panels = []
    for index, (hyperparameter, over) in enumerate(info.hyperparameters.items()):
        rows = info.frame[info.frame["hyperparameter"] == hyperparameter]
        for name, style, mine in by_configuration(rows, info.styles):
            data.append(_points(info, hyperparameter, name, style, mine, plotly_layout.on_panel(index)))
        x = {"title": {"text": markup(hyperparameter)}, **_axis(over)}
        panels.append(
            (x, {**score_axis(info.metric, info.log, info.frame["score"]), **({"matches": "y"} if index else {})})
        )
    return plotly_layout.draw(data, panels, list(info.styles), 240, columns=min(3, len(panels)))


def _axis(over: Searched) -> dict[str, Any]:
    low, high = (math.log10(over.low), math.log10(over.high)) if over.log else (over.low, over.high)
    beyond = PADDING * (high - low)
    scale = {"type": "log", "dtick": 1 if high - low > 1 else "D2"} if over.log else {}
    return {**scale, "range": [round(low - beyond, 6), round(high + beyond, 6)]}


def _points(
    info: Slices, hyperparameter: str, name: str, style: Style, rows: "pd.DataFrame", panel: dict[str, Any]
) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": rounded(rows["value"]), "y": rounded(rows["score"]),
        "marker": {
            "color": translucent(style.colour, 0.75), "symbol": style.marker[1],
            "size": 7 if len(rows) <= MANY_POINTS else 4,
        },
        "customdata": rows["trial"].tolist(), "legendgroup": name, "showlegend": False,
        "hovertemplate": (
            f"{markup(name)}, trial %{{customdata}}<br>{markup(hyperparameter)} %{{x:.3~g}}: "
            f"%{{y{axis.hover(info.metric)}}}<extra></extra>"
        ),
        **panel,
    }  # fmt: skip
