"""RNN, LSTM and GRU: in each direction two Linear layers over all time steps, for the inputs and for the states.

With δ_t = ∂loss_i/∂(the gates' part at step t), g_i of the input weight is Σ_t δ_t x_tᵀ, and that of the recurrent
weight Σ_t δ_t h_{t−1}ᵀ: the sums of outer products of a Linear layer over [N, T, I].
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from hpo.gradients.layer_rules.linear import linear
from hpo.gradients.layer_rules.rule import Rule
from hpo.tree import Tree

KINDS = (nn.RNN, nn.LSTM, nn.GRU)


class Gates(nn.Module):
    """One of the Linear layers of a recurrent layer; its parameters have their names there, such as `weight_ih_l0`."""

    def __init__(self, layer: nn.RNNBase, part: str) -> None:
        super().__init__()
        self.names = {"weight": f"weight_{part}"}
        if layer.bias and not part.startswith("hr"):
            self.names["bias"] = f"bias_{part}"
        for name in self.names.values():
            self.register_parameter(name, getattr(layer, name))

    @property
    def weight(self) -> Any:
        return self._parameters[self.names["weight"]]

    @property
    def bias(self) -> Any:
        return self._parameters.get(self.names.get("bias", ""))


def is_recurrent(layer: nn.Module) -> bool:
    """Whether this is one of KINDS with its usual parameters, which weight normalisation replaces by others."""
    names = [name for name, _ in layer.named_parameters(recurse=False)]
    return type(layer) in KINDS and names == layer._flat_weights_names


def parts(layer: nn.RNNBase) -> list[str]:
    """The Linear layers of a recurrent layer, "ih_l0", "hh_l0", "ih_l0_reverse", …, in the order of the parameters."""
    return [name.removeprefix("weight_") for name, _ in layer.named_parameters() if name.startswith("weight_")]


def _renamed(function: Callable[..., Tree]) -> Callable[..., Tree]:
    def leaves(module: Gates, *arguments: Any) -> Tree:
        return {module.names[name]: leaf for name, leaf in function(module, *arguments).items()}

    return leaves


gates = Rule(
    accepts=lambda _, inputs: inputs.dim() == 3,
    square_norms=linear.square_norms,
    weighted_grad=_renamed(linear.weighted_grad),
    sign_mean=_renamed(linear.sign_mean),
)
