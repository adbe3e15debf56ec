"""Population: K models trained side by side, each with its own hyperparameters; the leading axis is added here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from hpo.gradients.network import Network
from hpo.gradients.returns import (
    check_stacked_state,
    compute_losses,
    compute_metric,
    unalias,
    validate_update,
    without_caches,
)
from hpo.models.losses import SampleLoss, evaluated_loss
from hpo.optim.optimizers import UPDATE, Optimizer
from hpo.optim.regularizer import Regularizer
from hpo.training.model_checks import check_modules, run_on_examples, warn_of_defects, watched
from hpo.training.single_model import SingleModel
from hpo.training.tracing import TracedFunction
from hpo.tree import Tree
from hpo.user_code.calls import call_twice, without_side_effects
from hpo.user_code.messages import Hyperparameters, RefuseRandomOperations, call_user_code

Metric = Callable[[Tensor, Tensor], Tensor]

# Samples evaluated at once over the whole population, and numbers in them: bound the memory of activations, which
# an image multiplies by dozens of channels.
# A GPU asks for more at a time to be busy.
EVALUATED_AT_ONCE = {"cpu": 2**14, "cuda": 2**18}
NUMBERS_AT_ONCE = {"cpu": 2**22, "cuda": 2**23}

CHANGED = ("params", "buffers", "optimizer_state", "regularizer_state")


class Population:
    """K models of one network, regularizer and optimizer.

    Attributes:
        params: leaves [K, ...]. optimizer_state, regularizer_state: dicts of tensors [K, ...].
        hyperparameters: name -> values [K]. output_shape: of a sample's output.
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
        check_modules(modules)
        self.network = Network(modules[0].to(device), example)
        self.network.bfloat16 = bfloat16
        self._channels_last = channels_last
        self.regularizer, self.optimizer = regularizer, optimizer
        self.sample_loss, self._evaluated_loss = sample_loss, evaluated_loss(sample_loss)
        self.metrics = dict(metrics)
        self.hyperparameters = {name: value.to(device, self.network.dtype) for name, value in hyperparameters.items()}
        names = [name for name, _ in modules[0].named_parameters()]
        trees = [dict(module.named_parameters()) for module in modules]
        self.params: Tree = {name: torch.stack([tree[name].detach() for tree in trees]).to(device) for name in names}
        every = [dict(module.named_buffers()) for module in modules]
        self.buffers: Tree = {name: torch.stack([buffers[name] for buffers in every]).to(device) for name in every[0]}
        self.output_shape = run_on_examples(self.network.module, example)
        self._model = SingleModel(self.network, regularizer, sample_loss)
        with watched(self._model.who, {"params": self.params}):
            state = self._repeatable_init(self._model.who, regularizer.init, self._lift(self._model.state))
        self.regularizer_state = self._with_own_memory(state)
        who = f"optimizer {optimizer.name!r}"
        state = self._repeatable_init(who, optimizer.init, partial(call_user_code, who, "init(params)", optimizer.init))
        check_stacked_state(who, state, len(self))
        self.optimizer_state = state | self._with_own_memory(without_caches(state))
        self._stepped = 0
        self._make_lifted()

    def _make_lifted(self) -> None:
        """What depends on the number of members."""
        self.network.channels_last = self._channels_last and len(self) == 1
        who = f"{self._model.who}, the network or the loss"
        roots = {
            self._model.who: self.regularizer.grads,
            "the network": self.network.module,
            "the loss": self.sample_loss,
        }
        self._gradients = TracedFunction(self._lift(self._model.gradient), who, partial(without_side_effects, roots))
        self._outputs = self._lift(self.network)
        # No methods: the population would hold itself, and its memory would wait for Python to look for cycles.
        self._judge = self._lift(partial(_sample_metrics, self._evaluated_loss, {}))
        self._judge_with_own = self._lift(partial(_sample_metrics, self._evaluated_loss, self.metrics))

    def _repeatable_init(self, who: str, init: Any, call: Callable[[Tree], Any]) -> Any:
        return call_twice({f"init of {who}": init}, lambda: call(self.params))

    def compare_next_step(self) -> None:
        """Has the next step compared with the user's code, whose operations the steps repeat; raises there."""
        self._gradients.compare = True

    def __len__(self) -> int:
        return len(next(iter(self.params.values())))

    def step(self, inputs: Tensor, labels: Tensor, rate: Tensor | float = 1.0, keys: Tensor | None = None) -> Tree:
        """One update of every model on its own minibatch.

        Args:
            inputs: [K, V, N, ...], V the views that the regularizer needs. labels: [K, N].
            rate: factor on every learning rate (the schedule's); a number or a tensor [1].
            keys: int64 [K], what the members' Dropout masks of this step follow from; zeros by default.

        Returns:
            Scalars by name, [K] each: `train_loss`, the mean task loss before the update and without any penalty,
            and the regularizer's own as `aux/<name>`.
        """
        hyper = Hyperparameters(self.hyperparameters)
        if keys is None:
            keys = torch.zeros(len(self), dtype=torch.int64, device=labels.device)
        if not self.network.module.training:  # after an evaluation: to set every layer's flag takes time
            self.network.module.train()
        given = (self.params, self.regularizer_state, self.buffers, hyper, inputs, labels, keys)
        first = self._stepped == 0
        grads, state, scalars, self.buffers = self._first(given) if first else self._gradients(*given)
        self.regularizer_state = unalias(state, self.params) if state else state
        hyper["learning_rate"] = hyper["learning_rate"] * rate
        who, before = f"optimizer {self.optimizer.name!r}", dict(self.params)
        if self._stepped == 1:  # what it keeps between steps is there
            self._try_optimizer(who, grads, hyper)
        self._stepped += 1
        returned = call_user_code(who, UPDATE, self.optimizer.update, grads, self.optimizer_state, self.params, hyper)
        self.params, self.optimizer_state = validate_update(who, returned, before)
        if first:
            check_stacked_state(who, self.optimizer_state, len(self))
        return scalars

    def _try_optimizer(self, who: str, grads: Tree, hyper: Hyperparameters) -> None:
        """Updates copies twice; raises UsageError unless the update follows from its arguments alone."""

        def update() -> Any:
            state, params = tree_map(torch.clone, (without_caches(self.optimizer_state), self.params))
            params, state = validate_update(
                who, call_user_code(who, UPDATE, self.optimizer.update, grads, state, params, hyper), params
            )
            return params, without_caches(state)

        call_twice({who: self.optimizer.update}, update)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """What a step within changes keeps its place in memory: what it made anew is copied to where the old was."""
        old, kept = tree_flatten(self._changed())
        try:
            yield
            new = tree_leaves(self._changed())
        finally:
            for name, value in tree_unflatten(old, kept).items():
                setattr(self, name, value)
        places = {leaf.untyped_storage().data_ptr() for leaf in old}
        # What lies where an old value was, such as one of two that change places, is saved before that is overwritten.
        moved = [
            (to, leaf.clone() if leaf.untyped_storage().data_ptr() in places else leaf)
            for to, leaf in zip(old, new, strict=True)
            if to is not leaf
        ]
        for to, leaf in moved:
            to.copy_(leaf)

    def _changed(self) -> dict[str, Any]:
        """All that training changes."""
        changed = {name: getattr(self, name) for name in CHANGED}
        changed["optimizer_state"] = without_caches(self.optimizer_state)
        return changed

    def _with_own_memory(self, state: Any) -> Any:
        """A state as `init` made it, on the device, where `in_place` can write each leaf without touching another.

        Leaves may be parameters, the same zeros twice, or one number that `vmap` shows to all models.
        """
        return tree_map(lambda leaf: leaf.to(self.device, copy=True), state)

    def _first(self, given: tuple[Any, ...]) -> Any:
        """The gradients of the first step, with a look at what is wrong from the beginning."""
        with watched(self._model.who, {"params": self.params, "state": self.regularizer_state}):
            found = self._gradients(*given)
        warn_of_defects(self._model.who, found[0], found[2]["train_loss"])
        return found

    def states(self) -> list[dict[str, Any]]:
        """Everything that training changes, by member, copied to the CPU: what `restore` needs to go on from here."""
        changed = self._changed()
        return [
            tree_map(lambda leaf, place=place: leaf[place].to("cpu", copy=True), changed) for place in range(len(self))
        ]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Takes up the `states` of members of the same network, regularizer and optimizer."""
        for name in CHANGED:
            leaves = [state[name] for state in states]
            setattr(self, name, tree_map(lambda *leaf: torch.stack(leaf).to(self.device), *leaves))

    def keep(self, places: Sequence[int]) -> None:
        """Goes on with the members at `places` alone, as if it had been made of them; the others' memory is freed.

        The step is traced anew: its shapes are others.
        """
        index = torch.tensor(places, device=self.device)
        self.optimizer_state = without_caches(self.optimizer_state)  # what is left out would hold the old rows
        for name in (*CHANGED, "hyperparameters"):
            setattr(self, name, tree_map(lambda leaf: leaf[index], getattr(self, name)))
        self._make_lifted()

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
        kind = self.device.type
        most = min(EVALUATED_AT_ONCE[kind], NUMBERS_AT_ONCE[kind] // max(1, samples[0].numel()))
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

    def _lift(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`vmap` over the population; a population of one runs unlifted (vmap turns convolutions into grouped ones).

        At its first call that is held to what vmap would allow.
        """
        if len(self) > 1:
            return vmap(function, randomness="error")

        held = False

        def alone(*args: Any) -> Any:
            nonlocal held
            one = tree_map(lambda leaf: leaf[0], args)
            with nullcontext() if held else RefuseRandomOperations():
                found = function(*one)
            held = True
            return tree_map(lambda leaf: leaf[None], found)

        return alone


def _sample_metrics(loss: SampleLoss, metrics: Mapping[str, Metric], outputs: Tensor, labels: Tensor) -> Tree:
    """Values [N] of one model's samples by name."""
    kind = torch.promote_types(outputs.dtype, torch.float32)  # counts and sums are beyond what fewer digits hold
    found = {
        "loss": compute_losses(loss, outputs, labels).to(kind),
        "accuracy": (outputs.argmax(-1) == labels).to(kind),
    }
    for name, metric in metrics.items():
        found[name] = compute_metric(name, metric, outputs, labels).to(kind)
    return found
