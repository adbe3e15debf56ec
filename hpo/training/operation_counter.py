"""OperationCounter: what the passes of a network cost, without measuring time."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from hpo.dispatch import DispatchMode

aten = torch.ops.aten


class OperationCounter(DispatchMode):
    """Counts floating-point operations, as `torch.utils.flop_counter` does, and the bytes of all outputs.

    Attributes:
        operations: of matrix products and convolutions. in_images: those of convolutions over two or three axes.
        outputs: bytes that operations return.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.outputs = self.in_images = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        if count:
            operations = count(*args, **(kwargs or {}), out_val=returned)
            self.operations += operations
            self.in_images += operations if function is aten.convolution.default and returned.dim() > 3 else 0
        if not function.is_view:
            tensors = [leaf for leaf in tree_leaves(returned) if isinstance(leaf, Tensor)]
            self.outputs += sum(leaf.numel() * leaf.element_size() for leaf in tensors)
        return returned
