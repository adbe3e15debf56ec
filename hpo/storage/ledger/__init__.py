"""The truth about a study's work: a row for every trial and rerun, leased and finished once."""

from hpo.storage.ledger.ledger import Ledger, load_study, open_study
from hpo.storage.ledger.studies import names
from hpo.storage.ledger.worker_ids import new_owner
from hpo.trials import Outcome, Past, Phase, Setting, Slot, Tried, Work

__all__ = [
    "Ledger",
    "Outcome",
    "Past",
    "Phase",
    "Setting",
    "Slot",
    "Tried",
    "Work",
    "load_study",
    "names",
    "new_owner",
    "open_study",
]
