"""How many models to train side by side: a rule on the work and the memory of one, and on the device.

A stopwatch would give another number whenever the machine is busy, and with it other trials. What a population saves is
the time to launch the operations of a step, a part of a millisecond: once a step has work for much longer, more models
gain nothing.
"""

from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from hpo.dispatch import DispatchMode
from hpo.training.initial_models import build, check_model
from hpo.training.loop import Recipe
from hpo.training.model_checks import run_on_examples

MAX_POPULATION = {"cpu": 32, "cuda": 1024}  # beyond these nothing was gained by the smallest networks
# Floating-point operations of a population's step that take some ten times as long as launching them: on a core of a
# CPU, which each worker has, and on a GPU, whose graphs launch a step as a whole but which needs more to be busy.
ENOUGH = {"cpu": 0.25e9, "cuda": 32e9}
STEP = 3  # forward passes that a training step is worth: backward, operands are multiplied twice
COPIES = 8  # of the parameters: gradients, two moments, and as much again for what a step makes on the way
KEPT = 4  # times the outputs of a forward pass: of two views, and as much again on the way back
MEMORY_SHARE = 0.25  # of the whole device: it has other tenants, several workers among them
SAMPLES = 2  # that are passed through the network


class Cost(NamedTuple):
    """What a forward pass of one model asks for.

    Attributes:
        operations: floating-point operations of its matrix products and convolutions, a sample.
        outputs: bytes of what its operations return, a sample. parameters: bytes.
    """

    operations: float
    outputs: float
    parameters: int


def population_size(cost: Cost, batch_size: int, device: str, memory: float) -> int:
    """The number of models to be trained side by side.

    Args:
        device: "cpu" or "cuda". memory: bytes of the device, whether free or not.
    """
    step = STEP * batch_size * cost.operations
    needed = COPIES * cost.parameters + KEPT * batch_size * cost.outputs
    return int(
        max(1, min(MAX_POPULATION[device], ENOUGH[device] / max(step, 1.0), MEMORY_SHARE * memory / max(needed, 1.0)))
    )


def measure_cost(recipe: Recipe) -> Cost:
    """One forward pass of a new network on the first samples of the data, on the CPU.

    Raises:
        UsageError: the network cannot be trained, or not on such samples.
    """
    check_model(recipe.model, recipe.source.inputs, recipe.source.test_inputs)
    module, inputs = build(recipe.model, 0).cpu(), recipe.source.inputs[:SAMPLES].cpu()
    with _Operations() as seen:
        run_on_examples(module, inputs)
    parameters = sum(leaf.numel() * leaf.element_size() for leaf in module.parameters())
    return Cost(seen.operations / len(inputs), seen.outputs / len(inputs), parameters)


class _Operations(DispatchMode):
    """Counts floating-point operations as `torch.utils.flop_counter` does, and the bytes of what is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.outputs = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        if count:
            self.operations += count(*args, **(kwargs or {}), out_val=returned)
        if not function.is_view:
            tensors = [leaf for leaf in tree_leaves(returned) if isinstance(leaf, Tensor)]
            self.outputs += sum(leaf.numel() * leaf.element_size() for leaf in tensors)
        return returned
