"""The Triton kernel of Adam: on a CPU by Triton's interpreter, where that is installed, and on a GPU."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from hpo.optim import adam

COMPARED = """
import torch
from hpo.optim import adam
from hpo.tree import zeros_like

generator = torch.Generator().manual_seed(0)
names = dict(learning_rate=[1e-2, 1e-3, 0.1], weight_decay=[0.1, 0.01, 0.0], beta1=[0.9] * 3, beta2=[0.999, 0.99, 0.9],
             epsilon=[1e-8] * 3)
hyper = {name: torch.tensor(values) for name, values in names.items()}
for decoupled in (True, False):
    kernel = {"a": torch.randn(3, 37, 50, generator=generator), "b": torch.randn(3, 5, generator=generator)}
    plain = {name: leaf.clone() for name, leaf in kernel.items()}
    states = adam.init(kernel), adam.init(plain)
    for step in range(4):
        grads = {name: torch.randn(leaf.shape, generator=generator) for name, leaf in kernel.items()}
        for method, state, tree in zip((adam.by_kernel, adam.elementwise), states, (kernel, plain)):
            state["step"] += 1
            method(decoupled, grads, state, tree, hyper)
    for name in kernel:
        for one, other in ((kernel, plain), *((states[0][key], states[1][key]) for key in ("mean", "square"))):
            torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=2e-5)
print(adam.kernel_works(torch.device("cpu")))
"""


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs Triton, which comes with PyTorch's CUDA builds"
)
def test_the_kernel_gives_what_the_elementary_operations_give() -> None:
    """Weights and moments over some steps, each model with its own hyperparameters and sizes that fill no block."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", COMPARED]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert process.stdout == "True\n", process.stderr


def test_the_factors_are_those_of_the_definition() -> None:
    hyper = {"learning_rate": 0.1, "weight_decay": 0.2, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-3}
    two_models = {name: torch.tensor([value, value / 2]) for name, value in hyper.items()}
    (first, second) = adam.factors(True, torch.tensor([1.0, 3.0]), two_models).tolist()
    assert first == pytest.approx([0.98, 0.2, 0.9, 0.99, 1.0, 10.0, 1e-3], rel=1e-5)
    sizes = [0.05 / (1 - 0.45**3), (1 - 0.495**3) ** -0.5]
    assert second == pytest.approx([0.995, 0.1, 0.45, 0.495, *sizes, 5e-4], rel=1e-6)
    assert adam.factors(False, torch.tensor([1.0, 3.0]), two_models)[:, 0].tolist() == [1.0, 1.0]


def test_without_triton_the_elementary_operations_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "hpo.optim.adam_triton", raising=False)
    adam.kernel_works.cache_clear()
    assert not adam.kernel_works(torch.device("cpu"))
    adam.kernel_works.cache_clear()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_kernel_works_on_a_gpu() -> None:
    assert adam.kernel_works(torch.device("cuda"))
