"""RNN, LSTM and GRU step by step: PyTorch's kernels for them cannot run several models or be
differentiated twice."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# The states of a layer after a step, [N, H] each; the first is its output.
States = tuple[Tensor, ...]
# (states, the inputs' part of the gates [N, G·H], recurrent weight [G·H, H], bias [G·H] or None) -> states
Cell = Callable[[States, Tensor, Tensor, Tensor | None], States]


def _rnn_cell(activation: Callable[[Tensor], Tensor]) -> Cell:
    def cell(states: States, gates: Tensor, weight: Tensor, bias: Tensor | None) -> States:
        return (activation(gates + F.linear(states[0], weight, bias)),)

    return cell


def _lstm_cell(states: States, gates: Tensor, weight: Tensor, bias: Tensor | None) -> States:
    input_gate, forget_gate, cell_gate, output_gate = (gates + F.linear(states[0], weight, bias)).chunk(4, -1)
    memory = forget_gate.sigmoid() * states[1] + input_gate.sigmoid() * cell_gate.tanh()
    return output_gate.sigmoid() * memory.tanh(), memory


def _gru_cell(states: States, gates: Tensor, weight: Tensor, bias: Tensor | None) -> States:
    reset, update, new = gates.chunk(3, -1)
    hidden_reset, hidden_update, hidden_new = F.linear(states[0], weight, bias).chunk(3, -1)
    candidate = (new + (reset + hidden_reset).sigmoid() * hidden_new).tanh()
    return ((states[0] - candidate) * (update + hidden_update).sigmoid() + candidate,)


def _run_direction(
    cell: Cell, inputs: Tensor, states: States, weights: Sequence[Tensor], backwards: bool
) -> tuple[Tensor, States]:
    """Inputs [T, N, I] -> outputs [T, N, H] and the states after the last step.

    Args:
        weights: those of the inputs and of the states, and any biases and projection.
    """
    biases = list(weights[2:4]) if len(weights) >= 4 else [None, None]
    projection = weights[-1] if len(weights) in (3, 5) else None
    gates = F.linear(inputs, weights[0], biases[0])
    outputs: list[Tensor] = []
    for step in reversed(range(len(gates))) if backwards else range(len(gates)):
        states = cell(states, gates[step], weights[1], biases[1])
        if projection is not None:
            states = (F.linear(states[0], projection), *states[1:])
        outputs.append(states[0])
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
                result, states = _run_direction(cell, outputs, states, direction_weights, len(both) == 1)
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
        states = cell(states, F.linear(inputs, input_weight, input_bias), weight, bias)
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
