"""Before a worker trains: whether the network can be built with every value of its own hyperparameters."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

from hpo.errors import UsageError
from hpo.search_space import Range, Value
from hpo.space import show_value
from hpo.study.training_space import with_training
from hpo.training.initial_models import build
from hpo.worker.recipes import Recipes

REFUSED = (TypeError, ValueError, RuntimeError)  # what PyTorch raises for sizes and probabilities that cannot be
PREFIX = "model."


def check_models(recipes: Recipes) -> None:
    """Builds a network with both ends of every range, and with every choice, of the model function's arguments.

    Raises:
        UsageError: a network cannot be built although the function itself is right.
    """
    for configuration in recipes.study.configurations:
        space = recipes.space(configuration.name)
        middle = recipes.setting_to_try(configuration.name, {})
        samples = {name: bounds.samples() for name, bounds in space.tuned.items() if name.startswith(PREFIX)}
        varied = ({**middle, name: value} for name, values in samples.items() for value in values)
        for setting in itertools.chain([middle], varied):
            check_model_arguments(recipes, configuration.name, setting)


def check_model_arguments(recipes: Recipes, configuration: str, setting: Mapping[str, Value]) -> None:
    """Raises UsageError if the network cannot be built with a complete setting's arguments of the model function."""
    arguments = {name: value for name, value in setting.items() if name.startswith(PREFIX)}
    error = _error(recipes, configuration, setting) if arguments else None
    if error is None or _fails_without(recipes):
        return  # a defect of the user's code, as below
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    text = (str(error).splitlines() or [""])[0].rstrip(".")
    raise UsageError(
        f"configuration {configuration!r}: the network cannot be built with {given} ({type(error).__name__}: {text})"
        f"{_whole_numbers(recipes, configuration, setting) or '; choose other values'}"
    ) from error


def _error(recipes: Recipes, configuration: str, setting: Mapping[str, Value]) -> Exception | None:
    # Not recipes.study_with, for which 32 and 32.0 are the same.
    model = with_training(recipes.study, dict(recipes.parts(configuration, setting).training)).model
    try:
        build(model, 0)
    except REFUSED as error:
        return error
    except Exception:  # a defect of the user's code, which training meets
        return None
    return None


def _fails_without(recipes: Recipes) -> bool:
    """Whether the model function fails with its defaults as well; one without defaults cannot be asked."""
    try:
        build(recipes.study.model, 0)
    except Exception as error:
        return not (isinstance(error, TypeError) and "required" in str(error))
    return False


def _whole_numbers(recipes: Recipes, configuration: str, setting: Mapping[str, Value]) -> str:
    """What to write where an argument needs whole numbers, if the network can be built with them."""
    fractional = [name for name, value in setting.items() if name.startswith(PREFIX) and isinstance(value, float)]
    whole = {**setting, **{name: math.ceil(float(setting[name] or 0)) for name in fractional}}
    if not fractional or _error(recipes, configuration, whole):
        return ""
    tuned = recipes.space(configuration).tuned
    return f"; did you mean {', '.join(f'{name}: {_integers(tuned.get(name), whole[name])}' for name in fractional)}?"


def _integers(bounds: Any, value: Any) -> str:
    return bounds.as_integers() if isinstance(bounds, Range) else show_value(value)
