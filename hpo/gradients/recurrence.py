"""RNN, LSTM and GRU step by step: PyTorch's kernels for them cannot run several models or be
differentiated twice."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# The states of a layer after a step, [N, H] each; the first is its output.
States = tuple[Tensor, ...]
# (states, the inputs' part of the gates [N, G·H], the states' part of the gates [N, G·H]) -> states
Cell = Callable[[States, Tensor, Tensor], States]
# (part, such as "ih_l0" | "hh_l0" | "hr_l0", inputs [T, N, I], outputs [T, N, O]): what a recorder gets.
Record = Callable[[str, Tensor, Tensor], None]


class Recording:
    """Which recorder gets the Linear layers inside the recurrent layer that is called now.

    Attributes:
        record: called with every Linear layer's inputs and outputs at all time steps; None while nothing is recorded.
        probe: part -> what is added to its outputs, [T, N, O], or None.
    """

    record: Record | None = None
    probe: Callable[[str], Tensor | None] = staticmethod(lambda _: None)


RECORDING = Recording()


def _rnn_cell(activation: Callable[[Tensor], Tensor]) -> Cell:
    def cell(_: States, gates: Tensor, hidden: Tensor) -> States:
        return (activation(gates + hidden),)

    return cell


def _lstm_cell(states: States, gates: Tensor, hidden: Tensor) -> States:
    input_gate, forget_gate, cell_gate, output_gate = (gates + hidden).chunk(4, -1)
    memory = forget_gate.sigmoid() * states[1] + input_gate.sigmoid() * cell_gate.tanh()
    return output_gate.sigmoid() * memory.tanh(), memory


def _gru_cell(states: States, gates: Tensor, hidden: Tensor) -> States:
    reset, update, new = gates.chunk(3, -1)
    hidden_reset, hidden_update, hidden_new = hidden.chunk(3, -1)
    candidate = (new + (reset + hidden_reset).sigmoid() * hidden_new).tanh()
    return ((states[0] - candidate) * (update + hidden_update).sigmoid() + candidate,)


class _StepwiseLinear:
    """A Linear layer that is called at each time step in turn, and recorded after the last."""

    def __init__(self, part: str, weight: Tensor, bias: Tensor | None = None) -> None:
        self.part, self.weight, self.bias = part, weight, bias
        self.inputs, self.outputs = list[Tensor](), list[Tensor]()
        probe = RECORDING.probe(part)
        self.probes = None if probe is None else probe.unbind()

    def __call__(self, inputs: Tensor) -> Tensor:
        outputs = F.linear(inputs, self.weight, self.bias)
        if RECORDING.record:
            outputs = outputs if self.probes is None else outputs + self.probes[len(self.inputs)]
            self.inputs.append(inputs)
            self.outputs.append(outputs)
        return outputs

    def end(self) -> None:
        if RECORDING.record:
            RECORDING.record(self.part, torch.stack(self.inputs), torch.stack(self.outputs))


def _input_gates(part: str, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The Linear layer of the inputs [T, N, I], of all time steps at once."""
    gates = F.linear(inputs, weight, bias)
    if RECORDING.record:
        probe = RECORDING.probe(part)
        gates = gates if probe is None else gates + probe
        RECORDING.record(part, inputs, gates)
    return gates


def _run_direction(
    cell: Cell, inputs: Tensor, states: States, weights: Sequence[Tensor], name: str
) -> tuple[Tensor, States]:
    """Inputs [T, N, I] -> outputs [T, N, H] and the states after the last step.

    Args:
        weights: those of the inputs and of the states, and any biases and projection. name: "l0", "l0_reverse", …
    """
    biases = list(weights[2:4]) if len(weights) >= 4 else [None, None]
    backwards = name.endswith("_reverse")
    # Not by indices: the gradient of each would be a tensor of all steps.
    gates = _input_gates(f"ih_{name}", inputs, weights[0], biases[0]).unbind()
    linear = [_StepwiseLinear(f"hh_{name}", weights[1], biases[1])]
    if len(weights) in (3, 5):
        linear.append(_StepwiseLinear(f"hr_{name}", weights[-1]))
    outputs: list[Tensor] = []
    for step in reversed(range(len(gates))) if backwards else range(len(gates)):
        states = cell(states, gates[step], linear[0](states[0]))
        for projection in linear[1:]:
            states = (projection(states[0]), *states[1:])
        outputs.append(states[0])
    for layer in linear:
        layer.end()
    return torch.stack(outputs[::-1] if backwards else outputs), states


def _layers(function: Callable[..., Any], cell: Cell) -> Callable[..., Any]:
    """Replaces PyTorch's function of all layers, with its arguments."""

    def run(*args: Any) -> Any:
        is_packed = isinstance(args[3], list | tuple)
        if is_packed or (args[5] and args[6]):  # sequences of different lengths; dropout, which `layer_check` refuses
            return function(*args)
        inputs, initial, weights, _, layers, _, _, bidirectional, batch_first = args
        initial = initial if isinstance(initial, list | tuple) else (initial,)
        outputs = inputs.transpose(0, 1) if batch_first else inputs
        directions = 2 if bidirectional else 1
        per_direction = len(weights) // (layers * directions)
        final: list[States] = []
        for layer in range(layers):
            both: list[Tensor] = []
            for index in range(layer * directions, (layer + 1) * directions):
                direction_weights = weights[index * per_direction : (index + 1) * per_direction]
                states = tuple(state[index] for state in initial)
                name = f"l{layer}{'_reverse' if both else ''}"
                result, states = _run_direction(cell, outputs, states, direction_weights, name)
                both.append(result)
                final.append(states)
            outputs = torch.cat(both, -1)
        outputs = outputs.transpose(0, 1) if batch_first else outputs
        return outputs, *(torch.stack(states) for states in zip(*final, strict=True))

    return run


def _step(cell: Cell, several_states: bool = False) -> Callable[..., Any]:
    """Replaces PyTorch's function of one step, with its arguments."""

    def step(inputs: Tensor, initial: Any, input_weight: Tensor, weight: Tensor, *biases: Tensor | None) -> Any:
        input_bias, bias = biases or (None, None)
        states = tuple(initial) if several_states else (initial,)
        states = cell(states, F.linear(inputs, input_weight, input_bias), F.linear(states[0], weight, bias))
        return states if several_states else states[0]

    return step


SUBSTITUTES: dict[Any, Callable[..., Any]] = {
    torch.rnn_tanh: _layers(torch.rnn_tanh, _rnn_cell(torch.tanh)),
    torch.rnn_relu: _layers(torch.rnn_relu, _rnn_cell(torch.relu)),
    torch.lstm: _layers(torch.lstm, _lstm_cell),
    torch.gru: _layers(torch.gru, _gru_cell),
    torch.rnn_tanh_cell: _step(_rnn_cell(torch.tanh)),
    torch.rnn_relu_cell: _step(_rnn_cell(torch.relu)),
    torch.lstm_cell: _step(_lstm_cell, several_states=True),
    torch.gru_cell: _step(_gru_cell),
}
