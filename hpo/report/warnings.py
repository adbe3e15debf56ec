"""Cautions: what a reader has to know before believing the verdict, one sentence each."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from hpo.analysis.metric import Metric
from hpo.analysis.results import Reruns, StudyNumbers
from hpo.analysis.verdicts import MIN_FIRM_PAIRS, MIN_PAIRS
from hpo.errors import plural
from hpo.report.formatting import escape, listed, plain_name
from hpo.search_space import split_space
from hpo.trials import count_by_cause, failure_text

ENOUGH_SEEDS = 10
ENOUGH_TRIALS = 20  # of a configuration in one tuning run
ENOUGH_TRIALS_EACH = 10  # for each hyperparameter that the configuration tunes


def cautions(numbers: StudyNumbers) -> list[str]:
    """Every warning that the study has earned, the gravest first."""
    found: list[str] = []
    for source in (_unfinished, _losses, _searches, _protocol, _reading):
        found += source(numbers)
    return found


def few_trials(definition: Mapping[str, Any], trials: int) -> str:
    """Which configurations have too few trials for what they tune, in one sentence; empty where none has.

    Args:
        trials: planned for each configuration and tuning run; a configuration's own number comes first.
    """
    short: dict[tuple[int, int], list[str]] = {}
    needed, flag_helps = 0, True
    for entry in definition["configurations"]:
        planned, tuned = entry.get("trials") or trials, len(split_space(entry["space"])[0])
        enough = max(ENOUGH_TRIALS, ENOUGH_TRIALS_EACH * tuned)
        if tuned and planned < enough:
            short.setdefault((planned, tuned), []).append(escape(entry["name"]))
            needed, flag_helps = max(needed, enough), flag_helps and not entry.get("trials")
    if not short:
        return ""
    found = [
        f"{listed(names)} {'has' if len(names) == 1 else 'have'} {planned} for {plural(tuned, 'hyperparameter')}"
        for (planned, tuned), names in short.items()
    ]
    return (
        f"Few trials a tuning run: {', '.join(found)}; below {ENOUGH_TRIALS}, or {ENOUGH_TRIALS_EACH} for each "
        "hyperparameter, one more trial often changes the setting chosen: "
        f"plan {needed}{f' (--trials {needed})' if flag_helps else ''}"
    )


def _unfinished(numbers: StudyNumbers) -> Iterator[str]:
    entries = numbers.configurations
    trials = [(entry.name, entry.tuning.finished, entry.tuning.planned, entry.tuning.failed) for entry in entries]
    short = [f"{escape(name)} {done} of {planned}" for name, done, planned, failed in trials if done < planned - failed]
    if short:
        yield f"Interim: trials finished so far: {', '.join(short)}"
    missing = [
        f"{escape(entry.name)} {entry.reruns.finished} of {entry.reruns.planned}"
        for entry in entries
        if entry.reruns.finished + len(entry.reruns.failed_seeds) < entry.reruns.planned
    ]
    if missing:
        yield f"Interim: reruns finished so far: {', '.join(missing)}; the verdict may still change"


def _losses(numbers: StudyNumbers) -> Iterator[str]:
    for entry in numbers.configurations:
        name, tuning, reruns = escape(entry.name), entry.tuning, entry.reruns
        of_trials, of_reruns = (failure_text(count_by_cause(0, part.failed_attempts)) for part in (tuning, reruns))
        if tuning.failed:  # slots fail for good only where the configuration was given up
            yield f"{name}: tuning was given up, {plural(tuning.failed, 'trial')} failed for good ({of_trials})"
        elif of_trials:
            yield f"{name}: attempts of trials failed and were made again ({of_trials})"
        if tuning.diverged and tuning.diverged == tuning.finished:
            yield f"{name}: every trial diverged, so that no score chose its setting"
        elif tuning.pruned and tuning.pruned + tuning.diverged == tuning.finished:
            yield f"{name}: no trial of full length went well, so that a pruned one chose its setting"
        elif tuning.without_score and tuning.without_score + tuning.diverged == tuning.finished:
            yield f"{name}: no trial has a finite score, so that none chose its setting"
        elif tuning.diverged:
            yield f"{name}: {tuning.diverged} of {plural(tuning.finished, 'trial')} diverged"
        if 0 < tuning.without_score < tuning.finished:
            yield f"{name}: the score of {tuning.without_score} of {plural(tuning.finished, 'trial')} is not finite"
        if reruns.diverged_seeds:
            counted = all(math.isfinite(reruns.metric_values[seed]) for seed in reruns.diverged_seeds)
            ending = "counted with the value of an untrained network" if counted else "left its comparisons undecided"
            yield (
                f"{name}: {plural(len(reruns.diverged_seeds), 'rerun')} diverged "
                f"({_seeds(reruns.diverged_seeds)}) and {ending}"
            )
        for metric, seeds in _undefined(reruns, numbers.metric).items():
            judged = metric == numbers.metric.name
            ending = "left its comparisons undecided" if judged else "are left out of its numbers"
            yield (
                f"{name}: {escape(metric.replace('_', ' '))} is not finite for {plural(len(seeds), 'rerun')} "
                f"({_seeds(seeds)}), which did not diverge and {ending}"
            )
        if tuning.failed:
            continue  # its reruns failed with it
        if reruns.failed_seeds:
            lost = plural(len(reruns.failed_seeds), "rerun")
            yield f"{name}: {lost} failed for good ({of_reruns}), so that {_seeds(reruns.failed_seeds)} left every pair"
        elif of_reruns:
            yield f"{name}: attempts of reruns failed and were made again ({of_reruns})"


def _undefined(reruns: Reruns, judged: Metric) -> dict[str, list[int]]:
    """Test metrics that are not finite for some reruns that did not diverge: name → their seeds."""
    whole = reruns.test_accuracy.keys() - set(reruns.diverged_seeds)
    lost = {f"test_{name}": whole - values.keys() for name, values in reruns.custom_metrics.items()}
    lost |= {judged.name: set(reruns.undefined_seeds)}
    return {name: sorted(seeds) for name, seeds in lost.items() if seeds}


def _searches(numbers: StudyNumbers) -> Iterator[str]:
    for entry in numbers.configurations:
        for name, place in entry.tuning.range_positions.items():
            at = f"median place {place.position:.2f} of the best {place.trials} trials"
            if place.off:
                yield (
                    f"{escape(entry.name)} tuned itself off: {plain_name(name)} sits at the end of its range "
                    f"where it has no effect ({at})"
                )
            elif place.end:
                yield (
                    f"{escape(entry.name)}: {plain_name(name)} sits at the {place.end} end of its range ({at}); "
                    "a wider range may change the result"
                )


def _protocol(numbers: StudyNumbers) -> Iterator[str]:
    definition = numbers.definition
    planned = {entry.name: entry.tuning.planned // numbers.study["tuning_runs"] for entry in numbers.configurations}
    if len(set(planned.values())) > 1:
        yield "Unequal trial budgets: " + ", ".join(f"{escape(name)} {trials}" for name, trials in planned.items())
    if few := few_trials(definition, numbers.study["trials"]):
        yield few
    if definition["tuning_epochs"] != definition["epochs"]:
        yield f"Tuned for {plural(definition['tuning_epochs'], 'epoch')}, rerun for {definition['epochs']}"
    if "pruner" in definition:
        yield "Pruned by early scores: tuning may have cost a configuration that learns late more than another"
        epochs = {entry.name: entry.tuning.epochs for entry in numbers.configurations}
        if len(set(epochs.values())) > 1:
            yield "Unequal epochs of tuning, by pruning: " + ", ".join(
                f"{escape(name)} {trained:,}" for name, trained in epochs.items()
            )
    if definition["score_epoch"] == "best":
        yield "The tuning score is that of the best epoch, which flatters noisy curves"
    tuning_runs = numbers.study["tuning_runs"]
    units, unit = (numbers.study["seeds"], "seeds") if tuning_runs == 1 else (tuning_runs, "tuning runs")
    if units < ENOUGH_SEEDS and (tuning_runs == 1 or tuning_runs >= MIN_PAIRS):
        # With one tuning run every verdict is tentative, which a warning of its own says below.
        firm = tuning_runs == 1 or tuning_runs >= MIN_FIRM_PAIRS
        ending = "" if firm else f'; "better" and "worse" are tentative with fewer than {MIN_FIRM_PAIRS}'
        yield f"Fewer than {ENOUGH_SEEDS} {unit} ({units}) find only large differences{ending}"
    for note in numbers.study.get("notes") or []:
        if " raised from " not in note["event"] or "after a report" in note["event"]:
            yield escape(note["event"][:1].upper() + note["event"][1:])


def _reading(numbers: StudyNumbers) -> Iterator[str]:
    reads = {entry.name: entry.reruns.rounds_read for entry in numbers.configurations}
    several = [f"{escape(name)} {times} times" for name, times in reads.items() if times > 1]
    if several:
        yield f"The test set was read more than once: {', '.join(several)}; only the newest reruns are used"
    if numbers.study["tuning_runs"] == 1:
        yield (
            "Conditional on one tuning run: another one may choose other settings, so every verdict is tentative; "
            f"tune three times (--tuning-runs 3 --seeds {3 * numbers.study['seeds']})"
        )
    elif numbers.study["tuning_runs"] < MIN_PAIRS:
        yield f"Only {numbers.study['tuning_runs']} tuning runs: fewer than three give no verdict"


def _seeds(seeds: list[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
