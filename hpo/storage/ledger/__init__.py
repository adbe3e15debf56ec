"""A study's state in the database: a row for every trial and rerun, leased and finished once."""

from hpo.storage.ledger.ledger import Ledger
from hpo.storage.ledger.studies import load_study, names, open_study
from hpo.storage.ledger.worker_ids import new_worker_id
from hpo.trials import FinishedTrial, Outcome, Phase, Setting, Slot, TrialCurve, Work

__all__ = [
    "FinishedTrial",
    "Ledger",
    "Outcome",
    "Phase",
    "Setting",
    "Slot",
    "TrialCurve",
    "Work",
    "load_study",
    "names",
    "new_worker_id",
    "open_study",
]
