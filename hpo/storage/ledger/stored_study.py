"""One study in the database as everyone sees it: its definition, progress, workers and results."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hpo.errors import UsageError
from hpo.storage.ledger import queries
from hpo.storage.ledger.added_configurations import digests_by_configuration
from hpo.storage.ledger.connection_health import ConnectionHealth
from hpo.storage.ledger.deletion import delete_rows
from hpo.storage.ledger.planning import PLANNED
from hpo.storage.ledger.scheduler import Group, can_begin
from hpo.storage.ledger.unfinished import unfinished_groups
from hpo.storage.ledger.worker_ids import has_ended
from hpo.storage.schema import failures, slots, studies, workers
from hpo.storage.transactions import lock_table, now, run_with_retry

T = TypeVar("T")
Study = TypeVar("Study", bound="StoredStudy")
Parameters = ParamSpec("Parameters")
LEASE = 60.0  # seconds; workers extend their leases after a quarter of them
_NOT_EXPORTED = {"study_id", "settings_assigned", "reported", "replacements", "batch", "training"}


class Activity(NamedTuple):
    """The workers of a study and its newest exceptions.

    Attributes:
        planned: trials, seeds and tuning_runs as they are now; empty if the study has just been deleted.
        workers: those present, in the order in which they started: dicts with host, pid, device,
            launch (what started it), seen (seconds ago) and training (a `progress.Training` as a dict, or None).
        exceptions: configuration → traceback of its newest attempt that an exception ended.
    """

    planned: dict[str, int]
    workers: list[dict[str, Any]]
    exceptions: dict[str, str]


def transaction(
    method: Callable[Concatenate[Study, Connection, Parameters], T],
) -> Callable[Concatenate[Study, Parameters], T]:
    """Runs a method in one transaction, retried while the database is unavailable; callers leave `connection` out."""

    @wraps(method)
    def call(self: Study, *args: Parameters.args, **kwargs: Parameters.kwargs) -> T:
        return self._run(lambda connection: method(self, connection, *args, **kwargs))

    return call


class StoredStudy:
    """A study in the database.

    Attributes:
        engine, id, study (its name), created (Unix seconds), definition, digest, direction ("maximize" | "minimize"),
        and as they were when it was opened: changed (when its definition or plan last changed, in Unix seconds),
        fingerprint (of the user's code), text (the author's), step_times (see `hpo.worker.step_times`) and
        planned ("trials", "seeds", "tuning_runs").
        sampling_digests: see `digests_by_configuration`.
        warnings: sentences for the person who opened it.
    """

    def __init__(self, engine: Engine, row: Any, warnings: Sequence[str] = ()) -> None:
        self.engine = engine
        self.id: int = row.id
        self.study: str = row.name
        self.created: float = row.created
        self.changed: float = max([row.created, *(note["time"] for note in row.notes)])
        self.definition: dict[str, Any] = row.definition
        self.digest: str = row.digest
        self.fingerprint: dict[str, str] = row.fingerprint
        self.text: dict[str, Any] = row.text
        self.step_times: dict[str, Any] | None = row.step_times
        self.planned: dict[str, int] = {key: getattr(row, key) for key in PLANNED}
        self.direction: str = row.definition["direction"]
        self.sampling_digests = digests_by_configuration(row)
        self.configurations = [entry["name"] for entry in row.definition["configurations"]]
        self.warnings = list(warnings)
        self.health = ConnectionHealth()
        self.retry_timeout: float | None = None  # seconds; None: `transactions.RETRY_TIMEOUT`

    @transaction
    def state(self, connection: Connection) -> str:
        """ "done": nothing is left; "work": something can be leased now; "wait": other workers hold the rest."""
        groups = unfinished_groups(connection, self.id, self.configurations)
        if not groups:
            return "done"
        if can_begin(groups):
            return "work"
        leases, time = queries.first_lease_ends(connection, self.id), now(connection)
        return "work" if any(end < time or has_ended(worker_id) for worker_id, end in leases) else "wait"

    @transaction
    def groups(self, connection: Connection) -> list[Group]:
        """The states of the slots of every configuration, tuning run, phase and batch, newest rounds only."""
        return queries.groups(connection, self.id, self.configurations)

    @transaction
    def counts(self, connection: Connection) -> dict[str, dict[str, Any]]:
        """The progress of every configuration, newest rounds only.

        Returns:
            configuration → trials_total, trials_done, reruns_total, reruns_done, leased, failed, diverged,
            pruned, "without a finite score" (numbers of slots), failures (cause → attempts), best (value so far of
            a trial that was not pruned, or None) and seconds (that finished slots took, each a share of its
            population's time).
        """
        return queries.counts(connection, self.id, self.configurations, self.direction)

    @transaction
    def activity(self, connection: Connection, seconds: float = LEASE) -> Activity:
        """The workers that are present and the newest exceptions.

        A worker is present if it started or extended a lease within the last `seconds`. One whose process ran on this
        machine and has ended is left out.
        """
        columns = [studies.c[key] for key in PLANNED]
        planned = connection.execute(sa.select(*columns).where(studies.c.id == self.id)).mappings().first()
        present = queries.workers_since(connection, self.id, now(connection) - seconds)
        exceptions = queries.newest_exceptions(connection, self.id, self.configurations)
        return Activity(dict(planned or {}), present, exceptions)

    @transaction
    def last_finished(self, connection: Connection) -> float | None:
        """When the last run ended, in Unix seconds by the database's clock; None before the first."""
        return connection.scalar(sa.select(sa.func.max(slots.c.finished)).where(slots.c.study_id == self.id))

    @transaction
    def export(self, connection: Connection) -> dict[str, Any]:
        """Everything but the curves: "study" (dict), "slots", "failures", "workers" (lists of dicts).

        Raises:
            UsageError: the study was deleted.
        """

        def rows(table: sa.Table, order: sa.Column[Any]) -> list[dict[str, Any]]:
            query = sa.select(table).where(table.c.study_id == self.id).order_by(order)
            return [_exported(row) for row in connection.execute(query).mappings()]

        study = connection.execute(sa.select(studies).where(studies.c.id == self.id)).mappings().first()
        if study is None:
            raise self._deleted()
        return {
            "study": {key: value for key, value in _exported(study).items() if key != "id"},
            "slots": rows(slots, slots.c.id),
            "failures": rows(failures, failures.c.id),
            "workers": rows(workers, workers.c.started),
        }

    @transaction
    def note_report(self, connection: Connection) -> None:
        """Stores that a report was written: seeds added later must say so (optional stopping)."""
        connection.execute(sa.update(studies).where(studies.c.id == self.id).values(reported=now(connection)))

    @transaction
    def chosen_settings(self, connection: Connection) -> dict[str, Any]:
        """Configuration → the setting of its newest reruns that belong to the first tuning run, where it is known."""
        query = sa.select(slots.c.configuration, slots.c.setting).where(
            slots.c.study_id == self.id, slots.c.phase == "rerun", slots.c.tuning_run == 0, slots.c.setting.is_not(None)
        )
        rows = connection.execute(query.order_by(slots.c.round, slots.c.slot))
        return {row.configuration: row.setting for row in rows}

    @transaction
    def note_step_times(self, connection: Connection, measured: Mapping[str, Any]) -> None:
        """Stores a measurement of `hpo.worker.step_times` instead of the earlier one."""
        connection.execute(sa.update(studies).where(studies.c.id == self.id).values(step_times=dict(measured)))

    @transaction
    def delete(self, connection: Connection) -> None:
        """Deletes the study with all its results."""
        self._lock(connection)  # first the study, then its slots, as everywhere: no slot is added meanwhile
        delete_rows(connection, self.id)

    def _lock(self, connection: Connection) -> bool:
        """Keeps others from changing what the study has left to do until the transaction ends (on PostgreSQL).

        Slots are locked after this; and `open_study` locks the whole table first, which conflicts with the first lock.

        Returns:
            Whether there still is such a study.
        """
        lock_table(connection, studies, "ROW EXCLUSIVE")
        query = sa.select(studies.c.id).where(studies.c.id == self.id).with_for_update()
        return connection.scalar(query) is not None

    def _deleted(self) -> UsageError:
        return UsageError(f"study {self.study!r} was deleted while this command ran; run the same command again")

    def _run(self, work: Callable[[Connection], T]) -> T:
        result = run_with_retry(self.engine, work, self.retry_timeout, on_failure=self.health.failure)
        self.health.success()
        return result


def _exported(row: sa.RowMapping) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in _NOT_EXPORTED}
