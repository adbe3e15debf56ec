"""The worker's loop: failures, memory, signals, and a mirror that is out of order."""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from storage_study import known_for_long, make, outcomes

from hpo.errors import UsageError
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work, load_study, new_worker_id
from hpo.storage.optuna.mirror import Mirror
from hpo.worker.lease_heartbeat import LeaseHeartbeat
from hpo.worker.loop import run_worker
from hpo.worker.signals import Stop, Stopped, stop_after


@pytest.fixture
def ledger(url: str) -> Ledger:
    return make(connect(url))


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


def settings(ledger: Ledger) -> dict[tuple[str, int], Any]:
    rows = ledger.export()["slots"]
    return {(row["configuration"], row["slot"]): row["setting"] for row in rows if row["phase"] == "tune"}


def test_a_study_is_worked_through(ledger: Ledger) -> None:
    events: list[str] = []
    run_worker(ledger, outcomes, new_worker_id(), population=5, on_event=lambda kind, _: events.append(kind))
    counts = ledger.counts()
    assert [(counts[name]["trials_done"], counts[name]["reruns_done"]) for name in "AB"] == [(12, 3)] * 2
    assert set(events) == {"leased", "finished"} and events.count("leased") == events.count("finished")


def test_settings_do_not_depend_on_the_population(tmp_path: Path) -> None:
    found = []
    for population in (1, 4, 20):
        ledger = make(connect(f"sqlite:///{tmp_path}/{population}.db"), trials=20)
        run_worker(ledger, outcomes, new_worker_id(), population)
        found.append(settings(ledger))
    assert found[0] == found[1] == found[2]
    assert len({setting["learning_rate"] for setting in found[0].values()}) == 40


def test_only_the_culprit_of_a_population_fails(ledger: Ledger) -> None:
    def train(work: Work) -> list[Outcome]:
        if any(slot.slot == 3 and slot.tuning_run == 0 and slot.replacements == 0 for slot in work.slots):
            raise ValueError("slot 3 is bad")
        return outcomes(work)

    tune_only = make(ledger.engine, "t", seeds=1)
    run_worker(tune_only, train, new_worker_id(), population=5)
    failures = tune_only.export()["failures"]
    slots = {row["id"]: row for row in tune_only.export()["slots"]}
    assert {slots[entry["slot_id"]]["slot"] for entry in failures} == {3}
    assert [entry["attempt"] for entry in failures] == [1, 2, 1, 2]  # both configurations, two attempts each
    assert all("ValueError: slot 3 is bad" in entry["message"] for entry in failures)
    assert tune_only.counts()["A"]["trials_done"] == 12


def test_out_of_memory_halves_the_population_and_remembers(ledger: Ledger) -> None:
    sizes = []

    def train(work: Work) -> list[Outcome]:
        sizes.append(len(work.slots))
        if len(work.slots) > 3:
            raise OutOfMemoryError("CUDA out of memory")
        return outcomes(work)

    run_worker(ledger, train, new_worker_id(), population=20)
    assert sizes[:7] == [10, 5, 2, 2, 2, 2, 2]  # as parted as it would have been, had it been known
    assert sizes[7:14] == [10, 5, 2, 2, 2, 2, 2]  # the other configuration may need less, and finds out for itself
    assert max(sizes[14:]) == 2
    assert ledger.export()["failures"] == [] and ledger.counts()["A"]["trials_done"] == 12


def test_a_worker_asks_once_how_many_models_it_should_train_at_once(ledger: Ledger) -> None:
    sizes: dict[str, list[int]] = {"A": [], "B": []}
    asked = []

    def train(work: Work) -> list[Outcome]:
        sizes[work.configuration].append(len(work.slots))
        return outcomes(work)

    def size() -> int:
        asked.append(ledger.counts()["A"]["leased"])
        return 3

    run_worker(ledger, train, new_worker_id(), size)
    assert asked == [0], "before anything is held"
    assert sizes == {"A": [3, 3, 2, 2, 2, 3], "B": [3, 3, 2, 2, 2, 3]}  # batches of 10 and 2, and 3 reruns
    assert {row["attempt"] for row in ledger.export()["slots"]} == {1} and ledger.state() == "done"
    run_worker(ledger, train, new_worker_id(), size)
    assert asked == [0], "nothing is left to be trained"


def test_a_signal_while_the_size_is_worked_out_stops_the_worker(ledger: Ledger) -> None:
    def size() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return 3

    with pytest.raises(Stopped):
        run_worker(ledger, outcomes, new_worker_id(), size)
    assert {row["state"] for row in ledger.export()["slots"]} == {"open"}


def test_what_is_trained_together_does_not_depend_on_the_number_of_workers_or_on_kills(tmp_path: Path) -> None:
    def worked(name: str, workers: int, lost: int) -> tuple[set[Any], dict[Any, Any]]:
        ledger = make(connect(f"sqlite:///{tmp_path}/{name}.db"), trials=20, seeds=7, tuning_runs=3)
        populations: list[Any] = []
        deaths = iter(range(lost))

        def train(work: Work) -> list[Outcome]:
            if next(deaths, None) is not None:
                raise Stopped(signal.SIGTERM)
            slots = sorted((slot.tuning_run, slot.slot) for slot in work.slots)
            populations.append((work.configuration, work.phase, tuple(slots)))
            return outcomes(work)

        def run() -> None:
            with suppress(Stopped):
                run_worker(known_for_long(load_study(ledger.engine, "s")), train, new_worker_id(), 8)

        while ledger.state() != "done":
            threads = [threading.Thread(target=run) for _ in range(workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(set(populations)) == len(populations)
        rows = ledger.export()["slots"]
        return set(populations), {
            (row["configuration"], row["tuning_run"], row["slot"]): row["setting"] for row in rows
        }

    one, settings = worked("one", 1, 0)
    assert max(len(slots) for _, _, slots in one) == 8
    assert {len({tuning_run for tuning_run, _ in slots}) for _, _, slots in one} >= {1, 2, 3}
    assert worked("two", 2, 0) == worked("four", 4, 0) == worked("lost", 1, 5) == (one, settings)


def test_out_of_memory_alone_fails_after_three_attempts(ledger: Ledger) -> None:
    def train(work: Work) -> list[Outcome]:
        if work.configuration == "A":
            raise MemoryError
        return outcomes(work)

    run_worker(ledger, train, new_worker_id(), population=1)
    counts = ledger.counts()
    assert counts["A"]["failures"] == {"out of memory": 18} and counts["A"]["failed"] == 15
    assert counts["B"]["trials_done"] == 12 and counts["B"]["reruns_done"] == 3


def test_a_failure_with_a_known_mend_stops_the_worker_and_is_no_attempt(ledger: Ledger) -> None:
    def train(_: Work) -> list[Outcome]:
        raise UsageError("the network has a BatchNorm layer; use GroupNorm")

    with pytest.raises(UsageError, match="GroupNorm"):
        run_worker(ledger, train, new_worker_id(), population=5)
    rows = ledger.export()["slots"]
    assert {(row["state"], row["attempt"]) for row in rows} == {("open", 0)} and ledger.export()["failures"] == []


def test_a_slot_without_an_outcome_is_a_failure(ledger: Ledger) -> None:
    short = [True]

    def train(work: Work) -> list[Outcome]:
        return outcomes(work)[1:] if short and short.pop() else outcomes(work)

    run_worker(ledger, train, new_worker_id(), population=5)
    assert [entry["message"] for entry in ledger.export()["failures"]] == ["training returned no outcome for this slot"]
    assert ledger.state() == "done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_gives_back_what_is_in_hand(ledger: Ledger, number: int) -> None:
    def train(work: Work) -> list[Outcome]:
        os.kill(os.getpid(), number)
        time.sleep(5)
        return outcomes(work)

    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught:
        run_worker(ledger, train, new_worker_id(), population=5)
    assert caught.value.code == 128 + number and signal.getsignal(number) is before
    rows = ledger.export()["slots"]
    assert {row["state"] for row in rows} == {"open"} and {row["attempt"] for row in rows} == {0}
    assert sum(row["setting"] is not None for row in rows) == 5 and ledger.export()["failures"] == []
    run_worker(ledger, outcomes, new_worker_id(), population=5)
    assert ledger.state() == "done"


def test_a_second_signal_does_not_lose_the_release(ledger: Ledger) -> None:
    release = ledger.release

    def signalled(*arguments: Any) -> list[int]:
        os.kill(os.getpid(), signal.SIGINT)
        return release(*arguments)

    ledger.release = signalled  # type: ignore[method-assign]

    def train(work: Work) -> list[Outcome]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return outcomes(work)

    with pytest.raises(Stopped) as caught:
        run_worker(ledger, train, new_worker_id(), population=5)
    assert caught.value.number == signal.SIGTERM
    assert {row["state"] for row in ledger.export()["slots"]} == {"open"}


def test_a_signal_outside_training_waits_for_the_next_safe_moment() -> None:
    stop = Stop()
    with stop.installed():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # remembered, not raised
        with pytest.raises(Stopped), stop.interruptible():
            pytest.fail("the signal came first")


def test_a_broken_mirror_stops_nothing_and_is_told_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("no disk")

    events: Counter[str] = Counter()
    with monkeypatch.context() as patch:
        for name in ("begin", "finish", "fail", "repair"):
            patch.setattr(Mirror, name, broken)
        run_worker(ledger, outcomes, new_worker_id(), 5, on_event=lambda kind, _: events.update([kind]))
    assert events["mirror"] == 1 and ledger.state() == "done"
    assert Mirror(ledger).repair() == 30


def test_the_lease_is_renewed_while_training(ledger: Ledger) -> None:
    work = ledger.lease("x", 5, 0.4)
    assert work is not None
    heartbeat = LeaseHeartbeat(ledger, "x", 0.4)
    with heartbeat:
        heartbeat.hold(work)
        time.sleep(1.0)
        other = ledger.lease("y", 20)
        assert other is not None and {slot.id for slot in other.slots}.isdisjoint({slot.id for slot in work.slots})
    assert ledger.export()["failures"] == []
    assert "hpo-heartbeat" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("duration", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1d2h", 93600)]
)
def test_a_time_limit_is_read(duration: str, seconds: float) -> None:
    try:
        stop_after(duration)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(seconds, abs=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.mark.parametrize("duration", ["", "soon", "0", "45", "0h", "-1h", "2 h", "1.5h", "h"])
def test_a_time_limit_that_cannot_be_read_is_told(duration: str) -> None:
    with pytest.raises(UsageError, match="give a time such as 2h, 90m, 1h30m or 45s"):
        stop_after(duration)


def test_a_worker_whose_time_is_over_gives_its_work_back(ledger: Ledger) -> None:
    def train(work: Work) -> list[Outcome]:
        time.sleep(20)
        return outcomes(work)

    stop_after("1s")
    with pytest.raises(Stopped) as caught:
        run_worker(ledger, train, new_worker_id(), population=5)
    assert caught.value.code == 128 + signal.SIGALRM
    rows = ledger.export()["slots"]
    assert {(row["state"], row["attempt"]) for row in rows} == {("open", 0)} and ledger.export()["failures"] == []
