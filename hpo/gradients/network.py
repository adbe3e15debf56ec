"""Network: a `torch.nn.Module` as a function of its parameters, one of whose answers are its layers' inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hpo.errors import UsageError
from hpo.gradients.layer_check import check_dtypes
from hpo.gradients.layer_rules import LayerRecorder, Rule
from hpo.gradients.substitutes import Substitutes
from hpo.models.dropout import find_samples, seed_dropout
from hpo.tree import Tree
from hpo.user_code.messages import DROPOUT_ADVICE, describe_layer, explain, failing_layer

# Of one step's Dropout masks: (key [], positions [N]).
DropoutDraws = tuple[Tensor, Tensor]


def repeat_buffers(buffers: Tree, samples: int) -> Tree:
    """Buffers [samples, ...], so that a pass over single samples can change each sample's."""
    return {name: value.expand(samples, *value.shape) for name, value in buffers.items()}


class Network:
    """A module called with explicit parameters and buffers.

    Attributes:
        module: gives the structure; its own parameter values are used for the check of the rules alone.
        example: a few inputs [N, ...] for that check. dtype: of the parameters, which the inputs need not have.
        rules_checked: whether it has been made. output_shapes: known since, shapes [...] of the outputs of `layers`
            for one sample.
        bfloat16: whether float32 passes run in mixed precision; parameters, losses and updates stay float32.
        channels_last: whether images [N, C, H, W] are laid out with their channels last.
        drops: whether anything in it follows from a step's key.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        """
        Args:
            example: a few inputs [N, ...] that the module can be run on; at least one.

        Raises:
            UsageError: the parameters are not all float32 or all float64, or a layer drops in a way that no seed fixes.
        """
        check_dtypes(module)
        self.module, self.example = module, example
        self.dtype = next(module.parameters()).dtype
        self.bfloat16 = self.channels_last = False
        self.rules_checked = False
        self.output_shapes: list[torch.Size] = []
        self._dropouts = seed_dropout(module)
        self.drops = bool(self._dropouts)
        self._knows_samples = not self.drops
        self._recorder = LayerRecorder(module)
        self._shapes = {name: parameter.shape for name, parameter in module.named_parameters()}

    def __call__(self, params: Tree, inputs: Tensor, buffers: Tree | None = None) -> Tensor:
        """Outputs [N, ...] for inputs [N, ...], in evaluation mode where the module has buffers or Dropout."""
        return self._call({**params, **(buffers or {})}, inputs)

    def _call(self, leaves: Tree, inputs: Tensor) -> Tensor:
        if self.channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        try:
            with Substitutes():
                if not self.bfloat16:
                    return functional_call(self.module, leaves, (inputs,))
                with torch.autocast(inputs.device.type, torch.bfloat16):
                    outputs = functional_call(self.module, leaves, (inputs,))
            return outputs.to(self.dtype) if outputs.dtype == torch.bfloat16 else outputs
        except RuntimeError as error:
            name, layer = failing_layer(error, self.module)
            torchs = type(layer).__module__.startswith("torch.")
            explain(error, describe_layer(name, layer), DROPOUT_ADVICE, own_line=not torchs)
            raise

    def run(self, params: Tree, inputs: Tensor, buffers: Tree, draws: DropoutDraws | None) -> tuple[Tensor, Tree]:
        """A pass in training: outputs [N, ...] and the buffers as the pass leaves them.

        Args:
            buffers: left as they are. draws: what Dropout's masks follow from.

        Raises:
            UsageError: as `check_leaves`.
        """
        self.check_leaves(params)
        if not self._knows_samples and draws is not None:
            find_samples(self._dropouts, self._look, self.example)
            self._knows_samples = True
        # Copies made here, inside whatever transform is under way: changing a captured tensor would be refused.
        leaves = {**params, **{name: value.clone() for name, value in buffers.items()}}
        for layer in self._dropouts:
            layer.draws, layer.calls = draws, 0
        try:
            outputs = self._call(leaves, inputs)
        finally:
            for layer in self._dropouts:
                layer.draws = None
        return outputs, {name: leaves[name] for name in buffers}  # where a buffer was replaced, the new one

    def _look(self, inputs: Tensor) -> None:
        """A pass with the module's own values, which stay as they are."""
        params = {name: parameter.detach() for name, parameter in self.module.named_parameters()}
        self._call(params | {name: value.clone() for name, value in self.module.named_buffers()}, inputs)

    def check_leaves(self, params: Tree) -> None:
        """Raises UsageError unless these are this network's parameters, all of them and of their shapes."""
        # A leaf that is left out would take the value that one of the networks began with.
        if not isinstance(params, dict):
            raise UsageError(f"the objective is asked about a {type(params).__name__}; give a dict like params")
        for name, shape in self._shapes.items():
            if name not in params:
                raise UsageError(
                    f"the objective is asked about parameters without {name!r}; give all of them, as in "
                    "{**params, name: changed}"
                )
            if params[name].shape != shape:
                raise UsageError(
                    f"the objective is asked about {name!r} of shape {tuple(params[name].shape)}; the parameter has "
                    f"{tuple(shape)}"
                )

    def run_with_probes(
        self, params: Tree, inputs: Tensor, probes: list[Tensor], buffers: Tree, draws: DropoutDraws | None
    ) -> tuple[Tensor, list[Tensor], Tree]:
        """Outputs in training with probes added to the layers' outputs, the layers' inputs, the buffers afterwards."""
        (outputs, after), seen = self._recorder.run(lambda: self.run(params, inputs, buffers, draws), probes)
        return outputs, seen, after

    def look(self, params: Tree, inputs: Tensor, buffers: Tree, draws: DropoutDraws | None) -> list[torch.Size]:
        """Shapes [N, ...] of the layers' outputs in a pass in training; empty if that finds an `obstacle`."""
        return self._recorder.output_shapes(lambda: self.run(params, inputs, buffers, draws))

    def probes(self, samples: int, params: Tree) -> list[Tensor]:
        """Zeros [samples, ...] like the layers' outputs, to be added to them; known since `rules_checked`."""
        like = next(iter(params.values()))
        return [like.new_zeros(samples, *shape) for shape in self.output_shapes]

    @property
    def layers(self) -> list[tuple[str, nn.Module, Rule]]:
        """(name, module, rule) of every layer with a rule."""
        return self._recorder.layers

    @property
    def obstacle(self) -> str | None:
        """Why per-sample questions are answered by per-sample gradients; None while the rules stand."""
        return self._recorder.obstacle

    def without_rules(self, reason: str) -> None:
        """Answers per-sample questions by per-sample gradients from now on."""
        self.rules_checked, self._recorder.obstacle = True, reason

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
        for name in [layers] if isinstance(layers, str) else layers or linear[-1:]:
            own = {id(parameter) for parameter in modules.get(name, nn.Identity()).parameters()}
            if not own:
                known = ", ".join(repr(other) for other in modules if other)
                raise UsageError(f"the network has no layer {name!r} with parameters; choose from {known}")
            wanted |= own
        return [name for name, parameter in self.module.named_parameters() if id(parameter) in wanted]
