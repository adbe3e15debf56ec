"""Layers and parameters that cannot be trained side by side are refused by name before training."""

from collections.abc import Callable

import pytest
import torch
from networks import CLASSES, FEATURES
from small_runs import SIZES, error_message, run
from torch import Tensor, nn

from hpo.models import MLP
from hpo.optim.regularizers import REGULARIZERS

DRAWS = "draws random numbers that do not follow from the seed; "


class Spectral(nn.Module):
    """A filter of complex weights on the frequencies."""

    def __init__(self, real: bool = False) -> None:
        super().__init__()
        weight = torch.randn(4, dtype=torch.cfloat, generator=torch.Generator().manual_seed(0))
        self.filter = nn.Parameter(torch.view_as_real(weight).clone() if real else weight)
        self.last = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.filter if self.filter.is_complex() else torch.view_as_complex(self.filter)
        return self.last(torch.fft.irfft(torch.fft.rfft(inputs) * weight, n=FEATURES))


def mixed() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 4), nn.Linear(4, CLASSES).double())


def behind(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, FEATURES), layer, nn.Linear(FEATURES, CLASSES))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "complex": (Spectral, ("'filter' is complex64", "torch.view_as_real")),
    "bfloat16": (lambda: MLP((FEATURES, CLASSES))().bfloat16(), ("is bfloat16", "precision='bfloat16'")),
    "float16": (lambda: MLP((FEATURES, CLASSES))().half(), ("is float16", "precision='bfloat16'")),
    "two kinds": (mixed, ("'0.weight' is float32 and '1.weight' is float64", ".double()")),
    "norms held down": (lambda: behind(nn.Embedding(5, 3, max_norm=1.0)), ("'1' (Embedding) has max_norm",)),
    "norms of bags held down": (lambda: behind(nn.EmbeddingBag(5, 3, max_norm=1.0)), ("'1' (EmbeddingBag)",)),
    "sparse gradients": (lambda: behind(nn.Embedding(5, 3, sparse=True)), ("'1' (Embedding) has sparse=True",)),
    "random slopes": (lambda: behind(nn.RReLU()), (f"'1' (RReLU) {DRAWS}", "LeakyReLU")),
    "random pools": (lambda: behind(nn.FractionalMaxPool2d(2, 2)), (f"(FractionalMaxPool2d) {DRAWS}",)),
    "dropout in attention": (lambda: behind(nn.MultiheadAttention(6, 1, 0.1)), (f"(MultiheadAttention) {DRAWS}",)),
    "dropout between layers": (lambda: behind(nn.GRU(6, 6, 2, dropout=0.1)), (f"'1' (GRU) {DRAWS}", "nn.Dropout")),
}


@SIZES
@pytest.mark.parametrize("name", ["none", "gnvr"])
@pytest.mark.parametrize("case", CASES)
def test_unsupported_layers_are_refused_by_name(case: str, name: str, members: int) -> None:
    model, words = CASES[case]
    message = error_message(members, model=model, regularizer=REGULARIZERS[name])
    assert all(word in message for word in words), message


@SIZES
@pytest.mark.parametrize("name", ["none", "gnvr", "clip_sample"])
def test_the_advice_for_complex_weights_works(name: str, members: int) -> None:
    population, scalars = run(members, model=lambda: Spectral(real=True), regularizer=REGULARIZERS[name])
    assert scalars[-1]["train_loss"].isfinite().all()
    assert population.params["filter"].shape == (members, 4, 2)


@SIZES
def test_a_gradient_that_pytorch_differentiates_only_once(members: int) -> None:
    class Distances(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(FEATURES, FEATURES), nn.Linear(4, CLASSES)

        def forward(self, inputs: Tensor) -> Tensor:
            rows = self.first(inputs).unflatten(1, (2, 3))
            return self.last(torch.cdist(rows, rows.sin()).flatten(1))

    message = error_message(members, model=Distances, regularizer=REGULARIZERS["gnvr"])
    assert "regularizer 'gnvr'" in message and "_cdist_backward" in message
    assert run(members, model=Distances)[1][-1]["train_loss"].isfinite().all()
