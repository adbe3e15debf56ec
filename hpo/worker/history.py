"""The finished trials of a study's tuning runs in a worker: each is read from the database once."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from hpo.space import Space
from hpo.storage.ledger import FinishedTrial, Ledger
from hpo.trials import STARTUP_TRIALS
from hpo.worker.observations import Observations
from hpo.worker.sampler import distributions_of


class Batch(NamedTuple):
    """What a sampler needs for a batch.

    Attributes:
        number, slots: of the batch. finished: the finished trials of the batches before it, by slot.
        observations: the same as arrays, unless there are none.
    """

    number: int
    slots: range
    finished: list[FinishedTrial]
    observations: Observations | None


def startup_batch() -> Batch:
    """The batch before which there are no trials."""
    return Batch(0, range(STARTUP_TRIALS), [], None)


class History:
    """Reads finished trials; batches that are finished do not change and are kept."""

    def __init__(self, ledger: Ledger, spaces: Mapping[str, Space]) -> None:
        self._ledger, self._spaces = ledger, spaces
        self._kept: dict[tuple[str, int], Batch] = {}

    def read(self, configuration: str, tuning_runs: Collection[int], number: int) -> dict[int, Batch]:
        """What a sampler needs for a batch of each tuning run."""
        kept = {run: self._kept_before(configuration, run, number) for run in tuning_runs}
        since = min(batch.number for batch in kept.values())
        found = self._ledger.finished_trials(configuration, tuning_runs, number, since)
        batches = {}
        for run, (trials, slots) in found.items():
            new = [trial for trial in trials if trial.batch >= kept[run].number]
            observations = kept[run].observations or Observations(distributions_of(self._spaces[configuration]))
            observations.extend(new)
            batches[run] = batch = Batch(number, slots, kept[run].finished + new, observations)
            self._kept.pop((configuration, run), None)
            if len(batch.finished) == slots.start:  # else one of the slots before it failed, and may be opened again
                self._kept[configuration, run] = batch
        return batches

    def _kept_before(self, configuration: str, run: int, number: int) -> Batch:
        kept = self._kept.get((configuration, run))
        return kept if kept and kept.number <= number else startup_batch()
