"""A small problem of every kind of targets, in float64, with its loss written for one sample at a time."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from networks import FEATURES
from torch import Tensor, nn

from hpo.models import losses
from hpo.tasks import IGNORED

TOKENS, WORDS = 3, 4


class Kind(NamedTuple):
    """A kind of targets: its task, a network, targets for inputs [N, 6], hpo's loss, and that of one sample."""

    task: str
    network: Callable[[], nn.Module]
    targets: Callable[[Tensor], Tensor]
    loss: losses.SampleLoss
    of_one: Callable[[Tensor, Tensor], Tensor]


def _mlp(outputs: int, *after: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, outputs), *after)


def _tokens(inputs: Tensor) -> Tensor:
    """Classes [N, 3]; every second sequence ends with a token without a target."""
    labels = (inputs[:, : 2 * TOKENS].reshape(-1, TOKENS, 2).sum(-1) * 3).long().abs() % WORDS
    labels[1::2, -1] = IGNORED
    return labels


def _token_loss(outputs: Tensor, label: Tensor) -> Tensor:
    kept = [-outputs[t].log_softmax(-1)[c] for t, c in enumerate(label.tolist()) if c != IGNORED]
    return sum(kept[1:], kept[0]) / len(kept)


def _logit_loss(outputs: Tensor, label: Tensor) -> Tensor:
    return F.softplus(-outputs.squeeze() if label else outputs.squeeze())


def _weighted(outputs: Tensor, label: Tensor) -> Tensor:
    return -(0.5, 2.0, 1.0)[int(label)] * outputs.log_softmax(-1)[label]


def _many_labels(outputs: Tensor, label: Tensor) -> Tensor:
    each = [F.softplus(-x) if y else F.softplus(x) for x, y in zip(outputs, label.tolist(), strict=True)]
    return sum(each[1:], each[0]) / len(each)


KINDS = {
    "one number": Kind(
        "regression", lambda: _mlp(1), lambda x: x.sum(1), losses.SquaredError(), lambda o, y: (o.squeeze() - y) ** 2
    ),
    "several numbers": Kind(
        "regression", lambda: _mlp(2), lambda x: x[:, :2] * 3 + 1, losses.SquaredError(),
        lambda o, y: ((o[0] - y[0]) ** 2 + (o[1] - y[1]) ** 2) / 2,
    ),
    "one logit": Kind(
        "classification", lambda: _mlp(1), lambda x: (x.sum(1) > 0).long(), losses.cross_entropy, _logit_loss
    ),
    "class weights": Kind(
        "classification", lambda: _mlp(3), lambda x: (x[:, 0] * 2).long().abs() % 3,
        losses.CrossEntropy(class_weights=(0.5, 2, 1)), _weighted,
    ),
    "several labels": Kind(
        "multilabel", lambda: _mlp(4), lambda x: (x[:, :4] > 0).long(), losses.BinaryCrossEntropy(), _many_labels
    ),
    "tokens": Kind(
        "tokens", lambda: _mlp(TOKENS * WORDS, nn.Unflatten(1, (TOKENS, WORDS))), _tokens, losses.cross_entropy,
        _token_loss,
    ),
    "tokens by position": Kind(  # Linear layers over [N, T, I]
        "tokens",
        lambda: nn.Sequential(nn.Unflatten(1, (TOKENS, 2)), nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, WORDS)),
        _tokens, losses.cross_entropy, _token_loss,
    ),
}  # fmt: skip


def one_by_one(kind: Kind) -> losses.SampleLoss:
    """The loss as the references take it, (outputs [N, ...], labels [N, ...]) -> [N], a sample at a time."""
    return lambda outputs, labels: torch.stack(
        [kind.of_one(output, label) for output, label in zip(outputs, labels, strict=True)]
    )


def build(kind: Kind, seed: int) -> nn.Module:
    """The kind's network in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind.network().double()


def batch(kind: Kind, seed: int, samples: int = 8, views: int = 1) -> tuple[Tensor, Tensor]:
    """inputs [V, N, 6] and labels [N, ...]."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(views, samples, FEATURES, generator=generator, dtype=torch.float64)
    return inputs, kind.targets(inputs[0])
