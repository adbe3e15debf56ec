"""Which sampler chooses the settings of a study, as a person writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from hpo.errors import UsageError, did_you_mean
from hpo.search_space import Value, is_plain
from hpo.space import Space, grid_settings

SAMPLERS = {
    "tpe": "Optuna's tree-structured Parzen estimator: the default",
    "random": "random search",
    "gp": "Optuna's Gaussian process; takes seconds per trial from a few hundred trials on",
    "cmaes": "CMA-ES, for ranges only (choices are random); needs the package cmaes and at least ten generations",
    "qmc": "a scrambled Sobol sequence, which covers the space more evenly than random search",
    "grid": "hpo.grid({...}): every combination of given values",
}
COMPLETE_ONLY = ("gp", "cmaes")  # samplers that ignore pruned trials

_EXPECTED = "give tpe, random, gp, cmaes, qmc, hpo.grid({…}) or a function (seed) that returns an Optuna sampler"


@dataclass(frozen=True)
class Grid:
    """Every combination of these values is tried once: hyperparameter → values. Choices need not be listed."""

    values: Mapping[str, Sequence[Value]]

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping):
            raise UsageError(f"grid({self.values!r}) is no dict; write hpo.grid({{'learning_rate': [1e-3, 1e-2]}})")
        for name, values in self.values.items():
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise UsageError(f"grid: {name} has {values!r}; give a list of values")
            if not all(map(is_plain, values)) or len(set(values)) < len(values):
                raise UsageError(f"grid: {name} has {list(values)!r}; give different numbers, texts, True or False")
        object.__setattr__(self, "values", {name: list(values) for name, values in self.values.items()})

    def settings(self, space: Space) -> list[dict[str, Value]]:
        """The settings of one configuration.

        Raises:
            UsageError: a tuned hyperparameter has no values, or values outside its range.
        """
        for name, bounds in space.tuned.items():
            values = self.values.get(name)
            if values is None and not hasattr(bounds, "values"):
                raise UsageError(f"the grid has no values of {name}, which is tuned; add them, or fix {name}")
            for value in values or ():
                if objection := Space((name,), {name: bounds}, {}, {}).objection({name: value}):
                    raise UsageError(f"grid: {objection}; widen it in the space, or leave the value out")
        return grid_settings(space, self.values)


def grid(values: Mapping[str, Sequence[Value]]) -> Grid:
    """A grid search, as `Study(sampler=hpo.grid({"learning_rate": [1e-3, 1e-2]}))`."""
    return Grid(values)


def check_sampler(sampler: Any, prunes: bool) -> None:
    """Raises UsageError unless this can be the sampler of a study; `prunes`: whether the study has a pruner."""
    if isinstance(sampler, Grid):
        return
    if isinstance(sampler, str):
        known = [name for name in SAMPLERS if name != "grid"]
        if sampler not in known:
            hint = "" if sampler == "grid" else did_you_mean(sampler, known)
            raise UsageError(f"sampler is {sampler!r}; {_EXPECTED}{hint}")
        if sampler == "cmaes" and find_spec("cmaes") is None:
            raise UsageError("sampler 'cmaes' needs the package cmaes; install it: pip install 'hpo-studies[cmaes]'")
        if sampler in COMPLETE_ONLY and prunes:
            raise UsageError(f"sampler {sampler!r} does not learn from pruned trials; use tpe or leave out the pruner")
    elif not callable(sampler) or hasattr(sampler, "sample_relative"):
        raise UsageError(
            f"sampler is {sampler!r}; {_EXPECTED}, such as lambda seed: optuna.samplers.TPESampler(seed=seed, "
            "multivariate=True)"
        )
