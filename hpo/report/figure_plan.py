"""The eight figures of a report, each with a chart to draw or a reason why there is none yet."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import pandas as pd

from hpo.analysis.metric import Metric, score_of
from hpo.analysis.record import Record
from hpo.analysis.results import Rival, StudyNumbers
from hpo.analysis.selection import rerun_curves
from hpo.analysis.verdicts import by_tuning_run
from hpo.errors import plural
from hpo.report import tuning_frames
from hpo.report.figures.chart import Chart
from hpo.report.figures.curves import Curves, band_over_seeds
from hpo.report.figures.fitted_labels import LabelsFitted
from hpo.report.figures.forest_plot import Forest
from hpo.report.figures.history import History
from hpo.report.figures.importance import Importances
from hpo.report.figures.slice_plot import Slices
from hpo.report.figures.slope_plot import Slopes
from hpo.report.figures.style import Style, assign_styles, shorten
from hpo.report.wording import listed
from hpo.tasks import CLASSIFICATION, task_of

TRAINING_LOSS = Metric("training_loss", "minimize", share=False)
Section = Literal["verdicts", "results", "analysis", "tuning"]
Styles = dict[str, Style]


class Figure(NamedTuple):
    """A figure of a report.

    Attributes:
        section: the part of the report that it belongs to.
        caption: that of the chart, or why there is no chart.
        applies: whether the study can ever have it; a report leaves out a figure that it cannot have.
    """

    number: int
    slug: str
    title: str
    section: Section
    caption: str
    chart: Chart | None
    applies: bool = True

    @property
    def path(self) -> str:
        """The path of its PNG, from the report's folder."""
        return f"figures/{self.number}-{self.slug}.png"


def plan_figures(record: Record, numbers: StudyNumbers) -> list[Figure]:
    """The report's eight figures, in order; works at any stage of a study."""
    styles, trials = _styles(numbers), tuning_frames.scored_trials(record)
    return [
        *plan_summary_figures(record, numbers),
        _labels_figure(record, numbers, styles),
        *_trial_figures(record, numbers, styles, trials),
        _importance_figure(record, {name: styles[name] for name in numbers.tuned}, trials),
    ]


def plan_summary_figures(record: Record, numbers: StudyNumbers) -> list[Figure]:
    """The first four figures only, which are small and quick to compute: Optuna's dashboard shows them."""
    styles = _styles(numbers)
    return [*_curve_figures(record, numbers, styles), *_pair_figures(numbers, styles)]


def figure_of(chart: Chart, section: Section, addition: str = "") -> Figure:
    """A figure with a chart; `addition` is added to its caption."""
    return Figure(chart.number, chart.slug, chart.title, section, chart.caption + addition, chart)


def _figure(kind: type[Chart], chart: Chart | None, section: Section, reason: str, addition: str = "") -> Figure:
    """A figure with a chart, or with the reason why there is none."""
    if chart is None:
        return Figure(kind.number, kind.slug, kind.title, section, reason, None)
    return figure_of(chart, section, addition)


def forest_of(numbers: StudyNumbers, styles: Styles) -> Forest | None:
    """The difference of every planned comparison that has an interval; None where none has.

    A comparison with another configuration than the baseline has a row of its own, in the colour of the first.
    """
    compared = {_row_name(rival, numbers): rival for rival in numbers.comparisons if rival.verdict.comparison.n > 1}
    pairs = [(name, rival.verdict.comparison) for name, rival in compared.items()]
    rows = [(name, *paired.interval, paired.mean, paired.n, compared[name].verdict.found) for name, paired in pairs]
    if not rows:
        return None
    frame = pd.DataFrame(rows, columns=["configuration", "low", "high", "middle", "pairs", "found"])
    planned = {name: styles[rival.name] for name, rival in compared.items() if name not in styles}
    return Forest(
        frame=frame,
        metric=numbers.metric,
        baseline=numbers.baseline.name,
        margin=numbers.definition["margin"],
        styles={**styles, **planned},
        several_baselines=bool(planned),
    )


def _row_name(rival: Rival, numbers: StudyNumbers) -> str:
    return rival.name if rival.against == numbers.baseline.name else f"{rival.name} against {rival.against}"


def _styles(numbers: StudyNumbers) -> Styles:
    return assign_styles([entry.name for entry in numbers.configurations], numbers.baseline.name)


def _curve_figures(record: Record, numbers: StudyNumbers, styles: Styles) -> Iterator[Figure]:
    metric = numbers.metric
    validation = metric._replace(name=f"validation_{metric.name.removeprefix('test_')}")
    for number, name, shown in ((1, "train_loss", TRAINING_LOSS), (2, validation.name, validation)):
        curves, log = rerun_curves(record, name), shown is TRAINING_LOSS
        title, slug = shown.title, shown.name.replace("_", "-")
        if curves.empty:
            yield Figure(number, slug, title, "results", _why_no_curve(numbers), None)
            continue
        band = band_over_seeds(curves, log, shown.share)
        chart = Curves(number=number, slug=slug, title=title, frame=band, metric=shown, log=log, styles=styles)
        yield figure_of(chart, "results", _seeds_shown(numbers))


def _labels_figure(record: Record, numbers: StudyNumbers, styles: Styles) -> Figure:
    curves = {kind: rerun_curves(record, f"{kind}_labels_fitted") for kind in ("clean", "noisy")}
    frames = {kind: band_over_seeds(values, share=True) for kind, values in curves.items() if len(values)}
    chart = LabelsFitted(frames=frames, styles=styles) if frames else None
    changed = numbers.samples.changed_labels
    unchanged, reason = bool(changed) and not any(changed.values()), _why_no_curve(numbers)
    if unchanged:
        reason = "no training label was changed."
    if task_of(numbers.definition) is not CLASSIFICATION:
        unchanged, reason = True, "only the labels of classification can have label noise."
    figure = _figure(LabelsFitted, chart, "analysis", reason, _seeds_shown(numbers))
    return figure._replace(applies=chart is not None or not unchanged)


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
    unit, metric = numbers.unit, numbers.metric
    reason = f"it appears with the {{}} {unit} that the baseline and another configuration both have."
    pairs, title = _pairs(numbers), f"{metric.title}, {unit} by {unit}"
    slopes = Slopes(title=title, frame=pairs, metric=metric, baseline=numbers.baseline.name, unit=unit, styles=styles)
    figure = _figure(Slopes, slopes if len(pairs) else None, "results", reason.format("first"))
    yield figure._replace(title=title)
    yield _figure(Forest, forest_of(numbers, styles), "verdicts", reason.format("second"))


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
        rows += [(entry.name, key, right[key], left[key]) for key in sorted(left.keys() & right.keys())]
    frame = pd.DataFrame(rows, columns=["configuration", "unit", "baseline", "rival"]).dropna()
    return frame.sort_values(["configuration", "unit"], kind="stable", ignore_index=True)


def _trial_figures(record: Record, numbers: StudyNumbers, styles: Styles, trials: pd.DataFrame) -> Iterator[Figure]:
    metric = score_of(numbers.definition)
    finished = any(entry.tuning.finished for entry in numbers.configurations)
    reason = "no finished trial has a score." if finished else "it appears with the first finished trial."
    reason = reason if numbers.tuned else "no hyperparameter is tuned."
    history = tuning_frames.history_frame(trials)
    chart = None
    if len(history):
        expected = tuning_frames.all_random(record)
        lines = tuning_frames.random_lines(record) if expected else tuning_frames.best_lines(trials, record)
        chart = History(trials=history, lines=lines, metric=metric, expected=expected, styles=styles)
    yield _figure(History, chart, "tuning", reason)
    ranges = tuning_frames.searched_ranges(record)
    frame = tuning_frames.slice_frame(trials, ranges)
    shown = {name: searched for name, searched in ranges.items() if (frame["hyperparameter"] == name).any()}
    slices = Slices(frame=frame, hyperparameters=shown, metric=metric, styles=styles) if shown else None
    fixed, no_numbers = tuning_frames.fixed_elsewhere(record), tuning_frames.not_on_axis(record)
    not_shown = f" Not shown, since fixed: {'; '.join(fixed)}." if fixed else ""
    not_shown += f" Not shown, since no numbers: {'; '.join(no_numbers)}." if no_numbers else ""
    yield _figure(Slices, slices, "tuning", reason, not_shown)


def _importance_figure(record: Record, styles: Styles, trials: pd.DataFrame) -> Figure:
    enough = tuning_frames.ENOUGH_TRIALS
    counts = trials["configuration"].value_counts()
    few = {name: int(counts.get(name, 0)) for name in styles if counts.get(name, 0) < enough}
    have = ", ".join(f"{shorten(name)} has {number}" for name, number in few.items())
    sentences = (
        [f"Shown for configurations with at least {enough} full-length trials with a score; {have}."] if few else []
    )
    if tuning_frames.has_conditions(record):
        sentences.append("Hyperparameters that exist in some settings only are left out.")
    single = [shorten(name) for name in tuning_frames.tuning_one(record) if name not in few]
    if single:
        sentences.append(f"Only one hyperparameter is tuned by {listed(single)}.")
    left_out = " ".join(sentences)
    frame = tuning_frames.importance_frame(record, trials)
    chart = Importances(frame=frame, left_out=left_out, styles=styles) if len(frame) else None
    ranked = " Trials are ranked within their tuning run." if record.study["tuning_runs"] > 1 else ""
    reason = left_out or "The scores do not separate the best tenth of the trials from the others."
    reason = reason if styles else "No hyperparameter is tuned."
    return _figure(Importances, chart, "tuning", reason[0].lower() + reason[1:], ranked)
