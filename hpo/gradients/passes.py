"""PassCache: forward and backward passes over one minibatch, each of them computed once."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.utils._pytree import tree_leaves

from hpo.errors import UsageError
from hpo.gradients.draws import Draws, Moment
from hpo.gradients.gradient_count import GradientCount
from hpo.gradients.layer_rules import SAMPLE_GRADS, RecordedLayer
from hpo.gradients.network import Network, repeat_buffers
from hpo.gradients.rule_check import rules_hold
from hpo.gradients.sample_functions import compute_losses
from hpo.gradients.transform_cache import TransformCache
from hpo.models.losses import SampleLoss
from hpo.tree import Tree
from hpo.user_code.messages import describe_value

View = int | Literal["clean"]


class PassCache:
    """The forward and backward passes of a network over a minibatch, cached at each level of differentiation.

    Attributes:
        random: random numbers that follow from the model's seed and the step (see `Draws`).
    """

    def __init__(
        self,
        network: Network,
        sample_loss: SampleLoss,
        inputs: Tensor,
        labels: Tensor,
        buffers: Tree | None = None,
        moment: Moment | None = None,
        clean_view: bool = False,
    ) -> None:
        """
        Args:
            sample_loss: (outputs [N, ...], labels [N, ...]) -> losses [N].
            inputs: [V, N, ...], one entry a view. labels: [N, ...]. Of a network with a `Share`, those of this process.
            buffers: the network's, such as BatchNorm's running statistics; they are not changed.
            moment: when the step takes place; its key determines Dropout's masks.
            clean_view: whether the last view is the one without augmentation, called "clean".
        """
        self._network, self._inputs, self._labels = network, inputs, labels
        self._sample_loss, self._buffers, self._moment = sample_loss, buffers or {}, moment
        self._clean_view = clean_view
        zero = torch.zeros((), dtype=torch.int64, device=labels.device)
        self._when = moment or Moment(zero, zero, zero)
        self.random = Draws(self._when.key)
        self._share = share = network.share
        self._count = len(labels) * share.count  # N, of all processes
        self._positions = torch.arange(share.rank, self._count, share.count, device=labels.device)
        self._cache = TransformCache()
        self._gradients = GradientCount(self._count)  # of the whole minibatch, whatever part of it is used
        self._part_grads = 0  # gradients of the last layers that are being formed
        self._every_pass = False
        self._l2: Tensor | None = None

    @property
    def task_loss(self) -> Tensor | None:
        """Mean loss [] of the first pass, without any penalty; None before it."""
        return None if self._cache.first is None else self._cache.first[0]

    @property
    def buffers(self) -> Tree:
        """The network's buffers after the step: after its first pass, or after all where each updates them."""
        if self._cache.latest is not None:
            return self._cache.latest
        return self._buffers if self._cache.first is None else self._cache.first[1]

    @property
    def gradient_evaluations(self) -> float:
        """The gradient evaluations so far, of all parts of the minibatch; see `GradientCount`."""
        return self._gradients.evaluations

    @property
    def step(self) -> Tensor:
        """The step's number in the run, from 0; int64 []."""
        return self._when.step

    @property
    def epoch(self) -> Tensor:
        """The epoch's number, from 1; int64 []."""
        return self._when.epoch

    @property
    def labels(self) -> Tensor:
        """Labels of the samples [N, ...], with label noise; with mixup or CutMix the shares of the classes [N, C]."""
        return self._share.gather(self._labels)

    def inputs(self, view: View = 0) -> Tensor:
        """Inputs of the samples [N, ...] in a view."""
        return self._share.gather(self._own_inputs(view))

    def _own_inputs(self, view: View) -> Tensor:
        """Inputs of this process's samples in a view."""
        count = len(self._inputs)
        if view == "clean" and self._clean_view:
            return self._inputs[-1]
        if view == "clean":
            raise UsageError('view "clean" of the minibatch is requested; give the Regularizer clean_view=True')
        count -= self._clean_view
        if not isinstance(view, int) or not 0 <= view < count:
            existing = "only view 0 exists" if count == 1 else f"only views 0 to {count - 1} exist"
            advice = f"; give the Regularizer views={view + 1}" if isinstance(view, int) and view > 0 else ""
            raise UsageError(f"view {view!r} of the minibatch is requested, but {existing}{advice}")
        return self._inputs[view]

    def subset(self, samples: slice) -> Self:
        """The objective of some of the samples, in all views, with passes over these samples only.

        BatchNorm sees only them; `task_loss` and `buffers` of this objective stay those of the whole batch. The order
        of samples is drawn from the seed in each epoch, so that the first n are n random ones without repetition.

        Args:
            samples: their positions in the batch, such as slice(32); those beyond its end are left out.
        """
        if not isinstance(samples, slice) or not range(self._count)[samples]:
            raise UsageError(
                f"subset got {samples!r} for {self._count} samples; give a slice that selects some: slice(32)"
            )
        own = self._share.own_part(samples, self._count)
        chosen = copy.copy(self)
        chosen._inputs, chosen._labels = self._inputs[:, own], self._labels[own]
        chosen._count = len(chosen._labels) * self._share.count
        chosen._positions = self._positions[own]  # in the whole batch: Dropout's masks follow from them
        chosen._cache = TransformCache()
        return chosen

    def with_l2(self, strength: Tensor) -> Self:
        """The same objective with strength/2 · ‖w‖² added to the mean loss, over all parameters with several axes.

        As in Google's SAM (google-research/sam), where weight decay is part of the loss, so that it bends the
        perturbation as well. `sample_losses` and the per-sample methods are those of the loss without it.

        Args:
            strength: [], the weight decay.
        """
        other = copy.copy(self)
        other._l2 = strength
        return other

    def with_every_pass_in_statistics(self) -> Self:
        """The same objective, but each pass updates BatchNorm's running statistics, not only a step's first."""
        other = copy.copy(self)
        other._every_pass = True
        return other

    def micro_batches(self, count: int) -> Iterator[Self]:
        """The objectives of equal parts of the minibatch, one after the other; BatchNorm's statistics pass through all.

        Args:
            count: a divisor of the number of samples; 1 yields this objective itself.
        """
        if count == 1:
            yield self
            return
        size, buffers = self._count // count, self._buffers
        for start in range(0, count * size, size):
            part = self.subset(slice(start, start + size))
            part._buffers = buffers
            yield part
            buffers = part.buffers

    def sample_losses(self, params: Tree, view: View = 0) -> Tensor:
        """Loss of every sample [N]."""
        cached: Tensor | None = self._cache.get("losses", params, view)
        return self._forward(params, view)[1] if cached is None else cached

    def outputs(self, params: Tree, view: View = 0) -> Tensor:
        """Outputs of the network [N, ...]; `sample_losses` and `loss` reuse the pass."""
        cached: Tensor | None = self._cache.get("outputs", params, view)
        return self._share.gather(self._forward(params, view)[0] if cached is None else cached)

    def _forward(self, params: Tree, view: View) -> tuple[Tensor, Tensor]:
        """Outputs of this process's samples and losses [N] of all, of a new pass."""
        own = self._share.spread(params), self._own_inputs(view)
        self._gradients.add(self._count, self._part_grads)
        outputs, after = self._network.run(*own, self._buffers_before, self._draws)
        losses = self._share.gather(self._losses_of(outputs, self._labels))
        self._cache.keep("outputs", params, view, outputs)
        self._cache.keep_losses(params, view, losses, after)
        if self._every_pass:
            self._cache.keep_latest(after)
        return outputs, losses

    def grad_of(self, function: Callable[[Tree], tuple[Tensor, Tree]], params: Tree) -> tuple[Tree, Tree]:
        """Gradient of any scalar function of the parameters that uses this objective.

        Args:
            function: params -> (scalar [] to differentiate, further tensors to return). Calls may be nested.

        Returns:
            (gradient with the leaves of `params`, the further tensors).
        """
        # Tensors of a differentiation must not outlive it: it has its own cache, whose first pass is returned as aux.
        outer = self._cache

        def cached(at: Tree) -> tuple[Tensor, tuple[Tree, Any, Any]]:
            self._cache = TransformCache(outer.latest)
            value, tensors = _check_returned(function(at))
            return value, (tensors, self._cache.first, self._cache.latest or {})

        try:
            gradient, (tensors, first, latest) = grad(cached, has_aux=True)(params)
        finally:
            self._cache = outer
        outer.keep_first(first)
        outer.keep_latest(latest or None)
        return gradient, tensors

    def sample_grads(self, params: Tree, view: View = 0) -> Tree:
        """Every g_i, leaves [N, ...]: slow, and valid for any module that does not mix samples.

        Raises:
            UsageError: the module has a layer that mixes samples.
        """
        return {name: self._share.gather(leaf) for name, leaf in self._own_sample_grads(params, view).items()}

    def _own_sample_grads(self, params: Tree, view: View) -> Tree:
        """The g_i of this process's samples."""
        rules_hold(self._network, self._losses_of, self._labels)
        if self._buffers:  # their new values follow from the whole batch
            self.sample_losses(params, view)
        buffers = repeat_buffers(self._buffers, len(self._labels))

        def loss_of_one(
            at: Tree, sample_buffers: Tree, sample: Tensor, label: Tensor, position: Tensor
        ) -> tuple[Tensor, Tensor]:
            draws = self._draws_at(position[None])
            self._gradients.add(self._share.count)
            outputs, _ = self._network.run(at, sample[None], sample_buffers, draws)
            loss = self._losses_of(outputs, label[None])[0]
            return loss, loss

        gradients, losses = vmap(grad(loss_of_one, has_aux=True), (None, 0, 0, 0, 0))(
            self._share.spread(params), buffers, self._own_inputs(view), self._labels, self._positions
        )
        self._cache.keep_losses(params, view, self._share.gather(losses), {} if not self._buffers else None)
        return gradients

    def _part_grad(self, params: Tree, view: View, leaves: Tree) -> Tree:
        """Gradient of the mean loss with respect to some leaves; `sample_losses` reuses the pass."""

        def mean_loss(at: Tree) -> tuple[Tensor, Tree]:
            whole = {**params, **at}
            losses = self.sample_losses(whole, view)
            return losses.mean() + self._l2_penalty(whole), {"losses": losses}

        ends_early = next(iter(params)) not in leaves  # the backward pass does not reach the first layer
        self._part_grads += ends_early
        try:
            gradient, tensors = self.grad_of(mean_loss, leaves)
        finally:
            self._part_grads -= ends_early
        self._cache.keep_losses(params, view, tensors["losses"])
        return gradient

    def _recorded_layers(self, params: Tree, view: View) -> list[RecordedLayer]:
        """Every layer with its input and delta at `params`; the whole network where the layer rules do not hold.

        Both are those of this process's samples.
        """
        if not rules_hold(self._network, self._losses_of, self._labels):
            return [RecordedLayer("", self._network.module, SAMPLE_GRADS, self._own_sample_grads(params, view), None)]
        cached: list[RecordedLayer] | None = self._cache.get("layers", params, view)
        if cached is not None:
            return cached
        inputs, recorder, spread = self._own_inputs(view), self._network.recorder, self._share.spread(params)
        probes = recorder.zero_probes(len(inputs), params)

        def total(*added: Tensor) -> tuple[Tensor, tuple[Tensor, list[Tensor], Tree]]:
            self._gradients.add(self._count)
            passed = self._network.run_with_probes(spread, inputs, list(added), self._buffers, self._draws)
            outputs, layer_inputs, after = passed
            losses = self._losses_of(outputs, self._labels)
            return losses.sum(), (losses, layer_inputs, after)

        deltas, (losses, layer_inputs, after) = grad(total, argnums=tuple(range(len(probes))), has_aux=True)(*probes)
        zipped = zip(recorder.layers, layer_inputs, deltas, strict=True)
        # In mixed precision an operation without a rule, such as attention's products, may give a bfloat16 input.
        recorded = [RecordedLayer(*layer, given.to(delta.dtype), delta) for layer, given, delta in zipped]
        self._cache.keep_losses(params, view, self._share.gather(losses), after)
        self._cache.keep("layers", params, view, recorded)
        return recorded

    @property
    def _buffers_before(self) -> Tree:
        """The buffers that the next pass starts with."""
        return self.buffers if self._every_pass and self._cache.latest is not None else self._buffers

    def _l2_penalty(self, params: Tree) -> Tensor | float:
        if self._l2 is None:
            return 0.0
        return self._l2 / 2 * torch.stack([leaf.square().sum() for leaf in params.values() if leaf.dim() > 1]).sum()

    @property
    def _draws(self) -> tuple[Tensor, Tensor] | None:
        return self._draws_at(self._positions)

    def _draws_at(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        return None if self._moment is None else (self._moment.key, positions)

    def _losses_of(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return compute_losses(self._sample_loss, outputs, labels)


def _check_returned(returned: Any) -> tuple[Tensor, Tree]:
    """Raises UsageError unless a function to differentiate returned a number and further tensors."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise UsageError(
            f"the function given to grad_of returns {describe_value(returned)}; return (number, tensors), "
            "tensors being a dict, such as {}"
        )
    value, tensors = returned
    if not isinstance(value, Tensor) or value.dim() or not value.is_floating_point():
        raise UsageError(f"{describe_value(value)} cannot be differentiated; return one number, as .mean() does")
    for leaf in tree_leaves(tensors):
        if not isinstance(leaf, Tensor):
            raise UsageError(f"the function given to grad_of also returns {describe_value(leaf)}; return only tensors")
    return value, tensors
