"""Population: K models trained side by side, each with its own hyperparameters; the leading axis is added here."""

import logging
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._pytree import tree_map

from hpo.errors import UsageError
from hpo.losses import SampleLoss, evaluated_loss
from hpo.network import Network
from hpo.objective import Objective, Regularizer, State
from hpo.optimizers import Optimizer
from hpo.tracing import Replayed
from hpo.tree import Tree

log = logging.getLogger(__name__)

Metric = Callable[[Tensor, Tensor], Tensor]

# Samples evaluated at once over the whole population, and numbers in them: bound the memory of activations, which
# an image multiplies by dozens of channels.
EVALUATED_AT_ONCE = 16384
NUMBERS_AT_ONCE = 2**22

CHANGED = ("params", "buffers", "optimizer_state", "regularizer_state")


class Population:
    """K models of one network, regularizer and optimizer.

    Attributes:
        params: leaves [K, ...]. optimizer_state, regularizer_state: dicts of tensors [K, ...].
        hyperparameters: name -> values [K].
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        regularizer: Regularizer,
        optimizer: Optimizer,
        hyperparameters: Mapping[str, Tensor],
        sample_loss: SampleLoss,
        example: Tensor,
        bfloat16: bool = False,
        channels_last: bool = False,
        metrics: Mapping[str, Metric] = MappingProxyType({}),
    ) -> None:
        """
        Args:
            modules: K initialised networks of one architecture. example: a few inputs [N, ...] on the device.
            bfloat16, channels_last: see `Network`. The layout is a single model's; a stack of several has its own.
            metrics: of the user's own, by name: (outputs [N, ...], labels [N]) -> values [N].
        """
        self.device = device = example.device
        self.network = Network(modules[0].to(device), example)
        self.network.bfloat16 = bfloat16
        self.network.channels_last = channels_last and len(modules) == 1
        self.regularizer, self.optimizer = regularizer, optimizer
        self.sample_loss, self._evaluated_loss = sample_loss, evaluated_loss(sample_loss)
        self.metrics = dict(metrics)
        self.hyperparameters = {name: value.to(device) for name, value in hyperparameters.items()}
        names = [name for name, _ in modules[0].named_parameters()]
        trees = [dict(module.named_parameters()) for module in modules]
        self.params: Tree = {name: torch.stack([tree[name].detach() for tree in trees]).to(device) for name in names}
        every = [dict(module.named_buffers()) for module in modules]
        self.buffers: Tree = {name: torch.stack([buffers[name] for buffers in every]).to(device) for name in every[0]}
        self.regularizer_state = self._lift(regularizer.init)(self.params)
        self.optimizer_state = optimizer.init(self.params)
        self._gradients = Replayed(self._lift(self._one_gradient))
        self._outputs = self._lift(self.network)
        self._stepped = False
        self._judge = self._lift(self._one_judgement)
        self._judge_with_own = self._lift(self._one_judgement_with_own)

    def __len__(self) -> int:
        return len(next(iter(self.params.values())))

    def step(self, inputs: Tensor, labels: Tensor, rate: float = 1.0, keys: Tensor | None = None) -> Tree:
        """One update of every model on its own minibatch.

        Args:
            inputs: [K, V, N, ...], V the views that the regularizer needs. labels: [K, N].
            rate: factor on every learning rate (the schedule's).
            keys: int64 [K], what the members' Dropout masks of this step follow from; zeros by default.

        Returns:
            Scalars by name, [K] each: `train_loss`, the mean task loss before the update and without any penalty,
            and the regularizer's own as `aux/<name>`.
        """
        hyper = dict(self.hyperparameters)
        if keys is None:
            keys = torch.zeros(len(self), dtype=torch.int64, device=labels.device)
        self.network.module.train()
        grads, self.regularizer_state, scalars, self.buffers = self._gradients(
            self.params, self.regularizer_state, self.buffers, hyper, inputs, labels, keys
        )
        if not self._stepped:
            self._warn_of_non_finite(grads, scalars["train_loss"])
        if rate != 1.0:
            hyper["learning_rate"] = hyper["learning_rate"] * rate
        self.params, self.optimizer_state = self.optimizer.update(grads, self.optimizer_state, self.params, hyper)
        return scalars

    def _warn_of_non_finite(self, grads: Tree, loss: Tensor) -> None:
        """Names the leaf where the first step's gradient is not finite though the loss is: a defect, not divergence."""
        self._stepped = True
        for leaf, gradient in grads.items():
            if (~gradient.flatten(1).isfinite().all(1) & loss.isfinite()).any():
                log.warning(
                    "regularizer %r gives a gradient for %r that is not finite in the first step; the run will diverge",
                    self.regularizer.name,
                    leaf,
                )
                return

    def states(self) -> list[dict[str, Any]]:
        """Everything that training changes, by member, copied to the CPU: what `restore` needs to go on from here."""
        changed = {name: getattr(self, name) for name in CHANGED}
        # What an optimizer keeps under a name with "_" in front it makes again by itself.
        changed["optimizer_state"] = {k: leaf for k, leaf in self.optimizer_state.items() if not k.startswith("_")}
        return [
            tree_map(lambda leaf, place=place: leaf[place].to("cpu", copy=True), changed) for place in range(len(self))
        ]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Takes up the `states` of members of the same network, regularizer and optimizer."""
        for name in CHANGED:
            leaves = [state[name] for state in states]
            setattr(self, name, tree_map(lambda *leaf: torch.stack(leaf).to(self.device), *leaves))

    def evaluate(
        self, samples: Tensor, places: Tensor, weights: Tensor, *labels: Tensor, own: bool = False
    ) -> list[Tree]:
        """`loss` [K] and `accuracy` [K], means for each of `labels`, each model on its own samples; one forward pass.

        Args:
            samples: [M, ...]; places: [K, n], positions in `samples`; labels: [K, n] each.
            weights: [K, n]; 0 leaves a sample out (padding where members have different numbers of samples).
            own: the user's own metrics as well.
        """
        judge = self._judge_with_own if own and self.metrics else self._judge
        most = min(EVALUATED_AT_ONCE, NUMBERS_AT_ONCE // max(1, samples[0].numel()))
        chunk = max(1, most // len(self))
        sums: list[Tree] = [{} for _ in labels]
        self.network.module.eval()
        for start in range(0, places.shape[1], chunk):
            part = slice(start, start + chunk)
            outputs = self._outputs(self.params, samples[places[:, part]], self.buffers)
            # A product with weight 0 would keep the NaN of a padded sample.
            kept = weights[:, part] > 0
            for total, given in zip(sums, labels, strict=True):
                for name, values in judge(outputs, given[:, part]).items():
                    added = torch.where(kept, values * weights[:, part], 0).sum(1)
                    total[name] = total[name] + added if name in total else added
        return [{name: total / weights.sum(1) for name, total in found.items()} for found in sums]

    def _one_gradient(
        self, params: Tree, state: State, buffers: Tree, hyper: Tree, inputs: Tensor, labels: Tensor, key: Tensor
    ) -> tuple[Tree, State, Tree, Tree]:
        objective = Objective(self.network, self.sample_loss, inputs, labels, buffers, key)
        name = self.regularizer.name
        try:
            grads, state, scalars = _three(self.regularizer.grads(objective, params, state, hyper))
        except UsageError as error:
            raise UsageError(f"regularizer {name!r}: {error}") from error
        _check_gradient(name, grads, params)
        loss = objective.task_loss if objective.task_loss is not None else objective.loss(params)
        named = {"train_loss": loss} | {f"aux/{scalar}": value for scalar, value in scalars.items()}
        return {leaf: grads[leaf] for leaf in params}, state, named, objective.buffers

    def _one_judgement(self, outputs: Tensor, labels: Tensor) -> Tree:
        hits = (outputs.argmax(-1) == labels).to(outputs.dtype)
        return {"loss": self._evaluated_loss(outputs, labels), "accuracy": hits}

    def _one_judgement_with_own(self, outputs: Tensor, labels: Tensor) -> Tree:
        found = self._one_judgement(outputs, labels)
        for name, metric in self.metrics.items():
            found[name] = _sample_values(name, metric(outputs, labels), labels).to(outputs.dtype)
        return found

    def _lift(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`vmap` over the population; a population of one runs unlifted (vmap turns convolutions into grouped ones)."""
        if len(self) > 1:
            return vmap(function, randomness="error")

        def alone(*args: Any) -> Any:
            first = tree_map(lambda leaf: leaf[0], args)
            return tree_map(lambda leaf: leaf[None], function(*first))

        return alone


def _sample_values(name: str, values: Any, labels: Tensor) -> Tensor:
    """Raises UsageError unless a metric of the user's own gave one number a sample."""
    if not isinstance(values, Tensor) or values.shape != labels.shape:
        found = f"a tensor of shape {tuple(values.shape)}" if isinstance(values, Tensor) else repr(values)
        raise UsageError(
            f"metric {name!r} gives {found} for {len(labels)} samples; return a tensor of one number a sample, [N]"
        )
    return values


def _three(returned: Any) -> tuple[Tree, State, Tree]:
    """Raises UsageError unless `grads` returned three values, the first and the last of them dicts."""
    shape = isinstance(returned, tuple | list) and len(returned) == 3
    if not shape or not isinstance(returned[0], dict) or not isinstance(returned[2], dict):
        raise UsageError("its grads returns something else; return (gradient, state, scalars), scalars being a dict")
    for name, value in returned[2].items():
        if not isinstance(value, Tensor) or value.dim():
            raise UsageError(f"its scalar {name!r} is no tensor of one number; return one, or leave it out")
    return returned[0], returned[1], returned[2]


def _check_gradient(name: str, grads: Tree, params: Tree) -> None:
    """Raises UsageError unless a regularizer's gradient has the leaves and shapes of the parameters."""
    for leaf in [*params, *grads]:
        if leaf not in grads:
            raise UsageError(
                f"regularizer {name!r}: its gradient lacks the leaf {leaf!r}; return one for every parameter"
            )
        if leaf not in params:
            raise UsageError(
                f"regularizer {name!r}: its gradient has a leaf {leaf!r} that is no parameter; leave it out"
            )
        if not isinstance(grads[leaf], Tensor):
            raise UsageError(
                f"regularizer {name!r}: its gradient for {leaf!r} is {grads[leaf]!r}; return a tensor of the "
                "parameter's shape"
            )
        if grads[leaf].shape != params[leaf].shape:
            raise UsageError(
                f"regularizer {name!r}: its gradient for {leaf!r} has shape {tuple(grads[leaf].shape)}, and the "
                f"parameter has {tuple(params[leaf].shape)}; return a gradient of the parameter's shape"
            )
