"""A module and a minibatch, computed slowly: one sample, one scalar, one `torch.autograd.grad` at a time."""

import copy
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Gradient = dict[str, Tensor]
Hyper = Mapping[str, float]
SampleLoss = Callable[[Tensor, Tensor], Tensor]
# A regularizer's state: empty before the first step, changed in place.
Memory = dict[str, Gradient]


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Losses [N] of logits [N, C]; of logits [N, T, C] with one label a sample, the mean over T."""
    if outputs.dim() == 3:
        each = [F.cross_entropy(outputs[:, t], labels, reduction="none") for t in range(outputs.shape[1])]
        return sum(each[1:], each[0]) / len(each)
    return F.cross_entropy(outputs, labels, reduction="none")


class Batch:
    """A module and a minibatch; inputs [V, N, ...] with V views, labels [N].

    Samples go through the module one at a time, or `together` where it mixes them, as BatchNorm does.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Tensor,
        labels: Tensor,
        loss: SampleLoss = cross_entropy,
        together: bool = False,
    ) -> None:
        self.module, self.inputs, self.labels, self.loss, self.together = module, inputs, labels, loss, together
        self.parameters = dict(module.named_parameters())
        self.places = list(range(len(labels)))  # in the minibatch

    def sample_losses(self, view: int = 0) -> list[Tensor]:
        if self.together:
            return list(self.loss(self.module(self.inputs[view]), self.labels))
        return [
            self.loss(self.module(sample[None]), label[None])[0]
            for sample, label in zip(self.inputs[view], self.labels, strict=True)
        ]

    def gradient(self, value: Tensor, differentiable: bool = False) -> Gradient:
        """Of any scalar; zero for parameters that it does not depend on."""
        leaves = torch.autograd.grad(
            value,
            list(self.parameters.values()),
            create_graph=differentiable,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return dict(zip(self.parameters, leaves, strict=True))

    def mean_gradient(self) -> Gradient:
        """g, the gradient of the mean loss."""
        return self.gradient(mean(self.sample_losses()))

    def sample_gradients(self, differentiable: bool = False) -> list[Gradient]:
        return [self.gradient(loss, differentiable) for loss in self.sample_losses()]

    def moved(self, length: float, direction: Gradient, epsilon: float = 1e-12, adaptive: bool = False) -> "Batch":
        """The same samples at w + length · d/(‖d‖ + ε), this one's module staying as it is.

        Where adaptive, at w + length · w² d/(‖|w| d‖ + ε).
        """
        module = copy.deepcopy(self.module)
        with torch.no_grad():
            weights = {
                name: leaf.abs() if adaptive else torch.ones_like(leaf) for name, leaf in self.parameters.items()
            }
            size = square_norm({name: weights[name] * direction[name] for name in weights}).sqrt()
            for name, parameter in module.named_parameters():
                parameter += length * weights[name] ** 2 * direction[name] / (size + epsilon)
        return type(self)(module, self.inputs, self.labels, self.loss, self.together)

    def subset(self, first: int, last: int) -> "Batch":
        """The samples at positions first … last − 1, as far as they exist."""
        places = self.places[max(0, first) : last]
        chosen = type(self)(self.module, self.inputs[:, places], self.labels[places], self.loss, self.together)
        chosen.places = places
        return chosen

    def last_layer(self) -> list[str]:
        """The names of the parameters of the last Linear layer, wherever else they are used."""
        last = [layer for layer in self.module.modules() if isinstance(layer, nn.Linear)][-1]
        parameter_ids = {id(parameter) for parameter in last.parameters()}
        return [name for name, parameter in self.parameters.items() if id(parameter) in parameter_ids]


def mean(values: list[Tensor]) -> Tensor:
    return sum(values[1:], values[0]) / len(values)


def square_norm(gradient: Gradient) -> Tensor:
    return torch.stack([(leaf**2).sum() for leaf in gradient.values()]).sum()


def inner(first: Gradient, second: Gradient) -> Tensor:
    return torch.stack([(first[name] * second[name]).sum() for name in first]).sum()


def combined(*terms: tuple[float | Tensor, Gradient]) -> Gradient:
    """The sum of factor · gradient."""
    return {name: sum(factor * gradient[name] for factor, gradient in terms) for name in terms[0][1]}


def weighted_mean(gradients: list[Gradient], weights: list[float]) -> Gradient:
    return {
        name: mean([weight * gradient[name] for weight, gradient in zip(weights, gradients, strict=True)])
        for name in gradients[0]
    }
