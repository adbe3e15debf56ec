"""Parameters without axes, such as a temperature: under every regularizer, alone and beside others."""

import pytest
import torch
from torch import Tensor, nn

from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.models.losses import cross_entropy
from hpo.optim.regularizers import REGULARIZERS
from hpo.search_space import Range
from hpo.training.loop import Member, train
from tests.training.test_training import CLASSES, FEATURES, SGD, recipe

pytestmark = pytest.mark.usefixtures("one_thread")


class Tempered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
        self.temperature = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) / self.temperature


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_model_trains_as_it_does_alone(name: str) -> None:
    regularizer = REGULARIZERS[name]
    own = {
        key: value.middle() if isinstance(value, Range) else value for key, value in regularizer.hyperparameters.items()
    }
    chosen = recipe()._replace(model=Tempered, regularizer=regularizer)
    members = [Member(seed, SGD | own) for seed in range(3)]
    alone, together = (train(chosen, some)[0] for some in (members[:1], members))
    assert alone.diverged_epoch is None
    assert together.final == pytest.approx(alone.final)


def test_norms_of_single_samples_count_it() -> None:
    torch.manual_seed(0)
    module, inputs, labels = Tempered(), torch.randn(5, FEATURES, dtype=torch.float64), torch.arange(5) % CLASSES
    params = {name: value.detach() for name, value in module.named_parameters()}
    norms = Objective(Network(module, inputs), cross_entropy, inputs[None], labels).sample_grad_norms(params)
    for norm, sample, label in zip(norms, inputs, labels, strict=True):
        loss = cross_entropy(module(sample[None]), label[None])[0]
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        assert norm.item() == pytest.approx(sum(gradient.square().sum().item() for gradient in gradients) ** 0.5)
