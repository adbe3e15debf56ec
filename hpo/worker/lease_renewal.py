"""Keeps the leases in hand alive while the main thread trains."""

import threading

from hpo.storage.ledger import Ledger, Work


class Renewal:
    """A thread that keeps the leases in hand alive, through outages of the database too."""

    def __init__(self, ledger: Ledger, owner: str, seconds: float) -> None:
        self.ledger, self.owner, self.seconds = ledger, owner, seconds
        self.work: Work | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hpo-renewal", daemon=True)

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
                self.ledger.renew(self.owner, [slot.id for slot in work.slots], self.seconds)
            except Exception:  # away for a minute, or broken: the training may still be the first to finish
                continue
