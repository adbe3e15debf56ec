"""What a configuration trains with a setting: the parts of the study with the setting's values in them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from hpo.data import Source, check_source, split
from hpo.diagnostics import chosen_diagnostics
from hpo.errors import UsageError
from hpo.optim.schedules import Constant
from hpo.search_space import Value
from hpo.space import Setting, Space, split_space
from hpo.study.components import full_space, optimizer_of, parts_of, regularizer_of, static_names
from hpo.study.definition import loss_of
from hpo.study.study import Configuration, Study
from hpo.study.training_space import grid_values, with_training
from hpo.training.initial_models import takes_floats_only
from hpo.training.recipe import Recipe

Static = tuple[tuple[str, Value], ...]  # (name, value) of every static hyperparameter


class Parts(NamedTuple):
    """A complete setting: what all models of a population share, and what each has for itself.

    Attributes:
        static: the static hyperparameters, of which `training` are those of the study, its network and its schedule.
        hyperparameters: those of optimizer and regularizer.
    """

    static: Static
    training: Static
    hyperparameters: Setting


class Recipes:
    """The recipes of a study's configurations."""

    def __init__(self, study: Study, source: Callable[[], Source]) -> None:
        self.study, self._source = study, source
        self._spaces: dict[str, tuple[Space, frozenset[str]]] = {}
        # One study for each setting of the training hyperparameters: checks remember its model function.
        self._studies: dict[Static, Study] = {(): study}
        self._takes_floats: dict[Static, bool] = {}  # whether the network takes floats where the inputs are others
        self._float_source: Source | None = None

    def configuration(self, name: str) -> Configuration:
        return next(entry for entry in self.study.configurations if entry.name == name)

    def space(self, name: str) -> Space:
        """The search space of a configuration."""
        return self._space(name)[0]

    def parts(self, name: str, setting: Mapping[str, Value]) -> Parts:
        """The parts of a setting of a configuration, fixed hyperparameters added."""
        space, static = self._space(name)
        values = space.complete(setting)
        configuration = self.configuration(name)
        own = {each for part in parts_of(configuration) for each in part.hyperparameters}
        training = set(values) - own
        return Parts(
            tuple((each, value) for each, value in values.items() if each in static or each in training),
            tuple((each, value) for each, value in values.items() if each in training),
            {each: value for each, value in values.items() if each not in training},
        )

    def study_with(self, training: Static) -> Study:
        """The study with these training hyperparameters."""
        if training not in self._studies:
            self._studies[training] = with_training(self.study, dict(training))
        return self._studies[training]

    def check_batch_sizes(self, source: Source) -> None:
        """Raises UsageError if a batch that tuning may try is larger than the training part."""
        samples = len(split(source, self.study.data, 0).training)
        for configuration in self.study.configurations:
            bounds = self.space(configuration.name).tuned.get("batch_size")
            largest = max(bounds.samples(), key=float) if bounds else 0  # type: ignore[arg-type]
            if largest > samples:  # type: ignore[operator]
                raise UsageError(
                    f"configuration {configuration.name!r} tunes batch_size up to {largest}, but the training part has "
                    f"{samples} samples; choose smaller ones or more data"
                )

    def recipe(self, configuration: Configuration, rerun: bool, training: Static = ()) -> Recipe:
        study = self.study_with(training)
        rate = study.schedule or Constant()
        return Recipe(
            dataset=study.data,
            source=self._source_for(training),
            model=study.model,
            regularizer=regularizer_of(configuration),
            optimizer=optimizer_of(configuration),
            epochs=study.epochs if rerun else study.tuning_epochs or study.epochs,
            batch_size=study.batch_size,
            schedule=rate,
            sample_loss=loss_of(study),
            metrics=study.metrics,
            precision=study.precision,
            channels_last=study.channels_last,
            accumulate=study.accumulate,
            last_batch=study.last_batch,
            groups=configuration.groups,
            no_decay=configuration.no_decay,
            average=configuration.average,
            diagnostics=chosen_diagnostics(study.diagnostics, study.data.task),
            schedules={
                name: rate if each == "learning_rate" else each for name, each in configuration.schedules.items()
            },
        )

    def _source_for(self, training: Static) -> Source:
        """The samples, with inputs of whole numbers or half precision as floats if the network needs that."""
        source = self._source()
        if training not in self._takes_floats:
            self._takes_floats[training] = takes_floats_only(self.study_with(training).model, source.inputs)
        if not self._takes_floats[training]:
            return source
        if self._float_source is None:
            assert isinstance(source.inputs, Tensor) and isinstance(source.test_inputs, Tensor)
            floats = source._replace(inputs=source.inputs.float(), test_inputs=source.test_inputs.float())
            self._float_source = check_source(floats, self.study.data.task)
        return self._float_source

    def setting_to_try(self, name: str, given: Mapping[str, Value]) -> Setting:
        """A complete setting: values as given, else fixed, else the middle of a range or grid, or the first choice."""
        space = self.space(name)
        middle = {key: bounds.middle() for key, bounds in space.tuned.items()}
        grid = grid_values(self.study, space.names)
        middle |= {key: grid[key][(len(grid[key]) - 1) // 2] for key in middle.keys() & grid}
        setting: Setting = {key: value for key, value in middle.items() if key not in space.conditions}
        setting |= given
        tried = {key: middle[key] for key in space.conditions if space.exists(key, setting)}
        return space.complete({**tried, **setting})

    def _space(self, name: str) -> tuple[Space, frozenset[str]]:
        if name not in self._spaces:
            configuration = self.configuration(name)
            self._spaces[name] = split_space(full_space(configuration)), static_names(configuration)
        return self._spaces[name]
