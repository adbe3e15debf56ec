"""The ledger shown as Optuna studies, for people, plain `optuna` and its dashboard; decides nothing."""

import atexit
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from hpo.search_space import split_space
from hpo.storage import database
from hpo.storage.database import configure_connections, engine_options, retry, run_with_retry
from hpo.storage.ledger import Ledger, Outcome, Work
from hpo.storage.ledger.queries import groups
from hpo.storage.locks import creation_lock
from hpo.storage.optuna import tables
from hpo.storage.optuna.public_api import OptunaTrials
from hpo.storage.optuna.tables import Discrepancies, NewTrial, OptunaTables, TrialResult
from hpo.trials import PRUNED

optuna.logging.set_verbosity(optuna.logging.WARNING)

RELEASED = "released"
OWNER = "hpo_study"  # the attribute of an Optuna study that holds the id of the study it shows


def open_storage(engine: Any, reading: bool = False) -> RDBStorage:
    """Optuna's storage in the database of `engine` (from `database.connect`), with the same pragmas.

    `reading`: it cannot change anything once it is open.
    """
    address = engine.url.render_as_string(hide_password=False)
    escaped = address.replace("{", "{{").replace("}", "}}")  # RDBStorage takes the URL for a template

    def build() -> RDBStorage:
        return RDBStorage(escaped, engine_kwargs=engine_options(engine.url))

    with ExitStack() as undo, creation_lock(engine, database.RETRY_TIMEOUT):
        storage = retry(build)
        undo.callback(storage.engine.dispose)  # connections made before `configure_connections` lack the pragmas
    configure_connections(storage.engine, reading)
    atexit.register(storage.engine.dispose)
    return storage


def study_name(study: str, configuration: str, phase: str, tuning_run: int = 0) -> str:
    """STUDY/CONFIGURATION/tune or …/rerun, with /r2 behind for the second tuning run."""
    return f"{study}/{configuration}/{phase}" + (f"/r{tuning_run + 1}" if tuning_run else "")


def report_name(study: str) -> str:
    """The Optuna study without trials whose note and plots sum up `study`."""
    return f"{study}/report"


def clear(engine: Any, study: str) -> None:
    """Deletes all Optuna studies that mirror `study`."""
    storage = open_storage(engine)
    for frozen in storage.get_all_studies():
        if frozen.study_name.startswith(f"{study}/") and OWNER in frozen.user_attrs:
            storage.delete_study(frozen._study_id)
    storage.engine.dispose()


class Mirror:
    """Writes one ledger's work into Optuna. Every method may fail without harm: `repair` makes up for it."""

    def __init__(self, ledger: Ledger, device: str = "") -> None:
        self.ledger = ledger
        self.device = device
        self._ids: dict[str, int] = {}
        self._distributions: dict[str, dict[str, BaseDistribution]] = {
            entry["name"]: {name: interval.distribution() for name, interval in split_space(entry["space"])[0].items()}
            for entry in ledger.definition["configurations"]
        }
        if tables.version(ledger.engine) is None:
            _ = self.storage  # makes Optuna's tables
        known = tables.version(ledger.engine) == tables.VERSION
        self.trials = OptunaTables(ledger.engine) if known else OptunaTrials(self.storage, ledger)

    @cached_property
    def storage(self) -> RDBStorage:
        """Optuna's storage, opened where it is needed: it takes time and connections of its own."""
        return open_storage(self.ledger.engine)

    def begin(self, worker_id: str, work: Work) -> Work:
        """Shows leased slots as RUNNING trials and notes their ids; trials of earlier attempts fail."""
        self.fail([slot.trial for slot in work.slots], "lost worker")
        place = {"configuration": work.configuration, "phase": work.phase}
        shown = self._show([slot._asdict() | place for slot in work.slots])
        self.ledger.note_trials(worker_id, shown)
        return work.only([slot._replace(trial=shown[slot.id]) for slot in work.slots])

    def finish(self, work: Work, outcomes: Iterable[Outcome]) -> None:
        """COMPLETE with its value, or PRUNED; a diverged run without a value is a FAIL."""
        trials = {slot.id: slot.trial for slot in work.slots}
        self._end([
            _ending(trials.get(outcome.id), outcome.value, outcome.cause, outcome.result) for outcome in outcomes
        ])  # fmt: skip

    def fail(self, trials: Sequence[int | None], cause: str) -> None:
        """FAIL with the cause as a user attribute."""
        self._end([_ending(trial, None, cause) for trial in trials])

    def repair(self) -> int:
        """Makes Optuna's tables agree with the ledger after a crash between the two.

        Trials of attempts that ended are closed; finished slots that are not shown get a trial. Safe to repeat,
        and to run while others work; where nothing is amiss, it is three reads.

        Returns:
            The number of changes made.
        """
        present = run_with_retry(
            self.ledger.engine, lambda link: groups(link, self.ledger.id, self.ledger.configurations)
        )
        names = [study_name(self.ledger.study, group.configuration, group.phase, group.tuning_run) for group in present]
        studies = self._studies(list(dict.fromkeys(names)))  # a tuning run has several batches
        if not any(self._changes(studies)):
            return 0
        with creation_lock(
            self.ledger.engine, database.RETRY_TIMEOUT
        ):  # two that repair at once would show a slot twice
            endings, hidden = self._changes(studies)
            self.trials.end(endings)
            shown = self._show(self._with_devices(hidden))
            self.ledger.note_repaired(shown)
            self._end([_ending(shown[row["id"]], row["value"], row["cause"], row["result"]) for row in hidden])
        return len(endings) + len(hidden)

    def report_study(self) -> int:
        """The id of the Optuna study that sums up this one; it is made where it is missing."""
        return self._studies([report_name(self.ledger.study)])[0]

    def close(self) -> None:
        """Gives up the connections of Optuna's storage, which comes back to life where it is needed again."""
        if "storage" in self.__dict__:
            self.storage.remove_session()
            self.storage.engine.dispose()

    def _changes(self, studies: Sequence[int]) -> tuple[list[TrialResult], list[Mapping[str, Any]]]:
        """What `repair` has to do: trials that must end, and rows of finished slots that must be shown."""
        found: Discrepancies = self.trials.discrepancies(self.ledger.id, studies)
        endings = []
        for trial, slot in found.unfinished:
            row = found.rows.get(-1 if slot is None else slot)
            if row and row["state"] == "done" and row["trial"] == trial:
                endings.append(_ending(trial, row["value"], row["cause"], row["result"]))
            elif not row or row["state"] != "leased":
                endings.append(_ending(trial, None, "lost worker"))
        return [entry for entry in endings if entry], [found.rows[slot] for slot in found.hidden]

    def _end(self, endings: Iterable[TrialResult | None]) -> None:
        known = [ending for ending in endings if ending]
        if known:
            self.trials.end(known)

    def _show(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, int]:
        """RUNNING trials for slots, given by their columns; slot id → trial id."""
        by_place: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
        for row in rows:
            by_place.setdefault((row["configuration"], row["phase"], row["tuning_run"]), []).append(row)
        found: dict[int, int] = {}
        for (configuration, phase, tuning_run), present in by_place.items():
            study = self._studies([study_name(self.ledger.study, configuration, phase, tuning_run)])[0]
            shown = [NewTrial(row["setting"] or {}, self._attributes(row)) for row in present]
            try:
                ids = self.trials.create(study, self._distributions[configuration], shown)
            except KeyError:
                self._ids.clear()  # somebody deleted it in Optuna: the next call makes it anew
                raise
            found |= {row["id"]: trial for row, trial in zip(present, ids, strict=True)}
        return found

    def _with_devices(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Finished slots with the device of whoever finished them, which need not be this process."""
        devices = {entry["worker_id"]: entry["device"] for entry in self.ledger.export()["workers"]} if rows else {}
        return [{**row, "device": devices.get(row["worker_id"], "")} for row in rows]

    def _attributes(self, row: Mapping[str, Any]) -> dict[str, Any]:
        shown = {"slot_id": row["id"], **{name: row[name] for name in ("slot", "seed", "attempt")}}
        device = row.get("device", self.device)
        return shown | ({"device": device} if device else {})

    def _studies(self, names: Sequence[str]) -> list[int]:
        """The ids of Optuna studies; those that are missing, or a deleted study's left-over, are made."""
        if unknown := [name for name in names if name not in self._ids]:
            self._ids |= self._present(unknown)
        if missing := [name for name in names if name not in self._ids]:
            _ = self.storage  # opened first: that takes the same lock
            with creation_lock(self.ledger.engine, database.RETRY_TIMEOUT):
                self._ids |= self._present(missing)
                self._ids |= {name: self._made(name) for name in missing if name not in self._ids}
            self.close()  # of no more use
        return [self._ids[name] for name in names]

    def _present(self, names: Sequence[str]) -> dict[str, int]:
        found = self.trials.studies(names, OWNER)
        return {name: study for name, (study, ledger) in found.items() if ledger == self.ledger.id}

    def _made(self, name: str) -> int:
        with suppress(KeyError):
            self.storage.delete_study(self.storage.get_study_id_from_name(name))  # of a study that is no more
        tuning = name.removeprefix(f"{self.ledger.study}/").split("/")[1:2] == ["tune"]
        up = not tuning or self.ledger.direction == "maximize"
        metric = self.ledger.definition["score"] if tuning else "test_accuracy"
        with suppress(DuplicatedStudyError):
            self.storage.create_new_study([StudyDirection.MAXIMIZE if up else StudyDirection.MINIMIZE], name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.load_study(study_name=name, storage=self.storage).set_metric_names([metric])
        found = self.storage.get_study_id_from_name(name)
        self.storage.set_study_user_attr(found, OWNER, self.ledger.id)  # last: it says that the study is complete
        return found


def _ending(
    trial: int | None, value: float | None, cause: str | None, result: Mapping[str, Any] | None = None
) -> TrialResult | None:
    """How a slot's trial ends, if there is one; a value that is not finite is none."""
    if trial is None:
        return None
    pruned = int((result or {}).get("epochs", 0)) if cause == PRUNED else None
    return TrialResult(trial, value if value is not None and math.isfinite(value) else None, cause, pruned)
