"""Small networks for which the layer rules are right, missing, or would be wrong without their check."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo.models import MLP

FEATURES, CLASSES = 6, 3


class Case(NamedTuple):
    """A network and whether the layer rules hold.

    Attributes:
        build: makes the module: inputs [N, 6] -> logits [N, 3] or [N, T, 3].
        obstacle: words of the reason why the rules do not hold; none where they do.
    """

    build: Callable[[], nn.Module]
    obstacle: tuple[str, ...] = ()


class Twice(nn.Module):
    """One layer called twice in a forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.repeated = nn.Linear(FEATURES, FEATURES)
        self.last = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.repeated(self.repeated(inputs).tanh()).tanh())


class OverTime(nn.Module):
    """A Linear over [N, T, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.along_time = nn.Linear(2, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.along_time(inputs.reshape(-1, 3, 2))


class Offset(nn.Module):
    """A parameter outside layers."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(FEATURES, CLASSES)
        self.offset = nn.Parameter(torch.randn(FEATURES))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.hidden(inputs + self.offset)


class Borrowed(nn.Module):
    """A layer whose weight is used a second time outside it."""

    def __init__(self) -> None:
        super().__init__()
        self.lender = nn.Linear(FEATURES, FEATURES)
        self.last = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.lender(inputs).tanh() + F.linear(inputs, self.lender.weight))


class Idle(nn.Module):
    """A layer that the forward pass does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, CLASSES)
        self.idle = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.first(inputs)


class ByKeyword(nn.Module):
    """A layer that gets its input by keyword, which a forward hook does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.named = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.named(input=inputs)


class Own(nn.Linear):
    """A subclass, whose forward pass may differ, so that Linear's rule must not be used."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) * self.weight.sum()


class Gain(nn.Module):
    """A layer type that has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.factors = nn.Parameter(1 + torch.randn(5) / 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.factors


class Tempered(nn.Module):
    """A parameter without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(FEATURES, CLASSES)
        self.temperature = nn.Parameter(torch.tensor(1.5))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.hidden(inputs) / self.temperature


def without_bias() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 5, bias=False), nn.Tanh(), nn.Linear(5, CLASSES, bias=False))


def without_rule() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 5), Gain(), nn.Linear(5, CLASSES))


def tied() -> nn.Module:
    network = nn.Sequential(
        nn.Linear(FEATURES, FEATURES), nn.Tanh(), nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, CLASSES)
    )
    network[2].weight = network[0].weight
    return network


def convolutional() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 2, padding=1), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(2), nn.Conv1d(4, 3, 3, stride=2)]
    return nn.Sequential(nn.Unflatten(1, (1, 2, 3)), *layers, nn.Flatten(), nn.LayerNorm(15), nn.Linear(15, CLASSES))


def circular() -> nn.Module:
    layer = nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular")
    return nn.Sequential(nn.Unflatten(1, (2, 3)), layer, nn.Tanh(), nn.Flatten(), nn.Linear(9, CLASSES))


NETWORKS: dict[str, Case] = {
    "one layer": Case(lambda: nn.Linear(FEATURES, CLASSES)),
    "MLP": Case(MLP((FEATURES, 7, 5, CLASSES))),
    "no bias": Case(without_bias),
    "module without a rule": Case(without_rule, ("1.factors", "no layer with a rule")),
    "tied weights": Case(tied, ("0.weight", "2.weight", "tied")),
    "called twice": Case(Twice, ("repeated", "more than once")),
    "over [N, T, C]": Case(OverTime),
    "convolutional": Case(convolutional),
    "circular padding": Case(circular, ("1", "(4, 2, 3)", "not covered")),
    "bare parameter": Case(Offset, ("offset", "no layer with a rule")),
    "scalar parameter": Case(Tempered, ("temperature", "no layer with a rule")),
    "borrowed weight": Case(Borrowed, ("lender", "differs")),
    "idle layer": Case(Idle, ("idle", "not called")),
    "input by keyword": Case(ByKeyword, ("named", "keyword")),
    "subclass": Case(lambda: nn.Sequential(Own(FEATURES, CLASSES)), ("0.weight", "no layer with a rule")),
}


def build(name: str, seed: int) -> nn.Module:
    """The network in float64 with the initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name].build().double()


def minibatch(seed: int, samples: int = 8, views: int = 1) -> tuple[Tensor, Tensor]:
    """inputs [V, N, 6] in float64 and labels [N]."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(views, samples, FEATURES, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(CLASSES, (samples,), generator=generator)
