"""Enqueued settings become those of slots that have none, or are refused with a sentence."""

import logging
from collections.abc import Callable

from hpo.space import Setting, show_value
from hpo.storage.ledger import Ledger, Slot, Work
from hpo.storage.optuna.enqueued import Claim, Enqueued, claim, find_enqueued, note_refusal
from hpo.storage.optuna.mirror import Mirror, attributes_of
from hpo.storage.optuna.studies import study_name
from hpo.storage.optuna.trials import NewTrial
from hpo.trials import sampler_of

log = logging.getLogger(__name__)

Complete = Callable[[str, Slot, Setting], Setting]


class EnqueuedSettings:
    """The settings that people enqueue in the Optuna studies of one study."""

    def __init__(self, mirror: Mirror, on_refusal: Callable[[str], None]) -> None:
        """
        Args:
            on_refusal: called with a sentence for each setting that cannot be tried; its trial fails.
        """
        self.mirror, self.ledger, self._on_refusal = mirror, mirror.ledger, on_refusal

    def take(self, worker_id: str, work: Work, complete: Complete) -> Work:
        """The work, whose slots without a setting get the enqueued ones of their tuning runs, oldest first.

        The slots of the configuration's `first` settings get these.

        Args:
            complete: called with (configuration, slot, values), returns a whole setting with these values.
        """
        free: dict[int, list[Slot]] = {}
        entries = self.ledger.definition["configurations"]
        [first] = [entry.get("first", ()) for entry in entries if entry["name"] == work.configuration]
        for slot in work.slots:
            if slot.setting is None and work.phase == "tune" and slot.slot >= len(first):
                free.setdefault(slot.tuning_run, []).append(slot)
        if not free:
            return work
        names = [study_name(self.ledger.study, work.configuration, work.phase, tuning_run) for tuning_run in free]
        tuning_runs = dict(zip(self.mirror.studies.ids(names), free, strict=True))
        claims = []
        for enqueued in find_enqueued(self.mirror.engine, list(tuning_runs)):
            objection = self._objection(work.configuration, enqueued)
            slots = free[tuning_runs[enqueued.study]]
            if objection:
                self._refuse(enqueued, work.configuration, objection)
            elif slots:
                slot = slots.pop(0)
                setting = complete(work.configuration, slot, self._restricted(work.configuration, enqueued))
                claims.append(Claim(enqueued, slot, setting))
        return self._claim(worker_id, work, claims) if claims else work

    def refuse_rest(self) -> None:
        """Refuses the settings that no slot is left for, and those enqueued among the reruns."""
        is_open: dict[tuple[str, str, int], bool] = {}
        for row in self.ledger.groups():
            key = (row.configuration, row.phase, row.tuning_run)
            is_open[key] = is_open.get(key, False) or (row.phase == "tune" and row.open > row.interrupted)
        closed = [key for key in is_open if not is_open[key]]
        studies = self.mirror.studies.ids([study_name(self.ledger.study, *key) for key in closed])
        for enqueued in find_enqueued(self.mirror.engine, studies):
            configuration, phase, _ = closed[studies.index(enqueued.study)]
            reason = "all trials of its tuning run have begun; raise --trials and enqueue it again"
            if phase == "rerun":
                reason = "reruns have the best setting; enqueue it in the Optuna study of a tuning run"
            self._refuse(enqueued, configuration, reason)

    def _claim(self, worker_id: str, work: Work, claims: list[Claim]) -> Work:
        shared = {"configuration": work.configuration, "phase": work.phase, "device": self.mirror.device}
        new = {
            each.enqueued.trial: NewTrial(each.setting, attributes_of(each.slot._asdict() | shared)) for each in claims
        }
        distributions = self.mirror.distributions[work.configuration]
        taken = claim(self.ledger, worker_id, work.configuration, claims, new, distributions)
        changed = {each.slot.id: each.slot._replace(setting=each.setting, trial=each.enqueued.trial) for each in taken}
        return work.with_slots([changed.get(slot.id, slot) for slot in work.slots])

    def _objection(self, configuration: str, enqueued: Enqueued) -> str:
        if sampler_of(self.ledger.definition) == "grid":
            return "the study's grid says which settings are tried"
        return self.mirror.spaces[configuration].objection(enqueued.setting)

    def _restricted(self, configuration: str, enqueued: Enqueued) -> Setting:
        tuned = self.mirror.spaces[configuration].tuned
        return {name: tuned[name].restrict(value) for name, value in enqueued.setting.items()}

    def _refuse(self, enqueued: Enqueued, configuration: str, reason: str) -> None:
        values = ", ".join(f"{name} {show_value(value)}" for name, value in enqueued.setting.items()) or "no values"
        sentence = f"{configuration}: trial {enqueued.number} enqueued in Optuna ({values}) is refused, since {reason}"
        self.mirror.fail([enqueued.trial], sentence)
        note_refusal(self.ledger, sentence)
        self._on_refusal(sentence)


def refuse_enqueued(ledger: Ledger) -> list[str]:
    """Refuses what waits in the Optuna studies of a finished study; a sentence for each."""
    sentences: list[str] = []
    try:
        EnqueuedSettings(Mirror(ledger), sentences.append).refuse_rest()
    except Exception as error:  # Optuna's tables are for people to read: the study itself is finished
        log.warning("settings that were enqueued in Optuna could not be read (%s)", error)
    return sentences
