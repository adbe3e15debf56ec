"""A small study without training, and how it looks to a user of plain Optuna."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage

from hpo.storage.ledger import Ledger, Outcome, Work, new_worker_id, open_study
from hpo.storage.ledger.connection_health import ConnectionHealth
from hpo.storage.ledger.rerun_settings import best_trial
from hpo.storage.transactions import run

RATE = {"low": 1e-4, "high": 1e-1, "log": True, "off": None}
KEPT: list[RDBStorage] = []
WEIGHT = {"low": 0.0, "high": 2.0, "log": False, "off": "low"}


def definition(trials: int | None = None, high: float = 1e-1, **changes: Any) -> dict[str, Any]:
    """Two configurations, "A" with two tuned hyperparameters and "B" with one."""
    rate = RATE | {"high": high}
    configurations = [
        {"name": "A", "trials": trials, "space": {"learning_rate": rate, "lambda": WEIGHT, "momentum": 0.9}},
        {"name": "B", "trials": None, "space": {"learning_rate": rate}},
    ]
    fields = {"score": "validation_accuracy", "direction": "maximize", "configurations": configurations}
    return fields | {"epochs": 2, "tuning_epochs": 2} | changes


def make(engine: Any, name: str = "s", digest: str = "d", **planned: int) -> Ledger:
    """A study of that definition; 12 trials and 3 seeds by default."""
    numbers = {"trials": 12, "seeds": 3, "tuning_runs": 1} | planned
    return known_for_long(open_study(engine, name, definition(), digest, numbers, {"title": "t"}, {"loss": "aa"}))


class StableConnection(ConnectionHealth):
    """A connection without any outage, so that leases that ran out are taken over at once."""

    def stable_for(self, seconds: float) -> bool:  # noqa: ARG002
        return True


def known_for_long(ledger: Ledger) -> Ledger:
    """The ledger of a process that has been connected to the database for long."""
    ledger.health = StableConnection()
    return ledger


def outcomes(work: Work) -> list[Outcome]:
    """The results of training: values that depend only on the settings."""
    return [
        Outcome(
            slot.id,
            slot.attempt,
            value=1.0 - (slot.setting or {})["learning_rate"],
            result={"validation_loss": 0.5},
            curves={"train_loss": [1.0, 0.5], "validation_accuracy": [0.1, 0.2]},
            seconds=0.01,
        )
        for slot in work.slots
    ]


def finish_all(ledger: Ledger, worker_id: str | None = None, limit: int = 20, until: str = "") -> None:
    """Finishes the study in this process, without the mirror; stops before work of the phase `until`."""
    worker_id = worker_id or new_worker_id()
    while work := ledger.lease(worker_id, limit):
        if work.phase == until:
            ledger.release(worker_id)
            return
        settings = [{"learning_rate": 0.001 * (slot.slot + 1)} for slot in work.slots if slot.setting is None]
        work = ledger.assign(worker_id, work, settings)
        ledger.finish(worker_id, outcomes(work))


def best(ledger: Ledger, configuration: str, tuning_run: int = 0) -> dict[str, Any] | None:
    """slot, setting and value of the trial whose setting the reruns use."""
    arguments = (ledger.id, configuration, tuning_run, ledger.direction)
    row = run(ledger.engine, lambda connection: best_trial(connection, *arguments))
    return None if row is None else {"slot": row.slot, "setting": row.setting, "value": row.value}


@contextmanager
def counted_statements(engine: Any) -> Iterator[list[int]]:
    """One number: the statements in the block. A list of rows counts on PostgreSQL as a statement a row."""
    counts = [0]

    def count(*arguments: Any) -> None:
        _, _, _, parameters, _, many = arguments
        counts[0] += len(parameters) if many and engine.dialect.name == "postgresql" else 1

    sa.event.listen(engine, "before_cursor_execute", count)
    yield counts
    sa.event.remove(engine, "before_cursor_execute", count)


def plain_study(url: str, name: str) -> optuna.Study:
    """The study as a user of plain Optuna sees it."""
    return optuna.load_study(study_name=name, storage=kept(url))


def plain_names(url: str) -> list[str]:
    return optuna.get_all_study_names(kept(url))


def kept(url: str) -> RDBStorage:
    """A storage that is never deleted: since Python 3.13, a SQLite connection warns if it is deleted while open."""
    prepared = {} if url.startswith("sqlite") else {"connect_args": {"prepare_threshold": None}}  # as a pooler needs it
    KEPT.append(RDBStorage(url, engine_kwargs=prepared))
    return KEPT[-1]
