"""The ledger: how workers lease the slots of a study, and store settings and results."""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import bulk_sql, curves
from hpo.storage.ledger import changed_code, data_check, leases, unfinished
from hpo.storage.ledger.lost_workers import LOST
from hpo.storage.ledger.rerun_settings import assign_best_settings, settings_assigned
from hpo.storage.ledger.retries import end_attempts, end_lost_attempts, reopen
from hpo.storage.ledger.scheduler import Group, being_tuned
from hpo.storage.ledger.stored_study import LEASE, transaction
from hpo.storage.ledger.trial_history import TrialHistory
from hpo.storage.schema import slots, workers
from hpo.storage.transactions import now
from hpo.trials import Outcome, Setting, Slot, Work


class Ledger(TrialHistory):
    """A study with a slot for every trial and rerun, each leased by one worker at a time and finished once.

    Attributes: see `StoredStudy`.
    """

    _leased = False

    @transaction
    def register(
        self,
        connection: Connection,
        worker_id: str,
        device: str = "",
        environment: Mapping[str, Any] | None = None,
        launch: str = "",
    ) -> None:
        """Stores which worker starts, where, with which versions, and what started it ("slurm 12_3").

        Raises:
            UsageError: the study was deleted.
        """
        if not self._lock(connection):
            raise self._deleted()
        host, pid, *_ = [*worker_id.split(":"), "0"]
        time = now(connection)
        row = {
            "study_id": self.id,
            "worker_id": worker_id,
            "host": host.split("+")[0],
            "pid": int(pid) if pid.isdigit() else 0,
            "device": device,
            "environment": dict(environment or {}),
            "launch": launch,
            "started": time,
            "seen": time,
            "training": None,
        }
        connection.execute(sa.delete(workers).where(self._is_worker(worker_id)))
        connection.execute(sa.insert(workers).values(row))

    @transaction
    def reopen_lost(self, connection: Connection) -> None:
        """Opens what was given up because workers were lost: now there is a new one."""
        self._lock(connection)
        reopen(connection, self.id, LOST)

    @transaction
    def note_data(self, connection: Connection, worker_id: str, data: Mapping[str, Any]) -> None:
        """Stores the description of a registered worker's samples (`hpo.data.identify`).

        Raises:
            UsageError: a worker with results or work in this study has other samples.
        """
        self._lock(connection)  # the second of two workers that start at once reads what the first has stored
        data_check.note_data(connection, self.id, worker_id, data)

    def lease(self, worker_id: str, size: int, seconds: float = LEASE, populations: int = 1) -> Work | None:
        """The open slots of a population of at most `size`, held for `seconds`; None if none is free now.

        Which slots form a population depends on `size`, `populations` (see `scheduler.choose`) and the plan alone.
        Leases that ran out are taken over once this process has been connected to the database for `seconds`.

        Raises:
            UsageError: the study was opened with other code before the first lease, or this code was corrected since.
        """
        tries = itertools.count()

        def write(connection: Connection) -> Work | None:
            self._lock(connection)  # from now on nobody else opens the study or leases its slots
            if next(tries) > 0:  # an outage may have lost the answer to a lease that was committed
                self._release(connection, worker_id, None)
            code = (self.fingerprint, self.digest, self._leased)
            changed_code.check_opened(connection, self.id, self.study, *code)
            groups = self._prepare(connection, self.health.stable_for(seconds))
            choice = unfinished.next_choice(connection, self.id, self.definition, groups, size, populations)
            return leases.take(connection, self.id, choice, worker_id, seconds) if choice else None

        work = self._run(write)
        self._leased |= work is not None
        return work

    @transaction
    def assign(self, connection: Connection, worker_id: str, work: Work, settings: Sequence[Setting]) -> Work:
        """Stores the settings of the slots that have none, in order; returns the work that is still held."""
        unused = iter(settings)
        filled = [slot if slot.setting is not None else slot._replace(setting=next(unused)) for slot in work.slots]
        attempts = {slot.id: slot.attempt for slot in filled}
        held = {row.id for row in leases.held_in(connection, self.id, worker_id, attempts)}
        present = [slot for slot in filled if slot.id in held]
        bulk_sql.update(connection, slots, [{"id": slot.id, "setting": slot.setting} for slot in present])
        return work.with_slots(present)

    @transaction
    def note_trials(self, connection: Connection, worker_id: str, trials: Mapping[int, int]) -> None:
        """Stores slot id → Optuna trial id for slots that the worker still holds."""
        held = leases.held(connection, self.id, worker_id, trials)
        bulk_sql.update(connection, slots, [{"id": row.id, "trial": trials[row.id]} for row in held])

    @transaction
    def note_repaired(self, connection: Connection, trials: Mapping[int, tuple[int | None, int]]) -> set[int]:
        """Stores slot id → (earlier, new) Optuna trial id for finished slots, unless they have got another since.

        Returns:
            The ids of the slots that now have their new trial.
        """
        query = sa.select(slots.c.id, slots.c.trial).where(bulk_sql.among(connection, slots.c.id, trials))
        rows = connection.execute(query.where(slots.c.state == "done").order_by(slots.c.id).with_for_update())
        noted = [slot for slot, trial in rows if trial in trials[slot]]
        bulk_sql.update(connection, slots, [{"id": slot, "trial": trials[slot][1]} for slot in noted])
        return set(noted)

    @transaction
    def extend_lease(
        self, connection: Connection, worker_id: str, ids: Collection[int], seconds: float = LEASE
    ) -> list[int]:
        """Holds slots for `seconds` more; returns those that the worker still holds."""
        held = [row.id for row in leases.held(connection, self.id, worker_id, ids)]
        time = now(connection)
        leases.change(connection, held, {"lease_until": time + seconds})
        connection.execute(sa.update(workers).where(self._is_worker(worker_id)).values(seen=time))
        return held

    @transaction
    def finish(self, connection: Connection, worker_id: str, outcomes: Sequence[Outcome]) -> list[int]:
        """Stores results and curves of the slots that the worker still holds; returns their ids.

        Safe to repeat: what this worker finished before is returned again and stored once.
        """
        attempts = {outcome.id: outcome.attempt for outcome in outcomes}
        held = {row.id for row in leases.held_in(connection, self.id, worker_id, attempts)}
        counted = [outcome for outcome in outcomes if outcome.id in held]
        if counted:
            rows = [_result_columns(outcome) for outcome in counted]
            bulk_sql.update(connection, slots, rows, state="done", lease_until=None, finished=now(connection))
            curves.insert(connection, [(outcome.id, outcome.curves) for outcome in counted])
        in_outcomes = bulk_sql.among(connection, slots.c.id, attempts)
        query = sa.select(*leases.IDS).where(in_outcomes, slots.c.worker_id == worker_id, slots.c.state == "done")
        finished = connection.execute(query.order_by(slots.c.id))
        return [slot for slot, attempt in finished if attempts[slot] == attempt]

    @transaction
    def fail(
        self, connection: Connection, worker_id: str, failed: Sequence[Slot], cause: str, message: str
    ) -> list[int]:
        """Ends the attempts of slots still held; `cause` is a key of `retries.MAX_ATTEMPTS`. Returns their ids."""
        self._lock(connection)  # two workers that fail at once must both see how many have failed
        attempts = {slot.id: slot.attempt for slot in failed}
        rows = leases.held_in(connection, self.id, worker_id, attempts, [slots])
        end_attempts(connection, rows, cause, message, now(connection))
        return [row.id for row in rows]

    @transaction
    def release(self, connection: Connection, worker_id: str, ids: Collection[int] | None = None) -> list[int]:
        """Releases slots (by default all that the worker holds) as if they had not been leased; returns their ids."""
        return self._release(connection, worker_id, ids)

    def _prepare(self, connection: Connection, take_over: bool) -> list[Group]:
        """The unfinished groups once lost attempts are ended and the reruns of tuned configurations have settings.

        Another worker may finish the last trial of a configuration between two reads of the slots: the choice must use
        the same read as the decision to leave its reruns without settings. The study is locked.
        """
        end_lost_attempts(connection, self.id, now(connection), take_over)
        assigned = set(settings_assigned(connection, self.id))  # kept here, as the study may have been deleted
        while True:
            groups = unfinished.unfinished_groups(connection, self.id, self.configurations)
            done = being_tuned(groups) | assigned
            tuned = [name for name in self.configurations if name not in done]
            if not tuned:
                return groups
            assign_best_settings(connection, self.id, self.direction, tuned)
            assigned.update(tuned)

    def _release(self, connection: Connection, worker_id: str, ids: Collection[int] | None) -> list[int]:
        held = [row.id for row in leases.held(connection, self.id, worker_id, ids)]
        leases.change(connection, held, {**leases.RELEASED, "attempt": slots.c.attempt - 1})
        return held

    def _is_worker(self, worker_id: str) -> sa.ColumnElement[bool]:
        return sa.and_(workers.c.study_id == self.id, workers.c.worker_id == worker_id)


def _result_columns(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.id,
        "value": _finite_or_none(outcome.value),
        "cause": outcome.cause,
        "result": {name: _finite_or_none(value) for name, value in outcome.result.items()},
        "seconds": outcome.seconds,
    }


def _finite_or_none(value: Any) -> Any:
    """JSON and Optuna have no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
