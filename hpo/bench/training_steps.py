"""The steps that the benchmark times: that of a population, and that of the usual script for one model."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo.data import Dataset, Source, split
from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.models import MLP, ConvNet1d, ResNet
from hpo.models.losses import cross_entropy
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.schedules import Constant
from hpo.optim.torch_optimizer import from_torch
from hpo.space import split_space
from hpo.training.population import Population
from hpo.training.samples import Samples
from hpo.training.steps import Steps

# Networks by the name that `--model` takes, with the shape of one input; images without BatchNorm, so that every
# regularizer can be measured.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (MLP((40, 256, 256, 10)), (40,)),
    "convnet1d": (ConvNet1d(), (40,)),
    "convnet1d-group": (ConvNet1d(norm="group"), (40,)),
    "resnet18": (ResNet(norm="group"), (3, 32, 32)),
}
CLASSES = 10
OPTIMIZER = "adamw"
TORCH = "torch."  # begins the name of a class of torch.optim
BATCHES = 10  # in the training samples


def optimizer_names() -> list[str]:
    """The optimizers that can be measured."""
    names = [name for name, value in vars(torch.optim).items() if isinstance(value, type)]
    return [
        OPTIMIZER,
        *sorted(f"{TORCH}{name}" for name in names if name not in ("LBFGS", "Muon", "Optimizer", "SparseAdam")),
    ]


class Setting(NamedTuple):
    """The setting of a measurement: a key of `MODELS`, the samples of a step, the device.

    `bfloat16` means mixed precision, and channels last for the images of a single network. `optimizer` is "adamw" or
    the name of a class of `torch.optim`, as in "torch.Adamax".
    """

    model: str
    batch_size: int
    device: torch.device
    bfloat16: bool = False
    optimizer: str = OPTIMIZER

    @property
    def torch_optimizer(self) -> type[torch.optim.Optimizer]:
        """The class that the naive loop uses."""
        return getattr(torch.optim, self.optimizer.removeprefix(TORCH) if self.optimizer != OPTIMIZER else "AdamW")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return MODELS[self.model][1]


def training_steps(population: Population, setting: Setting) -> Steps:
    """The population's steps on random samples, which each step gathers; on CUDA they are one graph."""
    size = setting.batch_size
    (inputs,), (labels,) = random_batch((1, 1, BATCHES * size), setting.shape, torch.device("cpu"))
    source, dataset = Source(inputs[0], labels, inputs[0], labels, CLASSES), Dataset()
    samples = Samples(dataset, source, {0: split(source, dataset, 0)}, [0] * len(population), setting.device)
    steps = Steps(population, samples, size, 1, {"learning_rate": Constant()})
    steps.start_epoch(1)
    return steps


def make_population(name: str, models: int, setting: Setting) -> tuple[Population, tuple[Tensor, Tensor]]:
    """A population with a regularizer, and a batch for its step."""
    is_built_in = setting.optimizer in OPTIMIZERS
    optimizer = (
        OPTIMIZERS[setting.optimizer] if is_built_in else from_torch(setting.torch_optimizer, learning_rate=1e-3)
    )
    regularizer = REGULARIZERS[name]
    values = _defaults({**optimizer.hyperparameters, **regularizer.hyperparameters})
    torch.manual_seed(0)
    inputs, labels = random_batch((models, regularizer.views, setting.batch_size), setting.shape, setting.device)
    population = Population(
        [MODELS[setting.model][0]() for _ in range(models)],
        regularizer,
        optimizer,
        {key: torch.full((models,), value) for key, value in values.items()},
        cross_entropy,
        inputs[0, 0],
        bfloat16=setting.bfloat16,
        channels_last=setting.bfloat16,
    )
    return population, (inputs, labels)


def naive_step(name: str, setting: Setting) -> Callable[[], object]:
    """The step of a script that trains one model: no layer rules, PyTorch's own optimizer."""
    torch.manual_seed(0)
    device, bfloat16 = setting.device, setting.bfloat16
    module = MODELS[setting.model][0]().to(device)
    (views,), (labels,) = random_batch((1, REGULARIZERS[name].views, setting.batch_size), setting.shape, device)
    if bfloat16 and len(setting.shape) == 3:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = setting.torch_optimizer(module.parameters(), lr=1e-3)  # type: ignore[call-arg]
    if name != "none":
        return _regularized_step(name, module, optimizer, views, labels, bfloat16)
    inputs = views[0]
    if bfloat16 and len(setting.shape) == 3:
        inputs = inputs.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16) if bfloat16 else nullcontext():
            outputs = module(inputs)
        F.cross_entropy(outputs.float(), labels).backward()
        optimizer.step()

    return step


def _regularized_step(
    name: str, module: nn.Module, optimizer: torch.optim.Optimizer, views: Tensor, labels: Tensor, bfloat16: bool
) -> Callable[[], object]:
    regularizer = REGULARIZERS[name]
    network = Network(module, views[0])
    network.bfloat16 = network.channels_last = bfloat16
    network.disable_rules("the naive loop has none")
    values = _defaults(regularizer.hyperparameters)
    hyper = {key: torch.tensor(value, device=views.device) for key, value in values.items()}
    parameters = dict(module.named_parameters())
    state = regularizer.init({key: value.detach() for key, value in parameters.items()})

    def step() -> None:
        nonlocal state
        params = {key: value.detach() for key, value in parameters.items()}
        grads, state, _ = regularizer.grads(Objective(network, cross_entropy, views, labels), params, state, hyper)
        for key, parameter in parameters.items():
            parameter.grad = grads[key]
        optimizer.step()

    return step


def random_batch(leading: tuple[int, int, int], shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs [models, views, samples, ...] and labels [models, samples] for `leading` = (models, views, samples)."""
    models, _, samples = leading
    inputs = torch.randn(*leading, *shape, device=device)
    return inputs, torch.randint(CLASSES, (models, samples), device=device)


def _defaults(hyperparameters: Any) -> dict[str, Any]:
    """Fixed values, and the middles of ranges."""
    space = split_space(hyperparameters)
    return space.complete({name: bounds.middle() for name, bounds in space.tuned.items()})
