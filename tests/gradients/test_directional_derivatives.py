"""A penalty on the loss's derivative along a direction, which `torch.func.jvp` computes, has the right gradient."""

import pytest
import torch
import torch.nn.functional as F
from layers import LAYERS, Case, network, samples
from populations import populate
from torch import Tensor, nn

from hpo.gradients.objective import Objective
from hpo.optim.regularizer import Regularizer
from hpo.tree import Tree

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),  # which PyTorch's own `jvp` calls
    pytest.mark.filterwarnings("ignore:There is a performance drop"),  # PyTorch's, where a kernel loops over models
]

SAMPLES, RATE, STRENGTH = 4, 0.1, 0.5
SETTING = {"learning_rate": RATE, "weight_decay": 0.0, "momentum": 0.0, "strength": STRENGTH}
NORMS = [name for name in LAYERS if "Norm" in name]


def direction(params: Tree) -> Tree:
    return {
        name: torch.cos(torch.arange(leaf.numel(), dtype=leaf.dtype)).view_as(leaf) for name, leaf in params.items()
    }


def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    along = direction(params)

    def penalty(at: Tree) -> Tensor:
        return hyper["strength"] * torch.func.jvp(objective.loss, (at,), (along,))[1].square()

    gradient, value = objective.penalised_grad(params, penalty)
    return gradient, state, {"penalty": value}


def stepped(module: nn.Module, inputs: Tensor, labels: Tensor) -> Tree:
    """The parameters after one step, by the gradient of a gradient."""
    params = dict(module.named_parameters())
    loss = F.cross_entropy(module(inputs), labels)
    gradient = torch.autograd.grad(loss, list(params.values()), create_graph=True)
    along = direction(params).values()
    slope = sum(((each * way).sum() for each, way in zip(gradient, along, strict=True)), loss.new_zeros(()))
    total = torch.autograd.grad(loss + STRENGTH * slope.square(), list(params.values()))
    return {name: leaf.detach() - RATE * each for (name, leaf), each in zip(params.items(), total, strict=True)}


def minibatch(case: Case, member: int) -> tuple[Tensor, Tensor]:
    return samples(case, SAMPLES, member), (torch.arange(SAMPLES) + member) % 3


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("layer", NORMS)
def test_its_step_is_that_of_a_gradient_of_a_gradient(layer: str, members: int) -> None:
    case = LAYERS[layer]
    batches = [minibatch(case, member) for member in range(members)]
    inputs, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
    modules = [network(case, member) for member in range(members)]
    regularizer = Regularizer("slope", grads, {"strength": STRENGTH})
    population = populate(modules, regularizer, [SETTING] * members, example=inputs[0])
    population.step(inputs[:, None], labels)
    for member in range(members):
        module = network(case, member)
        slow = stepped(module, *batches[member])
        for name, leaf in slow.items():
            torch.testing.assert_close(population.params[name][member], leaf, rtol=1e-7, atol=1e-10, msg=name)
        for name, buffer in module.named_buffers():
            torch.testing.assert_close(population.buffers[name][member], buffer, msg=name)
