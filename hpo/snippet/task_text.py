"""The loss of samples and the evaluation of a set as Python, for each task."""

from typing import Any

from torch import Tensor

from hpo.errors import UsageError
from hpo.models.losses import BinaryCrossEntropy, SquaredError, is_cross_entropy
from hpo.snippet.extraction import Extraction
from hpo.snippet.limits import INSTEAD
from hpo.tasks import TASKS

# task → name of the metric, and its value from `outputs` and `labels` of a whole set
METRICS = {
    "classification": ("accuracy", "(outputs.argmax(1) == labels).double().mean()"),
    "logit": ("accuracy", "((outputs.reshape(labels.shape) > 0) == (labels == 1)).double().mean()"),
    "multilabel": ("f1", "2 * ((outputs > 0) & (labels == 1)).sum() / ((outputs > 0).sum() + (labels == 1).sum())"),
    "regression": (
        "r2",
        "(1 - (outputs.reshape(labels.shape) - labels).double().square().mean(0) "
        "/ labels.double().var(0, correction=0)).mean()",
    ),
}


def task_of(task: str, outputs: Tensor) -> str:
    """The key of METRICS, for outputs of a few samples."""
    if task == "classification" and outputs.shape[1:].numel() == 1:
        return "logit"
    if task not in METRICS:
        raise UsageError(f"a script cannot train on {TASKS[task].words} yet; {INSTEAD}")
    return task


def loss_text(loss: Any, task: str, name: str, code: Extraction) -> str:
    """The function `name`: (outputs [N, ...], labels [N, ...]) -> losses [N]."""
    if is_cross_entropy(loss):
        expression = _cross_entropy(getattr(loss, "label_smoothing", 0.0), getattr(loss, "class_weights", ()), task)
    elif type(loss).__call__ is SquaredError.__call__:
        squares = "(outputs.reshape(labels.shape) - labels).square()"
        expression = f"{squares}.reshape(len(labels), -1).mean(1)"
    elif type(loss).__call__ is BinaryCrossEntropy.__call__:
        weights = loss.positive_weights
        given = f", pos_weight=torch.tensor({weights!r}, dtype=DTYPE)" if weights else ""
        targets = "labels.to(outputs.dtype)"
        expression = f'F.binary_cross_entropy_with_logits(outputs, {targets}{given}, reduction="none").mean(1)'
    else:
        return f"{name} = {code.call('the loss', loss)}"
    return f'def {name}(outputs, labels):\n    """Loss of every sample [N]."""\n    return {expression}'


def _cross_entropy(smoothing: float, weights: tuple[float, ...], task: str) -> str:
    outputs = "outputs"
    if task == "logit" and smoothing and weights:
        outputs = "F.pad(outputs.reshape(-1, 1), (1, 0))"  # logits 0 and z
    elif task == "logit":
        target = "labels.to(outputs.dtype)" + (f" * {1 - smoothing} + {smoothing / 2}" if smoothing else "")
        losses = f'F.binary_cross_entropy_with_logits(outputs.reshape(labels.shape), {target}, reduction="none")'
        return f"{losses} * torch.where(labels == 1, {weights[1]}, {weights[0]})" if weights else losses
    options = f", label_smoothing={smoothing}" if smoothing else ""
    options += f", weight=torch.tensor({weights!r}, dtype=DTYPE)" if weights else ""
    return f'F.cross_entropy({outputs}, labels, reduction="none"{options})'


def evaluation_text(task: str, loss: str) -> str:
    """The function `evaluate`; `loss` is the name of the loss function."""
    name, value = METRICS[task]
    return f'''\
@torch.no_grad()
def evaluate(network, inputs, labels):
    """Mean loss and {name} of a set."""
    network.eval()
    outputs = torch.cat([network(part) for part in inputs.split(1000)])
    network.train()
    return {loss}(outputs, labels).mean().item(), ({value}).item()'''
