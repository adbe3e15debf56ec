"""Every regularizer with every kind of targets: slow = fast, by sample, side by side under vmap."""

import copy

import pytest
import references
import targets
import torch
from torch import Tensor
from torch.func import vmap

from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.optim.regularizers import REGULARIZERS
from hpo.tree import Tree
from tests.optim.test_regularizers import assert_same, settings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("case", targets.KINDS)
def test_slow_equals_fast_for_every_member_of_a_population(case: str, name: str) -> None:
    kind, regularizer, models = targets.KINDS[case], REGULARIZERS[name], 2
    hypers = [settings(name)[-1 - member % len(settings(name))] for member in range(models)]
    modules = [targets.build(kind, member) for member in range(models)]
    batches = [targets.batch(kind, 20 + member, views=regularizer.views) for member in range(models)]
    network = Network(copy.deepcopy(modules[0]), batches[0][0][0])
    params = {
        key: torch.stack([dict(module.named_parameters())[key].detach() for module in modules])
        for key, _ in modules[0].named_parameters()
    }
    hyper = {key: torch.tensor([each[key] for each in hypers], dtype=torch.float64) for key in hypers[0]}

    def gradient(params: Tree, hyper: Tree, inputs: Tensor, labels: Tensor) -> tuple[Tree, Tree]:
        objective = Objective(network, kind.loss, inputs, labels)
        result, _, scalars = regularizer.grads(objective, params, regularizer.init(params), hyper)
        return result, dict(scalars)

    stacked = (torch.stack(parts) for parts in zip(*batches, strict=True))
    gradients, scalars = vmap(gradient, randomness="error")(params, hyper, *stacked)
    for member, module in enumerate(modules):
        actual = {key: leaf[member] for key, leaf in gradients.items()}
        numbers = {key: value[member].item() for key, value in scalars.items()}
        batch = references.Batch(copy.deepcopy(module), *batches[member], targets.one_by_one(kind))
        assert_same((actual, numbers), references.REGULARIZERS[name](batch, hypers[member], {}))
    assert network.obstacle is None, "the layer rules hold for every kind of targets"
