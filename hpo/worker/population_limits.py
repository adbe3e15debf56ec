"""How many of a study's models train side by side: as given, else by network and device, and less where memory ends."""

import torch

from hpo.errors import HpoError
from hpo.stages import batch_sizes_of
from hpo.study.study import Configuration
from hpo.training.devices import total_memory
from hpo.training.population_size import MAX_POPULATION, measure_cost, population_size
from hpo.worker.recipes import Recipes, Static


class PopulationLimits:
    """The sizes of a trainer's populations.

    Attributes:
        given: models at most, for all populations; None before `measured` where nobody gave a number.
    """

    def __init__(self, recipes: Recipes, device: torch.device, given: int | None) -> None:
        self.given = given
        self._recipes, self._device = recipes, device
        self._by_memory: dict[str, int] = {}  # configuration → models that fit into memory
        self._measured: dict[Static, int] | None = None  # by training hyperparameters, once one of them is measured

    def largest(self) -> int:
        """The size that the leases are made for: as given, else that of the first configuration.

        Raises:
            HpoError: the data cannot be loaded or the network cannot be built, for a known reason.
        """
        if self.given is None:
            first = self._recipes.study.configurations[0]
            training = self._recipes.parts(first.name, self._recipes.setting_to_try(first.name, {})).training
            self.given = self._measure(first, training)
            self._measured = {training: self.given}
        return self.given

    def of(self, name: str, training: Static, models: int) -> int:
        """How many of these models of a configuration, with these training hyperparameters, train side by side."""
        limit = self._by_memory.get(name, self.given or models)
        if self._measured is None:
            return limit
        if training not in self._measured:
            self._measured[training] = self._measure(self._recipes.configuration(name), training)
        return min(limit, self._measured[training])

    def beside(self, name: str, training: Static, populations: int) -> int:
        """How many models of a configuration train side by side while so many populations are in memory."""
        return self._measure(self._recipes.configuration(name), training, populations)

    def halve(self, name: str, models: int) -> None:
        """So many models of a configuration did not fit into memory."""
        self._by_memory[name] = models // 2

    def _measure(self, configuration: Configuration, training: Static, populations: int = 1) -> int:
        kind = self._device.type
        try:
            recipe = self._recipes.recipe(configuration, rerun=False, training=training)
            cost = measure_cost(recipe)
            if recipe.source.is_streamed:  # more models share the decoding, but that takes memory: a person decides
                return 1
            largest, memory = max(batch_sizes_of(recipe.batch_size)), total_memory(self._device) / populations
            return population_size(cost, largest, kind, memory, recipe.accumulate)
        except HpoError:
            raise
        except Exception:  # a defect of the user's code: training will meet it and record it as a failure
            return MAX_POPULATION[kind]
