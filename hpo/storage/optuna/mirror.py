"""The ledger shown as Optuna studies, for people, plain Optuna and its dashboard; no decision depends on it."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution

from hpo.space import split_space
from hpo.storage.curves import read_metric
from hpo.storage.ledger import Ledger, Outcome, Work
from hpo.storage.ledger.lost_workers import LOST
from hpo.storage.locks import creation_lock
from hpo.storage.optuna.curves import points
from hpo.storage.optuna.discrepancies import find_discrepancies
from hpo.storage.optuna.studies import OptunaStudies, create_tables, report_name, study_name
from hpo.storage.optuna.trials import (
    NewTrial,
    TrialResult,
    create_trials,
    end_trials,
    pause_trials,
    resume_trials,
)
from hpo.storage.transactions import run_with_retry
from hpo.trials import PRUNED


class Mirror:
    """Writes one study's work into Optuna. Every method may fail without harm: `repair` makes up for it.

    Raises:
        HpoError: the database's tables of Optuna have another version than hpo can write.
    """

    def __init__(self, ledger: Ledger, device: str = "", curves: bool = True) -> None:
        """device: of the trials that begin. curves: whether trials that end get their score by epoch."""
        self.ledger, self.engine, self.device, self.curves = ledger, ledger.engine, device, curves
        self.studies = OptunaStudies(ledger)
        self.spaces = {entry["name"]: split_space(entry["space"]) for entry in ledger.definition["configurations"]}
        self.distributions: dict[str, dict[str, BaseDistribution]] = {
            configuration: {name: bounds.distribution() for name, bounds in space.tuned.items()}
            for configuration, space in self.spaces.items()
        }
        create_tables(self.engine)

    def begin(self, worker_id: str, work: Work) -> Work:
        """Every leased slot has a RUNNING trial: that of a worker that released it or was lost, or a new one."""
        shared = {"configuration": work.configuration, "phase": work.phase, "device": self.device}
        rows = [slot._asdict() | shared for slot in work.slots]
        earlier = {row["trial"]: row for row in rows if row["trial"] is not None}
        trials_by_id = {trial: NewTrial(row["setting"] or {}, attributes_of(row)) for trial, row in earlier.items()}
        resumed = resume_trials(self.engine, self.distributions[work.configuration], trials_by_id)
        self.fail(list(earlier.keys() - resumed), LOST)
        trials = self._create([row for row in rows if row["trial"] not in resumed])
        self.ledger.note_trials(worker_id, trials)
        trials |= {earlier[trial]["id"]: trial for trial in resumed}
        return work.with_slots([slot._replace(trial=trials[slot.id]) for slot in work.slots])

    def finish(self, work: Work, outcomes: Iterable[Outcome]) -> None:
        """COMPLETE with its value, or PRUNED; a run that diverged without a value is a FAIL."""
        trials = {slot.id: slot.trial for slot in work.slots}
        score = self.ledger.definition["score"]
        end_trials(self.engine, [
            _result(
                *(trials.get(outcome.id), outcome.value, outcome.cause, outcome.result),
                outcome.curves.get(score, ()) if self.curves else (),
            )
            for outcome in outcomes
        ])  # fmt: skip

    def fail(self, trials: Sequence[int | None], cause: str) -> None:
        """FAIL with the cause as a user attribute."""
        end_trials(self.engine, [TrialResult(trial, None, cause) for trial in trials])

    def release(self, released: Collection[int]) -> None:
        """WAITING for the trials of released slots (ids) that no other worker has leased meanwhile."""
        pause_trials(self.engine, released)

    def repair(self) -> int:
        """Makes Optuna's tables agree with the ledger after a crash between the two.

        Trials of attempts that ended are closed, those of slots that wait for a worker are WAITING; finished slots
        that no trial shows get one. It may be repeated, and run while others work; where there is nothing to repair,
        it takes three reads.

        Returns:
            The number of changes.
        """
        rows = self.ledger.groups()
        names = (study_name(self.ledger.study, row.configuration, row.phase, row.tuning_run) for row in rows)
        studies = self.studies.ids(list(dict.fromkeys(names)))  # a tuning run has several batches
        if not any(self._find_repairs(studies)):
            return 0
        with creation_lock(self.engine):  # two repairs at once would show a slot twice
            results, released, hidden = self._find_repairs(studies)
            curves = self._read_curves([row["id"] for row in hidden])
            end_trials(self.engine, results)
            pause_trials(self.engine, released)
            trials = self._create(self._with_devices(hidden))
            # If this process has been stopped for so long that it lost the lock, another one may have shown them.
            shown = self.ledger.note_repaired({row["id"]: (row["trial"], trials[row["id"]]) for row in hidden})
            end_trials(self.engine, [
                _result_of_row(row | {"trial": trials[row["id"]]}, curves)
                if row["id"] in shown
                else TrialResult(trials[row["id"]], None, LOST)
                for row in hidden
            ])  # fmt: skip
        return len(results) + len(released) + len(hidden)

    def report_study(self) -> int:
        """The id of the Optuna study that summarises this one; it is created if it is missing."""
        return self.studies.ids([report_name(self.ledger.study)])[0]

    def _find_repairs(self, studies: Sequence[int]) -> tuple[list[TrialResult], list[int], list[dict[str, Any]]]:
        """The results of trials that must end, the slots whose trials wait, the finished slots that must be shown."""
        unfinished, hidden, rows = find_discrepancies(self.engine, self.ledger.id, self.ledger.configurations, studies)
        results, released, done = [], [], []
        for trial, is_running, slot in unfinished:
            if slot is None and not is_running:
                continue  # a setting that a person enqueued
            row = rows.get(-1 if slot is None else slot, {})
            state = row["state"] if row.get("trial") == trial else "another trial's"
            if state == "done":
                done.append(row)
            elif state == "open":
                released += [row["id"]] if is_running else []
            elif row.get("state") != "leased":
                results.append(TrialResult(trial, None, LOST))
        curves = self._read_curves([row["id"] for row in done])
        results += [_result_of_row(row, curves) for row in done]
        return results, released, [rows[slot] for slot in hidden]

    def _read_curves(self, ids: Sequence[int]) -> dict[int, list[float]]:
        """Slot id → score by epoch, of finished slots."""
        if not self.curves or not ids:
            return {}
        score = self.ledger.definition["score"]
        return run_with_retry(self.engine, lambda connection: read_metric(connection, ids, score))

    def _create(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, int]:
        """Creates RUNNING trials for slots, given by their columns and device; slot id → trial id."""
        by_study: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
        for row in rows:
            by_study.setdefault((row["configuration"], row["phase"], row["tuning_run"]), []).append(row)
        trials: dict[int, int] = {}
        for (configuration, phase, tuning_run), present in by_study.items():
            [study] = self.studies.ids([study_name(self.ledger.study, configuration, phase, tuning_run)])
            new = [NewTrial(row["setting"] or {}, attributes_of(row)) for row in present]
            try:
                ids = create_trials(self.engine, study, self.distributions[configuration], new)
            except KeyError:
                self.studies.forget()
                raise
            trials |= {row["id"]: trial for row, trial in zip(present, ids, strict=True)}
        return trials

    def _with_devices(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Finished slots with the device of the worker that finished them, which may be another process."""
        devices = {entry["worker_id"]: entry["device"] for entry in self.ledger.export()["workers"]} if rows else {}
        return [row | {"device": devices.get(row["worker_id"], "")} for row in rows]


def attributes_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The user attributes of a slot's trial, by its columns and device; `number` counts from 1, as in reports."""
    device = {"device": row["device"]} if row["device"] else {}
    shown = {"number": row["slot"] + 1, "seed": row["seed"], "attempt": row["attempt"]}
    return {"slot_id": row["id"], **shown, **device}


def _result_of_row(row: Mapping[str, Any], curves: Mapping[int, Sequence[float]]) -> TrialResult:
    return _result(row["trial"], row["value"], row["cause"], row["result"], curves.get(row["id"], ()))


def _result(
    trial: int | None,
    value: float | None,
    cause: str | None,
    result: Mapping[str, Any] | None,
    curve: Sequence[float],
) -> TrialResult:
    """How the trial of a finished slot ends; a value that is not finite counts as none."""
    epoch = int((result or {}).get("epochs", 0)) if cause == PRUNED else None
    finite = value if value is not None and math.isfinite(value) else None
    return TrialResult(trial, finite, cause, epoch, points(curve))
