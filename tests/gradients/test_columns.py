"""Convolutions of several models by columns are PyTorch's, with first and second derivatives."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from hpo.gradients import columns
from hpo.gradients.substitutes import Substitutes

OPTIONS: list[dict[str, Any]] = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (2,), "padding": (3,), "dilation": (2,)},
    {"groups": 2, "padding": 2},
    {"padding": "same"},
]


def penalty(weight: Tensor, inputs: Tensor, options: dict[str, Any]) -> Tensor:
    """A function of a convolution and of its derivative."""

    def value(weight: Tensor) -> Tensor:
        return F.conv1d(inputs, weight, weight[:, 0, 0], **options).sin().sum()

    return value(weight) + grad(value)(weight).square().sum()


@pytest.mark.parametrize("options", OPTIONS)
def test_convolutions_and_their_derivatives_are_pytorchs(options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 5, 4, 9, dtype=torch.float64, generator=generator)
    weights = torch.randn(3, 6, 4 // options.get("groups", 1), 3, dtype=torch.float64, generator=generator)
    gradients = grad(penalty, argnums=(0, 1))
    with Substitutes():
        lifted = vmap(lambda weight, each: gradients(weight, each, options))(weights, inputs)
        outputs = vmap(lambda weight, each: F.conv1d(each, weight, **options))(weights, inputs)
    for model in range(3):
        expected = F.conv1d(inputs[model], weights[model], **options)
        torch.testing.assert_close(outputs[model], expected, rtol=1e-12, atol=1e-12)
        for own, alone in zip(lifted, gradients(weights[model], inputs[model], options), strict=True):
            torch.testing.assert_close(own[model], alone, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("numbers", [columns.MAX_NUMBERS, 1])
def test_large_columns_are_left_to_pytorch(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_NUMBERS", numbers)
    inputs, weights = torch.randn(2, 5, 4, 9), torch.randn(2, 6, 4, 3)
    with Substitutes(), torch.profiler.profile() as profile:
        vmap(F.conv1d)(inputs, weights)
    names = {event.key for event in profile.key_averages()}
    assert ("aten::convolution" in names) == (numbers == 1)


def test_inputs_too_short_for_the_kernel_raise_pytorchs_error() -> None:
    with Substitutes(), pytest.raises(RuntimeError, match="Kernel size"):
        vmap(F.conv1d)(torch.randn(2, 5, 4, 2), torch.randn(2, 6, 4, 3))
