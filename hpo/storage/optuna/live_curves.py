"""The curves of trials in training: written to Optuna by the worker that holds them, while it holds them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import transactions
from hpo.storage.ledger import Ledger, Work, leases
from hpo.storage.optuna.curves import delete_curves, insert_curves
from hpo.storage.optuna.trials import lock_unfinished
from hpo.storage.schema import slots, workers


class LiveCurves(NamedTuple):
    """What a worker reports of the population that it trains.

    Attributes:
        work: the slots, with their trials. points: slot id → epoch → score, without what `written` says.
        complete: whether `points` have all epochs so far, so that they replace what is there.
        training: see `ledger.progress.Training`; the worker's other row.
    """

    work: Work
    points: Mapping[int, Mapping[int, float]]
    complete: bool
    training: Mapping[str, Any]


def write_live(ledger: Ledger, worker_id: str, live: LiveCurves | None) -> None:
    """Writes what a worker trains now, in one transaction and one attempt; None: it trains nothing.

    Slots that the worker does not hold any more, in the same attempt and as the same trial, are left out: a worker
    that was paused cannot write into the curve of another one.
    """

    def write(connection: Connection) -> None:
        if live is not None:
            _write_points(connection, ledger.id, worker_id, live)
        this = sa.and_(workers.c.study_id == ledger.id, workers.c.worker_id == worker_id)
        connection.execute(sa.update(workers).where(this).values(training=live and dict(live.training)))

    transactions.run_with_retry(ledger.engine, write, timeout=0.0)


def _write_points(connection: Connection, study: int, worker_id: str, live: LiveCurves) -> None:
    by_slot = {slot.id: slot for slot in live.work.slots if slot.trial is not None and slot.id in live.points}
    attempts = {slot.id: slot.attempt for slot in by_slot.values()}
    columns = (*leases.IDS, slots.c.trial)
    held = leases.held_in(connection, study, worker_id, attempts, columns) if attempts else []
    shown = {row.trial: live.points[row.id] for row in held if row.trial == by_slot[row.id].trial}
    running = {trial: shown[trial] for trial in lock_unfinished(connection, shown)} if shown else {}
    if live.complete:
        delete_curves(connection, running)
    insert_curves(connection, running)
