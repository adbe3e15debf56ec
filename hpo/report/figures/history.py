"""Figure 6: the score of every trial, and the best so far or the best to be expected by number of trials."""

from typing import TYPE_CHECKING, Any, NamedTuple

from hpo.analysis.metric import Metric
from hpo.report.figures import axis, plotly_layout
from hpo.report.figures.curves import by_configuration
from hpo.report.figures.style import Style, markup, rounded, translucent

if TYPE_CHECKING:
    import pandas as pd

WIDE_SPAN = 50  # scores whose largest is this many times the smallest are drawn on a log axis
MANY_POINTS = 200  # a configuration, from here on drawn smaller


class History(NamedTuple):
    """The course of tuning, ready to draw.

    Attributes:
        metric: the score. log: whether its axis is logarithmic. expected: whether lines are expected bests.
        trials: columns configuration, tuning_run, trial (from 1), score, setting (in words).
        lines: columns configuration, tuning_run, trial, best: the best so far of one run of tuning, or with `expected`
            the mean best of so many random trials.
        styles: configuration → style, in the order of the legend.
    """

    number: int
    slug: str
    title: str
    caption: str
    metric: Metric
    log: bool
    expected: bool
    trials: "pd.DataFrame"
    lines: "pd.DataFrame"
    styles: dict[str, Style]


def tuning_history(
    trials: "pd.DataFrame", lines: "pd.DataFrame", styles: dict[str, Style], metric: Metric, expected: bool
) -> History:
    """Figure 6, from the columns of `History.trials` and `History.lines`."""
    runs = int(trials["tuning_run"].nunique())
    line = (
        "the line is the expected best of so many trials, for all of them were random"
        if expected
        else "the line is the best so far of one run of tuning (another would draw another one)"
        if runs == 1
        else f"a line is the best so far of one of the {runs} runs of tuning"
    )
    lower = "" if metric.direction == "maximize" else ", lower is better"
    caption = f"Tuning: a point is the score of a trial ({metric.label}{lower}), {line}."
    log = spans_decades(trials["score"])
    return History(
        6, "tuning-history", "Tuning history", caption, metric, log, expected, trials, lines, styles
    )  # fmt: skip


def spans_decades(scores: "pd.Series[float]") -> bool:
    """Whether scores lie so far apart that a log axis shows more of them."""
    return bool(scores.min() > 0 and scores.max() > WIDE_SPAN * scores.min())


def draw_plotly(info: History) -> dict[str, Any]:
    """Draws for plotly: points, and a line a configuration and run of tuning."""
    data: list[dict[str, Any]] = []
    named = "expected best of" if info.expected else "best after"
    for name, style, rows in by_configuration(info.trials, info.styles):
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": rows["trial"].tolist(), "y": rounded(rows["score"]),
                "marker": {
                    "color": translucent(style.colour, 0.65), "symbol": style.marker[1],
                    "size": 6 if len(rows) <= MANY_POINTS else 3,
                },
                "customdata": rows["setting"].tolist(), "legendgroup": name, "showlegend": False,
                "hovertemplate": (
                    f"{markup(name)}, trial %{{x}}: %{{y{axis.hover(info.metric)}}}<br>%{{customdata}}<extra></extra>"
                ),
            }
        )  # fmt: skip
    for name, style, rows in by_configuration(info.lines, info.styles):
        for number, (_, run) in enumerate(rows.groupby("tuning_run")):
            data.append(
                {
                    "type": "scatter", "mode": "lines", "x": run["trial"].tolist(), "y": rounded(run["best"]),
                    "line": {
                        "color": style.colour, "dash": style.dash[1], "width": 2.5,
                        "shape": "linear" if info.expected else "hv",
                    },
                    "name": markup(name), "legendgroup": name, "showlegend": number == 0,
                    "hovertemplate": (
                        f"{markup(name)}, {named} %{{x}} trials: %{{y{axis.hover(info.metric)}}}<extra></extra>"
                    ),
                }
            )  # fmt: skip
    last = int(info.trials["trial"].max())
    x = {"title": {"text": "trial"}, "range": [0.5, last + 0.5], **({"dtick": 1} if last <= 10 else {})}
    y = score_axis(info.metric, info.log, info.trials["score"])
    return plotly_layout.draw(data, [(x, y)], list(info.styles))


def score_axis(metric: Metric, log: bool, scores: "pd.Series[float]") -> dict[str, Any]:
    """The y axis of a score, for plotly."""
    ticks = plotly_layout.log_ticks(scores.min(), scores.max()) if log and not metric.share else axis.ticks(metric)
    return {"title": {"text": markup(metric.label, 40)}, **ticks}
