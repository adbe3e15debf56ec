"""The same as `tables` through what Optuna makes public: a trial at a time, for any version of its tables."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from hpo.storage.ledger import Ledger
from hpo.storage.optuna.tables import Discrepancies, NewTrial, TrialResult


class OptunaTrials:
    """Trials one by one. Slow: some 30 statements each."""

    def __init__(self, storage: RDBStorage, ledger: Ledger) -> None:
        self.storage, self.ledger = storage, ledger

    def studies(self, names: Sequence[str], attribute: str) -> dict[str, tuple[int, Any]]:
        """See `OptunaTables.studies`."""
        found = {}
        for name in names:
            with suppress(KeyError):
                study = self.storage.get_study_id_from_name(name)
                found[name] = (study, self.storage.get_study_user_attrs(study).get(attribute))
        return found

    def create(self, study: int, distributions: Mapping[str, BaseDistribution], shown: Sequence[NewTrial]) -> list[int]:
        """See `OptunaTables.create`."""
        templates = [
            create_trial(
                state=TrialState.RUNNING,
                params=dict(entry.setting),
                distributions={name: distributions[name] for name in entry.setting},
                user_attrs=dict(entry.attributes),
            )
            for entry in shown
        ]
        return [self.storage.create_new_trial(study, template) for template in templates]

    def end(self, endings: Sequence[TrialResult]) -> None:
        """See `OptunaTables.end`."""
        for ending in endings:
            with suppress(UpdateFinishedTrialError, KeyError):
                if ending.cause is not None:
                    self.storage.set_trial_user_attr(ending.trial, "cause", ending.cause)
                if ending.pruned is not None:
                    reported = math.nan if ending.value is None else ending.value
                    self.storage.set_trial_intermediate_value(ending.trial, ending.pruned, reported)
                values = None if ending.value is None else [ending.value]
                self.storage.set_trial_state_values(ending.trial, ending.state, values)

    def discrepancies(self, ledger: int, studies: Sequence[int]) -> Discrepancies:
        """See `OptunaTables.discrepancies`; it reads all there is."""
        assert ledger == self.ledger.id
        # Trials first: one that runs belongs to a lease that the rows, read later, know of.
        trials = [trial for study in studies for trial in self.storage.get_all_trials(study, deepcopy=False)]
        rows = {row["id"]: row for row in self.ledger.export()["slots"]}
        states = {trial._trial_id: trial.state for trial in trials}
        unfinished = [
            (trial._trial_id, trial.user_attrs.get("slot_id")) for trial in trials if not trial.state.is_finished()
        ]
        hidden = [
            row["id"]
            for row in rows.values()
            if row["state"] == "done"
            and (states.get(row["trial"]) is None or _hides(states[row["trial"]], row["value"]))
        ]
        return Discrepancies(unfinished, rows, hidden)


def _hides(state: TrialState, value: float | None) -> bool:
    return state == TrialState.FAIL and value is not None
