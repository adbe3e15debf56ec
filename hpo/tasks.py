"""Tasks: what the targets of a data set are, and which metrics hpo reports for them."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from hpo.errors import UsageError

IGNORED = -100  # the label of a token without a target, as in PyTorch
LOSS = "loss"
ACCURACY = "accuracy"
TOP5 = "top5_accuracy"  # reported where there are more than 5 classes
CORRUPTED = "corrupted_accuracy"  # on corrupted test samples, where a data set has any
OPTIONAL = (TOP5, CORRUPTED)


class Task(NamedTuple):
    """A kind of targets.

    Attributes:
        name: as a data set's `task` and a study's definition have it. words: its name in text.
        targets: what the labels are, in words.
        loss: the class of hpo's loss for it. primary: the metric that studies tune for and compare by default.
        metrics: all that hpo reports besides the loss. explanation: what they are, for a report.
        test_metrics: those of the test set only.
    """

    name: str
    words: str
    targets: str
    loss: str
    primary: str
    metrics: tuple[str, ...]
    explanation: str = ""
    test_metrics: tuple[str, ...] = ()

    @property
    def has_classes(self) -> bool:
        """Whether every target is one of C classes."""
        return self.name in ("classification", "tokens")


CLASSIFICATION = Task(
    "classification", "classification", "one class per sample, [M]", "CrossEntropy", ACCURACY, (ACCURACY, TOP5),
    test_metrics=(CORRUPTED,),
)  # fmt: skip
REGRESSION = Task(
    "regression", "regression", "numbers, [M] or [M, D]", "SquaredError", "r2", ("r2", "rmse"),
    "R² is 1 − mean squared error / variance of the targets, averaged over the numbers of a target; RMSE is the root "
    "of the mean squared error over all of them",
)  # fmt: skip
MULTILABEL = Task(
    "multilabel", "multi-label classification", "0 or 1 for each of L labels, [M, L]", "BinaryCrossEntropy", "f1",
    ("f1", "exact_match"),
    "F1 is micro-averaged, 2 · true positives / (predicted + given positives) over all samples and labels; exact match "
    "is the share of samples whose labels are all right; a positive logit predicts 1",
)  # fmt: skip
TOKENS = Task(
    "tokens", "token prediction", "one class per token, [M, T]", "CrossEntropy", LOSS, ("perplexity", ACCURACY),
    "loss and accuracy are means over the tokens that have a target, the loss in nats; perplexity is exp of the mean "
    "cross-entropy per token",
)  # fmt: skip
TASKS = {task.name: task for task in (CLASSIFICATION, REGRESSION, MULTILABEL, TOKENS)}
MINIMISED = {LOSS, "rmse", "perplexity"}
# Fractions, which are shown in percent.
SHARES = {ACCURACY, *OPTIONAL, "f1", "exact_match"}
LABELS = {"r2": "R²", "rmse": "RMSE", "f1": "F1", "top5": "top-5"}


def check_loss(loss: Any, task: Task) -> None:
    """Raises UsageError for a loss of hpo that is for other targets, as its `for_tasks` says."""
    tasks = getattr(type(loss), "for_tasks", (task.name,))
    if task.name not in tasks:
        one_logit = ", also for one logit," if task is CLASSIFICATION else ""
        raise UsageError(
            f"loss is {type(loss).__name__}, which is for {' or '.join(TASKS[name].words for name in tasks)}, but the "
            f"task of the data is {task.words}; give hpo.{task.loss}(...){one_logit} or another task"
        )


def task_of(definition: Mapping[str, Any]) -> Task:
    """The task of a study's definition, which names it only where it is not classification."""
    return TASKS[definition.get("task", CLASSIFICATION.name)]


def direction_of_metric(name: str) -> Literal["maximize", "minimize"]:
    """Whether a built-in metric is to be "maximize"d or "minimize"d."""
    return "minimize" if name in MINIMISED else "maximize"


def untrained_value(name: str, classes: int | None) -> float | None:
    """The value with which a diverged run counts, if the metric is bounded: that of guessing, or of no label at all."""
    if name in (ACCURACY, *OPTIONAL):
        return min(1.0, (5 if name == TOP5 else 1) / classes) if classes else None
    return 0.0 if name in SHARES else None


def metric_words(name: str) -> str:
    """A metric's name in text: "validation R²" of `validation_r2`."""
    return " ".join(LABELS.get(word, word) for word in name.rstrip("_").split("_"))
