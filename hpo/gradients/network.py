"""Network: a `torch.nn.Module` as a function of its parameters and buffers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hpo.errors import UsageError
from hpo.gradients.layer_check import check_dtypes
from hpo.gradients.layer_rules import LayerRecorder
from hpo.gradients.shares import Share
from hpo.gradients.substitutes import Substitutes
from hpo.models.dropout import find_sample_axes, seed_dropout
from hpo.tree import Tree
from hpo.user_code.messages import describe_layer, explain, failing_layer

# The source of the Dropout masks of one step: (key [], positions of the samples in the batch [N]).
DropoutDraws = tuple[Tensor, Tensor]


def repeat_buffers(buffers: Tree, samples: int) -> Tree:
    """Buffers [samples, ...], so that a pass over single samples can change each sample's."""
    return {name: value.expand(samples, *value.shape) for name, value in buffers.items()}


class Network:
    """A module that is called with explicit parameters and buffers.

    Attributes:
        module: gives the structure; only the check of the layer rules uses its own parameter values.
        example: a few inputs [N, ...] for that check. dtype: the parameters'; inputs may have another.
        recorder: runs the layer rules' passes. rules_checked: whether the rules have been checked.
        bfloat16: whether float32 passes run in mixed precision; parameters, losses and updates stay float32.
        channels_last: whether images [N, C, H, W] are laid out with their channels last.
        drops: whether the network has Dropout layers, whose masks follow from a step's key.
        share: of each minibatch that training passes get, where several processes train; BatchNorm sees the whole.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        """
        Args:
            example: at least one input [N, ...] that the module can be run on.

        Raises:
            UsageError: the parameters are not all float32 or all float64, or a layer's Dropout cannot be seeded.
        """
        check_dtypes(module)
        self.module, self.example = module, example
        self.dtype = next(module.parameters()).dtype
        self.bfloat16 = self.channels_last = self.rules_checked = False
        self.share = Share()
        self.recorder = LayerRecorder(module)
        self._dropouts = seed_dropout(module)
        self.drops = bool(self._dropouts)
        self._sample_axes_known = not self.drops
        self._shapes = {name: parameter.shape for name, parameter in module.named_parameters()}

    def __call__(self, params: Tree, inputs: Tensor, buffers: Tree | None = None) -> Tensor:
        """Outputs [N, ...] for inputs [N, ...], in evaluation mode where the module has buffers or Dropout."""
        return self._call({**params, **(buffers or {})}, inputs)

    def _call(self, leaves: Tree, inputs: Tensor, share: Share | None = None) -> Tensor:
        if self.channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        try:
            with Substitutes(share):
                if not self.bfloat16:
                    return functional_call(self.module, leaves, (inputs,))
                with torch.autocast(inputs.device.type, torch.bfloat16):
                    outputs = functional_call(self.module, leaves, (inputs,))
            return outputs.to(self.dtype) if outputs.dtype == torch.bfloat16 else outputs
        except (RuntimeError, ValueError) as error:
            name, layer = failing_layer(error, self.module)
            is_pytorch = type(layer).__module__.startswith("torch.")
            explain(error, describe_layer(name, layer), own_line=not is_pytorch)
            raise

    def run(self, params: Tree, inputs: Tensor, buffers: Tree, draws: DropoutDraws | None) -> tuple[Tensor, Tree]:
        """A training pass: outputs [N, ...] and the buffers after the pass; `buffers` itself is not changed.

        Raises:
            UsageError: as `check_leaves`.
        """
        self.check_leaves(params)
        if not self._sample_axes_known and draws is not None:
            find_sample_axes(self._dropouts, self._run_module, self.example)
            self._sample_axes_known = True
        # Copied here, inside the current transform: PyTorch refuses to change a captured tensor.
        leaves = {**params, **{name: value.clone() for name, value in buffers.items()}}
        for layer in self._dropouts:
            layer.draws, layer.calls = draws, 0
        try:
            outputs = self._call(leaves, inputs, self.share)
        finally:
            for layer in self._dropouts:
                layer.draws = None
        return outputs, {name: leaves[name] for name in buffers}  # the new one where the pass replaced a buffer

    def _run_module(self, inputs: Tensor) -> None:
        """A pass with copies of the module's own values."""
        params = {name: parameter.detach() for name, parameter in self.module.named_parameters()}
        self._call(params | {name: value.clone() for name, value in self.module.named_buffers()}, inputs)

    def run_with_probes(
        self, params: Tree, inputs: Tensor, probes: list[Tensor] | None, buffers: Tree, draws: DropoutDraws | None
    ) -> tuple[Tensor, list[Tensor], Tree]:
        """As `run`, with probes added to the layers' outputs: outputs, the layers' inputs, the buffers afterwards."""
        (outputs, after), layer_inputs = self.recorder.run(lambda: self.run(params, inputs, buffers, draws), probes)
        return outputs, layer_inputs, after

    def check_leaves(self, params: Tree) -> None:
        """Raises UsageError unless these are all of this network's parameters, with their shapes."""
        # Without the check a missing leaf would silently take the value of the module's own parameter.
        if not isinstance(params, dict):
            raise UsageError(f"the objective got a {type(params).__name__} as parameters; give a dict like params")
        for name, shape in self._shapes.items():
            if name not in params:
                raise UsageError(
                    f"the objective got parameters without {name!r}; give all, as in {{**params, name: changed}}"
                )
            if params[name].shape != shape:
                raise UsageError(
                    f"the objective got {name!r} of shape {tuple(params[name].shape)}; give the parameter's shape "
                    f"{tuple(shape)}"
                )

    @property
    def obstacle(self) -> str | None:
        """Why per-sample gradients are computed one by one; None while the layer rules hold."""
        return self.recorder.obstacle

    def disable_rules(self, reason: str) -> None:
        """Has per-sample gradients computed one by one from now on."""
        self.rules_checked, self.recorder.obstacle = True, reason

    def leaves_of(self, layers: Sequence[str] = ()) -> list[str]:
        """The names of the parameters of some layers, by default of the last Linear layer, the classifier.

        A parameter that layers share is listed once, by the name of its first use.

        Raises:
            UsageError: there is no such layer, or it has no parameters.
        """
        modules = dict(self.module.named_modules())
        linear = [name for name, layer in modules.items() if isinstance(layer, nn.Linear)]
        if not layers and not linear:
            raise UsageError("the network has no Linear layer to serve as its last; name the layers instead")
        chosen: set[int] = set()
        for name in [layers] if isinstance(layers, str) else layers or linear[-1:]:
            parameters = {id(parameter) for parameter in modules.get(name, nn.Identity()).parameters()}
            if not parameters:
                known = ", ".join(repr(other) for other in modules if other)
                raise UsageError(f"the network has no layer {name!r} with parameters; choose from {known}")
            chosen |= parameters
        return [name for name, parameter in self.module.named_parameters() if id(parameter) in chosen]
