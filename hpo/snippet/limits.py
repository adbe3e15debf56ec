"""What of a study a script cannot have, what its optimizer needs, and what it draws otherwise than hpo."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.optim.averages import EMA, SWA
from hpo.optim.parameter_groups import parameter_groups
from hpo.optim.regularizer import stateless
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.stages import Stages
from hpo.training.initial_models import build
from hpo.training.recipe import Recipe
from hpo.training.torch_instances import Builder
from hpo.user_code.generators import draws

# What to do where a script is not possible.
INSTEAD = "take the trained network by hpo run --keep-weights and hpo.load_model"


def check_possible(recipe: Recipe, values: Mapping[str, Any]) -> None:
    """Raises UsageError for what a script cannot have; `values` are those of all hyperparameters."""
    reasons = {
        "accumulate where the regularizer has a state": recipe.accumulate > 1
        and recipe.regularizer.init is not stateless,
        "mixup and cutmix": getattr(recipe.dataset, "mixing", None),
        "precision": recipe.precision != "float32",
        "a batch size that changes": isinstance(recipe.batch_size, Stages),
        "images that are read from files while training": recipe.source.is_streamed,
        "another average of the weights than EMA and SWA": type(recipe.average) not in (EMA, SWA, type(None)),
    }
    for name, used in reasons.items():
        if used:
            raise UsageError(f"a script cannot have {name} yet; leave that out of the study, or {INSTEAD}")
    if isinstance(recipe.optimizer, TorchOptimizer) and any(_builder(recipe).takes_closure(*_trial(recipe, values))):
        raise UsageError(
            f"a script cannot have optimizer {recipe.optimizer.name!r}, whose step needs a closure; {INSTEAD}"
        )


def has_modes(recipe: Recipe, values: Mapping[str, Any]) -> bool:
    """Whether an instance of the optimizer has train() and eval()."""
    if not isinstance(recipe.optimizer, TorchOptimizer):
        return False
    return any(hasattr(each, "eval") for each in _builder(recipe).build_tried(*_trial(recipe, values))[0])


def find_draws(recipe: Recipe, values: Mapping[str, Any]) -> list[str]:
    """What PyTorch draws in a script, so that the numbers are others than in hpo."""
    inputs = recipe.source.inputs
    assert isinstance(inputs, Tensor)
    network = build(recipe.model, 0).train()
    drawn = ["Dropout masks"] if draws(lambda: network(inputs[:2])) else []
    if isinstance(recipe.optimizer, TorchOptimizer):
        builder, trial = _builder(recipe), _trial(recipe, values)

        def step() -> None:
            for optimizer in builder.build_tried(*trial)[0]:
                optimizer.step()

        drawn += ["random numbers in the optimizer"] if draws(step) else []
    return drawn


def _builder(recipe: Recipe) -> Builder:
    assert isinstance(recipe.optimizer, TorchOptimizer)
    return Builder(recipe.optimizer, parameter_groups(build(recipe.model, 0), recipe.groups, recipe.no_decay))


def _trial(recipe: Recipe, values: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The parameters of a network and the optimizer's hyperparameters."""
    network: nn.Module = build(recipe.model, 0)
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    return parameters, {name: values[name] for name in recipe.optimizer.hyperparameters}
