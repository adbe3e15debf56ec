"""Tables of what was tuned and how it went: search spaces, environments, trials, and failures (T6)."""

from collections.abc import Mapping
from typing import Any

from hpo.analysis.metric import score_of
from hpo.analysis.results import ConfigurationNumbers, StudyNumbers
from hpo.report.formatting import NOTHING, bound, metric_value
from hpo.report.setting_words import best_settings, compared_score, fixed_for_all
from hpo.report.tables import Table
from hpo.report.wording import configuration_options, describe, escape, plain_name, symbol, value_words
from hpo.search_space import Bounds, Choice
from hpo.space import split_space
from hpo.trials import CAUSES, count_by_cause


def spaces(numbers: StudyNumbers) -> Table:
    """Configurations by hyperparameters: ranges, and fixed values other than those of `fixed_for_all`.

    A hyperparameter that most configurations have gets a column; the others share the last one with parameter groups,
    averages and schedules.
    """
    entries = numbers.definition["configurations"]
    fixed = fixed_for_all(numbers)
    cells = [{name: cell for name, cell in _space(entry["space"]).items() if name not in fixed} for entry in entries]
    names = list(dict.fromkeys(name for row in cells for name in row))
    columns = [name for name in names if 2 * sum(name in row for row in cells) > len(cells)]
    others = [name for name in names if name not in columns]
    options = [configuration_options(entry) for entry in entries]
    rows = []
    for entry, row, own in zip(entries, cells, options, strict=True):
        parts = [escape(describe(entry[part])) for part in ("optimizer", "regularizer")]
        hyperparameters = [f"{escape(_name(name))} {row[name]}" for name in others if name in row]
        further = "; ".join([*hyperparameters, *map(escape, own)]) or NOTHING
        shared = [row.get(name, NOTHING) for name in columns]
        rows.append([escape(entry["name"]), *parts, *shared, *([further] if others or any(options) else [])])
    header = ["configuration", "optimizer", "regularizer", *(escape(_name(name)) for name in columns)]
    return Table([*header, *(["further"] if others or any(options) else [])], rows)


def _space(space: Mapping[str, Any]) -> dict[str, str]:
    """Hyperparameter → its range or fixed value in words, in the space's order."""
    split = split_space(space)
    words = {name: f"{escape(value_words(value))}, fixed" for name, value in split.fixed.items()}
    words |= {name: _bounds(bounds) for name, bounds in split.tuned.items()}
    for name, condition in split.conditions.items():
        where = f"{_name(condition.name)} is {' or '.join(map(value_words, condition.values))}"
        words[name] += " " + escape(f"where {where}, else {value_words(condition.otherwise)}")
    return {name: words[name] for name in space}


def _bounds(bounds: Bounds) -> str:
    if isinstance(bounds, Choice):
        *first, last = map(value_words, bounds.values)
        return escape(f"{', '.join(first)} or {last}")
    kinds = [word for word, applies in (("integer", bounds.integer), ("log", bounds.log)) if applies]
    return ", ".join([f"{bound(bounds.low)} to {bound(bounds.high)}", *kinds])


def _name(name: str) -> str:
    """A Greek letter where the hyperparameter has one, else its name in words."""
    return plain_name(name) if symbol(name).isascii() else symbol(name)


def environments(numbers: StudyNumbers) -> Table:
    """The distinct devices and versions that the runs used."""
    keys = list(dict.fromkeys(key for entry in numbers.environments for key in entry))
    rows = [[escape(str(entry.get(key) or NOTHING)) for key in keys] for entry in numbers.environments]
    return Table([escape(key) for key in keys], rows)


def tuning(numbers: StudyNumbers) -> Table:
    """The trials of every configuration; how many were pruned only where the study prunes."""
    pruning = "pruner" in numbers.definition
    unscored = any(entry.tuning.without_score for entry in numbers.configurations)
    tuning_runs = range(1, numbers.study["tuning_runs"] + 1)
    several = len(tuning_runs) > 1 and any(entry.tuning.best for entry in numbers.configurations)
    metric = score_of(numbers.definition)
    points = " (points)" if metric.share and all(entry.choice.relative for entry in numbers.configurations) else ""
    header = [
        "configuration", "finished", "diverged", *(["pruned"] if pruning else []),
        *(["without a finite score"] if unscored else []), "failed for good", "best score",
        *([f"compared by{points}"] if several else []), "best setting", "position in the range",
    ]  # fmt: skip
    rows = []
    for entry in numbers.configurations:
        trials = entry.tuning
        scores = {best.tuning_run: metric_value(best.score, metric) for best in trials.best}
        settings = {best.tuning_run: best.setting for best in trials.best}
        positions = [f"{symbol(name)} {position.position:.2f}" for name, position in trials.range_positions.items()]
        rows.append(
            [
                escape(entry.name),
                f"{trials.finished} of {trials.planned}",
                str(trials.diverged),
                *([str(trials.pruned)] if pruning else []),
                *([str(trials.without_score)] if unscored else []),
                str(trials.failed),
                "; ".join(scores.get(run, NOTHING) for run in tuning_runs) if scores else NOTHING,
                *([_compared(entry, numbers, tuning_runs)] if several else []),
                escape(best_settings(entry, [settings.get(run, {}) for run in tuning_runs]))
                if entry.name in numbers.tuned
                else "nothing is tuned",
                escape(", ".join(positions) or NOTHING),
            ]
        )
    return Table(header, rows, range(1, len(header) - 2))


def _compared(entry: ConfigurationNumbers, numbers: StudyNumbers, tuning_runs: range) -> str:
    return "; ".join(compared_score(entry, run, numbers) for run in tuning_runs) if entry.tuning.best else NOTHING


def failures(numbers: StudyNumbers) -> Table:
    """T6: runs that diverged, failed attempts by cause, runs that failed for good; a row where there are any."""
    counted = []
    for entry in numbers.configurations:
        trials, reruns = entry.tuning, entry.reruns
        counted.append((entry.name, "trials", count_by_cause(trials.diverged, trials.failed_attempts), trials.failed))
        causes = count_by_cause(len(reruns.diverged_seeds), reruns.failed_attempts)
        counted.append((entry.name, "reruns", causes, len(reruns.failed_seeds)))
    columns = dict.fromkeys([*CAUSES, *(cause for _, _, causes, _ in counted for cause in causes)])
    rows = [
        [escape(name), runs, *(str(causes.get(cause, 0)) for cause in columns), str(failed)]
        for name, runs, causes, failed in counted
        if causes or failed
    ]
    header = ["configuration", "runs", *map(escape, columns), "failed for good"]
    return Table(header, rows, range(2, len(header)))


TABLES = (spaces, environments, tuning, failures)
