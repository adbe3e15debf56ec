"""Population: K models trained side by side, each with its own hyperparameters; this adds the leading axis."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from hpo.errors import UsageError
from hpo.gradients.draws import Moment
from hpo.gradients.network import Network
from hpo.gradients.returns import own_copy, unalias, without_caches
from hpo.models.losses import SampleLoss, evaluated_loss
from hpo.optim.averages import Average
from hpo.optim.optimizers import Optimizer
from hpo.optim.parameter_groups import ParameterGroup
from hpo.optim.regularizer import Regularizer
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.tasks import CLASSIFICATION
from hpo.training.model_checks import check_modules, run_on_examples
from hpo.training.set_metrics import RatioSums, sample_ratios
from hpo.training.set_metrics import whole_metrics as compute_whole_metrics
from hpo.training.single_model import SingleModel, refuse_in_place_changes, warn_about_gradients
from hpo.training.tracing import TracedFunction
from hpo.training.update_types import Step
from hpo.training.updates import make_updates
from hpo.tree import Tree
from hpo.user_code.calls import call_twice, without_side_effects
from hpo.user_code.generators import RefuseRandomOperations
from hpo.user_code.messages import Hyperparameters
from hpo.user_code.metrics import is_whole

Metric = Any  # of single samples, (outputs [N, ...], labels [N, ...]) -> [N], or of whole sets
# (indices [K, n], size) -> the inputs [K, size, ...] of the models, part by part
Read = Callable[[Tensor, int], Iterator[Tensor]]

# The largest numbers of samples, and of values in them, of all models that one forward pass evaluates: they bound
# the memory of activations, which are dozens of channels per image. A GPU needs more at once to be busy.
EVALUATED_SAMPLES = {"cpu": 2**14, "cuda": 2**18}
EVALUATED_NUMBERS = {"cpu": 2**22, "cuda": 2**23}

TRAINED = ("params", "buffers", "optimizer_state", "regularizer_state", "average_state")  # what training changes


class Population:
    """K models of one network, regularizer and optimizer.

    Attributes:
        params, buffers: leaves [K, ...]. optimizer_state, regularizer_state: dicts of tensors [K, ...].
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
        """
        check_modules(modules)
        self.device, self._sample_numbers = example.device, example[0].numel()
        self.regularizer, self.optimizer = regularizer, optimizer
        self.sample_loss, self.task = sample_loss, task
        self.whole_metrics = {name: metric for name, metric in metrics.items() if is_whole(metric)}
        self.metrics = {name: metric for name, metric in metrics.items() if name not in self.whole_metrics}
        self.params = self._stack([dict(module.named_parameters()) for module in modules])
        self.buffers = self._stack([dict(module.named_buffers()) for module in modules])
        self.network = Network(modules[0].to(self.device), example)
        self.network.bfloat16, self._channels_last = bfloat16, channels_last
        dtype = self.network.dtype
        tensors = {name: value.to(self.device) for name, value in hyperparameters.items() if isinstance(value, Tensor)}
        self.hyperparameters = {
            name: value if value.dtype == torch.bool else value.to(dtype) for name, value in tensors.items()
        }
        self.static = {name: value for name, value in hyperparameters.items() if name not in tensors}
        self.output_shape = run_on_examples(self.network.module, example)
        static = self._static_of(regularizer)
        self._model = SingleModel(self.network, regularizer, sample_loss, accumulate, static)
        self.regularizer_state = self._init_regularizer()
        own = {name: hyperparameters[name] for name in optimizer.hyperparameters if name in hyperparameters}
        self.updates = make_updates(optimizer, self.params, own, groups)
        if average and self.updates.evaluates_others:
            raise UsageError(
                f"optimizer {optimizer.name!r} has weights of its own that are evaluated; leave out average"
            )
        self.average = average
        self.average_state = average.init(self.params, self.buffers) if average else {}
        self._steps = 0
        self._is_training = False
        self._evaluated: tuple[Tree, Tree] | None = None  # until the next step
        self._lift_functions()

    @property
    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state without what it can recompute."""
        return without_caches(self.updates.state)

    @optimizer_state.setter
    def optimizer_state(self, state: dict[str, Any]) -> None:
        self.updates.state = state

    def _stack(self, trees: Sequence[Mapping[str, Tensor]]) -> Tree:
        return {name: torch.stack([tree[name].detach() for tree in trees]).to(self.device) for name in trees[0]}

    def _init_regularizer(self) -> Any:
        name, init = self._model.name, self._lift(self._model.state)
        with refuse_in_place_changes(name, {"params": self.params}):
            state = call_twice({f"init of {name}": self.regularizer.init}, lambda: init(self.params))
        return own_copy(state, self.device)

    def _static_of(self, part: Regularizer) -> dict[str, Any]:
        return {name: self.static[name] for name in part.static}

    def _lift_functions(self) -> None:
        """Builds everything that depends on the number of members."""
        self.network.channels_last = self._channels_last and len(self) == 1
        roots = {
            self._model.name: self.regularizer.grads,
            "the network": self.network.module,
            "the loss": self.sample_loss,
        }
        name, watch = f"{self._model.name}, the network or the loss", partial(without_side_effects, roots)
        # One for each batch size: a run's last incomplete batches have another one.
        self._traced: dict[int, TracedFunction] = {}
        self._new_trace = partial(TracedFunction, self._lift(self._model.gradient), name, watch)
        if self.updates.needs_reevaluation:
            self._one_gradient = TracedFunction(_run_alone(self._model.gradient), name, watch)
        self._outputs = self._lift(self.network)
        # No bound methods: they would make reference cycles, which keep the memory until Python's cycle collector runs.
        loss = evaluated_loss(self.sample_loss)
        self._ratios = self._lift(partial(sample_ratios, self.task, loss, {}))
        self._all_ratios = self._lift(partial(sample_ratios, self.task, loss, self.metrics))

    def _lift(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`vmap` over the population. A population of one runs without it: vmap makes convolutions grouped ones."""
        return vmap(function, randomness="error") if len(self) > 1 else _run_alone(function)

    def __len__(self) -> int:
        return len(next(iter(self.params.values())))

    def compare_next_step(self) -> None:
        """Makes the next step compare its trace with the user's code; raises UsageError there if they differ."""
        for traced in self._traced.values():
            traced.compare = True

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
        if not self._is_training:  # train() takes time: it sets a flag in every layer
            self.network.module.train()
            self.updates.resume()
            self._is_training, self._evaluated = True, None
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

    def finish_epoch(self, epoch: int, epochs: int) -> None:
        """Called after the last step of every epoch, from 1."""
        if self.average:
            model = self.params, self.buffers, self.hyperparameters
            self.average.after_epoch(self.average_state, *model, epoch, epochs)

    def _gradients(self, *arguments: Any) -> Any:
        samples = arguments[5].shape[1]  # of the labels
        if samples not in self._traced:
            self._traced[samples] = self._new_trace()
        return self._traced[samples](*arguments)

    def _first_gradients(self, *arguments: Any) -> Any:
        """The gradients of the first step; warns about those that are not finite or all zero."""
        name = self._model.name
        with refuse_in_place_changes(name, {"params": self.params, "state": self.regularizer_state}):
            result = self._gradients(*arguments)
        warn_about_gradients(name, result[0], result[2]["train_loss"])
        return result

    def _reevaluate(self, arguments: tuple[Any, ...], row: int) -> tuple[Tree, Tensor]:
        """One model's gradient and mean task loss [] at its current parameters, on the minibatch of a step.

        The regularizer's state and BatchNorm's statistics are those from before the step, and are not changed.
        """
        gradient, _, scalars, _ = self._one_gradient(*tree_map(lambda leaf: leaf[row : row + 1], arguments))
        return {name: leaf[0] for name, leaf in gradient.items()}, scalars["train_loss"][0]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A step inside keeps the memory addresses of all that it changes: new tensors are copied to the old ones."""
        old, spec = tree_flatten(self._trained())
        try:
            yield
            new = tree_leaves(self._trained())
        finally:
            for name, value in tree_unflatten(old, spec).items():
                setattr(self, name, value)
        addresses = {leaf.untyped_storage().data_ptr() for leaf in old}
        # A new value in the memory of an old one, such as one of two that were swapped, is saved before it is written.
        changed = [
            (target, leaf.clone() if leaf.untyped_storage().data_ptr() in addresses else leaf)
            for target, leaf in zip(old, new, strict=True)
            if target is not leaf
        ]
        for target, leaf in changed:
            target.copy_(leaf)

    def _trained(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in TRAINED}

    def states(self) -> list[dict[str, Any]]:
        """Everything that training changes, per member and copied to the CPU, for `restore`."""
        self._evaluated_model()  # an optimizer may change its parameters for evaluation, and resumes from there
        return [
            tree_map(lambda leaf, row=row: leaf[row].to("cpu", copy=True), self._trained())
            | {"updates": self.updates.saved(row)}
            for row in range(len(self))
        ]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Loads the `states` of members of the same network, regularizer and optimizer."""
        for name in TRAINED:
            leaves = [state[name] for state in states]
            setattr(self, name, tree_map(lambda *leaf: torch.stack(leaf).to(self.device), *leaves))
        self.updates.rebind(self.params)
        self.updates.load([state["updates"] for state in states])
        self._is_training, self._evaluated = False, None

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the members at these rows only and frees the others' memory; the next step is traced again."""
        index = torch.tensor(rows, device=self.device)
        for name in (*TRAINED, "hyperparameters"):
            setattr(self, name, tree_map(lambda leaf: leaf[index], getattr(self, name)))
        self.updates.rebind(self.params, rows)
        self._is_training, self._evaluated = False, None
        self._lift_functions()

    def evaluate(
        self,
        samples: Tensor | Read,
        indices: Tensor,
        weights: Tensor,
        *labels: Tensor,
        custom_metrics: bool = False,
        whole_metrics: bool = False,
    ) -> list[Tree]:
        """`loss` [K] and the task's metrics [K] for each of `labels`, each model on its own samples; one forward pass.

        Args:
            samples: [M, ...], or a function that reads them; indices: [K, n] into them; labels: [K, n, ...] each.
            weights: [K, n]; 0 leaves a sample out (padding where members have different numbers of samples).
            custom_metrics: also the means of the custom metrics of single samples. whole_metrics: those of whole sets,
                of the first labels.
        """
        ratios_of = self._all_ratios if custom_metrics and self.metrics else self._ratios
        kind = self.device.type
        samples_at_once = min(EVALUATED_SAMPLES[kind], EVALUATED_NUMBERS[kind] // max(1, self._sample_numbers))
        chunk = max(1, samples_at_once // len(self))
        sums, outputs_of_chunks = [RatioSums() for _ in labels], []
        params, buffers = self._evaluated_model()
        read = partial(_gather, samples) if isinstance(samples, Tensor) else samples
        for number, inputs in enumerate(read(indices, chunk)):
            part = slice(number * chunk, (number + 1) * chunk)
            outputs = self._outputs(params, inputs, buffers)
            for total, given in zip(sums, labels, strict=True):
                total.add(ratios_of(outputs, given[:, part]), weights[:, part])
            if whole_metrics and self.whole_metrics:
                outputs_of_chunks.append(outputs.cpu())
        metrics = [total.metrics(given, weights) for total, given in zip(sums, labels, strict=True)]
        if outputs_of_chunks:
            metrics[0] |= compute_whole_metrics(self.whole_metrics, torch.cat(outputs_of_chunks, 1), labels[0], weights)
        return metrics

    def _evaluated_model(self) -> tuple[Tree, Tree]:
        """The parameters and buffers to evaluate; the network is in evaluation mode until the next step."""
        if self._evaluated is None:
            self.network.module.eval()
            self._is_training = False
            params, state = self.updates.evaluated(self.params), self.average_state
            self._evaluated = (state["params"], state["buffers"]) if self.average else (params, self.buffers)
        return self._evaluated


def _gather(samples: Tensor, indices: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, indices.shape[1], size):
        yield samples[indices[:, start : start + size]]


def _run_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one model for a stack of one; its first call refuses what vmap would refuse."""
    checked = False

    def run_alone(*args: Any) -> Any:
        nonlocal checked
        single = tree_map(lambda leaf: leaf[0], args)
        with nullcontext() if checked else RefuseRandomOperations():
            result = function(*single)
        checked = True
        return tree_map(lambda leaf: leaf[None], result)

    return run_alone
