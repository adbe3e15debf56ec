"""Benchmark: how long a training step of each configuration of a study takes, measured by turns."""

from collections.abc import Sequence
from datetime import UTC, datetime

from hpo.bench.table import OnRow, Row
from hpo.errors import plural
from hpo.storage.ledger import Ledger
from hpo.training.step_times import ROUNDS
from hpo.worker.step_times import measure_step_times, populations_to_time
from hpo.worker.trainer import Trainer

SECONDS = 2.0  # for one configuration and number of models
COLUMNS = {
    "configuration": (28, "{configuration}"),
    "population": (10, "{population}"),
    "ms/model-step": (13, "{ms:.3f}"),
    "× baseline": (10, "{ratio:.2f}"),
    "quartiles": (12, "{low:.2f}–{high:.2f}"),
}


def measure(trainer: Trainer, ledger: Ledger | None, populations: Sequence[int] | None, on_row: OnRow) -> Row:
    """Times training steps; evaluation is not included.

    Args:
        ledger: the study in the database, if it is there, with the chosen settings.
        populations: numbers of models that are trained together; by default as many as in the reruns, and one.

    Returns:
        The JSON values of `measure_step_times`.
    """
    names = [entry.name for entry in trainer.study.configurations]
    chosen = ledger.chosen_settings() if ledger else {}
    settings = {name: chosen.get(name) or trainer.setting_to_try(name, {}) for name in names}
    seeds = ledger.planned["seeds"] if ledger else trainer.study.seeds
    sizes = populations or populations_to_time(trainer, settings, seeds)
    result = measure_step_times(trainer, settings, sizes, SECONDS)
    assert result is not None  # there is no limit
    for row in result["rows"]:
        on_row(row)
    return result


def summary(result: Row) -> str:
    """Where and how the times were measured."""
    return (
        f"{result['device']}, {plural(result['threads'], 'thread')}, "
        f"{datetime.fromtimestamp(result['time'], UTC):%Y-%m-%d}; no evaluation.\n"
        f"Medians of {ROUNDS} rounds in which the configurations took turns, and the quartiles of the rounds' ratios\n"
        "(far apart: the machine was busy)."
    )
