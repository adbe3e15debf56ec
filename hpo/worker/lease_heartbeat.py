"""Extends a worker's leases while its main thread trains."""

import threading
import time

from hpo.storage.ledger import Ledger, Work


class LeaseHeartbeat:
    """A thread that extends the leases of the work set by `hold`, also after outages of the database."""

    def __init__(self, ledger: Ledger, worker_id: str, seconds: float) -> None:
        self.ledger, self.worker_id, self.seconds = ledger, worker_id, seconds
        self.work: Work | None = None
        self.until = 0.0  # when the leases end, by this machine's clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hpo-heartbeat", daemon=True)

    def hold(self, work: Work | None) -> None:
        if work is not None and self.work is None:
            self.until = time.time() + self.seconds
        self.work = work

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=0.2)

    def _run(self) -> None:
        while not self._stopped.wait(self.seconds / 4):
            work = self.work
            if work is None:
                continue
            try:
                self.ledger.extend_lease(self.worker_id, [slot.id for slot in work.slots], self.seconds)
                self.until = time.time() + self.seconds
            except Exception:  # the database is unavailable: this worker may still be the first to finish its slots
                continue
