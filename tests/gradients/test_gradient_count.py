"""How many gradient evaluations a step of each regularizer needs, and what training reports of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import grad, vmap

from hpo.data import Dataset, Source
from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.models import MLP
from hpo.models.losses import cross_entropy
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.torch_optimizer import from_torch
from hpo.search_space import log_range
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLES, CLASSES = 64, 3
# By the formulas of the papers. GNVR differentiates per-sample gradients; GVR has two views, and differentiates the
# last layer's gradients of 32 samples in each, whose own backward pass ends in that layer.
EVALUATIONS = {
    "none": 1, "sam": 2, "asam": 2, "vasso": 2, "gam": 4, "gam_paper": 4, "gam_adaptive": 4, "gvr": 2 + 2 * 32 / 64,
    "gvr_independent": 2 + 2 * 32 / 64, "gnvr": 2, "sgsc": 1, "clip_global": 1, "clip_sample": 1, "rogc": 1,
}  # fmt: skip


class Blobs(Dataset):
    """Three clouds."""

    def load(self) -> Source:
        labels = torch.arange(160) % CLASSES
        inputs = torch.randn(160, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return Source(inputs[:120], labels[:120], inputs[120:], labels[120:], CLASSES)


def network() -> torch.nn.Module:
    return MLP((5, 6, CLASSES))().double()


GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(SAMPLES, 5, generator=GENERATOR, dtype=torch.float64)
NETWORK = Network(network(), INPUTS)
PARAMS = {name: parameter.detach() for name, parameter in NETWORK.module.named_parameters()}


def objective(views: int = 1) -> Objective:
    return Objective(NETWORK, cross_entropy, INPUTS.expand(views, -1, -1), torch.arange(SAMPLES) % CLASSES)


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("models", [1, 3])
def test_every_regularizer_needs_the_gradients_of_its_formula(name: str, models: int) -> None:
    regularizer, counts = REGULARIZERS[name], []

    def step(params: Tree) -> Tree:
        chosen = objective(regularizer.views)
        hyper = {key: torch.tensor(0.1).double() for key in regularizer.hyperparameters}
        gradient = regularizer.grads(chosen, params, regularizer.init(params), hyper)[0]
        counts.append(chosen.gradient_evaluations)
        return gradient

    vmap(step)({key: leaf.expand(models, *leaf.shape) for key, leaf in PARAMS.items()})
    step(PARAMS)
    assert counts == pytest.approx([EVALUATIONS[name]] * 2)


def hessian_row(objective: Objective, params: Tree) -> Tree:
    return grad(lambda at: next(iter(grad(objective.loss)(at).values())).flatten()[0])(params)


def three_gradients(objective: Objective, params: Tree) -> Tree:
    def scaled(factor: Any) -> Tree:
        return grad(objective.loss)({name: factor * leaf for name, leaf in params.items()})

    return vmap(scaled)(torch.ones(3, dtype=torch.float64))


USES: dict[str, tuple[float, Callable[[Objective, Tree], Any]]] = {
    "a loss": (0, lambda objective, params: objective.loss(params)),
    "a part": (0.25, lambda objective, params: objective.subset(slice(16)).grad(params)),
    "micro-batches": (1, lambda objective, params: [part.grad(params) for part in objective.micro_batches(4)]),
    "every sample": (1, lambda objective, params: objective.sample_grads(params)),
    "norms and a weighted gradient": (
        1,
        lambda objective, params: objective.weighted_grad(params, objective.sample_grad_norms(params)),
    ),
    "the last layer": (0, lambda objective, params: objective.last_layer_grad(params)),
    "all layers": (1, lambda objective, params: objective.last_layer_grad(params, layers=("linear1", "linear2"))),
    "torch.func": (1, lambda objective, params: grad(objective.loss)(params)),
    "a double backward pass": (2, hessian_row),
    "three gradients": (3, three_gradients),
}


@pytest.mark.parametrize("use", USES)
def test_differentiated_passes_count_by_samples_and_order(use: str) -> None:
    expected, function = USES[use]
    chosen = objective()
    function(chosen, PARAMS)
    assert chosen.gradient_evaluations == pytest.approx(expected)


SGD = {"learning_rate": 0.1, "weight_decay": 1e-3, "momentum": 0.9}


def results(regularizer: str, **changes: Any) -> list[dict[str, float]]:
    parts = {"optimizer": OPTIMIZERS["sgd"], "epochs": 3, "batch_size": 16, "last_batch": "keep"} | changes
    dataset = Blobs(validation=0.25)
    hyper = SGD | {"rho": 0.1} if regularizer == "sam" else SGD
    members = [Member(0, hyper), Member(1, hyper)]
    return [
        each.final
        for each in train(Recipe(dataset, dataset.load(), network, REGULARIZERS[regularizer], **parts), members)
    ]


@pytest.mark.parametrize(("last_batch", "steps"), [("keep", 18), ("drop", 15)])
def test_a_run_reports_its_steps_and_their_gradient_evaluations(last_batch: str, steps: int) -> None:
    """90 training samples are 5 batches of 16 and an incomplete one."""
    for regularizer, evaluations in (("none", 1.0), ("sam", 2.0)):
        for final in results(regularizer, last_batch=last_batch):
            assert (final["steps"], final["gradient_evaluations"]) == (steps, evaluations)


def test_evaluations_that_an_optimizer_requests_are_counted() -> None:
    class Thrice(torch.optim.SGD):
        """Evaluates the gradient three times in each step."""

        def step(self, closure: Any = None) -> Any:
            for _ in range(3):
                closure()
            return super().step()

    optimizer = from_torch(Thrice, learning_rate=log_range(1e-3, 1))
    dataset = Blobs(validation=0.25)
    recipe = Recipe(dataset, dataset.load(), network, REGULARIZERS["sam"], optimizer, 2, 16)
    [result] = train(recipe, [Member(0, SGD | {"dampening": 0.0, "rho": 0.1})])
    assert result.final["gradient_evaluations"] == pytest.approx(2 * (1 + 3))  # the step's own gradient as well
