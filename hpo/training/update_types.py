"""What a population and its optimizer exchange in every step."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from hpo.gradients.draws import Moment
from hpo.tree import Tree
from hpo.user_code.messages import Hyperparameters


class UnsavableState(Exception):
    """An optimizer keeps something that a checkpoint cannot hold."""


class Step(NamedTuple):
    """What an update gets besides gradients and parameters.

    Attributes:
        hyper: name -> values [K], times their schedules. factors: name -> the factor of its schedule, a tensor [1].
        moment: when the step takes place, and the keys of the models' random draws; leaves [K].
        reevaluate: (row, params [1, ...]) -> that model's gradient at these parameters, and its mean task loss [].
    """

    hyper: Hyperparameters
    factors: Mapping[str, Tensor | float]
    moment: Moment
    reevaluate: Callable[[int, Tree], tuple[Tree, Tensor]]


class Updates(Protocol):
    """The optimizer of K models in training.

    Attributes:
        state: tensors [K, ...], which the population saves, restores and keeps for some models only.
        is_recordable: whether an update consists of tensor operations only, as a CUDA graph needs.
        untrained: the parameters that no optimizer has, by name.
    """

    state: dict[str, Any]
    is_recordable: bool
    untrained: Collection[str]

    @property
    def evaluates_others(self) -> bool:
        """Whether other parameters are evaluated than those that are trained."""

    def update(self, grads: Tree, params: Tree, step: Step) -> Tree:
        """The parameters [K, ...] after a step, which may be those given, changed in place."""

    def evaluated(self, params: Tree) -> Tree:
        """The parameters to evaluate, until `resume` is called."""

    def resume(self) -> None:
        """Called before the first step and before that after an evaluation or `load`."""

    def rebind(self, params: Tree, rows: Sequence[int] | None = None) -> None:
        """Continues with other tensors for the parameters, and with the models at some rows only."""

    def saved(self, row: int) -> Any:
        """What `load` needs of a model besides its rows of `state`, on the CPU; None for nothing."""

    def load(self, saved: Sequence[Any]) -> None:
        """Continues where other updates were saved; called after `rebind`."""
