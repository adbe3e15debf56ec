"""Warnings: what a reader has to know before believing a verdict, one sentence each."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hpo.analysis.results import ConfigurationNumbers, StudyNumbers, Tuning
from hpo.analysis.verdicts import MIN_FIRM_PAIRS, MIN_PAIRS
from hpo.errors import plural
from hpo.report.range_ends import range_ends
from hpo.report.two_groups import group_warnings
from hpo.report.wording import escape, listed
from hpo.space import split_space
from hpo.tasks import metric_words
from hpo.trials import DIVERGED, PRUNED, count_by_cause, failure_text, sampler_of, trials_per_run

ENOUGH_SEEDS = 10
ENOUGH_TRIALS = 20  # of a configuration in one tuning run
ENOUGH_TRIALS_EACH = 10  # for each hyperparameter that the configuration tunes


def find_warnings(numbers: StudyNumbers) -> list[str]:
    """Every warning that applies to the study, the most serious first."""
    entries = numbers.configurations
    return [
        *_unfinished(entries),
        *(warning for entry in entries for warning in (*_trial_losses(entry, numbers), *_rerun_losses(entry, numbers))),
        *group_warnings(numbers),
        *(warning for entry in entries for warning in range_ends(entry)),
        *_protocol(numbers),
        *_seeds_and_runs(numbers),
        *_history(numbers),
    ]


def few_trials(definition: Mapping[str, Any], trials: int) -> str:
    """Which configurations have too few trials for what they tune, in one sentence; empty where none has.

    Args:
        trials: planned for each configuration and tuning run; a configuration's own number takes precedence.
    """
    if sampler_of(definition) == "grid":  # which tries all that it means to try
        return ""
    names_by_size: dict[tuple[int, int], list[str]] = {}
    needed, flag_helps = 0, True
    for entry in definition["configurations"]:
        planned, tuned = trials_per_run(entry, trials), len(split_space(entry["space"]).tuned)
        enough = max(ENOUGH_TRIALS, ENOUGH_TRIALS_EACH * tuned)
        if tuned and planned < enough:
            names_by_size.setdefault((planned, tuned), []).append(escape(entry["name"]))
            needed, flag_helps = max(needed, enough), flag_helps and not entry.get("trials")
    if not names_by_size:
        return ""
    have = [
        f"{listed(names)} {'has' if len(names) == 1 else 'have'} {planned} for {plural(tuned, 'hyperparameter')}"
        for (planned, tuned), names in names_by_size.items()
    ]
    return (
        f"Few trials per tuning run: {', '.join(have)}; with fewer than {ENOUGH_TRIALS}, or than {ENOUGH_TRIALS_EACH} "
        "for each hyperparameter, one more trial often changes the chosen setting: "
        f"plan {needed}{f' (--trials {needed})' if flag_helps else ''}"
    )


def _unfinished(entries: Sequence[ConfigurationNumbers]) -> Iterator[str]:
    trials = [
        f"{escape(entry.name)} {entry.tuning.finished} of {entry.tuning.planned}"
        for entry in entries
        if entry.tuning.finished + entry.tuning.failed < entry.tuning.planned
    ]
    if trials:
        yield f"Interim: trials finished so far: {', '.join(trials)}"
    reruns = [
        f"{escape(entry.name)} {entry.reruns.finished} of {entry.reruns.planned}"
        for entry in entries
        if entry.reruns.finished + len(entry.reruns.failed_seeds) < entry.reruns.planned
    ]
    if reruns:
        yield f"Interim: reruns finished so far: {', '.join(reruns)}; the verdict may still change"


def _trial_losses(entry: ConfigurationNumbers, numbers: StudyNumbers) -> Iterator[str]:
    name, tuning = escape(entry.name), entry.tuning
    causes = failure_text(count_by_cause(0, tuning.failed_attempts))
    if tuning.failed:  # trials fail for good only where tuning was stopped
        yield f"{name}: tuning was stopped; {plural(tuning.failed, 'trial')} failed for good ({causes})"
    elif causes:
        yield f"{name}: failed attempts of trials were retried ({causes})"
    tuning_runs = numbers.study["tuning_runs"]
    yield from (f"{name}: {sentence}" for sentence in _substitutes(tuning, tuning_runs))
    if tuning.diverged and len(tuning.substitutes) < tuning_runs:
        yield f"{name}: {tuning.diverged} of {plural(tuning.finished, 'trial')} diverged"
    if 0 < tuning.without_score < tuning.finished:
        yield f"{name}: the score of {tuning.without_score} of {plural(tuning.finished, 'trial')} is not finite"


def _substitutes(tuning: Tuning, tuning_runs: int) -> Iterator[str]:
    """Which chosen settings are not those of the best full-length trial, and why."""
    runs_by_cause: dict[str, list[int]] = {}
    for tuning_run, cause in tuning.substitutes.items():
        runs_by_cause.setdefault(cause, []).append(tuning_run)
    for cause, runs in runs_by_cause.items():
        of, setting = "", "the setting"
        if len(runs) < tuning_runs:
            of = f" of tuning run{'s' * (len(runs) > 1)} {listed(list(map(str, runs)))}"
            setting = "its setting" if len(runs) == 1 else "their settings"
        if cause == PRUNED:
            is_that = "are those of pruned trials" if setting == "their settings" else "is that of a pruned trial"
            yield f"no full-length trial{of} has a score; {setting} {is_that}"
        else:
            none = f"all trials{of} diverged" if cause == DIVERGED else f"no trial{of} has a finite score"
            yield f"{none}; {setting} {'were' if setting == 'their settings' else 'was'} chosen arbitrarily"


def _rerun_losses(entry: ConfigurationNumbers, numbers: StudyNumbers) -> Iterator[str]:
    name, reruns = escape(entry.name), entry.reruns
    if reruns.diverged_seeds:
        counted = all(math.isfinite(reruns.metric_values[seed]) for seed in reruns.diverged_seeds)
        effect = "counted with the value of an untrained network" if counted else "its comparisons have no verdict"
        diverged = plural(len(reruns.diverged_seeds), "rerun")
        yield f"{name}: {diverged} diverged ({_seeds(reruns.diverged_seeds)}); {effect}"
    for metric, seeds in _undefined_metrics(entry, numbers).items():
        effect = "its comparisons have no verdict" if metric == numbers.metric.name else "left out of its numbers"
        yield (
            f"{name}: {escape(metric_words(metric))} is not finite for {plural(len(seeds), 'rerun')} "
            f"({_seeds(seeds)}), although training did not diverge; {effect}"
        )
    causes = failure_text(count_by_cause(0, reruns.failed_attempts))
    if entry.tuning.failed:
        return  # its reruns failed with it
    if reruns.failed_seeds:
        failed = plural(len(reruns.failed_seeds), "rerun")
        yield f"{name}: {failed} failed for good ({causes}); {_seeds(reruns.failed_seeds)} left out of all pairs"
    elif causes:
        yield f"{name}: failed attempts of reruns were retried ({causes})"


def _undefined_metrics(entry: ConfigurationNumbers, numbers: StudyNumbers) -> dict[str, list[int]]:
    """Test metrics that are not finite for some reruns that did not diverge: name → their seeds."""
    reruns = entry.reruns
    trained = reruns.metric_values.keys() - set(reruns.diverged_seeds)
    undefined = {f"test_{name}": trained - values.keys() for name, values in reruns.custom_metrics.items()}
    undefined |= {numbers.metric.name: set(reruns.undefined_seeds)}
    return {name: sorted(seeds) for name, seeds in undefined.items() if seeds}


def _protocol(numbers: StudyNumbers) -> Iterator[str]:
    definition = numbers.definition
    trials = {name: number for name, number in numbers.trials_per_run.items() if name in numbers.tuned}
    if len(set(trials.values())) > 1:
        yield f"Unequal trial budgets: {_amounts(trials)}"
    if few := few_trials(definition, numbers.study["trials"]):
        yield few
    if definition["tuning_epochs"] != definition["epochs"]:
        yield f"Tuned for {plural(definition['tuning_epochs'], 'epoch')}, rerun for {definition['epochs']}"
    if "pruner" in definition:
        yield "Trials were pruned by early scores, which is biased against configurations that learn slowly"
        epochs = {entry.name: entry.tuning.epochs for entry in numbers.configurations if entry.name in numbers.tuned}
        if len(set(epochs.values())) > 1:
            yield f"Unequal numbers of tuning epochs because of pruning: {_amounts(epochs)}"
    if definition["score_epoch"] == "best":
        yield "The tuning score is that of the best epoch, which favours noisy curves"


def _seeds_and_runs(numbers: StudyNumbers) -> Iterator[str]:
    runs, seeds = numbers.study["tuning_runs"], numbers.study["seeds"]
    units = seeds if runs == 1 else runs
    if units < ENOUGH_SEEDS and (runs == 1 or runs >= MIN_PAIRS):
        # After a single tuning run all verdicts are tentative, which the next warning says.
        few = f"Fewer than {ENOUGH_SEEDS} {numbers.unit}s ({units}) detect only large differences"
        if 1 < runs < MIN_FIRM_PAIRS:
            flags = f"--tuning-runs {MIN_FIRM_PAIRS}{' --seeds 20' if seeds < 20 else ''}"
            few += (
                f', and with fewer than {MIN_FIRM_PAIRS} even these are only tentatively "better" or "worse" ({flags})'
            )
        yield few
    if runs == 1:
        yield (
            "Conditional on one tuning run: another one may choose other settings, so every verdict is tentative; "
            f"tune three times (--tuning-runs 3 --seeds {3 * seeds})"
        )
    elif runs < MIN_PAIRS:
        yield f"Only {runs} tuning runs: a verdict needs at least {MIN_PAIRS}"


def _history(numbers: StudyNumbers) -> Iterator[str]:
    """What was changed after a report, and how often the test set was read."""
    for note in numbers.study.get("notes") or []:
        event = note["event"]
        if "added" in note:
            yield _added(note, numbers)
        elif "order" in note:  # which only matters to those who run it again
            continue
        elif " raised from " not in event or "after a report" in event:
            yield escape(event[:1].upper() + event[1:])
    times = {entry.name: entry.reruns.rounds_read for entry in numbers.configurations}
    several = [f"{escape(name)} {number} times" for name, number in times.items() if number > 1]
    if several:
        yield f"The test set was read more than once: {', '.join(several)}; only the newest reruns are used"


def _added(note: Mapping[str, Any], numbers: StudyNumbers) -> str:
    names, date = [escape(name) for name in note["added"]], datetime.fromtimestamp(note["time"], UTC)
    were = "Configuration {} was" if len(names) == 1 else "Configurations {} were"
    how = f"tuned and rerun in study {escape(note['from'])} and merged into this" if "from" in note else "added to the"
    after = ", after a report" if "after a report" in note["event"] else ""
    return (
        f"{were.format(listed(names))} {how} study on {date:%Y-%m-%d} (UTC){after}; Holm's correction is "
        f"over all {plural(len(numbers.comparisons), 'comparison')}, so verdicts of earlier reports may have changed"
    )


def _amounts(values: Mapping[str, int]) -> str:
    """ "AdamW 8, GNVR 20"."""
    return ", ".join(f"{escape(name)} {value:,}" for name, value in values.items())


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
