"""Checks of a study and its configurations when they are created; every error says which field to change, and how."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hpo.diagnostics import chosen_diagnostics
from hpo.errors import UsageError, did_you_mean, is_fraction_below_one, plural, require, require_whole
from hpo.search_space import Choice, Range, When, is_plain
from hpo.stages import Stages, batch_sizes_of
from hpo.study.directions import check_directions
from hpo.study.planned_comparisons import check_against, check_planned_comparisons
from hpo.study.pruner import check_pruner
from hpo.study.sampler import check_sampler
from hpo.tasks import CLASSIFICATION, TASKS, Task, check_loss
from hpo.user_code.metrics import check_metrics

LABEL_FITS = ("noisy_labels_fitted", "noisy_labels_recovered")
DATASET = ("hpo.data.source", "Dataset")  # found by its name, since its module loads torch
STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
MAX_TUNING_SEEDS = 1000  # the seeds of the reruns begin there
TUNING_RUNS = 3  # the fewest with which verdicts include the luck of tuning


def planned_tuning_runs(tuning_runs: int | None, seeds: int) -> int:
    """How many tuning runs a study with so many seeds plans: by default 3, or fewer where each would have no rerun."""
    return min(TUNING_RUNS, seeds) if tuning_runs is None else tuning_runs


def check_configuration(configuration: Any) -> None:
    """Raises UsageError unless the configuration's fields are valid by themselves."""
    name, space = configuration.name, configuration.space
    owner = f"configuration {name!r}"
    valid = isinstance(name, str) and name and "/" not in name and name == name.strip()
    require(bool(valid), "the name of a configuration", name, "one with characters, no '/' and no blanks at its ends")
    require(isinstance(space, Mapping), f"{owner}: space", space, "a dict of hyperparameters and their ranges")
    for parameter, entry in space.items():
        expected = "log_range(low, high), linear_range(low, high), integers(low, high), choice(…), when(…) or a value"
        staged = parameter == "batch_size" and isinstance(entry, Stages)
        valid = staged or is_plain(entry) or isinstance(entry, Range | Choice | When)
        require(valid, f"{owner}: space[{parameter!r}]", entry, expected)
    if configuration.trials is not None:
        require_whole(f"{owner}: trials", configuration.trials)
    listed = isinstance(configuration.first, list | tuple)
    valid = listed and all(isinstance(setting, Mapping) and setting for setting in configuration.first)
    require(valid, f"{owner}: first", configuration.first, "a list of settings, such as [{'learning_rate': 0.001}]")
    _require_choice(f"{owner}: prediction", configuration.prediction, "better", "worse", "equivalent", None)
    check_against(configuration)


def check_study(study: Any) -> None:
    """Raises UsageError unless the study's fields are valid and fit together."""
    _check_budget(study)
    _check_warmup(study)
    if study.name:
        check_study_name(study.name)
    _check_configurations([configuration.name for configuration in study.configurations], study.baseline)
    check_planned_comparisons(study)
    _check_parts(study)
    _check_score(study)
    _check_training(study)
    chosen_diagnostics(study.diagnostics, study.data.task)
    number = isinstance(study.margin, int | float) and study.margin > 0
    require(number, "margin", study.margin, "a number above 0, such as 0.01 for one point")


def check_study_name(name: str) -> None:
    """Raises UsageError unless a study may have this name."""
    require(bool(STUDY_NAME.fullmatch(name)), "name", name, "a name of letters, digits, '_', '.', '+' and '-'")
    expected = "another name, since reports of comparisons have such names"
    require(not name.startswith("compare-"), "name", name, expected)


def first_lookalikes(names: Iterable[str], displayed: Callable[[str], str]) -> tuple[str, str] | None:
    """The first two names that read the same in a report, if any; `displayed` gives a name as reports show it."""
    seen: dict[str, str] = {}
    for name in names:
        key = " ".join(displayed(name).split())
        if key in seen:
            return seen[key], name
        seen[key] = name
    return None


def _require_choice(name: str, value: object, *choices: str | None) -> None:
    *others, last = map(repr, choices)
    require(value in choices, name, value, f"{', '.join(others)} or {last}")


def _check_warmup(study: Any) -> None:
    warmup, epochs = getattr(study.schedule, "warmup_epochs", 0), min(study.epochs, study.tuning_epochs or study.epochs)
    if warmup > epochs:
        raise UsageError(f"schedule: warmup_epochs is {warmup:g} and a run has {epochs} epochs; shorten the warm-up")


def _check_budget(study: Any) -> None:
    if not isinstance(study.batch_size, Stages):
        require_whole("batch_size", study.batch_size)
    for name in ("epochs", "trials", "seeds", "seeds_per_trial", "tuning_runs", "tuning_epochs"):
        value = getattr(study, name)
        if value is not None or name not in ("tuning_runs", "tuning_epochs"):
            require_whole(name, value)
    tuning_runs = planned_tuning_runs(study.tuning_runs, study.seeds)
    tuning_seeds = tuning_runs * study.seeds_per_trial
    if tuning_seeds > MAX_TUNING_SEEDS:
        raise UsageError(
            f"tuning_runs × seeds_per_trial is {tuning_seeds} and there are {MAX_TUNING_SEEDS} tuning seeds; "
            "lower one of the two"
        )
    if tuning_runs > study.seeds:
        raise UsageError(
            f"tuning_runs is {tuning_runs} and seeds is {study.seeds}, so some tuning runs would have no rerun; "
            "give at least as many seeds, or a lower tuning_runs"
        )
    for configuration in study.configurations:
        trials = configuration.trials or study.trials
        if len(configuration.first) > trials:
            raise UsageError(
                f"configuration {configuration.name!r}: first has {len(configuration.first)} settings for "
                f"{plural(trials, 'trial')}; give at least as many trials"
            )
    if study.trial_timeout is not None:
        require(study.trial_timeout > 0, "trial_timeout", study.trial_timeout, "seconds above 0, or None")
    check_sampler(study.sampler, prunes=study.pruner is not None)
    check_pruner(study.pruner, study.tuning_epochs or study.epochs)


def _check_configurations(names: list[str], baseline: str) -> None:
    if len(names) < 2:
        raise UsageError("configurations has fewer than two entries; give a baseline and at least one rival")
    lookalikes = first_lookalikes(names, lambda name: unicodedata.normalize("NFKC", name))
    if lookalikes:
        one, other = lookalikes
        relation = f"named {one!r}" if one == other else f"that look alike, {one!r} and {other!r}"
        raise UsageError(f"configurations has two entries {relation}; rename one of them")
    hint = did_you_mean(str(baseline), names)
    require(baseline in names, "baseline", baseline, f"the name of one of the configurations: {', '.join(names)}{hint}")


def built_in_scores(task: Task) -> tuple[str, ...]:
    """The scores of a task besides custom metrics."""
    names = dict.fromkeys([task.primary, *task.metrics, "loss"])
    return (*(f"validation_{name}" for name in names), "train_loss", *(LABEL_FITS if task is CLASSIFICATION else ()))


def _check_score(study: Any) -> None:
    task = TASKS[study.data.task]
    check_metrics(study.metrics, task)
    scores = (*built_in_scores(task), *(f"validation_{name}" for name in study.metrics))
    hint = did_you_mean(str(study.score), scores)
    of_task = "" if task is CLASSIFICATION else f" for {task.words}"
    require(study.score in scores, "score", study.score, f"one of {', '.join(scores)}{of_task}{hint}")
    check_directions(study)
    _require_choice("score_epoch", study.score_epoch, "last", "best")


def _check_training(study: Any) -> None:
    require_whole("accumulate", study.accumulate)
    for size in batch_sizes_of(study.batch_size):
        if size % study.accumulate:
            raise UsageError(
                f"batch_size is {size}, which accumulate={study.accumulate} does not divide into equal micro-batches; "
                "choose a divisor of batch_size"
            )
    if isinstance(study.batch_size, Stages) and study.batch_size.pairs[-1][0] >= study.epochs:
        start = study.batch_size.pairs[-1][0]
        raise UsageError(f"batch_size changes after epoch {start}, but epochs is {study.epochs}; leave that stage out")
    _require_choice("last_batch", study.last_batch, "drop", "keep")
    if study.last_batch == "keep" and study.accumulate > 1:
        raise UsageError(
            "last_batch is 'keep' and accumulate is above 1, but an incomplete batch has no equal micro-batches; "
            "leave one of them out"
        )
    _require_choice("precision", study.precision, "float32", "bfloat16")
    smoothing = study.label_smoothing
    require(is_fraction_below_one(smoothing), "label_smoothing", smoothing, "a number from 0 up to but not 1")
    if study.loss is not None and not callable(study.loss):
        raise UsageError("loss is not callable; give a function (outputs, labels) -> losses, one per sample, or None")
    check_loss(study.loss, TASKS[study.data.task])
    if study.loss is not None and smoothing:
        raise UsageError(
            "label_smoothing and loss are both given; smooth the labels in your loss, as hpo.CrossEntropy does, or "
            "leave it out"
        )
    if smoothing and not TASKS[study.data.task].has_classes:
        words = TASKS[study.data.task].words
        raise UsageError(f"label_smoothing is {smoothing!r}, but the task is {words}, without classes; leave it out")


def _check_parts(study: Any) -> None:
    model = study.model
    if not callable(model) or (not isinstance(model, type) and hasattr(model, "parameters")):
        raise UsageError("model is not a function; give hpo.MLP(...) or a function that returns a new torch.nn.Module")
    if not _is_dataset(type(study.data)):
        if isinstance(study.data, type) and _is_dataset(study.data):
            raise UsageError(
                f"data is the class {study.data.__name__}; give an object of it, {study.data.__name__}(...)"
            )
        kind = type(study.data).__name__
        raise UsageError(f"data is of class {kind}; give hpo.Mnist1d(...) or an object of a subclass of hpo.Dataset")
    require(study.data.task in TASKS, "data: task", study.data.task, f"one of {', '.join(TASKS)}")


def _is_dataset(kind: type) -> bool:
    return any((base.__module__, base.__name__) == DATASET for base in kind.__mro__)
