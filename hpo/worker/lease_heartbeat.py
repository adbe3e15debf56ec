"""Keeps the leases in hand alive while the main thread trains."""

import threading

from hpo.storage.ledger import Ledger, Work


class LeaseHeartbeat:
    """A thread that keeps the leases in hand alive, through outages of the database too."""

    def __init__(self, ledger: Ledger, worker_id: str, seconds: float) -> None:
        self.ledger, self.worker_id, self.seconds = ledger, worker_id, seconds
        self.work: Work | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hpo-heartbeat", daemon=True)

    def hold(self, work: Work | None) -> None:
        self.work = work

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._over.wait(self.seconds / 4):
            work = self.work
            if work is None:
                continue
            try:
                self.ledger.extend_lease(self.worker_id, [slot.id for slot in work.slots], self.seconds)
            except Exception:  # away for a minute, or broken: the training may still be the first to finish
                continue
