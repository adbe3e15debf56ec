"""lease → sample → train a population → finish, until the study needs nothing more."""

import hashlib
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from hpo.errors import HpoError, UsageError
from hpo.ledger import Ledger, Outcome, Setting, Slot, Work
from hpo.ledger.schedule import STARTUP
from hpo.mirror.mirror import RELEASED
from hpo.mirror.safe_mirror import SafeMirror
from hpo.renewal import Renewal
from hpo.sampling import sample
from hpo.signals import Stop, Stopped
from hpo.space import split_space

LEASE = 60.0  # seconds; renewed after a quarter of them
POLL = (0.05, 1.0)  # seconds between looks when others hold the rest: at first, and in the first 20 seconds
LOOKING = 0.01  # the largest share of its time that a waiting worker spends on looks

Train = Callable[[Work], Sequence[Outcome]]
Fits = Callable[[str], int]
Event = Callable[[str, dict[str, Any]], None]


def run_worker(
    ledger: Ledger,
    train: Train,
    owner: str,
    population: int,
    workers: int = 1,
    on_event: Event | None = None,
    stop: Stop | None = None,
    device: str = "",
    lease: float = LEASE,
    fits: Fits | None = None,
) -> None:
    """Works on a study until it is done.

    Args:
        train: trains the settings of one `Work` side by side and returns an `Outcome` for each slot.
        owner: a key from `new_owner()`. population: most slots trained at once.
        workers: equal workers on this study; where configurations are fewer, they share one's batch.
        on_event: told ("leased" | "finished" | "failed" | "released" | "waiting" | "mirror" | "population",
            details) as it happens.
        fits: configuration -> how many of its models to train at once, at most `population`; asked before the first.
        stop: signals to heed; by default SIGTERM, SIGINT and SIGUSR1 are caught while this runs.

    Raises:
        Stopped: a signal came; the work in hand was given back. It is a SystemExit of 128 + signal.
    """
    tell = on_event or _ignore
    worker = _Worker(ledger, train, owner, population, workers, tell, stop or Stop(), device, lease, fits)
    with worker.stop.installed():
        worker.run()


class _Worker:
    def __init__(
        self,
        ledger: Ledger,
        train: Train,
        owner: str,
        population: int,
        workers: int,
        tell: Event,
        stop: Stop,
        device: str,
        lease: float,
        size: Fits | None,
    ) -> None:
        self.ledger, self.train, self.owner = ledger, train, owner
        self.population, self.workers, self.tell = population, workers, tell
        self.stop, self.lease = stop, lease
        self.size = size or (lambda _: population)
        self.fits: dict[str, int] = {}  # the populations found to be fast, and to fit into memory, by configuration
        self.renewal = Renewal(ledger, owner, lease)
        self.mirror = SafeMirror(ledger, owner, device, tell)

    def run(self) -> None:
        with self.renewal:
            try:
                self.mirror.repair()
                self._loop()
                self.mirror.repair()
            except HpoError as error:
                if not isinstance(error, UsageError):  # the database: it has been waited for
                    self.ledger.patience = 1.0
                raise
            finally:
                self.stop.close()
                self._give_back()
                self.mirror.close()

    def _loop(self) -> None:
        waited = 0.0
        while True:
            self.stop.check()
            work = self.ledger.lease(self.owner, self.population, self.lease, self.workers, self.fits)
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
            self.renewal.hold(work)
            work = self._what_fits(work)
            work = self.mirror.begin(self._with_settings(work))
            self.renewal.hold(work)
            self.tell("leased", {"work": work})
            self._train(work)
            self.renewal.hold(None)

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

    def _what_fits(self, work: Work) -> Work:
        """At the first work of a configuration, gives back what is more than to be trained at once."""
        if work.configuration in self.fits or len(work.slots) == 1:
            return work
        try:
            with self.stop.interruptible():
                size = self.size(work.configuration)
        except HpoError:
            raise
        except Exception:  # a defect of the user's code: training meets it again, and there it is noted
            return work
        self.fits[work.configuration] = size = max(1, min(size, self.population))
        if len(work.slots) > size:
            self.ledger.release(self.owner, [slot.id for slot in work.slots[size:]])
        return work.only(work.slots[:size])

    def _with_settings(self, work: Work) -> Work:
        fresh = [slot for slot in work.slots if slot.setting is None]
        return self.ledger.assign(self.owner, work, choose_settings(self.ledger, work, fresh))

    def _train(self, work: Work) -> None:
        """Trains and stores; a population that fails is tried again in parts, to find the culprit."""
        fits = self.fits.get(work.configuration, self.population)
        if len(work.slots) > fits:
            self._train_in_parts(work, fits)
        elif work.slots:
            self._train_together(work)

    def _train_in_parts(self, work: Work, size: int) -> None:
        for first in range(0, len(work.slots), size):
            self._train(work.only(work.slots[first : first + size]))

    def _train_together(self, work: Work) -> None:
        self.stop.check()
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
            return
        cause, message = failure
        if len(work.slots) == 1:
            self._fail(work, cause, message)
        elif cause == "out of memory":
            self.fits[work.configuration] = len(work.slots) // 2
            self.tell("population", {"configuration": work.configuration, "size": len(work.slots) // 2})
            self._train(work)
        else:
            self._train_in_parts(work, 1)

    def _finish(self, work: Work, outcomes: Sequence[Outcome]) -> None:
        counted = set(self.ledger.finish(self.owner, outcomes))
        kept = [outcome for outcome in outcomes if outcome.id in counted]
        self.mirror.finish(work, kept)
        returned = {outcome.id for outcome in outcomes}
        self.mirror.fail([slot.trial for slot in work.slots if slot.id in returned - counted], "lost worker")
        self.tell("finished", {"work": work, "outcomes": kept})
        missing = [slot for slot in work.slots if slot.id not in returned]
        if missing:
            self._fail(work.only(missing), "exception", "training returned no outcome for this slot")

    def _fail(self, work: Work, cause: str, message: str) -> None:
        self.ledger.fail(self.owner, work.slots, cause, message)
        self.mirror.fail([slot.trial for slot in work.slots], cause)
        self.tell("failed", {"work": work, "cause": cause, "message": message})

    def _give_back(self) -> None:
        """Whatever is still held, known here or not: a signal may have come right after a lease."""
        held, released = self.renewal.work, []
        with suppress(HpoError):  # the database is away: the lease runs out by itself
            released = self.ledger.release(self.owner)
        if released:
            trials = {slot.id: slot.trial for slot in held.slots} if held else {}
            self.mirror.fail([trials.get(slot) for slot in released], RELEASED)
            self.tell("released", {"ids": released})


def choose_settings(ledger: Ledger, work: Work, fresh: Sequence[Slot]) -> list[Setting]:
    """Settings for tuning slots that have none.

    A start-up slot's setting depends on the slot alone, so it is the same for any population and any number
    of workers; later ones depend on what is finished and in training.
    """
    if not fresh:
        return []
    entry = next(entry for entry in ledger.definition["configurations"] if entry["name"] == work.configuration)
    ranges = split_space(entry["space"])[0]

    def draw(slots: Sequence[Slot], key: str, count: int, learn: bool) -> list[Setting]:
        text = f"{ledger.digest}/{work.configuration}/{work.repeat}/{key}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        finished, pending = ledger.tried(work.configuration, work.repeat) if learn and slots else ([], [])
        return sample(ranges, finished, pending, count, ledger.direction, seed) if slots else []

    startup = [slot for slot in fresh if slot.slot < STARTUP and slot.renewals == 0]
    later = [slot for slot in fresh if slot not in startup]
    drawn = draw(startup, "startup", STARTUP, learn=False)
    found = {slot.id: drawn[slot.slot] for slot in startup}
    names = ",".join(f"{slot.slot}.{slot.renewals}" for slot in later)
    settings = draw(later, names, len(later), learn=True)
    found |= {slot.id: setting for slot, setting in zip(later, settings, strict=True)}
    return [found[slot.id] for slot in fresh]


def _cause(error: Exception) -> str:
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"}:
        return "out of memory"
    return "timeout" if "TimeoutError" in names else "exception"


def _ignore(_kind: str, _details: dict[str, Any]) -> None:
    return None


__all__ = ["Stop", "Stopped", "choose_settings", "run_worker"]
