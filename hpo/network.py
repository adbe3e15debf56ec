"""Network: a `torch.nn.Module` as a function of its parameters, and whether the per-layer rules hold for it."""

import logging

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from hpo.taps import Rule, Tape
from hpo.tree import Tree

log = logging.getLogger(__name__)

# Relative difference in float64 above which a rule counts as wrong: rounding is 1e-12, a wrong rule 1e-2.
TOLERANCE = 1e-8
CHECKED_SAMPLES = 4


class Network:
    """A module called with explicit parameters.

    Attributes:
        module: gives the structure; its own parameter values are used for the check of the rules alone.
        output_shapes: shapes [...] of the outputs of `layers` for one sample; known once the rules are checked.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        """example: a few inputs [N, ...] that the module can be run on; at least one."""
        self.module = module
        self._tape = Tape(module)
        self._example = example[:CHECKED_SAMPLES]
        self._checked = False
        self.output_shapes: list[torch.Size] = []

    def __call__(self, params: Tree, inputs: Tensor) -> Tensor:
        """Outputs [N, ...] for inputs [N, ...]."""
        return functional_call(self.module, params, (inputs,))

    def taped(self, params: Tree, inputs: Tensor, probes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Outputs with probes added to the layers' outputs, and the layers' inputs."""
        return self._tape.run(lambda: self(params, inputs), probes)

    @property
    def layers(self) -> list[tuple[str, nn.Module, Rule]]:
        """(name, module, rule) of every layer with a rule."""
        return self._tape.layers

    @property
    def obstacle(self) -> str | None:
        """Why per-sample questions are answered by per-sample gradients; None while the rules stand."""
        return self._tape.obstacle

    def rules_hold(self) -> bool:
        """Whether the rules give this network's per-sample gradients; compared with them at the first call."""
        if not self._checked:
            self._checked = True
            try:
                self._check()
            except RuntimeError as error:  # a forward pass that insists on float32, an operation without vmap
                self._tape.obstacle = f"the rules cannot be checked in float64 ({str(error).splitlines()[0]})"
            if self.obstacle:
                log.warning("per-sample gradients are computed one by one, which is slower: %s", self.obstacle)
        return self.obstacle is None

    def without_rules(self, reason: str) -> None:
        """Answers per-sample questions by per-sample gradients from now on."""
        self._checked, self._tape.obstacle = True, reason

    @torch.no_grad()
    def _check(self) -> None:
        if self.obstacle:
            return
        params = {name: value.detach().double() for name, value in self.module.named_parameters()}
        buffers = {name: value.double() for name, value in self.module.named_buffers() if value.is_floating_point()}
        example = self._example.double()
        shapes = self._tape.output_shapes(lambda: self(buffers | params, example))
        if self.obstacle:
            return
        self.output_shapes = [shape[1:] for shape in shapes]

        # Any scalar of the outputs serves as a loss; this one has a dense gradient that depends on the sample.
        def one(at: Tree, sample: Tensor) -> Tensor:
            return self(buffers | at, sample[None]).square().sum()

        def total(*added: Tensor) -> tuple[Tensor, list[Tensor]]:
            outputs, seen = self.taped(buffers | params, example, list(added))
            return outputs.square().sum(), seen

        truth = vmap(grad(one), (None, 0))(params, example)
        probes = [example.new_zeros(len(example), *shape) for shape in self.output_shapes]
        deltas, seen = grad(total, argnums=tuple(range(len(probes))), has_aux=True)(*probes)
        for (name, layer, rule), inputs, delta in zip(self.layers, seen, deltas, strict=True):
            prefix = f"{name}." if name else ""
            leaves = {leaf: truth[prefix + leaf] for leaf, _ in layer.named_parameters(recurse=False)}
            if not _rule_agrees(rule, layer, inputs, delta, leaves):
                self._tape.obstacle = f"the rule of layer {name!r} differs from its per-sample gradients"
                return


def _rule_agrees(rule: Rule, layer: nn.Module, inputs: Tensor, delta: Tensor, leaves: Tree) -> bool:
    """Compares a rule's three answers with per-sample gradients (leaves [N, ...])."""
    samples = len(inputs)
    weights = torch.linspace(0.5, 1.5, samples, dtype=inputs.dtype, device=inputs.device)
    norms = torch.stack([g.flatten(1).square().sum(1) for g in leaves.values()]).sum(0)
    weighted = {leaf: torch.einsum("n,n...->...", weights, g) / samples for leaf, g in leaves.items()}
    signs = {leaf: g.sign().mean(0) for leaf, g in leaves.items()}
    return (
        _close(rule.square_norms(layer, inputs, delta), norms)
        and all(
            _close(value, weighted[leaf]) for leaf, value in rule.weighted_grad(layer, inputs, delta, weights).items()
        )
        and all(_close(value, signs[leaf]) for leaf, value in rule.sign_mean(layer, inputs, delta).items())
    )


def _close(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).norm() <= TOLERANCE * (second.norm() + TOLERANCE))
