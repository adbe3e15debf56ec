"""The mirror as a worker uses it: it may fail, work may not."""

from collections.abc import Callable, Sequence
from typing import Any

from hpo.storage.ledger import Ledger, Outcome, Work
from hpo.storage.optuna.mirror import Mirror

Event = Callable[[str, dict[str, Any]], None]


class SafeMirror:
    """A mirror whose failures are told once and stop nothing: the ledger is the truth, `repair` catches up."""

    def __init__(self, ledger: Ledger, worker_id: str, device: str, tell: Event) -> None:
        self.worker_id, self.tell = worker_id, tell
        self._told = False
        self._mirror: Mirror | None = None
        self._make = lambda: Mirror(ledger, device)

    def repair(self) -> None:
        self._try(lambda mirror: mirror.repair())

    def begin(self, work: Work) -> Work:
        """The work with its trials' ids; without any where they could not be shown, for the old ones are over."""
        shown = self._try(lambda mirror: mirror.begin(self.worker_id, work))
        return shown or work.only([slot._replace(trial=None) for slot in work.slots])

    def finish(self, work: Work, outcomes: Sequence[Outcome]) -> None:
        self._try(lambda mirror: mirror.finish(work, outcomes))

    def fail(self, trials: Sequence[int | None], cause: str) -> None:
        self._try(lambda mirror: mirror.fail(trials, cause))

    def close(self) -> None:
        if self._mirror is not None:
            self._try(lambda mirror: mirror.close())

    def _try(self, action: Callable[[Mirror], Any]) -> Any:
        try:
            if self._mirror is None:
                self._mirror = self._make()
            return action(self._mirror)
        except Exception as error:
            if not self._told:
                self.tell("mirror", {"error": error})
            self._told = True
            return None
