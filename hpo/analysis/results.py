"""The named tuples that contain every number of a report, as results.json stores them."""

from typing import Any, NamedTuple

from hpo.analysis.effort import Effort
from hpo.analysis.metric import Metric
from hpo.analysis.paired_tests import Comparison, Interval, Summary
from hpo.analysis.range_position import RangePosition
from hpo.analysis.setting_choice import SettingChoice
from hpo.analysis.smoothness import Smoothness
from hpo.analysis.two_groups import TwoGroups
from hpo.analysis.verdicts import Outcome, Verdict
from hpo.trials import tunes


class BestTrial(NamedTuple):
    """The best finished trial of one tuning run; number is the trial's in it. Both count from 1."""

    tuning_run: int
    number: int
    score: float
    setting: dict[str, float]


class Tuning(NamedTuple):
    """The trials of one configuration.

    Attributes:
        without_score: trials that were trained to the end and whose score is not finite.
        epochs: epochs of all finished trials together.
        failed: trials that failed for good. failed_attempts: attempts that ended without a result, by cause.
        best: the best trial of every tuning run that has one with a score. range_positions: of each ordered
            hyperparameter that is tuned; empty where no tuning run has enough trials.
        substitutes: tuning run (from 1) whose trials are over and none of full length has a score → "pruned" where its
            setting is that of a pruned trial, else "diverged" or "without a finite score" if one was not diverged.
    """

    planned: int
    finished: int
    diverged: int
    pruned: int
    without_score: int
    epochs: int
    failed: int
    failed_attempts: dict[str, int]
    best: list[BestTrial]
    range_positions: dict[str, RangePosition]
    substitutes: dict[int, str]


class Reruns(NamedTuple):
    """The newest reruns of one configuration; accuracies and other shares are fractions.

    Attributes:
        failed_attempts: attempts that ended without a result, by cause. failed_seeds: reruns that failed for good.
        settings: the settings rerun, one per tuning run. rounds_read: how often the test set was read.
        metric_values: the metric that verdicts compare, by seed; a diverged rerun has the value of an untrained network
            (accuracy: 1/classes, F1: 0), or NaN where the metric is unbounded, and so has a metric that is not finite.
            metric_summary: their summary without the NaNs.
        scores: the score that tuning optimises, on validation data, by seed; NaN for a rerun that diverged, failed for
            good or has none.
        test_metrics: the metrics that hpo reports for the task, such as test_accuracy, each by seed, also where
            verdicts compare another one; a diverged rerun has the value of an untrained network, or NaN.
        generalisation_gap: how much better the task's primary metric is on the training samples than on the test set.
        memorised, recovered: shares of the changed labels fitted as given and as they truly are; the first also by
            seed as noisy_labels_fitted. adjusted_memorisation: the share beyond what errors would hit by chance.
        seconds_per_epoch: wall time divided by the models trained side by side. populations: the sizes trained.
        custom_metrics: the study's custom metrics on the test set, name → value by seed, without diverged reruns.
        diagnostics: the quantities of `Study.diagnostics`, key → value by seed, without diverged reruns.
        gradient_evaluations: of a step; see `hpo.gradients.gradient_count`.
        parameters: numbers that the network's parameters have, several where settings differ in the network.
        untrained_parameters: how many of them no optimizer has.
        two_groups: those quantities with a mean in the results (T1) whose values lie in two groups, by name: of test
            metrics, "train_loss", "generalisation_gap", and "noisy_labels_fitted".
    """

    planned: int
    finished: int
    diverged_seeds: list[int]
    failed_seeds: list[int]
    failed_attempts: dict[str, int]
    rounds_read: int
    settings: list[dict[str, float]]
    metric_values: dict[int, float]
    metric_summary: Summary
    scores: dict[int, float]
    test_metrics: dict[str, dict[int, float]]
    train_loss: Summary
    generalisation_gap: Summary
    memorised: Summary
    recovered: Summary
    adjusted_memorisation: Summary
    seconds_per_epoch: Summary
    populations: list[int]
    noisy_labels_fitted: dict[int, float]
    custom_metrics: dict[str, dict[int, float]]
    diagnostics: dict[str, dict[int, float]]
    gradient_evaluations: Summary
    parameters: list[int]
    untrained_parameters: list[int]
    tuning_run_by_seed: dict[int, int]
    two_groups: dict[str, TwoGroups]

    @property
    def undefined_seeds(self) -> list[int]:
        """The reruns that did not diverge and whose metric is not finite."""
        diverged = set(self.diverged_seeds)
        return [seed for seed, value in self.metric_values.items() if value != value and seed not in diverged]


class ConfigurationNumbers(NamedTuple):
    """One configuration: its tuning, its reruns, the smoothness of their training loss, and which setting to use."""

    name: str
    tuning: Tuning
    reruns: Reruns
    smoothness: Smoothness
    choice: SettingChoice

    @property
    def setting_to_use(self) -> BestTrial | None:
        """The best trial of the tuning run whose setting is the one to use; None before a trial has a score."""
        return next((best for best in self.tuning.best if best.tuning_run == self.choice.tuning_run), None)


class Rival(NamedTuple):
    """One configuration compared with the baseline, or with another one as `Configuration.against` plans it.

    Attributes:
        against: the configuration that it is compared with.
        outcome: whether its prediction held. memorisation: comparison of the noisy labels fitted, if any.
        roughness: comparison of the training losses, if there are curves. custom_metrics: comparisons by name.
        diagnostics: comparisons of their quantities by key.
        same_learning_rate: whether both were rerun at the same one.
    """

    name: str
    against: str
    prediction: str | None
    verdict: Verdict
    outcome: Outcome | None
    memorisation: Comparison | None
    roughness: Comparison | None
    same_learning_rate: bool
    custom_metrics: dict[str, Comparison]
    diagnostics: dict[str, Comparison]


class Pair(NamedTuple):
    """Two rivals of one study whose comparison was not planned, outside the family of tests: no verdict, no p.

    Attributes:
        reason: why they cannot be compared, else empty. diverged: reruns of the two that diverged.
        won, tied: pairs in which the first is better, equal. mean, interval: of the differences name − other, in the
            units of the metric.
    """

    name: str
    other: str
    reason: str
    diverged: int
    n: int
    won: int
    tied: int
    mean: float
    interval: Interval


class Samples(NamedTuple):
    """Sizes of the data in the reruns, None before the first one; changed labels by seed, and their statistics."""

    training: int | None
    validation: int | None
    test: int | None
    classes: int | None
    changed_labels: dict[int, int]
    changed_mean: float
    changed_low: int
    changed_high: int


class Compute(NamedTuple):
    """What a study has cost: of all finished trials and reruns, those of earlier rounds included.

    Attributes:
        epochs: of single models, together. gradient_evaluations: of single models on minibatches, together; None where
            a run does not report them.
        device_seconds: the time of the devices, shared equally by models trained together.
        first, last: when the first run started and the last one finished, in seconds since 1970; NaN before.
    """

    epochs: int
    gradient_evaluations: int | None
    device_seconds: float
    first: float
    last: float


class StepTime(NamedTuple):
    """The time of a configuration's training step, measured by turns with the baseline's.

    Attributes:
        population: models trained together. ms: median milliseconds per model and step, without evaluation.
        ratio: of this median to the baseline's; low, high: the quartiles of the ratio in a round.
    """

    configuration: str
    population: int
    ms: float
    ratio: float
    low: float
    high: float


class StepTimes(NamedTuple):
    """The newest measurement of the configurations' steps in one process; time: in seconds since 1970."""

    device: str
    threads: int
    time: float
    rows: list[StepTime]

    def find(self, configuration: str, population: int) -> StepTime | None:
        """The row of a configuration that was measured at this size."""
        found = (row for row in self.rows if (row.configuration, row.population) == (configuration, population))
        return next(found, None)


class StudyNumbers(NamedTuple):
    """Every number of a report, the study that they belong to, and the metric that its verdicts compare.

    Attributes:
        rivals: the comparisons with the baseline. planned: those with other configurations (`Configuration.against`).
        pairs: the comparisons that were not planned. effort: what each configuration needs, by name.
        step_times: None before they are measured.
    """

    study: dict[str, Any]
    metric: Metric
    samples: Samples
    configurations: list[ConfigurationNumbers]
    rivals: list[Rival]
    planned: list[Rival]
    pairs: list[Pair]
    tuning_seeds: list[int]
    rerun_seeds: list[int]
    environments: list[dict[str, Any]]
    compute: Compute
    effort: dict[str, Effort]
    step_times: StepTimes | None

    @property
    def definition(self) -> dict[str, Any]:
        """The study's definition, as in its digest."""
        return self.study["definition"]

    @property
    def title(self) -> str:
        """The study's title, or its name where it has none."""
        return str(self.study["text"].get("title") or self.study["name"])

    @property
    def comparisons(self) -> list[Rival]:
        """Every planned comparison: the family of tests, of which each has a verdict."""
        return [*self.rivals, *self.planned]

    @property
    def unit(self) -> str:
        """What is paired: "seed", or "tuning run" where there are several."""
        return "seed" if self.study["tuning_runs"] == 1 else "tuning run"

    @property
    def trials_per_run(self) -> dict[str, int]:
        """Configuration → trials planned for each tuning run."""
        return {entry.name: entry.tuning.planned // self.study["tuning_runs"] for entry in self.configurations}

    @property
    def tuned(self) -> list[str]:
        """The configurations that have something to tune."""
        return [entry["name"] for entry in self.definition["configurations"] if tunes(entry)]

    @property
    def baseline(self) -> ConfigurationNumbers:
        """The configuration that the others are compared with."""
        return next(entry for entry in self.configurations if entry.name == self.definition["baseline"])
