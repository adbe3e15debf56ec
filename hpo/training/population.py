"""Population: K models trained side by side, each with its own hyperparameters; this adds the leading axis."""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from hpo.errors import UsageError
from hpo.gradients.draws import Moment
from hpo.gradients.network import Network
from hpo.gradients.returns import own_copy, unalias
from hpo.models.losses import SampleLoss
from hpo.optim.averages import Average
from hpo.optim.optimizers import Optimizer
from hpo.optim.parameter_groups import ParameterGroup
from hpo.optim.regularizer import Regularizer
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.tasks import CLASSIFICATION
from hpo.training.evaluator import Evaluator, Metric
from hpo.training.lifting import lift, lift_alone, lifting_for
from hpo.training.model_checks import EXAMPLES, check_modules, run_on_examples
from hpo.training.operation_counter import OperationCounter
from hpo.training.output_check import warn_of_probabilities
from hpo.training.single_model import SingleModel, refuse_in_place_changes, warn_about_gradients
from hpo.training.tracing import TracedFunction
from hpo.training.trained_state import TrainedState
from hpo.training.update_types import Step
from hpo.training.updates import make_updates
from hpo.tree import Tree
from hpo.user_code.calls import call_twice, without_side_effects
from hpo.user_code.messages import Hyperparameters


class Population(TrainedState):
    """K models of one network, regularizer and optimizer.

    Attributes:
        hyperparameters: name -> values [K]. static: name -> plain value, that of all models.
        output_shape: of one sample's output.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        regularizer: Regularizer,
        optimizer: Optimizer | TorchOptimizer,
        hyperparameters: Mapping[str, Any],
        sample_loss: SampleLoss,
        example: Tensor,
        bfloat16: bool = False,
        channels_last: bool = False,
        metrics: Mapping[str, Metric] = MappingProxyType({}),
        accumulate: int = 1,
        task: str = CLASSIFICATION.name,
        groups: Sequence[ParameterGroup] = (),
        average: Average | None = None,
        optimizer_seeds: Sequence[int] = (),
    ) -> None:
        """
        Args:
            modules: K initialised networks of one architecture. example: a few inputs [N, ...] on the device.
            hyperparameters: tensors [K], and the plain values of static ones.
            bfloat16, channels_last: see `Network`. A stack of several models has its own layout.
            metrics: custom metrics by name: (outputs [N, ...], labels [N, ...]) -> values [N], or of whole sets.
            accumulate: micro-batches of each minibatch; see `SingleModel`.
            task: what the labels are, which determines the metrics.
            groups: the parameters, first those whose hyperparameters are not changed; none for a single group.
            average: of the weights, which is evaluated instead of them.
            optimizer_seeds: see `make_updates`.
        """
        check_modules(modules)
        device = example.device
        self.regularizer, self.optimizer = regularizer, optimizer
        self.sample_loss, self.task, self._metrics = sample_loss, task, metrics
        params = _stack([dict(module.named_parameters()) for module in modules], device)
        buffers = _stack([dict(module.named_buffers()) for module in modules], device)
        self.network = Network(modules[0].to(device), example)
        self.network.bfloat16, self._channels_last = bfloat16, channels_last
        self._set_hyperparameters(hyperparameters, device)
        with OperationCounter() as counter:
            outputs = run_on_examples(self.network.module, example)
        self._lift = lifting_for(counter.in_images / len(example[:EXAMPLES]), example)
        self.output_shape = outputs.shape[1:]
        warn_of_probabilities(outputs, sample_loss)
        static = {name: self.static[name] for name in regularizer.static}
        self._model = SingleModel(self.network, regularizer, sample_loss, accumulate, static)
        own = {name: hyperparameters[name] for name in optimizer.hyperparameters if name in hyperparameters}
        state = self._init_regularizer(params)
        updates = make_updates(optimizer, params, own, groups, optimizer_seeds)
        super().__init__(params, buffers, state, updates, average)
        if average and self.updates.evaluates_others:
            raise UsageError(
                f"optimizer {optimizer.name!r} has weights of its own that are evaluated; leave out average"
            )
        self._steps, self._reevaluations = 0, [0] * len(modules)
        self._lift_functions()

    def _set_hyperparameters(self, hyperparameters: Mapping[str, Any], device: torch.device) -> None:
        """Numbers get the type of the parameters."""
        tensors = {name: value.to(device) for name, value in hyperparameters.items() if isinstance(value, Tensor)}
        self.hyperparameters = {
            name: value if value.dtype == torch.bool else value.to(self.network.dtype)
            for name, value in tensors.items()
        }
        self.static = {name: value for name, value in hyperparameters.items() if name not in tensors}

    def _init_regularizer(self, params: Tree) -> Any:
        name, init = self._model.name, lift(self._model.state, len(next(iter(params.values()))))
        with refuse_in_place_changes(name, {"params": params}):
            state = call_twice({f"init of {name}": self.regularizer.init}, lambda: init(params))
        return own_copy(state, next(iter(params.values())).device)

    def _lift_functions(self) -> None:
        """Builds everything that depends on the number of members."""
        self.network.channels_last = self._channels_last and len(self) == 1
        roots = {
            self._model.name: self.regularizer.grads,
            "the network": self.network.module,
            "the loss": self.sample_loss,
        }
        name, watch = f"{self._model.name}, the network or the loss", partial(without_side_effects, roots)
        # No bound methods of this object: reference cycles keep the memory until Python's cycle collector runs.
        gradients = {"all": self._lift(self._model.gradient, len(self)), "one": lift_alone(self._model.gradient)}
        self._new_trace = {key: partial(TracedFunction, each, name, watch) for key, each in gradients.items()}
        # One for each batch size: a run's last incomplete batches have another one.
        self._traced: dict[tuple[str, int], TracedFunction] = {}
        self._evaluator = Evaluator(self.network, self.sample_loss, self.task, self._metrics, len(self), self._lift)

    def compare_next_step(self) -> None:
        """Makes the next step compare its trace with the user's code; raises UsageError there if they differ."""
        for (models, _), traced in self._traced.items():
            traced.compare = models == "all"

    def step(
        self,
        inputs: Tensor,
        labels: Tensor,
        factors: Mapping[str, Tensor | float] = MappingProxyType({}),
        moment: Moment | None = None,
    ) -> Tree:
        """One update of every model on its own minibatch.

        Args:
            inputs: [K, V, N, ...] with V views, as many as the regularizer needs, and last the clean one if it needs
                that. labels: [K, N, ...].
            factors: hyperparameter -> the factor of its schedule, for all models; a number or a tensor [1].
            moment: when the step takes place, for the members' random draws; zeros [K] by default.

        Returns:
            Scalars by name, [K] each: `train_loss`, the mean task loss before the update and without any penalty,
            and the regularizer's own as `aux/<name>`.
        """
        hyper = Hyperparameters(self.hyperparameters, self.static)
        hyper.update({name: hyper[name] * factor for name, factor in factors.items() if name in hyper})
        if moment is None:
            zeros = torch.zeros(len(self), dtype=torch.int64, device=labels.device)
            moment = Moment(zeros, zeros, zeros)
        if self.resume():  # train() takes time: it sets a flag in every layer
            self.network.module.train()
        arguments = (self.params, self.regularizer_state, self.buffers, hyper, inputs, labels, moment)
        gradients = self._gradients if self._steps else self._first_gradients
        grads, state, scalars, self.buffers = gradients(*arguments)
        self.regularizer_state = unalias(state, self.params, grads) if state else state
        reevaluate = partial(self._reevaluate, arguments)
        self.params = self.updates.update(grads, self.params, Step(hyper, factors, moment, reevaluate))
        if self.average:
            self.average.after_step(self.average_state, self.params, self.buffers, hyper, moment)
        self._steps += 1
        return scalars

    @property
    def gradient_evaluations(self) -> list[float]:
        """Of every model, the mean over its steps; see `GradientCount`."""
        once = self._model.gradient_evaluations
        return [once * (1 + extra / max(1, self._steps)) for extra in self._reevaluations]

    def finish_epoch(self, epoch: int, epochs: int) -> None:
        """Called after the last step of every epoch, from 1."""
        if self.average:
            model = self.params, self.buffers, self.hyperparameters
            self.average.after_epoch(self.average_state, *model, epoch, epochs)

    def _gradients(self, *arguments: Any, models: str = "all") -> Any:
        key = models, arguments[5].shape[1]  # of the labels: samples
        if key not in self._traced:
            self._traced[key] = self._new_trace[models]()
        return self._traced[key](*arguments)

    def _first_gradients(self, *arguments: Any) -> Any:
        """The gradients of the first step; warns about those that are not finite or all zero."""
        name = self._model.name
        with refuse_in_place_changes(name, {"params": self.params, "state": self.regularizer_state}):
            result = self._gradients(*arguments)
        warn_about_gradients(name, result[0], result[2]["train_loss"])
        return result

    def _reevaluate(self, arguments: tuple[Any, ...], row: int, params: Tree) -> tuple[Tree, Tensor]:
        """One model's gradient and mean task loss [] at these parameters [1, ...], on the minibatch of a step.

        The regularizer's state and BatchNorm's statistics are those from before the step, and are not changed.
        """
        self._reevaluations[row] += 1
        own = tree_map(lambda leaf: leaf[row : row + 1], arguments[1:])
        gradient, _, scalars, _ = self._gradients(params, *own, models="one")
        return {name: leaf[0] for name, leaf in gradient.items()}, scalars["train_loss"][0]

    def states(self) -> list[dict[str, Any]]:
        """`TrainedState.states`, with the counts for `gradient_evaluations`."""
        counts = [{"steps": self._steps, "reevaluations": count} for count in self._reevaluations]
        return [state | count for state, count in zip(super().states(), counts, strict=True)]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        super().restore(states)
        self._steps = states[0]["steps"]
        self._reevaluations = [state["reevaluations"] for state in states]

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the members at these rows only and frees the others' memory; the next step is traced again."""
        super().keep(rows)
        index = torch.tensor(rows, device=self.device)
        self.hyperparameters = {name: values[index] for name, values in self.hyperparameters.items()}
        self._reevaluations = [self._reevaluations[row] for row in rows]
        self._lift_functions()

    def evaluate(self, *arguments: Any, **options: Any) -> list[Tree]:
        """`Evaluator.evaluate` with the parameters and buffers that are evaluated."""
        model = self.evaluated()
        self.network.module.eval()
        return self._evaluator.evaluate(model, *arguments, **options)

    def outputs(self, inputs: Tensor) -> Tensor:
        """The outputs [K, N, ...] of models that are evaluated, for inputs [K, N, ...]."""
        model = self.evaluated()
        self.network.module.eval()
        return self._evaluator.outputs(model, inputs)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Custom metrics of single samples."""
        return self._evaluator.metrics

    @property
    def whole_metrics(self) -> Mapping[str, Metric]:
        """Custom metrics of whole sets."""
        return self._evaluator.whole_metrics


def _stack(trees: Sequence[Mapping[str, Tensor]], device: torch.device) -> Tree:
    # Contiguous: a stack of weights in channels-last format has its strides, which the fused optimizers ignore.
    return {name: torch.stack([tree[name].detach() for tree in trees]).contiguous().to(device) for name in trees[0]}
