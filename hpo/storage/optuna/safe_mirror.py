"""The mirror as a worker uses it: it may fail, training may not."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from hpo.storage.ledger import Ledger, Outcome, Work
from hpo.storage.optuna.enqueued_settings import Complete, EnqueuedSettings
from hpo.storage.optuna.mirror import Mirror

Event = Callable[[str, dict[str, Any]], None]


class SafeMirror:
    """A mirror whose first failure is reported and whose failures stop nothing: `Mirror.repair` catches up."""

    def __init__(self, ledger: Ledger, worker_id: str, device: str, on_event: Event, curves: bool = True) -> None:
        """device, curves: see `Mirror`."""
        self.ledger, self.worker_id, self.device, self.on_event = ledger, worker_id, device, on_event
        self._curves = curves
        self._reported = False
        self._mirror: Mirror | None = None

    def repair(self) -> None:
        """Makes Optuna's tables agree with the ledger, and refuses enqueued settings that no trial is left for."""
        self._try(lambda mirror: mirror.repair())
        self._try(lambda mirror: EnqueuedSettings(mirror, self._refused).refuse_rest())

    def take_enqueued(self, work: Work, complete: Complete) -> Work:
        """The work with the settings that people have enqueued in Optuna; see `EnqueuedSettings.take`."""
        taken = self._try(lambda mirror: EnqueuedSettings(mirror, self._refused).take(self.worker_id, work, complete))
        return taken or work

    def begin(self, work: Work) -> Work:
        """The work with the ids of its new trials; without any if they could not be created: the old ones are over."""
        shown = self._try(lambda mirror: mirror.begin(self.worker_id, work))
        return shown or work.with_slots([slot._replace(trial=None) for slot in work.slots])

    def finish(self, work: Work, outcomes: Sequence[Outcome]) -> None:
        self._try(lambda mirror: mirror.finish(work, outcomes))

    def release(self, released: Collection[int]) -> None:
        self._try(lambda mirror: mirror.release(released))

    def fail(self, trials: Sequence[int | None], cause: str) -> None:
        self._try(lambda mirror: mirror.fail(trials, cause))

    def _refused(self, sentence: str) -> None:
        self.on_event("refused", {"text": sentence})

    def _try(self, action: Callable[[Mirror], Any]) -> Any:
        try:
            self._mirror = self._mirror or Mirror(self.ledger, self.device, self._curves)
            return action(self._mirror)
        except Exception as error:
            if not self._reported:
                self.on_event("mirror", {"error": error})
            self._reported = True
            return None
