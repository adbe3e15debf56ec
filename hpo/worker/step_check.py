"""Before a worker trains: whether the configurations with user code can make a step at all."""

import time
from collections.abc import Iterator

import torch

from hpo.errors import HpoError, UsageError
from hpo.study.components import optimizer_of, regularizer_of
from hpo.study.study import Configuration, Study
from hpo.training.first_step import make_first_step
from hpo.training.recipe import Member
from hpo.user_code.failures import describe_error
from hpo.user_code.ownership import is_user_code
from hpo.user_code.reachable import reachable
from hpo.worker.recipes import Recipes

LIMIT = 20.0  # seconds after which no further configuration is tried: large networks on a CPU take long for a step


def check_first_steps(recipes: Recipes, device: torch.device) -> None:
    """Makes one step of each configuration that trains with user code, with the setting in the middle of its space.

    Otherwise an optimizer that never works would show only when it is its turn, after hours of others.

    Raises:
        UsageError: a step fails.
    """
    start = time.monotonic()
    for configuration in _to_try(recipes.study):
        if time.monotonic() - start < LIMIT:
            _check(recipes, configuration, device)


def _to_try(study: Study) -> Iterator[Configuration]:
    """Those whose own parts are the user's; the first one where only the loss is, which all of them share."""
    own = [configuration for configuration in study.configurations if _has_user_code(configuration)]
    shared = study.configurations[:1] if study.loss is not None and is_user_code(study.loss) else ()
    yield from own or shared


def _has_user_code(configuration: Configuration) -> bool:
    regularizer = regularizer_of(configuration)
    parts = optimizer_of(configuration).code() | {"grads": regularizer.grads, "init": regularizer.init}
    return any(is_user_code(part) for _, part in reachable(parts))


def _check(recipes: Recipes, configuration: Configuration, device: torch.device) -> None:
    name = configuration.name
    try:
        parts = recipes.parts(name, recipes.setting_to_try(name, {}))
        recipe = recipes.recipe(configuration, rerun=False, training=parts.training)
        if not recipe.source.is_streamed:
            make_first_step(recipe, Member(0, parts.hyperparameters), device)
    except HpoError:
        raise
    except (MemoryError, torch.OutOfMemoryError):  # sizing, or training, finds out how much fits
        return
    except Exception as error:
        raise UsageError(
            f"configuration {name!r} cannot make its first steps: {describe_error(error)}; correct it, or see the "
            f"whole traceback by `hpo try {recipes.study.name or 'STUDY'} -c {name!r}`"
        ) from error
