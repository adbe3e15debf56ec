"""The eight figures of a report, each with a chart to draw or a reason why there is none yet."""

from collections.abc import Iterator
from functools import partial
from typing import Literal, NamedTuple

import pandas as pd

from hpo.analysis.metric import Metric, score_of
from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers
from hpo.analysis.selection import rerun_curves
from hpo.analysis.verdicts import by_tuning_run
from hpo.errors import plural
from hpo.report import tuning_frames
from hpo.report.figures import curves, fitted_labels, forest_plot, history, importance, slice_plot, slope_plot
from hpo.report.figures.chart import Chart
from hpo.report.figures.style import Style, assign_styles, shorten
from hpo.report.wording import listed

Section = Literal["results", "analysis", "tuning"]
Styles = dict[str, Style]


class Figure(NamedTuple):
    """A figure of a report.

    Attributes:
        section: the part of the report that it belongs to.
        caption: that of the chart, or why there is no chart.
    """

    number: int
    slug: str
    title: str
    section: Section
    caption: str
    chart: Chart | None

    @property
    def in_markdown(self) -> bool:
        """Whether the Markdown shows it, as a PNG."""
        return self.number <= 4

    @property
    def path(self) -> str:
        """The path of its PNG, from the report's folder."""
        return f"figures/{self.number}-{self.slug}.png"


def plan_figures(record: Record, numbers: StudyNumbers) -> list[Figure]:
    """The report's eight figures, in order; works at every moment of a study."""
    styles, trials = _styles(numbers), tuning_frames.scored_trials(record)
    return [
        *plan_png_figures(record, numbers),
        _labels_figure(record, numbers, styles),
        *_trial_figures(record, numbers, styles, trials),
        _importance_figure(record, styles, trials),
    ]


def plan_png_figures(record: Record, numbers: StudyNumbers) -> list[Figure]:
    """The first four figures only: they are small, quick to compute and shown in Markdown."""
    styles = _styles(numbers)
    return [*_curve_figures(record, numbers, styles), *_pair_figures(numbers, styles)]


def figure_of(chart: Chart, section: Section, addition: str = "") -> Figure:
    """A figure with a chart; `addition` is added to its caption."""
    return Figure(chart.number, chart.slug, chart.title, section, chart.caption + addition, chart)


def forest_of(numbers: StudyNumbers, styles: Styles) -> forest_plot.Forest | None:
    """The difference of every rival that has an interval; None where none has."""
    compared = [(rival.name, rival.verdict.comparison) for rival in numbers.rivals]
    rows = [(name, *paired.interval, paired.mean, paired.n) for name, paired in compared if paired.n > 1]
    if not rows:
        return None
    frame = pd.DataFrame(rows, columns=["configuration", "low", "high", "middle", "pairs"])
    return forest_plot.forest(frame, styles, numbers.metric, numbers.baseline.name, numbers.definition["margin"])


def _styles(numbers: StudyNumbers) -> Styles:
    return assign_styles([entry.name for entry in numbers.configurations], numbers.baseline.name)


def _missing(kind: type[Chart], section: Section, reason: str) -> Figure:
    return Figure(kind.number, kind.slug, kind.title, section, reason, None)


def _curve_figures(record: Record, numbers: StudyNumbers, styles: Styles) -> Iterator[Figure]:
    metric = numbers.metric
    validation = Metric(f"validation_{metric.name.removeprefix('test_')}", metric.direction, metric.share)
    for number, title, compute, name in (
        (1, "Training loss", curves.training_loss, "train_loss"),
        (2, validation.label.capitalize(), partial(curves.validation_metric, metric=validation), validation.name),
    ):
        frame = rerun_curves(record, name)
        if frame.empty:
            yield Figure(number, title.lower().replace(" ", "-"), title, "results", _why_no_curve(numbers), None)
        else:
            yield figure_of(compute(frame, styles), "results", _seeds_shown(numbers))


def _labels_figure(record: Record, numbers: StudyNumbers, styles: Styles) -> Figure:
    clean, noisy = (rerun_curves(record, f"{kind}_labels_fitted") for kind in ("clean", "noisy"))
    if len(clean) or len(noisy):
        return figure_of(fitted_labels.labels_fitted(clean, noisy, styles), "analysis", _seeds_shown(numbers))
    changed = numbers.samples.changed_labels
    reason = "no training label was changed." if changed and not any(changed.values()) else _why_no_curve(numbers)
    return _missing(fitted_labels.LabelsFitted, "analysis", reason)


def _why_no_curve(numbers: StudyNumbers) -> str:
    if any(entry.reruns.finished for entry in numbers.configurations):
        return "no finished rerun has a value to show."
    return "it appears with the first finished rerun."


def _seeds_shown(numbers: StudyNumbers) -> str:
    """What a reader has to know about the seeds whose mean curve and band are shown."""
    runs = numbers.study["tuning_runs"]
    several = f" Seeds of all {runs} tuning runs, whose settings may differ." if runs > 1 else ""
    diverged = sum(len(entry.reruns.diverged_seeds) for entry in numbers.configurations)
    return several + (f" The curves of {plural(diverged, 'diverged rerun')} end early." if diverged else "")


def _pair_figures(numbers: StudyNumbers, styles: Styles) -> Iterator[Figure]:
    unit = "seed" if numbers.study["tuning_runs"] == 1 else "tuning run"
    reason = f"it appears with the {{}} {unit} that the baseline and another configuration both have."
    pairs = _pairs(numbers)
    if len(pairs):
        slopes = slope_plot.paired_slopes(pairs, styles, numbers.metric, numbers.baseline.name, unit)
        yield figure_of(slopes, "results")
    else:
        yield Figure(3, "paired-slopes", f"Pairs, {unit} by {unit}", "results", reason.format("first"), None)
    forest = forest_of(numbers, styles)
    if forest is not None:
        yield figure_of(forest, "results")
    else:
        yield _missing(forest_plot.Forest, "results", reason.format("second"))


def _pairs(numbers: StudyNumbers) -> pd.DataFrame:
    """Columns configuration, unit (the seed, or the tuning run from 1), baseline, rival."""
    several, baseline = numbers.study["tuning_runs"] > 1, numbers.baseline.reruns.metric_values
    rows = []
    for entry in numbers.configurations:
        if entry is numbers.baseline:
            continue
        left, right = entry.reruns.metric_values, baseline
        if several:
            left, right = by_tuning_run(left, right, entry.reruns.tuning_run_by_seed)
        rows += [(entry.name, key + several, right[key], left[key]) for key in sorted(left.keys() & right.keys())]
    return pd.DataFrame(rows, columns=["configuration", "unit", "baseline", "rival"]).dropna()


def _trial_figures(
    record: Record, numbers: StudyNumbers, styles: Styles, trials: tuning_frames.ScoredTrials
) -> Iterator[Figure]:
    metric = score_of(numbers.definition)
    frame = tuning_frames.history_frame(trials)
    finished = any(entry.tuning.finished for entry in numbers.configurations)
    reason = "no finished trial has a score." if finished else "it appears with the first finished trial."
    if len(frame):
        lines, expected = tuning_frames.best_lines(frame, record), tuning_frames.all_random(record)
        yield figure_of(history.tuning_history(frame, lines, styles, metric, expected), "tuning")
    else:
        yield _missing(history.History, "tuning", reason)
    frame, tuned = tuning_frames.slice_frame(trials), tuning_frames.searched_ranges(record)
    frame = frame[frame["hyperparameter"].isin(tuned)]
    if len(frame):
        yield figure_of(slice_plot.slices(frame, tuned, styles, metric), "tuning")
    else:
        yield _missing(slice_plot.Slices, "tuning", reason if tuned else "no hyperparameter is tuned.")


def _importance_figure(record: Record, styles: Styles, trials: tuning_frames.ScoredTrials) -> Figure:
    enough = tuning_frames.ENOUGH_TRIALS
    few = {name: len(scored) for name, scored in trials.items() if len(scored) < enough}
    have = ", ".join(f"{shorten(name)} has {number}" for name, number in few.items())
    left_out = [f"Shown for configurations with at least {enough} finished trials; {have}."] if few else []
    single = [shorten(name) for name in tuning_frames.tuning_one(record) if name not in few]
    if single:
        left_out.append(f"Only one hyperparameter is tuned by {listed(single)}.")
    frame = tuning_frames.importance_frame(record, trials)
    if len(frame):
        ranked = " Trials are ranked within their tuning run." if record.study["tuning_runs"] > 1 else ""
        return figure_of(importance.importances(frame, styles, " ".join(left_out)), "tuning", ranked)
    reason = " ".join(left_out) or "The scores do not separate the best tenth of the trials from the others."
    return _missing(importance.Importances, "tuning", reason[0].lower() + reason[1:])
