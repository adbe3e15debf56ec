"""The ledger shown as Optuna studies, for people, plain `optuna` and its dashboard; decides nothing."""

import atexit
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.database import again, creation_lock, engine_options, listen
from hpo.ledger import Ledger, Outcome, Work
from hpo.space import Range, split_space

optuna.logging.set_verbosity(optuna.logging.WARNING)

RELEASED = "released"


def open_storage(engine: Any, reading: bool = False) -> RDBStorage:
    """Optuna's storage in the database of `engine` (from `database.connect`), with the same pragmas.

    `reading`: it cannot change anything once it is open.
    """
    address = engine.url.render_as_string(hide_password=False)
    escaped = address.replace("{", "{{").replace("}", "}}")  # RDBStorage takes the URL for a template

    def build() -> RDBStorage:
        return RDBStorage(escaped, engine_kwargs=engine_options(engine.url))

    with creation_lock(engine):
        storage = again(build)
    listen(storage.engine, reading)
    atexit.register(storage.engine.dispose)
    storage.engine.dispose()  # connections made before `listen` lack the pragmas
    return storage


def study_name(study: str, configuration: str, phase: str, repeat: int = 0) -> str:
    """STUDY/CONFIGURATION/tune or …/rerun, with /r2 behind for the second tuning repeat."""
    return f"{study}/{configuration}/{phase}" + (f"/r{repeat + 1}" if repeat else "")


def clear(engine: Any, study: str) -> None:
    """Deletes all Optuna studies that mirror `study`."""
    storage = open_storage(engine)
    for frozen in storage.get_all_studies():
        if frozen.study_name.startswith(f"{study}/") and "hpo_study" in frozen.user_attrs:
            storage.delete_study(frozen._study_id)
    storage.engine.dispose()


class Mirror:
    """Writes one ledger's work into Optuna. Every method may fail without harm: `repair` makes up for it."""

    def __init__(self, ledger: Ledger, device: str = "") -> None:
        self.ledger = ledger
        self.device = device
        self.storage = open_storage(ledger.engine)
        self._ids: dict[str, int] = {}
        self._ranges: dict[str, dict[str, Range]] = {
            entry["name"]: split_space(entry["space"])[0] for entry in ledger.definition["configurations"]
        }

    def begin(self, owner: str, work: Work) -> Work:
        """Shows leased slots as RUNNING trials and notes their ids; trials of earlier attempts fail."""
        slots = []
        for slot in work.slots:
            if slot.trial is not None:
                self.end(slot.trial, None, "lost worker")
            trial = self._show(work.configuration, work.phase, slot._asdict())
            slots.append(slot._replace(trial=trial))
        self.ledger.note_trials(owner, {slot.id: slot.trial for slot in slots if slot.trial is not None})
        return work.only(slots)

    def finish(self, work: Work, outcomes: Iterable[Outcome]) -> None:
        """COMPLETE with its value; a diverged run without a value is a FAIL."""
        trials = {slot.id: slot.trial for slot in work.slots}
        for outcome in outcomes:
            trial = trials.get(outcome.id)
            if trial is not None:
                self.end(trial, outcome.value, outcome.cause)

    def fail(self, trials: Sequence[int | None], cause: str) -> None:
        """FAIL with the cause as a user attribute."""
        for trial in trials:
            if trial is not None:
                self.end(trial, None, cause)

    def end(self, trial: int, value: float | None, cause: str | None) -> None:
        """Closes a trial; one that is closed already, or deleted, stays as it is."""
        with suppress(UpdateFinishedTrialError, KeyError):
            if cause is not None:
                self.storage.set_trial_user_attr(trial, "cause", cause)
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            self.storage.set_trial_state_values(trial, state, None if value is None else [value])

    def repair(self) -> int:
        """Makes Optuna's tables agree with the ledger after a crash between the two.

        Trials of attempts that ended are closed; finished slots that are not shown get a trial. Safe to repeat,
        and to run while others work.

        Returns:
            The number of changes made.
        """
        names = {self._name(row) for row in self.ledger.export()["slots"]}
        studies = [self._study(name) for name in sorted(names)]
        with creation_lock(self.ledger.engine):  # two that repair at once would show a slot twice
            # Trials first: whatever is RUNNING here belongs to a lease that the rows, read later, know of.
            trials = [trial for study in studies for trial in self.storage.get_all_trials(study, deepcopy=False)]
            rows = {row["id"]: row for row in self.ledger.export()["slots"]}
            changes = sum(self._close(trial, rows.get(trial.user_attrs.get("slot_id", -1))) for trial in trials)
            states = {trial._trial_id: trial.state for trial in trials}
            return changes + sum(self._complete(row, states) for row in rows.values() if row["state"] == "done")

    def _close(self, trial: FrozenTrial, row: Mapping[str, Any] | None) -> bool:
        """Ends a trial that is RUNNING although its attempt is over."""
        if trial.state.is_finished() or (row and row["state"] == "leased"):
            return False
        if row and row["state"] == "done" and row["trial"] == trial._trial_id:
            self.end(trial._trial_id, row["value"], row["cause"])
        else:
            self.end(trial._trial_id, None, "lost worker")
        return True

    def _complete(self, row: Mapping[str, Any], states: Mapping[int, TrialState]) -> bool:
        """Shows a finished slot whose trial was never made, or was closed as failed before the result came."""
        with suppress(KeyError):
            if row["trial"] is not None:
                state = states.get(row["trial"]) or self.storage.get_trial(row["trial"]).state
                if state != TrialState.FAIL or row["value"] is None:
                    return False
        trial = self._show(row["configuration"], row["phase"], row)
        self.ledger.note_repaired(row["id"], trial)
        self.end(trial, row["value"], row["cause"])
        return True

    def close(self) -> None:
        self.storage.remove_session()
        self.storage.engine.dispose()

    def _show(self, configuration: str, phase: str, slot: Mapping[str, Any]) -> int:
        """A RUNNING trial for a slot; returns its id."""
        setting = slot["setting"] or {}
        ranges = self._ranges[configuration]
        attributes = {
            "slot_id": slot["id"],
            "slot": slot["slot"],
            "seed": slot["seed"],
            "attempt": slot["attempt"],
        }
        template = create_trial(
            state=TrialState.RUNNING,
            params=setting,
            distributions=dict[str, BaseDistribution]({name: ranges[name].distribution() for name in setting}),
            user_attrs=attributes | ({"device": self.device} if self.device else {}),
        )
        name = study_name(self.ledger.study, configuration, phase, slot["repeat"])
        return self.storage.create_new_trial(self._study(name), template)

    def _name(self, row: Mapping[str, Any]) -> str:
        return study_name(self.ledger.study, row["configuration"], row["phase"], row["repeat"])

    def _study(self, name: str) -> int:
        """The id of an Optuna study of that name; made where it is missing or a deleted study's left-over."""
        if name not in self._ids:
            with creation_lock(self.ledger.engine):
                self._ids[name] = self._found(name) or self._made(name)
        return self._ids[name]

    def _found(self, name: str) -> int | None:
        try:
            study = self.storage.get_study_id_from_name(name)
        except KeyError:
            return None
        if self.storage.get_study_user_attrs(study).get("hpo_study") == self.ledger.id:
            return study
        self.storage.delete_study(study)
        return None

    def _made(self, name: str) -> int:
        rerun = name.removeprefix(f"{self.ledger.study}/").split("/")[1] == "rerun"
        up = rerun or self.ledger.direction == "maximize"
        metric = "test_accuracy" if rerun else self.ledger.definition["score"]
        with suppress(DuplicatedStudyError):
            self.storage.create_new_study([StudyDirection.MAXIMIZE if up else StudyDirection.MINIMIZE], name)
        found = self.storage.get_study_id_from_name(name)
        self.storage.set_study_user_attr(found, "hpo_study", self.ledger.id)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.load_study(study_name=name, storage=self.storage).set_metric_names([metric])
        return found
