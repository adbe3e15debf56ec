"""SuccessiveHalving: the built-in pruner of trials; any pruner of Optuna can be given instead."""

from dataclasses import dataclass
from typing import Any

from hpo.errors import UsageError, require_whole


@dataclass(frozen=True)
class SuccessiveHalving:
    """Stops all trials but the best `1 / factor` at growing numbers of epochs (arXiv:1502.07943, arXiv:1810.05934).

    Attributes:
        min_epochs: epochs after which trials are compared for the first time (the first rung).
        factor: ratio of the epochs of one rung to those of the rung before; one in `factor` trials continues.
    """

    min_epochs: int = 3
    factor: int = 3

    def __post_init__(self) -> None:
        require_whole("SuccessiveHalving: min_epochs", self.min_epochs)
        require_whole("SuccessiveHalving: factor", self.factor, minimum=2)

    def __call__(self) -> Any:
        """Returns the equivalent pruner of Optuna."""
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(min_resource=self.min_epochs, reduction_factor=self.factor)


def check_pruner(pruner: object, epochs: int) -> None:
    """Raises UsageError unless this can be the pruner of trials with so many epochs."""
    if pruner is not None and not callable(pruner):
        raise UsageError(
            f"pruner is {pruner!r}; give hpo.SuccessiveHalving(...), a function that returns an Optuna pruner, or None"
        )
    if isinstance(pruner, SuccessiveHalving) and pruner.min_epochs >= epochs:
        raise UsageError(
            f"pruner: min_epochs is {pruner.min_epochs} and trials have {epochs} epochs, so no trial would be stopped; "
            "lower min_epochs"
        )
