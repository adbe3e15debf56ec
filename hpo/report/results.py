"""A study's results as tables and figures, for notebooks and scripts."""

import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers
from hpo.errors import UsageError, check_configuration
from hpo.report import tables
from hpo.report.figure_plan import Figure, plan_figures
from hpo.report.page import render_html
from hpo.report.record_tables import column_of, record_tables, whole_setting
from hpo.report.setting_words import choice_rule
from hpo.report.warnings import find_warnings
from hpo.report.wording import escape, unescape, verdict_lines
from hpo.space import split_space

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure


class Results:
    """A study as it was in the database when it was read, at any stage; `hpo.results` reads it again.

    Accuracies and other shares are fractions; tuning runs, trials, reruns, rounds and epochs count from 1. A notebook
    shows the verdicts and the tables T1 and T2 of the report.

    Attributes:
        name: the study's name in the database. report: the report's README.md, or None if none was written.
    """

    def __init__(self, record: Record, report: Path | None = None) -> None:
        self.name = str(record.study["name"])
        self.report = report
        self._record = record

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The trials, a row each, as in the report's trials.csv.

        Columns: configuration; tuning_run; round (always 1); number: of the trial in its tuning run; seed; state
        ("open", "leased", "done" or "failed"); cause ("diverged", "pruned" or "without a finite score" for a trial that
        ended so, else None); value: the score; seconds; setting/NAME: a column for each hyperparameter, tuned or
        fixed (float64 or whole numbers where all its values are numbers); result/NAME: a column for each number that
        training reports at the end.
        """
        return self._tables["trials"].copy()

    @cached_property
    def reruns(self) -> pd.DataFrame:
        """The reruns on fresh seeds, a row each, as in the report's reruns.csv.

        Columns as in `trials`, and superseded: whether the rerun belongs to an older round, whose setting a better
        trial has replaced since. Rounds count from 1, and so does number: of the rerun of its configuration. The
        verdicts compare result/test_… of the reruns that are not superseded.
        """
        return self._tables["reruns"].copy()

    @cached_property
    def curves(self) -> pd.DataFrame:
        """The curves of trials and reruns, a row for each run and epoch.

        Columns: configuration; phase ("trial" or "rerun"); tuning_run; round; number; seed; epoch; and a column for
        each metric, such as train_loss and validation_accuracy.
        """
        return pd.concat([self._tables["trial_curves"], self._tables["curves"]], ignore_index=True)

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """The planned comparisons, with the baseline or as `Configuration.against` names them, a row each.

        Columns: configuration; against; verdict; metric; n: pairs; mean: of the differences configuration − against;
        low, high: its 95% interval; p: of the paired t test; p_holm: adjusted over the study's comparisons; won: pairs
        in which the configuration is better; mde: the smallest true difference that is detected with 80% power;
        margin: the smallest difference that matters; prediction; outcome ("held", "did not hold" or "undecided").
        """
        rows = []
        for rival in self._numbers.comparisons:
            verdict, comparison = rival.verdict, rival.verdict.comparison
            rows.append({
                "configuration": rival.name, "against": rival.against, "verdict": verdict.label,
                "metric": self._numbers.metric.name, "n": comparison.n, "mean": comparison.mean,
                "low": comparison.interval.low, "high": comparison.interval.high, "p": comparison.p_t,
                "p_holm": verdict.p_holm, "won": comparison.won, "mde": comparison.mde, "margin": verdict.margin,
                "prediction": rival.prediction, "outcome": rival.outcome,
            })  # fmt: skip
        return pd.DataFrame(rows)

    @cached_property
    def best(self) -> pd.DataFrame:
        """The best trial of each configuration and tuning run, whose setting the reruns use.

        Columns: configuration; tuning_run and number of the trial in it, both from 1; score; compared_score: the number
        by which the tuning runs of a configuration are compared, see `choice_rule`; chosen: whether it is the one to
        use, the first of equal ones; and a column for each hyperparameter, tuned or fixed.
        """
        plain = ["configuration", "tuning_run", "number", "score", "compared_score", "chosen"]
        spaces = {entry["name"]: split_space(entry["space"]) for entry in self._numbers.definition["configurations"]}
        rows = []
        for entry in self._numbers.configurations:
            choice = entry.choice
            for best in entry.tuning.best:
                run = best.tuning_run
                values = (entry.name, run, best.number, best.score, choice.scores[run], run == choice.tuning_run)
                rows.append(dict(zip(plain, values, strict=True)) | whole_setting(spaces[entry.name], best.setting))
        names = dict.fromkeys([*plain, *(name for row in rows for name in row)])
        settings = {name: column_of([row.get(name, math.nan) for row in rows]) for name in names if name not in plain}
        return pd.DataFrame({**{name: [row[name] for row in rows] for name in plain}, **settings})

    @property
    def hyperparameters(self) -> dict[str, list[str]]:
        """Configuration → the names of its hyperparameters, tuned or fixed: which columns of `best` are about it."""
        return {entry["name"]: list(entry["space"]) for entry in self._numbers.definition["configurations"]}

    @property
    def choice_rule(self) -> str:
        """Which of a configuration's settings is the one to use, in words: "that of the tuning run whose …"."""
        return unescape(choice_rule(self._numbers))

    def setting_to_use(self, configuration: str | None = None) -> "pd.Series[Any]":
        """The row of `best` to use, of one configuration or of all.

        Raises:
            UsageError: there is no such configuration, or none of its trials has a score yet.
        """
        if configuration is not None:
            check_configuration(self.name, configuration, [entry.name for entry in self._numbers.configurations])
        direction = self._numbers.definition["direction"]
        ranks = {
            (entry.name, run): entry.choice.rank(run, direction)
            for entry in self._numbers.configurations
            if entry.name == (configuration or entry.name) and (run := entry.choice.tuning_run) is not None
        }
        if not ranks:
            raise UsageError(f"no finished trial of {configuration or self.name} has a score yet")
        name, run = min(ranks, key=ranks.__getitem__)
        return self.best[(self.best["configuration"] == name) & (self.best["tuning_run"] == run)].iloc[0]

    @property
    def warnings(self) -> list[str]:
        """What a reader of the verdicts should know, a sentence each."""
        return [unescape(line) for line in find_warnings(self._numbers)]

    def figure(self, number: int) -> "PlotlyFigure":
        """A figure of the report, drawn by plotly.

        Args:
            number: 1: training loss, 2: score by epoch, 3: pairs, 4: differences from the baseline, 5: noisy labels
                fitted, 6: tuning history, 7: score by hyperparameter, 8: importance of the hyperparameters.

        Raises:
            UsageError: there is no figure of this number, or nothing to show in it yet.
        """
        from plotly.graph_objects import Figure as PlotlyFigure

        figures = {figure.number: figure for figure in self._figures}
        if number not in figures:
            raise UsageError(f"there is no figure {number!r}; figures are {', '.join(map(str, figures))}")
        figure = figures[number]
        if figure.chart is None:
            raise UsageError(f"figure {number} ({figure.title}) cannot be drawn: {unescape(figure.caption)}")
        drawing = figure.chart.draw_plotly()
        layout = {key: value for key, value in drawing["layout"].items() if key != "meta"}
        return PlotlyFigure(data=drawing["data"], layout={"title": unescape(figure.title), **layout})

    def __repr__(self) -> str:
        lines = [unescape(line.replace("**", "")) for line in verdict_lines(self._numbers)]
        return "\n".join([f"Results of {self.name}:", *lines])

    def _repr_html_(self) -> str:
        return render_html(
            "notebook.md.jinja",
            title=escape(self._numbers.title),
            verdicts=verdict_lines(self._numbers),
            warnings=find_warnings(self._numbers),
            results=tables.results(self._numbers),
            comparisons=tables.comparisons(self._numbers),
        )

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        return record_tables(self._record)

    @cached_property
    def _numbers(self) -> StudyNumbers:
        return compute_numbers(self._record)

    @cached_property
    def _figures(self) -> list[Figure]:
        return plan_figures(self._record, self._numbers)
