"""Quantities: the named tuples that a report's text is made from and results.json stores."""

from typing import Any, NamedTuple

from hpo.analysis.descriptors import RangePosition
from hpo.analysis.metric import Metric
from hpo.analysis.paired_tests import Comparison, Interval, Summary
from hpo.analysis.smoothness import Smoothness
from hpo.analysis.verdicts import Outcome, Verdict


class BestTrial(NamedTuple):
    """The best finished trial of one tuning run."""

    tuning_run: int
    slot: int
    score: float
    setting: dict[str, float]


class Tuning(NamedTuple):
    """What the trials of one configuration came to; `range_positions` has one entry a tuned hyperparameter.

    `without_score` counts trials that trained well and whose score is not finite.
    `epochs` is how many the finished trials were trained for, all together. `failed` counts trials that failed for
    good, `failed_attempts` by cause the attempts that ended without a result.
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


class Reruns(NamedTuple):
    """What the newest reruns of one configuration came to; accuracies and shares are fractions.

    Attributes:
        failed_attempts: attempts that ended without a result, by cause. failed_seeds: reruns that failed for good.
        settings: the settings rerun, one a tuning run. rounds_read: how often the test set was read.
        metric_values: the metric that verdicts compare, by seed; a diverged rerun has the value of an untrained network
            (accuracy: 1/classes), or NaN where the metric is unbounded, and NaN stands for a metric that is not
            finite as well. metric_summary: of those that are not NaN.
        test_accuracy: by seed, whatever verdicts compare; diverged reruns with the value 1/classes.
        memorised, recovered: shares of the changed labels fitted as given and as they truly are; the first
            also by seed as noisy_labels_fitted. adjusted_memorisation: beyond what errors alone would hit.
        seconds_per_epoch: wall time divided by the models trained side by side.
        custom_metrics: the study's own metrics on the test set, name → value by seed, without diverged reruns.
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
    test_accuracy: dict[int, float]
    accuracy: Summary
    train_loss: Summary
    generalisation_gap: Summary
    memorised: Summary
    recovered: Summary
    adjusted_memorisation: Summary
    seconds_per_epoch: Summary
    populations: list[int]
    noisy_labels_fitted: dict[int, float]
    custom_metrics: dict[str, dict[int, float]]
    tuning_run_by_seed: dict[int, int]

    @property
    def undefined_seeds(self) -> list[int]:
        """The reruns that did not diverge and whose metric is not finite."""
        undefined = [seed for seed, value in self.metric_values.items() if value != value]
        return [seed for seed in undefined if seed not in self.diverged_seeds]


class ConfigurationNumbers(NamedTuple):
    """One configuration: its tuning, its reruns, and how smoothly their training loss fell."""

    name: str
    tuning: Tuning
    reruns: Reruns
    smoothness: Smoothness


class Rival(NamedTuple):
    """One configuration against the baseline.

    `memorisation` compares the noisy labels fitted, if any, `roughness` the training loss's, if there are curves, and
    `custom_metrics` the study's own metrics by name. `same_learning_rate`: whether both were rerun at the same one.
    """

    name: str
    prediction: str | None
    verdict: Verdict
    outcome: Outcome | None
    memorisation: Comparison | None
    roughness: Comparison | None
    same_learning_rate: bool
    custom_metrics: dict[str, Comparison]
    cost_ratio: float


class Pair(NamedTuple):
    """Two rivals of one study compared with each other, outside the family of tests: no verdict, no p.

    `reason`: why there is nothing to be said, else empty; `diverged`: reruns of the two; `mean` and `interval` are of
    name − other, in the metric.
    """

    name: str
    other: str
    reason: str
    diverged: int
    n: int
    won: int
    mean: float
    interval: Interval


class Samples(NamedTuple):
    """Sizes of the data as the reruns saw them, None before the first; labels really changed, by seed."""

    training: int | None
    validation: int | None
    test: int | None
    classes: int | None
    changed_labels: dict[int, int]
    changed_mean: float
    changed_low: int
    changed_high: int


class StudyNumbers(NamedTuple):
    """Everything a report says in numbers, and the definition they belong to; `metric` is the verdicts'."""

    study: dict[str, Any]
    metric: Metric
    samples: Samples
    configurations: list[ConfigurationNumbers]
    rivals: list[Rival]
    pairs: list[Pair]
    tuning_seeds: list[int]
    rerun_seeds: list[int]
    environments: list[dict[str, Any]]

    @property
    def definition(self) -> dict[str, Any]:
        """The study's definition, as in its digest."""
        return self.study["definition"]

    @property
    def baseline(self) -> ConfigurationNumbers:
        """The configuration that the others are compared with."""
        return next(entry for entry in self.configurations if entry.name == self.definition["baseline"])
