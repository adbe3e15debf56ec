"""Before a worker trains: whether the network can be built with every value of its own hyperparameters."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from hpo.errors import UsageError
from hpo.search_space import Range, Value
from hpo.space import show_value
from hpo.study.training_space import choice_of, grid_values, with_training
from hpo.training.initial_models import build
from hpo.worker.recipes import Recipes

MAX_INTEGERS = 8  # of a range of whole numbers; the first that does not divide a number is seldom beyond
# What PyTorch raises for sizes and probabilities that cannot be.
REFUSED = (AssertionError, TypeError, ValueError, RuntimeError)
PREFIX = "model."


def check_models(recipes: Recipes) -> None:
    """Builds a network with both ends of every range, and with every choice, of the model function's arguments.

    Of a range of whole numbers also with the first few of them, since a network may need divisors or multiples.

    Raises:
        UsageError: a network cannot be built although the function itself is right.
    """
    for configuration in recipes.study.configurations:
        space = recipes.space(configuration.name)
        middle = recipes.setting_to_try(configuration.name, {})
        arguments = {name: bounds for name, bounds in space.tuned.items() if name.startswith(PREFIX)}
        grid = grid_values(recipes.study, space.names)
        check_model_arguments(recipes, configuration.name, middle)
        for name, bounds in arguments.items():
            for value in grid.get(name) or bounds.samples(MAX_INTEGERS):
                check_model_arguments(recipes, configuration.name, {**middle, name: value}, name)


def check_model_arguments(recipes: Recipes, configuration: str, setting: Mapping[str, Value], varied: str = "") -> None:
    """Raises UsageError if the network cannot be built with a complete setting's arguments of the model function.

    Args:
        varied: the argument whose value is tried; "" for all.
    """
    arguments = {name: value for name, value in setting.items() if name.startswith(PREFIX)}
    error = _error(recipes, configuration, setting) if arguments else None
    if error is None or _fails_without(recipes):
        return  # a defect of the user's code, as below
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    text = (str(error).splitlines() or [""])[0].rstrip(".")
    hint = _whole_numbers(recipes, configuration, setting) or _choice(recipes, configuration, setting, varied)
    raise UsageError(
        f"configuration {configuration!r}: the network cannot be built with {given} ({type(error).__name__}: {text})"
        f"{hint or '; choose other values'}"
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


def _choice(recipes: Recipes, configuration: str, setting: Mapping[str, Value], varied: str) -> str:
    """What to write where an argument that is tuned over whole numbers cannot have some of them."""

    def check(name: str, value: int) -> None:
        if error := _error(recipes, configuration, {**setting, name: value}):
            raise UsageError(str(error))

    for name, bounds in recipes.space(configuration).tuned.items():
        if not name.startswith(PREFIX) or varied not in ("", name):
            continue
        if isinstance(bounds, Range) and bounds.integer and (numbers := choice_of(bounds, partial(check, name))):
            return f"; give {name}: {numbers}"
    return ""


def _integers(bounds: Any, value: Any) -> str:
    return bounds.as_integers() if isinstance(bounds, Range) else show_value(value)
