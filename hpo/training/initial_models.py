"""The initial models of a population: built from seeds, the same for the same seed, different only in their tensors."""

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from hpo.data.source import Inputs
from hpo.errors import UsageError
from hpo.optim.parameter_groups import parameter_groups
from hpo.random import stream, training_names
from hpo.stages import batch_size_at
from hpo.tasks import TASKS
from hpo.training.model_checks import check_embedding_indices, check_modules, run_on_examples
from hpo.training.output_check import check_outputs
from hpo.training.plain_calls import check_plain_calls
from hpo.training.population import Population
from hpo.training.recipe import Member, Recipe
from hpo.user_code.calls import equal_values
from hpo.user_code.generators import seeded
from hpo.user_code.messages import warn_once
from hpo.user_code.python_state import state_digest
from hpo.user_code.reachable import reachable

CHECK_SEEDS = (0, 0, 1, 2, 3)  # one seed twice, and others
LARGE = 1_000_000  # parameters; for a larger network one other seed is enough
REMEMBERED_CHECKS = 8
_checked: list[tuple[Callable[[], nn.Module], weakref.ref[Inputs]]] = []  # model functions with the inputs


def build_population(recipe: Recipe, members: Sequence[Member], inputs: Tensor) -> Population:
    """The members' networks with the initial weights of their seeds; some `inputs` [n, ...] are on the device.

    Raises:
        UsageError: the networks cannot be trained side by side.
    """
    check_model(recipe.model, recipe.source.inputs, recipe.source.test_inputs)
    seeds = {(member.seed, member.salt) for member in members}
    modules = {(seed, salt): build(recipe.model, seed, salt) for seed, salt in seeds}
    check_same_attributes(list(modules.values()))
    static = {*recipe.regularizer.static, *recipe.optimizer.static}
    hyperparameters: dict[str, Any] = {}
    for name, value in members[0].hyperparameters.items():
        values = [member.hyperparameters[name] for member in members]
        hyperparameters[name] = value if name in static else _tensor(values)
    groups = parameter_groups(next(iter(modules.values())), recipe.groups, recipe.no_decay)
    population = Population(
        [modules[member.seed, member.salt] for member in members],
        recipe.regularizer,
        recipe.optimizer,
        hyperparameters,
        recipe.sample_loss,
        inputs[: batch_size_at(recipe.batch_size, 1)],
        recipe.precision == "bfloat16",
        recipe.channels_last,
        recipe.metrics,
        recipe.accumulate,
        recipe.dataset.task,
        groups,
        recipe.average,
        [_training_seed(member.seed, member.salt, "optimizer") for member in members],
    )
    check_outputs(population.output_shape, recipe.source.labels, recipe.source.classes, TASKS[recipe.dataset.task])
    return population


def _tensor(values: Sequence[Any]) -> Tensor:
    """Values [K] of a hyperparameter; the population gives numbers the type of its parameters."""
    are_bools = all(isinstance(value, bool) for value in values)
    return torch.tensor(values, dtype=torch.bool if are_bools else torch.float64)


def build(model: Callable[[], nn.Module], seed: int, salt: int = 0) -> nn.Module:
    """The network of a seed, whether its function draws from Python's, numpy's or PyTorch's global generator."""
    with seeded(_training_seed(seed, salt, "initial weights")):
        return model()


def _training_seed(seed: int, salt: int, name: str) -> int:
    return stream(seed, *training_names(salt), name).initial_seed()


def takes_floats_only(model: Callable[[], nn.Module], inputs: Inputs) -> bool:
    """Whether a network does not accept inputs of whole numbers or half precision, but the same numbers in float32."""
    if not isinstance(inputs, Tensor) or inputs.dtype in (torch.float32, torch.float64) or inputs.is_complex():
        return False
    with suppress(Exception):  # what is wrong with the model function or the network is reported where it is checked
        module, examples = build(model, CHECK_SEEDS[0]).cpu(), inputs[:2].cpu()
        try:
            run_on_examples(module, examples)
        except Exception:
            run_on_examples(module, examples.float())
            return True
    return False


def check_model(model: Callable[[], nn.Module], inputs: Inputs, *more: Inputs) -> None:
    """Tries a model function on the inputs of a data set before any training, once per process.

    Args:
        inputs: [M, ...]. more: inputs of other parts, such as the test set's.

    Raises:
        UsageError: one seed gives different networks, networks of different seeds differ in more than parameters and
            buffers, or as `check_embedding_indices` and `check_plain_calls`.
    """
    if any(model is known and tried() is inputs for known, tried in _checked):
        return
    modules = [build(model, CHECK_SEEDS[0])]
    check_modules(modules)
    large = sum(parameter.numel() for parameter in modules[0].parameters()) > LARGE
    attributes = [_copied_attributes(modules[0])]
    for seed in CHECK_SEEDS[1 : 3 if large else None]:
        modules.append(build(model, seed))
        attributes.append(_copied_attributes(modules[-1]))
    if len({id(module) for module in modules}) < len(modules):
        raise UsageError("model returns the same network at every call; make a new one in it, so that seeds differ")
    check_modules(modules)
    first, same_seed, *others = modules
    _check_reproducible(first, same_seed)
    check_same_attributes([first, *others])
    _check_shared_state(*attributes)
    _warn_if_seed_has_no_effect(first, others)
    # On the CPU: after an index out of range, a GPU cannot be used by this process any more.
    check_embedding_indices(others[-1].cpu(), (inputs, *more))
    check_plain_calls(first, same_seed, inputs)
    _checked.append((model, weakref.ref(inputs)))
    del _checked[:-REMEMBERED_CHECKS]


def _check_reproducible(first: nn.Module, same_seed: nn.Module) -> None:
    other = _tensors(same_seed)
    for path, value in _tensors(first).items():
        if not equal_values(value, other[path]):
            raise UsageError(
                f"model gives different initial values of {path!r} for the same seed; draw them with the global "
                "functions of torch, numpy or random, which hpo seeds, instead of its own generator"
            )
    check_same_attributes([first, same_seed], "for the same seed")


def _check_shared_state(first: dict[str, Any], same_seed: dict[str, Any], *others: dict[str, Any]) -> None:
    """Raises UsageError if building a network changes something outside it that depends on its seed.

    What differs between two networks of one seed, such as a count of networks, does not depend on the seed.
    """
    for path in first.keys() & same_seed.keys():
        if equal_values(first[path], same_seed[path]) and any(
            path in other and not equal_values(first[path], other[path]) for other in others
        ):
            raise UsageError(
                f"building a network changes {path.lstrip(': ')!r}, which all networks share; make it a parameter or a "
                "buffer of the network (nn.Parameter, register_buffer)"
            )


def _warn_if_seed_has_no_effect(first: nn.Module, others: Sequence[nn.Module]) -> None:
    def drawn(module: nn.Module) -> dict[str, Tensor]:
        """The parameters that are not constants such as zeros."""
        parameters = module.named_parameters()
        return {name: value for name, value in parameters if value.numel() and (value != value.flatten()[0]).any()}

    if drawn(first) and all(equal_values(drawn(first), drawn(other)) for other in others):
        warn_once(
            "the model function gives every seed the same initial weights; if it calls torch.manual_seed, leave that "
            "out, so that results include the variation from initialisation"
        )


def check_same_attributes(modules: Sequence[nn.Module], when: str = "from seed to seed") -> None:
    """Raises UsageError if networks differ in more than parameters and buffers: one stands for all in training."""
    first = _attributes(modules[0])
    for module in modules[1:]:
        other = _attributes(module)
        for path in (*first, *(path for path in other if path not in first)):
            if path not in first or path not in other or not equal_values(first[path], other[path]):
                raise UsageError(
                    f"the network's {path!r} differs {when} and is neither a parameter nor a buffer; make it one "
                    "(nn.Parameter, register_buffer), and keep layers in an nn.ModuleList"
                )


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Path -> something comparable, for everything in a network except parameters and buffers.

    It leaves out weights that PyTorch computes before each call, as pruning and the older form of weight_norm do.
    """
    excluded = {id(tensor) for tensor in _tensors(module).values()}
    for layer in module.modules():
        for hook in layer._forward_pre_hooks.values():
            if type(hook).__module__.startswith("torch.nn.utils."):
                name = getattr(hook, "name", getattr(hook, "_tensor_name", ""))
                excluded.add(id(getattr(layer, name, None)))
    return {
        path.removeprefix("."): value.detach() if isinstance(value, Tensor) else state_digest(value)
        for path, value in reachable({"": module})
        if id(value) not in excluded
    }


def _copied_attributes(module: nn.Module) -> dict[str, Any]:
    """`_attributes` of a new network, copied before the next one may overwrite what its class or a global holds."""
    attributes = _attributes(module)
    return {path: value.clone() if isinstance(value, Tensor) else value for path, value in attributes.items()}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
