"""Checks that a network's outputs suit the targets of the data, and the loss."""

import torch
from torch import Tensor

from hpo.errors import UsageError, plural
from hpo.models.losses import CrossEntropy, SampleLoss, cross_entropy
from hpo.tasks import Task
from hpo.user_code.messages import warn_once


def check_outputs(output: torch.Size, labels: Tensor, classes: int | None, task: Task) -> None:
    """Raises UsageError unless a sample's output suits its label, which the task's metrics need with every loss.

    Args:
        output: the shape of one sample's output. labels: [M, ...], all of them.
    """
    label = labels.shape[1:]
    if not task.has_classes:
        if output not in (label, torch.Size([*label, 1])):
            target = f"has shape {tuple(label)}" if label else "is one number"
            raise UsageError(
                f"the network's output for a sample has shape {tuple(output)}, and a target of the data {target}; give "
                f"it {plural(label.numel() if label else 1, 'output')}"
            )
        return
    one_logit = output in (label, torch.Size([*label, 1]))
    if one_logit and classes == 2:
        return
    if one_logit or output.numel() == 1:
        raise UsageError(
            f"the network returns one number per {'token' if task.name == 'tokens' else 'sample'}, and there are "
            f"{classes} classes; give it {classes} outputs, or the data set the task 'regression'"
        )
    if output[:-1] != label:
        raise UsageError(
            f"the network's output for a sample has shape {tuple(output)}, and {task.words} needs one number per "
            f"class, {(*label, classes)}; {_shape_advice(task)}"
        )
    if classes is not None and output[-1] < classes:
        raise UsageError(
            f"the network has {output[-1]} outputs, and the data set has {classes} classes; give it one output per "
            "class"
        )


def _shape_advice(task: Task) -> str:
    if task.name == "tokens":
        return "return logits [N, T, classes]"
    return "flatten or pool it, or give the data set the task 'tokens' for one class per position"


def warn_of_probabilities(outputs: Tensor, loss: SampleLoss) -> None:
    """Warns if the outputs [N, ..., C] of a network that is trained by cross-entropy come from a softmax."""
    takes_logits = loss is cross_entropy or isinstance(loss, CrossEntropy)
    if not takes_logits or outputs.dim() < 2 or outputs.shape[-1] < 2 or not (outputs >= 0).all():
        return
    if ((outputs.sum(-1) - 1).abs() < (1e-4 if outputs.dtype.itemsize >= 4 else 0.01)).all():
        warn_once(
            "the network's outputs are probabilities, and cross-entropy applies softmax itself; let the network return "
            "what goes into its softmax"
        )
