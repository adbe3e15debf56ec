"""LayerRecorder: runs a module and records what the rules need to know."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hpo.gradients.layer_rules.registry import RULES

Result = TypeVar("Result")


class LayerRecorder:
    """Runs a module with zero probes on the outputs of its layers and records the layers' inputs.

    Hooks are registered once and act only while a recording is under way, so that ordinary forward passes pay
    nothing for them.

    Attributes:
        layers: (name, module, rule) of every submodule that has parameters and a rule, in order of definition.
        obstacle: why the rules cannot stand for this module's per-sample gradients; None if they can.
    """

    def __init__(self, module: nn.Module) -> None:
        self.layers = [
            (name, layer, RULES[type(layer)])
            for name, layer in module.named_modules()
            if type(layer) in RULES and next(layer.parameters(recurse=False), None) is not None
        ]
        self.obstacle = _uncovered_parameter(module, [name for name, _, _ in self.layers])
        self._index = {layer: number for number, (_, layer, _) in enumerate(self.layers)}
        self._inputs: list[Tensor | None] | None = None
        self._shapes: list[torch.Size | None] = []
        self._probes: list[Tensor] | None = None
        for _, layer, _ in self.layers:
            layer.register_forward_hook(self._record)

    def _record(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self._inputs is None:
            return None
        number = self._index[layer]
        name, _, rule = self.layers[number]
        if not args:
            self.obstacle = f"layer {name!r} is called with its input by keyword, where it is not seen"
            return None
        if self._inputs[number] is not None:
            self.obstacle = f"layer {name!r} is called more than once in a forward pass"
        elif not rule.accepts(layer, args[0]):
            self.obstacle = f"layer {name!r} with an input of shape {tuple(args[0].shape)} is not covered by its rule"
        self._inputs[number] = args[0]
        self._shapes[number] = output.shape
        return None if self._probes is None else output + self._probes[number]

    def run(self, forward: Callable[[], Result], probes: list[Tensor] | None) -> tuple[Result, list[Tensor]]:
        """Runs `forward` with `probes` added to the layers' outputs.

        Returns:
            (the result of `forward`, the input [N, ...] of every layer). With `probes=None` only looks.
        """
        self._inputs, self._shapes = [None] * len(self.layers), [None] * len(self.layers)
        self._probes = probes
        try:
            result = forward()
            for (name, _, _), seen in zip(self.layers, self._inputs, strict=True):
                if seen is None and not self.obstacle:
                    self.obstacle = f"layer {name!r} is not called in a forward pass"
            return result, self._inputs  # type: ignore[return-value]
        finally:
            self._inputs = self._probes = None

    def output_shapes(self, forward: Callable[[], Any]) -> list[torch.Size]:
        """Shapes [N, ...] of the layers' outputs in one forward pass; empty if `obstacle` is set by it."""
        self.run(forward, None)
        if self.obstacle:
            return []
        return [shape for shape in self._shapes if shape is not None]


def _uncovered_parameter(module: nn.Module, layers: list[str]) -> str | None:
    """The first parameter that is not exactly one layer's own weight or bias, in words; None if there is none."""
    seen: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            return f"parameters {seen[id(parameter)]!r} and {name!r} are one tied tensor"
        seen[id(parameter)] = name
        if name.rpartition(".")[0] not in layers:
            return f"parameter {name!r} belongs to no layer with a rule"
    return None
