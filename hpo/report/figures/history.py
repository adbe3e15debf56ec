"""Figure 6: the score of every trial, and the best so far or the expected best by number of trials."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hpo.analysis.metric import Metric
from hpo.report.figures import matplotlib_layout, plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.style import MANY_POINTS, Style, markup, rounded, spans_decades, translucent


@dataclass(frozen=True, kw_only=True)
class History(Chart):
    """The course of tuning.

    Attributes:
        metric: the score. expected: whether the lines are expected bests.
        trials: columns configuration, tuning_run, trial (from 1), score, setting (in words).
        lines: columns configuration, tuning_run, trial, best: the best so far of one tuning run; or, with `expected`,
            configuration, trial, best, low, high: the mean best of so many random trials, and its 95% interval.
    """

    number: int = 6
    slug: str = "tuning-history"
    title: str = "Tuning history"
    trials: pd.DataFrame
    lines: pd.DataFrame
    metric: Metric
    expected: bool

    @property
    def caption(self) -> str:
        runs = int(self.trials["tuning_run"].nunique())
        line = f"a thin line is the best so far of one of the {runs} tuning runs, the thick line their mean"
        if self.expected:
            each = " of each tuning run" if runs > 1 else ""
            line = (
                "the line is the expected best of so many random trials, and their best lies in the band with a "
                f"probability of 95% (by the trials{each}; Dodge et al., arXiv:1909.03004)"
            )
        elif runs == 1:
            line = "the line is the best so far of one tuning run (another run would give another line)"
        lower = "" if self.metric.direction == "maximize" else ", lower is better"
        return (
            f"Tuning: a point is the score of a trial ({self.metric.label}{lower}), {line}. "
            "Trials that diverged or have no score have no point."
        )

    def draw_png(self, path: Path) -> None:
        from matplotlib.ticker import MaxNLocator

        figure = matplotlib_layout.new_figure(4.2)
        axes = figure.add_subplot()
        for _, style, rows in self.by_configuration(self.trials):
            matplotlib_layout.scatter(axes, style, rows["trial"].tolist(), rows["score"].tolist())
        for _, style, rows in self.by_configuration(self.lines):
            line = {"color": style.colour, "linestyle": style.dash[0], "linewidth": 1.8}
            if self.expected:
                axes.fill_between(rows["trial"], rows["low"], rows["high"], color=style.colour, alpha=0.15, linewidth=0)
                axes.plot(rows["trial"], rows["best"], **line)
                continue
            runs = [run for _, run in rows.groupby("tuning_run")]
            for run in runs if len(runs) > 1 else []:
                axes.step(run["trial"], run["best"], where="post", color=style.colour, alpha=0.35, linewidth=0.6)
            mean = mean_line(runs)
            axes.step(mean["trial"], mean["best"], where="post", **line)
        axes.set_xlabel("trial")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        matplotlib_layout.score_axis(axes, self.metric, self.trials["score"])
        matplotlib_layout.tidy(axes)
        matplotlib_layout.legend(figure, self.styles, marks=False)
        matplotlib_layout.save(figure, path)

    def draw_plotly(self) -> dict[str, Any]:
        traces = [self._points_trace(*entry) for entry in self.by_configuration(self.trials)]
        for name, style, rows in self.by_configuration(self.lines):
            if self.expected:
                traces += [self._band_trace(name, style, rows), self._line_trace(name, style, rows, showlegend=True)]
                continue
            runs = [run for _, run in rows.groupby("tuning_run")]
            traces += [self._line_trace(name, style, run, showlegend=False, thin=True) for run in runs if len(runs) > 1]
            traces.append(self._line_trace(name, style, mean_line(runs), showlegend=True))
        last = int(self.trials["trial"].max())
        x = {"title": {"text": "trial"}, "range": [0.5, last + 0.5], **({"dtick": 1} if last <= 10 else {})}
        return plotly_layout.draw(traces, [(x, score_axis(self.metric, self.trials["score"]))], list(self.styles))

    def _points_trace(self, name: str, style: Style, rows: pd.DataFrame) -> dict[str, Any]:
        return plotly_layout.scatter(
            0, "markers", rows["trial"].tolist(), rounded(rows["score"]), marker=trial_marker(style, len(rows)),
            customdata=rows["setting"].tolist(), legendgroup=name, showlegend=False,
            hovertemplate=f"{markup(name)}, trial %{{x}}: {self._value}<br>%{{customdata}}<extra></extra>",
        )  # fmt: skip

    def _line_trace(
        self, name: str, style: Style, run: pd.DataFrame, showlegend: bool, thin: bool = False
    ) -> dict[str, Any]:
        best = "expected best of" if self.expected else "best after"
        shape = "linear" if self.expected else "hv"
        return plotly_layout.scatter(
            0, "lines", run["trial"].tolist(), rounded(run["best"]),
            line={"color": style.colour, "dash": style.dash[1], "width": 0.8 if thin else 2.5, "shape": shape},
            name=markup(name), legendgroup=name, showlegend=showlegend, opacity=0.4 if thin else 1.0,
            hovertemplate=f"{markup(name)}, {best} %{{x}} trials: {self._value}<extra></extra>",
        )  # fmt: skip

    def _band_trace(self, name: str, style: Style, rows: pd.DataFrame) -> dict[str, Any]:
        trials, low, high = rows["trial"].tolist(), rounded(rows["low"]), rounded(rows["high"])
        return plotly_layout.scatter(
            0, "lines", trials + trials[::-1], high + low[::-1], fill="toself", line={"width": 0},
            fillcolor=translucent(style.colour), hoverinfo="skip", showlegend=False, legendgroup=name,
        )  # fmt: skip

    @property
    def _value(self) -> str:
        return f"%{{y{plotly_layout.hover_format(self.metric.share)}}}"


def mean_line(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Columns trial and best: the mean of the best so far of these tuning runs, as soon as all have one."""
    if len(runs) == 1:
        return runs[0]
    last = max(int(run["trial"].max()) for run in runs)
    columns = [run.set_index("trial")["best"].reindex(range(1, last + 1)).ffill() for run in runs]
    return (
        pd.concat(columns, axis=1).mean(axis=1, skipna=False).dropna().rename("best").rename_axis("trial").reset_index()
    )


def trial_marker(style: Style, trials: int) -> dict[str, Any]:
    """The mark of a configuration's trials, for plotly."""
    size = 6 if trials <= MANY_POINTS else 3
    return {"color": translucent(style.colour, 0.65), "symbol": style.marker[1], "size": size}


def score_axis(metric: Metric, scores: "pd.Series[float]") -> dict[str, Any]:
    """The y axis of a score, for plotly; logarithmic where the scores span a wide range."""
    title = {"title": {"text": markup(metric.label, 40)}}
    if metric.share:
        return {**title, "tickformat": ".1~%"}
    return {**title, **(plotly_layout.log_ticks(scores.min(), scores.max()) if spans_decades(metric, scores) else {})}
