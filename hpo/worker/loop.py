"""lease → sample → train a population → finish, until the study needs nothing more."""

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from hpo.errors import HpoError, UsageError
from hpo.storage.ledger import Ledger, Outcome, Work
from hpo.storage.optuna.mirror import RELEASED
from hpo.storage.optuna.safe_mirror import SafeMirror
from hpo.worker.lease_heartbeat import LeaseHeartbeat
from hpo.worker.signals import Stop, Stopped
from hpo.worker.suggestions import Suggestions

LEASE = 60.0  # seconds; renewed after a quarter of them
POLL = (0.05, 1.0)  # seconds between looks when others hold the rest: at first, and in the first 20 seconds
LOOKING = 0.01  # the largest share of its time that a waiting worker spends on looks

Train = Callable[[Work], Sequence[Outcome]]
Size = Callable[[], int]
Event = Callable[[str, dict[str, Any]], None]


def run_worker(
    ledger: Ledger,
    train: Train,
    worker_id: str,
    population: int | Size,
    on_event: Event | None = None,
    stop: Stop | None = None,
    device: str = "",
    lease: float = LEASE,
) -> None:
    """Works on a study until it is done.

    Args:
        train: trains the settings of one `Work` side by side and returns an `Outcome` for each slot.
        worker_id: a key from `new_worker_id()`.
        population: most slots trained at once; a function is asked before the first lease. Equal for all workers of a
            study, so that the same slots are trained side by side by whichever of them.
        on_event: told ("leased" | "finished" | "failed" | "released" | "waiting" | "mirror" | "population",
            details) as it happens.
        stop: signals to heed; by default SIGTERM, SIGINT and SIGUSR1 are caught while this runs.

    Raises:
        Stopped: a signal came; the work in hand was given back. It is a SystemExit of 128 + signal.
    """
    worker = _Worker(ledger, train, worker_id, population, on_event or _ignore, stop or Stop(), device, lease)
    with worker.stop.installed():
        worker.run()


class _Worker:
    def __init__(
        self,
        ledger: Ledger,
        train: Train,
        worker_id: str,
        population: int | Size,
        tell: Event,
        stop: Stop,
        device: str,
        lease: float,
    ) -> None:
        self.ledger, self.train, self.worker_id = ledger, train, worker_id
        self.population, self.tell = population, tell
        self.stop, self.lease = stop, lease
        self.held_by_memory: dict[str, int] = {}  # the most models at once, by configuration, where memory is short
        self.suggestions = Suggestions(ledger)
        self.heartbeat = LeaseHeartbeat(ledger, worker_id, lease)
        self.mirror = SafeMirror(ledger, worker_id, device, tell)

    def run(self) -> None:
        with self.heartbeat:
            try:
                self.mirror.repair()
                self._loop()
                self.mirror.repair()
            except HpoError as error:
                if not isinstance(error, UsageError):  # the database: it has been waited for
                    self.ledger.retry_timeout = 1.0
                raise
            finally:
                self.stop.close()
                self._give_back()

    def _loop(self) -> None:
        if not isinstance(self.population, int) and self.ledger.state() == "done":
            return  # before it is asked, for which the data are loaded
        size, waited = self._size(), 0.0
        while True:
            self.stop.check()
            work = self.ledger.lease(self.worker_id, size, self.lease)
            if work is None:
                if self.ledger.state() == "done":
                    return
                state, took = "wait", 0.0
                while state == "wait":  # a look takes no lock; a lease does
                    waited += self._sleep(waited, took)
                    start = time.monotonic()
                    state = self.ledger.state()
                    took = time.monotonic() - start
                if state == "done":
                    return
                continue
            waited = 0.0
            self.heartbeat.hold(work)
            work = self.ledger.assign(self.worker_id, work, self.suggestions.settings(work))
            work = self.mirror.begin(work)
            self.heartbeat.hold(work)
            self.tell("leased", {"work": work})
            self._train(work)
            self.heartbeat.hold(None)

    def _size(self) -> int:
        if isinstance(self.population, int):
            return self.population
        with self.stop.interruptible():
            return self.population()

    def _sleep(self, waited: float, took: float) -> float:
        """Pauses between looks, of which the last `took` so many seconds; returns the seconds of the pause.

        They grow, at last to a twentieth of the time `waited` so far; and faster where looks are slow, because many
        look: looking must not keep the database busy.
        """
        pause = max(POLL[0], min(took / LOOKING, waited), min(waited / 2, max(POLL[1], waited / 20)))
        pause = min(pause, self.lease / 4)  # contact must not seem broken by the waiting
        self.tell("waiting", {"seconds": pause})
        with self.stop.interruptible():
            time.sleep(pause)
        return pause

    def _train(self, work: Work) -> None:
        """Trains and stores, in parts of what memory is known to hold."""
        done = 0
        while done < len(work.slots):
            self.stop.check()
            most = self.held_by_memory.get(work.configuration, len(work.slots))
            part = work.with_slots(work.slots[done : done + most])
            if self._train_together(part):
                done += len(part.slots)

    def _train_together(self, work: Work) -> bool:
        """False if memory does not hold so many; who fails otherwise is tried again alone, to find the culprit."""
        failure = None
        outcomes: Sequence[Outcome] = ()
        try:
            with self.stop.interruptible():
                outcomes = self.train(work)
        except HpoError:
            raise  # a failure with a known mend is no fault of the setting: work is given back, the person told
        except Exception as error:
            failure = (_cause(error), traceback.format_exc())
        # The exception is forgotten here: its frames would keep the population's memory while its parts train.
        if failure is None:
            self._finish(work, outcomes)
            return True
        cause, message = failure
        if len(work.slots) == 1:
            self._fail(work, cause, message)
        elif cause == "out of memory":
            self.held_by_memory[work.configuration] = size = len(work.slots) // 2
            self.tell("population", {"configuration": work.configuration, "size": size})
            return False
        else:
            for slot in work.slots:
                self.stop.check()
                self._train_together(work.with_slots([slot]))
        return True

    def _finish(self, work: Work, outcomes: Sequence[Outcome]) -> None:
        counted = set(self.ledger.finish(self.worker_id, outcomes))
        kept = [outcome for outcome in outcomes if outcome.id in counted]
        self.mirror.finish(work, kept)
        returned = {outcome.id for outcome in outcomes}
        self.mirror.fail([slot.trial for slot in work.slots if slot.id in returned - counted], "lost worker")
        self.tell("finished", {"work": work, "outcomes": kept})
        missing = [slot for slot in work.slots if slot.id not in returned]
        if missing:
            self._fail(work.with_slots(missing), "exception", "training returned no outcome for this slot")

    def _fail(self, work: Work, cause: str, message: str) -> None:
        self.ledger.fail(self.worker_id, work.slots, cause, message)
        self.mirror.fail([slot.trial for slot in work.slots], cause)
        self.tell("failed", {"work": work, "cause": cause, "message": message})

    def _give_back(self) -> None:
        """Whatever is still held, known here or not: a signal may have come right after a lease."""
        held, released = self.heartbeat.work, []
        with suppress(HpoError):  # the database is away: the lease runs out by itself
            released = self.ledger.release(self.worker_id)
        if released:
            trials = {slot.id: slot.trial for slot in held.slots} if held else {}
            self.mirror.fail([trials.get(slot) for slot in released], RELEASED)
            self.tell("released", {"ids": released})


def _cause(error: Exception) -> str:
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"}:
        return "out of memory"
    return "timeout" if "TimeoutError" in names else "exception"


def _ignore(_kind: str, _details: dict[str, Any]) -> None:
    return None


__all__ = ["Stop", "Stopped", "run_worker"]
