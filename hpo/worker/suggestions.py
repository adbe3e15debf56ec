"""Suggestions: which settings a batch of trials tries, whoever asks for it and however many ask for parts of it."""

import hashlib
from typing import NamedTuple

from hpo.search_space import split_space
from hpo.storage.ledger import FinishedTrial, Ledger, Setting, Slot, Work
from hpo.trials import STARTUP_TRIALS
from hpo.worker.sampler import sample


class Suggestions:
    """Settings for slots that have none.

    Those of a batch follow from the study, the configuration, the tuning run, the batch and the finished trials of the
    batches before it: whoever trains a part of a batch asks for the whole of it and takes what is its own.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        entries = ledger.definition["configurations"]
        self._ranges = {entry["name"]: split_space(entry["space"])[0] for entry in entries}
        self._present: tuple[str, int] | None = None  # the configuration and batch of `_batches`, by tuning run
        self._batches: dict[int, _Batch] = {}

    def settings(self, work: Work) -> list[Setting]:
        """One for each slot of `work` without a setting, in order."""
        fresh = [slot for slot in work.slots if slot.setting is None]
        if not fresh:
            return []
        self._prepare(work.configuration, fresh)
        return [self._setting(work.configuration, slot) for slot in fresh]

    def _prepare(self, configuration: str, fresh: list[Slot]) -> None:
        """Asks for the batches of these slots, unless the last ones that were asked for are the same."""
        number = fresh[0].batch
        if self._present != (configuration, number):
            self._present, self._batches = (configuration, number), {}
        missing = {slot.tuning_run for slot in fresh} - self._batches.keys()
        if fresh[0].slot < STARTUP_TRIALS:  # random: nothing is known that could be learned from
            for tuning_run in missing:
                self._batches[tuning_run] = _Batch(
                    0, self._sample(configuration, tuning_run, "startup", [], [], STARTUP_TRIALS)
                )
        elif missing:
            for tuning_run, (finished, slots) in self._ledger.finished_trials(configuration, missing, number).items():
                settings = self._sample(configuration, tuning_run, f"batch {number}", finished, [], len(slots))
                self._batches[tuning_run] = _Batch(slots.start, settings)

    def _setting(self, configuration: str, slot: Slot) -> Setting:
        batch = self._batches[slot.tuning_run]
        if not slot.replacements:
            return batch.settings[slot.slot - batch.first]
        key, finished, beside = f"{slot.slot}.{slot.replacements}", list[FinishedTrial](), list[Setting]()
        if slot.slot >= STARTUP_TRIALS:
            finished, _ = self._ledger.finished_trials(configuration, {slot.tuning_run}, slot.batch)[slot.tuning_run]
            beside = batch.settings
        return self._sample(configuration, slot.tuning_run, key, finished, beside, 1)[0]

    def _sample(
        self,
        configuration: str,
        tuning_run: int,
        key: str,
        finished: list[FinishedTrial],
        beside: list[Setting],
        count: int,
    ) -> list[Setting]:
        text = f"{self._ledger.digest}/{configuration}/{tuning_run}/{key}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        return sample(self._ranges[configuration], finished, beside, count, self._ledger.direction, seed)


class _Batch(NamedTuple):
    """One tuning run's batch: its first slot, and its settings by slot."""

    first: int
    settings: list[Setting]
