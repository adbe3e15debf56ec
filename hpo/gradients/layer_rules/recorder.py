"""LayerRecorder: runs a module and records the inputs and output shapes that the layer rules need."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from hpo.gradients.layer_rules import recurrent
from hpo.gradients.layer_rules.registry import RULES
from hpo.gradients.layer_rules.rule import Rule
from hpo.gradients.recurrence import RECORDING
from hpo.tree import Tree

Result = TypeVar("Result")


class RecordedLayer(NamedTuple):
    """A layer with its rule, and the arguments of the rule: input and delta [N, ...]."""

    name: str
    layer: nn.Module
    rule: Rule
    inputs: Any
    delta: Any


class LayerRecorder:
    """Adds probes to the outputs of a module's layers and records the layers' inputs.

    Hooks are registered once and act only during a recording, so that ordinary forward passes cost nothing more.

    Attributes:
        layers: (name, module, rule) of every submodule that has parameters and a rule, in order of definition; a
            recurrent layer has an entry for each of the Linear layers inside it.
        obstacle: why the rules cannot give this module's per-sample gradients; None if they can.
    """

    def __init__(self, module: nn.Module) -> None:
        self.layers: list[tuple[str, nn.Module, Rule]] = []
        self._parts: dict[tuple[nn.Module, str], int] = {}  # of recurrent layers
        for name, layer in module.named_modules():
            if type(layer) in RULES and next(layer.parameters(recurse=False), None) is not None:
                self.layers.append((name, layer, RULES[type(layer)]))
            elif recurrent.is_recurrent(layer):
                self._add_recurrent(name, layer)
        self.obstacle = _uncovered_parameter(module, [name for name, _, _ in self.layers])
        self._index = {layer: index for index, (_, layer, _) in enumerate(self.layers)}
        self._inputs: list[Tensor | None] | None = None
        self._probes: list[Tensor] | None = None
        self._output_shapes = [torch.Size()] * len(self.layers)
        for _, layer, _ in self.layers:
            layer.register_forward_hook(self._record)

    def _add_recurrent(self, name: str, layer: Any) -> None:
        for part in recurrent.parts(layer):
            self._parts[layer, part] = len(self.layers)
            self.layers.append((name, recurrent.Gates(layer, part), recurrent.gates))
        layer.register_forward_pre_hook(self._begin_recurrent)
        layer.register_forward_hook(self._end_recurrent)

    def _begin_recurrent(self, layer: nn.Module, _: Any) -> None:
        if self._inputs is None:
            return
        probes = self._probes

        def record(part: str, inputs: Tensor, outputs: Tensor) -> None:
            self._keep(self._parts[layer, part], inputs.transpose(0, 1), outputs.transpose(0, 1))

        RECORDING.record = record
        if probes is not None:
            RECORDING.probe = lambda part: probes[self._parts[layer, part]].transpose(0, 1)

    def _end_recurrent(self, *_: Any) -> None:
        RECORDING.record, RECORDING.probe = None, lambda _: None

    def _keep(self, index: int, inputs: Tensor, output: Tensor) -> None:
        name, layer, rule = self.layers[index]
        assert self._inputs is not None
        if self._inputs[index] is not None:
            self.obstacle = f"layer {name!r} is called more than once in a forward pass"
        elif not rule.accepts(layer, inputs):
            self.obstacle = f"layer {name!r} with an input of shape {tuple(inputs.shape)} is not covered by its rule"
        self._inputs[index] = inputs
        self._output_shapes[index] = output.shape[1:]

    def _record(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self._inputs is None:
            return None
        index = self._index[layer]
        if not args:
            name = self.layers[index][0]
            self.obstacle = f"layer {name!r} is called with its input by keyword, which cannot be recorded"
            return None
        self._keep(index, args[0], output)
        return None if self._probes is None else output + self._probes[index]

    def run(self, forward: Callable[[], Result], probes: list[Tensor] | None) -> tuple[Result, list[Tensor]]:
        """Runs `forward` with `probes`, if any, added to the layers' outputs; may find an `obstacle`.

        Returns:
            (the result of `forward`, the input [N, ...] of every layer).
        """
        self._inputs, self._probes = [None] * len(self.layers), probes
        try:
            result = forward()
            for (name, _, _), inputs in zip(self.layers, self._inputs, strict=True):
                if inputs is None and not self.obstacle:
                    self.obstacle = f"layer {name!r} is not called in a forward pass"
            return result, self._inputs  # type: ignore[return-value]
        finally:
            self._inputs = self._probes = None
            self._end_recurrent()  # after an error

    def zero_probes(self, samples: int, params: Tree) -> list[Tensor]:
        """Zeros [samples, ...] with the shapes of the layers' outputs, as the last `run` found them."""
        like = next(iter(params.values()))
        return [like.new_zeros(samples, *shape) for shape in self._output_shapes]


def _uncovered_parameter(module: nn.Module, layers: list[str]) -> str | None:
    """Says which parameter is not exactly one layer's weight or bias; None if there is none."""
    names: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in names:
            return f"parameters {names[id(parameter)]!r} and {name!r} are one tied tensor"
        names[id(parameter)] = name
        if name.rpartition(".")[0] not in layers:
            return f"parameter {name!r} belongs to no layer with a rule"
    return None
