"""GradientCount: how many gradient evaluations a regularizer needs for one minibatch.

One gradient evaluation is one backward pass through the whole network for all samples of the minibatch, together with
the forward pass that it needs. A forward pass that is differentiated twice, as for a penalty on gradient norms, counts
as two; one for some of the samples counts by their share; one that is not differentiated counts nothing.
"""

import math

from torch._C import _functorch


class GradientCount:
    """Counts while the regularizer's function runs once; replays of a trace are not counted.

    Attributes:
        evaluations: the gradient evaluations so far.
    """

    def __init__(self, samples: int) -> None:
        """samples: those of the minibatch, of all processes."""
        self.evaluations = 0.0
        self._samples = samples
        self._outside = len(_transforms())  # such as the `vmap` over the models of a population

    def add(self, samples: int, not_counted: int = 0) -> None:
        """Counts a forward pass for so many samples by the `torch.func` transforms around it.

        Args:
            not_counted: differentiations around it whose backward pass ends in the last layers.
        """
        inside = _transforms()[self._outside :]
        copies = math.prod(_functorch.CVmapInterpreterPtr(each).batchSize() for each in inside if _is_vmap(each))
        differentiations = sum(not _is_vmap(each) for each in inside)
        self.evaluations += max(0, differentiations - not_counted) * copies * samples / self._samples


def _transforms() -> list[_functorch.CInterpreter]:
    """The active `torch.func` transforms, the outermost one first."""
    return _functorch.get_interpreter_stack() or []


def _is_vmap(transform: _functorch.CInterpreter) -> bool:
    return transform.key() == _functorch.TransformType.Vmap
