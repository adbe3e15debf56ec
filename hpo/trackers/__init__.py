"""Experiment trackers: each gets one run for every trial and rerun, through its own client."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from hpo.errors import UsageError, did_you_mean
from hpo.storage.optuna.tracked_runs import TrackedRun

TRACKERS = ("tensorboard", "wandb", "mlflow")


class Tracker(Protocol):
    """One tracker's client, for the runs of one study. All of its errors may reach the caller."""

    @property
    def location(self) -> str:
        """Where the runs are, and the command that shows or uploads them."""

    def finished(self) -> set[str]:
        """The keys of the runs that are finished in it, as far as it can be known here."""

    def start(self, run: TrackedRun) -> None:
        """Begins a run with its config and tags; it replaces one of the same name."""

    def log(self, run: TrackedRun, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Adds epoch → metric → value to a started run."""

    def finish(self, run: TrackedRun, final: Mapping[str, Any]) -> None:
        """Ends a started run; one without final metrics was interrupted, and is not `finished`."""


def open_tracker(name: str, study: str) -> Tracker:
    """The tracker called `name`.

    Raises:
        UsageError: its package is not installed.
    """
    check_installed(name)
    tracker: Tracker = import_module(f"hpo.trackers.{name}_tracker").make(study)
    return tracker


def check_tracker(name: str) -> None:
    """Raises UsageError unless there is a tracker of this name and its package is installed."""
    if name not in TRACKERS:
        raise UsageError(
            f"there is no tracker {name!r}; trackers are {', '.join(TRACKERS)}{did_you_mean(name, TRACKERS)}"
        )
    check_installed(name)


def check_installed(name: str) -> None:
    """Raises UsageError unless the tracker's package is installed."""
    if find_spec(name) is None:
        raise UsageError(f"--log {name} needs the {name} package: pip install 'hpo-studies[{name}]'")


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The values that are numbers."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
