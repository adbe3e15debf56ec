"""Drawings: the eight figures of a report, each as numbers to draw or as a sentence that says why there are none."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import pandas as pd

from hpo.analysis.metric import Metric
from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers
from hpo.analysis.selection import rerun_curves
from hpo.analysis.verdicts import by_tuning_run
from hpo.errors import plural
from hpo.report import figures, tuning_frames
from hpo.report.formatting import listed

Section = Literal["results", "analysis", "tuning"]
Styles = dict[str, figures.Style]


class Figure(NamedTuple):
    """A figure's place in a report.

    Attributes:
        section: the part of the report that it stands in. sentence: said in its place where there is no `info`.
        info: what `figures.draw_plotly` takes, and `figures.draw_png` where `still`.
    """

    number: int
    slug: str
    title: str
    section: Section
    caption: str
    sentence: str
    info: figures.Info | None

    @property
    def still(self) -> bool:
        """Whether the Markdown shows it as a PNG."""
        return self.number <= 4

    @property
    def path(self) -> str:
        """Where its PNG lies, from the report's folder."""
        return f"figures/{self.number}-{self.slug}.png"


def plan_figures(record: Record, numbers: StudyNumbers) -> list[Figure]:
    """The report's eight figures, in order; works at every moment of a study."""
    styles, scored = _styles(numbers), tuning_frames.scored_trials(record)
    return [
        *plan_stills(record, numbers),
        _labels(record, numbers, styles),
        *_trials(record, numbers, styles, scored),
        _importances(record, styles, scored),
    ]


def plan_stills(record: Record, numbers: StudyNumbers) -> list[Figure]:
    """The first four figures alone: those that are small and quick, and that Markdown shows."""
    styles = _styles(numbers)
    return [*_by_epoch(record, numbers, styles), *_paired(numbers, styles)]


def _styles(numbers: StudyNumbers) -> Styles:
    return figures.assign_styles([entry.name for entry in numbers.configurations], numbers.baseline.name)


def drawn(info: Any, section: Section, ending: str = "") -> Figure:
    """A figure that there is something to draw for; `ending` goes behind its caption."""
    return Figure(info.number, info.slug, info.title, section, info.caption + ending, "", info)


def _by_epoch(record: Record, numbers: StudyNumbers, styles: Styles) -> Iterator[Figure]:
    judged = numbers.metric
    validated = f"validation_{judged.name.removeprefix('test_')}"
    shown = Metric(validated, judged.direction, judged.share)
    for number, title, compute, metric in (
        (1, "Training loss", figures.training_loss, "train_loss"),
        (2, shown.label.capitalize(), partial(figures.validation_metric, metric=shown), validated),
    ):
        curves = rerun_curves(record, metric)
        if curves.empty:
            slug = title.lower().replace(" ", "-")
            yield Figure(number, slug, title, "results", "", _no_curve(numbers), None)
        else:
            yield drawn(compute(curves, styles), "results", _seeds_drawn(numbers))


def _labels(record: Record, numbers: StudyNumbers, styles: Styles) -> Figure:
    clean, noisy = (rerun_curves(record, f"{kind}_labels_fitted") for kind in ("clean", "noisy"))
    if len(clean) or len(noisy):
        return drawn(figures.labels_fitted(clean, noisy, styles), "analysis", _seeds_drawn(numbers))
    changed = numbers.samples.changed_labels
    sentence = "no training label was changed." if changed and not any(changed.values()) else _no_curve(numbers)
    return Figure(5, "labels-fitted", "Clean and noisy labels fitted", "analysis", "", sentence, None)


def _no_curve(numbers: StudyNumbers) -> str:
    if any(entry.reruns.finished for entry in numbers.configurations):
        return "no finished rerun has a value to draw."
    return "it appears with the first finished rerun."


def _seeds_drawn(numbers: StudyNumbers) -> str:
    """What else a reader has to know about the seeds that a mean curve and its band are of."""
    runs = numbers.study["tuning_runs"]
    several = f" Seeds of all {runs} tuning runs, whose settings may differ." if runs > 1 else ""
    diverged = sum(len(entry.reruns.diverged_seeds) for entry in numbers.configurations)
    return several + (f" The curves of {plural(diverged, 'diverged rerun')} end early." if diverged else "")


def _paired(numbers: StudyNumbers, styles: Styles) -> Iterator[Figure]:
    metric, tuning_runs, baseline = numbers.metric, numbers.study["tuning_runs"], numbers.baseline
    rows = []
    for entry in numbers.configurations:
        if entry is baseline:
            continue
        sides = (entry.reruns.metric_values, baseline.reruns.metric_values)
        mine, other = sides if tuning_runs == 1 else by_tuning_run(*sides, entry.reruns.tuning_run_by_seed)
        first = 0 if tuning_runs == 1 else 1  # tuning runs are counted from 1
        rows += [(entry.name, key + first, other[key], mine[key]) for key in sorted(mine.keys() & other.keys())]
    pairs = pd.DataFrame(rows, columns=["configuration", "unit", "baseline", "rival"]).dropna()
    unit = "seed" if tuning_runs == 1 else "tuning run"
    if len(pairs):
        yield drawn(figures.paired_slopes(pairs, styles, metric, baseline.name, unit), "results")
    else:
        sentence = f"it appears with the first {unit} that the baseline and another configuration both have."
        yield Figure(3, "paired-slopes", f"Pairs, {unit} by {unit}", "results", "", sentence, None)
    differences = plan_differences(numbers, styles)
    if differences is not None:
        yield drawn(differences, "results")
    else:
        sentence = f"it appears with the second {unit} that the baseline and another configuration both have."
        yield Figure(4, "differences", "Differences from the baseline", "results", "", sentence, None)


def plan_differences(numbers: StudyNumbers, styles: Styles) -> figures.Forest | None:
    """Every rival's difference that has an interval; None where none has."""
    found = [(rival.name, rival.verdict.comparison) for rival in numbers.rivals]
    intervals = [(name, *made.interval, made.mean, made.n) for name, made in found if made.n > 1]
    if not intervals:
        return None
    frame = pd.DataFrame(intervals, columns=["configuration", "low", "high", "middle", "pairs"])
    return figures.forest(frame, styles, numbers.metric, numbers.baseline.name, numbers.definition["margin"])


def _trials(record: Record, numbers: StudyNumbers, styles: Styles, scored: tuning_frames.Scored) -> Iterator[Figure]:
    score = str(numbers.definition["score"])
    share = score in ("validation_accuracy", "noisy_labels_fitted", "noisy_labels_recovered")
    metric = Metric(score, numbers.definition["direction"], share)
    history = tuning_frames.history_frame(scored)
    finished = any(entry.tuning.finished for entry in numbers.configurations)
    lacking = "no finished trial has a score." if finished else "it appears with the first finished trial."
    if len(history):
        lines, expected = tuning_frames.best_lines(history, record), tuning_frames.all_random(record)
        yield drawn(figures.tuning_history(history, lines, styles, metric, expected), "tuning")
    else:
        yield Figure(6, "tuning-history", "Tuning history", "tuning", "", lacking, None)
    frame, tuned = tuning_frames.slice_frame(scored), tuning_frames.tuned(record)
    frame = frame[frame["hyperparameter"].isin(tuned)]
    if len(frame):
        yield drawn(figures.slices(frame, tuned, styles, metric), "tuning")
    else:
        sentence = lacking if tuned else "no hyperparameter is tuned."
        yield Figure(7, "slices", "Score by hyperparameter", "tuning", "", sentence, None)


def _importances(record: Record, styles: Styles, scored: tuning_frames.Scored) -> Figure:
    frame = tuning_frames.importance_frame(record, scored)
    few = {name: len(trials) for name, trials in scored.items() if len(trials) < tuning_frames.ENOUGH_TRIALS}
    have = ", ".join(f"{figures.shorten(name)} has {trials}" for name, trials in few.items())
    rule = (
        f"They are shown from {tuning_frames.ENOUGH_TRIALS} finished trials of a configuration on; {have}."
        if few
        else ""
    )
    lone = [figures.shorten(name) for name in tuning_frames.tuning_one(record) if name not in few]
    if lone:
        rule += f"{' ' if rule else ''}One hyperparameter alone is tuned by {listed(lone)}."
    if len(frame):
        ending = " Trials are ranked within their tuning run." if record.study["tuning_runs"] > 1 else ""
        return drawn(figures.importances(frame, styles, rule), "tuning", ending)
    sentence = rule or "The scores do not tell the best tenth of the trials apart."
    return Figure(8, "importances", "Importances", "tuning", "", sentence[0].lower() + sentence[1:], None)
