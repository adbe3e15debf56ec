"""Before a worker trains: whether each configuration's parameter groups and PyTorch optimizer fit the network."""

from hpo.errors import HpoError, UsageError
from hpo.optim.parameter_groups import parameter_groups
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.study.components import optimizer_of
from hpo.study.study import Configuration
from hpo.training.initial_models import build
from hpo.training.torch_instances import Builder
from hpo.worker.recipes import Recipes


def check_optimizers(recipes: Recipes) -> None:
    """Tries the optimizers written for PyTorch, and the patterns of parameter groups, on a new network.

    Raises:
        UsageError: a configuration, which it names, cannot be trained.
    """
    for configuration in recipes.study.configurations:
        try:
            _check(recipes, configuration)
        except UsageError as error:
            raise UsageError(f"configuration {configuration.name!r}: {error}") from error
        except HpoError:
            raise
        except Exception:  # a defect of the user's code: training will meet it and record it as a failure
            continue


def _check(recipes: Recipes, configuration: Configuration) -> None:
    optimizer = optimizer_of(configuration)
    if not (configuration.groups or configuration.no_decay or isinstance(optimizer, TorchOptimizer)):
        return
    parts = recipes.parts(configuration.name, recipes.setting_to_try(configuration.name, {}))
    module = build(recipes.study_with(parts.training).model, 0)
    groups = parameter_groups(module, configuration.groups, configuration.no_decay)
    if isinstance(optimizer, TorchOptimizer):
        parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
        values = {name: parts.hyperparameters[name] for name in optimizer.hyperparameters}
        Builder(optimizer, groups).takes_closure(parameters, values)
