"""What of a study a script cannot have."""

from collections.abc import Mapping
from typing import Any

from hpo.errors import UsageError
from hpo.optim.parameter_groups import parameter_groups
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.snippet.extraction import INSTEAD
from hpo.stages import Stages
from hpo.training.initial_models import build
from hpo.training.recipe import Recipe
from hpo.training.torch_instances import Builder


def check_possible(recipe: Recipe, values: Mapping[str, Any]) -> None:
    """Raises UsageError for what a script cannot have; `values` are those of all hyperparameters."""
    reasons = {
        "accumulate": recipe.accumulate > 1,
        "mixup and cutmix": getattr(recipe.dataset, "mixing", None),
        "precision": recipe.precision != "float32",
        "a batch size that changes": isinstance(recipe.batch_size, Stages),
        "images that are read from files while training": recipe.source.is_streamed,
        "an average of the weights": recipe.average is not None,
    }
    for name, used in reasons.items():
        if used:
            raise UsageError(f"a script cannot have {name} yet; leave that out of the study, or {INSTEAD}")
    if isinstance(recipe.optimizer, TorchOptimizer):
        network = build(recipe.model, 0)
        groups = parameter_groups(network, recipe.groups, recipe.no_decay)
        row = {name: parameter.detach() for name, parameter in network.named_parameters()}
        own = {name: values[name] for name in recipe.optimizer.hyperparameters}
        if any(Builder(recipe.optimizer, groups).takes_closure(row, own)):
            raise UsageError(
                f"a script cannot have optimizer {recipe.optimizer.name!r}, whose step needs a closure; {INSTEAD}"
            )
