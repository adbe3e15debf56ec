"""Suggestions: the settings of a batch of trials, the same for every worker that trains a part of it."""

import hashlib
from collections.abc import Mapping

from hpo.errors import UsageError
from hpo.space import cmaes_generation, split_space
from hpo.storage.ledger import FinishedTrial, Ledger, Setting, Slot, Work
from hpo.trials import SEQUENCES, STARTUP_TRIALS, sampler_of
from hpo.worker.history import Batch, History, startup_batch
from hpo.worker.replay import MakeSampler, Replay, cmaes
from hpo.worker.sampler import sample
from hpo.worker.sequence import grid_replacement, sequence


class Suggestions:
    """Settings for slots that have none.

    The settings of a batch follow from the study, the configuration, the tuning run, the batch and the finished trials
    of earlier batches: a worker that trains a part of a batch samples the whole batch and takes its part.
    """

    def __init__(self, ledger: Ledger, make_sampler: MakeSampler | None = None) -> None:
        """
        Args:
            make_sampler: the study's sampler where it is a function of the user.

        Raises:
            UsageError: the function does not return a sampler of Optuna that follows from its seed.
        """
        self._ledger, self._sampler = ledger, ledger.definition.get("sampler", "tpe")
        self._kind = sampler_of(ledger.definition)
        self._make = cmaes if self._kind == "cmaes" else make_sampler
        entries = ledger.definition["configurations"]
        self._spaces = {entry["name"]: split_space(entry["space"]) for entry in entries}
        self._generations = {entry["name"]: cmaes_generation(entry["space"]) for entry in entries}
        self._history = History(ledger, self._spaces)
        self._given = {entry["name"]: dict(enumerate(entry.get("first", ()))) for entry in entries}
        self._cached: tuple[str, int] | None = None  # the configuration and batch of `_batches`
        self._batches: dict[int, dict[int, Setting]] = {}  # tuning run → slot → setting
        self._replays: dict[tuple[str, int], Replay] = {}
        if self._kind == "custom" and make_sampler:
            self._check_seeded(entries[0]["name"])

    def settings(self, work: Work) -> list[Setting]:
        """One setting for each slot of `work` without a setting, in order."""
        new_slots = [slot for slot in work.slots if slot.setting is None]
        if new_slots:
            self._sample_batches(work.configuration, new_slots)
        return [self._setting(work.configuration, slot) for slot in new_slots]

    def complete(self, configuration: str, slot: Slot, given: Setting) -> Setting:
        """A setting with these values, for a slot whose setting a person gives; the others are sampled."""
        name = f"{slot.slot}.given"
        return self._sample_one(configuration, slot, name, [], given)

    def _sample_batches(self, configuration: str, new_slots: list[Slot]) -> None:
        """Samples the batches of these slots that are not cached."""
        number = new_slots[0].batch
        if self._cached != (configuration, number):
            self._cached, self._batches = (configuration, number), {}
        missing = {slot.tuning_run for slot in new_slots} - self._batches.keys()
        if not missing:
            return
        learns_from_any = self._kind in ("tpe", "gp")
        # The same batch may be start-up trials of one tuning run only: both numbers can be raised at once.
        startup = {slot.tuning_run for slot in new_slots if learns_from_any and slot.slot < STARTUP_TRIALS} & missing
        batches = dict.fromkeys(startup, startup_batch())
        if missing != startup:
            batches |= self._history.read(configuration, missing - startup, number)
        for tuning_run, batch in batches.items():
            if learns_from_any:
                name = "startup" if tuning_run in startup else f"batch {number}"
                settings = self._model(configuration, tuning_run, name, batch)
            elif self._kind in SEQUENCES:
                settings = self._sequence(configuration, tuning_run, batch.slots)
            else:
                settings = self._replay(configuration, tuning_run, batch.finished, batch.slots)
            self._batches[tuning_run] = dict(zip(batch.slots, settings, strict=True))

    def _model(self, configuration: str, tuning_run: int, name: str, batch: Batch) -> list[Setting]:
        slots, seed = batch.slots, self._seed(configuration, tuning_run, name)
        given = {slot - slots.start: setting for slot, setting in self._given[configuration].items() if slot in slots}
        return self._sample(configuration, batch, [], len(slots), seed, self._kind, given)

    def _sample(
        self,
        configuration: str,
        batch: Batch,
        pending: list[Setting],
        count: int,
        seed: int,
        sampler: str,
        given: Mapping[int, Setting],
    ) -> list[Setting]:
        space, direction = self._spaces[configuration], self._ledger.direction
        return sample(space, batch.finished, pending, count, direction, seed, sampler, given, batch.observations)

    def _sequence(self, configuration: str, tuning_run: int, slots: range) -> list[Setting]:
        seed, space = self._seed(configuration, tuning_run, "sequence"), self._spaces[configuration]
        return sequence(self._sampler, space, slots.stop, seed, self._given[configuration])[slots.start :]

    def _replay(
        self, configuration: str, tuning_run: int, finished: list[FinishedTrial], slots: range
    ) -> list[Setting]:
        if not self._spaces[configuration].tuned:
            return [{} for _ in slots]
        key = (configuration, tuning_run)
        if key in self._replays:
            try:
                return self._replays[key].settings(finished, slots)
            except ValueError:  # another worker's part of an earlier batch
                pass
        self._replays[key] = self._new_replay(configuration, tuning_run)
        return self._replays[key].settings(finished, slots)

    def _new_replay(self, configuration: str, tuning_run: int) -> Replay:
        assert self._make is not None
        seed, generation = self._seed(configuration, tuning_run, "replay"), self._generations[configuration]
        given = self._given[configuration]
        return Replay(self._make, self._spaces[configuration], self._ledger.direction, seed, given, generation)

    def _check_seeded(self, configuration: str) -> None:
        try:
            first, second = (self._new_replay(configuration, 0).settings([], range(2)) for _ in range(2))
        except UsageError:
            raise
        except Exception as error:  # of Optuna's sampler or the user's
            text = " ".join(str(error).split()).rstrip(".")
            raise UsageError(
                f"sampler: the function's sampler chooses no setting of {configuration!r} "
                f"({type(error).__name__}: {text}); give another sampler, or hpo.grid({{…}}) for a grid"
            ) from error
        if first != second:
            raise UsageError("sampler: the function gives a sampler that ignores its seed; pass the seed on to it")

    def _setting(self, configuration: str, slot: Slot) -> Setting:
        batch = self._batches[slot.tuning_run]
        if not slot.replacements:
            return batch[slot.slot]
        name = f"{slot.slot}.{slot.replacements}"
        return self._sample_one(configuration, slot, name, list(batch.values()), {})

    def _sample_one(self, configuration: str, slot: Slot, name: str, batch: list[Setting], given: Setting) -> Setting:
        """A setting for one slot, in addition to those of its batch."""
        known, pending = startup_batch(), list[Setting]()
        seed = self._seed(configuration, slot.tuning_run, name)
        if self._kind == "grid" and not given:
            return grid_replacement(self._sampler, self._spaces[configuration], seed)
        sampler = self._kind if self._kind in ("tpe", "gp") else "random"
        if slot.slot >= STARTUP_TRIALS and sampler != "random":
            known = self._history.read(configuration, {slot.tuning_run}, slot.batch)[slot.tuning_run]
            pending = batch
        return self._sample(configuration, known, pending, 1, seed, sampler, {0: given})[0]

    def _seed(self, configuration: str, tuning_run: int, name: str) -> int:
        text = f"{self._ledger.sampling_digests[configuration]}/{configuration}/{tuning_run}/{name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
