"""Whether the per-layer rules hold for a network: compared with per-sample gradients at their first use with it."""

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from hpo.errors import UsageError
from hpo.gradients.layer_rules import Rule
from hpo.gradients.network import Network, repeat_buffers
from hpo.models.losses import SampleLoss
from hpo.tree import Tree
from hpo.user_code.messages import warn_once

CHECKED_SAMPLES = 4
# Relative difference above which numbers count as different. In float64 rounding is 1e-12, a wrong rule 1e-2; in
# float32 on a GPU or in mixed precision rounding is up to some 1e-3, and samples that mix differ by their own size.
TOLERANCE = 1e-8
COARSE_TOLERANCE = 1e-2


def rules_hold(network: Network, sample_loss: SampleLoss | None = None) -> bool:
    """Whether the rules give this network's per-sample gradients; compared with them at the first call.

    Raises:
        UsageError: samples have no gradients of their own, because a layer mixes them, or the loss.
    """
    for name, layer in network.module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
            raise UsageError(
                f"layer {name!r} ({type(layer).__name__}) mixes the samples of a batch, so that no sample has a "
                "gradient of its own; use a network without BatchNorm, such as norm='group'"
            )
    if not network.rules_checked:
        obstacle = network.obstacle
        try:
            obstacle = _Check(network, torch.float64).obstacle()
        except torch.OutOfMemoryError:  # a RuntimeError, too, and nothing that is wrong with the rules
            raise
        except RuntimeError as error:  # a forward pass that insists on float32, an operation without vmap
            obstacle = obstacle or f"the rules cannot be checked in float64 ({str(error).splitlines()[0]})"
            _Check(network, None).samples_apart()
        if sample_loss:
            _Check(network, None).losses_apart(sample_loss)
        if obstacle:
            warn_once(f"per-sample gradients are computed one by one, which is slower: {obstacle}")
            network.without_rules(obstacle)
        network.rules_checked = True
    return network.obstacle is None


class _Check:
    """A network on a few samples, with the parameters of its module."""

    def __init__(self, network: Network, dtype: torch.dtype | None) -> None:
        """dtype: of the parameters, buffers and inputs; None for their own."""
        self.network = network

        def cast(value: Tensor) -> Tensor:
            return value.detach().to(dtype) if dtype and value.is_floating_point() else value.detach()

        self.params = {name: cast(value) for name, value in network.module.named_parameters()}
        self.buffers = {name: cast(value) for name, value in network.module.named_buffers()}
        self.example = cast(network.example[:CHECKED_SAMPLES])
        self.places = torch.arange(len(self.example), device=self.example.device)
        self.key = torch.zeros((), dtype=torch.int64, device=self.example.device)

    def outputs(self, params: Tree, inputs: Tensor, places: Tensor, buffers: Tree | None = None) -> Tensor:
        buffers = self.buffers if buffers is None else buffers
        return self.network.run(params, inputs, buffers, (self.key, places))[0]

    @torch.no_grad()
    def samples_apart(self) -> None:
        """Raises UsageError unless a sample's output is the same alone and among others."""
        together = self.outputs(self.params, self.example, self.places)
        rows = zip(self.example.split(1), self.places.split(1), strict=True)
        alone = torch.cat([self.outputs(self.params, *row) for row in rows])
        _refuse_mixing("the network", "output", alone, together)

    @torch.no_grad()
    def losses_apart(self, sample_loss: SampleLoss) -> None:
        """Raises UsageError unless a sample's loss is the same alone and among others."""
        outputs = self.outputs(self.params, self.example, self.places)
        labels = torch.zeros_like(self.places)  # class 0, which every data set has
        together = sample_loss(outputs, labels)
        alone = torch.cat([sample_loss(*row) for row in zip(outputs.split(1), labels.split(1), strict=True)])
        _refuse_mixing("the loss", "loss", alone, together)

    @torch.no_grad()
    def obstacle(self) -> str | None:
        """Why the rules do not give the per-sample gradients; None if they do."""
        network = self.network
        self.samples_apart()
        if network.obstacle:
            return network.obstacle
        shapes = network.look(self.params, self.example, self.buffers, (self.key, self.places))
        if network.obstacle:
            return network.obstacle
        network.output_shapes = [shape[1:] for shape in shapes]

        # Any scalar of the outputs serves as a loss; this one has a dense gradient that depends on the sample.
        def one(at: Tree, sample: Tensor, place: Tensor, buffers: Tree) -> Tensor:
            return self.outputs(at, sample[None], place[None], buffers).square().sum()

        def total(*added: Tensor) -> tuple[Tensor, list[Tensor]]:
            draws = (self.key, self.places)
            outputs, seen, _ = network.run_with_probes(self.params, self.example, list(added), self.buffers, draws)
            return outputs.square().sum(), seen

        each = repeat_buffers(self.buffers, len(self.example))
        truth = vmap(grad(one), (None, 0, 0, 0))(self.params, self.example, self.places, each)
        probes = network.probes(len(self.example), self.params)
        deltas, seen = grad(total, argnums=tuple(range(len(probes))), has_aux=True)(*probes)
        for (name, layer, rule), inputs, delta in zip(network.layers, seen, deltas, strict=True):
            prefix = f"{name}." if name else ""
            leaves = {leaf: truth[prefix + leaf] for leaf, _ in layer.named_parameters(recurse=False)}
            if not _rule_agrees(rule, layer, inputs, delta, leaves):
                return f"the rule of layer {name!r} differs from its per-sample gradients"
        return network.obstacle


def _refuse_mixing(who: str, what: str, alone: Tensor, together: Tensor) -> None:
    tolerance = TOLERANCE if together.dtype is torch.float64 else COARSE_TOLERANCE
    if not all(_close(one, other, tolerance) for one, other in zip(alone, together, strict=True)):
        raise UsageError(
            f"{who} mixes the samples of a batch (a sample's {what} depends on the others), so that no sample has a "
            "gradient of its own; choose a regularizer that does not ask for samples"
        )


def _rule_agrees(rule: Rule, layer: nn.Module, inputs: Tensor, delta: Tensor, leaves: Tree) -> bool:
    """Compares a rule's three answers with per-sample gradients (leaves [N, ...])."""
    samples = len(inputs)
    norms = torch.stack([g.reshape(len(g), -1).square().sum(1) for g in leaves.values()]).sum(0)
    weights = torch.linspace(0.5, 1.5, samples, dtype=norms.dtype, device=norms.device)
    weighted = {leaf: torch.einsum("n,n...->...", weights, g) / samples for leaf, g in leaves.items()}
    signs = {leaf: g.sign().mean(0) for leaf, g in leaves.items()}
    found_weighted = rule.weighted_grad(layer, inputs, delta, weights)
    found_signs = rule.sign_mean(layer, inputs, delta)
    return (
        _close(rule.square_norms(layer, inputs, delta), norms)
        and all(_close(value, weighted[leaf]) for leaf, value in found_weighted.items())
        and all(_close(value, signs[leaf]) for leaf, value in found_signs.items())
    )


def _close(first: Tensor, second: Tensor, tolerance: float = TOLERANCE) -> bool:
    return bool((first - second).norm() <= tolerance * (second.norm() + tolerance))
