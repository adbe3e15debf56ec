"""SuccessiveHalving: the built-in way to stop trials that fall behind; any pruner of Optuna's may take its place."""

from dataclasses import dataclass
from typing import Any

from hpo.errors import UsageError


@dataclass(frozen=True)
class SuccessiveHalving:
    """Stops, at growing numbers of epochs, all trials but the best `1 / factor` (arXiv:1502.07943, arXiv:1810.05934).

    Attributes:
        min_epochs: of the first rung, after which trials are judged for the first time.
        factor: between the epochs of a rung and the next; and one trial in so many goes on.
    """

    min_epochs: int = 3
    factor: int = 3

    def __post_init__(self) -> None:
        for name, least in (("min_epochs", 1), ("factor", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UsageError(f"SuccessiveHalving: {name} is {value!r}; give a whole number of at least {least}")

    def __call__(self) -> Any:
        """Optuna's pruner."""
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(min_resource=self.min_epochs, reduction_factor=self.factor)


def check_pruner(pruner: object, epochs: int) -> None:
    """Raises UsageError unless this can be the pruner of trials of so many epochs."""
    if pruner is not None and not callable(pruner):
        raise UsageError(
            f"pruner is {pruner!r}; give hpo.SuccessiveHalving(...), a function that returns a pruner of Optuna's, "
            "or None"
        )
    if isinstance(pruner, SuccessiveHalving) and pruner.min_epochs >= epochs:
        raise UsageError(
            f"pruner: min_epochs is {pruner.min_epochs} and trials have {epochs} epochs, so that none would be "
            "stopped; give fewer min_epochs"
        )
