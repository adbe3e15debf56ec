"""Suggestions: the settings of a batch of trials, the same for every worker that trains a part of it."""

import hashlib
from collections.abc import Mapping

from hpo.space import split_space
from hpo.storage.ledger import FinishedTrial, Ledger, Setting, Slot, Work
from hpo.trials import STARTUP_TRIALS
from hpo.worker.sampler import sample


class Suggestions:
    """Settings for slots that have none.

    The settings of a batch follow from the study, the configuration, the tuning run, the batch and the finished trials
    of earlier batches: a worker that trains a part of a batch samples the whole batch and takes its part.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        entries = ledger.definition["configurations"]
        self._spaces = {entry["name"]: split_space(entry["space"]) for entry in entries}
        self._cached: tuple[str, int] | None = None  # the configuration and batch of `_batches`
        self._batches: dict[int, dict[int, Setting]] = {}  # tuning run → slot → setting

    def settings(self, work: Work) -> list[Setting]:
        """One setting for each slot of `work` without a setting, in order."""
        new_slots = [slot for slot in work.slots if slot.setting is None]
        if new_slots:
            self._sample_batches(work.configuration, new_slots)
        return [self._setting(work.configuration, slot) for slot in new_slots]

    def _sample_batches(self, configuration: str, new_slots: list[Slot]) -> None:
        """Samples the batches of these slots that are not cached."""
        number = new_slots[0].batch
        if self._cached != (configuration, number):
            self._cached, self._batches = (configuration, number), {}
        missing = {slot.tuning_run for slot in new_slots} - self._batches.keys()
        if not missing:
            return
        if new_slots[0].slot < STARTUP_TRIALS:
            name = "startup"
            batches: Mapping[int, tuple[list[FinishedTrial], range]]
            batches = dict.fromkeys(missing, ([], range(STARTUP_TRIALS)))
        else:
            name, batches = f"batch {number}", self._ledger.finished_trials(configuration, missing, number)
        for tuning_run, (finished, slots) in batches.items():
            settings = self._sample(configuration, tuning_run, name, finished, [], len(slots))
            self._batches[tuning_run] = dict(zip(slots, settings, strict=True))

    def _setting(self, configuration: str, slot: Slot) -> Setting:
        batch = self._batches[slot.tuning_run]
        if not slot.replacements:
            return batch[slot.slot]
        name, finished, pending = f"{slot.slot}.{slot.replacements}", list[FinishedTrial](), list[Setting]()
        if slot.slot >= STARTUP_TRIALS:
            finished, _ = self._ledger.finished_trials(configuration, {slot.tuning_run}, slot.batch)[slot.tuning_run]
            pending = list(batch.values())
        return self._sample(configuration, slot.tuning_run, name, finished, pending, 1)[0]

    def _sample(
        self,
        configuration: str,
        tuning_run: int,
        name: str,
        finished: list[FinishedTrial],
        pending: list[Setting],
        count: int,
    ) -> list[Setting]:
        text = f"{self._ledger.digest}/{configuration}/{tuning_run}/{name}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        return sample(self._spaces[configuration], finished, pending, count, self._ledger.direction, seed)
