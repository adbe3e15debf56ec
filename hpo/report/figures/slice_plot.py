"""Figure 7: the score of every trial against each hyperparameter."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hpo.analysis.metric import Metric
from hpo.report.figures import matplotlib_layout, plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.history import score_axis, trial_marker
from hpo.report.figures.style import Style, markup, rounded

PADDING = 0.05  # of a range, beyond either end
CHOICE_WIDTH = 0.5  # of the distance between two choices, over which the trials of one are spread
GOLDEN_RATIO = 0.618034  # its multiples, modulo 1, are spread evenly


class SearchedRange(NamedTuple):
    """What a hyperparameter was searched over: the ends of its range, of all its ranges together.

    Attributes:
        choices: its values in words where all configurations chose from a list; `low` and `high` are their places.
    """

    low: float
    high: float
    log: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Slices(Chart):
    """Scores by hyperparameter: a panel for each hyperparameter.

    Attributes:
        metric: the score.
        hyperparameters: name in words → what its axis shows; in the order of the panels.
        frame: columns configuration, trial (from 1), hyperparameter, value, words (the value's), score.
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
            "Trials that diverged or have no score are left out."
        )

    def draw_png(self, path: Path) -> None:
        columns = min(3, len(self.hyperparameters))
        rows = math.ceil(len(self.hyperparameters) / columns)
        figure = matplotlib_layout.new_figure(0.6 + 2.6 * rows)
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
        for axes, (hyperparameter, searched) in zip(panels, self.hyperparameters.items(), strict=False):
            shown = self.frame[self.frame["hyperparameter"] == hyperparameter]
            for _, style, trials in self.by_configuration(shown):
                matplotlib_layout.scatter(axes, style, _places(searched, trials), trials["score"].tolist())
            axes.set_xlabel(matplotlib_layout.label(hyperparameter, 40))
            _limit(axes, searched)
            matplotlib_layout.tidy(axes)
        for axes in panels[::columns]:
            matplotlib_layout.score_axis(axes, self.metric, self.frame["score"])
        for axes in panels[len(self.hyperparameters) :]:
            axes.set_visible(False)
        matplotlib_layout.legend(figure, self.styles, marks=True)
        matplotlib_layout.save(figure, path)

    def draw_plotly(self) -> dict[str, Any]:
        traces = [self._legend_trace(name, style) for name, style in self.styles.items()]
        panels = []
        for index, (hyperparameter, searched) in enumerate(self.hyperparameters.items()):
            rows = self.frame[self.frame["hyperparameter"] == hyperparameter]
            for name, style, trials in self.by_configuration(rows):
                traces.append(self._points_trace(index, hyperparameter, searched, name, style, trials))
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
        self, panel: int, hyperparameter: str, searched: SearchedRange, name: str, style: Style, rows: pd.DataFrame
    ) -> dict[str, Any]:
        data = rows["trial"].tolist()
        value, trial = "%{x:.3~g}", "%{customdata}"
        if searched.choices:
            data = [[number, markup(words)] for number, words in zip(data, rows["words"], strict=True)]
            value, trial = "%{customdata[1]}", "%{customdata[0]}"
        return plotly_layout.scatter(
            panel, "markers", _places(searched, rows), rounded(rows["score"]), marker=trial_marker(style, len(rows)),
            customdata=data, legendgroup=name, showlegend=False,
            hovertemplate=(
                f"{markup(name)}, trial {trial}<br>{markup(hyperparameter)} {value}: "
                f"%{{y{plotly_layout.hover_format(self.metric.share)}}}<extra></extra>"
            ),
        )  # fmt: skip


def _places(searched: SearchedRange, rows: pd.DataFrame) -> list[float]:
    """Where trials are drawn: at their values, or beside the place of their choice."""
    if not searched.choices:
        return rounded(rows["value"].astype(float))
    chosen = zip(rows["trial"], rows["words"], strict=True)
    return [searched.choices.index(words) + _shift(number) for number, words in chosen]


def _limit(axes: Any, searched: SearchedRange) -> None:
    """The x axis from one end of the range to the other, for matplotlib."""
    low, high = searched.low, searched.high
    if searched.choices:
        words = [matplotlib_layout.label(choice, 12) for choice in searched.choices]
        axes.set_xticks(range(len(words)), words)
        axes.set_xlim(low - 0.5, high + 0.5)
    elif searched.log:
        padding = (high / low) ** PADDING
        axes.set_xscale("log")
        axes.set_xlim(low / padding, high * padding)
    else:
        axes.set_xlim(low - PADDING * (high - low), high + PADDING * (high - low))


def _shift(trial: int) -> float:
    """How far right of its choice a trial is drawn, so that trials of one choice do not hide each other."""
    return round(CHOICE_WIDTH * (trial * GOLDEN_RATIO % 1 - 0.5), 3)


def _range_axis(searched: SearchedRange) -> dict[str, Any]:
    low, high = searched.low, searched.high
    if searched.choices:
        places, words = list(range(len(searched.choices))), [markup(choice) for choice in searched.choices]
        return {"tickvals": places, "ticktext": words, "range": [low - 0.5, high + 0.5]}
    if searched.log:
        low, high = math.log10(low), math.log10(high)
    padding = PADDING * (high - low)
    scale = {"type": "log", "dtick": 1 if high - low > 1 else "D2"} if searched.log else {}
    return {**scale, "range": [round(low - padding, 6), round(high + padding, 6)]}
