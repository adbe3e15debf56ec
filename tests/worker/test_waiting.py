"""A worker without free slots polls without a lock, less and less often, and leases what becomes free."""

from collections import Counter
from typing import Any

import pytest
from storage_study import make, outcomes

from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, new_worker_id
from hpo.worker import loop
from hpo.worker.loop import run_worker
from hpo.worker.suggestions import Suggestions


def counted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts leases and polls from now on."""
    counts: Counter[str] = Counter()

    def count(name: str) -> None:
        method = getattr(ledger, name)

        def counting(*arguments: Any) -> Any:
            counts[name] += 1
            return method(*arguments)

        monkeypatch.setattr(ledger, name, counting)

    count("lease")
    count("state")
    return counts


def test_a_waiting_worker_leases_only_when_slots_are_free(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make(connect(url), trials=10, seeds=1)
    ledger = make(connect(url), trials=10, seeds=1)
    held = [other.lease("other", 10) for _ in range(2)]  # all of the tuning
    waits: list[float] = []

    def event(kind: str, details: dict[str, Any]) -> None:
        if kind == "waiting":
            waits.append(details["seconds"])
            if len(waits) == 8:
                assert (counts["lease"], counts["state"]) == (1, 8)
                for work in held:
                    assert work is not None
                    settings = [{"learning_rate": 0.01 + slot.slot / 1000} for slot in work.slots]
                    other.finish("other", outcomes(other.assign("other", work, settings)))

    counts = counted(ledger, monkeypatch)
    run_worker(ledger, outcomes, new_worker_id(), population=5, on_event=event)
    assert ledger.state() == "done" and len(waits) == 8
    assert waits[0] == loop.POLL[0] and waits[-1] > 3 * waits[0]


def test_pauses_grow_with_the_wait_up_to_a_quarter_of_the_lease(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(loop.time, "sleep", slept.append)
    ledger = make(connect(url))
    settings = lambda *_: None, loop.Stop(), "cpu", 60.0
    waiting = loop._Worker(ledger, outcomes, "x", 1, Suggestions(ledger), *settings, live_curves=False, populations=1)
    with waiting.stop.installed():
        assert [waiting._sleep(waited, 0.0) for waited in (0.0, 0.4, 10.0, 100.0, 1e6)] == [0.05, 0.2, 1.0, 5.0, 15.0]
        assert [waiting._sleep(8.0, took) for took in (0.001, 0.02, 2.0)] == [1.0, 2.0, 8.0]
    assert len(slept) == 8
