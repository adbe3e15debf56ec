"""The ledger of one study as a worker, a report or a progress bar sees it."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hpo.errors import UsageError
from hpo.storage import bulk_sql
from hpo.storage.database import now, run_with_retry
from hpo.storage.ledger import (
    changed_code,
    data_check,
    leases,
    queries,
    rerun_settings,
    studies,
    trial_history,
)
from hpo.storage.ledger.connection_health import ConnectionHealth
from hpo.storage.ledger.retries import end_attempts, take_back
from hpo.storage.ledger.scheduler import Group, choose, tuning_unfinished
from hpo.storage.ledger.worker_ids import has_ended
from hpo.storage.schema import slots
from hpo.trials import FinishedTrial, Outcome, Setting, Slot, TrialCurve, Work


def open_study(
    engine: Engine,
    name: str,
    definition: Mapping[str, Any],
    digest: str,
    planned: Mapping[str, int],
    text: Mapping[str, Any],
    fingerprint: Mapping[str, str],
    asked: Collection[str] = tuple(studies.PLANNED),
    accept_changed_code: bool = False,
) -> "Ledger":
    """Opens the study `name`, or makes it with all its slots in one transaction.

    Args:
        definition, digest: what the study is (`definition.describe`); must equal what is stored.
        planned: "trials", "seeds", "tuning_runs"; on an existing study they may only be raised, and those not in
            `asked` stay as they are.
        text: free text, updated. fingerprint: digests of the user's code by names.
        accept_changed_code: go on where the fingerprint differs from the one that results were made with; the change
            is noted and in `warnings`.

    Raises:
        UsageError: the definition or the code differs, or a planned number is lower than before.
    """
    given = (name, definition, digest, planned, text, fingerprint, asked, accept_changed_code)
    row, warnings = run_with_retry(engine, lambda link: studies.ensure(link, *given))
    return Ledger(engine, row, warnings)


def load_study(engine: Engine, name: str) -> "Ledger":
    """Opens a study that exists, without its definition at hand.

    Raises:
        UsageError: there is no study of that name.
    """
    row = run_with_retry(engine, lambda connection: studies.find(connection, name))
    if row is None:
        known = ", ".join(studies.names(engine)) or "none yet"
        raise UsageError(f"there is no study {name!r} in this database; it holds: {known}")
    return Ledger(engine, row)


class Ledger:
    """One study's slots. Every method is one transaction, repeated while the database is locked or away.

    Attributes:
        engine, id, study (its name), definition, digest, direction ("maximize" | "minimize"), and as they were when
        it was opened fingerprint (of the user's code), text (the author's words) and planned ("trials", "seeds",
        "tuning_runs").
        warnings: sentences for the person who opened it.
    """

    def __init__(self, engine: Engine, row: Any, warnings: Sequence[str] = ()) -> None:
        self.engine = engine
        self.id: int = row.id
        self.study: str = row.name
        self.definition: dict[str, Any] = row.definition
        self.digest: str = row.digest
        self.fingerprint: dict[str, str] = row.fingerprint
        self.text: dict[str, Any] = row.text
        self.planned: dict[str, int] = {key: getattr(row, key) for key in studies.PLANNED}
        self.direction: str = row.definition["direction"]
        self.configurations = [entry["name"] for entry in row.definition["configurations"]]
        self.warnings = list(warnings)
        self.health = ConnectionHealth()
        self._leased = False
        self.retry_timeout: float | None = None  # seconds; None: `database.RETRY_TIMEOUT`

    # A worker's side

    def register(self, worker_id: str, device: str = "", environment: Mapping[str, Any] | None = None) -> None:
        """Notes who is about to work, where and with which versions."""
        self._run(lambda link: leases.register(link, self.id, worker_id, device, environment or {}))

    def note_data(self, worker_id: str, data: Mapping[str, Any]) -> None:
        """Stores what a registered worker's samples are like (`hpo.data.identify`).

        Raises:
            UsageError: a worker with results or work in this study has other samples.
        """
        self._run(lambda link: data_check.note_data(link, self.id, worker_id, data))

    def lease(self, worker_id: str, size: int, seconds: float = 60.0) -> Work | None:
        """The open slots of a population of at most `size`, held for `seconds`; None if none is free now.

        Which slots make a population depends on `size` and the plan alone. Leases that ran out are taken over once
        this process has had contact with the database for `seconds`.

        Raises:
            UsageError: before the first lease, somebody else has opened the study with other code.
        """

        tries = itertools.count()

        def take(connection: Connection) -> Work | None:
            if next(tries) > 0:  # an outage may have swallowed the answer to a lease that was made
                leases.release(connection, self.id, worker_id, None)
            if not self._leased:
                changed_code.check(connection, self.id, self.study, self.fingerprint)
            choice = choose(self._prepared(connection, self.health.stable_for(seconds)), size)
            return leases.take(connection, self.id, choice, worker_id, seconds) if choice else None

        work = self._run(take)
        self._leased |= work is not None
        return work

    def assign(self, worker_id: str, work: Work, settings: Sequence[Setting]) -> Work:
        """Stores the settings of the slots that have none, in order; returns the work as it is still held."""
        return self._run(lambda link: leases.assign(link, worker_id, work, settings))

    def note_repaired(self, trials: Mapping[int, int]) -> None:
        """Stores slot id → Optuna trial id for finished slots that had none."""
        rows = [{"id": slot, "trial": trial} for slot, trial in trials.items()]
        self._run(lambda link: bulk_sql.update(link, slots, rows, slots.c.state == "done"))

    def note_trials(self, worker_id: str, trials: Mapping[int, int]) -> None:
        """Stores slot id → Optuna trial id for slots still held by `worker_id`."""
        self._run(lambda link: leases.note_trials(link, worker_id, trials))

    def extend_lease(self, worker_id: str, ids: Sequence[int], seconds: float = 60.0) -> list[int]:
        """Holds slots for `seconds` more; returns those that are still the owner's."""
        return self._run(lambda link: leases.extend(link, self.id, worker_id, ids, seconds))

    def finish(self, worker_id: str, outcomes: Sequence[Outcome]) -> list[int]:
        """Stores results and curves of the slots whose lease is still the owner's; returns their ids.

        Safe to repeat: what this worker_id finished before is returned again and stored once.
        """
        return self._run(lambda link: leases.finish(link, worker_id, outcomes))

    def fail(self, worker_id: str, failed: Sequence[Slot], cause: str, message: str) -> list[int]:
        """Ends the attempt of slots still held; `cause` is a key of `retries.ATTEMPTS`. Returns ids."""

        def end(connection: Connection) -> list[int]:
            studies.lock(connection, self.id)  # two that fail at once must both see how many have failed
            rows = leases.held(connection, worker_id, {slot.id: slot.attempt for slot in failed})
            end_attempts(connection, rows, cause, message, now(connection))
            return [row.id for row in rows]

        return self._run(end)

    def release(self, worker_id: str, ids: Sequence[int] | None = None) -> list[int]:
        """Gives slots back (all that `worker_id` holds, by default) as if they had not been leased."""
        return self._run(lambda link: leases.release(link, self.id, worker_id, ids))

    def finished_trials(
        self, configuration: str, tuning_runs: Collection[int], batch: int
    ) -> dict[int, tuple[list[FinishedTrial], range]]:
        """What a sampler knows when it is asked for a batch.

        Returns:
            tuning_run → (finished trials of the batches before it, by slot; the slots of the batch).
        """
        pruning = "pruner" in self.definition
        return self._run(
            lambda link: trial_history.finished_trials(link, self.id, configuration, tuning_runs, batch, pruning)
        )

    def trial_curves(self, configuration: str, tuning_runs: Collection[int], batch: int) -> dict[int, list[TrialCurve]]:
        """What a pruner knows of a batch: tuning_run → finished trials of those before it, with curves of the score."""
        metric = self.definition["score"]
        return self._run(
            lambda link: trial_history.trial_curves(link, self.id, configuration, tuning_runs, batch, metric)
        )

    # A reader's side

    def state(self) -> str:
        """ "done": nothing is left; "work": something can be leased now; "wait": others hold the rest."""

        def look(connection: Connection) -> str:
            found = queries.groups(connection, self.id, self.configurations)
            if not any(group.unfinished for group in found):
                return "done"
            if choose(found, 1):
                return "work"
            query = sa.select(slots.c.worker_id, sa.func.min(slots.c.lease_until)).group_by(slots.c.worker_id)
            held = connection.execute(query.where(slots.c.study_id == self.id, slots.c.state == "leased")).all()
            time = now(connection)
            return "work" if any(until < time or has_ended(worker_id) for worker_id, until in held) else "wait"

        return self._run(look)

    def best(self, configuration: str, tuning_run: int = 0) -> dict[str, Any] | None:
        """slot, setting and value of the best finished trial; None before the first."""
        row = self._run(lambda link: rerun_settings.best(link, self.id, configuration, tuning_run, self.direction))
        return None if row is None else {"slot": row.slot, "setting": row.setting, "value": row.value}

    def counts(self) -> dict[str, dict[str, Any]]:
        """How far every configuration is, newest rounds only.

        Returns:
            configuration → trials_total, trials_done, reruns_total, reruns_done, leased, failed, diverged,
            pruned, "without a finite score" (numbers of slots), failures (cause → attempts) and best (value so far of
            a trial that was not pruned, or None).
        """
        return self._run(lambda link: queries.counts(link, self.id, self.configurations, self.direction))

    def export(self) -> dict[str, Any]:
        """Everything but the curves: "study" (dict), "slots", "failures", "workers" (lists of dicts)."""
        return self._run(lambda link: queries.export(link, self.id))

    def note_report(self) -> None:
        """Remembers that a report was written: seeds added later must say so (optional stopping)."""
        self._run(lambda link: studies.note_report(link, self.id))

    def delete(self) -> None:
        """Removes the study with all its results."""
        self._run(lambda link: studies.remove(link, self.id))

    def _prepared(self, connection: Connection, expired: bool) -> list[Group]:
        """How the slots stand once lost work is taken back and, after all tuning, the reruns have their settings.

        The last trial may be finished by another worker between two looks at the slots: what was seen when the reruns
        were left without settings must be what the choice is made from.
        """
        studies.lock(connection, self.id)
        take_back(connection, self.id, now(connection), expired)
        groups = queries.groups(connection, self.id, self.configurations)
        if tuning_unfinished(groups) or leases.settings_assigned(connection, self.id):
            return groups
        rerun_settings.assign_best_settings(connection, self.id, self.direction)
        return queries.groups(connection, self.id, self.configurations)

    def _run(self, work: Any) -> Any:
        result = run_with_retry(self.engine, work, self.retry_timeout, on_failure=self.health.failure)
        self.health.success()
        return result
