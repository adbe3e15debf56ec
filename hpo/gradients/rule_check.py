"""Checks the layer rules of a network against per-sample gradients, at their first use with it."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from hpo.errors import UsageError
from hpo.gradients.layer_rules import SAMPLE_GRADS, Rule
from hpo.gradients.network import Network, repeat_buffers
from hpo.models.losses import SampleLoss
from hpo.tree import Tree, without_zeros
from hpo.user_code.messages import warn_once

CHECKED_SAMPLES = 4
# Relative difference from which numbers count as different. Rounding in float64 is 1e-12, a wrong rule differs by 1e-2;
# in float32 on a GPU or in mixed precision rounding is up to 1e-3, and samples that mix differ by their own size.
TOLERANCE = 1e-8
COARSE_TOLERANCE = 1e-2
ROUNDING = 1e-12  # in float64, as a share of the network's largest gradient
NO_SAMPLE_GRADS = "single samples have no gradients; choose a regularizer without per-sample gradients"


def rules_hold(network: Network, sample_loss: SampleLoss | None = None, labels: Tensor | None = None) -> bool:
    """Whether the rules give this network's per-sample gradients; checked at the first call.

    Args:
        sample_loss: checked with labels of the shape and type of `labels` [N, ...].

    Raises:
        UsageError: a layer or the loss mixes samples, so that single samples have no gradients.
    """
    for name, layer in network.module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
            raise UsageError(
                f"layer {name!r} ({type(layer).__name__}) mixes the samples of a batch, so that single samples have no "
                "gradients; use a network without BatchNorm, such as norm='group'"
            )
    if not network.rules_checked:
        obstacle = network.obstacle
        try:
            obstacle = _Check(network, torch.float64).find_obstacle()
        except torch.OutOfMemoryError:  # also a RuntimeError, but it says nothing about the rules
            raise
        except RuntimeError as error:  # a forward pass that requires float32, an operation without vmap
            obstacle = obstacle or f"the rules cannot be checked in float64 ({str(error).splitlines()[0]})"
            _Check(network, None).check_outputs()
        if sample_loss and labels is not None:
            _Check(network, None).check_losses(sample_loss, labels)
        if obstacle:
            warn_once(f"per-sample gradients are computed one by one, which is slower: {obstacle}")
            network.disable_rules(obstacle)
        network.rules_checked = True
    return network.obstacle is None


def check_unmixed(network: Network, sample_loss: SampleLoss, labels: Tensor) -> None:
    """Raises UsageError if the network, but for its BatchNorm, or the loss mixes samples.

    Several processes could not share a minibatch then.

    Args:
        labels: of the shape and type of those of the training samples [N, ...].
    """
    network.module.train()
    for layer in network.module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
    check = _Check(network, None, "several processes cannot share a minibatch; train with one process")
    check.check_outputs()
    check.check_losses(sample_loss, labels)
    network.module.eval()


class _Check:
    """A network on a few samples, with its module's parameters except zeros, behind which all samples are equal."""

    def __init__(self, network: Network, dtype: torch.dtype | None, consequence: str = NO_SAMPLE_GRADS) -> None:
        """
        Args:
            dtype: that of the parameters, buffers and inputs; None keeps theirs.
            consequence: of samples that are mixed, as messages say it.
        """
        self.network, self.consequence = network, consequence

        def cast(value: Tensor) -> Tensor:
            return value.detach().to(dtype) if dtype and value.is_floating_point() else value.detach()

        self.params = {name: without_zeros(cast(value)) for name, value in network.module.named_parameters()}
        self.buffers = {name: cast(value) for name, value in network.module.named_buffers()}
        self.example = cast(network.example[:CHECKED_SAMPLES])
        self.positions = torch.arange(len(self.example), device=self.example.device)
        self.key = torch.zeros((), dtype=torch.int64, device=self.example.device)

    def outputs(self, params: Tree, inputs: Tensor, positions: Tensor, buffers: Tree | None = None) -> Tensor:
        buffers = self.buffers if buffers is None else buffers
        return self.network.run(params, inputs, buffers, (self.key, positions))[0]

    def check_outputs(self) -> None:
        """Raises UsageError unless a sample's output is the same alone and in a batch."""
        self._check("the network", "output", partial(self.outputs, self.params), self.example, self.positions)

    def check_losses(self, sample_loss: SampleLoss, like: Tensor) -> None:
        """Raises UsageError unless a sample's loss is the same alone and in a batch."""
        outputs = self.outputs(self.params, self.example, self.positions)
        shape = (len(outputs), *like.shape[1:])
        # Class 0, which every data set has; ones among the targets that are no classes.
        labels = torch.full(shape, int(like.is_floating_point()), dtype=like.dtype, device=outputs.device)
        self._check("the loss", "loss", sample_loss, outputs, labels)

    @torch.no_grad()
    def _check(self, code: str, quantity: str, function: Callable[..., Tensor], *batch: Tensor) -> None:
        """Raises UsageError unless a function gives the same values for a batch and for its samples one by one."""
        together = function(*batch)
        alone = torch.cat([function(*sample) for sample in zip(*(part.split(1) for part in batch), strict=True)])
        tolerance = TOLERANCE if together.dtype is torch.float64 else COARSE_TOLERANCE
        if not all(_close(one, other, tolerance) for one, other in zip(alone, together, strict=True)):
            raise UsageError(
                f"{code} mixes the samples of a batch (a sample's {quantity} depends on the others), so that "
                f"{self.consequence}"
            )

    @torch.no_grad()
    def find_obstacle(self) -> str | None:
        """Says why the rules do not give the per-sample gradients; None if they do."""
        network, draws = self.network, (self.key, self.positions)
        self.check_outputs()
        if not network.obstacle:
            network.run_with_probes(self.params, self.example, None, self.buffers, draws)
        if network.obstacle:
            return network.obstacle

        # Any scalar of the outputs can be the loss; this one has a dense gradient that depends on the sample.
        def loss_of_one(at: Tree, sample: Tensor, position: Tensor, buffers: Tree) -> Tensor:
            return self.outputs(at, sample[None], position[None], buffers).square().sum()

        def total(*added: Tensor) -> tuple[Tensor, list[Tensor]]:
            outputs, inputs, _ = network.run_with_probes(self.params, self.example, list(added), self.buffers, draws)
            return outputs.square().sum(), inputs

        buffers = repeat_buffers(self.buffers, len(self.example))
        expected = vmap(grad(loss_of_one), (None, 0, 0, 0))(self.params, self.example, self.positions, buffers)
        probes = network.recorder.zero_probes(len(self.example), self.params)
        deltas, layer_inputs = grad(total, argnums=tuple(range(len(probes))), has_aux=True)(*probes)
        largest = max(float(value.abs().max()) for value in expected.values())
        for (name, layer, rule), inputs, delta in zip(network.recorder.layers, layer_inputs, deltas, strict=True):
            prefix = f"{name}." if name else ""
            leaves = {leaf: expected[prefix + leaf] for leaf, _ in layer.named_parameters(recurse=False)}
            if not _rule_agrees(rule, layer, inputs, delta, leaves, largest * ROUNDING):
                return f"the rule of layer {name!r} differs from its per-sample gradients"
        return network.obstacle


def _rule_agrees(rule: Rule, layer: nn.Module, inputs: Tensor, delta: Tensor, leaves: Tree, rounding: float) -> bool:
    """Compares a rule's three functions with per-sample gradients (leaves [N, ...]).

    Smaller ones than `rounding` may have any sign: the bias of attention's keys has a gradient of zero.
    """
    norms = SAMPLE_GRADS.square_norms(layer, leaves, None)
    weights = torch.linspace(0.5, 1.5, len(inputs), dtype=norms.dtype, device=norms.device)
    weighted = SAMPLE_GRADS.weighted_grad(layer, leaves, None, weights)
    has_sign = {leaf: ((value.abs() > rounding) | (value == 0)).all(0) for leaf, value in leaves.items()}
    signs = {leaf: value * has_sign[leaf] for leaf, value in SAMPLE_GRADS.sign_mean(layer, leaves, None).items()}
    given = {leaf: value * has_sign[leaf] for leaf, value in rule.sign_mean(layer, inputs, delta).items()}
    return (
        _close(rule.square_norms(layer, inputs, delta), norms)
        and _trees_close(rule.weighted_grad(layer, inputs, delta, weights), weighted)
        and _trees_close(given, signs)
    )


def _trees_close(first: Tree, second: Tree) -> bool:
    return all(_close(value, second[leaf]) for leaf, value in first.items())


def _close(first: Tensor, second: Tensor, tolerance: float = TOLERANCE) -> bool:
    return bool((first - second).norm() <= tolerance * (second.norm() + tolerance))
