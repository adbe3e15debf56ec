"""What a study is: the definition a person writes, frozen and validated, with no logic of its own."""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hpo.errors import UsageError, did_you_mean
from hpo.search_space import Range
from hpo.study.pruner import check_pruner
from hpo.user_code.metrics import check_metrics

Prediction = Literal["better", "worse", "equivalent"]
SCORES = ("validation_accuracy", "validation_loss", "train_loss", "noisy_labels_fitted", "noisy_labels_recovered")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
MOST_TUNING_SEEDS = 1000  # the reruns' seeds begin there
TUNING_RUNS = 3  # the fewest that let verdicts cover the luck of tuning


@dataclass(frozen=True)
class Configuration:
    """An optimizer, a regularizer and the space their hyperparameters are searched in.

    Attributes:
        name: what tables and figures call it; unique in its study.
        optimizer: a built-in name (`hpo list`) or an `hpo.Optimizer`.
        regularizer: a built-in name (`hpo list`) or an `hpo.Regularizer`.
        space: hyperparameter → `log_range`, `linear_range`, or a number to keep it fixed. What is left out takes
            the default of the optimizer or regularizer, which is a range or a number.
        trials: its own number of trials, where a published protocol gave it another budget than the rest.
        prediction: what the author expects against the baseline, stated before any run.
    """

    name: str
    optimizer: Any = "adamw"
    regularizer: Any = "none"
    space: Mapping[str, Range | float] = field(default_factory=dict)
    trials: int | None = None
    prediction: Prediction | None = None

    def __post_init__(self) -> None:
        where = f"configuration {self.name!r}"
        if not isinstance(self.name, str) or not self.name or "/" in self.name or self.name != self.name.strip():
            raise UsageError(f"{where}: a name needs at least one character, no '/' and no blanks at its ends")
        if not isinstance(self.space, Mapping):
            raise UsageError(f"{where}: space is {self.space!r}; give a dict of hyperparameters and their ranges")
        for name, entry in self.space.items():
            number = isinstance(entry, int | float) and not isinstance(entry, bool)
            if not isinstance(entry, Range) and not (number and math.isfinite(entry)):
                raise UsageError(
                    f"{where}: space[{name!r}] is {entry!r}; give log_range(low, high), "
                    "linear_range(low, high) or a finite number"
                )
        if self.trials is not None:
            _positive_whole(where, "trials", self.trials)
        if self.prediction not in (None, "better", "worse", "equivalent"):
            raise UsageError(
                f"{where}: prediction is {self.prediction!r}; give 'better', 'worse', 'equivalent' or None"
            )


@dataclass(frozen=True)
class Study:
    """A comparison of configurations on one data set and one network, under one budget.

    Attributes:
        data: a data set: `hpo.Mnist1d(...)` or a subclass of `hpo.Dataset` with a `load() -> hpo.Source`.
        model: a network: `hpo.MLP(...)` or any function of no arguments that returns a `torch.nn.Module`.
        configurations: two or more; `baseline` names the one that the others are compared with.
        batch_size, epochs: of every training run; `tuning_epochs` only where a published protocol tuned for
            another number of epochs than it reported.
        trials: settings tried for each configuration in each tuning run. seeds: reruns of each configuration, shared
            evenly by its tuning runs where their number divides it: 12 is 4 for each of 3.
        tuning_runs: how many times every configuration is tuned, independently. The means of the tuning runs are
            then compared, so that verdicts cover the luck of tuning; below 5, "better" and "worse" are tentative, with
            2 there is no verdict, and with 1 every verdict is tentative. None (default): 3, or as many as `seeds` if
            there are fewer.
        seeds_per_trial: models trained for each trial, whose mean score counts; they differ in their tuning seed.
        metrics: your own, by name: a function (outputs [N, ...], labels [N]) -> values [N], one finite number a sample.
            Their means stand in the curves as `validation_<name>` and in the report as `test_<name>`.
        score: the metric that tuning optimises: `validation_accuracy`, `validation_loss`, `validation_<name>` of
            one of yours, `train_loss`, `noisy_labels_fitted` or `noisy_labels_recovered`.
        direction: "maximize" or "minimize" the score; a loss is minimised and any other built-in one maximised by
            default, a metric of yours needs it.
        score_epoch: `"last"` (default) or `"best"`, the best epoch of the run, which flatters noisy curves.
        schedule: the learning rate's course, the same for every configuration (`hpo.Constant()`, `hpo.Cosine()`,
            `hpo.MultiStep(...)`), or a function (step, steps, steps_per_epoch) -> factor.
        label_smoothing: of the cross-entropy that is trained, from 0 up to but not 1.
        loss: a function of your own (outputs [N, ...], labels [N]) -> losses [N] in the place of cross-entropy.
            `train_loss` by epoch is the mean of what is trained, smoothing included; what evaluation reports, on
            training, validation and test data, is without smoothing.
        precision: `"bfloat16"` runs the networks in mixed precision; parameters and updates stay float32.
        channels_last: lay images out with their channels last, faster for a single network on CUDA.
        trial_timeout: seconds after which a run is given up; it is tried again before it counts as failed.
        pruner: stops trials that fall behind: `hpo.SuccessiveHalving(...)`, or a function of no arguments that returns
            a new pruner of Optuna's, such as `functools.partial(optuna.pruners.MedianPruner, n_warmup_steps=5)`. None
            (default) trains all trials to the end, as reruns always are. Judging by early epochs can harm one
            configuration more than another, and with it the comparison (`hpo bench pruning`).
        margin: the smallest difference that matters in the test metric that verdicts compare, in its own units: that
            of the validation metric which is the score, else accuracy (a fraction: 0.01 is one point).
        title, hypothesis: the author's words for the report.
        name: the study's name in the database; by default that of its file.
        defined_in: the module that `hpo.load` found it in, and its variant there: "hpo_study_rogc:noisy".
    """

    data: Any
    model: Callable[[], Any]
    configurations: tuple[Configuration, ...]
    baseline: str
    batch_size: int = 64
    epochs: int = 30
    tuning_epochs: int | None = None
    trials: int = 40
    seeds: int = 12
    tuning_runs: int | None = None
    seeds_per_trial: int = 1
    metrics: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    score: str = "validation_accuracy"
    direction: Literal["maximize", "minimize"] | None = None
    score_epoch: Literal["last", "best"] = "last"
    schedule: Any = None
    label_smoothing: float = 0.0
    loss: Any = None
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    trial_timeout: float | None = None
    pruner: Callable[[], Any] | None = None
    margin: float = 0.01
    title: str = ""
    hypothesis: str = ""
    name: str = ""
    defined_in: str = field(default="", repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.configurations, Iterable):
            raise UsageError("configurations is a single one; give a tuple of two or more")
        object.__setattr__(self, "configurations", tuple(self.configurations))
        for number in ("batch_size", "epochs", "trials", "seeds", "seeds_per_trial"):
            _positive_whole("the study", number, getattr(self, number))
        if self.tuning_runs is not None:
            _positive_whole("the study", "tuning_runs", self.tuning_runs)
        tuning_runs = planned_tuning_runs(self.tuning_runs, self.seeds)
        if tuning_runs * self.seeds_per_trial > MOST_TUNING_SEEDS:
            raise UsageError(
                f"tuning_runs × seeds_per_trial is {tuning_runs * self.seeds_per_trial}; tuning has "
                f"{MOST_TUNING_SEEDS} seeds of its own, so lower one of them"
            )
        if tuning_runs > self.seeds:
            raise UsageError(
                f"tuning_runs is {tuning_runs} and seeds is {self.seeds}, so that some tuning runs would "
                "have no rerun; give at least as many seeds, or a lower tuning_runs"
            )
        if self.tuning_epochs is not None:
            _positive_whole("the study", "tuning_epochs", self.tuning_epochs)
        if self.name and not NAME.fullmatch(self.name):
            raise UsageError(f"name is {self.name!r}; use letters, digits, '_', '.', '+' and '-'")
        if self.name.startswith("compare-"):
            raise UsageError(f"name is {self.name!r}; reports of comparisons have such names, so choose another")
        for entry in self.configurations:
            if not isinstance(entry, Configuration):
                raise UsageError(f"configurations holds {entry!r}; every entry is an hpo.Configuration")
        names = [configuration.name for configuration in self.configurations]
        if len(names) < 2:
            raise UsageError("configurations has fewer than two entries; a comparison needs a baseline and a rival")
        _check_unlike(names)
        if self.baseline not in names:
            hint = did_you_mean(str(self.baseline), names)
            raise UsageError(f"baseline is {self.baseline!r}; name one of the configurations: {', '.join(names)}{hint}")
        if self.precision not in ("float32", "bfloat16"):
            raise UsageError(f"precision is {self.precision!r}; give 'float32' or 'bfloat16'")
        check_metrics(self.metrics)
        scores = (*SCORES, *(f"validation_{name}" for name in self.metrics))
        if self.score not in scores:
            hint = did_you_mean(str(self.score), scores)
            raise UsageError(f"score is {self.score!r}; choose one of {', '.join(scores)}{hint}")
        own = self.score.removeprefix("validation_") in self.metrics
        if own and self.direction is None:
            raise UsageError(f"score is {self.score!r}, a metric of your own; give direction='maximize' or 'minimize'")
        if self.direction not in (None, "maximize", "minimize"):
            raise UsageError(f"direction is {self.direction!r}; give 'maximize', 'minimize' or None")
        if self.score_epoch not in ("last", "best"):
            raise UsageError(f"score_epoch is {self.score_epoch!r}; give 'last' or 'best'")
        if not (isinstance(self.margin, int | float) and self.margin > 0):
            raise UsageError(f"margin is {self.margin!r}; give a number above 0, such as 0.01 for one point")
        if self.trial_timeout is not None and not self.trial_timeout > 0:
            raise UsageError(f"trial_timeout is {self.trial_timeout!r}; give seconds above 0, or None")
        _check_loss(self.loss, self.label_smoothing)
        check_pruner(self.pruner, self.tuning_epochs or self.epochs)
        if not callable(self.model) or (not isinstance(self.model, type) and hasattr(self.model, "parameters")):
            raise UsageError("model is no function; give hpo.MLP(...) or a function that returns a new torch.nn.Module")
        if not hasattr(self.data, "load"):
            raise UsageError("data has no load(); give hpo.Mnist1d(...) or a subclass of hpo.Dataset with a load()")
        for name in ("label_noise", "noise", "validation", "split", "augment", "augments"):
            if not hasattr(self.data, name):
                raise UsageError(f"data: {type(self.data).__name__} has no {name}; make it a subclass of hpo.Dataset")


def planned_tuning_runs(tuning_runs: int | None, seeds: int) -> int:
    """How many tuning runs a study of so many seeds plans: by default 3, or fewer where each would have no rerun."""
    return min(TUNING_RUNS, seeds) if tuning_runs is None else tuning_runs


def _check_unlike(names: list[str]) -> None:
    """Raises UsageError where two names read the same in a report."""
    shown: dict[str, str] = {}
    for place, name in enumerate(names):
        other = shown.setdefault(" ".join(unicodedata.normalize("NFKC", name).split()), name)
        if other != name or name in names[:place]:
            alike = f"named {name!r}" if other == name else f"that look alike, {other!r} and {name!r}"
            raise UsageError(f"configurations has two entries {alike}; rename one of them")


def _check_loss(loss: object, label_smoothing: object) -> None:
    number = isinstance(label_smoothing, int | float) and not isinstance(label_smoothing, bool)
    if not number or not 0 <= label_smoothing < 1:  # type: ignore[operator]
        raise UsageError(f"label_smoothing is {label_smoothing!r}; give a number from 0 up to but not 1")
    if loss is not None and not callable(loss):
        raise UsageError("loss is not callable; give a function (outputs, labels) -> losses, one a sample, or None")
    if loss is not None and label_smoothing:
        raise UsageError("label_smoothing and loss are both given; smooth the labels in your loss, or leave it out")


def _positive_whole(where: str, name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{where}: {name} is {value!r}; give a whole number of at least 1")
