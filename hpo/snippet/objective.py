"""A plain Objective: what a regularizer asks of a minibatch, by the shortest means of PyTorch.

Scripts contain the methods of it that their regularizer needs. It computes what `hpo.gradients.objective.Objective`
computes, one model at a time, without layer rules and without a cache.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn


class Objective:
    """The losses and gradients of one minibatch; parameters and gradients are dicts of tensors by name."""

    def __init__(
        self, network: nn.Module, loss: Callable[..., Tensor], views: Tensor, labels: Tensor, step: int, epoch: int
    ) -> None:
        """loss: of single samples. views: inputs [V, N, ...], one entry for each augmented view. labels: [N, ...]."""
        self.network, self.sample_loss, self.views, self.labels = network, loss, views, labels
        self.step, self.epoch = torch.tensor(step), torch.tensor(epoch)
        self.random_state = torch.get_rng_state()  # with which each pass begins, so that it has the same Dropout masks
        self.first: Any = None  # mean loss and buffers of the first pass, whose BatchNorm statistics count

    def inputs(self, view: int | str = 0) -> Tensor:
        """The samples [N, ...]; the view "clean" is the last one."""
        return self.views[-1 if isinstance(view, str) else view]

    def outputs(self, params: dict[str, Tensor], view: int | str = 0) -> Tensor:
        """Outputs [N, ...] of the network."""
        torch.set_rng_state(self.random_state)
        leaves = {**params, **{name: buffer.clone() for name, buffer in self.network.named_buffers()}}
        outputs = torch.func.functional_call(self.network, leaves, (self.inputs(view),))
        buffers = {name: leaves[name] for name in leaves.keys() - params.keys()}  # new ones where the pass made some
        self.first = self.first or (self.sample_loss(outputs, self.labels).mean(), buffers)
        return outputs

    def sample_losses(self, params: dict[str, Tensor], view: int | str = 0) -> Tensor:
        """Loss of every sample [N]."""
        return self.sample_loss(self.outputs(params, view), self.labels)

    def loss(self, params: dict[str, Tensor], view: int | str = 0) -> Tensor:
        """Mean loss []."""
        return self.sample_losses(params, view).mean()

    def grad_of(self, function: Callable[..., Any], params: dict[str, Tensor]) -> Any:
        """The gradient of a function params -> (number, further tensors), and these tensors."""

        def with_first_pass(at: dict[str, Tensor]) -> Any:
            value, tensors = function(at)
            return value, (tensors, self.first)

        before, self.first = self.first, None
        gradient, (tensors, first) = torch.func.grad(with_first_pass, has_aux=True)(params)
        self.first = before or first
        return gradient, tensors

    def grad(self, params: dict[str, Tensor], view: int | str = 0) -> dict[str, Tensor]:
        """Gradient of the mean loss."""
        return self.grad_of(lambda at: (self.loss(at, view), {}), params)[0]

    def mean_grad(self, params: dict[str, Tensor], view: int | str = 0) -> dict[str, Tensor]:
        """Gradient of the mean loss."""
        return self.grad(params, view)

    def penalised_grad(self, params: dict[str, Tensor], penalty: Callable[..., Tensor], view: int | str = 0) -> Any:
        """Gradient of mean loss + penalty(params), and the penalty."""

        def total(at: dict[str, Tensor]) -> Any:
            value = penalty(at)
            return self.loss(at, view) + value, value

        return self.grad_of(total, params)

    def weighted_grad(self, params: dict[str, Tensor], weights: Tensor, view: int | str = 0) -> dict[str, Tensor]:
        """mean_i w_i g_i for the gradients g_i of single samples."""
        return self.grad_of(lambda at: ((weights * self.sample_losses(at, view)).mean(), {}), params)[0]

    def last_layer_grad(
        self, params: dict[str, Tensor], view: int | str = 0, layers: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Gradient of the mean loss with respect to some layers, by default the last Linear one."""
        linear = [name for name, layer in self.network.named_modules() if isinstance(layer, nn.Linear)]
        prefixes = tuple(f"{name}." for name in layers or linear[-1:])
        chosen = {name: leaf for name, leaf in params.items() if name.startswith(prefixes)}
        return self.grad_of(lambda at: (self.loss({**params, **at}, view), {}), chosen)[0]

    def sample_grads(self, params: dict[str, Tensor], view: int | str = 0) -> dict[str, Tensor]:
        """The gradient g_i of every sample's loss, leaves [N, ...]."""
        self.outputs(params, view)  # of the whole batch, for the loss and the buffers

        def loss_of_one(at: dict[str, Tensor], buffers: dict[str, Tensor], sample: Tensor, label: Tensor) -> Tensor:
            leaves = {**at, **{name: buffer.clone() for name, buffer in buffers.items()}}
            outputs = torch.func.functional_call(self.network, leaves, (sample[None],))
            return self.sample_loss(outputs, label[None])[0]

        buffers = {name: each.expand(len(self.labels), *each.shape) for name, each in self.network.named_buffers()}
        by_sample = torch.func.vmap(torch.func.grad(loss_of_one), (None, 0, 0, 0), randomness="different")
        torch.set_rng_state(self.random_state)
        return by_sample(params, buffers, self.inputs(view), self.labels)

    def sample_grad_norms(self, params: dict[str, Tensor], view: int | str = 0, epsilon: float = 0.0) -> Tensor:
        """sqrt(‖g_i‖² + epsilon) [N]."""
        squares = [leaf.flatten(1).square().sum(1) for leaf in self.sample_grads(params, view).values()]
        return (torch.stack(squares).sum(0) + epsilon).sqrt()

    def sign_mean(self, params: dict[str, Tensor], view: int | str = 0) -> dict[str, Tensor]:
        """mean_i sign(g_i)."""
        return {name: leaf.sign().mean(0) for name, leaf in self.sample_grads(params, view).items()}

    def subset(self, samples: slice) -> Self:
        """The objective of some of the samples."""
        part = copy.copy(self)
        part.views, part.labels = self.views[:, samples], self.labels[samples]
        return part
