"""Updates by instances of a `torch.optim.Optimizer`, one per model, whose parameters are views of the stack."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hpo.optim.parameter_groups import ParameterGroup
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.training.torch_instances import Builder, Closure, Setting, untrained
from hpo.training.torch_model import TorchModel
from hpo.training.update_types import Step
from hpo.tree import Tree
from hpo.user_code.generators import seeded


class TorchUpdates:
    """The `Updates` of a `TorchOptimizer`."""

    is_recordable = False  # a step is Python code, whose numbers change

    def __init__(
        self,
        optimizer: TorchOptimizer,
        params: Tree,
        settings: Sequence[Setting],
        groups: Sequence[ParameterGroup],
        seeds: Sequence[int],
    ) -> None:
        """
        Args:
            settings, seeds: each model's hyperparameters, and the seed of what its optimizer draws when it is built.
            groups: the parameters, first those without changes.
        """
        self.state: dict[str, Any] = {}
        self._has_stepped = False
        self._factors: dict[str, float] = {}  # of the schedules, as last set
        self._params = params
        builder = Builder(optimizer, groups)
        self.name = builder.name
        takes_closure = builder.takes_closure(_row(params, 0), settings[0])
        self._models = []
        for row, (setting, seed) in enumerate(zip(settings, seeds, strict=True)):
            with seeded(seed):
                self._models.append(TorchModel(builder, _row(params, row), setting, takes_closure))
        self.untrained: Collection[str] = untrained(self._models[0].optimizers, self._models[0].parameters)

    @property
    def evaluates_others(self) -> bool:
        """Whether an optimizer changes its parameters for evaluation."""
        return any(callable(getattr(each, "eval", None)) for each in self._models[0].optimizers)

    def update(self, grads: Tree, params: Tree, step: Step) -> Tree:
        self._schedule({name: float(factor) for name, factor in step.factors.items()})
        by_model = zip(*(grads[name].contiguous().unbind(0) for name in params), strict=True)
        with _seeds(step.moment.key) as seed:
            for row, (model, gradients) in enumerate(zip(self._models, by_model, strict=True)):
                seed(row)
                model.set_gradients(gradients)
                model.step(self._closure(model, row, step))
        self._has_stepped = True
        self._restack()
        return params

    def _restack(self) -> None:
        """Gives the stack new memory where an optimizer has given some to a parameter, as in p.data = ...

        Writing into the old memory would change what the optimizer may keep of it, such as the weights before a step.
        """
        if all(model.is_in_stack() for model in self._models):
            return
        for name, leaf in self._params.items():
            leaf.data = torch.stack([model.parameters[name].detach() for model in self._models]).contiguous()
        self.rebind(self._params)

    def _schedule(self, factors: Mapping[str, float]) -> None:
        """Sets what has changed, so that an optimizer may change the rest itself."""
        changed = {name: each for name, each in factors.items() if each != self._factors.get(name, 1.0)}
        for model in self._models if changed else ():
            model.schedule(changed)
        self._factors |= changed

    def _closure(self, model: TorchModel, row: int, step: Step) -> Closure:
        def closure() -> Tensor:
            # Not their rows of the stack: the optimizer may have given them other memory, as in p.data = ...
            params = {name: parameter.detach()[None].contiguous() for name, parameter in model.parameters.items()}
            gradient, loss = step.reevaluate(row, params)
            model.set_gradients([gradient[name].contiguous() for name in params])
            return loss

        return closure

    def evaluated(self, params: Tree) -> Tree:
        for model in self._models:
            model.set_gradients([None] * len(params))  # frees them
            if self._has_stepped:  # before that, some optimizers have no state to switch
                model.switch("eval")
        self._restack()
        return params

    def resume(self) -> None:
        for model in self._models:
            model.switch("train")
        self._restack()

    def rebind(self, params: Tree, rows: Sequence[int] | None = None) -> None:
        if rows is not None:
            self._models = [self._models[row] for row in rows]
        self._params = params
        for row, model in enumerate(self._models):
            model.rebind(_row(params, row))

    def saved(self, row: int) -> dict[str, Any]:
        return {"instances": self._models[row].saved(), "factors": self._factors, "has_stepped": self._has_stepped}

    def load(self, saved: Sequence[Any]) -> None:
        for model, each in zip(self._models, saved, strict=True):
            model.load(each["instances"])
        self._factors, self._has_stepped = dict(saved[0]["factors"]), saved[0]["has_stepped"]


def _row(params: Tree, row: int) -> Tree:
    return {name: leaf[row] for name, leaf in params.items()}


@contextmanager
def _seeds(keys: Tensor) -> Iterator[Callable[[int], None]]:
    """Yields a function that seeds PyTorch's generators for the model of a row; they are restored afterwards."""
    generators = [torch.default_generator]
    if keys.device.type == "cuda":
        generators.append(torch.cuda.default_generators[keys.device.index or 0])
    states, seeds = [generator.get_state() for generator in generators], keys.tolist()

    def seed(row: int) -> None:
        for generator in generators:
            generator.manual_seed(seeds[row])

    try:
        yield seed
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
