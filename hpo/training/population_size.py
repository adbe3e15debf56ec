"""How many models to train side by side: a rule from the work and the memory of one model, and from the device.

It measures no time, as a busy machine would then change the population size and with it the results. A population
saves the time to launch the operations of a step, a fraction of a millisecond: once the work of a step takes much
longer than that, more models gain nothing.
"""

from typing import NamedTuple

from hpo.training.initial_models import build, check_model
from hpo.training.model_checks import run_on_examples
from hpo.training.operation_counter import OperationCounter
from hpo.training.recipe import Recipe

MAX_POPULATION = {"cpu": 32, "cuda": 1024}  # beyond these the smallest networks gained nothing
# Floating-point operations of a population's step that take about ten times as long as launching them: on one CPU core
# (per worker), and on a GPU, which launches a step as one CUDA graph but needs more work to be busy.
ENOUGH_OPERATIONS = {"cpu": 0.25e9, "cuda": 32e9}
PASSES_PER_STEP = 3  # a backward pass takes about two forward passes
PARAMETER_COPIES = 8  # gradients, two moments, and as much again for temporary values of a step
OUTPUT_COPIES = 4  # outputs of the forward passes of two views, and as much again for the backward pass
MEMORY_SHARE = 0.25  # of the whole device, which several workers and other programs share
SAMPLES = 2  # that are passed through the network


class Cost(NamedTuple):
    """The cost of one model's forward pass.

    Attributes:
        operations: floating-point operations of its matrix products and convolutions, per sample.
        outputs: bytes that its operations return, per sample. parameters: bytes of the parameters.
    """

    operations: float
    outputs: float
    parameters: int


def population_size(cost: Cost, batch_size: int, device: str, memory: float, accumulate: int = 1) -> int:
    """The number of models to train side by side.

    Args:
        accumulate: micro-batches of each minibatch.
        device: "cpu" or "cuda". memory: bytes of the device, whether free or not.
    """
    operations = PASSES_PER_STEP * batch_size * cost.operations
    needed = PARAMETER_COPIES * cost.parameters + OUTPUT_COPIES * batch_size / accumulate * cost.outputs
    by_work, by_memory = ENOUGH_OPERATIONS[device] / max(operations, 1.0), MEMORY_SHARE * memory / max(needed, 1.0)
    return int(max(1, min(MAX_POPULATION[device], by_work, by_memory)))


def measure_cost(recipe: Recipe) -> Cost:
    """The cost of a new network on the first samples of the data, counted in one forward pass on the CPU.

    Raises:
        UsageError: the network cannot be trained, or not on such samples.
    """
    check_model(recipe.model, recipe.source.inputs, recipe.source.test_inputs)
    module, inputs = build(recipe.model, 0).cpu(), recipe.source.inputs[:SAMPLES].cpu()
    with OperationCounter() as counter:
        run_on_examples(module, inputs)
    parameters = sum(leaf.numel() * leaf.element_size() for leaf in module.parameters())
    return Cost(counter.operations / len(inputs), counter.outputs / len(inputs), parameters)
