"""The worker's loop: lease → sample settings → train a population → finish, until the study is done."""

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hpo.errors import HpoError, UsageError, plural
from hpo.storage.ledger import Ledger, Outcome, Work
from hpo.storage.ledger.stored_study import LEASE
from hpo.storage.optuna.safe_mirror import SafeMirror
from hpo.worker.lease_heartbeat import LeaseHeartbeat
from hpo.worker.replay import MakeSampler
from hpo.worker.signals import Stop, Stopped
from hpo.worker.suggestions import Suggestions

RELEASE_TIMEOUT = 1.0  # seconds for which a release is retried
POLL = (0.05, 1.0)  # seconds between two polls of a waiting worker: at first, and at most in its first 20 seconds
POLLING_SHARE = 0.01  # the largest share of its time that a waiting worker spends on polls

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
    make_sampler: MakeSampler | None = None,
    live_curves: bool = True,
    populations: int = 1,
    on_done: Callable[[], None] | None = None,
) -> None:
    """Works on a study until it is done.

    Args:
        train: trains the settings of one `Work` side by side and returns an `Outcome` for each slot.
        worker_id: a key from `new_worker_id()`.
        population: the largest number of slots trained at once; a function is called before the first lease. It must
            be the same for all workers of a study, so that the same slots are trained side by side by any of them.
        on_event: called with ("leased" | "finished" | "failed" | "released" | "waiting" | "mirror" | "population"
            | "refused", details).
        stop: the signals to handle; by default SIGTERM, SIGINT, SIGUSR1 and SIGALRM.
        make_sampler: the study's sampler where it is a function of the user.
        live_curves: whether Optuna's trials get the score of every epoch.
        populations: into which the reruns of a configuration are cut at least, so that as many workers can share
            them. The same for all workers of a study.
        on_done: called in the worker that has finished the study's last slots.

    Raises:
        Stopped: after a signal, when the leased slots are released. It is a SystemExit of 128 + signal.
    """
    suggestions = Suggestions(ledger, make_sampler)
    settings = (on_event or _ignore, stop or Stop(), device, lease, live_curves, populations, on_done)
    worker = _Worker(ledger, train, worker_id, population, suggestions, *settings)
    with worker.stop.installed():
        worker.run()


@dataclass
class _Worker:
    ledger: Ledger
    train: Train
    worker_id: str
    population: int | Size
    suggestions: Suggestions
    on_event: Event
    stop: Stop
    device: str
    lease: float
    live_curves: bool
    populations: int
    on_done: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self.memory_limits: dict[str, int] = {}  # configuration → slots that fit into memory at once
        self.released = False  # by the main thread, before it updates Optuna's tables
        self.heartbeat = LeaseHeartbeat(self.ledger, self.worker_id, self.lease)
        self.mirror = SafeMirror(self.ledger, self.worker_id, self.device, self.on_event, self.live_curves)
        self.stop.last_resort, self.stop.unreleased = self._last_resort, self._unreleased

    def run(self) -> None:
        stopped = None
        with self.heartbeat:
            try:
                self.mirror.repair()
                finished_last = self._loop()
                self.mirror.repair()
                if finished_last and self.on_done:
                    with self.stop.interruptible():
                        self.on_done()
            except Stopped as error:
                stopped, self.ledger.retry_timeout = error, RELEASE_TIMEOUT
                raise
            except HpoError as error:
                if not isinstance(error, UsageError):  # from the database, after retries for the whole time
                    self.ledger.retry_timeout = RELEASE_TIMEOUT
                raise
            finally:
                self.stop.close()
                unreleased = self._release()
                if stopped:
                    stopped.unreleased = unreleased

    def _loop(self) -> bool:
        """Works until the study is done; returns whether this worker has finished its last slots."""
        if not isinstance(self.population, int) and self.ledger.state() == "done":
            return False  # calling `population` would load the data
        size, waited, trained = self._size(), 0.0, False
        while True:
            self.stop.check()
            work = self.ledger.lease(self.worker_id, size, self.lease, self.populations)
            if work is not None:
                waited, trained = 0.0, True
                self._process(work)
                continue
            state, waited = self._wait(waited)
            if state == "done":
                return trained and waited == 0.0

    def _size(self) -> int:
        if isinstance(self.population, int):
            return self.population
        with self.stop.interruptible():
            return self.population()

    def _wait(self, waited: float) -> tuple[str, float]:
        """Polls until the study is done or may have slots to lease: a poll takes no lock, a lease does.

        Returns:
            (the study's state, the seconds waited since this worker's last lease).
        """
        state = self.ledger.state()
        if state == "done":
            return state, waited
        state, poll_seconds = "wait", 0.0
        while state == "wait":
            waited += self._sleep(waited, poll_seconds)
            start = time.monotonic()
            state = self.ledger.state()
            poll_seconds = time.monotonic() - start
        return state, waited

    def _sleep(self, waited: float, poll_seconds: float) -> float:
        """Sleeps between two polls and returns the seconds.

        The pause grows with the time `waited` so far, up to a twentieth of it, and faster if the last poll was slow:
        polls must not keep the database busy.
        """
        pause = max(POLL[0], min(poll_seconds / POLLING_SHARE, waited), min(waited / 2, max(POLL[1], waited / 20)))
        pause = min(pause, self.lease / 4)  # a longer pause would look like a lost connection
        self.on_event("waiting", {"seconds": pause})
        with self.stop.interruptible():
            time.sleep(pause)
        return pause

    def _process(self, work: Work) -> None:
        """Assigns settings to leased slots and trains them, in parts that fit into memory as far as is known."""
        self.heartbeat.hold(work)
        work = self.mirror.take_enqueued(work, self.suggestions.complete)
        work = self.ledger.assign(self.worker_id, work, self.suggestions.settings(work))
        work = self.mirror.begin(work)
        self.heartbeat.hold(work)
        self.on_event("leased", {"work": work})
        done = 0
        while done < len(work.slots):
            self.stop.check()
            limit = self.memory_limits.get(work.configuration, len(work.slots))
            part = work.with_slots(work.slots[done : done + limit])
            if self._train(part):
                done += len(part.slots)
        self.heartbeat.hold(None)

    def _train(self, work: Work) -> bool:
        """Trains slots side by side and stores their outcomes; returns False if they do not fit into memory.

        After any other failure each slot is trained alone, to find the one that fails.
        """
        failure = None
        outcomes: Sequence[Outcome] = ()
        try:
            with self.stop.interruptible():
                outcomes = self.train(work)
        except HpoError:
            raise  # a person can fix it, so the attempt does not count and the worker stops
        except Exception as error:
            failure = (_cause(error), traceback.format_exc())
        # Outside the handler: the exception's frames would keep the population's memory.
        if failure is None:
            self._finish(work, outcomes)
            return True
        cause, message = failure
        if len(work.slots) == 1:
            self._fail(work, cause, message)
        elif cause == "out of memory":
            self.memory_limits[work.configuration] = size = len(work.slots) // 2
            self.on_event("population", {"configuration": work.configuration, "size": size})
            return False
        else:
            for slot in work.slots:
                self.stop.check()
                self._train(work.with_slots([slot]))
        return True

    def _finish(self, work: Work, outcomes: Sequence[Outcome]) -> None:
        stored = set(self.ledger.finish(self.worker_id, outcomes))
        kept = [outcome for outcome in outcomes if outcome.id in stored]
        self.mirror.finish(work, kept)
        returned = {outcome.id for outcome in outcomes}
        self.on_event("finished", {"work": work, "outcomes": kept})
        missing = [slot for slot in work.slots if slot.id not in returned]
        if missing:
            self._fail(work.with_slots(missing), "exception", "training returned no outcome for this slot")

    def _fail(self, work: Work, cause: str, message: str) -> None:
        self.ledger.fail(self.worker_id, work.slots, cause, message)
        self.mirror.fail([slot.trial for slot in work.slots], cause)
        self.on_event("failed", {"work": work, "cause": cause, "message": message})

    def _release(self) -> str:
        """Releases all slots of this worker, also those of a lease that a signal interrupted; says what is left."""
        try:
            released = self.ledger.release(self.worker_id)
        except HpoError:  # the database is unavailable: the lease will expire
            return self._unreleased()
        self.released = True
        if released:
            self.mirror.release(released)
            self.on_event("released", {"ids": released})
        return ""

    def _last_resort(self) -> bool:
        """Releases without the main thread, which is in a call that does not return; whether it could."""
        self.ledger.retry_timeout = 0.0
        with suppress(HpoError):
            self.ledger.release(self.worker_id)
            return True
        return self.released

    def _unreleased(self) -> str:
        work = self.heartbeat.work
        if work is None:
            return ""
        runs = plural(len(work.slots), "rerun" if work.phase == "rerun" else "trial")
        until = time.strftime("%H:%M:%S", time.localtime(self.heartbeat.until))
        return f"{runs} of {work.configuration} still leased; another worker takes over at {until}"


def _cause(error: Exception) -> str:
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"}:
        return "out of memory"
    return "timeout" if "TimeoutError" in names else "exception"


def _ignore(_kind: str, _details: dict[str, Any]) -> None:
    return None
