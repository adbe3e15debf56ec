"""A study without training, under a name that nobody else uses, and the transactions that a worker makes on it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from hpo.search_space import Range, split_space
from hpo.storage.ledger import Ledger, Outcome, Setting, Work, load_study, names, open_study
from hpo.storage.optuna.mirror import Mirror, clear

T = TypeVar("T")
NAME = "hpo-bench-storage"  # deleted before and after
METRICS = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy", "aux/penalty")
EPOCHS = 30
SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
    "strength": {"low": 1e-3, "high": 1.0, "log": True},
    "momentum": {"low": 0.0, "high": 0.99, "log": False},
}
CURVE = [1 / (1 + epoch) for epoch in range(EPOCHS)]


@contextmanager
def study(engine: Engine, trials: int, seeds: int = 1, tuned: bool = True) -> Iterator[Ledger]:
    """A study of one configuration with four tuned hyperparameters, or none; it is gone afterwards."""
    _delete(engine)
    configuration = {"name": "A", "trials": None, "space": SPACE if tuned else {}}
    definition = {"score": "validation_accuracy", "direction": "maximize", "configurations": [configuration]}
    planned = {"trials": trials, "seeds": seeds, "tuning_runs": 1}
    try:
        yield open_study(engine, NAME, definition, "bench", planned, {"title": "hpo bench storage"}, {})
    finally:
        _delete(engine)


def enlarged(ledger: Ledger, trials: int) -> Ledger:
    """The same study with so many trials of every configuration; those that are new are a batch if they are few."""
    planned, text = {"trials": trials}, ledger.text
    return open_study(
        ledger.engine, ledger.study, ledger.definition, ledger.digest, planned, text, ledger.fingerprint, planned
    )


def _delete(engine: Engine) -> None:
    if NAME in names(engine):
        load_study(engine, NAME).delete()
    clear(engine, NAME)


def ranges(ledger: Ledger) -> dict[str, Range]:
    return split_space(ledger.definition["configurations"][0]["space"])[0]


def spread(ledger: Ledger, work: Work) -> list[Setting]:
    """Settings for the slots that have none: spread over the ranges, each another one; nothing is sampled."""
    tuned = ranges(ledger)
    fresh = [slot for slot in work.slots if slot.setting is None]
    return [
        {
            name: interval.low + (interval.high - interval.low) * ((slot.slot + 1) * (0.6180339887 + place) % 1)
            for place, (name, interval) in enumerate(tuned.items())
        }
        for slot in fresh
    ]


def outcomes(work: Work) -> list[Outcome]:
    """What training would give: 30 epochs of five metrics, and a score that follows from the slot."""
    return [
        Outcome(
            slot.id,
            slot.attempt,
            value=(slot.slot * 0.7548776662) % 1,
            result={"validation_loss": 0.5, "train_loss": 0.4, "train_accuracy": 0.9, "population": len(work.slots)},
            curves=dict.fromkeys(METRICS, CURVE),
            seconds=0.1,
        )
        for slot in work.slots
    ]


def leased(ledger: Ledger, worker_id: str, population: int) -> Work:
    work = ledger.lease(worker_id, population)
    assert work is not None, "the benchmark's study has too few slots"
    return work


def finish(ledger: Ledger, mirror: Mirror, worker_id: str, count: int) -> None:
    """Finishes `count` slots, unmeasured."""
    while count > 0:
        work = leased(ledger, worker_id, min(count, 1000))
        work = mirror.begin(worker_id, ledger.assign(worker_id, work, spread(ledger, work)))
        ledger.finish(worker_id, outcomes(work))
        mirror.finish(work, outcomes(work))
        count -= len(work.slots)


class Stopwatch:
    """Seconds and statements of named steps.

    A list of rows counts as one statement on SQLite, where it is prepared once and nothing travels; elsewhere each
    row counts.
    """

    def __init__(self, engine: Engine) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.statements: dict[str, list[int]] = {}
        self._engine, self._count = engine, 0

    def __enter__(self) -> "Stopwatch":
        sa.event.listen(self._engine, "before_cursor_execute", self._counted)
        return self

    def __exit__(self, *_: object) -> None:
        sa.event.remove(self._engine, "before_cursor_execute", self._counted)

    def time(self, step: str, action: Callable[..., T], *arguments: Any) -> T:
        before, start = self._count, time.perf_counter()
        found = action(*arguments)
        self.seconds.setdefault(step, []).append(time.perf_counter() - start)
        self.statements.setdefault(step, []).append(self._count - before)
        return found

    def _counted(self, *arguments: Any) -> None:
        parameters: Sequence[Any] = arguments[3]
        each = arguments[5] and self._engine.dialect.name != "sqlite"
        self._count += len(parameters) if each else 1


def server(engine: Engine) -> dict[str, Any]:
    """The kind of database with its version, and how many connections it takes (None: as many as there are)."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            version = connection.exec_driver_sql("select sqlite_version()").scalar()
            return {"database": f"SQLite {version}", "connections": None}
        version = str(connection.exec_driver_sql("show server_version").scalar()).split()[0]
        most = int(str(connection.exec_driver_sql("show max_connections").scalar()))
        return {"database": f"PostgreSQL {version}", "connections": most}
