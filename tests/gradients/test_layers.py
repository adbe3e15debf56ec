"""Every common layer of torch.nn trains as in a plain loop, under every kind of regularizer, alone and together."""

from collections.abc import Callable
from typing import Any

import pytest
import references
import torch
import torch.nn.functional as F
from layers import LAYERS, Case, network, samples
from populations import middle, populate
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hpo.errors import UsageError
from hpo.gradients.layer_rules import RULES
from hpo.gradients.layer_rules.recurrent import is_recurrent
from hpo.gradients.network import Network
from hpo.gradients.rule_check import rules_hold
from hpo.optim.regularizers import REGULARIZERS
from hpo.training.population import Population

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:There is a performance drop"),  # PyTorch's, where a kernel loops over models
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),  # of the plain loop's evaluation
]

# One step more than are compared with a trace, so that the last one is replayed.
STEPS, SAMPLES, MEMBERS = 4, 2, 3
BY_SAMPLE = " one by one"
WITH_RULE = [
    *("sam", "gvr", "gnvr", "sgsc", "clip_sample"),
    *(name + BY_SAMPLE for name in ("gnvr", "sgsc", "clip_sample")),
]
MIXING = [name for name in LAYERS if name.startswith("BatchNorm")]


def names_of(layer: str) -> list[str]:
    """Second derivatives and single samples show a layer's kernels; more only where it has a rule."""
    module = LAYERS[layer].build()
    if type(module) in RULES or is_recurrent(module):
        return WITH_RULE
    # Without parameters, "gnvr" would ask only the rules of the layers around it.
    own_parameters = list(module.parameters()) and not layer.startswith("Trans")
    return ["gvr", "gnvr" if own_parameters else "gnvr" + BY_SAMPLE]


PAIRS = [(layer, name) for layer in LAYERS for name in names_of(layer)]
SINGLE = [name for name in WITH_RULE if name.startswith(("gnvr", "sgsc", "clip_sample"))]


def settings(name: str, member: int) -> dict[str, float]:
    values = {"learning_rate": 0.02 * (member + 1), "weight_decay": 0.01, "momentum": 0.9}
    return values | middle(REGULARIZERS[name.removesuffix(BY_SAMPLE)], 1 + 0.3 * member)


def minibatch(case: Case, name: str, member: int, step: int) -> tuple[Tensor, Tensor]:
    views = REGULARIZERS[name.removesuffix(BY_SAMPLE)].views
    inputs = [samples(case, SAMPLES, 1000 * member + 10 * step + view) for view in range(views)]
    return torch.stack(inputs), (torch.arange(SAMPLES) + member + step) % 3


def beginning_with(buffers: dict[str, Tensor]) -> Callable[[nn.Module, Any], None]:
    """Before every pass of a step the buffers are what they were before the first."""

    def reset(module: nn.Module, _: Any) -> None:
        for name, value in buffers.items():
            layer, _, leaf = name.rpartition(".")
            module.get_submodule(layer)._buffers[leaf] = value.clone()

    return reset


def plain_loop(case: Case, name: str, member: int, mixes: bool) -> tuple[nn.Module, list[float]]:
    """One model and torch.optim: the network after the steps, in evaluation, and the losses."""
    by_sample, hyper = name.endswith(BY_SAMPLE), settings(name, member)
    module = network(case, member, by_sample, plain=True)
    optimizer = torch.optim.SGD(module.parameters(), hyper["learning_rate"], 0.9, weight_decay=0.01)
    losses: list[float] = []
    memory: references.Memory = {}
    for step in range(STEPS):
        inputs, labels = minibatch(case, name, member, step)
        asked = network(case, member, by_sample, plain=True)
        asked.load_state_dict(module.state_dict())
        asked.register_forward_pre_hook(beginning_with({key: value.clone() for key, value in module.named_buffers()}))
        batch = references.Batch(asked, inputs, labels, together=mixes)
        losses.append(references.mean(batch.sample_losses()).item())
        gradient, _ = references.REGULARIZERS[name.removesuffix(BY_SAMPLE)](batch, hyper, memory)
        with torch.no_grad():
            module(inputs[0])  # by which the buffers change
        for key, parameter in module.named_parameters():
            parameter.grad = gradient[key].detach()
        optimizer.step()
    return module.eval(), losses


def population_of(case: Case, name: str, members: int) -> Population:
    hypers = [settings(name, member) for member in range(members)]
    modules = [network(case, member, name.endswith(BY_SAMPLE)) for member in range(members)]
    example = minibatch(case, name, 0, 0)[0][0]
    return populate(modules, REGULARIZERS[name.removesuffix(BY_SAMPLE)], hypers, example=example)


def train(population: Population, case: Case, name: str, members: int) -> list[Tensor]:
    """Losses [K] of every step."""
    losses = []
    for step in range(STEPS):
        batches = [minibatch(case, name, member, step) for member in range(members)]
        inputs, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
        losses.append(population.step(inputs, labels)["train_loss"])
    return losses


def assert_same(population: Population, losses: list[Tensor], case: Case, expected: dict[int, Any]) -> None:
    close = {"rtol": 1e-6, "atol": 1e-8}
    inputs, labels = samples(case, 5, 77), torch.arange(5) % 3
    places = torch.arange(5).expand(len(population), -1)
    [evaluated] = population.evaluate(inputs, places, torch.ones(places.shape), labels[places])
    for member in {0, len(population) - 1}:
        module, slow = expected[member]
        actual = torch.stack(losses)[:, member]
        torch.testing.assert_close(actual, torch.tensor(slow, dtype=torch.float64), **close)
        for key, value in module.named_parameters():
            torch.testing.assert_close(population.params[key][member], value.detach(), **close, msg=key)
        for key, value in module.named_buffers():
            torch.testing.assert_close(population.buffers[key][member], value, **close, msg=key)
        with torch.no_grad():
            loss = F.cross_entropy(module(inputs), labels)
        torch.testing.assert_close(evaluated["loss"][member], loss, **close)


@pytest.mark.parametrize(("layer", "name"), PAIRS)
def test_a_layer_trains_as_in_a_plain_loop(layer: str, name: str) -> None:
    case = LAYERS[layer]
    if layer in MIXING and name in SINGLE:
        for members in (1, MEMBERS):
            with pytest.raises(UsageError, match=r"layer 'layer' \(BatchNorm.d\) mixes the samples of a batch"):
                train(population_of(case, name, members), case, name, members)
        return
    with sdpa_kernel(SDPBackend.MATH):  # whose second derivative PyTorch has
        expected = {member: plain_loop(case, name, member, layer in MIXING) for member in (0, MEMBERS - 1)}
    for members in (1, MEMBERS):
        population = population_of(case, name, members)
        assert_same(population, train(population, case, name, members), case, expected)


# PyTorch's own function takes no two types, or the case itself is in float64.
WITHOUT_BFLOAT16 = {"Bilinear", "one_hot", "complex buffer"}
# Where rounding changes the largest value, or the gradient is a difference of almost equal numbers.
ILL_CONDITIONED = {"AdaptiveMaxPool2d", "MaxUnpool2d", "CosineSimilarity", "BatchNorm1d without statistics"}


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # PyTorch's, of its speed
@pytest.mark.parametrize("name", ["sam", "gvr", "clip_sample" + BY_SAMPLE])
@pytest.mark.parametrize("layer", [name for name in LAYERS if name not in WITHOUT_BFLOAT16 | ILL_CONDITIONED])
def test_a_layer_trains_in_bfloat16(layer: str, name: str) -> None:
    """The step of two models is that in float32 but for rounding."""
    if layer in MIXING and name.endswith(BY_SAMPLE):
        pytest.skip("refused, see above")
    steps = []
    for bfloat16 in (False, True):
        modules = [network(LAYERS[layer], member, name.endswith(BY_SAMPLE)).float() for member in range(2)]
        batches = [minibatch(LAYERS[layer], name, member, 0) for member in range(2)]
        inputs, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
        inputs = inputs if LAYERS[layer].tokens else inputs.float()
        regularizer = REGULARIZERS[name.removesuffix(BY_SAMPLE)]
        hypers = [settings(name, member) for member in range(2)]
        population = populate(modules, regularizer, hypers, example=inputs[0, 0], bfloat16=bfloat16)
        before = {key: value.clone() for key, value in population.params.items()}
        population.step(inputs, labels)
        steps.append(torch.cat([(population.params[key] - value).flatten() for key, value in before.items()]))
    full, half = steps
    assert 0 < (half - full).norm() <= 0.1 * full.norm()


@pytest.mark.parametrize(
    "layer", [name for name in LAYERS if name.startswith(("RNN", "LSTM", "GRU")) and "Cell" not in name]
)
def test_recurrent_layers_need_no_gradients_of_single_samples(layer: str) -> None:
    """A whole batch in one pass: one by one, a step takes several times as long."""
    case = LAYERS[layer]
    module = network(case, 0, False)
    assert rules_hold(Network(module, samples(case, 4)))


def test_a_recurrent_layer_with_other_parameters_has_no_rule() -> None:
    """As weight normalisation makes them."""
    module = nn.LSTM(4, 3, batch_first=True)
    assert is_recurrent(module)
    module.weight_hh_l0_g = nn.Parameter(torch.ones(12, 1))
    assert not is_recurrent(module)
