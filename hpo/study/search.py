"""What a definition says about the search: the sampler, a grid, the settings to try first, and the number of trials."""

from collections.abc import Callable
from typing import Any

from hpo.errors import UsageError, did_you_mean
from hpo.search_space import Range
from hpo.space import split_space
from hpo.study.components import full_space
from hpo.study.sampler import Grid
from hpo.study.study import Configuration, Study
from hpo.study.training_space import full_names


def describe_sampler(study: Study, describe_part: Callable[[Any], Any]) -> Any:
    """The sampler as JSON values; `describe_part` describes a function."""
    sampler = study.sampler
    if isinstance(sampler, Grid):
        return {"grid": dict(_grid_of(study).values)}
    return sampler if isinstance(sampler, str) else describe_part(sampler)


def _grid_of(study: Study) -> Grid:
    """The study's grid with the full names of hyperparameters."""
    return Grid(full_names(study.sampler.values, _tuned_names(study)))


def _tuned_names(study: Study) -> set[str]:
    return {name for entry in study.configurations for name in split_space(full_space(entry)).tuned}


def check_grid(study: Study) -> None:
    """Raises UsageError if the study's grid names what no configuration tunes."""
    tuned = _tuned_names(study)
    for name in _grid_of(study).values if isinstance(study.sampler, Grid) else ():
        if name not in tuned:
            raise UsageError(
                f"the grid has values of {name!r}, which no configuration tunes; give it a range or choice in a "
                f"configuration's space{did_you_mean(name, tuned)}"
            )


def planned_trials(configuration: Configuration, study: Study) -> int | None:
    """The configuration's own number of trials: with a grid its size.

    Raises:
        UsageError: the sampler cannot tune this configuration.
    """
    space = split_space(full_space(configuration))
    try:
        if isinstance(study.sampler, Grid):
            given = [name for name in ("trials", "first") if getattr(configuration, name)]
            if given:
                raise UsageError(f"the grid says which settings are tried; leave out {' and '.join(given)}")
            return len(_grid_of(study).settings(space))
        if study.sampler == "cmaes" and sum(isinstance(bounds, Range) for bounds in space.tuned.values()) < 2:
            raise UsageError("sampler 'cmaes' needs two ranges or more; choose another sampler, or tune more")
    except UsageError as error:
        raise UsageError(f"configuration {configuration.name!r}: {error}") from error
    return configuration.trials


def first_settings(configuration: Configuration) -> list[dict[str, Any]]:
    """The settings to try first, with values of the types that sampled ones have."""
    space = split_space(full_space(configuration))
    given = [full_names(setting, space.names) for setting in configuration.first]
    for number, setting in enumerate(given, start=1):
        if objection := space.objection(setting):
            raise UsageError(
                f"configuration {configuration.name!r}: setting {number} of first cannot be tried: {objection}; "
                "change it or the space, since a best setting outside its space would not be a result of tuning"
            )
    return [{name: space.tuned[name].restrict(value) for name, value in each.items()} for each in given]
