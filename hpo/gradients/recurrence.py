"""RNN, LSTM and GRU step by step: PyTorch's kernels for them work for one model only, and have one derivative."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# The states of a layer after a step, [N, H] each; the first is its output.
States = tuple[Tensor, ...]
# (states, the inputs' share of the gates [N, G·H], recurrent weight [G·H, H], bias [G·H] or None) -> states
Cell = Callable[[States, Tensor, Tensor, Tensor | None], States]


def _plain(activation: Callable[[Tensor], Tensor]) -> Cell:
    def cell(states: States, given: Tensor, weight: Tensor, bias: Tensor | None) -> States:
        return (activation(given + F.linear(states[0], weight, bias)),)

    return cell


def _lstm_cell(states: States, given: Tensor, weight: Tensor, bias: Tensor | None) -> States:
    take, keep, new, give = (given + F.linear(states[0], weight, bias)).chunk(4, -1)
    memory = keep.sigmoid() * states[1] + take.sigmoid() * new.tanh()
    return give.sigmoid() * memory.tanh(), memory


def _gru_cell(states: States, given: Tensor, weight: Tensor, bias: Tensor | None) -> States:
    reset, keep, new = given.chunk(3, -1)
    own_reset, own_keep, own_new = F.linear(states[0], weight, bias).chunk(3, -1)
    candidate = (new + (reset + own_reset).sigmoid() * own_new).tanh()
    return ((states[0] - candidate) * (keep + own_keep).sigmoid() + candidate,)


def _one_way(
    cell: Cell, inputs: Tensor, states: States, weights: Sequence[Tensor], back: bool
) -> tuple[Tensor, States]:
    """Inputs [T, N, I] -> outputs [T, N, H] and the states after the last step.

    Args:
        weights: of the inputs and of the states, their biases if there are any, and the projection if there is one.
    """
    biases = list(weights[2:4]) if len(weights) >= 4 else [None, None]
    projection = weights[-1] if len(weights) in (3, 5) else None
    given = F.linear(inputs, weights[0], biases[0])
    outputs: list[Tensor] = []
    for place in reversed(range(len(given))) if back else range(len(given)):
        states = cell(states, given[place], weights[1], biases[1])
        if projection is not None:
            states = (F.linear(states[0], projection), *states[1:])
        outputs.append(states[0])
    return torch.stack(outputs[::-1] if back else outputs), states


def _recurrent(function: Callable[..., Any], cell: Cell) -> Callable[..., Any]:
    """The function of all layers, called as PyTorch's own."""

    def run(*args: Any) -> Any:
        packed = isinstance(args[3], list | tuple)
        if packed or (args[5] and args[6]):  # sequences of different lengths, and dropout, which is told by its name
            return function(*args)
        inputs, given, weights, _, layers, _, _, bidirectional, batch_first = args
        begin = given if isinstance(given, list | tuple) else (given,)
        outputs = inputs.transpose(0, 1) if batch_first else inputs
        ways = 2 if bidirectional else 1
        each = len(weights) // (layers * ways)
        ends: list[States] = []
        for layer in range(layers):
            both = []
            for way in range(ways):
                number = layer * ways + way
                own = weights[number * each : (number + 1) * each]
                states = tuple(state[number] for state in begin)
                found, end = _one_way(cell, outputs, states, own, way == 1)
                both.append(found)
                ends.append(end)
            outputs = torch.cat(both, -1)
        outputs = outputs.transpose(0, 1) if batch_first else outputs
        return outputs, *(torch.stack(states) for states in zip(*ends, strict=True))

    return run


def _single(cell: Cell, several: bool = False) -> Callable[..., Any]:
    """One step, called as PyTorch's function of a cell."""

    def step(
        inputs: Tensor,
        given: Any,
        input_weight: Tensor,
        weight: Tensor,
        input_bias: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Any:
        states = cell(tuple(given) if several else (given,), F.linear(inputs, input_weight, input_bias), weight, bias)
        return states if several else states[0]

    return step


SUBSTITUTES: dict[Any, Callable[..., Any]] = {
    torch.rnn_tanh: _recurrent(torch.rnn_tanh, _plain(torch.tanh)),
    torch.rnn_relu: _recurrent(torch.rnn_relu, _plain(torch.relu)),
    torch.lstm: _recurrent(torch.lstm, _lstm_cell),
    torch.gru: _recurrent(torch.gru, _gru_cell),
    torch.rnn_tanh_cell: _single(_plain(torch.tanh)),
    torch.rnn_relu_cell: _single(_plain(torch.relu)),
    torch.lstm_cell: _single(_lstm_cell, several=True),
    torch.gru_cell: _single(_gru_cell),
}
