"""Network: a `torch.nn.Module` as a function of its parameters, and whether the per-layer rules hold for it."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from hpo.dropout import seed_dropout
from hpo.errors import UsageError
from hpo.taps import Rule, Tape
from hpo.tree import Tree

log = logging.getLogger(__name__)

# Relative difference in float64 above which a rule counts as wrong: rounding is 1e-12, a wrong rule 1e-2.
TOLERANCE = 1e-8
CHECKED_SAMPLES = 4


class Network:
    """A module called with explicit parameters and buffers.

    Attributes:
        module: gives the structure; its own parameter values are used for the check of the rules alone.
        output_shapes: shapes [...] of the outputs of `layers` for one sample; known once the rules are checked.
        bfloat16: whether float32 passes run in mixed precision; parameters, losses and updates stay float32.
        channels_last: whether images [N, C, H, W] are laid out with their channels last.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        """example: a few inputs [N, ...] that the module can be run on; at least one."""
        self.module = module
        self.bfloat16 = self.channels_last = False
        self._dropouts = seed_dropout(module)
        self._tape = Tape(module)
        self._example = example[:CHECKED_SAMPLES]
        self._checked = False
        self.output_shapes: list[torch.Size] = []

    def __call__(self, params: Tree, inputs: Tensor, buffers: Tree | None = None) -> Tensor:
        """Outputs [N, ...] for inputs [N, ...], in evaluation mode where the module has buffers or Dropout."""
        return self._call({**params, **(buffers or {})}, inputs)

    def _call(self, leaves: Tree, inputs: Tensor) -> Tensor:
        if self.channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        if not self.bfloat16:
            return functional_call(self.module, leaves, (inputs,))
        with torch.autocast(inputs.device.type, torch.bfloat16):
            outputs = functional_call(self.module, leaves, (inputs,))
        return outputs.to(inputs.dtype)

    def run(
        self, params: Tree, inputs: Tensor, buffers: Tree, draws: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tree]:
        """A pass in training: outputs [N, ...] and the buffers as the pass leaves them.

        Args:
            buffers: left as they are. draws: (key [], positions [N]) that Dropout's masks follow from.
        """
        # Copies made here, inside whatever transform is under way: changing a captured tensor would be refused.
        after = {name: value.clone() for name, value in buffers.items()}
        for layer in self._dropouts:
            layer.draws, layer.calls = draws, 0
        try:
            return self._call({**params, **after}, inputs), after
        finally:
            for layer in self._dropouts:
                layer.draws = None

    def taped(
        self,
        params: Tree,
        inputs: Tensor,
        probes: list[Tensor],
        buffers: Tree,
        draws: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Outputs in training with probes added to the layers' outputs, and the layers' inputs."""
        return self._tape.run(lambda: self.run(params, inputs, buffers, draws)[0], probes)

    @property
    def layers(self) -> list[tuple[str, nn.Module, Rule]]:
        """(name, module, rule) of every layer with a rule."""
        return self._tape.layers

    def leaves_of(self, layers: Sequence[str] = ()) -> list[str]:
        """The names of the parameters of some layers, by default of the last Linear layer, the classifier.

        A parameter that layers share has one name, that of its first use.

        Raises:
            UsageError: there is no such layer, or it has no parameters.
        """
        modules = dict(self.module.named_modules())
        linear = [name for name, layer in modules.items() if isinstance(layer, nn.Linear)]
        if not layers and not linear:
            raise UsageError("the network has no Linear layer to serve as its last; name the layers instead")
        wanted: set[int] = set()
        for name in layers or linear[-1:]:
            own = {id(parameter) for parameter in modules.get(name, nn.Identity()).parameters()}
            if not own:
                known = ", ".join(repr(other) for other in modules if other)
                raise UsageError(f"the network has no layer {name!r} with parameters; choose from {known}")
            wanted |= own
        return [name for name, parameter in self.module.named_parameters() if id(parameter) in wanted]

    @property
    def obstacle(self) -> str | None:
        """Why per-sample questions are answered by per-sample gradients; None while the rules stand."""
        return self._tape.obstacle

    def rules_hold(self) -> bool:
        """Whether the rules give this network's per-sample gradients; compared with them at the first call.

        Raises:
            UsageError: samples have no gradients of their own, because a layer mixes them.
        """
        for name, layer in self.module.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
                raise UsageError(
                    f"layer {name!r} ({type(layer).__name__}) mixes the samples of a batch, so that no sample has a "
                    "gradient of its own; use a network without BatchNorm, such as norm='group'"
                )
        if not self._checked:
            try:
                self._check()
            except RuntimeError as error:  # a forward pass that insists on float32, an operation without vmap
                reason = f"the rules cannot be checked in float64 ({str(error).splitlines()[0]})"
                self._tape.obstacle = self.obstacle or reason
            if self.obstacle:
                log.warning("per-sample gradients are computed one by one, which is slower: %s", self.obstacle)
            self._checked = True
        return self.obstacle is None

    def without_rules(self, reason: str) -> None:
        """Answers per-sample questions by per-sample gradients from now on."""
        self._checked, self._tape.obstacle = True, reason

    @torch.no_grad()
    def _check(self) -> None:
        params, buffers = (
            {name: value.detach().double() if value.is_floating_point() else value.detach() for name, value in named}
            for named in (self.module.named_parameters(), self.module.named_buffers())
        )
        example = self._example.double()
        places = torch.arange(len(example), device=example.device)
        key = torch.zeros((), dtype=torch.int64, device=example.device)

        def outputs_at(at: Tree, inputs: Tensor, positions: Tensor) -> Tensor:
            return self.run(at, inputs, buffers, (key, positions))[0]

        def one(at: Tree, sample: Tensor, position: Tensor) -> Tensor:
            return outputs_at(at, sample[None], position[None]).square().sum()

        self._check_samples_apart(outputs_at, params, example, places)
        if self.obstacle:
            return
        shapes = self._tape.output_shapes(lambda: outputs_at(params, example, places))
        if self.obstacle:
            return
        self.output_shapes = [shape[1:] for shape in shapes]

        # Any scalar of the outputs serves as a loss; this one has a dense gradient that depends on the sample.
        def total(*added: Tensor) -> tuple[Tensor, list[Tensor]]:
            outputs, seen = self.taped(params, example, list(added), buffers, (key, places))
            return outputs.square().sum(), seen

        truth = vmap(grad(one), (None, 0, 0))(params, example, places)
        probes = [example.new_zeros(len(example), *shape) for shape in self.output_shapes]
        deltas, seen = grad(total, argnums=tuple(range(len(probes))), has_aux=True)(*probes)
        for (name, layer, rule), inputs, delta in zip(self.layers, seen, deltas, strict=True):
            prefix = f"{name}." if name else ""
            leaves = {leaf: truth[prefix + leaf] for leaf, _ in layer.named_parameters(recurse=False)}
            if not _rule_agrees(rule, layer, inputs, delta, leaves):
                self._tape.obstacle = f"the rule of layer {name!r} differs from its per-sample gradients"
                return

    def _check_samples_apart(
        self, outputs_at: Callable[..., Tensor], params: Tree, example: Tensor, places: Tensor
    ) -> None:
        together = outputs_at(params, example, places)
        for number in range(len(example)):
            alone = outputs_at(params, example[number : number + 1], places[number : number + 1])
            if not _close(alone[0], together[number]):
                raise UsageError(
                    "the network mixes the samples of a batch (a sample's output depends on the others), so that no "
                    "sample has a gradient of its own; choose a regularizer that does not ask for samples"
                )


def _rule_agrees(rule: Rule, layer: nn.Module, inputs: Tensor, delta: Tensor, leaves: Tree) -> bool:
    """Compares a rule's three answers with per-sample gradients (leaves [N, ...])."""
    samples = len(inputs)
    weights = torch.linspace(0.5, 1.5, samples, dtype=inputs.dtype, device=inputs.device)
    norms = torch.stack([g.flatten(1).square().sum(1) for g in leaves.values()]).sum(0)
    weighted = {leaf: torch.einsum("n,n...->...", weights, g) / samples for leaf, g in leaves.items()}
    signs = {leaf: g.sign().mean(0) for leaf, g in leaves.items()}
    found_weighted = rule.weighted_grad(layer, inputs, delta, weights)
    found_signs = rule.sign_mean(layer, inputs, delta)
    return (
        _close(rule.square_norms(layer, inputs, delta), norms)
        and all(_close(value, weighted[leaf]) for leaf, value in found_weighted.items())
        and all(_close(value, signs[leaf]) for leaf, value in found_signs.items())
    )


def _close(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).norm() <= TOLERANCE * (second.norm() + TOLERANCE))
