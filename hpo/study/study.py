"""Study and Configuration: the definition that a person writes, frozen and validated."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hpo.errors import UsageError
from hpo.search_space import Entry, Value
from hpo.stages import Stages
from hpo.study.directions import Direction
from hpo.study.validation import check_configuration, check_study
from hpo.tasks import CLASSIFICATION, TASKS

Prediction = Literal["better", "worse", "equivalent"]


@dataclass(frozen=True)
class Configuration:
    """An optimizer, a regularizer and the search space of their hyperparameters.

    Attributes:
        name: its name in tables and figures; unique in its study.
        optimizer: a built-in name (`hpo list`), an `hpo.Optimizer`, or an `hpo.from_torch(...)`.
        regularizer: a built-in name (`hpo list`) or an `hpo.Regularizer`.
        space: hyperparameter → `log_range`, `linear_range`, `integers`, `choice` or `when`, or a value to keep it
            fixed. Any other hyperparameter has the default of the optimizer or regularizer. Training hyperparameters
            can be named as well: `batch_size`, `accumulate`, `label_smoothing`, `dropout`, `model.ARGUMENT` of the
            model function and `schedule.ARGUMENT`. Models that differ in one of these cannot be trained side by side in
            a population: hpo trains one population for each of its values, one after another.
        groups: pattern of parameter names, such as "head.*" → how the optimizer's hyperparameters differ for these
            parameters: a number is a factor, {"learning_rate": 0.1} a tenth of the learning rate, and
            `hpo.fixed(0.01)` a value; a schedule multiplies both.
        no_decay: parameters without weight decay: "bias" for all biases, "norm" for normalization layers, or patterns.
        average: `hpo.EMA(...)` or `hpo.SWA(...)`: an average of the weights is evaluated instead of the weights.
        schedules: hyperparameter of the optimizer or regularizer → its schedule, as in `Study.schedule`, or
            "learning_rate" for that of the learning rate. The value, tuned or fixed, is multiplied by the factor.
        trials: its own number of trials, where a published protocol gave it another budget than the others. None: those
            of the study, or one trial for each tuning run where nothing is tuned.
        first: settings to try before any other, in every tuning run, as dicts of values; they count as trials. What a
            setting leaves out is sampled.
        prediction: what the author expects compared with the baseline, stated before any run.
        against: another configuration, or several, with which this one is compared as well: each such comparison gets a
            verdict of its own, in the same family of tests (Holm) as those with the baseline. A dict of name →
            prediction also states what the author expects of it.
    """

    name: str
    optimizer: Any = "adamw"
    regularizer: Any = "none"
    space: Mapping[str, Entry] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    no_decay: Sequence[str] = ()
    average: Any = None
    schedules: Mapping[str, Any] = field(default_factory=dict)
    trials: int | None = None
    first: Sequence[Mapping[str, Value]] = ()
    prediction: Prediction | None = None
    against: str | Sequence[str] | Mapping[str, Prediction | None] = ()

    def __post_init__(self) -> None:
        check_configuration(self)


@dataclass(frozen=True)
class Study:
    """A comparison of configurations on one data set and one network, with one budget.

    Attributes:
        data: a data set: `hpo.Mnist1d(...)` or a subclass of `hpo.Dataset` with a `load() -> hpo.Source`.
        model: a network: `hpo.MLP(...)` or any function without required arguments that returns a new
            `torch.nn.Module`.
        configurations: two or more; `baseline` is the name of the one that the others are compared with.
        batch_size, epochs: per training run; `hpo.Stages({0: 32, 10: 64})` is a batch size that changes after so many
            epochs. tuning_epochs: epochs of a trial, only where a published protocol tuned
            for another number of epochs than it reported.
        trials: settings tried for each configuration in each tuning run. seeds: reruns of each configuration, divided
            evenly among its tuning runs where possible: 12 seeds are 4 for each of 3 tuning runs.
        tuning_runs: how many times every configuration is tuned, independently. The means of the tuning runs are then
            compared, so that verdicts include the luck of tuning. With fewer than 5, "better" and "worse" are
            tentative, with 2 there is no verdict, and with 1 every verdict is tentative. None (default): 3, or as many
            as `seeds` if there are fewer.
        seeds_per_trial: models trained for each trial, with different tuning seeds; their mean score counts.
        metrics: custom metrics, name → function (outputs [N, ...], labels [N, ...]) -> values [N], one finite number
            per sample, whose mean is reported; `hpo.whole(function)` for a function of all samples of a set to one
            number; or a torchmetrics object. They are in the curves as `validation_<name>` and in the report as
            `test_<name>`.
        score: the metric that tuning optimises: `validation_loss`, `train_loss`, `validation_<name>` of a custom metric
            or of a metric of the data's task: `accuracy` (classification, the default), `r2` (regression, the default)
            or `rmse`, `f1` (multi-label, the default) or `exact_match`, `perplexity` or `accuracy` (tokens, whose
            default is `validation_loss`). For classification also `noisy_labels_fitted`, `noisy_labels_recovered`.
        direction: whether to "maximize" or "minimize" the score. A loss, RMSE and perplexity are minimised by default
            and any other built-in score maximised; a custom metric needs it. A dict of custom metric → direction also
            says for the others whether higher or lower is better, as the report then shows.
        score_epoch: `"last"` (default) or `"best"`, the best epoch of the run, which favours noisy curves.
        schedule: the learning rate schedule of every configuration (`hpo.Constant()`, `hpo.Cosine()`,
            `hpo.MultiStep(...)`), or a function (step, steps, steps_per_epoch) -> factor.
        label_smoothing: label smoothing of the cross-entropy in training, in [0, 1).
        loss: a loss (outputs [N, ...], labels [N, ...]) -> losses [N] instead of the task's: cross-entropy (for tokens
            its mean over those with a target), `hpo.SquaredError()` for regression, `hpo.BinaryCrossEntropy()` for
            multi-label data. `hpo.CrossEntropy(class_weights=(1, 5))` weights classes. The curve `train_loss` is the
            mean of what is trained, smoothing included; evaluation on training, validation and test data is without
            smoothing.
        precision: `"bfloat16"` runs the networks in mixed precision; parameters and updates stay float32.
        last_batch: whether to "drop" an epoch's last incomplete batch or to "keep" it, as PyTorch's DataLoader does by
            default.
        accumulate: gradient accumulation: the regularizer forms a gradient on each of so many micro-batches of a
            minibatch, and the optimizer gets their mean; activations need that much less memory. `batch_size` counts
            all samples of an update. For SAM, VaSSO and GAM, which then perturb the parameters by micro-batch, this is
            m-sharpness with m = batch_size / accumulate.
        channels_last: use the channels-last memory format for images, faster for a single network on CUDA.
        trial_timeout: seconds after which a run is stopped; it is retried before it counts as failed.
        pruner: stops trials that fall behind: `hpo.SuccessiveHalving(...)`, or a function without arguments that
            returns a new Optuna pruner, such as `functools.partial(optuna.pruners.MedianPruner, n_warmup_steps=5)`.
            None (default) trains all trials to the end, as reruns always are. Pruning by early epochs can harm one
            configuration more than another, and with it the comparison (`hpo bench pruning`).
        sampler: what chooses the settings: `"tpe"`, `"random"`, `"gp"`, `"cmaes"`, `"qmc"`, `hpo.grid({name: values})`,
            which tries every combination and so sets the number of trials, or a function (seed) that returns an
            Optuna sampler, such as `functools.partial(optuna.samplers.TPESampler, multivariate=True)`.
        diagnostics: what to measure at the final weights of every rerun, besides the metrics: "sharpness" (SAM's
            increase of the training loss), "hessian" (its largest eigenvalue and its trace), "calibration" (expected
            calibration error), or `hpo.Sharpness(rho=0.1)`, `hpo.Hessian(...)`, `hpo.Calibration(...)` with settings.
            The report shows them in a table of their own, outside the verdicts.
        margin: the smallest difference that matters, in the units of the test metric that verdicts compare: the test
            metric of the score if that is a validation metric, else the task's default (0.01 is one point of accuracy
            or F1, 0.01 of R², or a hundredth of a nat per token).
        title, hypothesis: the author's texts for the report.
        name: the study's name in the database; by default that of its file.
        defined_in: the module that `hpo.load` made of its file, and its variant there: "hpo_study_rogc:noisy".
    """

    data: Any
    model: Callable[[], Any]
    configurations: tuple[Configuration, ...]
    baseline: str
    batch_size: int | Stages = 64
    epochs: int = 30
    tuning_epochs: int | None = None
    trials: int = 40
    seeds: int = 12
    tuning_runs: int | None = None
    seeds_per_trial: int = 1
    metrics: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    score: str = ""
    direction: Direction | Mapping[str, Direction] | None = None
    score_epoch: Literal["last", "best"] = "last"
    schedule: Any = None
    label_smoothing: float = 0.0
    loss: Any = None
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    accumulate: int = 1
    last_batch: Literal["drop", "keep"] = "drop"
    trial_timeout: float | None = None
    pruner: Callable[[], Any] | None = None
    sampler: Any = "tpe"
    diagnostics: Sequence[Any] = ()
    margin: float = 0.01
    title: str = ""
    hypothesis: str = ""
    name: str = ""
    defined_in: str = field(default="", repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.configurations, Iterable):
            raise UsageError("configurations is a single configuration; give a tuple of two or more")
        object.__setattr__(self, "configurations", tuple(self.configurations))
        for entry in self.configurations:
            if not isinstance(entry, Configuration):
                raise UsageError(f"configurations contains {entry!r}; give only entries that are hpo.Configuration")
        if not self.score and (task := TASKS.get(getattr(self.data, "task", CLASSIFICATION.name))):
            object.__setattr__(self, "score", f"validation_{task.primary}")
        check_study(self)
